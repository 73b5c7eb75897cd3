"""An Azure ML workspace as MLflow's store: azureml-mlflow against a real MLflow server and real blob storage."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.azure.stand_in.command import variables
from tests.azure.stand_in.exchange import Request
from tests.azure.stand_in.job import Job
from tests.azure.stand_in.stand_in import AzureStandIn
from tests.conftest import FrontDoor, TinyDataset
from tests.support.small_apts import same_weights
from tests.support.tracked_runs import (
    SLOW,
    Curve,
    assert_same,
    config_of,
    recorded,
    scalars,
    train,
    train_in_two_parts,
)
from training.azure.service.mlflow_store import AzureStore, register
from training.backends.prepare import config_class
from training.backends.registry import BACKENDS
from training.checkpoints.finished_model import load_trained_model
from training.errors import ConfigError
from training.tracking.background import Trackers
from training.tracking.choice import check
from training.tracking.figures import flat

pytestmark = SLOW
JOB = "apt-20261121-191500-3f2a"
STORE = AzureStore()
MAX_PARAMS_OF_RUN = 200
"""Azure ML's "Service limits"."""

register()


@pytest.fixture(autouse=True)
def _trackers_have_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of milliseconds waits 15 seconds for its trackers, and a busy machine is slow to start a server."""
    monkeypatch.setattr(Trackers.__init__, "__defaults__", (600.0, None))


@pytest.fixture
def workspace_uri(azure: AzureStandIn) -> str:
    """As `az ml workspace show --query mlflow_tracking_uri` prints it."""
    found = azure.workspace
    return f"azureml://{found.region}.api.azureml.ms/mlflow/v1.0{found.id}"


@pytest.fixture
def in_a_job(azure: AzureStandIn, monkeypatch: pytest.MonkeyPatch) -> Job:
    """This process is a job's: it has the variables that Azure sets, and no login."""
    job = Job(azure.workspace, JOB, {"jobType": "Command", "experimentName": "lines", "displayName": "the job"})
    azure.workspace.jobs[JOB] = job
    for name in ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID"):
        monkeypatch.delenv(name)
    for name, value in variables(job, {}).items():
        monkeypatch.setenv(name, value)
    return job


class Sent:
    """What a run has in the workspace, read back by MLflow's own client."""

    def __init__(self, uri: str, run_id: str) -> None:
        from mlflow.tracking import MlflowClient

        self._uri, self._run_id = uri, run_id
        self._client = MlflowClient(uri, registry_uri=uri)
        self.run: Any = self._client.get_run(run_id)

    def curve(self, metric: str) -> Curve:
        return sorted((m.step, m.value) for m in self._client.get_metric_history(self._run_id, metric))

    def file(self, name: str) -> Path:
        with STORE.sending_files(self._uri):
            return Path(self._client.download_artifacts(self._run_id, name))

    def names(self) -> set[str]:
        with STORE.sending_files(self._uri):
            return {file.path for file in self._client.list_artifacts(self._run_id)}


def sent(run_dir: Path) -> Sent:
    """What `trackers.json` names, with the login of this machine."""
    name = json.loads((run_dir / "trackers.json").read_text())["mlflow"]["run"]
    return Sent(STORE.log_in("azureml"), name)


def write_config_json(stand_in: AzureStandIn, directory: Path) -> None:
    """As Studio's "Download config file" gives it."""
    names = {"subscription_id": "subscription_id", "resource_group": "resource_group_name"}
    names["workspace_name"] = "workspace_name"
    document = {key: stand_in.address[name] for key, name in names.items()}
    (directory / "config.json").write_text(json.dumps(document))


