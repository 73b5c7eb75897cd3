"""The chat task's part of a model card: files, rows and what of them was learned, the loss, and whether answers end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from training.tasks.card import CardFacts, TaskCard, measured_table, percent, task_limits
from training.tasks.text.card import language_data

EXAMPLE = "Who are you?"


def chat_card(facts: CardFacts) -> TaskCard:
    """Return the sections of a model card of the task chat."""
    stop: Mapping[str, Any] = ((facts.report or {}).get("stop") or {}) if facts.is_final else {}
    asked = stop.get("asked")
    more = [("answers that end by themselves", f"{stop['ended']:,} of {asked:,}")] if asked else []
    return TaskCard(
        purpose="that answers in chats",
        tags=("chat", "sft"),
        example=EXAMPLE,
        is_chat=True,
        settings=("chat_template", "loss_on", "truncate", "packing", "label_smoothing", "validation_split"),
        measured=list(measured_table(facts, more)),
        data=[*language_data(facts), *_learned(facts)],
        limits=list(_limits(facts)),
    )


def _learned(facts: CardFacts) -> Iterator[str]:
    """Yield what the certificate of the loss mask counted."""
    found: Mapping[str, Any] = (facts.report or {}).get("certificate") or {}
    if found.get("tokens"):
        share = percent(found["trained"] / found["tokens"])
        yield (
            f"In {found['rows']:,} conversations are {found['turns']:,} turns of the assistant; {found['trained']:,} "
            f"of {found['tokens']:,} tokens ({share}) were learned."
        )
        if cut := found.get("cut_rows"):
            yield f"{cut:,} conversations were cut at the longest sample."


def _limits(facts: CardFacts) -> Iterator[str]:
    yield (
        "It answers in the manner of the chats that it was trained on, and what it says can be wrong. Give it messages "
        "by its chat template, which is in its tokenizer; in another form it answers worse."
    )
    yield from task_limits(facts)
