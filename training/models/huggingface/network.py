"""Networks of transformers: loading, new weights, LoRA, frozen parts, noise, and an output head that skips work."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._guards import detect_fake_mode

from training.errors import CheckpointError, ConfigError, did_you_mean, printable
from training.models.huggingface.options import HuggingFaceOptions

ADAPTER_CONFIG = "adapter_config.json"
MOST_NAMES = 12
"""Names that an error line lists."""


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' progress bars and advice: what a user has to know, this program says."""
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    logging.getLogger("peft").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            theirs.set_verbosity(level)
            if bars:
                theirs.enable_progress_bar()


# -- the architecture ------------------------------------------------------------------------------------------------


def read_config(options: HuggingFaceOptions) -> Any:
    """Return transformers' config of the network that the options describe.

    Raises:
        ConfigError: neither base nor architecture is given, or what is there is no causal language model.
    """
    from transformers import AutoConfig

    flag, place = _place(options)
    try:
        if options.architecture is not None and Path(place).is_file():
            described = json.loads(Path(place).read_text(encoding="utf-8"))
            if not isinstance(described, dict) or "model_type" not in described:
                raise ValueError("no model_type in it: it is not the config.json of a model")
            name = described.pop("model_type")
            with quiet_transformers():
                config = AutoConfig.for_model(name, **described)
        else:
            with quiet_transformers():
                config = AutoConfig.from_pretrained(place, trust_remote_code=options.trust_remote_code)
    except Exception as error:  # of the library: it raises anything on files that are not a model's
        raise ConfigError(f"{flag} {printable(place)}: no model can be read there ({_reason(error)})") from error
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _place(options: HuggingFaceOptions) -> tuple[str, str]:
    if options.base_model is not None:
        adapter = Path(options.base_model) / ADAPTER_CONFIG
        return "--model", base_of_adapter(adapter) if adapter.is_file() else options.base_model
    if options.architecture is not None:
        return "--architecture", options.architecture
    raise ConfigError(
        "--model huggingface: which model? Give --model DIR_OR_NAME to start from its weights, or --architecture "
        "config.json for that network with new ones"
    )


def base_of_adapter(config: Path) -> str:
    """Return the model that a LoRA adapter belongs to.

    Raises:
        CheckpointError: the file is damaged.
    """
    try:
        base = json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"{config}: damaged description of an adapter ({_reason(error)})") from error
    if not isinstance(base, str) or not base:
        raise CheckpointError(f"{config}: it does not say which model it adapts (base_model_name_or_path = {base!r})")
    return base


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
        if ("dropout" in name or "pdrop" in name) and isinstance(value, float) and value and not is_of_another_head:
            found[name] = value
    return found


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return printable((lines[0] if lines else type(error).__name__)[:300])


# -- the network -----------------------------------------------------------------------------------------------------


def build_network(options: HuggingFaceOptions, vocabulary: int | None, weights: bool = True) -> nn.Module:
    """Build a network in fp32 as it is trained: with its weights, adapters and frozen parts.

    Args:
        options: a base or an architecture, and what is trained of it.
        vocabulary: number of tokens of the tokenizer.
        weights: read the weights of `options.base_model`; False: leave them random, because others follow.

    Raises:
        ConfigError: no such model, or LoRA and freezing patterns match nothing.
    """
    from transformers import AutoModelForCausalLM

    config = read_config(options)
    is_fake = detect_fake_mode() is not None  # sizes are measured on fake tensors: there is nothing to read into them
    kernels = {} if options.attn_implementation == "auto" else {"attn_implementation": options.attn_implementation}
    how = {"trust_remote_code": options.trust_remote_code, **kernels}
    flag, place = _place(options)
    try:
        with quiet_transformers():
            if options.base_model is None or is_fake or not weights:
                if options.architecture is not None and options.vocab_size is not None:
                    config.vocab_size = options.vocab_size
                network = AutoModelForCausalLM.from_config(config, dtype=torch.float32, **how)
            else:
                network = _pretrained(place, options, how)
                if place != options.base_model:
                    network = _with_adapter_merged(network, options.base_model)
    except (ConfigError, CheckpointError):
        raise
    except Exception as error:  # of the library
        raise ConfigError(f"{flag} {printable(place)}: the model cannot be built ({_reason(error)})") from error
    if options.resize_embeddings and options.vocab_size is not None:
        _resize(network, options.vocab_size)
    network.config.use_cache = False
    choose_in_head(network)
    if options.neftune_alpha is not None:
        add_noise(network, options.neftune_alpha)
    if options.has_lora:
        network = add_adapters(network, options)
    if options.freeze:
        freeze(network, options.freeze)
    return cast(nn.Module, network)


