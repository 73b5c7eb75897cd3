"""Rules for the settings of a registered task or model family. Inherit one, set `name`, and these tests judge it.

class TestMine(TaskSettingsContract):
    name = "mine"
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from tests.contracts.part_contract import PartContract
from training.backends.prepare import choose, prepare, task_for
from training.models.registry import MODELS
from training.settings.registry import Registry
from training.settings.section import Section
from training.settings.tree import ModelOptions, TaskOptions, TrainingConfig
from training.tasks.registry import TASKS


class TaskSettingsContract(PartContract):
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


class ModelSettingsContract(PartContract):
    """Inherit and set `name`, the family's name in the registry."""

    registry: ClassVar[Registry[Any]] = MODELS
    list_flag: ClassVar[str] = "--list-models"
    common: ClassVar[type[Section]] = ModelOptions

    @property
    def config_class(self) -> type[TrainingConfig]:
        """The class of a config that has the family's options."""
        return choose(task=task_for(self.name), model=self.name).config_class

    def command(self, *words: str) -> list[str]:
        """Return the shortest command line that chooses the family, with a task that it fits."""
        return ["--task", task_for(self.name), *super().command(*words)]

    def test_the_settings_that_it_lists_are_its_own(self) -> None:
        options = self.options
        assert issubclass(options, ModelOptions)
        listed = options.decides_loss | options.in_training_loss | options.draws_at_random | options.fits_any_weights
        assert listed <= set(options.model_fields)

    def test_its_resolved_settings_survive_the_file_that_workers_read(self, tmp_path: Path) -> None:
        config = prepare(choose(task=task_for(self.name), model=self.name)).request.config
        assert config.model.model == self.name
        config.to_yaml(tmp_path / "config.yaml")
        assert prepare(choose(config_file=tmp_path / "config.yaml")).request.config == config
