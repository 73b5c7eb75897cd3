"""Which checkpoint a run goes on from, and whether it is that run's at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apt_model.errors import CheckpointError
from training.checkpoint import load_checkpoint, newest_good
from training.config import RunConfig, TrainingConfig

FREE_TO_CHANGE: Mapping[str, frozenset[str]] = {
    "run": frozenset(
        {
            "run_dir",
            "epochs",
            "max_steps",
            "gradient_checkpointing",
            "batch_size",
            "gradient_accumulation_steps",
            "global_batch_size",  # their product is compared
        }
    ),
    "data": frozenset({"datasets", "truncate"}),  # what they hold is compared by its fingerprint
}
"""Settings that a resumed run may change; every other one of these sections decides the curve."""


def find_checkpoint(run_dir: Path, resume: bool, resume_from: Path | None) -> tuple[Path, dict[str, Any]] | None:
    """(path, content) of the checkpoint to go on from, or None to start at the beginning.

    Args:
        run_dir: searched for its newest good checkpoint; damaged ones are named and passed over.
        resume: the user asked to go on.
        resume_from: this checkpoint or run directory instead; a bare file name is also looked for in `run_dir`.

    Raises:
        CheckpointError: the one asked for is missing or damaged, or all that are there are damaged.
    """
    if resume_from is not None:
        path = resume_from if resume_from.exists() else run_dir / resume_from
        if not path.is_dir():
            return path, load_checkpoint(path)
        run_dir = path
    elif not resume:
        return None
    found, faults = newest_good(run_dir)
    for fault in faults:
        print(f"warning: {fault}; it is passed over", flush=True)
    if found is None and faults:
        raise CheckpointError(f"{run_dir}: no checkpoint can be read ({faults[0]}); start anew with --overwrite")
    if found is None and resume_from is not None:
        raise CheckpointError(f"--resume {resume_from}: no checkpoint in this directory")
    if found is None:
        print(f"{run_dir}: no checkpoint yet, training starts from the beginning", flush=True)
    return found


def refuse_another_run(
    path: Path, payload: Mapping[str, Any], config: TrainingConfig, num_samples: int, fingerprint: str | None
) -> None:
    """What decides the curve must be what it was, or the resumed run would not be that run.

    Raises:
        CheckpointError: a finished model, another setting or other data; names what differs.
    """
    if payload.get("kind") != "checkpoint":
        raise CheckpointError(
            f"--resume {path}: this is a finished model without training state; give a checkpoint_*.pt"
        )
    if payload["num_samples"] != num_samples or payload["data_fingerprint"] != fingerprint:
        raise CheckpointError(
            f"--resume {path}: the training data is not what it was ({payload['num_samples']} samples then, "
            f"{num_samples} now, or other content); give the same --datasets"
        )
    samples_then = RunConfig.model_validate(payload["config"]["run"]).samples_per_update
    if samples_then != config.run.samples_per_update:
        raise CheckpointError(
            f"--resume {path}: the global batch had {samples_then} samples and has {config.run.samples_per_update} "
            f"now; set --global-batch-size {samples_then}, or start a new run in another --run-dir"
        )
    was, now = payload["config"], config.to_dict()
    for section in ("model", "data", "optimizer", "schedule", "run"):
        for name in now[section]:
            if name in FREE_TO_CHANGE.get(section, ()):
                continue
            if was[section].get(name) != now[section][name]:
                raise CheckpointError(
                    f"--resume {path}: {name} was {was[section].get(name)!r} in the run and is "
                    f"{now[section][name]!r} now; set it back, or start a new run in another --run-dir"
                )
