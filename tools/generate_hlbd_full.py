"""Generate the eight-level HLBD data: ``python tools/generate_hlbd_full.py``.

Writes data/HLBD_Full_V2.json (5,000 concepts) and data/HLBD_Full_V2_Heldout.json. The same size and seed give the same
bytes; a bigger ``--size`` keeps the concepts of a smaller one.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
if __name__ == "__main__":
    from training.machine.startup import begin

    begin()

from tools.command_line import MOST_SEED, CommandLine, finish, path_given, whole_number
from tools.datasets.hlbd_full import dataset
from tools.datasets.hlbd_full.space import space
from tools.datasets.outputs import BEGINNING
from tools.figures.output_file import check_writable, write_atomically
from training.errors import UserError


def _parser() -> CommandLine:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add(
        "--output",
        metavar="FILE",
        type=path_given,
        default=ROOT / "data" / "HLBD_Full_V2.json",
        help="training file (default: %(default)s)",
    )
    add(
        "--held-out-output",
        metavar="FILE",
        type=path_given,
        help="held-out file (default: next to the training file, with _Heldout)",
    )
    add("--size", metavar="N", default=str(dataset.DEFAULT_SIZE), help="training concepts (default: %(default)s)")
    add(
        "--seed",
        metavar="N",
        default=str(dataset.DEFAULT_SEED),
        help="decides which are chosen (default: %(default)s)",
    )
    return parser


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        UserError: the input cannot be used; nothing has been written then.
    """
    args = _parser().parse_args(arguments)
    size, seed = whole_number("--size", args.size, 1, 10**7), whole_number("--seed", args.seed, 0, MOST_SEED)
    output: Path = args.output
    check_writable("--output", output, beginning=BEGINNING)
    held_out: Path = args.held_out_output or output.with_name(f"{output.stem}_Heldout{output.suffix}")
    check_writable("--held-out-output", held_out, beginning=BEGINNING)
    if output.resolve() == held_out.resolve():
        raise UserError(f"--held-out-output {held_out} is the training file itself; give another name")
    try:
        built = dataset.build(size, seed)
        write_atomically(output, dataset.training_file(built, seed).encode())
        write_atomically(held_out, dataset.held_out_file(built, seed).encode())
    except ValueError as error:
        raise UserError(str(error)) from error
    print(f"{output}: {len(built.training)} concepts of {len(space())} that the lexicon makes")
    print(f"{held_out}: {len(built.held_out)} held-out samples")
    return 0


def main() -> int:
    """Run the tool as a process: 0 when both files are written, 2 with one line on stderr when they cannot be."""
    return finish("generate_hlbd_full", run)


if __name__ == "__main__":
    sys.exit(main())
