"""The portable model: a directory `config.json model.safetensors tokenizer.json` that every backend writes alike."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from apt_model.config import ModelConfig
from apt_model.errors import CheckpointError
from apt_model.model import APT
from apt_model.tokenizer import DynamicTagTokenizer

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
FORMAT = "apt-model"


def save_portable(directory: Path, model: APT, tokenizer: DynamicTagTokenizer) -> None:
    """Write the model; an older one of the same name is replaced whole."""
    fresh = directory.with_name(f".{directory.name}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    config = {"format": FORMAT, "version": 1, **model.config.model_dump(mode="json")}
    (fresh / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    save_file(_weights(model), fresh / WEIGHTS, metadata={"format": "pt"})
    tokenizer.save(fresh / TOKENIZER)
    for path in fresh.iterdir():
        with path.open("rb+") as file:  # Windows syncs only what may be written
            os.fsync(file.fileno())
    old = directory.with_name(f".{directory.name}.old.tmp")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    fresh.rename(directory)
    shutil.rmtree(old, ignore_errors=True)


def _weights(model: APT) -> dict[str, Tensor]:
    """Contiguous weights on the CPU; a tied head is stored once, as the embedding."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_embeddings:
        del weights["head.weight"]
    return weights


def load_portable(directory: Path) -> tuple[APT, DynamicTagTokenizer]:
    """Read a model directory.

    Raises:
        CheckpointError: a file is missing or damaged, or the weights do not fit the config.
    """
    for name in (CONFIG, WEIGHTS, TOKENIZER):
        if not (directory / name).is_file():
            raise CheckpointError(f"{directory}: no {name} in it; this is not a model directory of ours")
    try:
        document = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise CheckpointError(f"{directory / CONFIG}: not an APT model's config (no format {FORMAT!r})")
        if (version := document.pop("version")) != 1:
            raise CheckpointError(f"{directory / CONFIG}: version {version!r} cannot be read (this program reads 1)")
        config = ModelConfig.model_validate(document)
        weights = load_file(directory / WEIGHTS)
    except (ValidationError, ValueError, KeyError, OSError, SafetensorError) as error:
        raise CheckpointError(f"{directory}: damaged model directory ({str(error).splitlines()[0]})") from error
    if config.tie_embeddings and "embedding.weight" in weights:
        weights["head.weight"] = weights["embedding.weight"]
    tokenizer = DynamicTagTokenizer.load(directory / TOKENIZER)
    if config.vocab_size is not None and tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{directory / TOKENIZER}: {tokenizer.vocab_size} tokens, but the model knows {config.vocab_size}; "
            "it is another model's tokenizer"
        )
    return build_from_weights(config, weights, str(directory)), tokenizer


def build_from_weights(config: ModelConfig, weights: dict[str, Any], where: str) -> APT:
    """An APT with these weights, in eval mode; `where` names the file in the error.

    Raises:
        CheckpointError: names or shapes do not fit the config.
    """
    try:
        model = APT(config)
        model.load_state_dict(weights)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{where}: the weights do not fit the model's config ({str(error).splitlines()[-1].strip()})"
        ) from error
    return model.eval()