def build_described(described: Mapping[str, Any]) -> nn.Module:
    """Build the network of a config.json in fp32; its weights are random.

    Raises:
        CheckpointError: the config is damaged.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with quiet_transformers():
            rest = {key: value for key, value in described.items() if key != "model_type"}
            config = AutoConfig.for_model(described["model_type"], **rest)
            network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except Exception as error:  # of the library: it raises anything on a damaged config
        raise CheckpointError(f"the config of the network is damaged ({_reason(error)})") from error
    choose_in_head(network)
    return cast(nn.Module, network)


def _pretrained(place: str, options: HuggingFaceOptions, how: Mapping[str, Any]) -> Any:
    from transformers import AutoModelForCausalLM

    network, found = AutoModelForCausalLM.from_pretrained(
        place, dtype=torch.float32, output_loading_info=True, **_quantization(options), **how
    )
    if missing := sorted(found["missing_keys"]):
        raise ConfigError(
            f"--model {printable(place)}: {len(missing)} tensors of this network are not in its files, the first is "
            f"{missing[0]!r}; training would begin from random numbers there"
        )
    if wrong := sorted(found["mismatched_keys"]):
        raise ConfigError(f"--model {printable(place)}: the shape of {wrong[0][0]!r} is not what config.json says")
    return network


def _quantization(options: HuggingFaceOptions) -> dict[str, Any]:
    if not options.qlora:
        return {}
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )  # fmt: skip
    return {"quantization_config": settings}


def _with_adapter_merged(network: Any, directory: str) -> Any:
    """Return the network with a LoRA adapter added to its weights."""
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(network, directory).merge_and_unload()
    except Exception as error:  # of the library
        raise ConfigError(
            f"--model {printable(directory)}: the adapter does not fit its base model ({_reason(error)})"
        ) from error


def _resize(network: Any, rows: int) -> None:
    if network.get_input_embeddings().num_embeddings < rows:
        # The mean of the old rows: a random row would be answered by large, arbitrary logits at first.
        network.resize_token_embeddings(rows, mean_resizing=detect_fake_mode() is None)


def add_adapters(network: Any, options: HuggingFaceOptions) -> Any:
    """Return the network with LoRA adapters; all else is frozen.

    Raises:
        ConfigError: no layer has such a name; lists those that there are.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ConfigError(f"--lora needs PEFT ({error}); pip install 'apt-trainer[huggingface]'") from error

    targets = options.lora_targets
    linear = _linear_layers(network)
    if targets != ("all-linear",):
        for name in targets:
            if not any(layer == name or layer.endswith(f".{name}") for layer in linear):
                raise _no_such_layer("--lora-targets", name, linear)
    modules = {name for name, _ in network.named_modules() if name}
    for name in options.lora_modules_to_save:
        if not any(module == name or module.endswith(f".{name}") for module in modules):
            raise _no_such_layer("--lora-modules-to-save", name, modules)
    config = LoraConfig(
        r=options.lora_rank,
        lora_alpha=options.lora_alpha or 2 * options.lora_rank,
        lora_dropout=options.lora_dropout,
        target_modules="all-linear" if targets == ("all-linear",) else list(targets),
        modules_to_save=list(options.lora_modules_to_save) or None,
        use_rslora=options.lora_rslora,
        use_dora=options.lora_dora,
        task_type="CAUSAL_LM",
        bias="none",
    )
    if options.base_model is not None:
        network.name_or_path = options.base_model  # `adapter_config.json` names the base
    with quiet_transformers():
        try:
            return get_peft_model(network, config, autocast_adapter_dtype=True)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"--lora: PEFT refuses ({_reason(error)})") from error


