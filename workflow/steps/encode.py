"""Encode images into an autoencoder's latents: the long part of preparing ImageNet 512, for a machine with a GPU.

Goes on where it was interrupted. The workflow's own preparation does the same where it was not done.
"""

from workflow.errors import BenchError
from workflow.runtime.datasets import latents
from workflow.schema import LatentsData
from workflow.steps.command import check_known, main, parser, study_of


def command() -> None:
    """Parse the arguments and encode."""
    arguments = parser(__doc__)
    arguments.add_argument("--data", required=True, help="a data set of kind imagenet512")
    parsed = arguments.parse_args()
    study = study_of(parsed)
    check_known(study, "data", parsed.data)
    settings = study.data[parsed.data]
    if not isinstance(settings, LatentsData):
        problem = f"{parsed.data} is of kind {settings.kind}, which has no latents"
        raise BenchError(problem, file=study.file, key=f"data.{parsed.data}", remedy="name one of kind imagenet512")
    about, parts = latents.encode(settings)
    print(f"{about['folder']}: {', '.join(f'{part.rows} of {name}' for name, part in parts.items())}")


if __name__ == "__main__":
    main(command)
