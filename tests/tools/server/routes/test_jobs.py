"""Jobs over HTTP: started from settings, configs and data sets, stopped, resumed, moved and deleted, or refused."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_tiny_dataset
from tests.support.running_server import Answer, RunningServer, serving
from tests.support.schedulers import PROGRAM, starts
from training.experiments.jobs.files import JobFiles
from training.experiments.jobs.job_queue import Job
from training.experiments.jobs.states import ENDED
from training.experiments.store.identity import run_id_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="the processes are POSIX's")]
JOBS, START = "/api/training/jobs", "/api/training/jobs/start"
SMALL = {"d_model": 16, "num_heads": 2, "epochs": 2}
NONE = "0" * 12


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with one slot; its jobs run a program of milliseconds in the place of the front door."""
    folder = tmp_path_factory.mktemp("served")
    write_tiny_dataset(folder / "data" / "tiny.json")
    with serving(folder / "runs", data=(folder / "data",)) as running:
        running.state.queue._program = PROGRAM
        yield running
        stop_all(running)


@pytest.fixture
def server(served: RunningServer) -> Iterator[RunningServer]:
    yield served
    stop_all(served)


def stop_all(server: RunningServer) -> None:
    for job in server.state.queue.jobs():
        if job.state not in ENDED:
            server.state.queue.stop(job.id, at_once=True)
            until(server, job.id, *ENDED)


def started(server: RunningServer, **fields: Any) -> dict[str, Any]:
    answer = server.post(START, {"settings": SMALL, "dataset": "tiny.json"} | fields)
    assert answer.status == 202, answer.text
    found: dict[str, Any] = answer.json
    return found


def job_of(server: RunningServer, job_id: str) -> Job:
    found = server.state.queue.job(job_id)
    assert found is not None
    return found


def until(server: RunningServer, job_id: str, *states: str) -> Job:
    end = time.monotonic() + 300
    while (job := job_of(server, job_id)).state not in states:
        assert time.monotonic() < end, job
        time.sleep(0.01)
    return job


def problem(answer: Answer, status: int) -> str:
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    return str(answer.json["detail"])


def test_a_job_is_started_from_settings_and_runs_with_them(server: RunningServer) -> None:
    answer = server.post(START, {"name": "My run", "settings": SMALL, "dataset": "tiny.json", "priority": 3})
    assert (answer.status, answer.json["name"]) == (202, "My-run")
    assert answer.json["status"] in ("queued", "starting")
    job_id = answer.json["job_id"]
    assert job_id == run_id_of(server.state.root, server.state.root / "My-run")
    assert answer.headers["location"] == f"{JOBS}/{job_id}"
    job = until(server, job_id, "running")
    queued = started(server, name="waits")["job_id"]
    assert server.get("/api/machine").json["queue"] == {"slots": 1, "used": 1, "queued": 1}
    assert server.ask("DELETE", f"{JOBS}/{queued}?files=true").json["status"] == "deleted"
    start = JobFiles(server.state.directory / "jobs" / job_id).attempt(1).start()
    assert start is not None
    words = list(start.words)
    assert words[:6] == ["--backend", "playground", "--task", "hlbd", "--model", "apt"]
    assert words[words.index("--run-dir") + 1] == str(server.state.root / "My-run")
    path = Path(words[words.index("--config") + 1])
    data = server.state.data_directories[0] / "tiny.json"
    assert path.read_text().splitlines() == [
        "model.d_model: 16", "model.num_heads: 2", "run.epochs: 2", "data.datasets:", f"- {data}"
    ]  # fmt: skip
    assert (job.priority, job.request.slots) == (3, 1)


def test_the_command_line_of_a_job_is_one_that_the_front_door_takes(server: RunningServer) -> None:
    from training.train import main

    job_id = started(server, name="words")["job_id"]
    until(server, job_id, "running")
    start = JobFiles(server.state.directory / "jobs" / job_id).attempt(1).start()
    assert start is not None
    other = str(server.state.root / "another")
    words = [other if word.endswith("/words") else word for word in start.words]
    assert main([*words, "--dry-run"]) == 0


