"""The tables of a model card that say how good the model is: what the verifier found, else what it recites."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from training.publish.markdown import percent, plain, table

_SPLITS = {
    "train": "training questions",
    "paraphrase": "paraphrases",
    "new_fact": "new facts",
    "contrast_groups": "contrast groups",
}
FOUND, TOO_LITTLE = "found", "too little data to say"


def verification_table(report: Mapping[str, Any]) -> Iterator[str]:
    """Accuracy by module, and the verdict on each shortcut."""
    asked = sum(file["asked"] for file in report["files"])
    yield (
        f"`tools/verify_hlbd_model.py` asked {asked:,} questions. The model answered freely and greedily in fp32; an "
        "answer counts when it is exactly right. In brackets: the 95 % Wilson interval. A contrast group counts when "
        "all its questions are answered rightly."
    )
    yield ""
    shown = [key for key in _SPLITS if any(module[key] is not None for module in report["modules"])]
    rows = [[module["label"], *(_share(module[key]) for key in shown)] for module in report["modules"]]
    yield from table(["module", *(_SPLITS[key] for key in shown)], rows)
    yield ""
    yield "Shortcuts that a model can take instead of understanding, and whether this one does:"
    yield ""
    for shortcut in report["shortcuts"]:
        where = f" in {plain(', '.join(shortcut['where']))}" if shortcut["where"] else ""
        verdict = "**found**" if shortcut["verdict"] == FOUND else plain(shortcut["verdict"])
        told = f": {plain(shortcut['summary'])}" if shortcut["verdict"] == FOUND else ""
        yield f"- {plain(shortcut['name'])}: {verdict}{where}{told}"


def asks_unseen_questions(report: Mapping[str, Any]) -> bool:
    """Whether the verifier had a held-out file."""
    return any(module[key] is not None for module in report["modules"] for key in _SPLITS if key != "train")


def _share(share: Mapping[str, Any] | None) -> str:
    if share is None:
        return "–"
    return f"{percent(share['rate'])} ({100 * share['low']:.1f}–{100 * share['high']:.1f})"


def recitation_table(recitation: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """How many of its own training questions the model answers, by module."""
    yield "After training, the model was asked questions of its own training data, freely and greedily:"
    yield ""
    right, asked = (sum(module[key] for module in recitation.values()) for key in ("right", "asked"))
    counts = {**recitation, "overall": {"right": right, "asked": asked}}
    rows = [[name, f"{n['right']:,} of {n['asked']:,}", percent(n["right"] / n["asked"])] for name, n in counts.items()]
    yield from table(["module", "exactly right", "share"], rows)
    yield ""
    yield (
        "These are questions that it was trained on: the table says what the model has learned by heart, and nothing "
        "about questions that it has never seen."
    )
