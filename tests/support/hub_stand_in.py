"""A small Hugging Face Hub on this machine: enough of its HTTP API for uploads and downloads by `huggingface_hub`.

It keeps repositories in memory, checks tokens and names as the Hub does, stores large files apart (Git LFS), and fails
where a test asks it to.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub
import pytest
from huggingface_hub import constants

DROP, SILENT = "drop", "silent"
"""Faults that are no status: the connection breaks off, or no answer ever comes."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")
_ROUTES = [
    ("whoami", "GET", r"/api/whoami-v2"),
    ("create", "POST", r"/api/repos/create"),
    ("validate", "POST", r"/api/validate-yaml"),
    ("preupload", "POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/[^/]+"),
    ("commit", "POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/[^/]+"),
    ("tree", "GET", r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/[^/]+"),
    ("info", "GET", r"/api/models/(?P<repo>[^/]+/[^/]+?)(/revision/[^/]+)?"),
    ("batch", "POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch"),
    ("put", "PUT", r"/lfs/(?P<oid>[0-9a-f]{64})"),
    ("verify", "POST", r"/lfs-verify"),
    ("download", "HEAD", r"/(?P<repo>[^/]+/[^/]+)/resolve/[^/]+/(?P<path>.+)"),
    ("download", "GET", r"/(?P<repo>[^/]+/[^/]+)/resolve/[^/]+/(?P<path>.+)"),
    ("tree", "GET", r"/api/(?P<repo>datasets/[^/]+/[^/]+)/tree/[^/]+(?P<folder>/.+)?"),
    ("info", "GET", r"/api/(?P<repo>datasets/[^/]+/[^/]+?)(/revision/[^/]+)?"),
    ("download", "HEAD", r"/(?P<repo>datasets/[^/]+/[^/]+)/resolve/[^/]+/(?P<path>.+)"),
    ("download", "GET", r"/(?P<repo>datasets/[^/]+/[^/]+)/resolve/[^/]+/(?P<path>.+)"),
]


@dataclass
class Repository:
    """One model repository: its present files, and how it came about."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    """The message of each."""

    @property
    def sha(self) -> str:
        """Of the newest commit."""
        return hashlib.sha1(repr(sorted(self.files.items())).encode() + str(len(self.commits)).encode()).hexdigest()


@dataclass
class Fault:
    """What goes wrong on a route: an HTTP status, `DROP` or `SILENT`."""

    route: str
    what: int | str
    times: int
    message: str = ""


class HubStandIn:
    """The Hub of `ada`, a member of `lab`. `endpoint` is its address."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.token = "hf_" + "t" * 34
        self.role = "write"
        self.names = ("ada", "lab")
        self.repositories: dict[str, Repository] = {}
        """Models by their name, datasets by theirs after `datasets/`."""
        self.stored: dict[str, bytes] = {}
        """Large files by sha256, committed or not."""
        self.requests: Counter[str] = Counter()
        self.tokens_seen: set[str | None] = set()
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self.end = threading.Event()

    def fail(self, route: str, what: int | str, times: int = 1, message: str = "") -> None:
        """Let the next requests of a route fail."""
        self._faults.append(Fault(route, what, times, message))

    def fault(self, route: str) -> Fault | None:
        """The fault that this request meets, once counted."""
        with self._lock:
            self.requests[route] += 1
            for fault in self._faults:
                if fault.route == route and fault.times:
                    fault.times -= 1
                    return fault
        return None


class RefusedError(Exception):
    """A status with the Hub's words."""

    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status, self.body = status, {"error": message, **more}
        self.code = "RepoNotFound" if status == 404 else ""


def git_blob(content: bytes) -> str:
    """The id that git gives to a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_large(path: str) -> bool:
    """Whether the Hub would store a file by Git LFS."""
    return path.endswith((".safetensors", ".onnx", ".png"))


class _Handler(BaseHTTPRequestHandler):
    hub: HubStandIn
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body in one packet: the other side would wait 40 ms for the second

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        path = unquote(urlsplit(self.path).path)
        found = ((name, re.fullmatch(pattern, path)) for name, method, pattern in _ROUTES if method == self.command)
        route, match = next(((name, match) for name, match in found if match), ("", None))
        if match is None:
            return self._json(404, {"error": f"no route for {self.command} {path}"})
        fault = self.hub.fault(route)
        if fault is not None and fault.what == DROP:  # in the middle of what is sent
            self.rfile.read(min(10, int(self.headers.get("Content-Length") or 0)))
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return None
        if fault is not None and fault.what == SILENT:
            self.hub.end.wait()
            self.close_connection = True
            return None
        body = self._body()
        if fault is not None:
            assert isinstance(fault.what, int)
            return self._json(fault.what, {"error": fault.message or f"a fault with {fault.what}"})
        try:
            self._authorize(route)
            getattr(self, f"_{route}")(body, **match.groupdict())
        except RefusedError as refused:
            self._json(refused.status, refused.body, {"X-Error-Code": refused.code})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _json(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(document).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("X-Error-Message", "Invalid credentials in Authorization header")
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _authorize(self, route: str) -> None:
        given = self.headers.get("Authorization")
        if route == "put":  # the store of large files has addresses that are secrets themselves
            assert given is None, "the token is for the Hub alone"
            return
        self.hub.tokens_seen.add(given)
        if given is not None and given != f"Bearer {self.hub.token}":
            raise RefusedError(401, "Invalid username or password.")
        if given is None and route not in ("download", "info", "tree"):
            raise RefusedError(401, "Invalid username or password.")
        if self.hub.role == "read" and route in ("create", "preupload", "commit", "batch"):
            raise RefusedError(403, "You don't have the required permissions to write")

    def _repository(self, repo: str) -> Repository:
        found = self.hub.repositories.get(repo)
        if found is None or (found.private and not self.headers.get("Authorization")):
            raise RefusedError(404, "Repository not found")
        return found

    # -- one method a route ------------------------------------------------------------------------------------------

    def _whoami(self, body: bytes) -> None:
        user, *organisations = self.hub.names
        access = {"displayName": "training", "role": self.hub.role}
        orgs = [{"name": name} for name in organisations]
        self._json(200, {"type": "user", "name": user, "orgs": orgs, "auth": {"accessToken": access}})

    def _create(self, body: bytes) -> None:
        wanted = json.loads(body)
        owner, name = wanted.get("organization") or self.hub.names[0], wanted["name"]
        if not _NAME.fullmatch(name) or "--" in name or ".." in name:
            raise RefusedError(400, f"Invalid repo name: {name}")
        if owner not in self.hub.names:
            raise RefusedError(403, f"You don't have the rights to create a model under the namespace {owner!r}")
        repo = f"{owner}/{name}"
        url = f"{self.hub.endpoint}/{repo}"
        if repo in self.hub.repositories:
            raise RefusedError(409, "You already created this model repo", url=url)
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.hub.repositories[repo] = Repository(private, {".gitattributes": b""}, ["initial commit"])
        self._json(200, {"url": url, "name": repo, "id": repo})

    def _validate(self, body: bytes) -> None:
        content = json.loads(body)["content"]
        if not content.startswith("---\n"):
            raise RefusedError(400, "no metadata", errors=[{"message": "no metadata"}])
        self._json(200, {"errors": [], "warnings": []})

    def _preupload(self, body: bytes, repo: str) -> None:
        present = self._repository(repo).files
        answers = []
        for file in json.loads(body)["files"]:
            path = file["path"]
            answer = {"path": path, "uploadMode": "lfs" if is_large(path) else "regular", "shouldIgnore": False}
            if (content := present.get(path)) is not None:
                answer["oid"] = hashlib.sha256(content).hexdigest() if is_large(path) else git_blob(content)
            answers.append(answer)
        self._json(200, {"files": answers})

    def _batch(self, body: bytes, repo: str) -> None:
        self._repository(repo)
        objects = []
        for wanted in json.loads(body)["objects"]:
            answer = dict(wanted)
            if wanted["oid"] not in self.hub.stored:
                upload = {"href": f"{self.hub.endpoint}/lfs/{wanted['oid']}"}
                verify = {"href": f"{self.hub.endpoint}/lfs-verify"}
                answer["actions"] = {"upload": upload, "verify": verify}
            objects.append(answer)
        self._json(200, {"transfer": "basic", "objects": objects})

    def _put(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise RefusedError(400, "the content is not what its sha256 says")
        self.hub.stored[oid] = body
        self._send(200, b"", {})

    def _verify(self, body: bytes) -> None:
        wanted = json.loads(body)
        if len(self.hub.stored.get(wanted["oid"], b"")) != wanted["size"]:
            raise RefusedError(422, "the object is not there")
        self._json(200, {})

    def _commit(self, body: bytes, repo: str) -> None:
        repository = self._repository(repo)
        files = dict(repository.files)
        message = ""
        for line in body.splitlines():
            step = json.loads(line)
            value = step["value"]
            if step["key"] == "header":
                message = value["summary"]
            elif step["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif step["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            elif step["key"] == "deletedFile":
                del files[value["path"]]
            else:
                raise RefusedError(400, f"unknown step {step['key']!r}")
        repository.files = files  # all at once, as a commit is
        repository.commits.append(message)
        url = f"{self.hub.endpoint}/{repo}/commit/{repository.sha}"
        self._json(200, {"success": True, "commitUrl": url, "commitOid": repository.sha})

    def _info(self, body: bytes, repo: str) -> None:
        found = self._repository(repo)
        siblings = [{"rfilename": name} for name in found.files]
        self._json(200, {"id": repo, "sha": found.sha, "private": found.private, "siblings": siblings, "tags": []})

    def _tree(self, body: bytes, repo: str, folder: str | None = None) -> None:
        entries = []
        inside = f"{folder.strip('/')}/" if folder else ""
        files = {path: content for path, content in self._repository(repo).files.items() if path.startswith(inside)}
        if inside and not files:
            return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        for path, content in files.items():
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_blob(content)}
            if is_large(path):
                oid = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 130}
            entries.append(entry)
        return self._json(200, entries)

    def _download(self, body: bytes, repo: str, path: str) -> None:
        found = self._repository(repo)
        content = found.files.get(path)
        if content is None:
            return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": found.sha})
        etag = hashlib.sha256(content).hexdigest() if is_large(path) else git_blob(content)
        self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": found.sha})
        return None


def pretend(monkeypatch: pytest.MonkeyPatch, hub: HubStandIn, home: Path) -> None:
    """Let this process take `hub` for the Hub, with its user's token in the environment and no other anywhere.

    `huggingface_hub` has read its variables when it was imported; a process of its own is told by them
    (`environment`).
    """
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(home / "stored_tokens"))
    for name in ("HF_OIDC_RESOURCE", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", hub.token)


def environment(hub: HubStandIn, home: Path) -> dict[str, str]:
    """Of a process that takes `hub` for the Hub; the library's own variables do all of it."""
    others = {name: v for name, v in os.environ.items() if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS"))}
    ours = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": hub.token, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home)}
    return {**others, **ours, "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}


@contextlib.contextmanager
def hub_stand_in() -> Iterator[HubStandIn]:
    """A Hub that answers at a free port of this machine while a block runs."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub = HubStandIn(f"http://127.0.0.1:{server.server_address[1]}")
    handler.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    huggingface_hub.close_session()
    try:
        yield hub
    finally:
        huggingface_hub.close_session()
        hub.end.set()
        server.shutdown()
        server.server_close()
        thread.join()
