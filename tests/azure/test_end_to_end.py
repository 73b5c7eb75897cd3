"""A run that is sent to Azure ML, from the first word of the command to a model that is home again.

Azure is played by `tests/azure/stand_in`: the SDK, the login, the blob storage and the MLflow server are real, and the
submitted command is really run, from the uploaded files.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from safetensors.numpy import load_file

from tests.azure.stand_in.world import GROUP, SUBSCRIPTION, WORKSPACE
from tests.conftest import write_tiny_dataset
from tests.support.language_data import tiny_model, topics_file
from tools import azure_jobs
from training.azure.service.job_file import JOB_NAME
from training.checkpoints.branches import checkpoints_after
from training.record.reporter import read_report

if TYPE_CHECKING:
    from tests.azure.stand_in.stand_in import AzureStandIn
    from tests.conftest import FrontDoor, Outcome

pytestmark = pytest.mark.slow

SETTINGS = {
    "d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16, "batch_size": 8, "answer_samples": 0, "device": "cpu",
    "epochs": 30, "save_steps": 4, "save_interval": "none", "validation_split": 0.2, "dropout": 0.1,
}  # fmt: skip
"""Sixty updates of a model that learns nothing much, in a second or two."""

Submit = Callable[..., "Outcome"]


def flags(settings: dict[str, Any]) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("data") / "tiny.json", 20)


@pytest.fixture
def submit(azure: AzureStandIn, front_door: FrontDoor, data: Path, tmp_path: Path) -> Submit:
    """`python train.py --backend azure …` by a user whose workspace has the cluster `cpu`."""
    azure.add_compute("cpu", "Standard_DS3_v2", nodes=2)
    where = ["--azure-subscription-id", SUBSCRIPTION, "--azure-resource-group", GROUP]
    where += ["--azure-workspace-name", WORKSPACE, "--compute-name", "cpu"]

    def call(*words: str | Path, run_dir: Path | None = None, **changed: Any) -> Outcome:
        settings = flags(SETTINGS | changed)
        at: list[str | Path] = ["--datasets", data, "--run-dir", run_dir or tmp_path / "run"]
        return front_door(["--backend", "azure", *where, *settings, *at, *words])

    return call


def story(azure: AzureStandIn, done: Outcome) -> str:
    """What a failed test should show."""
    logs = [f"--- {name}: {job.status}\n{azure.log(name)}" for name, job in azure.workspace.jobs.items()]
    return "\n".join([done.stdout, done.stderr, *logs])


def weights(run_dir: Path) -> dict[str, bytes]:
    return {name: tensor.tobytes() for name, tensor in load_file(run_dir / "final_model" / "model.safetensors").items()}


def curve(run_dir: Path) -> dict[str, Any]:
    report = read_report(run_dir)
    assert report is not None
    return {"step": report["curve"]["step"], "loss": report["curve"]["loss"]}


def train_here(front_door: FrontDoor, data: Path, run_dir: Path, **changed: Any) -> Path:
    """Train on this machine with the same settings."""
    done = front_door([*flags(SETTINGS | changed), "--datasets", data, "--run-dir", run_dir])
    assert done.exit_code == 0, done.stderr
    return run_dir


AtHome = Callable[..., Path]


@pytest.fixture(scope="module")
def at_home(front_door: FrontDoor, data: Path, tmp_path_factory: pytest.TempPathFactory) -> AtHome:
    """`at_home(epochs=4)`: the run directory of the same run on this machine, trained once for all tests."""
    trained: dict[str, Path] = {}

    def call(**changed: Any) -> Path:
        key = json.dumps(changed, sort_keys=True)
        if key not in trained:
            trained[key] = train_here(front_door, data, tmp_path_factory.mktemp("here") / "run", **changed)
        return trained[key]

    return call


def assert_mlflow_has(azure: AzureStandIn, expected: dict[str, Any]) -> None:
    """The MLflow run that Azure made for the newest job has each point once, and ended as the job did."""
    assert azure.tracking.history(azure.job(), "train/loss") == pytest.approx(expected["loss"], rel=1e-12)
    run = azure.tracking.data(azure.job())
    assert run["info"]["status"] == "FINISHED"
    params = {param["key"]: param["value"] for param in run["data"]["params"]}
    assert params["model.d_model"] == str(SETTINGS["d_model"])


def test_one_word_moves_the_run_to_azure_and_the_model_comes_home(
    azure: AzureStandIn, submit: Submit, at_home: AtHome, tmp_path: Path
) -> None:
    done = submit()
    assert done.exit_code == 0, story(azure, done)
    lines = done.stdout.splitlines()
    studio = next(n for n, line in enumerate(lines) if "https://ml.azure.com/" in line)
    assert any("Running" in line for line in lines[studio:]), "the address comes before the waiting"
    assert f"job {azure.job().name}: completed" in lines

    here = at_home()
    assert weights(tmp_path / "run") == weights(here), "the same model, bit for bit"
    assert curve(tmp_path / "run") == curve(here), "and the same curve"
    assert_mlflow_has(azure, curve(here))
    sent = azure.blobs(f"{azure.job().artifacts}/final_model/", "workspaceartifactstore")
    model = tmp_path / "run" / "final_model"
    assert {name.rpartition("/final_model/")[2]: content for name, content in sent.items()} == {
        file.relative_to(model).as_posix(): file.read_bytes() for file in model.rglob("*") if file.is_file()
    }
    inside = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert inside["backend"] == "playground"
    assert "azure" not in inside
    assert json.loads((tmp_path / "run" / JOB_NAME).read_text())["job"] == azure.job().name


def test_an_adapter_is_trained_there_on_a_model_of_this_machine(
    azure: AzureStandIn, front_door: FrontDoor, tmp_path: Path
) -> None:
    azure.add_compute("cpu", "Standard_DS3_v2", nodes=2)
    where = ["--azure-subscription-id", SUBSCRIPTION, "--azure-resource-group", GROUP]
    where += ["--azure-workspace-name", WORKSPACE, "--compute-name", "cpu"]
    words: list[str | Path] = ["--task", "text", "--datasets", topics_file(), "--model", tiny_model(), "--lora"]
    words += ["--merge", "--max-steps", "3", "--max-seq-len", "64", "--answer-samples", "0", "--device", "cpu"]
    done = front_door(["--backend", "azure", *where, *words, "--run-dir", tmp_path / "run"])
    assert done.exit_code == 0, story(azure, done)
    inside = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert inside["model"]["base_model"] == f"job/model/{tiny_model().name}"
    here = front_door([*words, "--run-dir", tmp_path / "here"])
    assert here.exit_code == 0, here.stderr
    names = [path.relative_to(tmp_path / "here") for path in (tmp_path / "here" / "final_model").rglob("*.safetensors")]
    assert len(names) == 2, "the adapter, and the merged model"
    for name in names:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


STAYS_AT_STEP_50 = """\
import os, sys, time

