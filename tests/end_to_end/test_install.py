"""`install.py`: uv installs from the sources that pip is configured with, and pip where uv would not follow them."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LISTED = """\
:env:.default-timeout='180'
:env:.find-links='/opt/wheels'
global.cert='/etc/ca.crt'
global.constraint='/etc/pip/constraints.txt'
global.extra-index-url='file:///opt/one/simple https://user@two/simple'
global.find-links='/not/this'
install.disable-pip-version-check='1'
download.platform='riscv'
"""
WORDS = ["-c", "constraints.txt", "-e", ".[dev]"]


@pytest.fixture(scope="module")
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Commands:
    """Stands for `subprocess.run`: keeps the commands, and fails those that have one of some words in them."""

    def __init__(self, listed: str, failing: Sequence[str] = ()) -> None:
        self.listed, self.failing = listed, failing
        self.ran: list[list[str]] = []
        self.environment: Mapping[str, str] = {}

    def __call__(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert command[0] == sys.executable
        if command[-2:] == ["config", "list"]:
            return subprocess.CompletedProcess(command, 0, self.listed)
        self.ran.append(command[2:])
        self.environment = options.get("env", {})
        return subprocess.CompletedProcess(command, int(any(word in command for word in self.failing)))


def test_pip_s_sources_are_uv_s(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands(LISTED)
    monkeypatch.setattr(install.subprocess, "run", commands)
    assert install.main(WORDS) == 0
    pip, uv = commands.ran
    assert pip[0] == "pip"
    assert pip[-3:] == ["-c", "constraints.txt", "uv"], "uv has a pinned version too"
    assert uv[:3] == ["uv", "pip", "install"]
    assert uv[-4:] == WORDS
    given = list(itertools.pairwise(uv))
    for pair in [
        ("--index", "file:///opt/one/simple"), ("--index", "https://user@two/simple"), ("--find-links", "/opt/wheels"),
        ("--constraint", "/etc/pip/constraints.txt"), ("--index-strategy", "unsafe-best-match"),
        ("--python", sys.executable),
    ]:  # fmt: skip
        assert pair in given
    assert "/not/this" not in uv, "the environment's variable wins"
    assert commands.environment["SSL_CERT_FILE"] == "/etc/ca.crt"
    assert commands.environment["UV_HTTP_TIMEOUT"] == "180"
    assert "PATH" in commands.environment


@pytest.mark.parametrize("setting", ["global.no-binary=':all:'", "install.user='1'", ":env:.proxy='http://proxy'"])
def test_a_setting_that_uv_would_not_follow_leaves_it_to_pip(
    install: ModuleType, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = Commands(LISTED + setting)
    monkeypatch.setattr(install.subprocess, "run", commands)
    assert install.main(WORDS) == 0
    [pip] = commands.ran
    assert (pip[0], pip[-4:]) == ("pip", WORDS)


@pytest.mark.parametrize(("failing", "tried"), [(["uv"], 2), (["--index-strategy"], 3)])
def test_where_uv_fails_pip_installs(
    install: ModuleType,
    failing: list[str],
    tried: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    commands = Commands("", failing)
    monkeypatch.setattr(install.subprocess, "run", commands)
    assert install.main(WORDS) == 0
    assert len(commands.ran) == tried
    assert (commands.ran[-1][0], commands.ran[-1][-4:]) == ("pip", WORDS)
    assert "pip does it" in capsys.readouterr().err


def test_what_pip_cannot_install_either_is_an_error(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install.subprocess, "run", Commands("", ["-c"]))
    assert install.main(WORDS) == 1
