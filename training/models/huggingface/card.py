"""The model card's part of a transformers model: its base and whose license that has, and code that loads it. No torch.

A base in a directory of this machine is named without its path: where somebody keeps files is nobody's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from training.models.card import FamilyCard, PublishedModel, generating_code
from training.models.huggingface.options import HuggingFaceOptions
from training.settings.plain_yaml import parse_yaml
from training.storage.json_files import DamagedFileError, read_bytes

NETWORK = "network"
"""Name of the artefact with the content of the model's config.json."""
SHAPE = (
    "model_type", "hidden_size", "n_embd", "num_hidden_layers", "n_layer", "num_attention_heads", "n_head",
    "num_key_value_heads", "intermediate_size", "vocab_size", "max_position_embeddings", "n_positions",
    "tie_word_embeddings",
)  # fmt: skip
"""Keys of a config.json that say how large a network is."""
LORA = ("lora_rank", "lora_alpha", "lora_targets", "lora_rslora", "lora_dora", "lora_modules_to_save")
LICENSE = ("license", "license_name", "license_link")
"""Entries of a card's head."""


def huggingface_card(published: PublishedModel) -> FamilyCard:
    """Return the card of a transformers model, or of a LoRA adapter for one."""
    options = cast(HuggingFaceOptions, published.options)
    settings = published.settings or (options.model_dump() if options.has_lora else {})
    base: str | None = settings.get("base_model")
    return FamilyCard(
        subject=_subject(options, settings, published.num_parameters),
        library="peft" if options.has_lora else "transformers",
        pipeline="text-generation",
        tags=("lora",) if options.has_lora else (),
        usage=list(_code(published, options)),
        metadata=_metadata(options, base),
        shape=list(_shape(published, options, settings)),
        limits=list(_limits(options, base)),
        onnx_input='text["input_ids"].numpy()',
    )


def _subject(options: HuggingFaceOptions, settings: Mapping[str, Any], parameters: int) -> str:
    base, architecture = settings.get("base_model"), settings.get("architecture")
    size = f"{parameters:,} parameters"
    if options.has_lora:
        return f"A LoRA adapter for {_shown(base)} ({size} with its base)"
    if base is not None:
        return f"A fine-tune of {_shown(base)} ({size})"
    if architecture is not None:
        return f"A causal language model of {size}, trained from new weights,"
    return f"A causal language model of {size}"


def _shown(base: str | None) -> str:
    if base is None:
        return "a model that is not recorded"
    return f"the model in a directory `{Path(base).name}`" if _is_local(base) else f"`{base}`"


def _is_local(base: str) -> bool:
    """Return True where a base is no repository of the Hub: it is there, or cannot be one."""
    return base.count("/") != 1 or base.startswith((".", "/", "~")) or Path(base).exists()


def _metadata(options: HuggingFaceOptions, base: str | None) -> dict[str, Any]:
    if base is None:
        return {}
    license_lines = license_of(base) if _is_local(base) else {}
    if _is_local(base):
        return license_lines
    return {"base_model": base, "base_model_relation": "adapter" if options.has_lora else "finetune"}


def license_of(base: str) -> dict[str, str]:
    """Return the license that the card in a model's directory names, as entries of a card's head; empty: none."""
    try:
        text = read_bytes(Path(base) / "README.md").decode("utf-8")
        head = parse_yaml(text.split("---\n")[1]) if text.startswith("---\n") else None
    except (OSError, ValueError, IndexError, DamagedFileError):
        return {}  # no card, or one that the Hub could not read either
    found = head if isinstance(head, dict) else {}
    return {name: found[name] for name in LICENSE if isinstance(found.get(name), str)}


def _shape(
    published: PublishedModel, options: HuggingFaceOptions, settings: Mapping[str, Any]
) -> Iterator[tuple[str, object]]:
    network: Mapping[str, Any] = published.artefacts.get(NETWORK, {})
    yield from ((name, network[name]) for name in SHAPE if isinstance(network.get(name), bool | int | str))
    if options.has_lora:
        for name in LORA:
            value = settings.get(name)
            if value not in (None, False, (), []):
                yield name, " ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _limits(options: HuggingFaceOptions, base: str | None) -> Iterator[str]:
    if base is None:
        return
    if not _is_local(base):
        yield f"The license of `{base}` applies to it too: <https://huggingface.co/{base}>."
        return
    found = license_of(base).get("license")
    known = f"({found}) " if found else ""
    yield f"The license of its base {known}applies to it too{'' if found else '; the base does not record which'}."
    if options.has_lora:
        yield (
            "Its base lay in a directory of the machine that trained it. Elsewhere, set `base_model_name_or_path` in "
            "`adapter_config.json` to a directory or a repository of the Hub with the same model."
        )


def _code(published: PublishedModel, options: HuggingFaceOptions) -> Iterator[str]:
    trust = ", trust_remote_code=True" if options.trust_remote_code else ""
    yield "```python"
    if options.has_lora:
        yield "from peft import AutoPeftModelForCausalLM"
        yield "from transformers import AutoTokenizer"
    else:
        yield "from transformers import AutoModelForCausalLM, AutoTokenizer"
    yield ""
    yield f"place = {published.place!r}"
    yield f"tokenizer = AutoTokenizer.from_pretrained(place{trust})"
    if options.has_lora:
        yield f"model = AutoPeftModelForCausalLM.from_pretrained(place{trust})  # the base and the adapter"
    else:
        yield f"model = AutoModelForCausalLM.from_pretrained(place{trust})"
    yield ""
    yield from generating_code(published)
    yield "```"
    if options.has_lora and options.merge:
        yield ""
        yield (
            "`merged/` is the same model with the adapter added to the weights, which needs no peft: "
            '`AutoModelForCausalLM.from_pretrained(place, subfolder="merged")`.'
        )