def test_a_run_here_is_told_to_the_workspace_with_its_files_and_without_a_gap(
    azure: AzureStandIn,
    workspace_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_config_json(azure, tmp_path)
    config = config_of(tmp_path / "run", track="mlflow", mlflow_tracking_uri=workspace_uri, mlflow_experiment="lines")
    training, validation = train_in_two_parts(config)
    found = sent(tmp_path / "run")
    assert_same(found.curve("train/loss"), training)
    assert_same(found.curve("eval/loss"), validation)
    assert found.run.data.params["optimizer.learning_rate"] == "0.02"
    assert found.run.data.tags["curve_hash"] == config.curve_hash()
    assert found.run.info.status == "FINISHED"
    # In a workspace a name can be taken once: the second part of the run has a folder of its own.
    assert found.names() == {"experiment_report.json", "training_curve.png", "part_2"}
    assert json.loads(found.file("experiment_report.json").read_text())["state"] == "stopped"
    assert json.loads(found.file("part_2/experiment_report.json").read_text())["state"] == "finished"
    assert found.file("part_2/training_curve.png").read_bytes().startswith(b"\x89PNG")
    told = capsys.readouterr()
    assert "warning" not in told.err
    assert f"track   mlflow: https://ml.azure.com/runs/{found.run.info.run_id}?wsid=/subscriptions/" in told.err
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "run"}, "nothing is written elsewhere"


