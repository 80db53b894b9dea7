"""Convert a published checkpoint into .safetensors. The only command of this project that reads a pickle.

It reads tensors alone, by torch's weights-only loading, and runs no code from the file; a file that
needs code is refused, and docs/teachers.md says what to do.
"""

from trigbench._arguments import for_convert
from trigbench._parser import step_parser
from trigbench.workflow.machine.command import main
from trigbench.workflow.machine.converting import convert, written


def command() -> None:
    """Parse the arguments and convert."""
    parser = step_parser(__doc__)
    for_convert(parser)
    said = parser.parse_args()
    print(written(said.target, convert(said.source, said.target, said.entry, said.family, said.of, said.alpha)))


if __name__ == "__main__":
    main(command)
