"""Encode images into an autoencoder's latents: the long part of preparing ImageNet 512, for a machine with a GPU.

Goes on where it was interrupted. The workflow's own preparation does the same where it was not done.
"""

from trigbench.workflow.data.kinds.latents import making as latents
from trigbench.workflow.data.kinds.latents.kind import LatentsData
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.command import main
from trigbench.workflow.study.asked import one_of


def command() -> None:
    """Parse the arguments and encode."""
    study, data = one_of(__doc__, "data")
    settings = study.data[data]
    if not isinstance(settings, LatentsData):
        problem = f"{data} is of kind {settings.kind}, which has no latents"
        raise BenchError(problem, file=study.file, key=f"data.{data}", remedy="name one of kind imagenet512")
    parts = latents.parts_of(settings)
    about = latents.encode(settings, parts)
    print(f"{about['folder']}: {', '.join(f'{part.rows} of {name}' for name, part in parts.items())}")


if __name__ == "__main__":
    main(command)
