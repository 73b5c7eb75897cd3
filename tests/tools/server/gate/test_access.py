"""The gate of the server: secret, hosts, origins, bounds; over a real connection."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.running_server import RunningServer, serving
from tools.server.gate.access import Rates

JSON = "application/json"
MISSING = "/api/training/jobs/0123456789ab/nothing"
"""A path behind the gate at which there is nothing: 404 says that the gate let the request pass."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Serve an empty root."""
    with serving(tmp_path_factory.mktemp("runs")) as running:
        yield running


def test_health_needs_no_token(server: RunningServer) -> None:
    assert server.get("/healthz", token=None).json == {"status": "ok"}


@pytest.mark.parametrize("token", [None, "wrong", "é", "x" * 5000])
@pytest.mark.parametrize("path", ["/", "/openapi.json", "/api/training/jobs", "/nothing", "/static/page.js"])
def test_everything_else_needs_it(server: RunningServer, token: str | None, path: str) -> None:
    headers = {"Authorization": f"Bearer {token}".encode().decode("latin-1")} if token else {}
    answer = server.get(path, token=None, headers=headers)
    assert answer.status == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["remedy"]
    assert server.state.token not in answer.text


def test_a_browser_without_the_cookie_reads_what_to_do(server: RunningServer) -> None:
    answer = server.get("/", token=None, headers={"Accept": "text/html,*/*"})
    assert (answer.status, answer.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert "tools/serve.py" in answer.text


def test_the_link_sets_a_cookie_that_scripts_and_other_sites_cannot_use(server: RunningServer) -> None:
    answer = server.get(f"/login?token={server.state.token}", token=None)
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert server.state.token not in cookie
    pair = cookie.partition(";")[0]
    assert server.get(MISSING, token=None, headers={"Cookie": f"other=1; {pair}"}).status == 404
    assert server.get(MISSING, token=None, headers={"Cookie": f"{pair}x"}).status == 401


@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong", "?token=a&token=b", "?other=1"])
def test_a_wrong_link_sets_none(server: RunningServer, query: str) -> None:
    answer = server.get(f"/login{query}", token=None)
    assert answer.status == 401
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.", "127.0.0.1@evil", "", "a b", "[::"]
)
def test_other_hosts_are_refused(server: RunningServer, host: str) -> None:
    assert server.get("/healthz", headers={"Host": host}).status == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "LOCALHOST:8765", "[::1]:8765"])
def test_this_machine_is_allowed_by_any_port(server: RunningServer, host: str) -> None:
    assert server.get("/healthz", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_what_another_page_sends_is_refused(server: RunningServer, method: str, headers: dict[str, str]) -> None:
    assert server.ask(method, MISSING, headers=headers).status == 403


def test_what_the_own_page_sends_passes(server: RunningServer) -> None:
    headers = {"Origin": f"http://127.0.0.1:{server.port}", "Sec-Fetch-Site": "same-origin"}
    assert server.post(MISSING, {}, headers=headers).status == 404
    navigation = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert server.get(MISSING, headers=navigation).status == 404


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
@pytest.mark.parametrize("body", [b"{}", b""])
def test_a_form_is_refused(server: RunningServer, kind: str, body: bytes) -> None:
    expected = 415 if kind or body else 404  # `curl -X POST` sends neither
    headers = {"Content-Type": kind} if kind else {}
    assert server.post(MISSING, body=body, headers=headers).status == expected


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"{} {}", b"NaN", b'{"a": Infinity}', b'{"a": 1e999}', b"1" * 5000, b"[" * 99_000, b"\xff\xfe",
        b"{'a': 1}",
        b'{"a": "\\u0000"}', b'{"\\ud800": 1}', b'{"a": "\\udfff"}', b'{"a":' * 200 + b"1" + b"}" * 200,
    ],
)  # fmt: skip
def test_what_is_no_plain_json_is_refused(server: RunningServer, body: bytes) -> None:
    answer = server.post(MISSING, body=body, headers={"Content-Type": JSON})
    assert answer.status == 400
    assert answer.json["detail"]


def test_a_body_is_bounded(server: RunningServer) -> None:
    most = server.state.limits.body_bytes
    fitting = b'"' + b"x" * (most - 2) + b'"'
    headers = {"Content-Type": JSON}
    assert server.post(MISSING, body=fitting, headers=headers).status == 404
    assert server.post(MISSING, body=fitting + b" ", headers=headers).status == 413
    assert server.ask("GET", MISSING, body=b"{}", headers=headers).status == 400


def test_every_answer_has_the_headers_that_protect(server: RunningServer) -> None:
    for path, token in (("/healthz", ""), ("/", None), (MISSING, ""), ("/openapi.json", "")):
        headers = server.get(path, token=token).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "path", ["/docs", "/redoc", "/healthz/", "/Healthz", "//healthz", "/./healthz", "/static/../healthz"]
)
def test_paths_are_taken_as_they_are(server: RunningServer, path: str) -> None:
    answer = server.get(path)
    assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PATCH", "CONNECT", "BREW"])
def test_methods_that_nobody_needs_are_refused(server: RunningServer, method: str) -> None:
    answer = server.ask(method, "/healthz")
    assert answer.status == 405
    assert "GET" in answer.headers["allow"]


def test_the_openapi_page_describes_routes_access_and_errors(server: RunningServer) -> None:
    document = server.get("/openapi.json").json
    assert document["paths"]["/healthz"]["get"]["responses"].keys() == {"200", "default"}
    assert document["security"] == [{"token": []}]
    assert "HTTPValidationError" not in str(document)
    named = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert named <= set(document["components"]["schemas"])


def test_a_bucket_empties_and_fills() -> None:
    rates = Rates(per_second=2.0, burst=3)
    assert [rates.seconds_to_wait("a", 10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert rates.seconds_to_wait("b", 10.0) == 0.0
    assert rates.seconds_to_wait("a", 10.5) == 0.0
    assert rates.seconds_to_wait("a", 10.5) == 0.5


def test_too_many_requests_are_refused_for_a_while(tmp_path: Path) -> None:
    from tools.server.gate.state import Limits

    with serving(tmp_path, limits=Limits(requests_per_second=0.001, burst=2)) as server:
        assert [server.get("/healthz").status for _ in range(3)] == [200, 200, 429]
        assert int(server.get("/healthz").headers["retry-after"]) > 1
