"""The base of every group of settings. No torch."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator, model_validator

from training.storage.user_paths import user_path


@dataclass(frozen=True)
class Elsewhere:
    """Settings that a tree does not have because they belong to a backend, task or family that was not chosen."""

    sections: Container[str] = ()
    """Names of sections that may stand in a file all the same; they are left alone."""
    owner: Callable[[str], str | None] = lambda name: None
    """Setting's name -> what it belongs to, as a user chooses it (`--backend deepspeed`); None: nobody has it."""


class Section(BaseModel):
    """A frozen group of settings. Unknown keys are refused; `nan` and `inf` are not numbers here."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    elsewhere: ClassVar[Elsewhere] = Elsewhere()
    """Settings of others, for the messages about keys that this tree does not have."""

    @model_validator(mode="before")
    @classmethod
    def _truth_values_are_not_numbers(cls, values: Any) -> Any:
        # pydantic would read `batch_size: yes` as 1.
        if isinstance(values, dict):
            for name, field in cls.model_fields.items():
                if isinstance(values.get(name), bool) and field.annotation in (int, float):
                    values = {**values, name: str(values[name])}
        return values

    @field_validator("*", mode="before")
    @classmethod
    def _paths_are_the_users(cls, value: Any, info: ValidationInfo) -> Any:
        """Expand `~` in every setting that is a path or a list of paths."""
        kind = cls.model_fields[str(info.field_name)].annotation
        if kind is not Path and Path not in get_args(kind):
            return value
        if isinstance(value, list | tuple):
            return tuple(user_path(one) if isinstance(one, str | Path) else one for one in value)
        return user_path(value) if isinstance(value, str | Path) else value
