"""Finished models: writing them, and reading a model back from whatever a run left behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from training.checkpoints.averaged_weights import evaluated_weights
from training.checkpoints.checkpoint import artefacts_of, load_checkpoint, newest_good, payload_of
from training.checkpoints.manifest import existing_form, is_checkpoint
from training.checkpoints.run_directory import (
    CONFIG_NAME,
    FINAL_NAME,
    MODEL_DIRECTORY,
    RunDirectory,
    run_directory_of,
)
from training.checkpoints.single_file import save_single_file
from training.errors import CheckpointError
from training.models.named_model import ADAPTER_NAME, INDEX_NAME, family_of_directory
from training.models.named_model import CONFIG_NAME as CONFIG_JSON
from training.models.protocol import (
    DESCRIPTION_NAME,
    OWN_MODULE,
    WEIGHTS_NAME,
    Artefacts,
    ModelFamily,
    load_saved_state,
)
from training.models.registry import MODELS
from training.record.log import read_report
from training.settings.tree import DEFAULT_MODEL, ModelOptions, TrainingConfig
from training.settings.yaml_files import read_yaml
from training.storage.atomic import delete, make_temporary, put_in_place
from training.storage.checksums import check_checksums, write_checksums
from training.storage.disk_refusals import disk_refusals

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class TrainedModel:
    """A model with everything that is needed to use it or to write it in another form."""

    model: nn.Module
    """In eval mode, on the CPU, when it was read from a file."""
    family: ModelFamily
    options: ModelOptions
    vocabulary: int | None
    origin: Path
    """The file or directory that it was read from."""
    artefacts: Artefacts = field(default_factory=dict)
    """Plain data of its task, such as the tokenizer."""
    step: int | None = None
    """Updates that it has had; None: the form that it was read from does not say."""
    settings: Mapping[str, Any] | None = None
    """`TrainingConfig.to_dict()` of its run; None: the form that it was read from does not hold them."""
    data_fingerprint: str | None = None
    """Hash of its training data; None: not known, or the data came from no files."""

    def num_parameters(self) -> int:
        """Return how many numbers the model has; a tied tensor counts once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def save(self, directory: Path) -> None:
        """Write the model as a directory, as its family does, with checksums; whole or not at all.

        Raises:
            UserError: the disk is full or refuses; what was there before is untouched.
        """
        remedy = "make room (a run goes on with --resume), or choose another place"
        with disk_refusals(directory, "the finished model", remedy):
            temporary = make_temporary(directory)
            made = temporary / directory.name
            self.family.save(made, self.model, self.options, self.vocabulary, self.artefacts)
            write_checksums(made)
            put_in_place(made, directory)
            delete(temporary)


def save_final_model(directory: RunDirectory, trained: TrainedModel, config: TrainingConfig, step: int) -> None:
    """Write the portable `final_model/`, and `final_model.pt` where the family has that form too.

    Raises:
        UserError: the disk is full or refuses.
    """
    if trained.family.writes_single_file:
        save_single_file(directory.final_model, {
            "kind": "final_model",
            "step": step,
            "config": config.to_dict(),
            "model_config": trained.options.model_dump(mode="json"),
            "vocabulary": trained.vocabulary,
            "data_fingerprint": trained.data_fingerprint,
            "model": trained.model.state_dict(),
            **payload_of(trained.artefacts),
        })  # fmt: skip
    trained.save(directory.portable_model)


def load_trained_model(path: Path) -> TrainedModel:
    """Read the model in `final_model.pt`, `final_model/`, a checkpoint, or the best that a run directory has.

    Raises:
        CheckpointError: there is no model of this project, or it is damaged.
    """
    path = existing_form(path)
    if not path.exists():
        raise CheckpointError(f"{path}: no such model; give a final_model.pt, a checkpoint_* or a run directory")
    if path.is_dir() and not is_checkpoint(path):
        return _from_directory(path)
    return _from_payload(path, load_checkpoint(path))


