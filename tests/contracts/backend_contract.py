"""What every backend must keep: inherit `BackendContract`, set `name`, and these tests say whether it is right.

    class TestMine(BackendContract):
        name = "mine"

None of them trains: they hold on a machine where the backend itself cannot run.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import yaml

from training.backends.prepare import PreparedRun, choose, prepare
from training.backends.protocol import Availability, Backend, Feature, LaunchPlan
from training.backends.registry import BACKENDS
from training.settings.declarations import aliases, leaves
from training.settings.layers import Layer
from training.settings.section import Section
from training.settings.tree import TrainingConfig
from training.settings.yaml_files import flatten

if TYPE_CHECKING:
    from tests.conftest import FrontDoor

HEAVY = ("torch", "deepspeed", "transformers", "accelerate", "datasets", "azure", "azureml", "mlflow", "matplotlib")
ASKING_FOR = {
    Feature.STABILIZER: ["--stabilizer", "dbc_dac"],
    Feature.MUON: ["--optimizer", "muon"],
    Feature.FP16: ["--precision", "fp16"],
    Feature.RESUME: ["--resume"],
}
"""Flags that ask for each feature."""


class BackendContract:
    """Inherit and set `name`, the backend's name in the registry."""

    name: ClassVar[str]
    needed: ClassVar[Mapping[str, Any]] = {}
    """Options without which it cannot do anything: what costs money has no default."""

    @property
    def backend(self) -> type[Backend]:
        return BACKENDS.load(self.name)

    @property
    def config_class(self) -> type[TrainingConfig]:
        return choose(backend=self.name).config_class

    def prepared(self) -> PreparedRun:
        """The run that `--backend NAME` alone gives."""
        needed = {f"{self.name}.{name}": value for name, value in self.needed.items()}
        return prepare(choose(backend=self.name), [Layer("needed", needed)])

    def settings(self) -> TrainingConfig:
        return self.prepared().request.config

    def command(self, *words: str) -> list[str]:
        """The least command line of this backend."""
        needed = [word for name, value in self.needed.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        return ["--backend", self.name, *needed, *words]

    # -- what it says of itself ------------------------------------------------------------------------------------

    def test_the_registry_calls_it_by_its_own_name(self) -> None:
        assert self.backend.name == self.name
        assert self.name in BACKENDS.names()
        assert self.name.isidentifier(), "the name is a YAML section and a Python attribute"

    def test_its_name_is_not_taken_by_a_section_or_a_setting(self) -> None:
        assert self.name not in TrainingConfig.model_fields
        assert self.name not in {key.rpartition(".")[2] for key, _ in leaves(TrainingConfig)}

    def test_it_is_listed_with_a_line_that_says_where_it_runs(self, front_door: FrontDoor) -> None:
        summary = BACKENDS.entry(self.name).summary
        assert summary.strip()
        assert "\n" not in summary
        listed = [line for line in front_door(["--list-backends"]).stdout.splitlines() if line.split()[0] == self.name]
        assert len(listed) == 1
        assert summary in listed[0]

    def test_every_feature_that_it_lacks_has_a_reason_and_is_refused_with_it(self, front_door: FrontDoor) -> None:
        for feature, reason in self.backend.unsupported.items():
            assert isinstance(feature, Feature)
            assert reason.strip()
            assert "\n" not in reason
            refusal = front_door(self.command(*ASKING_FOR[feature], "--dry-run"))
            assert refusal.exit_code == 2
            assert refusal.stderr == f"error: --backend {self.name} cannot do {feature.value}: {reason}\n"

    # -- availability ----------------------------------------------------------------------------------------------

    def test_it_says_whether_it_can_run_here_and_if_not_what_mends_it(self) -> None:
        available = self.backend.check()
        assert isinstance(available, Availability)
        assert available == self.backend.check(), "asked twice, it says the same"
        assert available.ok or (available.reason and available.fix)

    def test_it_never_raises_where_nothing_is_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in [m for m in sys.modules if m.partition(".")[0] in HEAVY]:
            monkeypatch.delitem(sys.modules, module)
        for module in HEAVY:
            monkeypatch.setitem(sys.modules, module, None)
        available = self.backend.check()
        assert not available.ok
        assert available.reason
        assert available.fix

    @pytest.mark.slow
    def test_importing_and_asking_it_brings_in_nothing_heavy(self) -> None:
        module_name, _, class_name = str(BACKENDS.entry(self.name).target).partition(":")
        program = (
            f"import sys; from {module_name} import {class_name} as backend; backend.check(); backend.Options()\n"
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

    # -- its own settings ------------------------------------------------------------------------------------------

    def test_its_options_are_a_frozen_section_that_refuses_unknown_keys(self) -> None:
        options = self.backend.Options
        assert issubclass(options, Section)
        assert options.model_config.get("frozen") is True
        assert options.model_config.get("extra") == "forbid"
        assert getattr(self.settings(), self.name).model_copy(
            update={name: options.model_fields[name].default for name in self.needed}
        ) == getattr(self.config_class(), self.name)

    def test_each_option_says_what_it_means(self) -> None:
        for name, field in leaves(self.backend.Options):
            assert field.description, name
            assert field.description.strip().endswith("."), f"{name}: a sentence ends with a full stop"
            assert not field.is_required(), f"{name}: what is not given must be told in our own words"

    def test_no_option_has_the_name_of_another_setting(self) -> None:
        taken = [name for key, field in leaves(TrainingConfig) for name in (key.rpartition(".")[2], *aliases(field))]
        brought = [
            name for key, field in leaves(self.backend.Options) for name in (key.rpartition(".")[2], *aliases(field))
        ]
        assert [name for name in brought if name in taken] == []
        assert len(brought) == len(set(brought))

    def test_its_options_stand_in_a_group_of_their_own_in_the_help(self, front_door: FrontDoor) -> None:
        shown = front_door(["--backend", self.name, "--help"]).stdout
        _, found, group = shown.partition(f"\n{self.name} options:\n")
        if not self.backend.Options.model_fields:
            return
        assert found, "the help has no group of its options"
        group = group.partition("options:\n")[0]
        for key, _ in leaves(self.backend.Options):
            assert f"--{key.rpartition('.')[2].replace('_', '-')}" in group

    # -- what it does with a config --------------------------------------------------------------------------------

    def test_its_preset_loads_and_suits_it(self) -> None:
        preset = choose(backend=self.name).preset()
        if preset is not None:
            assert preset.settings.get("backend", self.name) == self.name
        self.backend().validate(self.settings())

    def test_its_resolved_settings_survive_the_file_that_workers_read(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        text = self.settings().to_yaml(path)
        assert self.config_class.from_yaml(path).to_dict() == self.settings().to_dict()
        every_key = {key for key, _ in leaves(self.config_class)}
        assert flatten(yaml.safe_load(text), self.config_class, "it").keys() == every_key

    def test_its_plan_is_pure_and_can_be_pickled(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        config, environment = self.settings(), dict(os.environ)
        before = config.to_dict()
        plan = self.backend().plan(config)
        assert plan is None or isinstance(plan, LaunchPlan)
        assert plan == self.backend().plan(config), "asked twice, it plans the same"
        assert pickle.loads(pickle.dumps(plan)) == plan
        assert config.to_dict() == before, "the config is left as it was"
        assert dict(os.environ) == environment
        assert list(tmp_path.iterdir()) == [], "planning writes nothing"

    def test_a_dry_run_shows_its_settings_and_its_plan_and_writes_nothing(
        self, front_door: FrontDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        shown = front_door(self.command("--dry-run"))
        assert (shown.exit_code, shown.stderr) == (0, "")
        assert yaml.safe_load(shown.stdout) == self.settings().to_dict()
        assert shown.stdout.splitlines()[-1].startswith("# plan: ")
        assert list(tmp_path.iterdir()) == []