def stay(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith("checkpoint_step_50"):
        while not os.path.exists({gate!r}):
            time.sleep(0.02)

sys.addaudithook(stay)
"""
"""What Python runs at its start: the process stays where a checkpoint is about to get its name."""


def test_a_job_that_is_preempted_ends_with_the_weights_of_one_that_was_not(
    azure: AzureStandIn,
    submit: Submit,
    at_home: AtHome,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its machine is taken away, and all that was on its disk. What is in the datastore is enough."""
    gate = tmp_path / "gate"
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "sitecustomize.py").write_text(STAYS_AT_STEP_50.format(gate=str(gate)))
    monkeypatch.setitem(azure.machine.surroundings, "PYTHONPATH", str(tmp_path / "start"))
    assert submit("--detach", save_steps=10).exit_code == 0
    name = azure.job().name
    azure.wait(lambda: any("checkpoint_step_50" in blob for blob in azure.names(f"apt-runs/{name}/")), 60, "step 50")
    azure.preempt(name)
    gate.touch()
    azure.wait_for_end(name, 90)
    assert (azure.job(name).status, azure.job(name).starts) == ("Completed", 2), azure.log(name)
    assert "resumed from" in azure.log(name)
    assert "checkpoint_step_40" in azure.log(name)

    assert azure_jobs.run(["stream", "--run-dir", str(tmp_path / "run")]) == 0
    here = at_home()
    assert weights(tmp_path / "run") == weights(here)
    assert curve(tmp_path / "run") == curve(here), "no point is missing, none is there twice"
    assert_mlflow_has(azure, curve(here))


def test_a_run_that_began_here_goes_on_in_azure_and_comes_back(
    azure: AzureStandIn, submit: Submit, front_door: FrontDoor, at_home: AtHome, data: Path, tmp_path: Path
) -> None:
    whole = at_home()
    run = train_here(front_door, data, tmp_path / "run", max_steps=18)
    assert not (run / JOB_NAME).exists()
    sent = submit("--resume", "checkpoint_step_16", "--max-steps", "none")  # the run's settings come with its name
    assert sent.exit_code == 0, story(azure, sent)
    assert "resumed from" in azure.log()
    assert weights(run) == weights(whole)
    assert curve(run) == curve(whole), "the record went along and came back"
    assert not checkpoints_after(run, 16), "the branch that the job left is set aside"
    assert checkpoints_after(run / "abandoned_at_step_16", 16)

    submit_again = submit("--resume", epochs=40)
    assert submit_again.exit_code == 0, story(azure, submit_again)
    first, second = sorted(azure.workspace.jobs)
    assert azure.job(second).asked["outputs"]["run"]["uri"] == azure.job(first).asked["outputs"]["run"]["uri"]
    longer = at_home(epochs=40)
    assert weights(run) == weights(longer), "another job, the same run"


