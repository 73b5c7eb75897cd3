"""Generate the HLBD Hardcore data: short questions in five modules, and a held-out file.

    python tools/generate_hlbd_hardcore.py                 # data/HLBD_Hardcore_Full.json, 575 rows
    python tools/generate_hlbd_hardcore.py --version 2     # data/HLBD_Hardcore_Full_V2.json, 5,042 rows
    python tools/generate_hlbd_hardcore.py --size 200000   # data/HLBD_Hardcore_200000.json
    python tools/generate_hlbd_hardcore.py --size 60000 --weights arithmetic=2,reverse_english=0.5

The same arguments give the same bytes. A larger file of the same seed holds every row of a smaller one, and
no file of any size or seed holds a fact that the held-out files reserve.
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
from tools.datasets.hlbd_hardcore.dataset import MAX_SIZE, MIN_SIZE, SEED, SIZES, module_sizes, write_training_file
from tools.datasets.hlbd_hardcore.held_out import MIN_TRAINING_SIZE, write_held_out_file
from tools.datasets.hlbd_hardcore.modules import MODULES
from tools.datasets.hlbd_hardcore.weights import read_weights
from tools.datasets.outputs import BEGINNING
from tools.figures.output_file import check_writable
from training.errors import UserError

_NAMES = {1: "HLBD_Hardcore_Full.json", 2: "HLBD_Hardcore_Full_V2.json"}


def _parser() -> CommandLine:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("--version", metavar="1|2", help="which data set (default: 1, or 2 when --size is given)")
    add("--size", metavar="N", help=f"number of training rows, {MIN_SIZE} to {MAX_SIZE}")
    add("--seed", metavar="N", default=str(SEED), help="another seed, another draw (default: %(default)s)")
    add(
        "--weights",
        metavar="M=X,…",
        help="rows of a module relative to the others, such as arithmetic=2,reverse_english=0.5 (default: 1 each)",
    )
    add("--output", metavar="FILE", type=path_given, help="training file (default: in data/, see above)")
    add(
        "--held-out-output",
        metavar="FILE",
        type=path_given,
        help="held-out file (default: *_Heldout.json next to the training file; "
        f"none for fewer than {MIN_TRAINING_SIZE} rows)",
    )
    return parser


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        UserError: the input cannot be used, or a file cannot be written; a file is written whole or not at all.
    """
    args = _parser().parse_args(arguments)
    asked_version = args.version or ("1" if args.size is None else "2")
    version = whole_number("--version", asked_version, min(SIZES), max(SIZES))
    size = SIZES[version] if args.size is None else whole_number("--size", args.size, MIN_SIZE, MAX_SIZE)
    seed = whole_number("--seed", args.seed, 0, MOST_SEED)
    try:
        weights = read_weights(args.weights, MODULES) if args.weights is not None else None
        module_sizes(size, weights)
    except ValueError as error:
        raise UserError(f"--weights: {error}") from error
    name = _NAMES[version]
    if weights or (size, seed) != (SIZES[version], SEED):  # a committed file is replaced only on request
        marks = ("_Weighted" if weights else "") + (f"_Seed{seed}" if seed != SEED else "")
        name = f"HLBD_Hardcore_{size}{marks}.json"
    output: Path = args.output or ROOT / "data" / name
    held_out: Path | None = args.held_out_output
    if size < MIN_TRAINING_SIZE and held_out:
        raise UserError(f"--held-out-output needs --size of at least {MIN_TRAINING_SIZE}, got {size}")
    check_writable("--output", output, beginning=BEGINNING)
    if size >= MIN_TRAINING_SIZE and held_out is None:
        held_out = output.with_name(f"{output.stem}_Heldout.json")
    if held_out:
        check_writable("--held-out-output", held_out, beginning=BEGINNING)
        if held_out.resolve() == output.resolve():
            raise UserError(f"--held-out-output {held_out} is the training file; name another")
    write_training_file(output, version, size, seed, weights)
    print(f"wrote {output}: {size} rows")
    if held_out:
        rows = write_held_out_file(held_out, output.name, version, size, seed, weights)
        print(f"wrote {held_out}: {rows} held-out rows")
    return 0


def main() -> int:
    """Run the tool as a process: 0 when the files are written, 2 with one line on stderr when they cannot be."""
    return finish("generate_hlbd_hardcore", run)


if __name__ == "__main__":
    sys.exit(main())
