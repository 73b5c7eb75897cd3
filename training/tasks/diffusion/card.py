"""The diffusion task's part of a model card: noise, losses by noise level, the limits. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from training.tasks.card import CardFacts, TaskCard, measured_table, percent, plain, task_limits


def diffusion_card(facts: CardFacts) -> TaskCard:
    """Return the sections of a model card of the task diffusion."""
    report: Mapping[str, Any] = facts.report or {}
    ideal = report.get("ideal_denoiser") if facts.is_final else None
    more = []
    if isinstance(ideal, dict) and ideal.get("loss") is not None:
        more = [
            (f"loss on {ideal['samples']:,} training samples", f"{ideal['loss']:.4f}"),
            ("the ideal denoiser's loss on them", f"{ideal['least_loss']:.4f}"),
        ]
    shape = (facts.artefacts.get("diffusion") or {}).get("shape") or report.get("sample_shape") or []
    drawn = "images" if len(shape) == 3 else "vectors"
    return TaskCard(
        purpose=f"that draws {drawn} from noise",
        form=f"a sample has the shape {' × '.join(map(str, shape))}" if shape else "",
        tags=("diffusion",),
        settings=(
            "noise_schedule", "noise_levels", "prediction", "loss_weighting", "condition_on", "condition_dropout",
            "image_size", "random_flip", "validation_split",
        ),
        heading="What was measured",
        measured=list(measured_table(facts, more)),
        data=list(_data(facts)),
        limits=list(_limits(facts)),
    )  # fmt: skip


def _data(facts: CardFacts) -> Iterator[str]:
    report: Mapping[str, Any] = facts.report or {}
    names = facts.data_settings.get("datasets") or ()
    if not names and not report:
        yield "What it was trained on is not recorded next to the model."
        return
    if names:
        yield f"Trained on {', '.join(plain(str(name).rstrip('/').rpartition('/')[2]) for name in names)}."
    if (count := report.get("num_train_samples")) is not None:
        share = facts.share_held_back
        held_back = f", {percent(share)} of the data were held back for validation" if share else ""
        yield f"{count:,} samples were trained on{held_back}."
    classes = (facts.artefacts.get("diffusion") or {}).get("class_names")
    if classes:
        yield f"Classes: {', '.join(plain(name) for name in classes)}."
    if fingerprint := report.get("data_fingerprint"):
        yield f"Fingerprint of the data: {plain(fingerprint)}."


def _limits(facts: CardFacts) -> Iterator[str]:
    yield "A sample can be close to a training sample: a small set is remembered before anything else is learned."
    yield from task_limits(facts)
