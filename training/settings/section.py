"""The base of every group of settings. No torch."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """A frozen group of settings. Unknown keys are refused; `nan` and `inf` are not numbers here."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _truth_values_are_not_numbers(cls, values: Any) -> Any:
        # pydantic would read `batch_size: yes` as 1.
        if isinstance(values, dict):
            for name, field in cls.model_fields.items():
                if isinstance(values.get(name), bool) and field.annotation in (int, float):
                    values = {**values, name: str(values[name])}
        return values
