"""Options of --backend huggingface, and the arguments of transformers that our settings decide. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from training.errors import ConfigError
from training.settings.other_names import TRAINING_ARGUMENTS
from training.settings.plain_yaml import parse_yaml
from training.settings.section import Section
from training.settings.tree import MOST_THREADS, TrainingConfig


class HuggingFaceOptions(Section):
    """Options of --backend huggingface."""

    deepspeed: Path | None = Field(
        None,
        description="DeepSpeed's JSON for transformers' integration (ZeRO 1 to 3); a bare name is also looked for in "
        'configs/. "auto" is filled in, what contradicts our settings is refused. None: no DeepSpeed.',
    )
    hf: tuple[str, ...] = Field(
        (),
        description="Any other of transformers' TrainingArguments, each `key=value`; one that our settings decide is "
        "refused with the setting to use.",
        json_schema_extra={"metavar": "KEY=VALUE"},
    )
    trainer_callbacks: tuple[str, ...] = Field(
        (),
        description="transformers TrainerCallback classes to add, each `package.module:Class`.",
        json_schema_extra={"metavar": "MODULE:CLASS"},
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA, else the CPU.")
    num_threads: int | None = Field(
        None,
        ge=1,
        le=MOST_THREADS,
        description="CPU threads of each rank; None: the cores divided among this machine's ranks.",
    )


def options_of(config: TrainingConfig) -> HuggingFaceOptions:
    """Return the config's section `huggingface`; defaults if the config belongs to another backend."""
    options = getattr(config, "huggingface", None)
    return options if isinstance(options, HuggingFaceOptions) else HuggingFaceOptions()


def passed_on(options: HuggingFaceOptions) -> dict[str, Any]:
    """Return the arguments of `--hf`, with values read as in YAML: `true`, `5`, `1e-3`, `[a, b]`.

    Raises:
        ConfigError: an argument is not of the form key=value, is given twice, or is decided by another setting.
    """
    found: dict[str, Any] = {}
    for text in options.hf:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not (equals and name):
            raise ConfigError(f"--hf {text}: should be key=value, such as --hf logging_steps=50")
        if name in found:
            raise ConfigError(f"--hf {text}: {name} is given twice")
        if name in TRAINING_ARGUMENTS:
            raise ConfigError(f"--hf {text}: it is not passed on; use {TRAINING_ARGUMENTS[name]}")
        try:
            found[name] = parse_yaml(value)
        except ValueError as error:
            raise ConfigError(f"--hf {text}: the value cannot be read ({error})") from error
    return found
