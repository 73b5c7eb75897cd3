"""Settings of the task hlbd. No torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from training.settings.tree import TaskOptions


class HLBDOptions(TaskOptions):
    """HLBD data that is learned, and the tokens that count."""

    free_to_change: ClassVar[frozenset[str]] = frozenset({"datasets", "truncate"})  # the fingerprint compares the data
    decides_loss: ClassVar[frozenset[str]] = frozenset({
        "datasets", "pairs", "loss_on", "truncate", "validation_split",
    })  # fmt: skip
    in_training_loss: ClassVar[frozenset[str]] = frozenset({"label_smoothing"})

    datasets: tuple[str, ...] = Field(
        ("HLBD_Hardcore_Full.json",),
        min_length=1,
        description="HLBD files; a bare name is also looked for in data/.",
        json_schema_extra={"aliases": ["dataset"], "metavar": "FILE"},
    )
    pairs: Literal["levels", "full"] = Field(
        "levels",
        description="Samples made from an eight-level concept. levels: the concept asks for each level; "
        "full: the levels ask for each other too.",
    )
    loss_on: Literal["answer", "all"] = Field(
        "answer", description="answer: learn the answer's tokens and [EOS]; all: learn the prompt's too."
    )
    label_smoothing: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="Share of the target's probability that is spread over all tokens while training (arXiv "
        "1512.00567); validation measures the loss without it.",
        json_schema_extra={"aliases": ["label_smoothing_factor"]},
    )
    truncate: bool = Field(
        False,
        description="Cut samples longer than max_seq_len instead of refusing to start; one that loses its whole "
        "answer is left out.",
    )
