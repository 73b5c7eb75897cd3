"""Hostile requests to every route that the server has: each is refused or harmless, and nothing on the disk changes.

The routes come from the server's own OpenAPI document, so that a new one is attacked as soon as it is there.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from tests.support.recorded_runs import RecordedRun
from tests.support.running_server import Answer, RunningServer, serving
from tools.server.gate.state import DIRECTORY, Limits
from training.experiments.store.identity import run_id_of

pytestmark = pytest.mark.slow  # hundreds of requests
SECRET = "the content of a file outside of all that is served"
NO_ID = "0" * 12
STREAMS = ("/api/events", "/api/training/jobs/{run_id}/events")
"""Routes that answer without end."""

TRAVERSALS = (
    "..",
    "../secret",
    "../../../../../../etc/passwd",
    "..%2f..%2fsecret",
    "%2e%2e/%2e%2e/secret",
    "%2e%2e%2fsecret",
    "..%252f..%252fsecret",
    "..%5c..%5csecret",
    "..;/secret",
    "....//....//secret",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "~root",
    "file:%2f%2f%2fetc%2fpasswd",
    "secret%00.json",
    "..%c0%afsecret",
    "%u002e%u002e%u2215",
    ".server",
    ".server%2ftoken",
    "first%2f.lock",
    "first",
    "0123456789AB",
    "0123456789abc",
    "'%20OR%20'1'='1",
    "1;DROP%20TABLE%20runs",
    "%1b[31mred%1b[0m",
    "%e2%80%ae",
    "%0d%0aSet-Cookie:%20x=1",
    "<script>alert(1)</script>",
    "{{7*7}}",
    "$(id)",
    "%ff%fe",
    "x" * 3000,
)
"""Values of a parameter in a path, as they are sent."""
QUERY_VALUES = (
    "",
    "-1",
    "0",
    "1e309",
    "nan",
    "99999999999999999999999999",
    "9223372036854775808",
    "true",
    "../../../etc/passwd",
    "%2e%2e%2f",
    "'",
    "' OR 1=1 --",
    "learning_rate<",
    "a=1 and (b=2",
    "__import__('os').system('id')",
    "(" * 500,
    "x" * 2000,
    "\x1b[31m",
    "\u202e",
    "%",
    "*",
    "😀",
)
"""Values of a parameter behind the question mark."""
BODIES: tuple[Any, ...] = (
    None,
    [],
    "text",
    0,
    {"unknown": 1},
    {"settings": []},
    {"settings": {"run_dir": "/tmp/elsewhere"}, "name": "a"},
    {"settings": {"run": {"run_dir": "../.."}}, "name": "a"},
    {"settings": {"track": ["mlflow"], "mlflow_tracking_uri": "http://evil.example"}, "name": "a"},
    {"settings": {"trust_remote_code": True}, "model": "huggingface", "name": "a"},
    {"settings": {"trainer_callbacks": ["os:system"]}, "backend": "huggingface", "name": "a"},
    {"settings": {"push_to_hub": "evil/model"}, "name": "a"},
    {"settings": {"datasets": ["/etc/passwd"]}, "name": "a"},
    {"settings": {"epochs": -1}, "name": "../../outside"},
    {"settings": {"epochs": -1}, "name": "\x1b[31mred"},
    {"settings": {"epochs": -1}, "name": "a\nb"},
    {"settings": {"epochs": -1}, "name": "x" * 100_000},
    {"settings": {"__class__": 1, "model": {"__init__": {}}}, "name": "a"},
    {"settings": {"epochs": 10**30}, "name": "a"},
    {"task": "os:system", "name": "a"},
    {"backend": "azure", "name": "a"},
    {"model": "../secret", "name": "a"},
    {"config_id": "../../secret"},
    {"config_id": NO_ID, "dataset": "../secret"},
    {"a": "../secret", "b": "/etc/passwd"},
    {"key": "__class__", "settings": {}},
    {"tags": "\x1b]0;title\x07", "note": ["x"], "archived": "maybe"},
    {"tags": ["x" * 10_000] * 100},
    {"tags": ["\x1b[31m"], "note": "\x1b[31m", "archived": 7},
    {"messages": [{"role": "system", "content": 1}], "temperature": "hot"},
    {"messages": "x", "max_new_tokens": 10**12},
    {"priority": "high", "at_once": "later"},
    {"priority": 10**30},
)
"""Documents; none of them is a request that a route may carry out on a run that is there."""


class Route(NamedTuple):
    """A route of the server."""

    method: str
    path: str
    in_path: Sequence[str]
    in_query: Sequence[str]


class Attack(NamedTuple):
    """A request and what it was answered."""

    method: str
    path: str
    answer: Answer


class Target(NamedTuple):
    """A server with things to be protected."""

    server: RunningServer
    folder: Path
    run: str
    """Id of a run."""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Serve a run and a data set; a secret lies beside them."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "secret").write_text(SECRET)
    (folder / "secret.json").write_text(json.dumps([SECRET]))
    (folder / "data").mkdir()
    (folder / "data" / "rows.json").write_text(json.dumps({"data": {"a": [{"input": "1", "output": "2"}]}}))
    (folder / "data" / "link.json").symlink_to(folder / "secret.json")
    RecordedRun(folder / "runs" / "first", start=1.7e9, total_steps=20).train().reporter.close()
    (folder / "runs" / "outside").symlink_to(folder)
    with serving(
        folder / "runs", data=(folder / "data",), limits=Limits(requests_per_second=1e6, burst=10**6)
    ) as server:
        yield Target(server, folder, run_id_of(server.state.root, server.state.root / "first"))


@pytest.fixture(scope="module")
def routes(target: Target) -> list[Route]:
    """Return every route, from the server's own document."""
    found = []
    for path, methods in target.server.get("/openapi.json").json["paths"].items():
        for method, described in methods.items():
            parameters = described.get("parameters", [])
            named = [[one["name"] for one in parameters if one["in"] == place] for place in ("path", "query")]
            found.append(Route(method.upper(), path, *named))
    return found


