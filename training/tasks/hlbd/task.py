"""The task hlbd: questions with answers, and concepts on eight levels."""

from __future__ import annotations

from typing import ClassVar

from training.settings.tree import TaskOptions
from training.tasks.hlbd.options import HLBDOptions


class HLBDTask:
    """HLBD data as a task; so far only its settings are reached through it."""

    name: ClassVar[str] = "hlbd"
    Options: ClassVar[type[TaskOptions]] = HLBDOptions
    metrics: ClassVar[tuple[()]] = ()

    def prepare(self) -> None: ...

    def conclude(self) -> None: ...
