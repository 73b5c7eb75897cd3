"""Talking to a finished model: it is loaded in a process of its own, one model at a time, and answers as a stream.

The process (`tools.server.workers.chat`) ends when nobody has asked for a while, when another model is asked, and with
the server. A client that closes its stream stops the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from tools.server.gate.problems import Problem
from tools.server.gate.run_paths import found_run
from tools.server.gate.state import ServerState
from tools.server.reading.events import HEARTBEAT, HEARTBEAT_SECONDS, EventStream, event_bytes
from training.checkpoints.manifest import checkpoint_directories
from training.checkpoints.run_directory import FINAL_NAME, MODEL_DIRECTORY
from training.errors import printable
from training.language.messages import Message
from training.machine.free_memory import gpu_memory, host_memory
from training.machine.hardware import gpu_uuids
from training.machine.units import as_size
from training.models.registry import MODELS
from training.record.log import read_report

ROOT = Path(__file__).resolve().parents[3]
IDLE_SECONDS = 300.0
"""Time without a question after which a model is let go."""
END_SECONDS = 5.0
"""Time for the process to end before it is killed."""
LONGEST_LINE = 2**22
"""Bytes of a line from the process."""
MOST_MESSAGES, MOST_CHARACTERS = 200, 200_000


class ChatMessage(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Field(max_length=MOST_CHARACTERS)]


class ChatRequest(BaseModel):
    """A conversation whose next message the model writes."""

    model_config = ConfigDict(extra="forbid")
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MOST_MESSAGES)]
    temperature: Annotated[float, Field(ge=0.0, le=100.0, allow_inf_nan=False)] = 0.0
    top_p: Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    max_new_tokens: Annotated[int, Field(ge=1, le=100_000)] = 256

    def check(self) -> None:
        """Refuse what is no conversation.

        Raises:
            Problem: the last message is not the user's, is empty, or a system message stands elsewhere than first.
        """
        last = self.messages[-1]
        if last.role != "user" or not last.content.strip():
            raise Problem(422, "", Message("the last message must be the user's, with some text"), key="messages")
        if any(message.role == "system" for message in self.messages[1:]):
            raise Problem(422, "", "a system message can only be the first one", key="messages")


class ModelEndedError(Exception):
    """The process of a model has ended; the text says why, in one line."""


class ChatProcess:
    """The process of one model."""

    def __init__(self, process: asyncio.subprocess.Process, errors: IO[bytes]) -> None:
        self._process, self._errors = process, errors
        self.facts: dict[str, Any] | None = None
        """Description of the model; None: it is being loaded."""
        self._number = 0

    @classmethod
    async def start(cls, model: Path) -> ChatProcess:
        """Start the process, which then loads the model."""
        errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process; has no name
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tools.server.workers.chat", str(model),
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=errors, limit=LONGEST_LINE,
        )  # fmt: skip
        return cls(process, errors)

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Return whether the process is gone."""
        return self._process.returncode is not None

    async def _line(self) -> dict[str, Any]:
        """Return the next document that the process writes.

        Raises:
            ModelEndedError: it has ended.
        """
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise ModelEndedError(await self._last_words())
        found: dict[str, Any] = json.loads(line)
        return found

    async def _last_words(self) -> str:
        code = await self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read()[-4096:].decode("utf-8", "replace").strip().splitlines()
        why = f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
        return printable(f"the model's process {why}{f' ({lines[-1]})' if lines else ''}; ask again to load it again")

    async def load(self) -> dict[str, Any]:
        """Wait until the model is loaded and return what it says of itself.

        Raises:
            ModelEndedError: it cannot be loaded.
        """
        while self.facts is None:
            found = await self._line()
            if "refused" in found:
                raise ModelEndedError(found["refused"])
            self.facts = found.get("ready")
        return self.facts

    async def answer(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the documents of an answer. Closing the generator stops it.

        Raises:
            ModelEndedError: the process has ended.
        """
        self._number += 1
        number, is_over = self._number, False
        self._write({"number": number, **request.model_dump()})
        try:
            while not is_over:
                found = await self._line()
                if found.get("number") == number:  # else the rest of one that was stopped
                    is_over = "text" not in found
                    yield found
        finally:
            if not is_over and not self.has_ended:
                self._write({"stop": number})

    def _write(self, document: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(document).encode() + b"\n")

    async def end(self) -> None:
        """End the process: it sees the end of its input; if it does not, it is killed."""
        if not self.has_ended:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                async with asyncio.timeout(END_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()
        self._errors.close()


@dataclass
class Loaded:
    """The model that is loaded, or being loaded."""

    run_id: str
    signature: object
    """Mark of the model's files; another one: the run has a newer model."""
    process: ChatProcess

    def is_still(self, run_id: str, signature: object) -> bool:
        """Return whether this is the model of a run, and its process is there."""
        return (self.run_id, self.signature) == (run_id, signature) and not self.process.has_ended


class ChatModels:
    """The one model that answers at a time.

    Args:
        idle_seconds: time without a question after which it is let go.
    """

    def __init__(self, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._loaded: Loaded | None = None
        self._lock = asyncio.Lock()
        self._idle: asyncio.Task[None] | None = None

    @property
    def loaded(self) -> Loaded | None:
        """The model that is there now."""
        return self._loaded

    def check_free(self) -> None:
        """Refuse a question while another one is being answered.

        Raises:
            Problem: it is.
        """
        if self._lock.locked():
            raise Problem(
                409,
                "The model is busy",
                Message("another question is being answered; wait for its end, or close its stream"),
            )

    async def events(self, run_id: str, run_dir: Path, request: ChatRequest) -> AsyncGenerator[bytes, None]:
        """Yield an answer as server-sent events: `state`, `text`, and at last `end` or `error`."""
        try:
            async with self._lock:
                self._keep()
                loaded, signature = self._loaded, model_signature(run_dir)
                if loaded is None or not loaded.is_still(run_id, signature):
                    await self._end()
                    if (fault := await asyncio.to_thread(lack_of_memory, run_dir)) is not None:
                        raise ModelEndedError(fault)
                    loaded = self._loaded = Loaded(run_id, signature, await ChatProcess.start(run_dir))
                if loaded.process.facts is None:
                    yield event_bytes("state", {"status": "loading"})
                    async for heartbeat in _while_waiting(loaded.process.load):
                        yield heartbeat
                yield event_bytes("state", {"status": "ready", **(loaded.process.facts or {})})
                async with contextlib.aclosing(loaded.process.answer(request)) as answer:
                    async for found in answer:
                        yield _event_of(found)
        except ModelEndedError as error:
            await self._end()
            line = error.args[0]
            chinese = {"detail_zh": line.chinese} if isinstance(line, Message) else {}
            yield event_bytes("error", {"detail": line, **chinese})
        finally:
            self._keep()
            self._idle = asyncio.create_task(self._let_go())

    def _keep(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    async def _let_go(self) -> None:
        """End the model after a time without questions."""
        await asyncio.sleep(self._idle_seconds)
        async with self._lock:
            await self._end()

    async def close(self) -> None:
        """End the model now."""
        self._keep()
        await self._end()

    async def _end(self) -> None:
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            await loaded.process.end()


async def _while_waiting(work: Callable[[], Awaitable[object]]) -> AsyncGenerator[bytes, None]:
    """Yield heartbeats until something is done, and raise what it raises."""
    task = asyncio.ensure_future(work())
    try:
        while not (await asyncio.wait({task}, timeout=HEARTBEAT_SECONDS))[0]:
            yield HEARTBEAT
        await task
    finally:
        task.cancel()


def _event_of(found: dict[str, Any]) -> bytes:
    if "text" in found:
        return event_bytes("text", {"text": found["text"]})
    if "error" in found:
        return event_bytes("error", {"detail": found["error"]})
    return event_bytes("end", found["end"])


def reads_words(family: str | None) -> bool:
    """Return False for a model family that reads no text; one that is not built in is asked when it is loaded."""
    return family not in MODELS.built_in or MODELS.load(str(family)).inputs == "tokens"


def has_model(run_dir: Path) -> bool:
    """Return whether there is something in a run directory that may answer: a finished model, or a checkpoint."""
    return any((run_dir / name).exists() for name in (FINAL_NAME, MODEL_DIRECTORY)) or bool(
        checkpoint_directories(run_dir)
    )


def lack_of_memory(run_dir: Path) -> Message | None:
    """Say that a run's model has no room in the memory that is free, by the sizes of its files; None: it has, or the
    system does not say.

    The weights are read as they are, and are there in fp32 then: while the model is loaded, both take room.
    """
    needed = bytes_to_load(run_dir)
    free = gpu_memory() if gpu_uuids() else host_memory()
    if free is None or needed <= free:
        return None
    return Message(
        "the model needs about {needed} of memory, and {free} are free; stop a run, or let another program end",
        needed=as_size(needed),
        free=as_size(free),
    )


def bytes_to_load(run_dir: Path) -> int:
    """Return about how much memory is needed to load a run's model: its files, and its parameters in fp32."""
    finished = [path for name in (FINAL_NAME, MODEL_DIRECTORY) if (path := run_dir / name).exists()]
    found = max(map(_bytes_of, finished[:1] or checkpoint_directories(run_dir)), default=0)
    parameters = (read_report(run_dir) or {}).get("num_parameters")
    return found + (4 * parameters if isinstance(parameters, int) else found)


def _bytes_of(path: Path) -> int:
    total = 0
    for file in path.rglob("*") if path.is_dir() else (path,):
        with contextlib.suppress(OSError):  # deleted this moment, by the run's own tidying
            total += file.stat().st_size
    return total


def model_signature(run_dir: Path) -> object:
    """Return what changes when a run has a newer model than before."""
    found = [run_dir / FINAL_NAME, run_dir / MODEL_DIRECTORY]
    if not any(path.exists() for path in found):
        found = checkpoint_directories(run_dir)
    signature = []
    for path in found:
        with contextlib.suppress(OSError):  # deleted this moment, by the run's own tidying
            signature.append((path.name, path.stat().st_mtime_ns))
    return signature


def make_router(state: ServerState) -> APIRouter:
    """Return the routes of the chat.

    Args:
        state: what all routes share.
    """
    models = ChatModels()

    @contextlib.asynccontextmanager
    async def life(app: object) -> AsyncGenerator[None, None]:
        yield
        await models.close()

    router = APIRouter(tags=["chat"], lifespan=life)

    @router.post("/api/chat/{run_id}", summary="Ask a run's model; the answer is a stream of events")
    async def ask(run_id: str, request: ChatRequest) -> EventStream:
        """Answer with the events `state`, `text` (a piece), and `end` (why, and how long) or `error` (one line)."""
        run = await asyncio.to_thread(found_run, state, run_id)
        request.check()
        if not await asyncio.to_thread(has_model, run.path):
            raise Problem(
                409,
                "No model yet",
                Message("the run '{name}' has no finished model and no checkpoint; wait for one", name=run.name),
            )
        models.check_free()
        return EventStream(models.events(run.id, run.path, request))

    @router.get("/api/chat", summary="Say which model is loaded")
    async def loaded() -> dict[str, Any]:
        found = models.loaded
        if found is None:
            return {"job_id": None, "status": "none"}
        facts = found.process.facts
        return {"job_id": found.run_id, "status": "ready" if facts is not None else "loading", **(facts or {})}

    @router.delete("/api/chat", status_code=204, summary="Let the loaded model go; its memory is free then")
    async def let_go() -> Response:
        models.check_free()
        await models.close()
        return Response(status_code=204)

    return router
