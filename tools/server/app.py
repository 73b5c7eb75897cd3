"""The application: routes behind the gate of `tools.server.gate.access`, threads that live as long as it does."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from tools.server.gate.access import Access
from tools.server.gate.problems import LOG, MEDIA_TYPE, PROBLEM_SCHEMA, show_problems
from tools.server.gate.state import ServerState
from tools.server.reading.events import EventStreams
from tools.server.reading.history import HistoryCache
from tools.server.routes import (
    chat,
    checkpoints,
    comparison,
    configs,
    jobs,
    machine,
    openai,
    page,
    pictures,
    report,
    runs,
)

SECONDS_BETWEEN_TICKS = 0.5
"""How often the queue of jobs looks what has ended and what may start."""
SECONDS_BETWEEN_LOOKS = 0.25
"""How often the index of runs is asked whether it is time to look at their directories."""
SECONDS_TO_END = 5.0
"""Time for a thread to end; all of them are daemons, so none keeps the process."""


def make_app(state: ServerState) -> FastAPI:
    """Return the application on a root of runs, with its gate.

    Args:
        state: everything that the routes share.
    """

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        threads = [threading.Thread(target=work, daemon=True, name=name) for name, work in _works(state).items()]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            state.stopping.set()
            for thread in threads:
                thread.join(SECONDS_TO_END)

    app = FastAPI(
        title="APT trainer",
        description="Runs started, watched and compared. Errors are problems of RFC 9457, with what to do about them.",
        version="1",
        docs_url=None,  # these pages of FastAPI load scripts from another server
        redoc_url=None,
        redirect_slashes=False,
        lifespan=life,
    )
    show_problems(app)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]  # as FastAPI's own documentation has it
    for router in _routers(state):
        app.include_router(router)
    app.add_middleware(Access, state=state)
    return app


def _described(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with the errors and the access that there really are."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        parts = document.setdefault("components", {})
        schemas = parts.setdefault("schemas", {})
        for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own form of an error, which no route has
            schemas.pop(name, None)
        schemas["Problem"] = PROBLEM_SCHEMA
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
        problem = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
        for route in document["paths"].values():
            for operation in route.values():
                operation["responses"].pop("422", None)
                operation["responses"]["default"] = {"description": "a problem", **problem}
        app.openapi_schema = document
    return app.openapi_schema


def _routers(state: ServerState) -> list[APIRouter]:
    """Return the routes, each file's own."""
    histories, streams = HistoryCache(), EventStreams(state.index.status_of, state.stopping)
    return [
        _health_router(state),
        configs.make_router(state),
        jobs.make_router(state),
        machine.make_router(state),
        openai.make_router(state),
        page.make_router(),
        runs.make_router(state, histories, streams),
        checkpoints.make_router(state),
        comparison.make_router(state, histories),
        pictures.make_router(state),
        report.make_router(state),
        chat.make_router(state),
    ]


def _works(state: ServerState) -> dict[str, Callable[[], None]]:
    """Return name -> function of each thread that runs beside the routes, until `state.stopping` is set."""
    return {
        "index": lambda: repeat(state.index.look_if_due, SECONDS_BETWEEN_LOOKS, state.stopping),
        "scheduler": lambda: repeat(state.queue.tick, SECONDS_BETWEEN_TICKS, state.stopping),
    }


def repeat(act: Callable[[], None], seconds: float, stopping: threading.Event) -> None:
    """Call a function again and again until the server ends. An error is shown, once each, and ends nothing.

    Args:
        act: what is called.
        seconds: time between two calls.
        stopping: set when the server ends.
    """
    shown: set[str] = set()
    while not stopping.wait(seconds):
        try:
            act()
        except Exception as error:  # a full disk or a damaged file of one job must not stop the others
            if (line := f"{type(error).__name__}: {error}") not in shown:
                shown.add(line)
                LOG.exception("an error in the thread %s", threading.current_thread().name)


def _health_router(state: ServerState) -> APIRouter:
    router = APIRouter()

    @router.get("/healthz", summary="Say that the server answers; needs no token")
    def health() -> dict[str, str]:
        return {"status": "stopping" if state.stopping.is_set() else "ok"}

    return router
