"""The real wandb package against a stand-in of its service: what the service shows, what an offline run keeps."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import FrontDoor, TinyDataset
from tests.support.tracked_runs import (
    SLOW,
    assert_same,
    column,
    config_of,
    machine_of_its_own,
    recorded,
    train,
    train_in_two_parts,
    wandb_name,
)
from tests.support.wandb_stand_in import WandbStandIn
from training.engines.results import UpdateResult
from training.errors import ConfigError
from training.loop.callbacks import Callback, RunView
from training.record.reporter import LOG_NAME, read_events
from training.tracking import wandb_tracker
from training.tracking.choice import trackers_for
from training.tracking.wandb_log import is_whole, rows

pytestmark = SLOW


@pytest.fixture(scope="module", autouse=True)
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WandbStandIn]:
    with WandbStandIn() as stand_in, machine_of_its_own(tmp_path_factory.mktemp("home"), stand_in.url):
        yield stand_in


def test_wandb_shows_a_resumed_run_as_one_run(service: WandbStandIn, tmp_path: Path) -> None:
    config = config_of(tmp_path / "run", track="wandb")
    training, validation = train_in_two_parts(config)
    name = wandb_name(tmp_path / "run")
    run = service.runs[name]
    assert_same(column(service.rows(name), "train/loss"), training)
    assert_same(column(service.rows(name), "eval/loss"), validation)
    record = next(iter(read_events(tmp_path / "run" / LOG_NAME)))
    assert run["project"] == "apt-hlbd-training"
    assert run["config"]["optimizer.learning_rate"]["value"] == 0.02
    assert set(run["tags"]) == {
        "backend:playground", f"run_id:{record['run_id']}", f"curve_hash:{config.curve_hash()}",
    }  # fmt: skip
    assert run["summary"]["train/loss"] == pytest.approx(training[-1][1])
    assert run["exit_code"] == 0
    assert json.loads(service.uploads[f"{name}/experiment_report.json"])["state"] == "finished"


def test_an_offline_run_needs_no_login_and_wandb_sync_uploads_its_parts_as_one(
    service: WandbStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as nobody:
        nobody.delenv("WANDB_API_KEY")
        config = config_of(tmp_path / "run", track="wandb", wandb_mode="offline", wandb_project="elsewhere")
        training, validation = train_in_two_parts(config)
    name = wandb_name(tmp_path / "run")
    assert name not in service.runs, "nothing was sent"
    parts = sorted((tmp_path / "run" / "wandb").glob(f"offline-run-*-{name}*"))
    held = [row for part in parts for row in rows(part / f"run-{name}.wandb")]
    assert len(parts) == 2
    assert_same(column(held, "train/loss"), training)
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", *parts],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert service.runs[name]["project"] == "elsewhere"
    assert_same(column(service.rows(name), "train/loss"), training)
    assert_same(column(service.rows(name), "eval/loss"), validation)
    assert f"{name}/experiment_report.json" in service.uploads


def test_the_end_of_a_file_says_as_much_as_the_whole_wherever_it_is_cut_off(tmp_path: Path) -> None:
    """What wandb-core has not written yet when it says that it is done, a resumed run would tell again."""
    import wandb

    with wandb.init(mode="offline", dir=tmp_path, id="long") as run:
        for step in range(1, 1501):
            run.log({"train/loss": 1 / step, "more": "words " * (step % 150)}, step=step)
    (file,) = tmp_path.glob("wandb/offline-run-*/run-long.wandb")
    until = time.monotonic() + 60
    while not is_whole(file, 1500):
        assert time.monotonic() < until
        time.sleep(0.02)
    data, cut = file.read_bytes(), tmp_path / "cut"
    assert len(data) > 400_000
    for size in range(len(data), 200_000, -37_003):
        cut.write_bytes(data[:size])
        held = max(row["_step"] for row in rows(cut))
        assert is_whole(cut, held)
        assert not is_whole(cut, held + 1)
    assert not is_whole(tmp_path / "none", 1)


def test_a_service_that_falls_silent_costs_one_line_and_no_step_and_is_told_the_rest_later(
    service: WandbStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class FallSilent(Callback):
        def on_step(self, trainer: RunView, result: UpdateResult) -> None:
            if trainer.step == 7:
                until = time.monotonic() + 60
                while (
                    not (tmp_path / "run" / "trackers.json").exists()
                    or wandb_name(tmp_path / "run") not in service.runs
                ):
                    assert time.monotonic() < until
                    time.sleep(0.02)
                service.talks.clear()

    monkeypatch.setattr(wandb_tracker, "SECONDS_TO_UPLOAD", 1)
    config = config_of(tmp_path / "run", track="wandb")
    try:
        assert train(config, callback=FallSilent()) == "finished"
    finally:
        service.talks.set()
    training, validation = recorded(tmp_path / "run")
    assert [step for step, _ in training] == list(range(1, 16))
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warnings) == 1
    assert "the upload was not done after 1 s; `wandb sync" in warnings[0]
    assert train(config, resume=True) == "finished"
    name = wandb_name(tmp_path / "run")
    assert_same(column(service.rows(name), "train/loss"), training)
    assert_same(column(service.rows(name), "eval/loss"), validation)


@pytest.mark.parametrize(
    ("variable", "netrc", "told"),
    [
        (
            None,
            None,
            r"--track wandb: not logged in at http://127\S+; run: wandb login \(or give --wandb-mode offline\)",
        ),
        (None, "machine", "not logged in"),
        (None, "machine somewhere.example login u password " + "1" * 40, "not logged in"),
        ("tooshort", None, "WANDB_API_KEY invalid: .*; run: wandb login --relogin"),
        ("0" * 40, None, None),
        (None, "machine HOST login u password " + "1" * 40, None),
    ],
)
def test_wandb_without_a_login_is_refused_before_anything_is_written(
    variable: str | None,
    netrc: str | None,
    told: str | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    service: WandbStandIn,
) -> None:
    import wandb

    monkeypatch.delenv("WANDB_API_KEY")
    if variable:
        monkeypatch.setenv("WANDB_API_KEY", variable)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    if netrc:
        (tmp_path / "netrc").write_text(netrc.replace("HOST", service.url.removeprefix("http://")))
    wandb.teardown()  # it has read the environment, and does so once
    try:
        with pytest.raises(ConfigError, match=told) if told else contextlib.nullcontext() as refusal:
            trackers_for(config_of(tmp_path / "run", track="wandb"))
    finally:
        wandb.teardown()
    assert not (tmp_path / "run").exists()
    assert "tooshort" not in str(refusal)


def test_the_front_door_says_so_in_one_line_and_writes_nothing(
    front_door: FrontDoor,
    tiny_dataset: TinyDataset,
    tiny_flags: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    import wandb

    monkeypatch.delenv("WANDB_API_KEY")
    wandb.teardown()
    done = front_door([*tiny_flags, "--datasets", tiny_dataset(), "--run-dir", tmp_path / "run", "--wandb"])
    wandb.teardown()
    assert done.exit_code == 2
    assert done.stderr.startswith("error: --track wandb: not logged in at ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()
