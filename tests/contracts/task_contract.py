"""Promises of every task about its settings: inherit `TaskContract`, set `name`, and these tests check them.

class TestMine(TaskContract):
    name = "mine"
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from tests.contracts.part_contract import PartContract
from training.backends.prepare import choose, prepare
from training.settings.registry import Registry
from training.settings.section import Section
from training.settings.tree import TaskOptions, TrainingConfig
from training.tasks.registry import TASKS


class TaskContract(PartContract):
    """Inherit and set `name`, the task's name in the registry."""

    registry: ClassVar[Registry[Any]] = TASKS
    list_flag: ClassVar[str] = "--list-tasks"
    common: ClassVar[type[Section]] = TaskOptions

    @property
    def config_class(self) -> type[TrainingConfig]:
        """The class of a config that has the task's options."""
        return choose(task=self.name).config_class

    def test_the_settings_that_it_lists_are_its_own(self) -> None:
        options = self.options
        assert issubclass(options, TaskOptions)
        assert options.decides_loss | options.in_training_loss <= set(options.model_fields)
        assert "validation_split" in options.decides_loss

    def test_its_resolved_settings_survive_the_file_that_workers_read(self, tmp_path: Path) -> None:
        config = prepare(choose(task=self.name)).request.config
        assert config.task == self.name
        config.to_yaml(tmp_path / "config.yaml")
        assert prepare(choose(config_file=tmp_path / "config.yaml")).request.config == config