def test_a_finished_run_s_model_comes_back_from_the_workspace_whole(
    azure: AzureStandIn,
    tiny_flags: list[str],
    tiny_dataset: TinyDataset,
    front_door: FrontDoor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_config_json(azure, tmp_path)
    words: list[str | Path] = [
        *tiny_flags,
        "--datasets",
        tiny_dataset(),
        "--run-dir",
        tmp_path / "run",
        "--epochs",
        "1",
    ]
    done = front_door([*words, "--track", "mlflow,tensorboard", "--mlflow-tracking-uri", "azureml"])
    assert done.exit_code == 0, done
    assert "warning" not in done.stderr
    found = sent(tmp_path / "run")
    assert {"final_model", "logs", "experiment_report.json"} <= found.names()
    back = found.file("final_model")
    ours = load_trained_model(tmp_path / "run" / "final_model.pt").model
    assert same_weights(load_trained_model(back).model, ours)
    assert scalars(found.file("logs").parent, "train/loss") == scalars(tmp_path / "run", "train/loss")


def test_a_job_joins_the_run_that_azure_made_also_after_a_preemption(
    in_a_job: Job,
    azure: AzureStandIn,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # What the user set for runs of their own does not matter here, and nobody is told so.
    config = config_of(tmp_path / "run", track="mlflow", mlflow_tracking_uri="azureml", mlflow_experiment="mine")
    training, validation = train_in_two_parts(config)
    assert "warning" not in capsys.readouterr().err
    found = Sent(f"azureml://eastus.api.azureml.ms/mlflow/v1.0{azure.workspace.id}", JOB)
    assert_same(found.curve("train/loss"), training)
    assert_same(found.curve("eval/loss"), validation)
    assert found.run.info.run_name == "the job"
    assert found.run.info.status == "RUNNING", "its end is Azure's matter"
    calls = mlflow_calls(azure.requests)
    assert not {"runs/create", "runs/update", "experiments/create", "experiments/get-by-name"} & set(calls)
    assert all(len(body.get("metrics", ())) <= 250 for call in calls.values() for body in call)
    assert json.loads(found.file("part_2/experiment_report.json").read_text())["state"] == "finished"


def mlflow_calls(requests: list[Request]) -> dict[str, list[dict[str, Any]]]:
    """What was asked of MLflow: call -> bodies."""
    calls: dict[str, list[dict[str, Any]]] = {}
    for request in requests:
        if "/api/2.0/mlflow/" in request.path:
            calls.setdefault(request.path.partition("/api/2.0/mlflow/")[2], []).append(request.document)
    return calls


def test_a_long_past_is_sent_in_calls_that_the_workspace_takes(
    in_a_job: Job,
    azure: AzureStandIn,
    tmp_path: Path,
) -> None:
    longer = {"run": {"run_dir": tmp_path / "run", "epochs": 20, "batch_size": 4}}
    untracked = config_of(tmp_path / "run")
    untracked = untracked.model_copy(update={"run": untracked.run.model_copy(update=longer["run"])})
    assert train(untracked) == "finished"
    tracked = config_of(tmp_path / "run", track="mlflow").model_copy(update={"run": untracked.run})
    assert train(tracked, resume=True) == "finished"
    found = Sent(f"azureml://eastus.api.azureml.ms/mlflow/v1.0{azure.workspace.id}", JOB)
    assert_same(found.curve("train/loss"), recorded(tmp_path / "run")[0])
    sizes = [len(body.get("metrics", ())) for body in mlflow_calls(azure.requests)["runs/log-batch"]]
    assert sum(sizes) > 1000
    assert max(sizes) <= 250


def test_files_that_the_storage_refuses_cost_one_line_without_their_key(
    azure: AzureStandIn,
    workspace_uri: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_config_json(azure, tmp_path)
    azure.faults.upload_forbidden(times=100)
    assert train(config_of(tmp_path / "run", track="mlflow", mlflow_tracking_uri=workspace_uri)) == "finished"
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert line.startswith("warning: --track mlflow failed and is switched off (")
    assert "sig=" not in line.replace("sig=…", "")
    found = sent(tmp_path / "run")
    assert found.run.info.status == "FINISHED"
    assert_same(found.curve("train/loss"), recorded(tmp_path / "run")[0])


def test_nobody_logged_in_is_one_line_that_says_what_to_run(
    azure: AzureStandIn,
    workspace_uri: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", str(azure.fake_az(logged_in=False)), prepend=":")
    assert train(config_of(tmp_path / "run", track="mlflow", mlflow_tracking_uri=workspace_uri)) == "finished"
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert line.startswith("warning: --track mlflow failed and is switched off (")
    assert "az login" in line


@pytest.mark.parametrize("joins", [False, True])
def test_a_missing_package_is_told_with_the_extra_that_brings_it(
    joins: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    find = importlib.util.find_spec

    def without_azure(name: str) -> Any:
        if name.startswith("azure"):
            raise ModuleNotFoundError(name)
        return None if name in ("sqlalchemy", "alembic") else find(name)  # not needed: the workspace has the database

    uri = "azureml://westeurope.api.azureml.ms/mlflow/v1.0/subscriptions/s/resourceGroups/g/providers/"
    uri += "Microsoft.MachineLearningServices/workspaces/w"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    if joins:
        monkeypatch.setenv("MLFLOW_RUN_ID", JOB)
    monkeypatch.setattr("importlib.util.find_spec", without_azure)
    needed = "azureml.mlflow" if joins else "azureml.mlflow, azure.ai.ml, azure.identity"
    told = rf"--track mlflow into an Azure ML workspace: {needed} is not installed; run: pip install -e '\.\[azure\]'"
    with pytest.raises(ConfigError, match=told):
        check(config_of(tmp_path / "run", track="mlflow"))


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("azureml://westeurope.api.azureml.ms/mlflow/v1.0", "it names no workspace; give what `az ml workspace show"),
        ("azureml", "--mlflow-tracking-uri azureml: .*AZUREML_ARM_SUBSCRIPTION"),
    ],
)
def test_an_address_without_a_workspace_is_refused_before_the_run(
    uri: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AZUREML_ARM_SUBSCRIPTION", "AZUREML_ARM_RESOURCEGROUP", "AZUREML_ARM_WORKSPACE_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=told):
        check(config_of(tmp_path / "run", track="mlflow", mlflow_tracking_uri=uri))


def test_each_part_of_a_run_finds_a_folder_that_is_free() -> None:
    wanted = ("experiment_report.json", "final_model")
    assert STORE.free_folder(["user_logs", "system_logs"], wanted) == ""
    assert STORE.free_folder(["user_logs", "final_model"], wanted) == "part_2"
    assert STORE.free_folder(["experiment_report.json", "part_2", "part_3"], wanted) == "part_4"


@pytest.mark.parametrize("name", BACKENDS.names())
def test_every_backend_s_settings_fit_into_a_run_of_azure(name: str) -> None:
    settings = flat(config_class(BACKENDS.load(name))().to_dict())
    assert len(settings) <= MAX_PARAMS_OF_RUN


def test_the_environment_is_as_it_was_when_a_file_has_been_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for before in (None, "http://server"):
        if before is None:
            monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        else:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", before)
        with pytest.raises(ConnectionError):
            refused_upload()
        assert os.environ.get("MLFLOW_TRACKING_URI") == before


def refused_upload() -> None:
    with STORE.sending_files("azureml://x"):
        assert os.environ["MLFLOW_TRACKING_URI"] == "azureml://x"
        raise ConnectionError
