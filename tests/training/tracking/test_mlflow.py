"""MLflow's own client finds the run: in a SQLite file, and in a real `mlflow server`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.conftest import FrontDoor, TinyDataset
from tests.support.finished_runs import finished
from tests.support.small_apts import same_weights
from tests.support.tracked_runs import (
    SLOW,
    Curve,
    assert_same,
    config_of,
    in_mlflow,
    machine_of_its_own,
    recorded,
    scalars,
    train,
    train_in_two_parts,
)
from tools import models
from training import TrainingConfig
from training.checkpoints.finished_model import load_trained_model
from training.errors import UserError
from training.experiments.model_versions.version import read_version
from training.record.curve_figure import curve_figure
from training.record.reporter import LOG_NAME, read_events

pytestmark = SLOW


@pytest.fixture(scope="module", autouse=True)
def _a_machine_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with machine_of_its_own(tmp_path_factory.mktemp("home"), "http://127.0.0.1:9"):
        yield


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


def assert_the_run_is_in_mlflow(uri: str, config: TrainingConfig, training: Curve, validation: Curve) -> None:
    run_dir = config.run.run_dir
    client, history, run = in_mlflow(uri, run_dir)
    assert_same(history("train/loss"), training)
    assert_same(history("eval/loss"), validation)
    assert {"train/samples", "train/grad_norm", "train/learning_rate", "train/samples_per_second"} <= set(
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
    figure = Path(client.download_artifacts(run.info.run_id, "training_curve.png")).read_bytes()
    assert figure == curve_figure(json.loads(Path(path).read_text()), None), "the same as in a model card"
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


@pytest.mark.parametrize("in_a_server", [False, True], ids=["sqlite", "server"])
def test_a_finished_run_s_model_and_event_files_come_back_from_mlflow_whole(
    in_a_server: bool,
    mlflow_server: str,
    tiny_flags: list[str],
    tiny_dataset: TinyDataset,
    front_door: FrontDoor,
    tmp_path: Path,
) -> None:
    uri = mlflow_server if in_a_server else f"sqlite:///{tmp_path}/mlflow.db"
    run_dir = tmp_path / "run"
    words: list[str | Path] = [*tiny_flags, "--datasets", tiny_dataset(), "--run-dir", run_dir, "--epochs", "2"]
    words += ["--answer-samples", "5", "--track", "mlflow,tensorboard", "--mlflow-tracking-uri", uri]
    first, longer = front_door([*words, "--max-steps", "3"]), front_door([*words, "--resume"])
    assert first.exit_code == longer.exit_code == 0, (first, longer)
    assert "warning" not in first.stderr + longer.stderr
    client, _, run = in_mlflow(uri, run_dir)
    assert run.info.status == "FINISHED"
    back = Path(client.download_artifacts(run.info.run_id, "final_model", str(tmp_path)))
    sent = [path for path in (run_dir / "final_model").rglob("*") if path.is_file()]
    assert len(sent) >= 3
    for path in sent:
        assert (back / path.relative_to(run_dir / "final_model")).read_bytes() == path.read_bytes()
    model, ours = load_trained_model(back).model, load_trained_model(run_dir / "final_model.pt").model
    assert same_weights(model, ours)
    client.download_artifacts(run.info.run_id, "logs", str(tmp_path))
    assert scalars(tmp_path, "train/loss") == scalars(run_dir, "train/loss")
    report = json.loads(Path(client.download_artifacts(run.info.run_id, "experiment_report.json")).read_text())
    assert set(report["recitation"]) == {"even", "odd"}, "of the run as it ended"


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
    # A setting that names another store asks for a run of its own there.
    elsewhere = config_of(tmp_path / "other", track="mlflow", mlflow_tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert train(elsewhere) == "finished"
    assert in_mlflow(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "other")[2].info.run_name == "other"


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


# Here and not among the tests of the registries, because a server takes many seconds to start.
def test_models_are_registered_promoted_and_fetched_by_the_same_verbs(
    mlflow_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.chdir(tmp_path)

    def ask(*words: str, code: int = 0) -> str:
        assert models.run(["--registry", "mlflow", *words]) == code
        shown = capsys.readouterr()
        return shown.err if code else shown.out

    first = finished(Path("runs/a"), b"one")
    finished(Path("runs/b"), b"two", settings={"model": {"base_model": str(first / "final_model")}})
    assert ask("register", "digits", "runs/a", "--note", "first").startswith("registered digits:1: 5 files, ")
    assert "holds these very bytes already" in ask("register", "digits", "runs/a")
    assert ask("register", "digits", "runs/b").endswith("parent  digits:1\n")
    assert "gate shut" in ask("alias", "digits", "prod", "1", "--gate", "val_loss < 0.5", code=1)
    assert "gate open" in ask("alias", "digits", "prod", "1", "--gate", "val_loss < 2")
    ask("alias", "digits", "prod", "2")
    assert [line.split()[:2] for line in ask("list").splitlines()[1:]] == [["digits:1", "—"], ["digits:2", "prod"]]
    assert ask("rollback", "digits", "prod") == "digits@prod points to version 1; before, to 2\n"
    assert "final_model/model.safetensors" in ask("diff", "digits:1", "digits:2")

    client = MlflowClient(mlflow_server, mlflow_server)
    client.set_registered_model_alias("digits", "prod", "2")  # by another program
    assert ask("alias", "digits") == "digits@prod  2\n"
    assert ask("rollback", "digits", "prod") == "digits@prod points to version 1; before, to 2\n"
    assert [line.split()[2] for line in ask("alias", "digits", "prod").splitlines()[1:]] == ["1", "2", "1", "2", "1"]

    assert ask("pull", "digits@prod", "--output", "out").startswith("pulled digits:1 to out: 5 files, ")
    assert read_version(Path("out")).note == "first"
    assert sorted(p.name for p in Path("out").iterdir()) == [
        "config.yaml", "experiment_report.json", "final_model", "model_version.json",
    ]  # fmt: skip
    assert ask("verify").count("whole: 5 files") == 2
    run = client.get_model_version("digits", "2").run_id
    (tmp_path / "model.safetensors").write_bytes(b"owt")
    client.log_artifact(run, str(tmp_path / "model.safetensors"), "version/final_model")
    assert models.run(["--registry", "mlflow", "verify", "digits:2"]) == 1
    assert "digits:2  final_model/model.safetensors  damaged" in capsys.readouterr().out
    assert "final_model/model.safetensors is damaged; nothing was written" in ask(
        "pull", "digits:2", "--output", "two", code=1
    )
    assert not Path("two").exists()

    client.create_model_version("digits", f"{client.get_run(run).info.artifact_uri}/version", run)
    for words, said in (
        (["show", "digits:3"], "another program has registered it"),
        (["show", "digits:9"], "digits has no version 9; it has 1, 2, 3"),
        (["show", "digits:1", "--path"], "`pull` writes one"),
        (["alias", "digits", "v1", "1"], "MLflow at http.*: moving digits@v1: "),
        (["--root", "models", "list"], "the registry is MLflow's"),
        (["--mlflow-tracking-uri", "runs", "list"], "MLflow no longer writes to plain directories"),
        (["--mlflow-tracking-uri", "http://127.0.0.1:9", "list"], "MLflow at http://127.0.0.1:9: listing models: "),
    ):
        with pytest.raises(UserError, match=said):
            ask(*words)
