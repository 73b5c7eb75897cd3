"""The model card's part of a transformers model. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from training.models.card import FamilyCard, PublishedModel
from training.models.huggingface.options import HuggingFaceOptions


def huggingface_card(published: PublishedModel) -> FamilyCard:
    """Return the card of a transformers model, or of LoRA adapters for one."""
    options = cast(HuggingFaceOptions, published.options)
    adapters = options.has_lora
    base = options.base_model or options.architecture
    what = (
        "LoRA adapters for"
        if adapters
        else "A fine-tune of"
        if options.base_model
        else "A model with the architecture of"
    )
    return FamilyCard(
        subject=f"{what} `{base}` ({published.num_parameters:,} parameters in all)",
        library="peft" if adapters else "transformers",
        pipeline="text-generation",
        tags=("lora",) if adapters else (),
        usage=list(_code(published)),
        onnx_input="tokens_BT",
    )


def _code(published: PublishedModel) -> Iterator[str]:
    yield from (
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f"place = {published.place!r}",
        "tokenizer = AutoTokenizer.from_pretrained(place)",
        "model = AutoModelForCausalLM.from_pretrained(place)  # with adapters: needs the package peft",
        "```",
    )
