"""Choice of the checkpoint that a run goes on from, and refusal of another run's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from training.checkpoints.branches import ahead_of_record
from training.checkpoints.checkpoint import Checkpoint, DataIdentity, list_checkpoints, load_checkpoint, newest_good
from training.checkpoints.manifest import checkpoint_directories, is_checkpoint, read_manifest
from training.checkpoints.run_settings import path_to_go_on_from, with_names
from training.checkpoints.start_from import parts_to_go_on_from
from training.errors import CheckpointError, UnreadableError
from training.language.messages import Message, say
from training.machine.ranks import Ranks
from training.settings.error_messages import describe_fault
from training.settings.tree import ModelOptions, RunConfig, TrainingConfig

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
}
"""Settings that a resumed run may change; every other one of these sections decides the curve."""


def find_checkpoint(
    run_dir: Path, resume: bool, resume_from: Path | None, start_from: Path | None = None
) -> tuple[Path, Checkpoint] | None:
    """Return (path, content) of the checkpoint to go on from, or None to start at the beginning.

    Args:
        run_dir: searched for its newest good checkpoint; damaged ones are named and passed over.
        resume: the user asked to go on.
        resume_from: this checkpoint or run directory instead; a bare name is also looked for in `run_dir`.
        start_from: checkpoint or run directory to go on from where `run_dir` has no checkpoint.

    Raises:
        CheckpointError: the one asked for is missing or damaged, or all that are there are damaged.
        UnreadableError: the system refuses to read one.
    """
    if start_from is not None and not checkpoint_directories(run_dir):
        path = parts_to_go_on_from(start_from)[-1]
        return path, Checkpoint.from_payload(path, load_checkpoint(path))
    if resume_from is not None:
        path = path_to_go_on_from(resume_from, run_dir)
        if is_checkpoint(path) or not path.is_dir():
            return path, Checkpoint.from_payload(path, load_checkpoint(path))
        run_dir = path
    elif not resume:
        return None
    found, faults = newest_good(run_dir)
    for fault in faults:
        if isinstance(fault, UnreadableError):  # it may be whole: an older one in its place would leave it behind
            raise UnreadableError(f"{fault}; or say which one to go on from (--resume CHECKPOINT)")
        say(Message("warning: {fault}; it is passed over", fault=fault))
    if found is None and faults:
        raise CheckpointError(f"{run_dir}: no checkpoint can be read ({faults[0]}); start again in another --run-dir")
    if found is None and resume_from is not None:
        raise CheckpointError(
            f"--resume {resume_from}: no checkpoint in this directory, and it is none itself (no manifest.json in it); "
            "give a run directory or a checkpoint_* of one"
        )
    if found is None:
        say(Message("{path}: no checkpoint yet, training starts from the beginning", path=run_dir))
        return None
    path, payload = found
    if warning := ahead_of_record(run_dir, path, payload["step"]):
        say(Message("warning: {message}", message=warning))
    return path, Checkpoint.from_payload(path, payload)


def what_does_not_carry_over(
    checkpoint: Checkpoint,
    config: TrainingConfig,
    ranks: Ranks,
    layout: Mapping[str, Any],
    draws: Collection[str] = (),
) -> list[str]:
    """Return why the resumed run will not be bit for bit the one that was interrupted; empty where it will.

    Args:
        checkpoint: one that `refuse_another_run` let through.
        config: settings of the resumed run.
        ranks: its processes.
        layout: of its engine's state.
        draws: settings by which its model draws random numbers, such as dropout.
    """
    origin = checkpoint.origin
    was = {"backend": origin.backend, "world_size": origin.world_size, "device": origin.device}
    now = {"backend": config.backend, "world_size": ranks.world_size, "device": ranks.device.type}
    if origin.layout is not None:
        both = origin.layout.keys() & layout.keys()  # another backend's layout differs by the backend already
        was |= {name: origin.layout[name] for name in layout if name in both}
        now |= {name: layout[name] for name in layout if name in both}
    was["batch_size"], now["batch_size"] = checkpoint.config["run"]["batch_size"], config.run.batch_size
    changed = [f"{name} {was[name]} -> {now[name]}" for name in now if was[name] is not None and was[name] != now[name]]
    reasons = []
    if changed:
        reasons.append(f"{', '.join(changed)} sums in another order: the curve goes on within the parity tolerance")
        if draws:
            reasons.append(f"{' and '.join(draws)} may draw other numbers")
    if config.run.precision == "fp16" and "scaler" not in checkpoint.engine:
        reasons.append("the loss scale starts again")
    if config.optimizer.stabilizer != "none" and "stabilizer" not in checkpoint.engine:
        reasons.append(f"the stabilizer ({config.optimizer.stabilizer}) starts again")
    return reasons


def another_length(checkpoint: Checkpoint, config: TrainingConfig, total_steps: int) -> str | None:
    """Return a warning where the schedule is stretched to another end than the interrupted run's; else None."""
    schedule, planned = config.schedule.schedule, checkpoint.total_steps
    if planned == total_steps or schedule not in ("cosine", "linear"):
        return None
    return Message(
        "the {schedule} schedule now ends at step {now}, it was planned to end at {planned}: the curve goes on, but "
        "differs from an uninterrupted run's",
        schedule=schedule,
        now=total_steps,
        planned=planned,
    )


