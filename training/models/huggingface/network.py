"""Networks of transformers: with their weights or new ones, adapters and frozen parts, as they are trained."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn
from torch._guards import detect_fake_mode

from training.errors import CheckpointError, ConfigError, UserError, did_you_mean, printable
from training.machine.output import complain
from training.models.huggingface.head import choose_in_head
from training.models.huggingface.lora import add_adapters, merged, with_adapter
from training.models.huggingface.noise import add_noise
from training.models.huggingface.options import HuggingFaceOptions
from training.models.huggingface.place import dropout_of, foundation_of, named_place, needs_own_code, read_config
from training.models.huggingface.proof import prove_causal
from training.models.huggingface.quantization import keep_one_form, quantization
from training.models.huggingface.resizing import resize
from training.models.transformers_library import quiet_transformers, reason_of
from training.settings.rank_identity import RankIdentity


def build_network(options: HuggingFaceOptions) -> nn.Module:
    """Build a network in fp32 as it is trained: with its weights, adapters and frozen parts.

    Args:
        options: a base or an architecture, and what is trained of it.

    Raises:
        UserError: no such model, or it is damaged; LoRA and freezing patterns match nothing; tokens see the next one.
    """
    network = bare_network(options)
    new_rows = False
    if options.resize_embeddings and options.vocab_size is not None:
        new_rows = resize(network, options.vocab_size)
    if options.has_lora:
        network = add_adapters(network, options, new_rows)
    if options.freeze:
        freeze(network, options.freeze)
    prepared(network, " ".join(named_place(options)))
    if options.neftune_alpha is not None:
        add_noise(network, options.neftune_alpha)
    return cast(nn.Module, network)


def bare_network(options: HuggingFaceOptions) -> Any:
    """Return the network of a place in fp32 as it lies there, with the adapters of that place added to its weights.

    Raises:
        UserError: no such model, or it is damaged.
    """
    from transformers import AutoModelForCausalLM

    config = read_config(options)
    flag, place = named_place(options)
    where = f"{flag} {printable(place)}"
    for name, share in dropout_of(config).items():
        if not 0.0 <= share <= 1.0:
            raise ConfigError(f"{where}: {name} = {share} in its config.json is no share from 0 to 1; mend it there")
    how: dict[str, Any] = {"trust_remote_code": options.trust_remote_code}
    if options.attn_implementation != "auto":
        how["attn_implementation"] = options.attn_implementation
    try:
        with quiet_transformers():
            # Sizes are measured on fake tensors, into which nothing can be read.
            if options.base_model is None or detect_fake_mode() is not None:
                if options.architecture is not None and options.vocab_size is not None:
                    config.vocab_size = options.vocab_size
                return AutoModelForCausalLM.from_config(config, dtype=torch.float32, **how)
            whole, adapters = foundation_of(place)
            network = _pretrained(whole, config, options, how)
            for adapter in adapters:
                network = merged(with_adapter(network, adapter))
            return network
    except UserError:
        raise
    except Exception as error:  # of the library
        raise needs_own_code(error, where) or ConfigError(
            f"{where}: the model cannot be built ({reason_of(error)})"
        ) from error


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
        raise CheckpointError(f"the config of the network is damaged ({reason_of(error)})") from error
    prepared(network, "the network")
    return cast(nn.Module, network)


def prepared(network: Any, where: str) -> None:
    """Prove a network, whose adapters are in place, and let its output head skip work.

    Raises:
        ConfigError: a token sees what comes after it, or the network does not run.
    """
    network.config.use_cache = False
    if detect_fake_mode() is None:
        prove_causal(network, where)
    else:
        choose_in_head(network)


def _pretrained(place: str, config: Any, options: HuggingFaceOptions, how: Mapping[str, Any]) -> Any:
    from transformers import AutoModelForCausalLM

    where = f"--model {printable(place)}"
    if getattr(config, "quantization_config", None) is not None and not options.has_lora:
        raise ConfigError(f"{where}: its weights are quantised and cannot be trained; train adapters for it (--lora)")
    network, found = AutoModelForCausalLM.from_pretrained(
        place, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True,
        **quantization(options), **how,
    )  # fmt: skip
    keep_one_form(network)
    if missing := sorted(found["missing_keys"]):
        raise ConfigError(
            f"{where}: {len(missing)} tensors of this network are not in its files, the first is {missing[0]!r}; "
            "training would begin from random numbers there"
        )
    if wrong := sorted(found["mismatched_keys"]):
        name, in_file, in_config = wrong[0]
        raise ConfigError(
            f"{where}: {name!r} has the shape {tuple(in_file)} in its files and {tuple(in_config)} by its config.json; "
            "copy the model again"
        )
    identity = RankIdentity.of_environment()
    if (unused := sorted(found["unexpected_keys"])) and (identity is None or identity.rank == 0):
        complain(
            f"warning: {where}: {len(unused)} tensors in its files have no place in the network of its config.json and "
            f"are not used, the first is {printable(unused[0])!r}"
        )
    return network


def freeze(network: nn.Module, patterns: tuple[str, ...]) -> None:
    """Stop the training of the parameters whose names match.

    Raises:
        ConfigError: a pattern matches none, or nothing is left to train.
    """
    # A tied weight has two names, and either may be given.
    names = [name for name, _ in network.named_parameters(remove_duplicate=False)]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ConfigError(
                f"--freeze {printable(pattern)}: no parameter has such a name{did_you_mean(pattern, names)}; the first "
                f"is {names[0]!r}"
            )
    for name, parameter in network.named_parameters(remove_duplicate=False):
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ConfigError(f"--freeze {' '.join(map(printable, patterns))}: nothing is left to train")
