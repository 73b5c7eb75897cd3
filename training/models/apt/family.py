"""The model family apt."""

from __future__ import annotations

from typing import ClassVar

from training.models.apt.options import APTOptions
from training.settings.tree import ModelOptions


class APTFamily:
    """APT as a model family; so far only its settings are reached through it."""

    name: ClassVar[str] = "apt"
    Options: ClassVar[type[ModelOptions]] = APTOptions

    def build(self) -> None: ...

    def save(self) -> None: ...

    def load(self) -> None: ...
