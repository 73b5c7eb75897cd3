"""Compare the weights of two finished models, bit for bit: `python -m tools.diagnosis.same_weights A B`.

The two quick_test scripts compare a run that was resumed with one that was not interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from training.errors import EXIT_BAD_INPUT, UserError


def differing_tensors(ours: Path, theirs: Path) -> tuple[int, list[str]]:
    """Return (number of tensors, names of those that differ or that only one model has).

    Raises:
        CheckpointError: one of the two is not a model of this project, or is damaged.
    """
    import torch

    from training.checkpoints.finished_model import load_trained_model

    a, b = (load_trained_model(path).model.state_dict() for path in (ours, theirs))
    names = sorted(a.keys() | b.keys())
    return len(names), [name for name in names if not (name in a and name in b and torch.equal(a[name], b[name]))]


def main(arguments: Sequence[str]) -> int:
    """Compare two models; return exit code 0: the same, 1: not the same, 2: they cannot be compared."""
    if len(arguments) != 2:
        print("same_weights: give two models: final_model.pt, checkpoint_* or run directories", file=sys.stderr)
        return EXIT_BAD_INPUT
    try:
        count, differing = differing_tensors(Path(arguments[0]), Path(arguments[1]))
    except UserError as error:
        print(f"same_weights: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    if differing:
        print(f"{len(differing)} of {count} tensors differ, the first is {differing[0]}")
        return 1
    print(f"{count} tensors, bit for bit the same")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
