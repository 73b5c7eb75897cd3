"""A model answers over HTTP: in a process of its own, as a stream, until somebody stops it or nobody asks any more."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.support.served_apps import SentEvent, sent_events, served
from tests.support.talking_models import chat_directory
from tools.server.gate.problems import Problem
from tools.server.reading.events import EventStream
from tools.server.routes import chat as routes
from tools.server.routes.chat import (
    ChatModels,
    ChatRequest,
    bytes_to_load,
    has_model,
    lack_of_memory,
    model_signature,
)
from tools.server.workers.chat import prompt_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[4]
HELLO = [{"role": "user", "content": "hello"}]


class Chat:
    """The chat of a server without other routes."""

    def __init__(self, address: str, models: ChatModels) -> None:
        self.address, self.models = address, models

    def ask(self, model: Path, **request: Any) -> Iterator[SentEvent]:
        """Yield the events of an answer."""
        document = {"messages": HELLO, "max_new_tokens": 12, **request}
        with httpx.stream("POST", f"{self.address}/{model.name}", json=document, timeout=120) as response:
            assert response.status_code == 200
            yield from (event for event in sent_events(response) if event is not None)


@contextlib.contextmanager
def chatting(folder: Path, idle_seconds: float = 60.0) -> Iterator[Chat]:
    stopping = threading.Event()
    models = ChatModels(idle_seconds)
    app = FastAPI()

    @app.post("/{name}")
    async def ask(name: str, request: ChatRequest) -> EventStream:
        return EventStream(models.events(name, folder / name, request))

    @app.delete("/")
    async def close() -> None:
        await models.close()

    with served(app, stopping) as address:
        try:
            yield Chat(address, models)
        finally:
            httpx.delete(address, timeout=30)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 60
    while is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


def text_of(events: list[SentEvent]) -> str:
    return "".join(event.data["text"] for event in events if event.name == "text")


def test_a_model_is_loaded_once_answers_stops_and_is_let_go(tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(chat_directory())
    (tmp_path / "nothing").mkdir()
    model = tmp_path / "model"
    with chatting(tmp_path) as chat:
        first = list(chat.ask(model))
        assert [event.data["status"] for event in first if event.name == "state"] == ["loading", "ready"]
        assert first[-1].name == "end"
        assert (first[-1].data["reason"], first[-1].data["tokens"]) == ("length", 12)
        assert text_of(first)
        loaded = chat.models.loaded
        assert loaded is not None
        pid = loaded.process.pid

        again = list(chat.ask(model))
        assert [event.data["status"] for event in again if event.name == "state"] == ["ready"]
        assert text_of(again) == text_of(first), "greedy answers are the same"
        drawn = [text_of(list(chat.ask(model, temperature=5.0, seed=seed))) for seed in (1, 1, 2)]
        assert drawn[0] == drawn[1] != drawn[2]

        # A client that leaves stops its answer; the next one does not wait for the end of it, nor gets any of it.
        stopped = chat.ask(model, max_new_tokens=200)
        for event in stopped:
            if event.name == "text":
                break
        stopped.close()  # type: ignore[attr-defined]  # it is a generator
        assert text_of(list(chat.ask(model))) == text_of(first)

        refused = list(chat.ask(model, messages=[{"role": "user", "content": "hello " * 400}]))
        assert refused[-1].name == "error"
        assert "the prompt has" in refused[-1].data["detail"]
        assert text_of(list(chat.ask(model))) == text_of(first), "an error ends an answer, not the model"
        assert chat.models.loaded is not None
        assert chat.models.loaded.process.pid == pid

        os.kill(pid, 9)
        wait_until_gone(pid)
        assert text_of(list(chat.ask(model))) == text_of(first), "a process that was killed is started again"

        chat.models._idle_seconds = 0.1
        assert list(chat.ask(model))[-1].name == "end"
        assert chat.models.loaded is not None
        wait_until_gone(chat.models.loaded.process.pid)

        [*_, error] = chat.ask(tmp_path / "nothing")
        assert error.name == "error"
        assert "no model and no checkpoint" in error.data["detail"]
        assert "\n" not in error.data["detail"]
        assert chat.models.loaded is None


def test_a_model_without_room_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "final_model").symlink_to(chat_directory())
    needed = bytes_to_load(tmp_path / "run")
    assert needed > 0
    monkeypatch.setattr(routes, "host_memory", lambda: needed)  # of a machine with no more than that
    monkeypatch.setattr(routes, "gpu_uuids", lambda: ())
    assert lack_of_memory(tmp_path / "run") is None
    monkeypatch.setattr(routes, "host_memory", lambda: needed - 1)
    with chatting(tmp_path) as chat:
        [error] = chat.ask(tmp_path / "run")
        assert error.name == "error"
        assert error.data["detail"].startswith("the model needs about ")
        assert error.data["detail_zh"].startswith("模型约需 ")
        assert chat.models.loaded is None


def test_the_process_ends_with_whoever_started_it(tmp_path: Path) -> None:
    script = f"""
import subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, "-m", "tools.server.workers.chat", {str(chat_directory())!r}], cwd={str(ROOT)!r},
    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
)
child.stdout.readline()
ask = b'{{"number": 1, "messages": [{{"role": "user", "content": "hello"}}], "temperature": 0, "top_p": 1, "seed": 0, '
child.stdin.write(ask + b'"max_new_tokens": 100000}}\\n')
child.stdin.flush()
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()
        parent.wait()
    wait_until_gone(pid)


def test_the_oldest_turns_are_left_out_of_a_long_conversation() -> None:
    import torch

    from training.inference.speaker import load_speaker

    speaker = load_speaker(chat_directory(), torch.device("cpu"))
    messages = [{"role": "system", "content": "be brief"}]
    for number in range(30):
        messages += [{"role": "user", "content": f"question {number}"}, {"role": "assistant", "content": "answer"}]
    messages.append({"role": "user", "content": "the last one"})
    tokens, left_out = prompt_of(speaker, messages, 64)
    assert left_out > 0
    assert left_out % 2 == 0
    assert tokens == speaker.format.encode([messages[0], *messages[1 + left_out :]])
    assert len(tokens) + 64 <= 256 < len(speaker.format.encode(messages)) + 64
    assert prompt_of(speaker, messages[-1:], 64)[1] == 0


# -- requests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"role": "assistant", "content": "x"}], "the last message must be the user's"),
        ([{"role": "user", "content": " \n"}], "with some text"),
        ([*HELLO, {"role": "system", "content": "x"}, *HELLO], "can only be the first one"),
    ],
)
def test_what_is_no_conversation_is_refused(messages: list[dict[str, str]], said: str) -> None:
    with pytest.raises(Problem, match=said):
        ChatRequest.model_validate({"messages": messages}).check()


@pytest.mark.parametrize(
    "document",
    [
        {"messages": []},
        {"messages": HELLO, "temperature": -1},
        {"messages": HELLO, "temperature": "nan"},
        {"messages": HELLO, "max_new_tokens": 0},
        {"messages": HELLO, "model": "/etc/passwd"},
        {"messages": [{"role": "root", "content": "x"}]},
        {"messages": HELLO * 201},
    ],
)
def test_fields_have_bounds(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        ChatRequest.model_validate_json(json.dumps(document))


def test_a_newer_model_is_noticed(tmp_path: Path) -> None:
    assert not has_model(tmp_path)
    (tmp_path / "checkpoint_epoch_1").mkdir()
    assert has_model(tmp_path)
    first = model_signature(tmp_path)
    assert model_signature(tmp_path) == first
    (tmp_path / "checkpoint_epoch_2").mkdir()
    assert model_signature(tmp_path) != first
