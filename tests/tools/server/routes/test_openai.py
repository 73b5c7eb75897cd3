"""The real package `openai` drives the server: it lists files, creates a job, follows, cancels and lists it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.support.running_server import RunningServer, serving
from tests.support.schedulers import PROGRAM
from training.experiments.jobs.states import ENDED

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="the processes are POSIX's")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a file of conversations, whose jobs run a program of milliseconds."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "data").mkdir()
    turns = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]
    (folder / "data" / "chats.jsonl").write_text(f"{json.dumps({'messages': turns})}\n" * 4)
    with serving(folder / "runs", data=(folder / "data",)) as running:
        running.state.queue._program = PROGRAM
        yield running
        for job in running.state.queue.jobs():
            if job.state not in ENDED:
                running.state.queue.stop(job.id, at_once=True)


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.state.url}/v1", api_key=server.state.token, max_retries=0) as made:
        yield made


def until(client: openai.OpenAI, job_id: str, status: str) -> Any:
    end = time.monotonic() + 300
    while (job := client.fine_tuning.jobs.retrieve(job_id)).status != status:
        assert time.monotonic() < end, job
        time.sleep(0.02)
    return job


def test_a_job_lives_as_the_package_expects(server: RunningServer, client: openai.OpenAI) -> None:
    [file] = client.files.list()
    assert (file.filename, file.purpose) == ("chats.jsonl", "fine-tune")
    assert client.files.retrieve(file.id) == file
    job = client.fine_tuning.jobs.create(
        model="apt",
        training_file=file.id,
        suffix="my chat",
        seed=7,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 1, "learning_rate_multiplier": 0.5}},
        },
    )
    assert (job.object, job.model, job.training_file, job.seed) == ("fine_tuning.job", "apt", file.id, 7)
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (2, 1)
    queued = server.state.queue.job(job.id)
    assert queued is not None
    request = queued.request
    assert (request.task, request.name, request.settings["optimizer.learning_rate"]) == ("chat", "my chat", 1.5e-4)
    until(client, job.id, "running")
    events = client.fine_tuning.jobs.list_events(job.id, limit=1)
    assert [event.message for event in events.data] == ["Step 1: training loss=2.5"]
    assert [event.message for event in events] == ["Step 1: training loss=2.5", "Fine-tuning job started"], "by pages"
    [checkpoint] = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert (checkpoint.step_number, checkpoint.fine_tuning_job_id) == (1, job.id)
    client.fine_tuning.jobs.cancel(job.id)
    assert until(client, job.id, "cancelled").finished_at is not None
    client.fine_tuning.jobs.resume(job.id)
    until(client, job.id, "running")
    (server.state.root / "my-chat" / "end").write_text("0")
    ended = until(client, job.id, "succeeded")
    assert ended.fine_tuned_model == job.id
    assert ended.error is None
    other = client.fine_tuning.jobs.create(model="apt", training_file="chats.jsonl", metadata={"task": "chat"})
    assert [found.id for found in client.fine_tuning.jobs.list(limit=1)] == [other.id, job.id]
    until(client, other.id, "running")
    (server.state.root / "chat" / "end").write_text("1")
    assert "ended with 1" in until(client, other.id, "failed").error.message


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"model": "gpt-4o-mini"}, "gpt-4o-mini"),
        ({"training_file": "file-abc123"}, "no data set has the id or name 'file-abc123'"),
        ({"training_file": "../../etc/passwd"}, "no data set has the id or name"),
        ({"validation_file": "chats.jsonl"}, "validation_file"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations"),
        ({"metadata": {"owner": "me"}}, "owner"),
        ({"metadata": {"task": "package.module:Class"}}, "package.module:Class"),
        ({"hyperparameters": {"learning_rate_multiplier": 0}}, "should be above 0"),
        ({"hyperparameters": {"n_epochs": -1}}, "epochs"),
        ({"method": {"type": "dpo"}}, "supervised"),
        ({"suffix": "a\nb"}, "should have no line ends"),
    ],
)
def test_what_the_server_has_not_is_refused(
    server: RunningServer, client: openai.OpenAI, fields: dict[str, Any], part: str
) -> None:
    before = len(server.state.queue.jobs())
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.fine_tuning.jobs.create(**{"model": "apt", "training_file": "chats.jsonl"} | fields)
    assert part in str(caught.value)
    assert len(server.state.queue.jobs()) == before


def test_what_is_not_there_is_not_found(client: openai.OpenAI) -> None:
    for job_id in ("0" * 12, "ftjob-abc123"):
        with pytest.raises(openai.NotFoundError, match="no job and no run has the id"):
            client.fine_tuning.jobs.retrieve(job_id)
        with pytest.raises(openai.NotFoundError):
            client.fine_tuning.jobs.cancel(job_id)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").fine_tuning.jobs.list()
