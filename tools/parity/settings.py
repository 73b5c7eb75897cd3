"""The settings that every variant runs: one curve for all; they differ only in what a variant may choose."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from types import MappingProxyType
from typing import Any

from tools.parity.difference import BY_PRECISION
from tools.parity.variant import Variant
from training.backends import registry
from training.backends.inner_backend import with_options
from training.backends.protocol import requested_features
from training.errors import ConfigError
from training.settings.layers import (
    Layer,
    find_config,
    flatten,
    leaf_names,
    leaves,
    read_yaml_layer,
    resolve,
    suggestion,
)
from training.settings.tree import TrainingConfig

SEED_STEPS = 3
"""Updates before the seed checkpoint, so that it holds moments and a position in the data, not zeros."""

DEFAULT: Mapping[str, Any] = MappingProxyType({
    "datasets": ["HLBD_Hardcore_Full.json"],
    "d_model": 64, "num_layers": 2, "num_heads": 4, "d_ff": 128, "dropout": 0.0,
    "global_batch_size": 82, "batch_size": 16,
    "learning_rate": 1e-3, "min_lr": 1e-4, "warmup_steps": 6, "schedule": "cosine",
    "weight_decay": 0.1, "max_grad_norm": 0.5,
    "precision": "fp32",
})  # fmt: skip
"""The config that is compared without `--config`: seconds on a CPU, and made so that faults show.

Each update has several micro-batches of unequal weight. 575 samples make seven batches of 82 and one of a single
sample, of which a second rank has none. The rate changes at every step, gradients are clipped, and weights decay.
"""


def resolved(variant: Variant, config_file: str | None, steps: int) -> TrainingConfig:
    """Return the whole config of a variant's run of `steps` updates after the seed checkpoint.

    Args:
        variant: the variant; its settings override those of the config file.
        config_file: the user's YAML file or preset; None: `DEFAULT`.
        steps: updates to compare.

    Raises:
        ConfigError: a setting is unknown, wrong, or not for a comparison; or the backend cannot do what is asked.
    """
    backend = registry.load(variant.backend)
    config_class = with_options(backend)
    names = leaf_names(config_class)
    own: Layer = {}
    for name, value in variant.settings:
        if name not in names:
            hint = suggestion(name, config_class)
            raise ConfigError(f"--backends {variant.name}: --backend {variant.backend} has no setting {name!r}{hint}")
        own[names[name]] = value
    layers = {
        "preset": _options_in_preset(backend.preset, variant.backend, config_class),
        config_file or "default": _shared(config_file, config_class),
        f"--backends {variant.name}": own,
    }
    asked = resolve(config_class, layers).config
    config = _for_comparison(asked, SEED_STEPS + steps)
    _refuse_to_be_ignored(variant, own, asked, config)
    config.validate()
    _refuse_what_cannot_be_compared(config)
    for feature in requested_features(config, resume=True):
        if feature in backend.unsupported:
            reason = backend.unsupported[feature]
            raise ConfigError(f"--backend {variant.backend} cannot do {feature.value}: {reason}")
    backend().validate(config)
    return config


def _shared(config_file: str | None, config_class: type[TrainingConfig]) -> Layer:
    """Return the settings that all variants share: not the number of processes, which each variant has of its own."""
    if config_file is None:
        return flatten(DEFAULT, config_class, "the default settings")
    layer = read_yaml_layer(find_config(config_file), config_class)
    return {key: value for key, value in layer.items() if not key.startswith("launch.")}


def _options_in_preset(preset: str | None, backend: str, config_class: type[TrainingConfig]) -> Layer:
    """Return the backend's own options in its preset; what is learned comes from the config alone."""
    layer = read_yaml_layer(find_config(preset), config_class) if preset else {}
    return {key: value for key, value in layer.items() if key.startswith(f"{backend}.")}


def _for_comparison(config: TrainingConfig, last_step: int) -> TrainingConfig:
    """Return the config with fingerprints, without what only costs time, and ending at `last_step`."""
    run = config.run.model_copy(
        update={
            "max_steps": last_step,
            "epochs": last_step,  # an epoch has an update at least
            "global_batch_size": config.run.samples_per_update,
        }
    )
    quiet = {"save_interval": None, "save_steps": None, "keep_best": False, "early_stopping_patience": None}
    return config.model_copy(
        update={
            "run": run,
            "checkpoint": config.checkpoint.model_copy(update=quiet),
            "report": config.report.model_copy(update={"fingerprints": True, "answer_samples": 0}),
        }
    )


def _refuse_to_be_ignored(variant: Variant, own: Layer, asked: TrainingConfig, config: TrainingConfig) -> None:
    """Refuse a setting that the comparison itself decides: it would silently get another value."""
    before, after = flat(asked), flat(config)
    for key in own:
        if key in ("backend", "run.run_dir") or before[key] != after[key]:
            name = key.rpartition(".")[2]
            raise ConfigError(f"--backends {variant.name}: {name} is decided by the comparison itself; leave it out")


def flat(config: TrainingConfig) -> dict[str, Any]:
    """Return a config as `section.name -> value`."""
    values = config.to_dict()
    return {key: reduce(lambda tree, part: tree[part], key.split("."), values) for key, _ in leaves(type(config))}


def _refuse_what_cannot_be_compared(config: TrainingConfig) -> None:
    if config.model.dropout:
        raise ConfigError(
            f"dropout={config.model.dropout:g}: what is dropped depends on how a batch is cut, so only runs without "
            "dropout can be compared; set dropout: 0"
        )
    if config.run.precision not in BY_PRECISION:
        raise ConfigError(
            f"precision={config.run.precision}: a tolerance is declared for {' and '.join(BY_PRECISION)} only; "
            "choose one of them"
        )


def curve_hash(config: TrainingConfig) -> str:
    """Return the hash of all settings that decide the curve: not the backend, and not its own options."""
    values = config.to_dict()
    return TrainingConfig.from_dict({name: values[name] for name in TrainingConfig.model_fields}).curve_hash()
