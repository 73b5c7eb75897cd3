"""The settings that a run was trained with, read for the run that resumes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from training import TrainingConfig
from training.checkpoints.checkpoint import Checkpoint, DataIdentity
from training.checkpoints.resume import refuse_another_run
from training.checkpoints.run_settings import carried_over, saved_config, settings_of_run, with_names
from training.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from tests.conftest import FrontDoor


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The directory of a run with one checkpoint."""
    directory = tmp_path / "run"
    (directory / "checkpoint_epoch_1").mkdir(parents=True)
    shape = {"d_model": 64, "vocab_size": 30}
    TrainingConfig.from_dict({"model": shape, "run": {"run_dir": "where/it/was"}}).to_yaml(directory / "config.yaml")
    return directory


@pytest.mark.parametrize("name", ["", "checkpoint_epoch_1", "checkpoint_epoch_1.pt", "checkpoint_epoch_9"])
def test_a_run_is_found_by_its_directory_or_any_of_its_checkpoints(name: str, run: Path) -> None:
    assert saved_config(run / name) == run / "config.yaml"
    settings = settings_of_run(run / name, TrainingConfig)
    assert (settings["model.d_model"], settings["run.run_dir"]) == (64, run)
    assert "backend" not in settings, "another one may go on"
    assert settings["model.vocab_size"] == 30, "what was asked for is asked for again"


def test_a_bare_name_of_the_current_directory_is_no_run_unless_it_is_there(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run)
    assert saved_config(Path("checkpoint_epoch_1.pt")) == Path("config.yaml")
    assert saved_config(Path("checkpoint_epoch_9.pt")) is None, "it is looked for in --run-dir"
    assert settings_of_run(Path("checkpoint_epoch_9.pt"), TrainingConfig) == {}


def refusal(front_door: FrontDoor, *words: str | Path) -> str:
    done = front_door(words)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done
    return done.stderr


@pytest.mark.parametrize("where", ["flag", "alias", "file", "section"])
def test_a_bare_name_in_the_run_directory_brings_the_runs_settings_as_its_path_does(
    where: str, front_door: FrontDoor, finished_run: Path, tmp_path: Path
) -> None:
    if where in ("file", "section"):
        settings = {"run_dir": str(finished_run)}
        (tmp_path / "own.yaml").write_text(yaml.safe_dump(settings if where == "file" else {"run": settings}))
        words: list[str | Path] = ["--config", tmp_path / "own.yaml"]
    else:
        words = ["--run-dir" if where == "flag" else "--output-dir", finished_run]
    done = front_door([*words, "--resume", "checkpoint_epoch_1.pt", "--dry-run"])
    assert done.exit_code == 0, done.stderr
    by_path = front_door(["--resume", finished_run / "checkpoint_epoch_1", "--dry-run"])
    ours, theirs = (shown.stdout.split("\n#")[0] for shown in (done, by_path))
    assert ours == theirs
    assert "d_model: 16" in ours


def test_a_bare_name_in_the_backends_own_run_directory_is_found_too(
    front_door: FrontDoor, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished_run.rename(finished_run.with_name("hlbd_playground"))
    monkeypatch.chdir(finished_run.parent)
    done = front_door(["--resume", "checkpoint_epoch_1", "--dry-run"])
    assert "d_model: 16" in done.stdout, done.stderr


def test_a_missing_checkpoint_lists_those_that_exist_where_it_was_looked_for(
    front_door: FrontDoor, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished_run.parent)
    there = "run has checkpoint_epoch_1, checkpoint_epoch_2"
    given = ["--run-dir", "run", "--resume"]
    assert refusal(front_door, *given, "run/checkpoint-500") == (
        f"error: --resume run/checkpoint-500: no such checkpoint or run; {there}\n"
    ), "not looked for below run/run"
    assert there in refusal(front_door, *given, "checkpoint_epoch_9.pt")
    assert "there is none in nowhere" in refusal(front_door, "--resume", "nowhere/checkpoint_epoch_9")


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_path_is_not_the_current_directory(
    empty: str, front_door: FrontDoor, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished_run)
    assert f"--resume {empty!r}: an empty path" in refusal(front_door, "--resume", empty)


@pytest.mark.parametrize(
    ("saved", "told"),
    [
        ({"task": "other"}, "it: the run was trained with --task other, not hlbd; leave --task out"),
        ({"model": {"model": "other", "width": 3}}, "it: the run was trained with --model other, not apt"),
        ({"model": "other"}, "it: the run was trained with --model other, not apt"),
        ({"run": {"epochz": 3}}, "it: unknown key 'run.epochz'; did you mean 'epochs'"),
    ],
)
def test_a_run_of_another_kind_is_refused(saved: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        carried_over(saved, TrainingConfig, "it")


def test_a_checkpoint_of_before_there_were_names_is_of_the_same_run() -> None:
    now = TrainingConfig()
    config = now.to_dict()
    del config["task"], config["model"]["model"]
    loop = {"batch": 1, "epoch_loss": [0.0, 0], "best": None, "epochs_without_gain": 0, "skipped_in_a_row": 0}
    payload = {
        "kind": "checkpoint", "step": 1, "total_steps": 3, "config": config, "engine": {}, "loop": loop,
        "num_samples": 3, "data_fingerprint": "f",
    }  # fmt: skip
    checkpoint = Checkpoint.from_payload(Path("c"), payload)
    refuse_another_run(Path("c"), checkpoint, now, now.model, DataIdentity(3, "f"))
    other = now.model.model_copy(update={"model": "other"})
    for changed, told in (
        (now.model_copy(update={"task": "other"}), "the run's task was 'hlbd' and is 'other' now"),
        (now.model_copy(update={"model": other}), "model was 'apt' in the run and is 'other' now"),
    ):
        with pytest.raises(CheckpointError, match=told):
            refuse_another_run(Path("c"), checkpoint, changed, changed.model, DataIdentity(3, "f"))


def test_a_run_of_before_there_were_names_is_of_hlbd_and_apt() -> None:
    assert with_names({"model": {"d_model": 64}, "run": {}}) == {
        "task": "hlbd", "model": {"model": "apt", "d_model": 64}, "run": {},
    }  # fmt: skip
    assert carried_over({"model": {"d_model": 64}, "backend": "deepspeed"}, TrainingConfig, "it") == {
        "model.d_model": 64
    }
    assert carried_over({}, TrainingConfig, "it") == {}
