"""Registry of tasks by name. It holds strings: a task's module is imported when it is chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from training.settings.registry import Entry, Registry

if TYPE_CHECKING:
    from training.tasks.protocol import Task

TASKS: Registry[Task] = Registry(
    kind="task",
    flag="--task",
    group="apt_trainer.tasks",
    built_in={
        "hlbd": Entry("training.tasks.hlbd.task:HLBDTask", "questions with answers, and concepts on eight levels"),
        "chat": Entry("training.tasks.chat.task:ChatTask", "chats of any form, the assistant's turns learned"),
        "text": Entry("training.tasks.text.task:TextTask", "texts of any origin, every token learned"),
        "diffusion": Entry(
            "training.tasks.diffusion.task:DiffusionTask", "images or vectors drawn from noise, by any noise schedule"
        ),
    },
    required=("name", "Options", "inputs", "metrics", "prepare", "conclude"),
    accepts_classes=True,
)


def describe_tasks() -> Iterator[str]:
    """Yield one line per task: its name and its description."""
    for name in TASKS.names():
        yield f"{name:<12} {TASKS.entry(name).summary}"
