"""The settings that every variant runs: one curve for all; they differ only in what a variant may choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from types import MappingProxyType
from typing import Any

from tools.parity.difference import BY_PRECISION
from tools.parity.variant import Variant
from training.backends.prepare import Choice, choose, prepare_config, with_the_model
from training.errors import ConfigError
from training.models.registry import MODELS
from training.settings.declarations import leaf_names, leaves, suggestion
from training.settings.flags import build_parser, launcher_parser, parse_flags
from training.settings.layers import FLAGS, Layer, resolve
from training.settings.tree import BATCH_SIZES, DEFAULT_MODEL, DEFAULT_TASK, TrainingConfig
from training.settings.yaml_files import Settings, find_config, flatten, read_settings

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

OF_OTHER_TASKS: Mapping[str, Any] = MappingProxyType({"global_batch_size": 10, "batch_size": 3})
"""In place of those, for the user's own data and model, of which a sample may be a thousand times as long."""


def resolved(variant: Variant, config_file: str | None, steps: int, flags: Sequence[str] = ()) -> TrainingConfig:
    """Return the whole config of a variant's run of `steps` updates behind the seed checkpoint.

    Args:
        variant: the variant; its settings override those of the flags and the config file.
        config_file: the user's YAML file or preset; None: `DEFAULT`, as far as task and model family have its settings.
        steps: updates to compare.
        flags: flags of train.py that say what to train.

    Raises:
        ConfigError: a setting is unknown, wrong, or not for a comparison; or the backend cannot do what is asked.
    """
    first, _ = launcher_parser().parse_known_args(flags)
    for name, given in vars(first).items():
        if name not in ("task", "model") and given not in (None, False):
            word = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{word} is decided by the comparison itself; leave it out, or see --backends")
    choice = choose(
        backend=variant.backend,
        task=first.task,
        model=first.model,
        config_file=find_config(config_file) if config_file else None,
    )
    tree = choice.config_class
    names = leaf_names(tree)
    own: Settings = {}
    for name, value in variant.settings:
        if name not in names:
            hint = suggestion(name, tree)
            raise ConfigError(f"--backends {variant.name}: --backend {variant.backend} has no setting {name!r}{hint}")
        own[names[name]] = value
    given, _ = parse_flags(build_parser(tree, "", "", {}), flags, tree)
    for key in given:
        if key.startswith("launch."):
            raise ConfigError(
                f"--{key.rpartition('.')[2].replace('_', '-')}: how many processes there are is said by each variant, "
                "as in --backends playground:num_processes=2; leave it out"
            )
    own_layer = Layer(f"--backends {variant.name}", own)
    layers = [
        Layer("preset", _options_in_preset(choice)),
        *([] if choice.config_file else [_default(tree, given)]),
        *with_the_model(choice.model, [*_of_the_file(choice), Layer(FLAGS, given), own_layer], choice.task),
        Layer("the variant", {"backend": variant.backend}),
    ]
    asked = resolve(tree, layers).config
    config = _for_comparison(asked, SEED_STEPS + steps)
    _refuse_to_be_ignored(variant, own, asked, config)
    _refuse_what_cannot_be_compared(config)
    return prepare_config(config, resume=True).request.config


def _of_the_file(choice: Choice) -> list[Layer]:
    """Return what the user's file says, if there is one.

    How many processes there are is decided by each variant; the reference has one.
    """
    if choice.config_file is None:
        return []
    settings = read_settings(choice.config_file, choice.config_class)
    kept = {key: value for key, value in settings.items() if not key.startswith("launch.")}
    return [Layer(str(choice.config_file), kept)]


def _default(tree: type[TrainingConfig], given: Settings) -> Layer:
    """Return what is trained where no file says it, without what given flags replace."""
    chosen, names = tree(), leaf_names(tree)
    is_default = (chosen.task, chosen.model.model) == (DEFAULT_TASK, DEFAULT_MODEL)
    replaced = set(BATCH_SIZES) if any(f"run.{name}" in given for name in BATCH_SIZES) else set()
    if "optimizer.learning_rate" in given:
        replaced.add("min_lr")
    values = DEFAULT if is_default else {**DEFAULT, **OF_OTHER_TASKS}
    if not is_default:
        replaced |= {"datasets", *(type(chosen.model).model_fields.keys() - type(chosen.model).draws_at_random)}
    kept = {name: value for name, value in values.items() if name in names and name not in replaced}
    return Layer("default", flatten(kept, tree, "the default settings"), gives_way=True)


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
    for name, value in MODELS.load(config.model.model)().random_draws(config.model).items():
        place = "" if name in type(config.model).model_fields else " in the config.json of a copy of the model"
        raise ConfigError(
            f"{name}={value:g}: its random draws depend on how a batch is cut, so only runs without {name} can be "
            f"compared; set {name}: {'none' if _is_open(config, name) else 0}{place}"
        )
    if config.run.precision not in BY_PRECISION:
        raise ConfigError(
            f"precision={config.run.precision}: a tolerance is declared for {' and '.join(BY_PRECISION)} only; "
            "choose one of them"
        )


def _is_open(config: TrainingConfig, name: str) -> bool:
    """Return whether a setting of the model is None where nothing is drawn."""
    declared = type(config.model).model_fields.get(name)
    return declared is not None and declared.default is None


def curve_hash(config: TrainingConfig) -> str:
    """Return the hash of what decides the curve, whatever the backend and its own options."""
    return config.curve_hash()
