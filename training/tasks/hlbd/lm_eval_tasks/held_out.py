"""Held-out questions as a dataset for lm-evaluation-harness, read in the same way as by training and the verifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from training.tasks.hlbd.files import Pairs, load_corpus

if TYPE_CHECKING:
    from datasets import Dataset


def load(file: str, pairs: Pairs = "levels", **_: Any) -> dict[str, Dataset]:
    """Return the split `test`: one row `prompt answer module` for each question of an HLBD file.

    Args:
        file: a path, or the name of a file in `data/`.
        pairs: how eight-level concepts become questions, as in training.
        _: further arguments from the harness (its own version, the model's arguments).

    Raises:
        DataError: the file cannot be used (see `load_corpus`).
    """
    from datasets import Dataset

    samples = load_corpus([file], pairs).samples
    rows = [{"prompt": s.prompt, "answer": s.answer, "module": s.module} for s in samples]
    return {"test": Dataset.from_list(rows)}
