"""Which checkpoint a run goes on from, and whether it is that run's at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.checkpoints.checkpoint import load_checkpoint, newest_good
from training.checkpoints.manifest import existing_form, is_checkpoint
from training.checkpoints.run_settings import with_names
from training.errors import CheckpointError
from training.machine.ranks import Ranks
from training.settings.tree import RunConfig, TrainingConfig

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
        resume_from: this checkpoint or run directory instead; a bare name is also looked for in `run_dir`.

    Raises:
        CheckpointError: the one asked for is missing or damaged, or all that are there are damaged.
    """
    if resume_from is not None:
        path = existing_form(resume_from)
        if not path.exists():
            path = existing_form(run_dir / resume_from)
        if is_checkpoint(path) or not path.is_dir():
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
        raise CheckpointError(
            f"--resume {resume_from}: no checkpoint in this directory, and it is none itself (no manifest.json in it); "
            "give a run directory or a checkpoint_* of one"
        )
    if found is None:
        print(f"{run_dir}: no checkpoint yet, training starts from the beginning", flush=True)
    return found


def what_does_not_carry_over(payload: Mapping[str, Any], config: TrainingConfig, ranks: Ranks) -> list[str]:
    """Why the resumed run will not be bit for bit the one that was interrupted; empty where it will.

    Args:
        payload: of the checkpoint, which `refuse_another_run` let through.
        config: of the resumed run.
        ranks: its processes.
    """
    sums: list[str] = []
    now_is = {"backend": config.backend, "world_size": ranks.world_size, "device": ranks.device.type}
    for name, now in now_is.items():
        was = payload.get(name, now)
        if was != now:
            sums.append(f"{name} {was} -> {now}")
    options_then, options = payload["config"].get("deepspeed") or {}, getattr(config, "deepspeed", None)
    for name in ("zero_stage", "cpu_offload", "param_offload"):
        if options is not None and name in options_then and options_then[name] != getattr(options, name):
            sums.append(f"{name} {options_then[name]} -> {getattr(options, name)}")
    batch_size_then = payload["config"]["run"]["batch_size"]
    if batch_size_then != config.run.batch_size:
        sums.append(f"batch_size {batch_size_then} -> {config.run.batch_size}")
    told = []
    if sums:
        told.append(f"{', '.join(sums)} sums in another order: the curve goes on within the parity tolerance")
        if config.model.dropout > 0.0:
            told.append("dropout may draw other masks")
    if config.run.precision == "fp16" and "scaler" not in payload["engine"]:
        told.append("the loss scale starts anew")
    if config.optimizer.stabilizer != "none" and "stabilizer" not in payload["engine"]:
        told.append(f"the stabilizer ({config.optimizer.stabilizer}) starts anew")
    return told


def another_length(payload: Mapping[str, Any], config: TrainingConfig, total_steps: int) -> str | None:
    """What to tell where the schedule is stretched to another end than the interrupted run's; None where it is not."""
    schedule, planned = config.schedule.schedule, payload["total_steps"]
    if planned == total_steps or schedule not in ("cosine", "linear"):
        return None
    return (
        f"the {schedule} schedule now ends at step {total_steps}, it was planned to end at {planned}: the curve goes "
        "on, but differs from an uninterrupted run's"
    )


def refuse_another_run(
    path: Path, payload: Mapping[str, Any], config: TrainingConfig, num_samples: int, fingerprint: str | None
) -> None:
    """What decides the curve must be what it was, or the resumed run would not be that run.

    Raises:
        CheckpointError: a finished model, another setting or other data; names what differs.
    """
    if payload.get("kind") != "checkpoint":
        raise CheckpointError(f"--resume {path}: this is a finished model without training state; give a checkpoint_*")
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
    was, now = with_names(payload["config"]), config.to_dict()
    if was["task"] != config.task:
        raise CheckpointError(
            f"--resume {path}: the run's task was {was['task']!r} and is {config.task!r} now; set it back, or start a "
            "new run in another --run-dir"
        )
    for section in ("model", "data", "optimizer", "schedule", "run"):
        for name in now[section]:
            if name in FREE_TO_CHANGE.get(section, ()):
                continue
            if was[section].get(name) != now[section][name]:
                raise CheckpointError(
                    f"--resume {path}: {name} was {was[section].get(name)!r} in the run and is "
                    f"{now[section][name]!r} now; set it back, or start a new run in another --run-dir"
                )
