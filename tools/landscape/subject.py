"""The subject of a landscape: a run's newest weights, its path and its data, found in the run's directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from tools.landscape.path import Snapshot
from tools.runs.data import config_of_run, other_data
from training.checkpoints.checkpoint import list_checkpoints
from training.checkpoints.finished_model import load_trained_model
from training.checkpoints.manifest import existing_form, is_checkpoint, read_manifest
from training.checkpoints.run_directory import CONFIG_NAME, FINAL_NAME, MODEL_DIRECTORY
from training.errors import CheckpointError, ConfigError, DataError, UserError
from training.loop.weight_snapshots import snapshot_files
from training.record.reporter import read_report
from training.settings.tree import TrainingConfig
from training.settings.yaml_files import read_yaml
from training.storage.tensor_files import load_tensors
from training.tasks.protocol import Prepared, task_of


@dataclass(frozen=True)
class Subject:
    """The parts of a run that a landscape needs."""

    model: nn.Module
    """Weights at the centre, on the CPU, in eval mode, in fp32."""
    step: int
    """Updates that its weights have had."""
    origin: Path
    """The file or directory that they were read from."""
    snapshots: Sequence[Snapshot]
    """The snapshots of the path, without the centre's own step."""
    prepared: Prepared
    """Data and objective of the run."""


def find_subject(run_dir: Path, checkpoint: Path | None = None, datasets: Sequence[str] = ()) -> Subject:
    """Find the newest weights of a run of any backend: a checkpoint, a snapshot, else the final model.

    Args:
        run_dir: the directory that `--run-dir` named.
        checkpoint: weights to take instead: a path, or a name in `run_dir`.
        datasets: present paths of the run's data files; empty: they have not moved.

    Raises:
        UserError: there is nothing to measure yet, or it cannot be read, or the data is not what it was.
    """
    if not run_dir.is_dir():
        raise UserError(f"{run_dir}: no such run directory")
    try:
        return _read(run_dir, checkpoint, datasets)
    except OSError as error:  # no permission, a run that is deleted just now, a network disk that is away
        where = error.filename or run_dir
        raise UserError(f"{where}: it cannot be read ({error.strerror or error}); fix that or try again") from error


def _read(run_dir: Path, checkpoint: Path | None, datasets: Sequence[str]) -> Subject:
    origin = _named(run_dir, checkpoint) if checkpoint is not None else _newest(run_dir)
    prepared = _data(run_dir, _config(run_dir), datasets)
    model, step = _weights(run_dir, origin, prepared)
    path = [Snapshot(taken, file) for taken, file in snapshot_files(run_dir) if taken != step]
    return Subject(model.float(), step, origin, path, prepared)


def _named(run_dir: Path, checkpoint: Path) -> Path:
    candidates = [existing_form(checkpoint), existing_form(run_dir / checkpoint)]
    for path in candidates:
        if path.exists():
            return path
    raise CheckpointError(f"--checkpoint {checkpoint}: no such checkpoint, here or in {run_dir}")


def _newest(run_dir: Path) -> Path:
    found, faults = list_checkpoints(run_dir)
    # A checkpoint goes before a snapshot of the same step, which is rounded.
    candidates = [(step, 0, path) for step, path in snapshot_files(run_dir)] + [(s, 1, path) for s, path in found]
    if candidates:
        return max(candidates)[2]
    for name in (FINAL_NAME, MODEL_DIRECTORY):
        if (run_dir / name).exists():
            return run_dir / name
    if faults:
        raise faults[0][1]
    raise UserError(
        f"{run_dir}: nothing to measure yet: no checkpoint, no snapshot and no final model; wait for the first"
    )


def _config(run_dir: Path) -> TrainingConfig:
    """Read the run's settings."""
    path = run_dir / CONFIG_NAME
    if not path.is_file():
        raise UserError(f"{run_dir}: no {CONFIG_NAME} in it; give the directory of a run, as its --run-dir named it")
    return config_of_run(read_yaml(path), str(path))


def _data(run_dir: Path, config: TrainingConfig, datasets: Sequence[str]) -> Prepared:
    """Prepare the data and the objective as the run did.

    Raises:
        UserError: the files are missing or hold something else, or the run had a dataset made in Python.
    """
    report: dict[str, Any] = read_report(run_dir) or {}
    if report and "data_fingerprint" not in report:
        raise DataError(
            f"{run_dir}: its data was not read from files but given in Python, so it cannot be read again here"
        )
    if datasets:
        config = config.model_copy(update={"data": config.data.model_copy(update={"datasets": tuple(datasets)})})
    task = task_of(config)
    try:
        prepared = task.prepare(config)
    except DataError as error:
        raise DataError(f"{error} (the run's data; --datasets says where it is now)") from error
    except ConfigError as error:  # the run's settings fit its own data, such as the size of the vocabulary
        raise other_data(run_dir, task.data_files(config.data), "--datasets") from error
    if report and report["data_fingerprint"] != prepared.fingerprint:
        raise other_data(run_dir, task.data_files(config.data), "--datasets")
    return prepared


def _weights(run_dir: Path, origin: Path, prepared: Prepared) -> tuple[nn.Module, int]:
    """Return (the model at the centre, updates it has had)."""
    for step, file in snapshot_files(run_dir):
        if file == origin:
            return _of_snapshot(file, prepared), step
    trained = load_trained_model(origin)
    if trained.artefacts.get("tokenizer") != prepared.artefacts.get("tokenizer"):
        raise CheckpointError(f"{origin}: its tokenizer is not that of the run's data; is it another run's?")
    if is_checkpoint(origin):
        return trained.model, read_manifest(origin).step
    return trained.model, int((read_report(run_dir) or {}).get("step") or 0)


def _of_snapshot(file: Path, prepared: Prepared) -> nn.Module:
    try:
        weights = {name: tensor.to(torch.float32) for name, tensor in load_tensors(file).items()}
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CheckpointError(f"{file}: the snapshot cannot be read ({reason}); move it away, or try again") from error
    model = prepared.objective.build_model()
    parameters = dict(model.named_parameters())  # a tied one once, as in the snapshot
    if parameters.keys() != weights.keys():
        other = min(parameters.keys() ^ weights.keys())
        raise CheckpointError(f"{file}: the weights do not fit the model's config ({other})")
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.shape != weights[name].shape:
                raise CheckpointError(f"{file}: the weights do not fit the model's config (shape of {name})")
            parameter.copy_(weights[name])
    return model.eval()
