"""APT's part of a model card. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

from apt_model.tokenizer import DynamicTagTokenizer
from training.models.apt.options import APTOptions
from training.models.card import FamilyCard, PublishedModel, generating_code, loading_code
from training.models.tokenizers import DOCUMENT, FILES

_ATTENTION = {
    "autopoietic": "autopoietic attention: each head sets its own temperature and output gate at every token",
    "standard": "standard attention, as the control experiment of APT",
}

_CODE_OF_THE_DIRECTORY = (
    "`trust_remote_code=True` runs the Python files of this directory: read them first. They need PyTorch and "
    "transformers, nothing else."
)


def opens_with_transformers(artefacts: Mapping[str, Any]) -> bool:
    """Return True if a model with these artefacts is saved in the portable form, which transformers opens.

    It has a place for a tokenizer and for nothing else, so a model with any other artefact is saved in the general
    form, which keeps them all.
    """
    own = artefacts.keys() == {DOCUMENT} and DynamicTagTokenizer.wrote(artefacts[DOCUMENT])
    return own or artefacts.keys() == {DOCUMENT, FILES}


def apt_card(published: PublishedModel) -> FamilyCard:
    """Return the card of an APT: of the portable form, where it is saved so."""
    attention = cast(APTOptions, published.options).attention
    card = FamilyCard(
        subject=f"An APT language model of {published.num_parameters:,} parameters",
        network=f"It is a causal decoder with {_ATTENTION[attention]}",
        tags=("apt",),
        usage=loading_code(published),
    )
    if not opens_with_transformers(published.artefacts):
        return card
    return replace(
        card,
        library="transformers",
        pipeline="text-generation",
        usage=list(_transformers_code(published)),
        onnx_input=f'{"text" if FILES in published.artefacts else "question"}["input_ids"].numpy()',
    )


def _transformers_code(published: PublishedModel) -> Iterator[str]:
    yield from (
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f"place = {published.place!r}",
        "tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=True)",
        "model = AutoModelForCausalLM.from_pretrained(place, trust_remote_code=True)",
        "",
    )
    if FILES in published.artefacts:
        yield from generating_code(published)
        yield from ("```", "", _CODE_OF_THE_DIRECTORY)
        return
    question = json.dumps(published.example or "Hello", ensure_ascii=False)
    yield from (
        f'question = tokenizer({question}, return_tensors="pt")',
        "answer = model.generate(**question, max_new_tokens=20, do_sample=False)",
        'print(tokenizer.decode(answer[0, question["input_ids"].shape[1] :], skip_special_tokens=True))',
        "```",
        "",
        _CODE_OF_THE_DIRECTORY,
    )
