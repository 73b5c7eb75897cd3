"""Models in transformers' and PEFT's own directories: written, and read back."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

from torch import nn

from training.errors import CheckpointError, printable
from training.machine.environment import variables_set
from training.models.huggingface.network import (
    ADAPTER_CONFIG,
    base_of_adapter,
    build_network,
    quiet_transformers,
)
from training.models.huggingface.options import HuggingFaceOptions
from training.models.protocol import Artefacts

MERGED = "merged"


def save_network(directory: Path, model: nn.Module, options: HuggingFaceOptions, artefacts: Artefacts) -> None:
    """Write a model as transformers does, or its adapters as PEFT does; with `options.merge` also the merged model.

    Raises:
        OSError: the disk is full or refuses.
    """
    network: Any = model
    # transformers looks whether DeepSpeed holds the weights, whose import would guess at a device and say so.
    device = next(model.parameters()).device.type
    with quiet_transformers(), variables_set(DS_ACCELERATOR=device):
        if not hasattr(network, "peft_config"):
            _save_whole(network, directory)
            return
        network.save_pretrained(directory, save_embedding_layers=False)
        (directory / "README.md").unlink(missing_ok=True)  # PEFT's template of a card, with nothing filled in
        if options.merge:
            _save_whole(merged(network), directory / MERGED)


def _save_whole(network: Any, directory: Path) -> None:
    uses_cache = network.config.use_cache
    network.config.use_cache = True  # off only while training
    try:
        network.save_pretrained(directory)
    finally:
        network.config.use_cache = uses_cache


def merged(network: Any) -> Any:
    """Return a copy of the network with its adapters added to the weights."""
    return copy.deepcopy(network).merge_and_unload()


def load_network(directory: Path) -> tuple[Any, HuggingFaceOptions]:
    """Read a directory that transformers or PEFT saved, in fp32.

    Returns:
        The network, and options that describe it.

    Raises:
        ConfigError, CheckpointError: it is damaged, or an adapter's base is not there.
    """
    adapter = directory / ADAPTER_CONFIG
    if not adapter.is_file():
        options = HuggingFaceOptions(model="huggingface", base_model=str(directory))
        network = build_network(options, None)
    else:
        from peft import PeftConfig, PeftModel

        base = base_of_adapter(adapter)
        whole: Any = build_network(HuggingFaceOptions(model="huggingface", base_model=base), None)
        with quiet_transformers():
            try:
                network = PeftModel.from_pretrained(whole, str(directory))
                described: Any = PeftConfig.from_pretrained(str(directory))
            except Exception as error:  # of the library
                reason = printable((str(error).strip().splitlines() or [type(error).__name__])[0][:300])
                raise CheckpointError(f"{directory}: the adapter does not fit its base {base} ({reason})") from error
        options = HuggingFaceOptions(
            model="huggingface",
            base_model=base,
            lora=True,
            lora_rank=described.r,
            lora_alpha=float(described.lora_alpha),
            merge=(directory / MERGED).is_dir(),  # written again with the adapter
        )
    rows: int = cast(Any, network).get_input_embeddings().num_embeddings
    return network, options.model_copy(update={"vocab_size": rows})
