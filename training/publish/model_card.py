"""The model card: the `README.md` of a published model. Everything in it is read from the run's own record.

The model family describes the network and how it is loaded, the task the data, the figures and the limits; the rest is
the same for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from training.machine.units import as_duration
from training.models.card import FamilyCard, PublishedModel
from training.publish.model_facts import ModelFacts
from training.record.curve_figure import FIGURE_NAME
from training.tasks.card import TaskCard, plain, table

CARD_NAME = "README.md"
_SETTINGS = {
    "optimizer": ("optimizer", "learning_rate", "weight_decay", "max_grad_norm", "stabilizer"),
    "schedule": ("schedule", "min_lr", "warmup_steps"),
    "run": ("epochs", "max_steps", "batch_size", "global_batch_size", "precision", "seed"),
}
"""The settings that the card of any task shows; all of them are in the run's own config.yaml."""


def model_card(facts: ModelFacts, place: str, *, has_curve: bool, has_onnx: bool = False) -> str:
    """Return the card's text.

    Args:
        facts: everything known of the model.
        place: where it is loaded from: OWNER/NAME on the Hub, or the directory's name.
        has_curve: whether `training_curve.png` lies next to the card.
        has_onnx: whether `onnx/model.onnx` does.
    """
    task = facts.described_by.card(facts)
    family = facts.family.card(
        PublishedModel(
            options=facts.options,
            num_parameters=facts.num_parameters,
            artefacts=facts.artefacts,
            place=place,
            example=task.example,
            is_chat=task.is_chat,
            settings=(facts.settings or {}).get("model"),
        )
    )
    lines = [
        "---",
        yaml.safe_dump(_metadata(family, task, has_onnx), sort_keys=False, allow_unicode=True).strip(),
        "---",
        "",
        f"# {plain(place.rpartition('/')[2])}",
        "",
        *_introduction(facts, family, task),
        "",
        "## How to use it",
        "",
        *family.usage,
        *(_onnx(family) if has_onnx else ()),
        "",
        f"## {task.heading}",
        "",
        *task.measured,
        "",
        "## Training data",
        "",
        *task.data,
        "",
        "## Training",
        "",
        *_training(facts, task, has_curve),
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in (*task.limits, *family.limits, *_limits(facts))),
    ]
    return "\n".join(lines) + "\n"


def _metadata(family: FamilyCard, task: TaskCard, has_onnx: bool) -> dict[str, Any]:
    pipeline = {"pipeline_tag": family.pipeline} if family.pipeline is not None else {}
    tags = list(dict.fromkeys([*family.tags, *task.tags, *(["onnx"] if has_onnx else [])]))
    return {"library_name": family.library, **pipeline, **family.metadata, "tags": tags}


def _introduction(facts: ModelFacts, family: FamilyCard, task: TaskCard) -> Iterator[str]:
    sentences = [" ".join(filter(None, (family.subject, task.purpose)))]
    if more := "; ".join(filter(None, (family.network, task.form))):
        sentences.append(more[0].upper() + more[1:])
    yield " ".join(f"{sentence}." for sentence in sentences)
    if facts.step is not None and (facts.is_best or not facts.is_final):
        total = f" of {facts.report['total_steps']:,}" if facts.report else ""
        why = "which had the lowest loss" if facts.is_best else "before the end of the training"
        yield ""
        yield f"These are the weights after update {facts.step:,}{total}, {why}."
    yield ""
    shape = family.shape if family.shape is not None else facts.options.model_dump(exclude={"model"}).items()
    yield from table(["shape", ""], [*shape, ("weights", facts.dtype)])


def _onnx(family: FamilyCard) -> Iterator[str]:
    yield from (
        "",
        "`onnx/model.onnx` is the same model for ONNX Runtime: int64 `input_ids` (batch, tokens) to fp32 `logits` "
        "(batch, tokens, vocabulary). It reads the whole text at each call (no cache); padding goes on the right.",
        "",
        "```python",
        "import onnxruntime",
        "",
        'session = onnxruntime.InferenceSession("onnx/model.onnx")',
        f'[logits] = session.run(None, {{"input_ids": {family.onnx_input}}})',
        "```",
    )


def _training(facts: ModelFacts, task: TaskCard, has_curve: bool) -> Iterator[str]:
    if has_curve:
        yield f"![Training curve]({FIGURE_NAME})"
        yield ""
    rows: list[list[object]] = [*_course(facts)]
    for section, names in {**_SETTINGS, "data": tuple(task.settings)}.items():
        values: dict[str, Any] = (facts.settings or {}).get(section, {})
        rows += [[name, values[name]] for name in names if values.get(name) is not None]
    if not rows:
        yield "How it was trained is not recorded next to the model."
        return
    yield from table(["", ""], rows)


def _course(facts: ModelFacts) -> Iterator[list[object]]:
    """Yield rows about what happened, next to those about what was set."""
    if facts.step is not None:
        yield ["updates", f"{facts.step:,}"]
    report = facts.report
    if report is None:
        return
    if facts.is_final:
        yield ["time", as_duration(report["training_seconds"])]
    if facts.is_final and not facts.is_best:
        loss = report["latest"].get("loss")
        yield ["last training loss", f"{loss:.4f}" if loss is not None else "not a finite number"]
    if (evaluation := facts.evaluation()) is not None:
        yield ["validation loss", f"{evaluation['loss']:.4f}"]
    yield ["backend", f"{report['backend']}, {report['world_size']} × {report['device']}"]


def _limits(facts: ModelFacts) -> Iterator[str]:
    skipped = (facts.report or {}).get("num_skipped_updates")
    if skipped:
        yield f"{skipped:,} updates were left out of the training, since their loss or gradient was not finite."