@pytest.fixture(autouse=True)
def nothing_changes(target: Target) -> Iterator[None]:
    """Compare everything outside of `.server` before and after each test."""
    before = snapshot(target.folder)
    yield
    assert snapshot(target.folder) == before


def snapshot(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Return mode, time of change and content of everything below a folder that is not the server's own."""
    found = {}
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != DIRECTORY]
        for name in (*files, *folders):
            path = Path(where, name)
            status = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            modified = 0 if path.is_dir() else status.st_mtime_ns  # SQLite and others make files beside others
            found[str(path.relative_to(folder))] = (status.st_mode, modified, content)
    return found


def is_harmless(target: Target, attack: Attack) -> str:
    """Return what is wrong with an answer; empty: nothing is."""
    answer = attack.answer
    if answer.status >= 500:
        return f"status {answer.status}: {answer.text[:300]}"
    if SECRET.encode() in answer.body or target.server.state.token.encode() in answer.body:
        return "a secret in the answer"
    if b"root:x:0" in answer.body or b"Traceback" in answer.body or str(target.folder).encode() in answer.body:
        return f"the inside of the machine in the answer: {answer.text[:300]}"
    if answer.status >= 400 and answer.headers.get("content-type") != "application/problem+json":
        return f"no problem: {answer.headers.get('content-type')}"
    if answer.status >= 400 and any(ord(c) < 32 or c in "\x7f\x9b\u202e" for c in answer.json["detail"]):
        return f"an escape sequence in the answer: {answer.json['detail']!r}"
    if "set-cookie" in answer.headers:
        return "a cookie"
    return ""


def check_all(target: Target, attacks: Sequence[Attack], allowed: Sequence[int], least: int) -> None:
    """Check that all answers are harmless, and have one of the statuses.

    Args:
        target: what was attacked.
        attacks: the requests with their answers.
        allowed: statuses.
        least: number of requests that there must have been.
    """
    found = []
    for attack in attacks:
        fault = is_harmless(target, attack)
        if not fault and attack.answer.status not in allowed:
            fault = f"status {attack.answer.status}: {attack.answer.text[:200]}"
        if fault:
            found.append(f"{attack.method} {attack.path[:200]} -> {fault}")
    assert not found, f"{len(found)} of {len(attacks)}:\n" + "\n".join(found[:40])
    assert len(attacks) >= least


