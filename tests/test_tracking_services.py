"""The real trackers: what TensorBoard, MLflow and W&B hold of a run is read back by their own means.

W&B's service is a stand-in on the loopback interface (`tests/wandb_stand_in.py`); MLflow's server is a real one.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import torch
from torch import nn

from apt_model.errors import ConfigError
from tests.conftest import ROOT, FrontDoor, TinyDataset
from tests.programs.track_and_die import killed_config, tell
from tests.wandb_stand_in import WandbStandIn
from training.callbacks import Callback
from training.config import TrainingConfig
from training.loop import Trainer
from training.progress import LOG_NAME, ProgressReporter, read_events
from training.result import UpdateResult
from training.snapshot import without_superseded
from training.task import ModuleTask
from training.tracking import wandb_tracker
from training.tracking.choice import trackers_for
from training.tracking.wandb_log import rows

pytestmark = [
    pytest.mark.slow,
    # What the services' packages themselves import is not ours to mend.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
Curve = list[tuple[int, float]]


@pytest.fixture(scope="module")
def service() -> Iterator[WandbStandIn]:
    with WandbStandIn() as stand_in:
        yield stand_in


@pytest.fixture(scope="module", autouse=True)
def _a_machine_of_its_own(service: WandbStandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No account, no settings and no variables of whoever runs the tests; W&B is the stand-in."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
            patch.delenv(name)
        home = tmp_path_factory.mktemp("home")
        for name, value in {
            "HOME": str(home),
            "NETRC": str(home / ".netrc"),
            "WANDB_BASE_URL": service.url,
            "WANDB_API_KEY": "0" * 40,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_SILENT": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        }.items():
            patch.setenv(name, value)
        yield
        if "wandb" in sys.modules:
            sys.modules["wandb"].teardown()


# -- a run that is stopped, loses its last checkpoint, and is resumed ----------------------------------------------

ROWS = [{"x": torch.tensor([n / 10.0, 1.0]), "y": torch.tensor(n / 5.0)} for n in range(20)]


def squared_error(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    loss: torch.Tensor = ((model(batch["x"]).squeeze(1) - batch["y"]) ** 2).sum()
    return loss


class StopAt(Callback):
    """Asks for a stop after an update."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step(self, trainer: Trainer, result: UpdateResult) -> None:
        if trainer.step == self._step:
            trainer.stop()


def config_of(run_dir: Path, **track: Any) -> TrainingConfig:
    return TrainingConfig.from_dict({
        "run": {"run_dir": run_dir, "epochs": 3, "batch_size": 4},
        "optimizer": {"learning_rate": 0.02},
        "checkpoint": {"save_steps": 4},
        "track": track,
    })  # fmt: skip


def train(config: TrainingConfig, callback: Callback | None = None, resume: bool = False) -> str:
    """Fifteen updates, five an epoch, with a validation after each epoch."""
    trainer = Trainer(
        config,
        ROWS,
        ROWS[:5],
        task=ModuleTask(model=lambda: nn.Linear(2, 1), loss=squared_error),
        sinks=trackers_for(config),
        callbacks=[callback] if callback else [],
        resume=resume,
    )
    return trainer.train().state


def train_in_two_parts(config: TrainingConfig) -> tuple[Curve, Curve]:
    """Stopped after 10 updates; its last checkpoint is lost, so 9 and 10 are done again. Returns what the record says:
    the training's losses and the validation's, by step."""
    run_dir = config.run.run_dir
    assert train(config, callback=StopAt(10)) == "stopped"
    for file in sorted((run_dir / "checkpoint_step_10").iterdir()):
        file.unlink()
    (run_dir / "checkpoint_step_10").rmdir()
    assert train(config, resume=True) == "finished"
    return recorded(run_dir)


def recorded(run_dir: Path) -> tuple[Curve, Curve]:
    events = without_superseded(read_events(run_dir / LOG_NAME))
    training, validation = ([(e["step"], e["loss"]) for e in events if e["event"] == kind] for kind in ("step", "eval"))
    return training, validation


def assert_same(found: Sequence[tuple[int, float]], expected: Curve, precision: float = 1e-12) -> None:
    assert [step for step, _ in found] == [step for step, _ in expected]
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], rel=precision)


