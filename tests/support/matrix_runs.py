"""Runs of tests/support/programs/resume_matrix.py, and the comparison of what they recorded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tests.support.programs.resume_matrix import ON_ONE_RANK
from training.record.reporter import Event, read_events

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-5
"""Relative, in fp32; measured differences are below 1e-6."""


def launch(ranks: int, folder: Path, jobs: Sequence[str], seconds: float = 580.0) -> None:
    """Carry out jobs on so many ranks."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    done = subprocess.run(
        [sys.executable, *torchrun, str(ROOT / "tests/support/programs/resume_matrix.py"), str(folder), *jobs],
        # Nothing is compiled here; DeepSpeed's import alone would load torch's compiler, seconds a rank.
        env={**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "TORCHDYNAMO_DISABLE": "1"},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def run_matrix(folder: Path, pairs: Iterable[tuple[str, str, str]], seconds: float = 580.0) -> None:
    """Make the whole runs that (case, source, kind) name, and each kind's run from the source's checkpoint.

    `CASE/KIND/` is a whole run, with a checkpoint after its first half; `CASE/SOURCE-KIND/` has the other steps.
    """
    pairs = list(pairs)
    wholes = dict.fromkeys((case, kind) for case, *both in pairs for kind in ("playground", *both))
    alone = [(case, kind) for case, kind in wholes if kind in ON_ONE_RANK]
    together = [(case, kind) for case, kind in wholes if kind not in ON_ONE_RANK]
    rests = [(f"{case}/{source}-{kind}", kind in ON_ONE_RANK) for case, source, kind in pairs]
    launch(1, folder, ["/".join(job) for job in alone], seconds)
    launch(2, folder, [*map("/".join, together), *(job for job, is_alone in rests if not is_alone)], seconds)
    launch(1, folder, [job for job, is_alone in rests if is_alone], seconds)


def steps(run_dir: Path, after: int = 0, event: str = "step") -> list[Event]:
    """Step events of a run's record, or others."""
    events = (e for e in read_events(run_dir / "progress.jsonl") if e["event"] == event)
    return [e for e in events if e["step"] > after]


def difference(a: list[Event], b: list[Event], key: str) -> float:
    """Largest relative difference of a figure, step by step; of a fingerprint's projections, to the weights' norm."""
    return float(max(np.max(np.abs(np.subtract(x[key], y[key])) / _scale(x[key])) for x, y in zip(a, b, strict=True)))


def _scale(value: float | list[float]) -> float:
    return abs(value[0] if isinstance(value, list) else value)
