"""The command that serves: what it prints, what it refuses in one line, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tools.serve import run
from tools.server.gate.state import DIRECTORY, only_server, open_root, read_or_make_token
from training.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow  # starts processes


def refusal(arguments: Sequence[str | Path]) -> str:
    """Return the line by which the command refuses, without a server."""
    with pytest.raises(UserError) as caught:
        run([str(argument) for argument in arguments])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def started(root: Path, *arguments: str) -> tuple[subprocess.Popen[str], list[str]]:
    """Start the command on a free port; return it with the lines up to the one that says how to stop it."""
    command = [sys.executable, str(ROOT / "tools" / "serve.py"), "--root", str(root), "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root.parent)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if line.startswith("stop"):
            break
    return process, lines


def test_it_prints_the_link_serves_and_ends_at_ctrl_c(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    process, lines = started(root)
    link = next(line for line in lines if line.startswith("open")).split()[1]
    found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/login\?token=([\w-]{43})", link)
    assert found is not None
    announced = root / DIRECTORY / "server.json"
    assert f'"url": "http://127.0.0.1:{found[1]}"' in announced.read_text()
    for name in ("token", "server.json"):
        assert stat.S_IMODE((root / DIRECTORY / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((root / DIRECTORY).stat().st_mode) == 0o700

    second = refusal(["--root", root, "--port", "0"])
    assert "it is served already" in second
    assert f"http://127.0.0.1:{found[1]}" in second
    with socket.create_connection(("127.0.0.1", int(found[1]))) as open_connection:
        open_connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert open_connection.recv(1000).startswith(b"HTTP/1.1 200 ")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert output.splitlines()[-1].startswith("ended   0 running jobs go on by themselves; 0 wait for the next server")
    assert errors == ""
    assert not announced.exists()
    assert read_or_make_token(root / DIRECTORY) == found[2], "the token outlives the server, and so do the cookies"


def test_a_server_that_was_killed_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    process, _ = started(root)
    process.kill()
    process.communicate()
    again, lines = started(root)
    assert any(line.startswith("open") for line in lines)
    again.terminate()
    again.communicate(timeout=60)
    assert again.returncode == 0


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = refusal(["--root", tmp_path, "--port", str(port)])
    assert line.startswith(f"--port {port}: cannot listen")
    assert line.endswith("choose another port")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--port", "70000"], "--port must be a whole number from 0 to 65535"),
        (["--port", "x"], "--port must be"),
        (["--slots", "0"], "--slots must be"),
        (["--host", "0.0.0.0"], "plain HTTP"),
        (["--host", "::"], "--public-host"),
        (["--host", "0.0.0.0", "--public-host", "http://a"], "--public-host http://a: no name"),
        (["--host", "no.such.host.invalid", "--public-host", "a"], "no address of this machine"),
        (["--data", "nowhere"], "--data nowhere: there is no such directory"),
        (["--root", "no/such/parent"], "there is no directory"),
        (["--unknown"], "unrecognized arguments"),
    ],
)
def test_what_cannot_be_used_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expected in refusal(arguments)


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "cannot be used" in refusal(["--root", tmp_path / "file"])


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    root = open_root(tmp_path)
    read_or_make_token(root / DIRECTORY)
    path = root / DIRECTORY / "token"
    path.chmod(0o644)
    assert "others may read this secret (mode 644)" in refusal(["--root", root, "--port", "0"])
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    assert "this is a link" in refusal(["--root", root, "--port", "0"])
    assert not (tmp_path / "elsewhere").exists()
    path.unlink()
    path.write_text("short")
    path.chmod(0o600)
    assert "it holds no token" in refusal(["--root", root, "--port", "0"])
    path.unlink()
    os.link(_made(tmp_path / "other"), path)
    assert "no file of this user's alone" in refusal(["--root", root, "--port", "0"])


def _made(path: Path) -> Path:
    path.write_text("x" * 43)
    path.chmod(0o600)
    return path


def test_a_directory_of_the_server_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / DIRECTORY).symlink_to(tmp_path / "elsewhere")
    assert "no directory of this user's" in refusal(["--root", tmp_path / "runs"])
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_lock_ends_with_its_holder(tmp_path: Path) -> None:
    root = open_root(tmp_path)
    with only_server(root), pytest.raises(UserError, match="served already"), only_server(root):
        raise AssertionError("two servers have the root")
    with only_server(root):
        pass
