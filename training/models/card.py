"""The network's part of a model card: its description, its tags on the Hub, and the code that loads it. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from training.settings.tree import ModelOptions


class PublishedModel(NamedTuple):
    """A model that is about to be published."""

    options: ModelOptions
    num_parameters: int
    artefacts: Mapping[str, Any]
    """Plain data of its task that is saved with it (the tokenizer)."""
    place: str
    """OWNER/NAME on the Hub, or the name of a directory."""
    example: str | None
    """An input as text that the task gives; None: its inputs are no texts."""
    is_chat: bool = False
    """True if the example is a user's message in a conversation."""
    settings: Mapping[str, Any] | None = None
    """The section `model` of its run's settings; None: not known."""


@dataclass(frozen=True)
class FamilyCard:
    """Description of a network for a model card. Texts are Markdown."""

    subject: str
    """Beginning of the first sentence: "An APT language model of 4,200 parameters"."""
    network: str = ""
    """A sentence about the network without its full stop, or nothing."""
    library: str = "apt-trainer"
    """`library_name` on the Hub: the library that loads the model."""
    pipeline: str | None = None
    """`pipeline_tag` on the Hub, such as "text-generation"."""
    tags: Sequence[str] = ()
    usage: Sequence[str] = ()
    """Lines that show how the model is loaded and used."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Further entries of the card's head: base_model, license."""
    shape: Sequence[tuple[str, object]] | None = None
    """Rows that describe the network; None: all options of the family."""
    limits: Sequence[str] = ()
    """List items about the network, such as whose license applies."""
    onnx_input: str = "tokens_BT"
    """Expression of the example for ONNX Runtime: an int64 array of tokens."""


def family_card(name: str, published: PublishedModel) -> FamilyCard:
    """Return the card of a family that has nothing of its own to say: true for every family.

    Args:
        name: of the model family.
        published: the model.
    """
    return FamilyCard(
        subject=f"A model of the family `{name}` with {published.num_parameters:,} parameters",
        tags=(name,),
        usage=loading_code(published),
    )


def generating_code(published: PublishedModel) -> list[str]:
    """Return lines in which a `model` of transformers and its `tokenizer` go on with the example."""
    example = json.dumps(published.example or "Hello", ensure_ascii=False)
    if published.is_chat:
        read = [
            f'messages = [{{"role": "user", "content": {example}}}]',
            "text = tokenizer.apply_chat_template(",
            '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True',
            ")",
        ]
        shown = 'answer[0, text["input_ids"].shape[1] :]'
    else:
        read, shown = [f'text = tokenizer({example}, return_tensors="pt")'], "answer[0]"
    return [
        *read,
        "answer = model.generate(**text, max_new_tokens=40, do_sample=False)",
        f"print(tokenizer.decode({shown}, skip_special_tokens=True))",
    ]


def loading_code(published: PublishedModel) -> list[str]:
    """Return lines that load a directory which `BaseFamily.save` wrote, by this project."""
    on_hub = "/" in published.place
    fetch = ["from huggingface_hub import snapshot_download", ""] if on_hub else []
    directory = f"snapshot_download({published.place!r})" if on_hub else repr(published.place)
    return [
        "```python",
        "from pathlib import Path",
        "",
        *fetch,
        "from training.checkpoints.finished_model import load_trained_model",
        "",
        f"trained = load_trained_model(Path({directory}))",
        "model = trained.model  # a torch.nn.Module in eval mode, on the CPU",
        "vocabulary = trained.vocabulary  # number of tokens, or None",
        "artefacts = trained.artefacts  # plain data of the task",
        "```",
        "",
        f"This runs the code of the project that trained the model, `apt-trainer`{_package(published.options.model)}.",
    ]


def _package(family: str) -> str:
    """Name what else must be installed to load a model of a family."""
    from training.models.registry import MODELS

    if family in MODELS.built_in:
        return ""
    if family in MODELS.third_party:
        return f", and the model family `{family}` ({MODELS.third_party[family].summary})"
    return f", and the class `{family}`, which must be importable"
