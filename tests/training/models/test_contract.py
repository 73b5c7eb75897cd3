"""Every model family keeps the rules of a family: the built-in ones and a third party's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from tests.contracts.model_contract import ModelContract
from tests.third_party.model.apt_averaging_model import AveragingFamily
from training.models.apt.family import APTFamily
from training.models.huggingface.family import HuggingFaceFamily
from training.models.protocol import ModelFamily
from training.models.registry import MODELS

TINY_LLAMA = Path(__file__).with_name("huggingface") / "tiny_llama.json"


class TestAPT(ModelContract):
    family: ClassVar[type[ModelFamily]] = APTFamily
    options: ClassVar[Mapping[str, Any]] = {
        "d_model": 16, "num_layers": 2, "num_heads": 2, "d_ff": 24, "max_seq_len": 8,
    }  # fmt: skip


class TestAPTWithAHeadOfItsOwn(ModelContract):
    family: ClassVar[type[ModelFamily]] = APTFamily
    options: ClassVar[Mapping[str, Any]] = {
        "d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 24, "max_seq_len": 8, "tie_embeddings": False,
        "attention": "standard",
    }  # fmt: skip


class TestHuggingFace(ModelContract):
    family: ClassVar[type[ModelFamily]] = HuggingFaceFamily
    options: ClassVar[Mapping[str, Any]] = {"architecture": str(TINY_LLAMA)}
    keeps_options: ClassVar[bool] = False


class TestAveraging(ModelContract):
    """The example of a third party keeps the contract that it is judged by."""

    family: ClassVar[type[ModelFamily]] = AveragingFamily
    options: ClassVar[Mapping[str, Any]] = {"features": 8}


def test_the_contract_covers_every_family_that_is_built() -> None:
    covered = {contract.family.name for contract in ModelContract.__subclasses__()}
    assert set(MODELS.built_in) <= covered
