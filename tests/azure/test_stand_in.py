"""The stand-in of Azure ML is what the real SDK takes it for: it logs in, uploads, runs, streams, and fails."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.azure.stand_in.early_termination import doomed
from tests.azure.stand_in.faults import Cut
from tests.azure.stand_in.search_space import Space, samples
from tests.azure.stand_in.small_jobs import Submit, client_of
from tests.azure.stand_in.stand_in import AzureStandIn
from tests.support.meanwhile import Meanwhile

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # what the SDK and MLflow say to their authors
]
LOG_A_METRIC = """
import json, os, sys, urllib.request
base = os.environ["MLFLOW_TRACKING_URI"].replace("azureml://", "https://").split("?")[0]
def log(name, value, step):
    body = {"run_id": os.environ["MLFLOW_RUN_ID"], "key": name, "value": value, "step": step, "timestamp": step}
    asked = urllib.request.Request(base + "/api/2.0/mlflow/runs/log-metric", json.dumps(body).encode())
    asked.add_header("Authorization", "Bearer " + os.environ["AZUREML_RUN_TOKEN"])
    asked.add_header("Content-Type", "application/json")
    urllib.request.urlopen(asked).read()
"""


@pytest.fixture
def client(azure: AzureStandIn) -> Any:
    """The real SDK, logged in by a client's secret; the cluster `cpu` is there."""
    return client_of(azure)


@pytest.fixture
def submit(client: Any, tmp_path: Path) -> Submit:
    return Submit(client, tmp_path)


