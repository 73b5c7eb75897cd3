"""Weights in 4 bits by bitsandbytes, under LoRA (QLoRA, arXiv 2305.14314)."""

from __future__ import annotations

import importlib.util
from typing import Any

from training.errors import ConfigError
from training.models.huggingface.options import HuggingFaceOptions

PACKAGE = "bitsandbytes"


def needs_bitsandbytes() -> None:
    """Refuse to go on without bitsandbytes.

    Raises:
        ConfigError: it is not installed; says how to install it.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise ConfigError("--qlora needs bitsandbytes, which is not installed; run: pip install -e '.[qlora]'")


def quantization(options: HuggingFaceOptions) -> dict[str, Any]:
    """Return the arguments by which transformers reads weights in 4 bits; empty: in fp32."""
    if not options.qlora:
        return {}
    needs_bitsandbytes()
    import torch
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )  # fmt: skip
    return {"quantization_config": settings}


def keep_one_form(network: Any) -> None:
    """Keep weights in 4 bits as they were read.

    On a CPU with bf16, bitsandbytes packs them again at the first pass in eval mode and rounds their scales: a run that
    was evaluated would go on with other weights than one that was not.
    """
    for module in network.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def written_out(network: Any) -> Any:
    """Return a network in fp32 whose weights have the values that they have in 4 bits."""
    import torch

    return network.dequantize(dtype=torch.float32).float()