def test_a_stored_config_is_started_by_its_id_with_parts_of_it_replaced(server: RunningServer) -> None:
    config = server.post(
        "/api/training/configs", {"name": "stored", "settings": {**SMALL, "datasets": ["tiny.json"]}, "task": "hlbd"}
    ).json
    found = server.post(START, {"config_id": config["id"]}).json
    assert found["name"] == "stored"
    again = server.post(START, {"config_id": config["id"], "name": "again"}).json
    assert job_of(server, again["job_id"]).request.settings == (job_of(server, found["job_id"]).request.settings)
    other = server.post(START, {"config_id": config["id"], "dataset": "no such.json"})
    assert "'no such.json'" in problem(other, 422), "it takes the place of the config's own"
    both = server.post(START, {"config_id": config["id"], "settings": SMALL})
    assert problem(both, 422) == "settings and a config are given; give one of them"
    assert "no config has the id" in problem(server.post(START, {"config_id": NONE}), 404)


def test_a_run_of_several_processes_takes_as_many_slots(server: RunningServer) -> None:
    job = started(server, settings={**SMALL, "num_processes": 3})
    assert job_of(server, job["job_id"]).request.slots == 3


def test_the_same_key_is_the_same_job(server: RunningServer) -> None:
    headers = {"Idempotency-Key": "a key"}
    body = {"settings": SMALL, "dataset": "tiny.json", "name": "once"}
    first, again = (server.post(START, body, headers=headers) for _ in range(2))
    assert (first.status, again.status) == (202, 202)
    assert first.json["job_id"] == again.json["job_id"]
    other = server.post(START, {**body, "settings": {**SMALL, "epochs": 5}}, headers=headers)
    assert "idempotency key 'a key' was used for another request" in problem(other, 422)
    assert other.json["key"] == "Idempotency-Key"
    assert server.post(START, body, headers={"Idempotency-Key": "k" * 201}).status == 422


def test_a_job_is_stopped_resumed_and_deleted(server: RunningServer) -> None:
    job_id = started(server, name="life")["job_id"]
    until(server, job_id, "running")
    assert "is at work; stop it first" in problem(server.ask("DELETE", f"{JOBS}/{job_id}"), 409)
    assert "it is running" in problem(server.post(f"{JOBS}/{job_id}/resume"), 409)
    answer = server.post(f"{JOBS}/{job_id}/stop")
    assert (answer.status, answer.json["status"] in ("stopping", "stopped")) == (202, True)
    until(server, job_id, "stopped")
    assert "has ended already" in problem(server.post(f"{JOBS}/{job_id}/stop", {"at_once": True}), 409)
    assert server.post(f"{JOBS}/{job_id}/resume").json["status"] in ("queued", "starting")
    job = until(server, job_id, "running")
    assert [resumes for _, _, resumes in starts(job.run_dir)] == [False, True]
    server.post(f"{JOBS}/{job_id}/stop", {"at_once": True})
    until(server, job_id, "stopped")
    (job.run_dir / "starts").unlink()
    answer = server.ask("DELETE", f"{JOBS}/{job_id}?files=true")
    assert (answer.status, answer.json) == (200, {"job_id": job_id, "status": "deleted"})
    assert not job.run_dir.exists()
    assert problem(server.ask("DELETE", f"{JOBS}/{job_id}"), 404)


def test_a_job_goes_on_from_a_chosen_checkpoint(server: RunningServer) -> None:
    job_id = started(server, name="chosen")["job_id"]
    job = until(server, job_id, "running")
    (job.run_dir / "end").write_text("0")
    until(server, job_id, "finished")
    (job.run_dir / "end").unlink()
    (job.run_dir / "checkpoint_step_2").mkdir()
    (job.run_dir / "final_model").mkdir()
    resume = f"{JOBS}/{job_id}/resume"
    assert "it has finished" in problem(server.post(resume), 409)
    assert "is a finished model, which holds no state" in problem(
        server.post(resume, {"checkpoint": "final_model"}), 422
    )
    for name in ("checkpoint_step_9", f"{NONE}-checkpoint_step_1", "../chosen/checkpoint_step_1", "", ".lock"):
        assert "the run has no checkpoint" in problem(server.post(resume, {"checkpoint": name}), 404)
    answer = server.post(resume, {"checkpoint": name})
    assert answer.json["detail_zh"].startswith(f"该训练没有检查点 '{name}'")
    assert problem(server.post(resume, {"checkpoint": 1}), 422)
    ids = [one["id"] for one in server.get(f"{JOBS}/{job_id}/checkpoints").json["checkpoints"]]
    assert server.post(resume, {"checkpoint": ids[-1]}).status == 202
    until(server, job_id, "running")
    assert (job.run_dir / "resumed_from").read_text() == "checkpoint_step_1"


