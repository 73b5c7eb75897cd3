"""Routes that show runs: the list, one run, its figures, its log, what it has proved, answered and made, its events."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response
from fastapi import Path as PathParameter
from pydantic import BaseModel, ConfigDict

from tools.server.gate.problems import Problem
from tools.server.gate.run_paths import FoundRun, found_run, no_such_run, open_directory, open_in
from tools.server.gate.state import ServerState
from tools.server.reading.events import (
    HEARTBEAT,
    HEARTBEAT_SECONDS,
    RESET,
    RETRY_MILLISECONDS,
    EventStream,
    EventStreams,
    event_bytes,
)
from tools.server.reading.history import DEFAULT_POINTS, MOST_POINTS, HistoryCache
from tools.server.reading.log_position import START, LogPosition
from tools.server.reading.run_index import RunIndex, status_of_row
from tools.server.routes.chat import has_model, reads_words
from tools.server.settings.policy import public_text
from training.errors import printable
from training.experiments.store.artefacts import CERTIFICATES, artefacts_of
from training.experiments.store.query import DEFAULT_SORT
from training.experiments.store.query import Query as RunQuery
from training.experiments.store.rows import RunRow
from training.language.messages import Message
from training.record.log import LOG_NAME, read_report
from training.record.sample_pictures import MOST_BYTES, SAMPLES_NAME, SamplePicture, pictures_in
from training.tasks.answers.stop_certificate import StopCertificate
from training.tasks.chat.certificate import MaskCertificate

PREFIX = "/api/training/jobs"
MOST_LISTED = 1000
LONGEST_KEYS = 4000
"""Characters of a list of figures."""
DEFAULT_LOG_BYTES, MOST_LOG_BYTES = 64 * 1024, 2**20
MOST_LINES = 2000
"""Lines of what a run has said."""

RunId = Annotated[str, "id of the run"]


class Tags(BaseModel):
    """Tags of a run, all of them."""

    model_config = ConfigDict(extra="forbid")
    tags: list[str]


class Note(BaseModel):
    """Note about a run."""

    model_config = ConfigDict(extra="forbid")
    note: str


class Archived(BaseModel):
    """Mark that leaves a run out of lists."""

    model_config = ConfigDict(extra="forbid")
    archived: bool


def json_response(document: Any, status: int = 200) -> Response:
    """Return an answer without FastAPI's second walk through the document; it holds no NaN."""
    content = json.dumps(document, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
    return Response(content, status, media_type="application/json")


def make_router(state: ServerState, histories: HistoryCache, streams: EventStreams) -> APIRouter:
    """Return the routes.

    Args:
        state: what all routes share.
        histories: curves of the runs that were asked for last.
        streams: the streams of events.
    """
    router = APIRouter(tags=["runs"])
    _add_lists(router, state)
    _add_run(router, state)
    _add_figures(router, state, histories)
    _add_record(router, state)
    _add_samples(router, state)
    _add_streams(router, state, streams)
    _add_annotations(router, state)
    return router


def _row(state: ServerState, run_id: str) -> RunRow:
    run = found_run(state, run_id)
    row: RunRow | None = state.index.row(run.id)
    if row is None:
        raise no_such_run(run_id)
    return row


# -- the list, and one run -----------------------------------------------------------------------------------------


def _add_lists(router: APIRouter, state: ServerState) -> None:
    @router.get(PREFIX, summary="List runs and jobs", response_class=Response)
    def jobs(
        search: Annotated[str, Query(max_length=1000)] = "",
        state_: Annotated[list[str], Query(alias="state", max_length=20)] = [],  # noqa: B006  # FastAPI copies it
        tag: Annotated[list[str], Query(max_length=50)] = [],  # noqa: B006
        where: Annotated[str, Query(max_length=4000)] = "",
        sort: Annotated[str, Query(max_length=1000)] = DEFAULT_SORT,
        limit: Annotated[int, Query(ge=0, le=MOST_LISTED)] = 200,
        offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
        archived: Literal["true", "false", "all"] = "false",
    ) -> Response:
        """Answer {jobs, total, position}. `where` is a condition such as `learning_rate<1e-3 and val_loss<2`.

        `position` is where the events of the list go on: send it to `/api/events` as Last-Event-ID.
        """
        query = RunQuery(
            text=search, where=where, states=tuple(state_), tags=tuple(tag), sort=sort, limit=limit, offset=offset,
            archived=None if archived == "all" else archived == "true",
        )  # fmt: skip
        position = state.index.position  # first: what changes meanwhile comes twice rather than never
        rows, total = state.index.rows(query)
        return json_response({"jobs": [row.to_dict() for row in rows], "total": total, "position": position})


def _add_run(router: APIRouter, state: ServerState) -> None:
    @router.get(PREFIX + "/{run_id}", summary="Show a run, with its settings and facts", response_class=Response)
    def job(run_id: RunId) -> Response:
        run, row = found_run(state, run_id), _row(state, run_id)
        report = read_report(run.path) or {}
        return json_response({
            **row.to_dict(),
            "settings": _settings(state, run, report.get("settings_from") or {}),
            "facts": _finite({k: v for k, v in report.items() if k not in NOT_FACTS and not isinstance(v, list)}),
            "can_chat": reads_words(row.model) and has_model(run.path),
        })  # fmt: skip

    @router.get(PREFIX + "/{run_id}/status", summary="Say how far a run is", response_class=Response)
    def status(run_id: RunId) -> Response:
        return json_response(status_of_row(_row(state, run_id).to_dict()))


NOT_FACTS = frozenset({"curve", "latest", "best", "estimate", "memory", "settings_from", *CERTIFICATES})
"""Parts of a report that are no facts of the run as a whole, or have routes of their own."""


def _settings(state: ServerState, run: FoundRun, sources: Mapping[str, str]) -> dict[str, Any]:
    """Return a run's settings by dotted name, each with who set it; None: nobody, or the record is older."""
    found: Mapping[str, Any] = state.store.settings(run.id)
    return {
        key: {"value": _without_root(state, _finite(value)), "origin": _without_root(state, sources.get(key))}
        for key, value in found.items()
        if key != "run.run_dir"  # a client knows the run by its id and name
    }


def _without_root(state: ServerState, value: Any) -> Any:
    """Return plain data without the places of the root and the data sets on this machine."""
    if isinstance(value, list):
        return [_without_root(state, one) for one in value]
    if isinstance(value, str):
        for directory in (state.root, *state.data_directories):
            value = public_text(value, directory, {})
    return value


def _finite(value: Any) -> Any:
    """Return plain data with None for numbers that are not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return value


# -- figures -------------------------------------------------------------------------------------------------------


def _add_figures(router: APIRouter, state: ServerState, histories: HistoryCache) -> None:
    @router.get(PREFIX + "/{run_id}/metrics", summary="Show the last figures of a run", response_class=Response)
    def metrics(run_id: RunId) -> Response:
        row = _row(state, run_id)
        figures = state.store.figures(row.id)
        return json_response({
            "job_id": row.id, "step": row.step, "epoch": row.epoch, "loss": _finite(row.loss),
            "val_loss": _finite(row.val_loss), "best_loss": _finite(row.best_loss), "best_step": row.best_step,
            "metrics": _finite(dict(row.metrics)), "figures": _finite(figures),
            "nonfinite": [name for name, value in figures.items() if not math.isfinite(value)],
        })  # fmt: skip

    @router.get(PREFIX + "/{run_id}/metrics/history", summary="Show the curve of a run", response_class=Response)
    def history(
        run_id: RunId,
        keys: Annotated[str | None, Query(max_length=LONGEST_KEYS)] = None,
        points: Annotated[int, Query(ge=2, le=MOST_POINTS)] = DEFAULT_POINTS,
    ) -> Response:
        """Answer columns. Where `thinned`, a point stands for several updates: `low` and `high` are their extremes.

        `position` is where the events go on: pass it to `events` as `since`.
        """
        return json_response(history_of(state, histories, run_id, points, names_in(keys)))

    @router.get(PREFIX + "/{run_id}/throughput", summary="Show the speed of a run", response_class=Response)
    def throughput(run_id: RunId) -> Response:
        row = _row(state, run_id)
        figures = state.store.figures(row.id)
        unit = row.unit or "tokens"
        seconds, steps = figures.get("training_seconds"), row.step
        last = figures.get(f"{unit}_per_second")
        return json_response({
            "job_id": row.id, "unit": row.unit, "per_second": _finite(row.speed if row.speed is not None else last),
            "seconds_per_step": seconds / steps if seconds and steps else None, "training_seconds": _finite(seconds),
            "forward_ms": _finite(figures.get("forward_ms")), "backward_ms": _finite(figures.get("backward_ms")),
            "eta_seconds": row.eta_seconds, "peak_memory_bytes": _finite(figures.get("peak_memory_bytes")),
        })  # fmt: skip


def names_in(text: str | None) -> list[str] | None:
    """Return the names in a list with commas between them; None: there is no list."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def history_of(
    state: ServerState,
    histories: HistoryCache,
    run_id: str,
    points: int,
    keys: list[str] | None,
    *,
    with_bands: bool = True,
) -> dict[str, Any]:
    """Return the curve of a run; without points, where it has recorded nothing yet.

    Raises:
        Problem: there is no such run, or the disk refuses its record.
    """
    run = found_run(state, run_id)
    try:
        return {"id": run.id, **histories.history(run.path, points, keys, with_bands=with_bands)}
    except FileNotFoundError:
        return {"id": run.id, **histories.empty(points, keys)}
    except OSError as error:
        raise refused(run, error) from error