def filled(route: Route, value: str) -> str:
    """Return the path of a route with the same value for each of its parameters."""
    path = route.path
    for name in route.in_path:
        path = path.replace(f"{{{name}}}", value)
    return path


def send(target: Target, method: str, path: str, document: Any = None, **further: Any) -> Attack:
    """Send a request; a path is sent as it is written."""
    return Attack(method, path, target.server.ask(method, path, document, **further))


def test_no_parameter_of_a_path_leads_anywhere(target: Target, routes: list[Route]) -> None:
    attacks = [
        send(target, route.method, filled(route, value), {} if route.method in ("POST", "PUT") else None)
        for route in routes
        if route.in_path
        for value in (*TRAVERSALS, NO_ID)
    ]
    check_all(target, attacks, (400, 404, 405, 422), 100)


def test_no_parameter_of_a_query_breaks_anything(target: Target, routes: list[Route]) -> None:
    attacks = []
    for route in routes:
        if route.method != "GET" or route.path in STREAMS:
            continue
        for name, value in itertools.product(route.in_query, QUERY_VALUES):
            attacks.append(send(target, "GET", f"{filled(route, target.run)}?{name}={quote(value)}"))
    check_all(target, attacks, (200, 400, 404, 409, 422), 50)


def test_no_body_breaks_anything(target: Target, routes: list[Route]) -> None:
    attacks = [
        send(target, route.method, filled(route, NO_ID), body)
        for route in routes
        if route.method in ("POST", "PUT")
        for body in BODIES
    ]
    check_all(target, attacks, (200, 400, 404, 409, 415, 422), 100)
    changed = [one for one in attacks if one.answer.status == 200 and not one.path.endswith(("validate", "explain"))]
    assert [(one.method, one.path, one.answer.text[:100]) for one in changed] == []


BROKEN = (
    b"{",
    b'{"a": 1',
    b"\x00",
    b"\xff\xfe{\x00}\x00",
    b"NaN",
    b'{"settings": {"epochs": NaN}}',
    b'{"settings": {"epochs": 1e999}}',
    b"[" * 50_000,
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    b"9" * 20_000,
    b'{"name": "\\u0000"}',
    b'{"name": "\\ud800"}',
)


def test_what_is_no_json_reaches_no_route(target: Target, routes: list[Route]) -> None:
    headers = {"Content-Type": "application/json"}
    attacks = [
        send(target, route.method, filled(route, target.run), body=body, headers=headers)
        for route in routes
        if route.method in ("POST", "PUT", "DELETE")
        for body in BROKEN
    ]
    check_all(target, attacks, (400,), 50)


def test_huge_bodies_reach_no_route(target: Target, routes: list[Route]) -> None:
    body = b'{"name": "' + b"x" * (2**20) + b'"}'
    attacks = [
        send(target, route.method, filled(route, target.run), body=body, headers={"Content-Type": "application/json"})
        for route in routes
        if route.method in ("POST", "PUT", "DELETE")
    ]
    check_all(target, attacks, (413,), 4)


def test_no_route_answers_without_the_secret(target: Target, routes: list[Route]) -> None:
    name = target.server.state.cookie[0]
    wrong: list[dict[str, str]] = [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {target.server.state.token[:-1]}"},
        {"Authorization": f"Basic {base64.b64encode(target.server.state.token.encode()).decode()}"},
        {"Authorization": target.server.state.token},
        {"Cookie": f"{name}={target.server.state.token}"},
        {"Cookie": f"{name}={target.server.state.cookie[1][:-1]}"},
        {"Cookie": f"session={target.server.state.cookie[1]}"},
        {"Cookie": f"{name}={'0' * 64}; {name}="},
        {"X-Token": target.server.state.token},
    ]
    attacks = [
        send(target, route.method, filled(route, target.run), token=None, headers=headers)
        for route in routes
        if route.path != "/healthz"
        for headers in wrong
    ]
    check_all(target, attacks, (401,), 100)


