"""How many images the parts of a data set must have to be judged."""

from trigbench.workflow.errors import BenchError


def check_enough(
    train: int, held_out: int, dimensions: int, reference: int | None = None, file: str | None = None
) -> None:
    """Raise BenchError unless both parts, and so many training images to judge by, can fix a covariance."""
    more = f"more than {dimensions} images, as distances in {dimensions} features need"
    for part, count, key in (
        ("held out", held_out, "held_out"),
        ("left to train on", train, "held_out"),
        ("the reference", min(train, reference or train), "reference"),
    ):
        if count <= dimensions:
            problem = f"{count} images are {part}, of {train + held_out} in all: expected {more}"
            remedy = f"set {key!r} so that there are more, add images, or name an extractor of fewer features"
            raise BenchError(problem, file=file, key=key, remedy=remedy)
