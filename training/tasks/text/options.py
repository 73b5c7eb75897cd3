"""Settings of the task text. No torch."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from training.tasks.causal_lm.options import LanguageOptions


class TextOptions(LanguageOptions):
    """Texts whose every token is learned."""

    decides_loss: ClassVar[frozenset[str]] = LanguageOptions.decides_loss | {"text_column"}

    text_column: str | None = Field(
        None,
        min_length=1,
        description="Column of the texts in rows of JSON, CSV and parquet. None: the only one of text and content.",
        json_schema_extra={"metavar": "NAME"},
    )
