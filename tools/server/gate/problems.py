"""Errors of the API: one line, what to do about it, and `application/problem+json` (RFC 9457) around both."""

from __future__ import annotations

import http
import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from training.errors import UserError, printable
from training.language.messages import Message
from training.storage.json_files import DamagedFileError

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"
PROBLEM_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "one line: what is wrong, the value received, where"},
        "detail_zh": {
            "type": "string",
            "description": "the same in Chinese, where there is a translation",
        },
        "key": {"type": "string", "description": "setting or field at fault"},
        "remedy": {"type": "string", "description": "what to do about it"},
    },
}
"""Form of an error in the OpenAPI document."""
LOG = logging.getLogger("apt_trainer.server")
_SHOWN = 5
"""Number of faults of a request that one answer lists."""


class Problem(Exception):  # noqa: N818  # the word of RFC 9457
    """An answer that is an error.

    Args:
        status: status code of HTTP, 400 to 599.
        title: kind of error in a few words, the same whatever the request; empty: as HTTP names the status.
        detail: what was wrong, the value received and where, in one line. Escaped and shortened. The answer has a
            `Message` in Chinese too.
        key: setting or field that is at fault.
        remedy: what to do about it; None: the part of `detail` behind its first semicolon, if it has one.
        headers: further headers of the answer, such as Retry-After.

    Example:
        >>> Problem(404, "", "no run has the id 0123456789ab; GET /api/training/jobs lists them").document()["remedy"]
        'GET /api/training/jobs lists them'
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        key: str | None = None,
        remedy: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status, self.title = status, title or http.HTTPStatus(status).phrase
        self.detail = printable(detail)
        self._chinese = printable(detail.chinese) if isinstance(detail, Message) else None
        self.key = None if key is None else printable(key)
        found = self.detail.partition("; ")[2] if remedy is None else printable(remedy)
        self.remedy = found or None
        self.headers = dict(headers or {})
        super().__init__(self.detail)

    def document(self) -> dict[str, Any]:
        """Return the answer's body as plain data."""
        found = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}
        further = {"detail_zh": self._chinese, "key": self.key, "remedy": self.remedy}
        return found | {name: value for name, value in further.items() if value is not None}

    def body(self, further: Mapping[str, str] | None = None) -> bytes:
        """Return the answer's body, with further members."""
        document = self.document() | dict(further or {})
        return json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace")


def line_of(error: UserError) -> str:
    """Return the line of an error; a `Message` where it is one."""
    return error.args[0] if error.args and isinstance(error.args[0], str) else str(error)


def problem_of(error: UserError, key: str | None = None) -> Problem:
    """Return the answer to what a user can mend, with the line of the command line: 422, or 500 for a damaged file."""
    status = 500 if isinstance(error, DamagedFileError) else 422
    return Problem(
        status, "The request cannot be carried out" if status == 422 else "A file is damaged", line_of(error), key
    )


def fault_of_server() -> Problem:
    """Return the answer to an error of the program, which says nothing about its inside."""
    return Problem(500, "", Message("the server made an error of its own; its terminal shows which: please report it"))


def show_problems(app: FastAPI) -> None:
    """Let an app answer every error as a problem."""
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    async def of_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return _response(request, error)

    async def of_user(request: Request, error: Exception) -> Response:
        assert isinstance(error, UserError)
        return _response(request, problem_of(error))

    async def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _response(request, _of_http(request, error))

    async def of_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _response(request, _of_validation(error))

    app.add_exception_handler(Problem, of_problem)
    app.add_exception_handler(UserError, of_user)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(RequestValidationError, of_validation)


def _response(request: Request, problem: Problem) -> Response:
    from fastapi import Response

    # Below /v1 the package `openai` asks, and shows this member alone.
    further = {"message": problem.detail} if request.url.path.startswith("/v1/") else {}
    return Response(problem.body(further), problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def _of_http(request: Request, error: HTTPException) -> Problem:
    """Return the problem of an error that the framework raises: no such route, or not with this method."""
    path, headers = request.url.path, dict(error.headers or {})
    if error.status_code == 404:
        detail = f"there is nothing at {path!r}; GET /openapi.json lists what there is"
    elif error.status_code == 405:
        allowed = headers.get("allow") or headers.get("Allow") or "another method"
        detail = f"{path!r} does not take {request.method}; use {allowed}"
    else:
        detail = str(error.detail)
    return Problem(error.status_code, "", detail, headers=headers)


def _of_validation(error: RequestValidationError) -> Problem:
    """Return the problem of a request whose fields do not fit: each with its place, and no value echoed whole."""
    faults = error.errors()
    named = [(".".join(str(part) for part in fault.get("loc", ())), str(fault.get("msg", ""))) for fault in faults]
    if faults and all(fault.get("loc", ("",))[0] == "path" for fault in faults):
        return Problem(404, "", f"{named[0][0].removeprefix('path.')}: no id; an id has 12 digits of 0-9 and a-f")
    lines = [f"{place}: {message[:1].lower()}{message[1:]}" for place, message in named[:_SHOWN]]
    more = f" (and {len(named) - _SHOWN} more)" if len(named) > _SHOWN else ""
    where = str(faults[0]["loc"][-1]) if faults and faults[0].get("loc") else None
    return Problem(422, "The request does not fit", f"{', '.join(lines)}{more}", key=where)
