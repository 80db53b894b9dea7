"""Edit an image by a trained map that was never trained for it: zero-shot editing (CM, arXiv 2303.01469, Sec. 4.2).

  trigbench edit --run results/digits/runs/scd-m/seed-0 --image my.png --mask m.png --task inpaint --label 3
  trigbench edit --run RUN --image my.png --task colourise            of images in colour
  trigbench edit --run RUN --image my.png --task enlarge --factor 4   made smaller, and enlarged from that
  trigbench edit --run RUN --image my.png --task strokes --strength 1.2
  trigbench edit --run RUN --image my.png --task denoise --noise 20   of standard deviation 20 in 255 levels
  trigbench edit --run RUN --task interpolate --count 8               between two noises

White in a mask is what is to be made. An image of another size is scaled and cropped in the middle, its mask with it.
Start where results/ is; of a study of your own say --study my.yaml. In few steps edits are no draws of what could be
there (docs/editing.md).
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from trigbench._extras import need

if TYPE_CHECKING:
    from torch import Tensor

TASKS = ("inpaint", "colourise", "enlarge", "strokes", "denoise", "interpolate")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """The arguments of `trigbench edit`."""
    raw = argparse.RawDescriptionHelpFormatter
    made = subparsers.add_parser(
        "edit", help="edit an image by a trained map", description=__doc__, formatter_class=raw
    )
    made.add_argument("--run", required=True, metavar="FOLDER", help="of a finished run: results/STUDY/runs/ARM/seed-N")
    made.add_argument("--task", required=True, choices=TASKS, help="what is done to the image (docs/editing.md)")
    made.add_argument("--image", metavar="FILE", help="what is edited")
    made.add_argument("--mask", metavar="FILE", help="of inpaint: white where the image is to be made")
    made.add_argument("--out", metavar="FILE", default="edits.png", help="what is written (default: %(default)s)")
    made.add_argument("--study", metavar="YAML", help="of a study of your own, its file")
    made.add_argument("--steps", type=int, help="of the map (default: 8)")
    made.add_argument("--count", type=int, default=6, help="edits, each of its own noise (default: %(default)s)")
    made.add_argument("--seed", type=int, default=0, help="of the noise (default: %(default)s)")
    made.add_argument("--label", type=int, help="the image's class, of data that have classes")
    made.add_argument("--factor", type=int, help="of enlarge (default: 4)")
    made.add_argument("--strength", type=float, help="of strokes, the angle to which they are noised (default: 1.2)")
    made.add_argument("--noise", type=float, help="of denoise, the standard deviation in levels of 255")
    return made


def main(arguments: argparse.Namespace) -> None:
    """Edit, write, print. Raises BenchError for what is not there or does not fit, before anything is drawn."""
    need("workflow", "trigbench edit")
    from trigbench.workflow.study.named_run import named_run  # noqa: PLC0415 - of the extra

    study, run = named_run(Path(arguments.run), arguments.study)
    from trigbench.workflow.errors import BenchError  # noqa: PLC0415
    from trigbench.workflow.run.edit_one import Asked, check, draw_edits, drawn_together, editor_of  # noqa: PLC0415

    out = Path(arguments.out)
    if out.suffix.lower() != ".png" or not out.parent.is_dir():
        raise BenchError(
            "edits are written as a .png into a folder that is there", file=out, key="--out", remedy="name one"
        )
    image, mask = (None if said is None else Path(said) for said in (arguments.image, arguments.mask))
    asked = Asked(
        arguments.task, image, mask, arguments.steps, arguments.count, arguments.seed, arguments.factor,
        arguments.strength, arguments.noise,
    )  # fmt: skip
    check(asked)
    if any(given is not None and given.resolve() == out.resolve() for given in (image, mask)):
        raise BenchError("edits would overwrite what they are made of", file=out, key="--out", remedy="name another")
    editor = editor_of(study, run, arguments.label)
    told = _told(asked.taken) if sys.stderr.isatty() else None
    edited = draw_edits(editor, asked, told)
    drawn_together(editor, edited).save(out)
    shown = (
        "edits" if not edited.seen else "the image, what is seen of it, and edits" if len(edited.seen) > 1 else "both"
    )
    print(f"{out}: {shown}, by {study.label} {run.arm} seed {run.seed}")
    if edited.missed is not None:
        print(f"edits miss what is seen by {edited.missed:.3g} of 255 levels, root mean square")


def _told(steps: int) -> "Callable[[int, Tensor, Tensor, Tensor | None], object]":
    """Says each step to whoever watches."""
    return lambda step, t, _, __: print(
        f"step {step + 1} of {steps}, from the angle {float(t[0]):.2f}", file=sys.stderr
    )