# -- TensorBoard ---------------------------------------------------------------------------------------------------


def scalars(run_dir: Path, tag: str) -> Curve:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run_dir / "logs"), size_guidance={"scalars": 0})
    board.Reload()
    return [(scalar.step, scalar.value) for scalar in board.Scalars(tag)]


def test_tensorboard_shows_a_resumed_run_as_one_curve(tmp_path: Path) -> None:
    config = config_of(tmp_path / "run", track="tensorboard")
    training, validation = train_in_two_parts(config)
    assert len(training) == 15
    assert_same(scalars(tmp_path / "run", "train/loss"), training, precision=1e-6)  # its files hold single precision
    assert_same(scalars(tmp_path / "run", "eval/loss"), validation, precision=1e-6)
    assert len(list((tmp_path / "run" / "logs").glob("events.out.tfevents.*"))) == 2


def test_tensorboard_shows_settings_and_tags(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    config = config_of(tmp_path / "run", track="tensorboard")
    train(config)
    board = EventAccumulator(str(tmp_path / "run" / "logs"))
    board.Reload()
    [text] = board.Tensors("run")
    assert config.curve_hash() in text.tensor_proto.string_val[0].decode()
    content = board.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    table = HParamsPluginData.FromString(content).session_start_info.hparams
    assert table["optimizer.learning_rate"].number_value == 0.02
    assert table["run.batch_size"].number_value == 4


def test_a_run_of_the_front_door_is_followed_to_what_its_model_answers(
    front_door: FrontDoor, tiny_dataset: TinyDataset, tiny_flags: list[str], tmp_path: Path
) -> None:
    where: list[str | Path] = ["--datasets", tiny_dataset(), "--run-dir", tmp_path / "run"]
    done = front_door([*tiny_flags, *where, "--epochs", "2", "--answer-samples", "4", "--track", "tensorboard"])
    assert done.exit_code == 0
    assert f"track   tensorboard: tensorboard --logdir {tmp_path / 'run' / 'logs'}" in done.stderr
    assert_same(scalars(tmp_path / "run", "train/loss"), recorded(tmp_path / "run")[0], precision=1e-6)
    [(step, share)] = scalars(tmp_path / "run", "recitation/accuracy")
    assert step == 4
    assert 0.0 <= share <= 1.0


# -- MLflow --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mlflow_server(_a_machine_of_its_own: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real `mlflow server` on SQLite; its address."""
    directory = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
                *("--workers", "1", "--backend-store-uri", f"sqlite:///{directory}/server.db"),
                *("--artifacts-destination", str(directory / "artifacts")),
            ],
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 90
        while not answers(f"{url}/health"):
            assert server.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < until, (directory / "log").read_text()
            time.sleep(0.2)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)  # its workers too
        server.wait(30)


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def in_mlflow(uri: str, run_dir: Path) -> tuple[Any, Callable[[str], Curve], Any]:
    """(the client, metric -> its history by step, the run) of what `trackers.json` names."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    name = json.loads((run_dir / "trackers.json").read_text())["mlflow"]["run"]

    def history(metric: str) -> Curve:
        return sorted((m.step, m.value) for m in client.get_metric_history(name, metric))

    return client, history, client.get_run(name)


def assert_the_run_is_in_mlflow(uri: str, config: TrainingConfig, training: Curve, validation: Curve) -> None:
    run_dir = config.run.run_dir
    client, history, run = in_mlflow(uri, run_dir)
    assert_same(history("train/loss"), training)
    assert_same(history("eval/loss"), validation)
    assert {"train/accuracy", "train/grad_norm", "train/learning_rate", "train/tokens_per_second"} <= set(
        run.data.metrics
    )
    assert run.data.params["optimizer.learning_rate"] == "0.02"
    assert run.data.params["run.epochs"] == "3"
    assert run.data.tags["backend"] == "playground"
    assert run.data.tags["curve_hash"] == config.curve_hash()
    record = next(iter(read_events(run_dir / LOG_NAME)))
    assert run.data.tags["run_id"] == record["run_id"]
    assert run.info.status == "FINISHED"
    assert run.info.start_time == round(record["time"] * 1000)
    path = client.download_artifacts(run.info.run_id, "experiment_report.json")
    assert json.loads(Path(path).read_text())["state"] == "finished"
    assert len(client.search_runs([run.info.experiment_id], filter_string=f"tags.run_id = '{record['run_id']}'")) == 1


def test_mlflow_keeps_a_resumed_run_in_a_sqlite_file_without_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    config = config_of(Path("runs/one"), track="mlflow")
    training, validation = train_in_two_parts(config)
    uri = f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert_the_run_is_in_mlflow(uri, config, training, validation)
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}, "nothing is written elsewhere"
    # What a resumed run may change is told as a tag, since a param is written once.
    longer = config.model_copy(update={"run": config.run.model_copy(update={"epochs": 4})})
    assert train(longer, resume=True) == "finished"
    _, history, run = in_mlflow(uri, config.run.run_dir)
    assert [step for step, _ in history("train/loss")] == list(range(1, 21))
    assert run.data.params["run.epochs"] == "3"
    assert run.data.tags["run.epochs from step 15"] == "4"


def test_mlflow_keeps_a_resumed_run_in_a_server(mlflow_server: str, tmp_path: Path) -> None:
    config = config_of(tmp_path / "run", track="mlflow", mlflow_tracking_uri=mlflow_server, mlflow_experiment="lines")
    training, validation = train_in_two_parts(config)
    assert_the_run_is_in_mlflow(mlflow_server, config, training, validation)
    client, _, run = in_mlflow(mlflow_server, tmp_path / "run")
    assert client.get_experiment(run.info.experiment_id).name == "lines"


def test_mlflow_joins_the_run_that_a_job_s_service_has_made_and_leaves_its_end_to_it(
    mlflow_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(mlflow_server)
    job = client.create_run("0", run_name="the job").info.run_id
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.setenv("MLFLOW_RUN_ID", job)
    training, _ = train_in_two_parts(config_of(tmp_path / "run", track="mlflow"))
    run = client.get_run(job)
    assert run.info.run_name == "the job"
    assert run.info.status == "RUNNING"
    assert_same(sorted((m.step, m.value) for m in client.get_metric_history(job, "train/loss")), training)


def test_a_server_that_is_gone_costs_one_line_and_no_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        assert train(config_of(tmp_path / "run", track="mlflow,tensorboard", mlflow_tracking_uri=uri)) == "finished"
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: --track mlflow failed and is switched off (MlflowException: ")
    assert_same(scalars(tmp_path / "run", "train/loss"), recorded(tmp_path / "run")[0], precision=1e-6)


def test_what_a_server_missed_it_gets_when_the_finished_run_is_resumed(mlflow_server: str, tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        train(config_of(tmp_path / "run", track="mlflow", mlflow_tracking_uri=gone))
    train(config_of(tmp_path / "run", track="mlflow", mlflow_tracking_uri=mlflow_server), resume=True)
    _, history, _ = in_mlflow(mlflow_server, tmp_path / "run")
    assert_same(history("train/loss"), recorded(tmp_path / "run")[0])


# -- W&B -----------------------------------------------------------------------------------------------------------


def wandb_name(run_dir: Path) -> str:
    name: str = json.loads((run_dir / "trackers.json").read_text())["wandb"]["id"]
    return name


def column(found: Sequence[dict[str, Any]], figure: str) -> Curve:
    return [(row["_step"], row[figure]) for row in found if figure in row]


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


def test_a_service_that_falls_silent_costs_one_line_and_no_step_and_is_told_the_rest_later(
    service: WandbStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class FallSilent(Callback):
        def on_step(self, trainer: Trainer, result: UpdateResult) -> None:
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


# -- a kill, and nobody else is told -------------------------------------------------------------------------------


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
        [sys.executable, "-m", "tests.programs.track_and_die", str(run_dir), "400"],
        env={**clean, **variables, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert asked == []
    told_before = len(scalars(run_dir, "train/loss"))
    assert 0 < told_before < 400, "the kill came before the trackers were done"

    config = killed_config(run_dir)
    reporter = ProgressReporter(run_dir, 1, trackers_for(config))
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