def with_its_run(trained: TrainedModel) -> TrainedModel:
    """Add what the run directory around a model says of its run, where the model's own form does not say it.

    Raises:
        ConfigError: the run's config.yaml cannot be read.
    """
    run_dir = run_directory_of(trained.origin)
    report = read_report(run_dir)
    if report is None or report.get("num_parameters") != trained.num_parameters():
        return trained  # it was copied to another place, maybe into another run's directory
    settings, saved = trained.settings, run_dir / CONFIG_NAME
    if settings is None and saved.is_file():
        settings = read_yaml(saved)
    fingerprint = trained.data_fingerprint or report.get("data_fingerprint")
    return replace(trained, settings=settings, data_fingerprint=fingerprint)


def model_from_weights(
    family: ModelFamily,
    options: ModelOptions,
    vocabulary: int | None,
    weights: Mapping[str, Any],
    where: Path,
    artefacts: Artefacts = MappingProxyType({}),
) -> nn.Module:
    """Build a model and give it these weights, in eval mode.

    Args:
        family: builds it.
        options: its shape.
        vocabulary: number of tokens; None: there are none, or the options say.
        weights: tensors by name, all of them.
        where: the file that the weights are from, for the error.
        artefacts: plain data that was saved with them.

    Raises:
        CheckpointError: names or shapes do not fit.
    """
    try:
        model = family.rebuild(options, vocabulary, artefacts)
        load_saved_state(family, model, weights)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{where}: the weights do not fit the model's config ({reason})") from error
    return model.eval()


def _from_payload(path: Path, payload: Mapping[str, Any]) -> TrainedModel:
    try:
        is_final = payload["kind"] == "final_model"
        if is_final and payload["model_config"].get("model") == OWN_MODULE:
            raise _own_module(path, path.parent / MODEL_DIRECTORY)
        settings = payload.get("config", {})
        section = settings.get("model", {})
        family = MODELS.load(section.get("model", DEFAULT_MODEL))()
        options = family.Options.model_validate(payload["model_config"] if is_final else section)
        weights = payload["model"] if is_final else evaluated_weights(payload)
        artefacts = artefacts_of(payload)
    except KeyError as error:
        raise CheckpointError(f"{path}: holds no model of this project (no {error.args[0]!r} in it)") from error
    except (TypeError, AttributeError) as error:  # a text where a mapping belongs
        raise CheckpointError(f"{path}: holds no model of this project ({error})") from error
    except ValidationError as error:
        raise CheckpointError(f"{path}: the model's config cannot be read ({error.error_count()} faults)") from error
    vocabulary = payload.get("vocabulary")
    model = model_from_weights(family, options, vocabulary, weights, path, artefacts)
    return TrainedModel(
        model, family, options, vocabulary, path, artefacts, payload.get("step"), settings or None,
        payload.get("data_fingerprint"),
    )  # fmt: skip


def _own_module(path: Path, directory: Path) -> CheckpointError:
    return CheckpointError(
        f"{path}: holds the weights of a module that your own code builds; load them into it with "
        f"module.load_state_dict(safetensors.torch.load_file({str(directory / WEIGHTS_NAME)!r}), strict=False)"
    )


def _from_directory(path: Path) -> TrainedModel:
    if is_model_directory(path):
        return load_model_directory(path)
    if (path / FINAL_NAME).is_file():
        return load_trained_model(path / FINAL_NAME)
    if (path / MODEL_DIRECTORY).is_dir():
        return load_model_directory(path / MODEL_DIRECTORY)
    found, faults = newest_good(path)
    if found is None:
        raise (faults[0] if faults else CheckpointError(f"{path}: no model and no checkpoint in this directory"))
    return _from_payload(*found)


def is_model_directory(path: Path) -> bool:
    """Return whether a directory looks like a finished model; it may still be damaged."""
    return any((path / name).is_file() for name in (DESCRIPTION_NAME, CONFIG_JSON, INDEX_NAME, ADAPTER_NAME))


def load_model_directory(path: Path) -> TrainedModel:
    """Read a directory that `TrainedModel.save` or a family's own `save` wrote.

    Raises:
        CheckpointError: it is none, or it is damaged.
        UnreadableError: the system refuses to read a file of it.
    """
    check_checksums(path)
    name = family_of_directory(path)
    if name == OWN_MODULE:
        raise _own_module(path, path)
    family = MODELS.load(name)()
    loaded = family.load(path)
    return TrainedModel(loaded.module, family, loaded.options, loaded.vocabulary, path, loaded.artefacts)
