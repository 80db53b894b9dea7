"""Write a trained run as something that others use: its averaged weights, with a card that says what they are.

  trigbench export results/digits/runs/scd-m/seed-0                      digits-scd-m-seed-0.safetensors, here
  trigbench export RUN --format diffusers --out scd                      a folder that diffusers loads
  trigbench export RUN --licence "CC0" --study my.yaml                   of data whose licence is yours to say
  trigbench export RUN --weights-licence "CC BY-NC-SA 4.0"               of a run that started from published weights

The run is finished and of now. What is written is read again, and must draw what the run draws. Start where results/
is. What loads it, and what the card says: docs/export.md.
"""

import argparse
from pathlib import Path

from trigbench._extras import need

FORMATS = {"safetensors": ".safetensors", "diffusers": ""}
"""And how what is written ends."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """The arguments of `trigbench export`."""
    raw = argparse.RawDescriptionHelpFormatter
    said = "write a trained run as something that others use"
    made = subparsers.add_parser("export", help=said, description=__doc__, formatter_class=raw)
    made.add_argument("run", metavar="RUN", help="the folder of a finished run: results/STUDY/runs/ARM/seed-N")
    made.add_argument("--format", choices=FORMATS, default="safetensors", help="a file, or a folder of a pipeline")
    made.add_argument("--out", metavar="PATH", help="what is written (default: STUDY-ARM-seed-N, here)")
    made.add_argument("--licence", metavar="TEXT", help="of the data, where it is not known here")
    published = "of the published network from whose weights the run started, where it did"
    made.add_argument("--weights-licence", metavar="TEXT", help=published)
    made.add_argument("--study", metavar="YAML", help="of a study of your own, its file")
    return made


def main(arguments: argparse.Namespace) -> None:
    """Export, read again, print. Raises BenchError for what is not there, not finished, or cannot leave."""
    pipeline = arguments.format == "diffusers"
    need("train", "trigbench export")
    if pipeline:
        need("latents", "trigbench export --format diffusers")
    from trigbench.workflow.study.named_run import named_run  # noqa: PLC0415 - of the extra

    study, run = named_run(Path(arguments.run), arguments.study, key="RUN")
    from trigbench.workflow.run.exporting import leaving, place_for, write_exported  # noqa: PLC0415 - heavy
    from trigbench.workflow.study.licences import Said  # noqa: PLC0415 - of the extra

    usual = f"{study.label}-{run.arm}-seed-{run.seed}"
    out = place_for(arguments.out, usual, FORMATS[arguments.format])
    found = leaving(study, run, Said(data=arguments.licence, weights=arguments.weights_licence))
    if pipeline:
        from trigbench.workflow.run.exported_pipeline import check_pipeline, write_pipeline  # noqa: PLC0415 - heavy

        check_pipeline(found)
        write_pipeline(found, out)
    else:
        write_exported(found, out)
    print(f"{out}: {found.card['name']}; docs/export.md says how it is loaded")