def test_a_job_that_waits_can_be_moved(server: RunningServer) -> None:
    first = started(server)
    until(server, first["job_id"], "running")
    second, third = started(server), started(server)
    assert (second["position"], third["position"]) == (1, 2)
    assert server.post(f"{JOBS}/{third['job_id']}/priority", {"priority": 7}).json["position"] == 1
    assert server.state.queue.position(second["job_id"]) == 2


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"settings": {"learning_rte": 1}}, "learning_rte"),
        ({"settings": {"epochs": "many"}}, "epochs"),
        ({"settings": {"datasets": ["/etc/passwd"]}, "dataset": None}, "no data set has the id or name"),
        ({"dataset": "../../etc/passwd"}, "no data set has the id or name"),
        ({"settings": {"run_dir": "/tmp/x"}}, "the server names the directory"),
        ({"backend": "package.module:Class"}, "package.module:Class"),
        ({"name": "checkpoint_best"}, "a run cannot be called so"),
        ({"name": "a\nb"}, "should have no line ends"),
        ({"name": "x" * 81}, "at most 80 characters"),
        ({"priority": 1001}, "priority"),
        ({"argv": ["--resume", "/"]}, "extra inputs"),
    ],
)
def test_what_cannot_be_started_is_refused_and_leaves_nothing(
    server: RunningServer, body: dict[str, Any], part: str
) -> None:
    before = {job.id for job in server.state.queue.jobs()}
    assert part in problem(server.post(START, {"dataset": "tiny.json"} | body), 422)
    assert {job.id for job in server.state.queue.jobs()} == before


@pytest.mark.parametrize("job_id", [NONE, "..", "x" * 12, "%2e%2e%2fetc"])
@pytest.mark.parametrize("act", ["stop", "resume", "priority"])
def test_an_id_that_nothing_has_is_not_found(server: RunningServer, job_id: str, act: str) -> None:
    answer = server.post(f"{JOBS}/{job_id}/{act}", {"priority": 1} if act == "priority" else None)
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_run_of_a_terminal_is_stopped_resumed_and_deleted_like_a_job(server: RunningServer) -> None:
    run_dir = server.state.root / "folder" / "by hand"
    command = [sys.executable, "-P", str(PROGRAM), "--run-dir", str(run_dir)]
    run_dir.mkdir(parents=True)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while not starts(run_dir):
            assert process.poll() is None
            time.sleep(0.01)
        run_id = run_id_of(server.state.root, run_dir)
        server.state.index.look(search=True)
        assert "a process is training in it" in problem(server.post(f"{JOBS}/{run_id}/resume"), 409)
        answer = server.post(f"{JOBS}/{run_id}/stop")
        assert (answer.status, answer.json) == (202, {"job_id": run_id, "status": "stopping"})
        process.wait(60)
    assert "does not run" in problem(server.post(f"{JOBS}/{run_id}/stop"), 409)
    assert "add ?files=true" in problem(server.ask("DELETE", f"{JOBS}/{run_id}"), 409)
    answer = server.post(f"{JOBS}/{run_id}/resume")
    assert (answer.status, answer.json["name"]) == (202, "folder/by hand")
    until(server, run_id, "running")
    server.post(f"{JOBS}/{run_id}/stop")
    until(server, run_id, "stopped")
    (run_dir / "config.yaml").write_text("backend: azure\n")
    server.ask("DELETE", f"{JOBS}/{run_id}")
    assert "trained by the backend 'azure'" in problem(server.post(f"{JOBS}/{run_id}/resume"), 409)
    assert server.ask("DELETE", f"{JOBS}/{run_id}?files=true").json["status"] == "deleted"
    assert [path.name for path in run_dir.iterdir()] == ["starts"]