def test_the_secret_is_not_taken_from_the_address(target: Target, routes: list[Route]) -> None:
    attacks = [
        send(target, route.method, f"{filled(route, target.run)}?token={target.server.state.token}", token=None)
        for route in routes
        if route.path != "/healthz"
    ]
    check_all(target, attacks, (401,), 10)


def test_no_route_answers_to_another_host(target: Target, routes: list[Route]) -> None:
    hosts = (
        "evil.example",
        "127.0.0.1.evil.example",
        f"evil.example:{target.server.port}",
        "0.0.0.0",
        "[::]",
        "2130706433",
    )
    attacks = [
        send(target, route.method, filled(route, target.run), headers={"Host": host})
        for route in routes
        for host in hosts
    ]
    check_all(target, attacks, (403,), 60)


def test_no_route_answers_to_another_page(target: Target, routes: list[Route]) -> None:
    name, value = target.server.state.cookie
    foreign: list[dict[str, str]] = [
        {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Origin": f"http://127.0.0.1:{target.server.port + 1}", "Sec-Fetch-Site": "same-site"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{target.server.port}.evil.example"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"},
    ]
    attacks = [
        send(target, route.method, filled(route, target.run), token=None, headers={"Cookie": f"{name}={value}", **page})
        for route in routes
        for page in foreign
    ]
    check_all(target, attacks, (403,), 50)


def test_no_form_of_another_page_is_taken(target: Target, routes: list[Route]) -> None:
    name, value = target.server.state.cookie
    forms = (
        ("application/x-www-form-urlencoded", b"at_once=true&name=x"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n'),
        ("text/plain", b'{"at_once": true}'),
        ("text/plain; charset=application/json", b"{}"),
        ("application/xml", b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'),
        ("", b"{}"),
    )
    attacks = [
        send(
            target,
            route.method,
            filled(route, target.run),
            body=body,
            token=None,
            headers={"Cookie": f"{name}={value}", "Content-Type": kind},
        )
        for route in routes
        if route.method in ("POST", "PUT", "DELETE")
        for kind, body in forms
    ]
    check_all(target, attacks, (415,), 20)


def test_wrong_methods_do_nothing(target: Target, routes: list[Route]) -> None:
    methods = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "get")
    known: dict[str, set[str]] = {}
    for route in routes:
        known.setdefault(filled(route, target.run), set()).add(route.method)
    attacks = [
        send(target, method, path) for path, allowed in known.items() for method in methods if method not in allowed
    ]
    check_all(target, attacks, (404, 405), 60)


def test_the_files_of_the_page_are_all_that_is_static(target: Target) -> None:
    paths = [f"/static/{value}" for value in TRAVERSALS]
    paths += [f"/{value}" for value in TRAVERSALS] + [
        "/.server/token",
        "/runs/first/config.yaml",
        "/static//etc/passwd",
    ]
    check_all(target, [send(target, "GET", path) for path in paths], (400, 404, 405), 60)


def test_names_with_escape_sequences_come_back_escaped(target: Target) -> None:
    """A directory may have any name; whoever lists it gets plain text."""
    name = "\x1b]0;owned\x07 \u202e run"
    made = RecordedRun(target.server.state.root / name, start=1.7e9, total_steps=20).train()
    made.reporter.close()
    try:
        target.server.state.index.look(search=True)
        answer = send(target, "GET", "/api/training/jobs").answer
        names = [run["name"] for run in answer.json["jobs"]]
        assert len(names) == 2
        assert all(run.isprintable() for run in names)
        for run in answer.json["jobs"]:
            assert send(target, "GET", f"/api/training/jobs/{run['id']}").answer.status == 200
        answer = send(target, "POST", "/api/training/configs/validate", {"model": name}).answer
        assert not answer.json["ok"]
        assert all(ord(c) >= 32 for one in answer.json["problems"] for c in one["detail"])
    finally:
        shutil.rmtree(made.path)
        target.server.state.index.look(search=True)