def refused(run: FoundRun, error: OSError) -> Problem:
    """Return the answer where the disk refuses a run's file."""
    line = Message("the run '{name}' cannot be read now ({reason}); ask again", name=run.name, reason=error.strerror)
    return Problem(503, "The disk refuses", line)


# -- the record ----------------------------------------------------------------------------------------------------


def _add_record(router: APIRouter, state: ServerState) -> None:
    @router.get(PREFIX + "/{run_id}/logs", summary="Show what a run has printed", response_class=Response)
    def logs(
        run_id: RunId,
        offset: Annotated[int, Query(ge=-(10**15), le=10**15)] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_LOG_BYTES)] = DEFAULT_LOG_BYTES,
    ) -> Response:
        """Answer {text, offset, next_offset, size, source}. A negative offset counts from the end.

        `source` is `output` for what a job's process has printed, `record` for the events of a run that has none.
        """
        run = found_run(state, run_id)
        source, directory, name = _log_of(state, run)
        try:
            with open_directory(state.root, directory) as folder, open_in(folder, name) as file:
                size = file.seek(0, 2)
                begin = min(size, offset) if offset >= 0 else max(0, size + offset)
                file.seek(begin)
                content = file.read(limit)
        except FileNotFoundError:
            return json_response({"text": "", "offset": 0, "next_offset": 0, "size": 0, "source": source})
        except OSError as error:
            raise refused(run, error) from error
        content, skipped = _whole_characters(content, is_end=begin + len(content) >= size)
        text = content.decode("utf-8", "replace")
        begin += skipped
        return json_response({
            "text": text, "offset": begin, "next_offset": begin + len(content), "size": size, "source": source,
        })  # fmt: skip

    @router.get(PREFIX + "/{run_id}/certificates", summary="Show what a run has proved", response_class=Response)
    def certificates(run_id: RunId) -> Response:
        """Answer [{name, lines, document}] of the loss mask, packing, merged adapters and the ends of answers.

        `lines` are those that a terminal shows, where the certificate has some of its own; `document` is the part of
        the report.
        """
        report = read_report(found_run(state, run_id).path) or {}
        found = [
            {"name": name, "lines": _lines_of(name, report[name]), "document": _finite(report[name])}
            for name in CERTIFICATES
            if report.get(name) is not None
        ]
        return json_response({"certificates": found})

    @router.get(PREFIX + "/{run_id}/artifacts", summary="List what a run has made", response_class=Response)
    def artifacts(run_id: RunId) -> Response:
        found = artefacts_of(found_run(state, run_id).path)
        return json_response({"artifacts": [_finite(artefact.to_dict()) for artefact in found]})


