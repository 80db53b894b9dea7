"""What a study will take: GPU-hours on a given device, hours on this machine, and storage, arm by arm.

Operations are counted on steps of each arm; hours here come from steps that are timed here, hours there from the
device's peak and a utilisation that you state. With --check a finished study's own seconds stand beside it.
"""

from trigbench._arguments import for_estimate
from trigbench.workflow.machine.command import main
from trigbench.workflow.run.estimate_table import estimate_as_asked
from trigbench.workflow.study.asked import parser, study_of


def command() -> None:
    """Parse the arguments and estimate."""
    arguments = parser(__doc__)
    for_estimate(arguments)
    parsed = arguments.parse_args()
    print(estimate_as_asked(study_of(parsed), parsed))


if __name__ == "__main__":
    main(command)
