"""The settings that every variant runs: the same curve for all; only what a variant may choose differs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from types import MappingProxyType
from typing import Any

from tools.parity.tolerance import BY_PRECISION
from tools.parity.variant import Variant
from training.backends.prepare import Choice, choose, prepare_config
from training.errors import ConfigError
from training.settings.declarations import leaf_names, leaves, suggestion
from training.settings.layers import Layer, resolve
from training.settings.tree import TrainingConfig
from training.settings.yaml_files import Settings, find_config, flatten, read_settings

SEED_STEPS = 3
"""Updates before the seed checkpoint, so that it holds moments and a place in the data, not zeros."""

DEFAULT: Mapping[str, Any] = MappingProxyType({
    "datasets": ["HLBD_Hardcore_Full.json"],
    "d_model": 64, "num_layers": 2, "num_heads": 4, "d_ff": 128, "dropout": 0.0,
    "global_batch_size": 82, "batch_size": 16,
    "learning_rate": 1e-3, "min_lr": 1e-4, "warmup_steps": 6, "schedule": "cosine",
    "weight_decay": 0.1, "max_grad_norm": 0.5,
    "precision": "fp32",
})  # fmt: skip
"""What is compared without `--config`: seconds on a CPU, and made so that faults show.

Each update has several micro-batches of unequal weight. 575 samples make seven batches of 82 and one of a single
sample, of which a second rank has none. The rate changes at every step, gradients are clipped, and weights decay.
"""


def resolved(variant: Variant, config_file: str | None, steps: int) -> TrainingConfig:
    """Return the whole config of a variant's run of `steps` updates behind the seed checkpoint.

    Args:
        variant: its settings lie over the config file's.
        config_file: the user's YAML file or preset; None: `DEFAULT`.
        steps: updates to compare.

    Raises:
        ConfigError: a setting is unknown, wrong, or not for a comparison; or the backend cannot do what is asked.
    """
    choice = choose(backend=variant.backend, config_file=find_config(config_file) if config_file else None)
    tree = choice.config_class
    names = leaf_names(tree)
    own: Settings = {}
    for name, value in variant.settings:
        if name not in names:
            hint = suggestion(name, tree)
            raise ConfigError(f"--backends {variant.name}: --backend {variant.backend} has no setting {name!r}{hint}")
        own[names[name]] = value
    layers = [
        Layer("preset", _options_in_preset(choice)),
        _shared(choice),
        Layer(f"--backends {variant.name}", {"backend": variant.backend, **own}),
    ]
    asked = resolve(tree, layers).config
    config = _for_comparison(asked, SEED_STEPS + steps)
    _refuse_to_be_ignored(variant, own, asked, config)
    _refuse_what_cannot_be_compared(config)
    return prepare_config(config, resume=True).request.config


def _shared(choice: Choice) -> Layer:
    """Return what all variants have in common.

    How many processes there are is decided by each variant; the reference has one.
    """
    tree, file = choice.config_class, choice.config_file
    if file is None:
        return Layer("default", flatten(DEFAULT, tree, "the default settings"))
    settings = read_settings(file, tree)
    return Layer(str(file), {key: value for key, value in settings.items() if not key.startswith("launch.")})


def _options_in_preset(choice: Choice) -> Settings:
    """Return the backend's own options in its preset; what is learned comes from the config alone."""
    preset = choice.preset()
    settings = preset.settings if preset else {}
    return {key: value for key, value in settings.items() if key.startswith(f"{choice.backend.name}.")}


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


def _refuse_to_be_ignored(variant: Variant, own: Settings, asked: TrainingConfig, config: TrainingConfig) -> None:
    """Refuse a variant's setting that the comparison decides: it would be ignored without a word."""
    before, after = flat(asked), flat(config)
    for key in own:
        if key in ("backend", "run.run_dir") or before[key] != after[key]:
            name = key.rpartition(".")[2]
            raise ConfigError(f"--backends {variant.name}: {name} is decided by the comparison itself; leave it out")


def flat(config: TrainingConfig) -> dict[str, Any]:
    """Return `section.name -> value` of a config."""
    values = config.to_dict()
    return {key: reduce(lambda tree, part: tree[part], key.split("."), values) for key, _ in leaves(type(config))}


def _refuse_what_cannot_be_compared(config: TrainingConfig) -> None:
    for name in config.model.draws_at_random:
        if value := getattr(config.model, name):
            raise ConfigError(
                f"{name}={value:g}: its random draws depend on how a batch is cut, so only runs without {name} can be "
                f"compared; set {name}: 0"
            )
    if config.run.precision not in BY_PRECISION:
        raise ConfigError(
            f"precision={config.run.precision}: a tolerance is declared for {' and '.join(BY_PRECISION)} only; "
            "choose one of them"
        )


def curve_hash(config: TrainingConfig) -> str:
    """Return the hash of what decides the curve, whatever the backend and its own options."""
    return config.curve_hash()
