"""HLBD's part of a model card: the data files, what the verifier found or else what the model recites, the limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from training.tasks.card import VERIFICATION_NAME, CardFacts, TaskCard, percent, plain, table

_SPLITS = {
    "train": "training questions",
    "validation": "questions held back from training",
    "paraphrase": "paraphrases",
    "new_fact": "new facts",
    "contrast_groups": "contrast groups",
}
FOUND, TOO_LITTLE = "found", "too little data to say"
"""Verdicts on a shortcut, as `tools/verification/` writes them."""


def hlbd_card(facts: CardFacts) -> TaskCard:
    """Return the sections of a model card of HLBD."""
    return TaskCard(
        purpose="that answers short questions in the form of its training data (HLBD)",
        form="it reads and writes single characters",
        tags=("hlbd", "character-level", "question-answering"),
        example="12 + 34 = ?",
        settings=("pairs", "loss_on", "truncate", "validation_split"),
        heading="What it answers",
        measured=list(_answers(facts)),
        data=list(_data(facts)),
        limits=list(_limits(facts)),
    )


def _answers(facts: CardFacts) -> Iterator[str]:
    if facts.verification is not None:
        yield from _verification_table(facts.verification)
        share = facts.share_held_back
        if share and not any(module.get("validation") for module in facts.verification["modules"]):
            yield ""
            yield f"Among the training questions are the {percent(share)} of the entries that were held back."
        return
    recitation = (facts.report or {}).get("recitation")
    if recitation and facts.is_final:
        yield from _recitation_table(recitation)
    else:
        yield "Nothing was measured."
    yield ""
    yield (
        "What it understood, what it memorised and which shortcut it took has not been verified. The one who trained "
        f"it can: `python tools/verify_hlbd_model.py --model RUN --json RUN/{VERIFICATION_NAME}`, and publish again."
    )


def _verification_table(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield accuracy by module, and the verdict on each shortcut."""
    asked = sum(file["asked"] for file in report["files"])
    yield (
        f"`tools/verify_hlbd_model.py` asked {asked:,} questions. The model answered freely and greedily in fp32; an "
        "answer counts when it is exactly right. In brackets: the 95 % Wilson interval. A contrast group counts when "
        "all its questions are answered rightly."
    )
    yield ""
    shown = [key for key in _SPLITS if any(module.get(key) is not None for module in report["modules"])]
    rows = [[module["label"], *(_share(module.get(key)) for key in shown)] for module in report["modules"]]
    yield from table(["module", *(_SPLITS[key] for key in shown)], rows)
    yield ""
    yield "Shortcuts that a model can take instead of understanding, and whether this one does:"
    yield ""
    for shortcut in report["shortcuts"]:
        where = f" in {plain(', '.join(shortcut['where']))}" if shortcut["where"] else ""
        verdict = "**found**" if shortcut["verdict"] == FOUND else plain(shortcut["verdict"])
        summary = f": {plain(shortcut['summary'])}" if shortcut["verdict"] == FOUND else ""
        yield f"- {plain(shortcut['name'])}: {verdict}{where}{summary}"


def _share(share: Mapping[str, Any] | None) -> str:
    if share is None:
        return "–"
    return f"{percent(share['rate'])} ({100 * share['low']:.1f}–{100 * share['high']:.1f})"


def _asks_unseen_questions(report: Mapping[str, Any]) -> bool:
    """Say whether the verifier had questions that training never showed."""
    return any(module.get(key) is not None for module in report["modules"] for key in _SPLITS if key != "train")


def _recitation_table(recitation: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Yield how many of its own training questions the model answers, by module."""
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


def _data(facts: CardFacts) -> Iterator[str]:
    if not (facts.report and facts.report.get("data")):
        yield "What it was trained on is not recorded next to the model."
        return
    rows = [[f["file"], f"{f['entries']:,}", f"{f['samples']:,}", percent(f["share"])] for f in facts.report["data"]]
    yield from table(["file", "entries", "samples", "share of the entries"], rows)
    yield ""
    share = facts.share_held_back
    held_back = f", {percent(share)} of the entries were held back for validation" if share else ""
    yield f"{facts.report['num_train_samples']:,} samples were trained on{held_back}."
    if fingerprint := facts.report.get("data_fingerprint"):
        yield f"Fingerprint of all samples: `{fingerprint}`."


def _limits(facts: CardFacts) -> Iterator[str]:
    yield (
        "It answers questions in the wording of its training data. It is no chat model, knows nothing of the world "
        "beyond that data, and was not trained to be safe or fair."
    )
    tokenizer: Mapping[str, Any] = facts.artefacts.get("tokenizer", {})
    longest = getattr(facts.options, "max_seq_len", None)
    together = f" Question and answer together have at most {longest:,} tokens." if longest is not None else ""
    yield (
        f"It knows {len(tokenizer.get('characters', ())):,} characters and {len(tokenizer.get('tags', ()))} tags. Any "
        f"other character is read as `[UNK]` and cannot be written.{together}"
    )
    yield "Figures are of one run with one seed, and of greedy answers; sampled ones are worse."
    found = facts.verification
    if found is None or not _asks_unseen_questions(found):
        yield "How it does on questions that it has not seen is unknown."
    if found is not None:
        taken = [s["name"] for s in found["shortcuts"] if s["verdict"] == FOUND]
        unsure = [s["name"] for s in found["shortcuts"] if s["verdict"] == TOO_LITTLE]
        if taken:
            yield f"It takes shortcuts (above): {plain(', '.join(taken))}."
        if unsure:
            yield f"There was too little data to say whether it takes these shortcuts: {plain(', '.join(unsure))}."