def test_another_jobs_run_goes_on_by_its_name_alone(
    azure: AzureStandIn,
    submit: Submit,
    front_door: FrontDoor,
    at_home: AtHome,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its settings come from its own config file, so that a colleague needs none of the first command's flags."""
    assert submit("--download", "none", max_steps=20).exit_code == 0
    name = azure.job().name
    where = ["--azure-subscription-id", SUBSCRIPTION, "--azure-resource-group", GROUP]
    where += ["--azure-workspace-name", WORKSPACE, "--compute-name", "cpu"]
    monkeypatch.chdir(data.parent)  # where the data file of that name is
    azure.forget()
    done = front_door(
        ["--backend", "azure", *where, "--resume", name, "--max-steps", "60", "--run-dir", tmp_path / "b"]
    )
    assert done.exit_code == 0, story(azure, done)
    here = at_home()
    assert weights(tmp_path / "b") == weights(here)
    asked = [request.path for request in azure.requests if request.host == "management.azure.com"]
    assert [path.endswith(f"/workspaces/{WORKSPACE}") for path in asked].count(True) == 1, "one connection"
    assert [path.endswith(f"/jobs/{name}") for path in asked].count(True) == 1, "one look at the job"


@pytest.mark.parametrize(("inner", "nodes"), [("playground", 2), ("huggingface", 1), ("deepspeed", 1)])
def test_two_ranks_that_azure_starts_follow_the_curve_of_one(
    inner: str, nodes: int, azure: AzureStandIn, submit: Submit, at_home: AtHome, tmp_path: Path
) -> None:
    """On one machine and on two; the curves of all backends' own launchers are compared elsewhere."""
    ranks = {"num_processes": 2 // nodes, "nnodes": nodes, "dropout": 0.0, "epochs": 4}
    done = submit("--inner-backend", inner, **ranks)
    assert done.exit_code == 0, story(azure, done)
    assert azure.job().asked["distribution"]["processCountPerInstance"] == 2 // nodes
    assert azure.job().asked["resources"]["instanceCount"] == nodes
    report = read_report(tmp_path / "run")
    assert report is not None
    assert (report["backend"], report["world_size"]) == (inner, 2)
    here = at_home(dropout=0.0, epochs=4)
    assert curve(tmp_path / "run")["loss"] == pytest.approx(curve(here)["loss"], rel=1e-5)


def test_a_job_that_fails_ends_with_its_own_exit_code_and_its_last_words(
    azure: AzureStandIn, submit: Submit, tmp_path: Path
) -> None:
    """Weight decay at the highest learning rate makes the weights 99 times as large with every update, until nothing is
    finite any more: what the job says is said here.
    """
    done = submit(learning_rate=100.0, weight_decay=1.0, max_skipped_updates=2, max_grad_norm="none")
    assert azure.job().status == "Failed"
    assert done.exit_code == azure.job().exit_code != 0
    assert "not finite" in done.stdout + done.stderr
    assert not (tmp_path / "run" / "final_model").exists()


def test_nothing_is_lost_or_uploaded_where_the_preflight_refuses(
    azure: AzureStandIn,
    submit: Submit,
    finished_run: Path,
    tree: Callable[[], dict[str, bytes | None]],
    data: Path,
) -> None:
    before = tree()
    azure.workspace.computes.clear()
    refusal = submit("--overwrite", run_dir=finished_run)
    assert refusal.exit_code == 2
    assert refusal.stderr.count("\n") == 1
    assert "--compute-name cpu: the workspace has no such cluster" in refusal.stderr
    assert azure.uploads() == []
    assert tree() == before


def test_a_name_that_is_neither_here_nor_there_is_said_to_be_neither(azure: AzureStandIn, submit: Submit) -> None:
    refusal = submit("--resume", "apt-nobody")
    assert refusal.exit_code == 2
    assert (
        "--resume apt-nobody: there is no such checkpoint or run here, and no such job in the workspace"
        in refusal.stderr
    )
    assert "tools/azure_jobs.py list" in refusal.stderr


def test_a_sweep_really_tries_its_settings_and_brings_the_best_trial_home(
    azure: AzureStandIn, submit: Submit, tmp_path: Path
) -> None:
    # More settings, and all their combinations: test_job_document.py and test_stand_in.py, with smaller jobs.
    search = ["--sweep", "--search", "learning_rate=1e-5,3e-2", "--sampling", "grid"]
    done = submit(*search, "--max-trials", "2", "--max-concurrent-trials", "2", epochs=6)
    assert done.exit_code == 0, story(azure, done)
    trials = [job for job in azure.workspace.jobs.values() if job.parent is not None]
    assert sorted(trial.values["learning_rate"] for trial in trials) == [1e-5, 3e-2]
    (best,) = (tmp_path / "run").glob("*/config.yaml")
    assert yaml.safe_load(best.read_text(encoding="utf-8"))["optimizer"]["learning_rate"] == 3e-2
    assert (best.parent / "final_model" / "model.safetensors").is_file()
