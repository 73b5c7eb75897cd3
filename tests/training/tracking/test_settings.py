"""Which trackers are chosen, and what is refused before anything is written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import FrontDoor
from tests.test_architecture import LIGHT, MODULES, reached_on_import
from training import TrainingConfig
from training.errors import ConfigError
from training.tracking.choice import check, trackers_for
from training.tracking.secrets import without_secrets
from training.tracking.tracker import RunStart
from training.tracking.tracker_file import TrackerFile


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--track", "wandb,mlflow"], ["wandb", "mlflow"]),
        (["--track", "wandb", "mlflow"], ["wandb", "mlflow"]),
        (["--track", "tensorboard", "--track", "mlflow,tensorboard"], ["tensorboard", "mlflow"]),
        (["--wandb"], ["wandb"]),
        (["--wandb", "--track", "tensorboard"], ["tensorboard", "wandb"]),
        (["--track", "none"], []),
        ([], []),
    ],
)
def test_trackers_are_chosen_by_words_or_comma_lists(
    words: list[str], expected: list[str], front_door: FrontDoor
) -> None:
    done = front_door([*words, "--explain", "track"])
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == f"track.track = {tuple(expected)}"


@pytest.mark.parametrize("text", ["track: wandb,mlflow", "track: [wandb, mlflow]", "track: {track: [wandb, mlflow]}"])
def test_yaml_may_give_them_too(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    assert TrainingConfig.from_yaml(tmp_path / "c.yaml").track.track == ("wandb", "mlflow")


def test_no_tracker_s_setting_changes_the_curve_s_hash() -> None:
    plain = TrainingConfig()
    tracked = TrainingConfig.from_dict({"track": {"track": "wandb", "wandb_project": "p", "wandb_mode": "offline"}})
    assert tracked.curve_hash() == plain.curve_hash()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--track", "wandbb"], "track = 'wandbb' (from --track): should be one of 'wandb', 'tensorboard' or 'mlflow'"),
        (["--wandb-mode", "on"], "should be one of 'online', 'offline' or 'disabled'"),
        (["--wandb-project", "a/b"], "wandb_project = 'a/b' (from --wandb-project): a W&B project's name has no '/'"),
        (["--mlflow-tracking-uri", "runs/mlflow"], "--mlflow-tracking-uri: MLflow no longer writes to plain director"),
        (["--mlflow-tracking-uri", "ftp://host"], "--mlflow-tracking-uri: ftp: is no MLflow store; give one of http:"),
        (["--mlflow-tracking-uri", "sqlite://x.db"], "three slashes before a relative path"),
        (["--mlflow-tracking-uri", "http:///x"], "there is no host in it"),
        (["--mlflow-tracking-uri", "http://[::1"], "not a URI"),
        (["--mlflow-tracking-uri", "http://me:hunter2@host"], "a password or token does not belong into a setting"),
        (["--mlflow-tracking-uri", "https://hunter2@host"], "a password or token does not belong into a setting"),
        (["--mlflow-tracking-uri", "postgresql://h/db?password=hunter2"], "a password or token does not belong"),
    ],
)
def test_a_wrong_setting_is_one_line_without_any_password(
    flags: list[str], told: str, front_door: FrontDoor, tree: Callable[[], Mapping[str, Any]], tmp_path: Path
) -> None:
    done = front_door([*flags, "--run-dir", tmp_path / "run", "--dry-run"])
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert told in done.stderr
    assert "hunter2" not in done.stderr + done.stdout
    assert tree() == {}


def test_a_missing_package_is_told_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # An empty folder named like the package, such as wandb leaves one in the working directory, is no package.
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    for module in ("wandb", "tensorboard", "mlflow", "sqlalchemy", "alembic"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    for name in ("wandb", "tensorboard", "mlflow"):
        told = rf"--track {name}: .* is not installed; run: pip install -e '\.\[{name}\]'"
        with pytest.raises(ConfigError, match=told):
            check(TrainingConfig.from_dict({"track": {"track": name}}))


def test_a_disabled_tracker_needs_neither_package_nor_login_and_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert trackers_for(TrainingConfig.from_dict({"track": {"track": "wandb", "wandb_mode": "disabled"}})) == []
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert trackers_for(TrainingConfig.from_dict({"track": {"track": "wandb"}})) == []


def test_a_mode_that_the_environment_misspells_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(ConfigError, match="WANDB_MODE=ofline: no such mode"):
        check(TrainingConfig.from_dict({"track": {"track": "wandb"}}))


def test_secrets_are_taken_out_of_what_a_library_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    told = without_secrets(f"401 for {'k' * 40} at postgresql://me:pw@db.example/x")
    assert told == "401 for <WANDB_API_KEY> at postgresql://db.example/x"
    told = without_secrets("Max retries exceeded with url: /container/blob?sv=2026&sig=aB%2Fc%3D&se=1 (refused)")
    assert told == "Max retries exceeded with url: /container/blob?sv=2026&sig=…&se=1 (refused)"


def test_the_file_of_the_trackers_names_holds_no_settings(tmp_path: Path) -> None:
    def start(run_id: str, is_resumed: bool, curve: str = "c") -> RunStart:
        return RunStart(run_id, 0, 0.0, is_resumed, {"curve_hash": curve}, {})

    file = TrackerFile(tmp_path)
    file.keep("mlflow", start("r", False), run="abc")
    file.keep("wandb", start("r", False), id="def")
    assert json.loads(file.path.read_text()) == {
        "mlflow": {"run_id": "r", "curve_hash": "c", "run": "abc"},
        "wandb": {"run_id": "r", "curve_hash": "c", "id": "def"},
    }
    assert file.recall("mlflow", start("r", True))["run"] == "abc"
    assert file.recall("mlflow", start("r", True, curve="another")) == {}, "another curve is another run"
    assert file.recall("mlflow", start("new", False)) == {}, "a run that starts anew has no past"
    file.keep("wandb", start("new", False), id="ghi")
    assert list(json.loads(file.path.read_text())) == ["wandb"]
    file.path.write_text("{")
    with pytest.raises(ValueError, match=r"trackers\.json: damaged, .*; delete it"):
        file.recall("mlflow", start("r", True))


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith("training.tracking")))
def test_to_choose_a_tracker_imports_none(module: str) -> None:
    assert reached_on_import(module).isdisjoint({*LIGHT, "wandb", "tensorboard", "sqlalchemy"})
