"""Models by name: `--model apt`, `--model DIR`, `--model OWNER/NAME`, `--model RUN`. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from training.errors import CheckpointError, ConfigError, did_you_mean, kind_of, printable, unreadable
from training.models.protocol import DESCRIPTION_NAME, read_description
from training.models.registry import MODELS
from training.storage.json_files import DamagedFileError, read_json
from training.storage.user_paths import path_of

FINISHED = "final_model"
"""Directory of a run with its finished model."""
CONFIG_NAME, ADAPTER_NAME, MANIFEST_NAME = "config.json", "adapter_config.json", "manifest.json"
INDEX_NAME = "model_index.json"
"""File that makes a directory a pipeline of diffusers."""
PLAIN = "huggingface"
"""Family of every directory that transformers or PEFT wrote."""
PIPELINE = "diffusion_pipeline"
"""Family of every pipeline of diffusers that is not in `PIPELINES`; it refuses the kinds that it does not know."""
PIPELINES = {"DDPMPipeline": "unet", "DDIMPipeline": "unet"}
"""Pipelines of one network and a scheduler, which read nothing but noise -> their family."""
_ON_HUB = re.compile(r"[\w.-]+/[\w.-]+")


class NamedModel(NamedTuple):
    """Choice of a user by `--model`."""

    family: str
    base: str | None = None
    """Directory or Hub name of the model to start from; None: a family was named, and weights are new."""


def named_model(text: str, flag: str = "--model") -> NamedModel:
    """Return the model family that a text names, or that of the model in the place that it names.

    Args:
        text: a family, `package.module:Class`, a directory with a model, a finished run, or OWNER/NAME on the Hub.
        flag: named in errors.

    Raises:
        ConfigError: it is none of these.
    """
    if not isinstance(text, str):
        raise ConfigError(f"{flag} {text!r}: {kind_of(text)} and no model's name or directory")
    if text in MODELS or (":" in text and not Path(text).exists()):
        return NamedModel(text)
    path = path_of(flag, text)
    if path.is_dir():
        return _in_directory(path, f"{flag} {printable(text)}")
    if path.is_file():
        advice = f"{path.parent / FINISHED}" if path.name == f"{FINISHED}.pt" else "the directory that it lies in"
        raise ConfigError(
            f"{flag} {printable(text)}: a model is a directory, and this is a file; give {printable(advice)}"
        )
    if _ON_HUB.fullmatch(text) and not Path(text.partition("/")[0]).is_dir():
        return NamedModel(PLAIN, text)
    if "/" in text or text.startswith("~"):
        raise ConfigError(f"{flag} {printable(text)}: there is no such directory{_near(path)}")
    raise ConfigError(
        f"{flag} {printable(text)}: unknown model family; choose from "
        f"{', '.join(MODELS.names())}, or give a directory with a model, or OWNER/NAME on the Hub"
        f"{did_you_mean(text, MODELS.names())}"
    )


def _near(path: Path) -> str:
    names = [other.name for other in path.parent.iterdir() if other.is_dir()] if path.parent.is_dir() else []
    return did_you_mean(path.name, names)


def _in_directory(path: Path, where: str) -> NamedModel:
    for place in (path, path / FINISHED):
        if (family := _family_in(place)) is not None:
            return NamedModel(family, str(place))
    if (path / MANIFEST_NAME).is_file():
        raise ConfigError(
            f"{where}: this is a checkpoint of a run; go on with it by --resume, or give its finished model"
        )
    raise ConfigError(
        f"{where}: there is no model in this directory (no {CONFIG_NAME}, {INDEX_NAME}, {DESCRIPTION_NAME} or "
        f"{FINISHED}/ in it)"
    )


def _family_in(place: Path) -> str | None:
    """Return the family of the finished model in a directory; None: there is none.

    Raises:
        CheckpointError: its description is damaged.
    """
    if (place / DESCRIPTION_NAME).is_file():
        family: str = read_description(place)["family"]
        return family
    if (place / INDEX_NAME).is_file():
        kind = _entry_in(place / INDEX_NAME, "_class_name")
        return PIPELINES.get(kind, PIPELINE) if isinstance(kind, str) else PIPELINE
    if (place / ADAPTER_NAME).is_file():
        return PLAIN
    if not (place / CONFIG_NAME).is_file() or (place / MANIFEST_NAME).is_file():
        return None
    kind = _entry_in(place / CONFIG_NAME, "model_type")
    return kind if isinstance(kind, str) and kind in MODELS.built_in else PLAIN


def _entry_in(file: Path, name: str) -> object:
    """Return an entry of a JSON file; None: it has none.

    Raises:
        CheckpointError: the file is damaged.
    """
    try:
        described = read_json(file)
    except DamagedFileError as error:
        raise CheckpointError(str(error)) from error
    except OSError as error:
        raise unreadable(file, error) from error
    return described.get(name) if isinstance(described, Mapping) else None


def with_named_model(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return settings in which `model.model` names a family, and `model.base_model` the place that it named before."""
    text = settings.get("model.model")
    if not isinstance(text, str):
        return settings
    family, base = named_model(text)
    given = settings.get("model.base_model")
    if base is not None and given not in (None, text, base):
        raise ConfigError(
            f"model {printable(text)} and base_model {printable(given)} name two models to start from; leave one out"
        )
    return {**settings, "model.model": family, **({"model.base_model": base} if base is not None else {})}


def family_of_directory(directory: Path) -> str:
    """Return the family of the finished model in a directory.

    Raises:
        CheckpointError: there is no model in it, or it is damaged.
    """
    if (family := _family_in(directory)) is None:
        raise CheckpointError(f"{directory}: there is no model in this directory")
    return family
