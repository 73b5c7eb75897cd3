"""Generate the eight-level HLBD data: ``python tools/generate_hlbd_full.py``.

Writes data/HLBD_Full_V2.json (5,000 concepts) and, beside it, data/HLBD_Full_V2_Heldout.json. The same size and seed
give the same bytes; a bigger ``--size`` keeps the concepts of a smaller one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tools.full import dataset
from tools.full.space import space


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status (2: bad input, nothing written)."""
    parser = argparse.ArgumentParser(description="Generate the eight-level HLBD data set and its held-out file.")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "data" / "HLBD_Full_V2.json", help="training file (default: %(default)s)"
    )
    parser.add_argument(
        "--held-out-output", type=Path, help="held-out file (default: beside the training file, with _Heldout)"
    )
    parser.add_argument(
        "--size", type=int, default=dataset.DEFAULT_SIZE, help="number of training concepts (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=dataset.DEFAULT_SEED, help="which concepts are chosen (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    output: Path = options.output
    held_out: Path = options.held_out_output or output.with_name(f"{output.stem}_Heldout{output.suffix}")
    try:
        _check(output, held_out)
        built = dataset.build(options.size, options.seed)
        dataset.write(output, dataset.training_file(built, options.seed))
        dataset.write(held_out, dataset.held_out_file(built, options.seed))
    except (ValueError, OSError) as error:
        print(f"generate_hlbd_full: {error}", file=sys.stderr)
        return 2
    print(f"{output}: {len(built.training)} concepts of {len(space())} that the lexicon makes")
    print(f"{held_out}: {len(built.held_out)} held-out samples")
    return 0


def _check(output: Path, held_out: Path) -> None:
    if output.resolve() == held_out.resolve():
        raise ValueError(f"--held-out-output {held_out} is the training file itself; give another name")
    for option, path in (("--output", output), ("--held-out-output", held_out)):
        if not path.parent.is_dir():
            raise ValueError(f"{option} {path}: the folder {path.parent} does not exist; create it first")
        if path.is_dir():
            raise ValueError(f"{option} {path} is a folder; give a file name")


if __name__ == "__main__":
    sys.exit(main())