def refuse_another_run(
    path: Path, checkpoint: Checkpoint, config: TrainingConfig, asked: ModelOptions, data: DataIdentity
) -> None:
    """Refuse a checkpoint of a run with other data or other settings that decide the curve.

    Args:
        path: the checkpoint, for the error.
        checkpoint: its content.
        config: settings of the resumed run.
        asked: options of its network, before the data completed them.
        data: its samples.

    Raises:
        CheckpointError: names what differs.
    """
    try:
        samples_then = RunConfig.model_validate(checkpoint.config["run"]).samples_per_update
    except ValidationError as error:
        fault = describe_fault(error, RunConfig)
        raise CheckpointError(f"--resume {path}: the settings in its state cannot be used: {fault}") from error
    if samples_then != config.run.samples_per_update:
        raise CheckpointError(
            f"--resume {path}: the global batch had {samples_then} samples and has {config.run.samples_per_update} "
            f"now; set --global-batch-size {samples_then}, or start a new run in another --run-dir"
        )
    was, now = with_names(checkpoint.config), config.to_dict()
    if was["task"] != config.task:
        raise CheckpointError(
            f"--resume {path}: the run's task was {was['task']!r} and is {config.task!r} now; set it back, or start a "
            "new run in another --run-dir"
        )
    # A setting first, for it changes the samples; then the samples, for they complete those of the network.
    completed = {name for name in type(asked).model_fields if getattr(asked, name) != getattr(config.model, name)}
    _refuse_another_setting(path, was, now, config, lambda section, name: section != "model" or name not in completed)
    if checkpoint.data != data:
        raise CheckpointError(
            f"--resume {path}: the training data is not what it was ({checkpoint.data.num_samples} samples then, "
            f"{data.num_samples} now, or other content); give the same --datasets (and "
            "tokenizer or template, if a file of those has changed)"
        )
    _refuse_another_setting(path, was, now, config, lambda section, name: section == "model" and name in completed)


def _refuse_another_setting(
    path: Path,
    was: Mapping[str, Any],
    now: Mapping[str, Any],
    config: TrainingConfig,
    is_compared: Callable[[str, str], bool],
) -> None:
    free = {**FREE_TO_CHANGE, "data": type(config.data).free_to_change}
    for section in ("model", "data", "optimizer", "schedule", "run"):
        for name, value in now[section].items():
            if name in free.get(section, ()) or not is_compared(section, name):
                continue
            # A setting that the run did not know yet had what is now its default.
            declared = type(getattr(config, section)).model_fields[name].get_default(call_default_factory=True)
            before = was[section].get(name, declared)
            if before != value:
                raise CheckpointError(
                    f"--resume {path}: {name} was {before!r} in the run and is {value!r} now; set it back, or start a "
                    "new run in another --run-dir"
                )


def refuse_past_end(path: Path, checkpoint: Checkpoint, total_steps: int) -> None:
    """Refuse a checkpoint with more updates than the run is now to have.

    Raises:
        CheckpointError: names the checkpoints that the shorter run could go on from.
    """
    if checkpoint.step <= total_steps:
        return
    found, _ = list_checkpoints(path.parent)
    earlier = [str(other) for step, other in found if step <= total_steps][:3]
    choice = f", or go on from an earlier checkpoint (--resume {' or '.join(earlier)})" if earlier else ""
    raise CheckpointError(
        f"--resume {path}: it holds {checkpoint.step} updates, and the run is now to end after {total_steps}; raise "
        f"--max-steps or --epochs{choice}"
    )


def refuse_two_runs_in_one(run_dir: Path, path: Path, checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint from elsewhere where the run directory has checkpoints of another run.

    Raises:
        CheckpointError: going on would mix two runs in one record.
    """
    run_id = checkpoint.origin.run_id
    if run_id is None or path.resolve().parent == run_dir.resolve():
        return
    found, _ = list_checkpoints(run_dir)
    others = [other.name for _, other in found if read_manifest(other).run_id not in (None, run_id)]
    if others:
        raise CheckpointError(
            f"--resume {path}: --run-dir {run_dir} holds another run ({', '.join(others[:3])}); choose another "
            "--run-dir"
        )
