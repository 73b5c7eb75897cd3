"""What goes through the proxy: a request, an answer, a refusal in the form of Azure's control plane."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Request:
    """One HTTP request, whole."""

    method: str
    host: str
    """In lower case, without the port."""
    path: str
    """Decoded, without the query."""
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    target: str
    """Path and query as they were sent."""
    status: int | None = None
    """Of the answer; None: there was none."""

    @property
    def document(self) -> Any:
        """The body as JSON; {} where there is none."""
        return json.loads(self.body) if self.body else {}


@dataclass
class Reply:
    """One HTTP answer. `document` is sent as JSON."""

    status: int = 200
    document: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def content(self) -> bytes:
        """The body's bytes; sets the type of a document."""
        if self.document is None:
            return self.body
        self.headers.setdefault("Content-Type", "application/json; charset=utf-8")
        return json.dumps(self.document).encode()


class RefusalError(Exception):
    """The service says no."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers or {}

    def reply(self) -> Reply:
        """As Azure Resource Manager and Azure ML word it."""
        error = {"code": self.code, "message": self.message, "details": [], "additionalInfo": []}
        return Reply(self.status, {"error": error}, dict(self.headers))