def _add_samples(router: APIRouter, state: ServerState) -> None:
    @router.get(PREFIX + "/{run_id}/samples", summary="Show what a finished model answers", response_class=Response)
    def samples(run_id: RunId) -> Response:
        """Answer {samples, figures, pictures}: what the run has printed about its finished model, and has drawn.

        `samples` are lines, `figures` those behind them, `pictures` {step, name} of what it has drawn while it learned.
        """
        run = found_run(state, run_id)
        pictures = [picture._asdict() for picture in _pictures(run)]
        return json_response({**_samples(state, run), "pictures": pictures})

    @router.get(PREFIX + "/{run_id}/samples/{name}", summary="Send a picture of samples", response_class=Response)
    def sample_picture(
        run_id: RunId,
        name: Annotated[str, PathParameter(max_length=100)],
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Answer the PNG that a run has drawn; `samples` lists the names."""
        run = found_run(state, run_id)
        if name not in {picture.name for picture in _pictures(run)}:
            raise Problem(404, "No such picture", f"the run {run.name!r} has no samples {printable(name)!r}")
        try:
            with open_directory(state.root, run.path / SAMPLES_NAME) as folder, open_in(folder, name) as file:
                content = file.read(MOST_BYTES + 1)
        except FileNotFoundError as error:
            raise Problem(404, "No such picture", f"{name} is no longer in the run {run.name!r}") from error
        except OSError as error:
            raise refused(run, error) from error
        if len(content) > MOST_BYTES or not content.startswith(PNG_BEGINNING):
            raise Problem(
                409, "No picture", f"{name} in the run {run.name!r} is no PNG, or larger than any that is sent"
            )
        # A run that goes on from an earlier step may draw a file of this name again.
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()[:16]}"', "Cache-Control": "private, no-cache"}
        if if_none_match == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type="image/png", headers=headers)


def _log_of(state: ServerState, run: FoundRun) -> tuple[str, Path, str]:
    """Return which log a run has, and its directory and name: what its job has printed, or its record."""
    job = state.queue.job(run.id)
    if job is not None and job.output.exists():
        return "output", job.output.parent, job.output.name
    return "record", run.path, LOG_NAME


def _whole_characters(content: bytes, is_end: bool) -> tuple[bytes, int]:
    """Return the content without halves of characters at its ends, and the bytes that were left out before it."""
    skipped = 0
    while skipped < min(3, len(content)) and content[skipped] & 0xC0 == 0x80:
        skipped += 1
    content = content[skipped:]
    if not is_end:
        for length in range(1, min(4, len(content)) + 1):
            byte = content[-length]
            if byte & 0xC0 == 0x80:
                continue
            needed = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
            if needed > length:
                content = content[:-length]
            break
    return content, skipped


def _lines_of(name: str, document: object) -> list[str] | None:
    """Return the lines of a certificate; None: it has none of its own, or is of another version."""
    try:
        if name == "certificate" and isinstance(document, dict):
            return [str(line) for line in MaskCertificate.from_facts(document).lines()]
        if name == "stop" and isinstance(document, dict):
            return [str(line) for line in StopCertificate(**{key: document[key] for key in _OF_STOPS}).lines()]
    except (TypeError, ValueError, KeyError, AttributeError):
        return None
    return None


_OF_STOPS = ("asked", "ended", "longest")


PNG_BEGINNING = b"\x89PNG\r\n\x1a\n"


def _pictures(run: FoundRun) -> list[SamplePicture]:
    """Return the pictures of samples that a run's record names."""
    return pictures_in((read_report(run.path) or {}).get("sample_files", ()))


def _samples(state: ServerState, run: FoundRun) -> dict[str, Any]:
    """Return what the end of a run says of its model. It stands among the last lines of the record."""
    from training.record.schema import parse_event

    lines: list[str] = []
    figures: dict[str, Any] = {}
    try:
        with open_directory(state.root, run.path) as folder, open_in(folder, LOG_NAME) as file:
            size = file.seek(0, 2)
            start = max(0, size - MOST_LOG_BYTES)
            file.seek(start)
            found = file.read().split(b"\n")
    except FileNotFoundError:
        return {"samples": [], "figures": {}}
    except OSError as error:
        raise refused(run, error) from error
    for line in found[1 if start else 0 :]:
        event = parse_event(line) if line else None
        if event is None:
            continue
        if event["event"] in ("run_started", "run_resumed"):  # it trains again, so there will be another model
            lines, figures = [], {}
        elif event["event"] == "conclusion":
            lines += event.get("lines") or []
            figures |= event["figures"]
    return {"samples": lines[-MOST_LINES:], "figures": _finite(figures)}


# -- streams -------------------------------------------------------------------------------------------------------


def _add_streams(router: APIRouter, state: ServerState, streams: EventStreams) -> None:
    @router.get(PREFIX + "/{run_id}/events", summary="Follow the events of a run", response_class=Response)
    async def events(
        run_id: RunId,
        since: Annotated[str | None, Query(max_length=64)] = None,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> EventStream:
        """Stream the record's events from a place on, each once: `Last-Event-ID` of a browser, else `since`.

        Without either, from the beginning. `state` comes with each change of the run's state; `reset` says that the run
        was begun again and what was sent before no longer counts.
        """
        run = await asyncio.to_thread(found_run, state, run_id)
        return EventStream(streams.events(run.id, run.path, _place(since, last_event_id)))

    shared = SharedChanges(state.index)

    @router.get("/api/events", summary="Follow the list of runs", response_class=Response)
    async def changes(last_event_id: Annotated[str | None, Header()] = None) -> EventStream:
        """Stream `runs` events, {changed: [row], removed: [id]}, as rows change. `reset`: read the list again."""
        return EventStream(run_changes(state, shared, last_event_id))


def _place(since: str | None, last_event_id: str | None) -> LogPosition:
    """Return where a client stands. What a browser remembers of another log leads to `reset`; a wrong `since` is said.

    Raises:
        Problem: `since` is no place.
    """
    if last_event_id:
        return LogPosition.parse(last_event_id) or LogPosition("f" * 12, 0)
    if not since:
        return START
    found = LogPosition.parse(since)
    if found is None:
        raise Problem(
            400,
            "",
            f"since={since!r} is no place in a log; take `position` of the history, or the id of an event",
            "since",
        )
    return found


class SharedChanges:
    """The last event about changed rows: all clients that were up to date get the same, made once.

    Args:
        index: the rows.
    """

    def __init__(self, index: RunIndex) -> None:
        self._index = index
        self._lock = asyncio.Lock()
        self._made: tuple[tuple[int, int], bytes] | None = None

    async def event(self, before: int, now: int, changed: list[str], removed: list[str]) -> bytes:
        """Return the event with what has changed between two revisions."""
        async with self._lock:
            if self._made is None or self._made[0] != (before, now):
                rows = await asyncio.to_thread(self._index.rows_of, changed)
                document = {"changed": [row.to_dict() for row in rows], "removed": removed}
                self._made = (before, now), event_bytes("runs", document, self._index.position_at(now))
            return self._made[1]


async def run_changes(
    state: ServerState, shared: SharedChanges, last_event_id: str | None
) -> AsyncGenerator[bytes, None]:
    """Yield the changes of the list as they are noticed, and heartbeats, until the server ends."""
    index: RunIndex = state.index
    generation, _, number = (last_event_id or "").partition("-")
    with index.watched():
        yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
        revision = index.revision
        if last_event_id:
            known = int(number) if generation == index.generation and number.isdecimal() and len(number) < 18 else None
            if known is None or index.changes_since(known) is None:
                yield event_bytes(RESET, {}, index.position_at(revision))
            else:
                revision = known
        else:
            yield event_bytes("runs", {"changed": [], "removed": []}, index.position_at(revision))
        while not state.stopping.is_set():
            seen = index.changed.count
            changes = index.changes_since(revision)
            if changes is None:
                revision = index.revision
                yield event_bytes(RESET, {}, index.position_at(revision))
                continue
            if changes[0] != revision:
                before, revision = revision, changes[0]
                yield await shared.event(before, *changes)
                continue
            if await _next(index, state, seen) == seen and not state.stopping.is_set():
                yield HEARTBEAT


async def _next(index: RunIndex, state: ServerState, seen: int) -> int:
    """Wait for a change, for the time of a heartbeat at most, or until the server ends."""
    loop = asyncio.get_running_loop()
    until = loop.time() + HEARTBEAT_SECONDS
    while (count := await index.changed.wait(seen, 0.5)) == seen:
        if state.stopping.is_set() or loop.time() >= until:
            break
    return count


# -- annotations ---------------------------------------------------------------------------------------------------


def _add_annotations(router: APIRouter, state: ServerState) -> None:
    def annotate(run_id: str, **given: Any) -> Response:
        run = found_run(state, run_id)
        if not run.path.is_dir():
            raise Problem(
                409, "No record yet", Message("the run '{name}' has not begun; wait until it has", name=run.name)
            )
        state.store.annotate(run.id, **given)
        state.index.look()
        return json_response(_row(state, run.id).to_dict())

    @router.put(PREFIX + "/{run_id}/tags", summary="Set the tags of a run", response_class=Response)
    def tags(run_id: RunId, given: Tags) -> Response:
        return annotate(run_id, tags=given.tags)

    @router.put(PREFIX + "/{run_id}/note", summary="Set the note about a run", response_class=Response)
    def note(run_id: RunId, given: Note) -> Response:
        return annotate(run_id, note=given.note)

    @router.put(PREFIX + "/{run_id}/archive", summary="Archive a run, or take it back", response_class=Response)
    def archive(run_id: RunId, given: Archived) -> Response:
        return annotate(run_id, archived=given.archived)
