"""Promises of every part that is chosen by name (backend, task, model family) about its name and its options.

The contracts of the three kinds inherit this one; none of these tests trains.
"""

from __future__ import annotations

import os
import subprocess
import sys
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import pytest

from training.settings.declarations import all_names, leaves, short_name
from training.settings.registry import Registry
from training.settings.section import Section
from training.settings.tree import TrainingConfig

if TYPE_CHECKING:
    from tests.conftest import FrontDoor

HEAVY = ("torch", "deepspeed", "transformers", "accelerate", "datasets", "azure", "azureml", "mlflow", "matplotlib")


class PartContract:
    """Base of the contracts of the three kinds."""

    name: ClassVar[str]
    """Name of the part, as it is given on the command line."""
    registry: ClassVar[Registry[Any]]
    list_flag: ClassVar[str]
    """Flag that lists the parts of this kind."""
    common: ClassVar[type[Section]]
    """Options that all parts of this kind have."""

    @property
    def part(self) -> Any:
        """The class of the part."""
        return self.registry.load(self.name)

    @property
    def options(self) -> type[Section]:
        """The class of its options."""
        options: type[Section] = self.part.Options
        return options

    @property
    def config_class(self) -> type[TrainingConfig]:
        """The class of a config that has the part's options."""
        raise NotImplementedError

    def command(self, *words: str) -> list[str]:
        """Return the shortest command line that chooses the part."""
        return [self.registry.flag, self.name, *words]

    def test_the_registry_calls_it_by_its_own_name(self) -> None:
        assert self.name in self.registry.names()
        assert self.part.name == self.name
        assert self.name.isidentifier(), "the name may be a YAML section and a Python attribute"

    def test_it_is_listed_with_a_line_that_describes_it(self, front_door: FrontDoor) -> None:
        summary = self.registry.entry(self.name).summary
        assert summary.strip()
        assert "\n" not in summary
        listed = [line for line in front_door([self.list_flag]).stdout.splitlines() if line.split()[0] == self.name]
        assert len(listed) == 1
        assert summary in listed[0]

    @pytest.mark.slow
    def test_importing_and_asking_it_brings_in_nothing_heavy(self) -> None:
        module_name, _, class_name = self.registry.entry(self.name).target.partition(":")
        program = (
            f"import sys; from {module_name} import {class_name} as part; part.Options()\n"
            "getattr(part, 'check', bool)()\n"
            f"print([m for m in {HEAVY} if m in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout.strip(), done.stderr) == ("[]", "")

    def test_its_options_are_a_frozen_section_that_refuses_unknown_keys(self) -> None:
        assert issubclass(self.options, self.common)
        assert self.options.model_config.get("frozen") is True
        assert self.options.model_config.get("extra") == "forbid"
        assert (self.options.__doc__ or "").strip(), "the help shows it above the flags"

    def test_each_option_says_what_it_means(self) -> None:
        for name, field in leaves(self.options):
            assert field.description, name
            assert field.description.strip().endswith("."), f"{name}: a sentence ends with a full stop"
            assert not field.is_required(), f"{name}: the part refuses in one line of its own if it is missing"
            if NoneType in get_args(field.annotation):
                assert "None: " in field.description, f"{name}: say what None means"

    def test_no_option_has_the_name_of_another_setting(self) -> None:
        names = all_names(self.config_class)
        assert sorted(names) == sorted(set(names))

    def test_its_options_stand_in_a_group_of_their_own_in_the_help(self, front_door: FrontDoor) -> None:
        shown = front_door(self.command("--help")).stdout
        _, found, group = shown.partition(f"\n{self.name} options:\n")
        if not self.options.model_fields:
            return
        assert found, "the help has no group of its options"
        group = group.partition("options:\n")[0]
        for key, _ in leaves(self.options):
            assert f"--{short_name(key).replace('_', '-')}" in group
