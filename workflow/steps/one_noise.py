"""Draw what every method of a study makes of one noise: one-noise.svg and .png, with one-noise.json that says what."""

from trigbench.workflow.machine.command import main
from trigbench.workflow.report.one_noise import draw_one_noise
from trigbench.workflow.study.asked import parser, study_of


def command() -> None:
    """Parse the arguments and draw."""
    draw_one_noise(study_of(parser(__doc__).parse_args()))


if __name__ == "__main__":
    main(command)
