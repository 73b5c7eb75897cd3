"""The text task's part of a model card: files, documents and tokens, the loss on texts held back, the limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from training.tasks.card import CardFacts, TaskCard, measured_table, percent, plain, table, task_limits

EXAMPLE = "Once upon a time"


def text_card(facts: CardFacts) -> TaskCard:
    """Return the sections of a model card of the task text."""
    report = facts.report or {}
    bits = report.get("bits_per_byte") if facts.is_final else None
    size = report.get("bytes_measured", 0)
    more = [("bits per byte", f"{bits:.4f} over {size:,} bytes")] if isinstance(bits, int | float) else []
    return TaskCard(
        purpose="that continues texts",
        tags=("text",),
        example=EXAMPLE,
        settings=("tokenizer", "packing", "label_smoothing", "validation_split"),
        heading="What was measured",
        measured=list(measured_table(facts, more)),
        data=list(language_data(facts)),
        limits=list(_limits(facts)),
    )


def language_data(facts: CardFacts) -> Iterator[str]:
    """Yield what a language model was trained on: files, and how many documents and tokens are in them."""
    report: Mapping[str, Any] = facts.report or {}
    if not report.get("data"):
        yield "What it was trained on is not recorded next to the model."
        return
    rows = [[source["file"], source["format"], f"{source['bytes']:,}"] for source in report["data"]]
    yield from table(["file", "format", "bytes"], rows)
    yield ""
    counted = [f"{report[name]:,} {name}" for name in ("documents", "conversations", "tokens") if name in report]
    share = facts.share_held_back
    held_back = f" {percent(share)} of the data were held back for validation." if share else ""
    if counted:
        yield f"Together {' and '.join(counted)}.{held_back}"
    yield f"{report['num_train_samples']:,} samples were trained on."
    if fingerprint := report.get("data_fingerprint"):
        yield f"Fingerprint of all samples: {plain(fingerprint)}."


def _limits(facts: CardFacts) -> Iterator[str]:
    yield (
        "It goes on with a text in the manner of its training data. It answers no questions unless that data does, and "
        "what it writes can be wrong."
    )
    unknown = (facts.report or {}).get("unknown")
    if unknown:
        yield f"{unknown:,} tokens of the training data are unknown to its tokenizer: it cannot read or write them."
    yield from task_limits(facts)
