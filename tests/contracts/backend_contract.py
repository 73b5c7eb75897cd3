"""Promises of every backend: inherit `BackendContract`, set `name`, and these tests say whether they are kept.

    class TestMine(BackendContract):
        name = "mine"

None of them trains: they hold on a machine where the backend itself cannot run.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import yaml

from tests.contracts.part_contract import HEAVY, PartContract
from training.backends.prepare import PreparedRun, choose, prepare
from training.backends.protocol import Availability, Backend, Feature, LaunchPlan
from training.backends.registry import BACKENDS
from training.settings.declarations import leaves
from training.settings.layers import Layer
from training.settings.registry import Registry
from training.settings.section import Section
from training.settings.tree import TrainingConfig
from training.settings.yaml_files import flatten

if TYPE_CHECKING:
    from tests.conftest import FrontDoor

ASKING_FOR = {
    Feature.STABILIZER: ["--stabilizer", "dbc_dac"],
    Feature.MUON: ["--optimizer", "muon"],
    Feature.FP16: ["--precision", "fp16"],
    Feature.RESUME: ["--resume"],
    Feature.WEIGHT_AVERAGE: ["--ema-decay", "0.99"],
}
"""Flags that ask for each feature."""


class BackendContract(PartContract):
    """Inherit and set `name`, the backend's name in the registry."""

    registry: ClassVar[Registry[Any]] = BACKENDS
    list_flag: ClassVar[str] = "--list-backends"
    common: ClassVar[type[Section]] = Section
    needed: ClassVar[Mapping[str, Any]] = {}
    """Options without which it cannot do anything: what costs money has no default."""

    @property
    def backend(self) -> type[Backend]:
        """The class of the backend."""
        return BACKENDS.load(self.name)

    @property
    def config_class(self) -> type[TrainingConfig]:
        """The class of a config that has the backend's options."""
        return choose(backend=self.name).config_class

    def prepared(self) -> PreparedRun:
        """Return the run that `--backend NAME` alone gives."""
        needed = {f"{self.name}.{name}": value for name, value in self.needed.items()}
        return prepare(choose(backend=self.name), [Layer("needed", needed)])

    def settings(self) -> TrainingConfig:
        return self.prepared().request.config

    def command(self, *words: str) -> list[str]:
        """Return the shortest command line of this backend."""
        needed = [word for name, value in self.needed.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        return ["--backend", self.name, *needed, *words]

    # -- what it says of itself ------------------------------------------------------------------------------------

    def test_its_name_is_not_taken_by_a_section_or_a_setting(self) -> None:
        assert self.name not in TrainingConfig.model_fields
        assert self.name not in {key.rpartition(".")[2] for key, _ in leaves(TrainingConfig)}

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

    # -- its own settings ------------------------------------------------------------------------------------------

    def test_without_a_word_its_options_have_their_defaults(self) -> None:
        options = self.backend.Options
        assert getattr(self.settings(), self.name).model_copy(
            update={name: options.model_fields[name].default for name in self.needed}
        ) == getattr(self.config_class(), self.name)

    # -- what it does with a config --------------------------------------------------------------------------------

    def test_its_preset_loads_and_suits_it(self) -> None:
        preset = choose(backend=self.name).preset()
        if preset is not None:
            assert preset.settings.get("backend", self.name) == self.name
            assert [key for key in preset.settings if key.startswith(("data.", "model."))] == [], (
                "any task may run on it"
            )
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
