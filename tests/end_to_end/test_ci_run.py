"""`.ci/run`: it fails when the tests fail, and when they leave something in the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# An outer make must not hand its flags to the one of the test, nor an outer git its repository.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "GIT_"))}

CiRun = Callable[[str], "subprocess.CompletedProcess[str]"]


def git(checkout: Path, *words: str) -> None:
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *words], cwd=checkout, env=ENVIRONMENT, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clean checkout of a project with `.ci/run`, `kept.txt` and an ignored folder `cache/`."""
    directory = tmp_path / "checkout"
    (directory / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", directory / ".ci" / "run")
    (directory / ".gitignore").write_text("cache/\n", encoding="utf-8")
    (directory / "kept.txt").write_text("as committed\n", encoding="utf-8")
    (directory / "Makefile").write_text("-include ../recipe.mk\n", encoding="utf-8")
    git(directory, "init", "--quiet")
    git(directory, "add", ".")
    git(directory, "commit", "--quiet", "--message", "all")
    return directory


@pytest.fixture
def ci_run(checkout: Path) -> CiRun:
    """Run `.ci/run` with this command as `make test`."""

    def run(command: str) -> subprocess.CompletedProcess[str]:
        (checkout.parent / "recipe.mk").write_text(f"test:\n\t@{command}\n", encoding="utf-8")
        script = [checkout / ".ci" / "run"]
        return subprocess.run(script, cwd=checkout.parent, env=ENVIRONMENT, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize("command", ["true", "mkdir cache && touch cache/file"])
def test_a_run_that_leaves_only_ignored_files_passes(ci_run: CiRun, command: str) -> None:
    assert ci_run(command).returncode == 0


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("mkdir runs && touch runs/mlflow.db", "?? runs/mlflow.db"),
        ("echo changed > kept.txt", " M kept.txt"),
        ("rm kept.txt", " D kept.txt"),
    ],
)
def test_a_run_that_leaves_a_file_fails_and_names_it(ci_run: CiRun, command: str, line: str) -> None:
    done = ci_run(command)
    assert done.returncode == 1
    assert line in done.stderr.splitlines()
    assert "leave files changed or new" in done.stderr


def test_what_was_there_before_is_not_the_tests_fault_but_must_still_be_there(ci_run: CiRun, checkout: Path) -> None:
    (checkout / "notes.txt").touch()
    assert ci_run("true").returncode == 0
    done = ci_run("rm notes.txt")
    assert done.returncode == 1
    assert "no longer: ?? notes.txt" in done.stderr.splitlines()


def test_a_run_that_fails_says_so_by_its_exit_code(ci_run: CiRun) -> None:
    done = ci_run("touch left && false")
    assert done.returncode == 2  # make's
    assert "leave files" not in done.stderr


def test_outside_git_the_tests_still_run(ci_run: CiRun, checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    done = ci_run("echo all passed")
    assert (done.returncode, "all passed" in done.stdout) == (0, True)
    assert "not a git checkout" in done.stderr
