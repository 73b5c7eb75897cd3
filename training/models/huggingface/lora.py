"""LoRA by PEFT: adapters on a network, adapters read from a directory, and adapters added to the weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.errors import CheckpointError, ConfigError, did_you_mean, printable
from training.models.huggingface.options import HuggingFaceOptions
from training.models.huggingface.place import ADAPTER_WEIGHTS
from training.models.huggingface.resizing import resize
from training.models.transformers_library import quiet_transformers, reason_of

MOST_NAMES = 12
"""Names that an error line lists."""
ALL_LINEAR = ("all-linear",)


def needs_peft(what: str) -> None:
    """Refuse to go on without PEFT.

    Raises:
        ConfigError: it is not installed; says how to install it.
    """
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"{what} needs PEFT ({error}); run: pip install -e '.[huggingface]'") from error


def add_adapters(network: Any, options: HuggingFaceOptions, new_rows: bool) -> Any:
    """Return the network with LoRA adapters; all else is frozen.

    Args:
        network: of transformers, with its weights.
        options: rank, scale and targets.
        new_rows: the embedding has rows that the model's files lack.

    Raises:
        ConfigError: no layer has such a name (lists those that there are), or new rows would never be trained.
    """
    needs_peft("--lora")
    from peft import LoraConfig, get_peft_model

    targets, whole = options.lora_targets, options.lora_modules_to_save
    adaptable = {name for name, module in network.named_modules() if _takes_adapter(module)}
    if targets != ALL_LINEAR:
        _refuse_strangers("--lora-targets", targets, adaptable)
    _refuse_strangers("--lora-modules-to-save", whole, {name for name, _ in network.named_modules() if name})
    ends = _names_of(network, network.get_input_embeddings()), _names_of(network, network.get_output_embeddings())
    tied = _is_tied(network)
    if new_rows:
        _refuse_untrained_rows(ends, whole, tied)
    saves_an_end = any(matches(name, whole) for names in ends for name in names)
    config = LoraConfig(
        r=options.lora_rank,
        lora_alpha=options.lora_alpha or 2 * options.lora_rank,
        lora_dropout=options.lora_dropout,
        target_modules="all-linear" if targets == ALL_LINEAR else list(targets),
        modules_to_save=list(whole) or None,
        use_rslora=options.lora_rslora,
        use_dora=options.lora_dora,
        task_type="CAUSAL_LM",
        bias="none",
        ensure_weight_tying=tied and saves_an_end,  # else the head would go its own way, and the merged model not
    )
    if options.base_model is not None:
        is_local = Path(options.base_model).is_dir()
        # `adapter_config.json` names the base, for whoever loads the adapter from another directory.
        network.name_or_path = str(Path(options.base_model).resolve()) if is_local else options.base_model
    with quiet_transformers():
        try:
            return get_peft_model(network, config, autocast_adapter_dtype=True)
        except (ValueError, TypeError, NotImplementedError, ImportError) as error:
            layers = " ".join(_ends(adaptable)[:MOST_NAMES])
            raise ConfigError(
                f"--lora: PEFT refuses ({reason_of(error)}); --lora-targets chooses of {layers}"
            ) from error


def _takes_adapter(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | nn.Embedding) or type(module).__name__ == "Conv1D"


def matches(layer: str, names: Iterable[str]) -> bool:
    """Return True if PEFT finds a layer by one of the names: the whole name, or its end."""
    return any(layer == name or layer.endswith(f".{name}") for name in names)


def _names_of(network: nn.Module, module: Any) -> list[str]:
    return [name for name, other in network.named_modules() if other is module and module is not None]


def _is_tied(network: Any) -> bool:
    first, last = network.get_input_embeddings(), network.get_output_embeddings()
    return last is not None and getattr(last, "weight", None) is getattr(first, "weight", first)


def _refuse_strangers(flag: str, given: Iterable[str], layers: set[str]) -> None:
    for name in given:
        if not any(matches(layer, (name,)) for layer in layers):
            ends = _ends(layers)
            shown = ", ".join(ends[:MOST_NAMES]) + (", …" if len(ends) > MOST_NAMES else "")
            raise ConfigError(
                f"{flag} {printable(name)}: no layer has such a name{did_you_mean(name, ends)}; there are {shown}"
            )


def _ends(layers: set[str]) -> list[str]:
    return sorted({end for layer in layers if not (end := layer.rpartition(".")[2]).isdigit()})


def _refuse_untrained_rows(ends: tuple[list[str], list[str]], whole: tuple[str, ...], tied: bool) -> None:
    """Refuse new rows that stay as they are made: all alike, so that no new token would differ from another."""
    needed = [names[0] for names in (ends[:1] if tied else ends) if names]
    missing = [name for name in needed if not (matches(name, whole) or (tied and _matches_any(ends, whole)))]
    if missing:
        words = " ".join(name.rpartition(".")[2] for name in needed)
        raise ConfigError(
            f"--resize-embeddings with --lora: the new rows would never be trained; add --lora-modules-to-save {words}"
        )


def _matches_any(ends: tuple[list[str], list[str]], whole: tuple[str, ...]) -> bool:
    return any(matches(name, whole) for names in ends for name in names)


# -- adapters in a directory -----------------------------------------------------------------------------------------


def with_adapter(network: Any, directory: str) -> Any:
    """Return a network with the LoRA adapter of a directory; its new rows are added to the embedding first.

    Raises:
        CheckpointError: the adapter is damaged, or belongs to another network.
    """
    needs_peft(f"the adapter in {directory}")
    from peft import PeftModel, get_peft_model_state_dict

    path = Path(directory) / ADAPTER_WEIGHTS
    try:
        shapes = _shapes_in(path)
        with quiet_transformers():
            resize(network, _rows_in(shapes, network))
            adapted = PeftModel.from_pretrained(network, directory)
            expected = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    except Exception as error:  # of the libraries, on files that are damaged or do not fit
        raise CheckpointError(
            f"{directory}: the adapter does not fit its base model, or is damaged ({reason_of(error)})"
        ) from error
    if shapes and (missing := sorted(expected.keys() - shapes.keys())):
        raise CheckpointError(
            f"{path}: {len(missing)} tensors of this adapter are not in its file, the first is {missing[0]!r}"
        )
    return adapted


def rows_with_adapters(config: Any, adapters: Iterable[str]) -> int:
    """Return how many rows an embedding has after adapters that were trained with new ones; 0: theirs are not known.

    Raises:
        CheckpointError: an adapter is damaged.
    """
    from transformers import AutoModelForCausalLM

    with quiet_transformers(), torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config)
    try:
        return max((_rows_in(_shapes_in(Path(place) / ADAPTER_WEIGHTS), network) for place in adapters), default=0)
    except Exception as error:  # of the library, on a damaged file
        raise CheckpointError(f"{' '.join(adapters)}: the adapter is damaged ({reason_of(error)})") from error


def _shapes_in(path: Path) -> dict[str, list[int]]:
    from safetensors import safe_open

    if not path.is_file():  # PEFT's older form, which says nothing before it is read
        return {}
    with safe_open(path, framework="pt") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118


def _rows_in(shapes: dict[str, list[int]], network: Any) -> int:
    """Return how many rows the embedding has that an adapter was trained with, as far as its tensors show it."""
    names = _names_of(network, network.get_input_embeddings()) + _names_of(network, network.get_output_embeddings())
    return max(
        (shape[0] for tensor, shape in shapes.items() if matches(tensor, [f"{n}.weight" for n in names])), default=0
    )


def merged(adapted: Any) -> Any:
    """Return the network with the adapters added to its weights; the adapted one is used up.

    A head that shares its weight with the embedding gets one of its own first if either has an adapter: PEFT would add
    both adapters to the one weight.
    """
    network = adapted.get_base_model()
    ends = network.get_input_embeddings(), network.get_output_embeddings()
    layers = [getattr(end, "base_layer", end) for end in ends]
    if any(layer is not end for layer, end in zip(layers, ends, strict=True)) and _share(layers):
        layers[1].weight = nn.Parameter(layers[0].weight.detach().clone(), requires_grad=False)
        network.config.tie_word_embeddings = False
    with quiet_transformers(), torch.no_grad():
        return adapted.merge_and_unload(safe_merge=True)


def _share(layers: list[Any]) -> bool:
    return layers[1] is not None and layers[0].weight is layers[1].weight
