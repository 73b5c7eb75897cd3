"""Settings that the tasks text and chat share. No torch."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from training.settings.tree import TaskOptions


class LanguageOptions(TaskOptions):
    """Settings of a task whose data are texts of any origin."""

    free_to_change: ClassVar[frozenset[str]] = frozenset({"datasets", "show_batch"})  # a fingerprint tells
    decides_loss: ClassVar[frozenset[str]] = frozenset({"datasets", "tokenizer", "validation_split"})
    in_training_loss: ClassVar[frozenset[str]] = frozenset({"label_smoothing"})

    datasets: tuple[str, ...] = Field(
        (),
        description="Files (.txt .jsonl .json .csv .tsv .parquet, also .gz), directories of such files or of the "
        "library datasets, or OWNER/NAME on the Hugging Face Hub.",
        json_schema_extra={"aliases": ["dataset"], "metavar": "FILE"},
    )
    tokenizer: str | None = Field(
        None,
        min_length=1,
        description="bpe: byte-level, trained on the data with vocab_size tokens; characters: one token each; or a "
        "directory or Hub name. None: the model's own, and bpe where it has none.",
        json_schema_extra={"metavar": "KIND_OR_DIR", "goes_along": True},
    )
    packing: bool = Field(
        False,
        description="Fill each row with several samples, by best fit; they never see each other, which is proved on "
        "the model before the first step.",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="Share of the target's probability that is spread over all tokens while training (arXiv "
        "1512.00567); validation measures the loss without it.",
        json_schema_extra={"aliases": ["label_smoothing_factor"]},
    )
    show_batch: int = Field(
        0,
        ge=0,
        le=100,
        description="Print this many samples before the first step, each token marked as trained or not; --show-batch "
        "alone: 2.",
        json_schema_extra={"metavar": "N", "bare": 2},
    )
