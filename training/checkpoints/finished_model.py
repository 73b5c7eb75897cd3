"""Finished models: writing them, and reading a model back from whatever a run left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from apt_model.config import ModelConfig
from apt_model.errors import ModelError
from apt_model.model import APT
from apt_model.portable import CONFIG, build_from_weights, load_portable, save_portable
from apt_model.tokenizer import DynamicTagTokenizer
from training.checkpoints.checkpoint import load_checkpoint, newest_good
from training.checkpoints.manifest import existing_form, is_checkpoint
from training.checkpoints.run_directory import FINAL_NAME, MODEL_DIRECTORY, RunDirectory
from training.checkpoints.single_file import save_single_file
from training.errors import CheckpointError, UserError
from training.models.apt.options import APTOptions
from training.settings.tree import TrainingConfig


class TrainedModel(NamedTuple):
    """A model that can answer."""

    model: APT
    tokenizer: DynamicTagTokenizer
    origin: Path
    """The file or directory that it was read from."""


def save_final_model(
    directory: RunDirectory, model: APT, tokenizer: DynamicTagTokenizer, config: TrainingConfig, step: int
) -> None:
    """Write `final_model.pt` and the portable `final_model/`.

    Raises:
        UserError: the disk is full or refuses.
    """
    save_single_file(directory.final_model, {
        "kind": "final_model",
        "step": step,
        "config": config.to_dict(),
        "model_config": model.config.model_dump(mode="json"),
        "model": model.state_dict(),
        "tokenizer": tokenizer.to_dict(),
    })  # fmt: skip
    try:
        save_portable(directory.portable_model, model, tokenizer)
    except OSError as error:
        raise UserError(f"{directory.portable_model}: the model could not be written ({error.strerror})") from error


def load_trained_model(path: Path) -> TrainedModel:
    """The model in `final_model.pt`, `final_model/`, a checkpoint, or the best that a run directory has.

    Raises:
        CheckpointError: nothing of ours is there, or it is damaged.
    """
    path = existing_form(path)
    if not path.exists():
        raise CheckpointError(f"{path}: no such model; give a final_model.pt, a checkpoint_* or a run directory")
    try:
        if path.is_dir() and not is_checkpoint(path):
            return _from_directory(path)
        return _from_payload(path, load_checkpoint(path))
    except ModelError as error:
        raise CheckpointError(str(error)) from error


def _from_payload(path: Path, payload: dict[str, Any]) -> TrainedModel:
    try:
        if payload["kind"] == "final_model":
            config = ModelConfig.model_validate(payload["model_config"])
            weights = payload["model"]
        else:
            config = APTOptions.model_validate(payload["config"]["model"]).network()
            weights = payload["engine"]["model"]
        tokenizer = DynamicTagTokenizer.from_dict(payload["tokenizer"], str(path))
    except KeyError as error:
        raise CheckpointError(f"{path}: holds no APT model with a tokenizer (no {error.args[0]!r} in it)") from error
    except ValidationError as error:
        raise CheckpointError(f"{path}: the model's config cannot be read ({error.error_count()} faults)") from error
    return TrainedModel(build_from_weights(config, weights, str(path)), tokenizer, path)


def _from_directory(path: Path) -> TrainedModel:
    if (path / CONFIG).is_file():
        return TrainedModel(*load_portable(path), path)
    if (path / FINAL_NAME).is_file():
        return load_trained_model(path / FINAL_NAME)
    if (path / MODEL_DIRECTORY).is_dir():
        return TrainedModel(*load_portable(path / MODEL_DIRECTORY), path / MODEL_DIRECTORY)
    found, faults = newest_good(path)
    if found is None:
        raise (faults[0] if faults else CheckpointError(f"{path}: no model and no checkpoint in this directory"))
    return _from_payload(*found)
