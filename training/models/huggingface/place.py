"""The place that a network comes from: a directory, the Hub, or a config.json, and what its description says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.errors import CheckpointError, ConfigError, UserError, printable, unreadable
from training.models.huggingface.options import HuggingFaceOptions
from training.models.transformers_library import quiet_transformers, reason_of, refuse_missing
from training.storage.json_files import DamagedFileError, read_json

ADAPTER_CONFIG, ADAPTER_WEIGHTS, NETWORK_CONFIG = "adapter_config.json", "adapter_model.safetensors", "config.json"
MOST_ADAPTERS = 8
"""Adapters that may build on each other: a longer chain is a circle."""


def is_adapter(place: str | Path) -> bool:
    """Return True if PEFT wrote a directory."""
    return (Path(place) / ADAPTER_CONFIG).is_file()


def base_of_adapter(directory: str | Path) -> str:
    """Return the model that a LoRA adapter belongs to.

    Raises:
        CheckpointError: its description is damaged, or its weights are missing.
        ConfigError: it is an adapter of another kind, or its base is nowhere.
    """
    config = Path(directory) / ADAPTER_CONFIG
    described = _mapping_in(config)
    kind, base = described.get("peft_type", "LORA"), described.get("base_model_name_or_path")
    if kind != "LORA":
        raise ConfigError(f"{config}: an adapter of kind {printable(kind)}; only LoRA's can be continued")
    if not isinstance(base, str) or not base:
        raise CheckpointError(f"{config}: it does not say which model it adapts (base_model_name_or_path = {base!r})")
    if not any((Path(directory) / name).is_file() for name in (ADAPTER_WEIGHTS, "adapter_model.bin")):
        raise CheckpointError(f"{directory}: an adapter without its weights ({ADAPTER_WEIGHTS}); copy it whole")
    refuse_missing(base, f"{config}: base_model_name_or_path")
    return base


def foundation_of(place: str) -> tuple[str, list[str]]:
    """Return the whole model under a place, and the adapters that lie on it, the lowest first.

    Raises:
        UserError: an adapter is damaged, its base is missing, or adapters name each other as their base.
    """
    adapters: list[str] = []
    while is_adapter(place):
        adapters.insert(0, place)
        if len(adapters) > MOST_ADAPTERS:
            raise CheckpointError(f"{Path(adapters[-1]) / ADAPTER_CONFIG}: its base is an adapter of itself")
        place = base_of_adapter(place)
    return place, adapters


def named_place(options: HuggingFaceOptions) -> tuple[str, str]:
    """Return the flag by which the user named the network, and the place.

    Raises:
        ConfigError: neither a base nor an architecture is given.
    """
    if options.base_model is not None:
        return "--model", options.base_model
    if options.architecture is not None:
        return "--architecture", options.architecture
    raise ConfigError(
        "--model huggingface: which model? Give --model DIR_OR_NAME to start from its weights, or --architecture "
        "config.json for that network with new ones"
    )


def read_config(options: HuggingFaceOptions) -> Any:
    """Return transformers' config of the network that the options describe; of a model for several media, the text's.

    Raises:
        ConfigError: neither base nor architecture is given, or what is there is no causal language model.
        CheckpointError: a file is damaged.
    """
    flag, place = named_place(options)
    refuse_missing(place, flag)
    whole, adapters = foundation_of(place)
    if Path(whole).is_file() or (Path(whole) / NETWORK_CONFIG).is_file():
        # The library's own words about a file that is none would be about its parser.
        described = _mapping_in(Path(whole) if Path(whole).is_file() else Path(whole) / NETWORK_CONFIG)
    elif Path(whole).is_dir():
        raise ConfigError(f"{flag} {printable(place)}: there is no {NETWORK_CONFIG} in {printable(whole)}")
    else:
        described = {}
    config = _config_of(whole, described, options, f"{flag} {printable(adapters[-1] if adapters else whole)}")
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _config_of(place: str, described: Mapping[str, Any], options: HuggingFaceOptions, where: str) -> Any:
    from transformers import AutoConfig

    try:
        with quiet_transformers():
            if not Path(place).is_file():
                config = AutoConfig.from_pretrained(place, trust_remote_code=options.trust_remote_code)
            else:
                name = described.get("model_type")
                if not isinstance(name, str):
                    raise ValueError("no model_type in it: it is not the config.json of a model")
                config = AutoConfig.for_model(name, **{k: v for k, v in described.items() if k != "model_type"})
    except Exception as error:  # of the library: it raises anything on files that are not a model's
        raise needs_own_code(error, where) or ConfigError(
            f"{where}: no model can be read there ({reason_of(error)})"
        ) from error
    _refuse_other_kinds(config, options, where)
    return config


def needs_own_code(error: BaseException, where: str) -> UserError | None:
    """Return the error line for a model that is code of its own, where the library refused to run it."""
    if "trust_remote_code" not in str(error):
        return None
    return ConfigError(
        f"{where}: this model is Python code in its own directory, which can do anything; read it, then add "
        "--trust-remote-code"
    )


def _refuse_other_kinds(config: Any, options: HuggingFaceOptions, where: str) -> None:
    """Refuse what transformers has no causal language model for, such as T5."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    own_code = getattr(config, "auto_map", None) or {}
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or (
        options.trust_remote_code and "AutoModelForCausalLM" in own_code
    ):
        return
    raise ConfigError(
        f"{where}: {printable(config.model_type)} is no causal language model (transformers has no "
        "AutoModelForCausalLM of this kind); choose a decoder, such as a Llama, Qwen or GPT"
    )


def _mapping_in(path: Path) -> Mapping[str, Any]:
    try:
        described = read_json(path)
    except DamagedFileError as error:
        raise CheckpointError(str(error)) from error
    except OSError as error:
        raise unreadable(path, error) from error
    if not isinstance(described, dict):
        raise CheckpointError(f"{path}: damaged, it should hold an object and holds a {type(described).__name__}")
    return described


def longest_context(config: Any) -> int | None:
    """Return how many tokens a network can read; None: its config names no limit."""
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"):
        limit = getattr(config, name, None)
        if isinstance(limit, int) and limit > 0:
            return limit
    return None


def dropout_of(config: Any) -> dict[str, float]:
    """Return the entries of a config by which a language model drops activations while training."""
    found: dict[str, float] = {}
    for name, value in sorted(config.to_dict().items()):
        is_of_another_head = name.startswith(("classifier", "summary"))
        if (
            ("dropout" in name or "pdrop" in name)
            and isinstance(value, int | float)
            and value
            and not is_of_another_head
        ):
            found[name] = value
    return found