def test_a_job_is_uploaded_run_streamed_and_downloaded(
    azure: AzureStandIn, client: Any, submit: Submit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = """
import pathlib, sys, mlflow
out = pathlib.Path(sys.argv[1])
(out / "deep").mkdir()
(out / "deep" / "model.txt").write_text("weights")
with mlflow.start_run() as run:
    mlflow.log_param("lr", 0.5)
    for step in range(3):
        mlflow.log_metric("train/loss", 3.0 - step, step=step)
    mlflow.log_artifact("program.py", "code")
print("said", run.info.run_id)
"""
    azure.machine.open.clear()
    made = submit(program, name="first")
    assert (made.name, made.studio_url.partition("?")[0]) == ("first", "https://ml.azure.com/runs/first")
    assert azure.uploads()
    with Meanwhile(partial(azure.start_when_streamed, "first")):
        client.jobs.stream("first")
    said = capsys.readouterr().out
    assert "said first" in said
    job = azure.wait_for_end("first")
    assert job.statuses == ["NotStarted", "Queued", "Preparing", "Running", "Finalizing", "Completed"]
    assert client.jobs.get("first").status == "Completed"
    assert azure.blobs("apt-runs/first/") == {"apt-runs/first/deep/model.txt": b"weights"}
    assert azure.tracking.history(job, "train/loss") == [3.0, 2.0, 1.0]
    run = azure.tracking.data(job)
    assert run["info"]["status"] == "FINISHED"
    assert {p["key"]: p["value"] for p in run["data"]["params"]} == {"lr": "0.5"}

    client.jobs.download("first", download_path=tmp_path / "got", all=True)
    assert (tmp_path / "got/named-outputs/run/deep/model.txt").read_text() == "weights"
    assert "said first" in (tmp_path / "got/artifacts/user_logs/std_log.txt").read_text()
    assert (tmp_path / "got/artifacts/code/program.py").read_text() == program

    azure.forget()
    submit(program, name="again")
    assert azure.uploads() == []  # the same snapshot is found by its hash
    client.jobs.begin_cancel("again").result()
    assert [job.name for job in client.jobs.list()] == ["again", "first"]


def test_a_laptop_finds_the_workspaces_runs_by_mlflow(azure: AzureStandIn, client: Any, tmp_path: Path) -> None:
    import mlflow
    from mlflow import MlflowClient

    environment = azure.make_run("lines", "job-1")
    assert environment["MLFLOW_RUN_ID"] == "job-1"
    mlflow.set_tracking_uri(client.workspaces.get().mlflow_tracking_uri)
    found = MlflowClient()
    assert found.get_experiment_by_name("lines") is None
    found.log_metric("job-1", "train/loss", 2.0)
    (tmp_path / "report.json").write_text("{}")
    found.log_artifact("job-1", str(tmp_path / "report.json"))
    experiment = found.get_experiment_by_name("lines")
    assert experiment is not None
    (run,) = found.search_runs([experiment.experiment_id])
    assert (run.info.run_id, run.data.metrics) == ("job-1", {"train/loss": 2.0})
    assert [file.path for file in found.list_artifacts("job-1")] == ["report.json"]
    assert azure.names("", "workspaceartifactstore") == ["ExperimentRun/dcid.job-1/report.json"]
    with pytest.raises(Exception, match="already exists"):
        found.log_artifact("job-1", str(tmp_path / "report.json"))
    mlflow.set_tracking_uri(None)


def test_a_preempted_job_begins_again_with_its_output_and_nothing_else(azure: AzureStandIn, submit: Submit) -> None:
    program = """
import pathlib, sys, time
out, own = pathlib.Path(sys.argv[1]), pathlib.Path("outputs")
print("starts with", sorted(p.name for p in out.iterdir()), own.exists() and list(own.iterdir()), flush=True)
if (out / "checkpoint").exists():
    (out / "checkpoint").rename(out / "final")
    sys.exit()
own.mkdir(exist_ok=True)
(own / "lost").write_text("")
(out / "checkpoint").write_text("1")
time.sleep(60)
"""
    submit(program, name="spot")
    azure.wait(lambda: azure.names("apt-runs/spot/"), what="a checkpoint")
    azure.preempt("spot")
    job = azure.wait_for_end("spot")
    assert job.starts == 2
    assert job.statuses == [
        *("NotStarted", "Queued", "Preparing", "Running"),
        *("Queued", "Preparing", "Running", "Finalizing", "Completed"),
    ]
    assert azure.names("apt-runs/spot/") == ["apt-runs/spot/final"]
    assert azure.log("spot").splitlines() == ["starts with [] []", "starts with ['checkpoint'] []"]


def test_a_cancelled_job_may_tidy_up_and_leaves_no_process(azure: AzureStandIn, client: Any, submit: Submit) -> None:
    program = """
import os, pathlib, signal, subprocess, sys, time
out = pathlib.Path(sys.argv[1])
child = subprocess.Popen(["sleep", "60"])
def end(*_):
    (out / "tidied").write_text("")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
(out / "pids").write_text(f"{os.getpid()} {child.pid}")
time.sleep(60)
"""
    submit(program, name="long")
    azure.wait(lambda: azure.names("apt-runs/long/"), what="the start")
    client.jobs.begin_cancel("long").result()
    assert client.jobs.get("long").status == "Canceled"
    azure.wait_for_end("long")
    found = azure.blobs("apt-runs/long/")
    assert "apt-runs/long/tidied" in found
    for pid in found["apt-runs/long/pids"].split():
        azure.wait(partial(has_ended, int(pid)), 5, "the end of the processes")


def has_ended(pid: int) -> bool:
    """It is gone, or a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_each_rank_of_each_node_is_told_who_it_is(azure: AzureStandIn, submit: Submit) -> None:
    program = """
import json, os, pathlib, sys
names = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "AZUREML_RUN_ID")
out = pathlib.Path(sys.argv[1]) / os.environ["RANK"]
out.write_text(json.dumps([os.environ[name] for name in names]))
"""
    submit(
        program,
        name="four",
        distribution={"type": "pytorch", "process_count_per_instance": 2},
        resources={"instance_count": 2},
    )
    assert azure.wait_for_end("four").status == "Completed"
    ranks = [json.loads(text) for _, text in sorted(azure.blobs("apt-runs/four/").items())]
    assert [rank[:3] for rank in ranks] == [["0", "0", "0"], ["1", "1", "0"], ["2", "0", "1"], ["3", "1", "1"]]
    assert {tuple(rank[3:]) for rank in ranks} == {("4", "127.0.0.1", "four")}


def test_a_sweep_runs_real_trials_and_names_the_best(
    azure: AzureStandIn, client: Any, submit: Submit, tmp_path: Path
) -> None:
    program = LOG_A_METRIC + (
        "import pathlib\nlog('train/loss', float(sys.argv[2]) * 2, 1)\n"
        "pathlib.Path(sys.argv[1], 'lr').write_text(sys.argv[2] + ' ' + os.environ['AZUREML_SWEEP_lr'])\n"
    )
    submit(
        program,
        "${{outputs.run}} ${{search_space.lr}}",
        name="search",
        search_space={"lr": {"type": "choice", "values": [0.3, 0.1, 0.2]}},
        sampling_algorithm="grid",
        objective={"goal": "minimize", "primary_metric": "train/loss"},
        limits={"max_total_trials": 3, "max_concurrent_trials": 2},
    )
    azure.wait_for_end("search")
    sweep = client.jobs.get("search")
    assert sweep.status == "Completed"
    assert sweep.properties["best_child_run_id"] == "search_1"
    trials = {
        trial.name: json.loads(trial.tags["hyperparameters"]) for trial in client.jobs.list(parent_job_name="search")
    }
    assert trials == {"search_0": {"lr": 0.3}, "search_1": {"lr": 0.1}, "search_2": {"lr": 0.2}}
    assert client.jobs.get("search_1").outputs["run"].path.endswith("apt-runs/search_1/")
    assert azure.blobs("apt-runs/search_1/") == {"apt-runs/search_1/lr": b"0.1 0.1"}
    client.jobs.download("search", download_path=tmp_path / "got", output_name="run")
    assert (tmp_path / "got/named-outputs/run/lr").read_text() == "0.1 0.1"


def test_a_sweep_ends_trials_that_do_badly(azure: AzureStandIn, submit: Submit) -> None:
    program = LOG_A_METRIC + (
        "import time\nlog('train/loss', float(sys.argv[1]), 1)\ntime.sleep(60 if float(sys.argv[1]) > 2 else 1)\n"
    )
    submit(
        program,
        "${{search_space.lr}}",
        name="search",
        search_space={"lr": {"type": "choice", "values": [1, 9]}},
        sampling_algorithm="grid",
        objective={"goal": "minimize", "primary_metric": "train/loss"},
        limits={"max_total_trials": 2, "max_concurrent_trials": 2},
        early_termination={"type": "bandit", "slack_factor": 0.1, "evaluation_interval": 1},
    )
    sweep = azure.wait_for_end("search")
    assert [trial.status for trial in sweep.children] == ["Completed", "Canceled"]
    assert sweep.status == "Completed"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"policyType": "Bandit", "slackFactor": 0.5}, ["c"]),
        ({"policyType": "Bandit", "slackAmount": 0.1}, ["b", "c"]),
        ({"policyType": "MedianStopping"}, ["c"]),
        ({"policyType": "TruncationSelection", "truncationPercentage": 70}, ["b", "c"]),
        ({"policyType": "Bandit", "slackAmount": 0.1, "delayEvaluation": 3}, []),
        ({"policyType": "Bandit", "slackAmount": 0.1, "evaluationInterval": 3}, []),
    ],
)
def test_policies_end_those_that_azure_would_end(policy: dict[str, Any], expected: list[str]) -> None:
    histories = {"a": [1.0, 1.0], "b": [1.4, 1.3], "c": [2.0, 3.0], "d": []}
    assert sorted(doomed(policy, "minimize", list("abcd"), histories)) == expected
    negative = {name: [-value for value in values] for name, values in histories.items()}
    assert sorted(doomed(policy, "Maximize", list("abcd"), negative)) == expected


def test_samples_lie_in_their_ranges_and_repeat_with_a_seed() -> None:
    pairs: Space = {"one": ["choice", [[1, 2]]], "other": ["choice", [["a", "b"]]]}
    tried = [(values["one"], values["other"]) for values in samples(pairs, {"samplingAlgorithmType": "Grid"}, 9)]
    assert sorted(tried) == [(1, "a"), (1, "b"), (2, "a"), (2, "b")], "a grid tries each pair once"
    space: Space = {
        "choice": ["choice", [["a", "b"]]],
        "uniform": ["uniform", [1.0, 2.0]],
        "loguniform": ["loguniform", [-9.0, -7.0]],
        "steps": ["quniform", [0, 100, 10]],
        "whole": ["randint", [5]],
    }
    first, second = (list(samples(space, {"samplingAlgorithmType": "Random", "seed": 7}, 50)) for _ in range(2))
    assert first == second
    for values in first:
        assert values["choice"] in ("a", "b")
        assert 1 <= values["uniform"] <= 2
        assert 1e-4 < values["loguniform"] < 1e-3
        assert values["steps"] % 10 == 0
        assert values["whole"] in range(5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resources": {"instance_count": 3}}, "at most 2"),
        ({"compute": "azureml:none"}, "does not exist"),
        ({"compute": "azureml:serverless", "resources": {"instance_type": "Standard_NC6s_v3"}}, "not supported"),
        ({"environment": "azureml:none:1"}, "environments/none/versions/1"),
        ({"environment": "azureml://registries/azureml/environments/none/labels/latest"}, "none does not exist"),
    ],
)
def test_what_the_service_would_refuse_is_refused(submit: Submit, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        submit("", name="refused", **changes)


def test_a_job_that_is_sent_twice_is_one_job_unless_it_differs(azure: AzureStandIn, submit: Submit) -> None:
    from azure.core.exceptions import HttpResponseError

    azure.machine.open.clear()
    azure.faults.add(Cut.AFTER_THE_WORK, "/jobs/once", method="PUT")
    submit("print(1)", name="once")  # the SDK sends it again after the answer was lost
    assert [job.status for job in azure.workspace.jobs.values()] == ["Queued"]
    with pytest.raises(HttpResponseError, match="A job with this name already exists"):
        submit("print(1)", "other", name="once")
    azure.machine.open.set()
    assert azure.wait_for_end("once").starts == 1
