"""A run that is killed with three trackers at work, and resumed; and nobody else is told anything."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.programs.track_and_die import killed_config, tell
from tests.support.tracked_runs import SLOW, assert_same, column, in_mlflow, machine_of_its_own, scalars
from training.record.reporter import ProgressReporter
from training.tracking.background import Trackers
from training.tracking.choice import trackers_for
from training.tracking.wandb_log import rows

pytestmark = SLOW


@pytest.fixture(scope="module", autouse=True)
def _a_machine_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with machine_of_its_own(tmp_path_factory.mktemp("home"), "http://127.0.0.1:9"):
        yield


@pytest.fixture
def the_world() -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that lets nothing through; its address, and what was asked of it."""
    asked: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                asked.append(connection.recv(1000))

    threading.Thread(target=listen, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
    listener.close()


def test_a_killed_run_is_told_whole_when_it_is_resumed_and_nobody_else_is_told_anything(
    tmp_path: Path, the_world: tuple[str, list[bytes]]
) -> None:
    proxy, asked = the_world
    run_dir = tmp_path / "runs" / "killed"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "MLFLOW_"))}
    variables = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy)
    died = subprocess.run(
        [sys.executable, "-m", "tests.support.programs.track_and_die", str(run_dir), "400"],
        env={**clean, **variables, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        cwd=tmp_path,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert asked == []
    told_before = len(scalars(run_dir, "train/loss"))
    assert 0 < told_before < 400, "the kill came before the trackers were done"

    config = killed_config(run_dir)
    (trackers,) = trackers_for(config)
    assert isinstance(trackers, Trackers)
    trackers._seconds_when_finished = 300.0  # for a busy machine; the deadline has tests of its own
    reporter = ProgressReporter(run_dir, 1, [trackers])
    reporter.run_resumed(395, run_id="r", curve_hash=config.curve_hash(), backend="playground", steps_per_epoch=10)
    tell(reporter, range(396, 411))
    reporter.run_finished()
    reporter.close()

    training = [(step, 1.0 / step) for step in range(1, 411)]
    validation = [(step, 2.0 / step) for step in range(5, 411, 5)]
    assert_same(scalars(run_dir, "train/loss"), training, precision=1e-6)
    assert_same(scalars(run_dir, "eval/loss"), validation, precision=1e-6)
    _, history, _ = in_mlflow(f"sqlite:///{run_dir.parent}/mlflow.db", run_dir)
    assert_same(history("train/loss"), training)
    assert_same(history("eval/loss"), validation)
    files = sorted(run_dir.glob("wandb/offline-run-*/*.wandb"))
    held = [row for file in files for row in rows(file)]
    assert_same(column(held, "train/loss"), training)
    assert_same(column(held, "eval/loss"), validation)
