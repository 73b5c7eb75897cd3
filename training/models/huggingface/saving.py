"""Models in transformers' and PEFT's own directories: written, and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from torch import nn

from training.errors import CheckpointError
from training.machine.environment import variables_set
from training.models.huggingface.lora import merged, needs_peft, with_adapter
from training.models.huggingface.network import bare_network, prepared
from training.models.huggingface.options import HuggingFaceOptions
from training.models.huggingface.place import base_of_adapter, is_adapter
from training.models.huggingface.quantization import written_out
from training.models.transformers_library import quiet_transformers, reason_of
from training.storage.tensor_files import let_the_umask_decide

MERGED = "merged"
"""Directory in that of an adapter with the merged model."""


def save_network(directory: Path, model: nn.Module, options: HuggingFaceOptions) -> None:
    """Write a model as transformers does, or its adapters as PEFT does; with `options.merge` also the merged model.

    Raises:
        OSError: the disk is full or refuses.
        UserError: the base of the adapters is gone.
    """
    network: Any = model
    # transformers looks whether DeepSpeed holds the weights, whose import would guess at a device and say so.
    device = next(model.parameters()).device.type
    with quiet_transformers(), variables_set(DS_ACCELERATOR=device):
        if not hasattr(network, "peft_config"):
            _save_whole(network, directory)
        else:
            network.save_pretrained(directory, save_embedding_layers=False)
            (directory / "README.md").unlink(missing_ok=True)  # PEFT's template of a card, with nothing filled in
        if hasattr(network, "peft_config") and options.merge:
            # From what was written, on the CPU: whoever merges the adapters later gets the same.
            adapted, _ = _adapted(directory, options.trust_remote_code, qlora=options.qlora)
            _save_whole(merged(adapted), directory / MERGED)
    let_the_umask_decide(directory)


def _save_whole(network: Any, directory: Path) -> None:
    uses_cache = network.config.use_cache
    network.config.use_cache = True  # off only while training
    try:
        network.save_pretrained(directory)
    finally:
        network.config.use_cache = uses_cache


def _adapted(directory: Path, trust_remote_code: bool, qlora: bool = False) -> tuple[Any, str]:
    """Return the network of an adapter's directory with its adapter, and the name of its base.

    Args:
        directory: of the adapter.
        trust_remote_code: whether code beside the base may run.
        qlora: give the base the weights that it has in 4 bits, written out in fp32: the adapter was trained on them.
    """
    base = base_of_adapter(directory)
    described = HuggingFaceOptions(
        model="huggingface", base_model=base, trust_remote_code=trust_remote_code, qlora=qlora
    )
    network = bare_network(described)
    return with_adapter(written_out(network) if qlora else network, str(directory)), base


def load_network(directory: Path) -> tuple[Any, HuggingFaceOptions]:
    """Read a directory that transformers or PEFT saved, in fp32.

    Returns:
        The network, and options that describe it.

    Raises:
        ConfigError, CheckpointError: it is damaged, or an adapter's base is not there.
    """
    if not is_adapter(directory):
        options = HuggingFaceOptions(model="huggingface", base_model=str(directory))
        network = bare_network(options)
    else:
        network, base = _adapted(directory, trust_remote_code=False)
        options = _described(directory, base)
    prepared(network, str(directory))
    rows: int = cast(Any, network).get_input_embeddings().weight.shape[0]
    return network, options.model_copy(update={"vocab_size": rows})


def _described(directory: Path, base: str) -> HuggingFaceOptions:
    """Return the options by which such adapters are made."""
    needs_peft(str(directory))
    from peft import PeftConfig

    try:
        found: Any = PeftConfig.from_pretrained(str(directory))
    except Exception as error:  # of the library
        raise CheckpointError(f"{directory}: damaged description of an adapter ({reason_of(error)})") from error
    return HuggingFaceOptions(
        model="huggingface",
        base_model=base,
        lora=True,
        lora_rank=found.r,
        lora_alpha=float(found.lora_alpha),
        lora_dropout=float(found.lora_dropout),
        lora_targets=tuple(sorted(found.target_modules)),
        lora_rslora=found.use_rslora,
        lora_dora=found.use_dora,
        lora_modules_to_save=tuple(found.modules_to_save or ()),
        merge=(directory / MERGED).is_dir(),  # written again with the adapter
    )