def _linear_layers(network: nn.Module) -> set[str]:
    kinds = (nn.Linear, nn.Embedding)
    return {
        name
        for name, module in network.named_modules()
        if isinstance(module, kinds) or type(module).__name__ == "Conv1D"
    }


def _no_such_layer(flag: str, name: str, names: set[str]) -> ConfigError:
    ends = sorted({layer.rpartition(".")[2] for layer in names} - {str(n) for n in range(1000)})
    shown = ", ".join(ends[:MOST_NAMES]) + (", …" if len(ends) > MOST_NAMES else "")
    return ConfigError(
        f"{flag} {printable(name)}: no layer has such a name{did_you_mean(name, ends)}; there are {shown}"
    )


def freeze(network: nn.Module, patterns: tuple[str, ...]) -> None:
    """Stop the training of the parameters whose names match.

    Raises:
        ConfigError: a pattern matches none, or nothing is left to train.
    """
    names = [name for name, _ in network.named_parameters()]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ConfigError(
                f"--freeze {printable(pattern)}: no parameter has such a name{did_you_mean(pattern, names)}; the first "
                f"is {names[0]!r}"
            )
    for name, parameter in network.named_parameters():
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ConfigError(f"--freeze {' '.join(map(printable, patterns))}: nothing is left to train")


# -- the output head -------------------------------------------------------------------------------------------------

_chosen: Tensor | None = None
"""Positions whose logits the forward pass in progress computes; None: all."""


def choose_in_head(network: Any) -> None:
    """Let the output head compute logits only at the positions that `logits_at` asks for.

    A vocabulary has 50,000 to 250,000 entries: logits at positions without a loss, such as those of a prompt, are most
    of the memory of a small model and a large part of its time. A hook works inside of every wrapper (DDP, DeepSpeed,
    PEFT), where an argument of `forward` would not arrive.
    """
    head = network.get_output_embeddings()
    if isinstance(head, nn.Module):
        head.register_forward_pre_hook(_choose)


def _choose(head: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
    if _chosen is None:
        return None
    hidden_BTD, *rest = arguments
    return hidden_BTD.reshape(-1, hidden_BTD.shape[-1]).index_select(0, _chosen), *rest


def logits_at(network: Any, tokens_BT: Tensor, positions_N: Tensor, position_ids_BT: Tensor | None = None) -> Tensor:
    """Return the logits (N, V) at chosen positions.

    Args:
        network: a causal language model, in any wrapper.
        tokens_BT: int64 ids, padded on the right: causality keeps padding from what comes before it.
        positions_N: int64 indices into the flattened (B·T) positions.
        position_ids_BT: int64 positions that restart at each packed sample, from which transformers makes a
            block-diagonal mask for each kind of attention layer; None: nothing is packed.
    """
    global _chosen
    packed = {} if position_ids_BT is None else {"position_ids": position_ids_BT}
    _chosen = positions_N
    try:
        logits: Tensor = network(input_ids=tokens_BT, use_cache=False, **packed).logits
    finally:
        _chosen = None
    if logits.ndim == 2:
        return logits
    if logits.ndim == 3 and logits.shape[0] == 1 and logits.shape[1] == len(positions_N) != tokens_BT.numel():
        return logits[0]
    return logits.reshape(-1, logits.shape[-1]).index_select(0, positions_N)  # a network without a head of its own


# -- noise -----------------------------------------------------------------------------------------------------------


class Noise:
    """Hook of an embedding that adds uniform noise of magnitude alpha / √(T·D) while training (NEFTune).

    Args:
        alpha: strength.
    """

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha

    def __call__(self, embedding: nn.Module, arguments: Any, output_BTD: Tensor) -> Tensor:
        if not embedding.training:
            return output_BTD
        size = self._alpha / math.sqrt(output_BTD.shape[-2] * output_BTD.shape[-1])
        return output_BTD + torch.empty_like(output_BTD).uniform_(-size, size)


def add_noise(network: Any, alpha: float) -> None:
    """Add NEFTune's noise to the input embeddings of every pass in training mode."""
    network.get_input_embeddings().register_forward_hook(Noise(alpha))
