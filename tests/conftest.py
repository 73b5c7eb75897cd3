"""What all tests share: tiny data and settings, a finished run, the front door in this process or in its own."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    # The tests run in a bare checkout too, in which nothing of ours is installed.
    sys.path.insert(0, str(ROOT))
# No test hangs on how fast the machine is. In all else the profile is Hypothesis' own, which differs in CI.
settings.register_profile(
    "any machine",
    settings.get_profile(settings.get_current_profile_name()),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("any machine")
pytest.register_assert_rewrite("tests.contracts.backend_contract", "tests.support.tracked_runs")

from tests.azure.stand_in.fixtures import azure, azure_session  # noqa: E402, F401  # one stand-in for all test files

_ALL_SLOW = re.compile(r"^pytestmark = (?:\[\s*)?(?:SLOW|pytest\.mark\.slow)\b", re.MULTILINE)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the collector of cyclic garbage away from what importing has made: all of that stays to the end.

    It would go through these millions of objects again and again: some 7 % of the quick tests' time.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(
            20_000, 10, 10
        )  # the frozen ones no longer count: at 700, all others would be gone through often
        gc.enable()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flag for the whole matrix of language models, of which the suite trains a sample."""
    parser.addoption(
        "--every-pair", action="store_true", help="test_resume_matrix_language.py: all pairs of backends (an hour)"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out of `-m "not slow"`, without importing it, a file whose `pytestmark` makes all of its tests slow.

    Each worker imports every file that it collects, and these import what is slowest to import.
    """
    if config.option.markexpr != "not slow" or collection_path.suffix != ".py":
        return None
    return True if _ALL_SLOW.search(collection_path.read_text(encoding="utf-8")) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever needs the stand-in of Azure starts processes, and `make quick` leaves it out."""
    for item in items:
        if "azure_session" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is cached, also by the processes that tests start, out of the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APT_TRAINER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


class Outcome(NamedTuple):
    """What one call of the front door did."""

    exit_code: int
    stdout: str
    stderr: str


def without_free_memory(shown: Outcome) -> Outcome:
    """A dry run's output, less what other programs change from one call to the next."""
    return shown._replace(stdout=re.sub(r"\S+ [KMGT]B are free", "some memory is free", shown.stdout))


class FrontDoor(Protocol):
    """`front_door(["--epochs", "1"])`: `training.train.main` in this process."""

    def __call__(self, args: Sequence[str | Path], backend_name: str | None = None) -> Outcome: ...


class Train(Protocol):
    """`train(["--epochs", "1"], cwd=…)`: `python train.py --epochs 1` in a process of its own, on one thread."""

    def __call__(
        self,
        args: Sequence[str | Path],
        cwd: Path | None = None,
        *,
        script: str | Path = "train.py",
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]: ...


class TinyDataset(Protocol):
    """`tiny_dataset("a.json", rows=12)`: write a small HLBD file of question rows into the test's own folder."""

    def __call__(self, name: str = "tiny.json", rows: int = 12) -> Path: ...


def write_tiny_dataset(path: Path, rows: int = 12) -> Path:
    """Rows of two modules; the questions of two files with different names differ."""
    made = [{"input": f"{path.stem} {i} + 1 等于几？", "output": str(i + 1)} for i in range(rows)]
    document = {"metadata": {"name": path.stem}, "data": {"even": made[::2], "odd": made[1::2]}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return path


def enter_front_door(args: Sequence[str | Path], backend_name: str | None = None) -> Outcome:
    """Call `main` and catch what it prints; an exception goes through, since users must never see one."""
    from training.train import main

    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        exit_code = main([str(arg) for arg in args], backend_name)
    return Outcome(exit_code, stdout.getvalue(), stderr.getvalue())


@pytest.fixture(scope="session")
def front_door() -> FrontDoor:
    """The front door in this process: a hundred times faster than `train`."""
    return enter_front_door


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """The front door in a process of its own; the working directory is `tmp_path` unless told."""

    def run(
        args: Sequence[str | Path],
        cwd: Path | None = None,
        *,
        script: str | Path = "train.py",
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / script), *map(str, args)],
            cwd=cwd or tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture
def tiny_dataset(tmp_path: Path) -> TinyDataset:
    """A factory of small HLBD files in `tmp_path`."""

    def make(name: str = "tiny.json", rows: int = 12) -> Path:
        return write_tiny_dataset(tmp_path / name, rows)

    return make


TINY_SETTINGS: Mapping[str, Any] = {
    "d_model": 16,
    "num_layers": 1,
    "num_heads": 2,
    "d_ff": 16,
    "batch_size": 8,
    "answer_samples": 0,
    "device": "cpu",
}
"""Settings of a model that trains an epoch of a tiny file (two updates) in milliseconds."""


@pytest.fixture(scope="session")
def tiny_settings() -> dict[str, Any]:
    """`TINY_SETTINGS`, which a test may change."""
    return dict(TINY_SETTINGS)


@pytest.fixture(scope="session")
def tiny_flags(tiny_settings: dict[str, Any]) -> list[str]:
    """The same settings as flags."""
    return [word for name, value in tiny_settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture(scope="session")
def _a_finished_run(tmp_path_factory: pytest.TempPathFactory, tiny_flags: list[str]) -> Path:
    directory = tmp_path_factory.mktemp("finished")
    data = write_tiny_dataset(directory / "tiny.json")
    where: list[str | Path] = ["--datasets", data, "--run-dir", directory / "run"]
    done = enter_front_door([*tiny_flags, *where, "--epochs", "2", "--save-interval", "1"])
    assert done.exit_code == 0, done
    return directory / "run"


@pytest.fixture
def finished_run(_a_finished_run: Path, tmp_path: Path) -> Path:
    """`tmp_path/run`: two epochs of two updates, a checkpoint after each, and the final model.

    Its data is `tiny.json` beside it, as `tiny_dataset()` would write it.
    """
    shutil.copytree(_a_finished_run, tmp_path / "run")
    write_tiny_dataset(tmp_path / "tiny.json")
    return tmp_path / "run"


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[], dict[str, bytes | None]]:
    """Everything in `tmp_path` as it is now: file -> content, directory -> None."""

    def look() -> dict[str, bytes | None]:
        return {
            str(p.relative_to(tmp_path)): None if p.is_dir() else p.read_bytes() for p in sorted(tmp_path.rglob("*"))
        }

    return look
