"""Routes of the web page: its files, read once when the server starts, so that all of them are of one version."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response

from tools.server.gate.problems import Problem

PAGE = Path(__file__).parents[1] / "page"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Kinds of files that are served; another one in the page's directory, such as a licence, is not."""


@dataclass(frozen=True)
class PageFile:
    """One file of the page."""

    content: bytes
    media_type: str
    tag: str
    """Hash of the content, by which a browser asks whether its copy is still the same."""


def page_files(directory: Path = PAGE) -> dict[str, PageFile]:
    """Return the files of the page by their path below its directory.

    Args:
        directory: the page.
    """
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.suffix in MEDIA_TYPES:
            content = path.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            found[path.relative_to(directory).as_posix()] = PageFile(content, MEDIA_TYPES[path.suffix], tag)
    return found


def make_router() -> APIRouter:
    """Return the routes: the page at `/`, its files below `/static/`."""
    router = APIRouter(include_in_schema=False)
    files = page_files()

    def answer(name: str, request: Request) -> Response:
        file = files.get(name)  # a lookup by name: no path leads out of the page
        if file is None:
            raise Problem(404, "", f"the page has no file {name!r}; open /")
        headers = {"ETag": file.tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == file.tag:
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.media_type, headers=headers)

    @router.get("/")
    def page(request: Request) -> Response:
        return answer("index.html", request)

    @router.get("/static/{name:path}")
    def static(request: Request, name: str) -> Response:
        return answer(name, request)

    return router
