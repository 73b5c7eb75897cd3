"""Recorded runs below a root, and a store of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.recorded_runs import RecordedRun
from training.experiments.store.index import ExperimentStore

START = 1_760_000_000.0

Record = Callable[..., RecordedRun]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return an empty root."""
    path = tmp_path / "runs"
    path.mkdir()
    return path


@pytest.fixture
def record(root: Path) -> Record:
    """Return a function that records a run below the root: `record("sweep/a", total_steps=20)`."""

    def make(name: str = "run", **options: object) -> RecordedRun:
        return RecordedRun(root / name, **{"start": START, **options})  # type: ignore[arg-type]

    return make


@pytest.fixture
def store(root: Path) -> Iterator[ExperimentStore]:
    """Return the store of the root."""
    with ExperimentStore(root) as opened:
        yield opened
