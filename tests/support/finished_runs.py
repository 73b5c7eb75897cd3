"""Finished runs with a model of a few bytes, made in milliseconds: what a registry of models reads, without torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.recorded_runs import RecordedRun
from training.storage.checksums import write_checksums

START = 1_760_000_000.0


def write_model(directory: Path, content: bytes) -> Path:
    """Write a model's directory with these bytes as its weights, and its checksums."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps({"model_type": "apt", "d_model": 16}), encoding="utf-8")
    (directory / "model.safetensors").write_bytes(content)
    write_checksums(directory)
    return directory


def finished(
    path: Path,
    content: bytes = b"weights",
    *,
    model_step: int = 20,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    validation: Callable[[int], float] | None = lambda epoch: 2.0 / epoch,
) -> Path:
    """Record a run of 20 updates and two epochs whose model has these bytes, and return its directory."""
    run = RecordedRun(path, start=START, total_steps=20, settings=settings, validation=validation)
    run.train()
    run.reporter.final_model(write_model(path / "final_model", content), model_step)
    run.finish()
    return path
