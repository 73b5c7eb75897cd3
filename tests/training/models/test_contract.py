"""Every model family keeps the rules of a family: the built-in ones and a third party's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from tests.contracts.model_contract import DenoiserContract, ModelContract
from tests.third_party.model.apt_averaging_model import AveragingFamily
from training.models.apt.family import APTFamily
from training.models.denoiser import DenoiserFamily
from training.models.denoising_mlp.family import DenoisingMLPFamily
from training.models.huggingface.family import HuggingFaceFamily
from training.models.protocol import ModelFamily
from training.models.registry import MODELS
from training.models.unet.family import UNetFamily

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


class TestUNet(DenoiserContract):
    """Rectangular images of one channel, no classes, attention at the lower resolution."""

    family: ClassVar[type[DenoiserFamily]] = UNetFamily
    options: ClassVar[Mapping[str, Any]] = {
        "block_channels": (8, 16), "layers_per_block": 1, "norm_groups": 4, "attention_levels": (2,),
    }  # fmt: skip
    shape: ClassVar[tuple[int, ...]] = (1, 8, 4)
    other_shape: ClassVar[tuple[int, ...]] = (3, 8, 4)


class TestUNetWithClasses(DenoiserContract):
    family: ClassVar[type[DenoiserFamily]] = UNetFamily
    options: ClassVar[Mapping[str, Any]] = {"block_channels": (8,), "layers_per_block": 1, "norm_groups": 4}
    shape: ClassVar[tuple[int, ...]] = (3, 4, 4)
    classes: ClassVar[int | None] = 3
    other_shape: ClassVar[tuple[int, ...]] = (4,)


class TestDenoisingMLP(DenoiserContract):
    family: ClassVar[type[DenoiserFamily]] = DenoisingMLPFamily
    options: ClassVar[Mapping[str, Any]] = {"width": 16, "num_blocks": 2}
    shape: ClassVar[tuple[int, ...]] = (2,)
    other_shape: ClassVar[tuple[int, ...]] = (3,)


class TestDenoisingMLPWithClasses(DenoiserContract):
    family: ClassVar[type[DenoiserFamily]] = DenoisingMLPFamily
    options: ClassVar[Mapping[str, Any]] = {"width": 16, "num_blocks": 1, "input_frequencies": 0}
    shape: ClassVar[tuple[int, ...]] = (5,)
    classes: ClassVar[int | None] = 4
    other_shape: ClassVar[tuple[int, ...]] = (1, 4, 4)


def test_the_contract_covers_every_family_that_is_built() -> None:
    contracts = [*ModelContract.__subclasses__(), *DenoiserContract.__subclasses__()]
    covered = {contract.family.name for contract in contracts}
    # A pipeline's first weights and saved form are those of its base: diffusion_pipeline/ has its tests.
    assert set(MODELS.built_in) <= covered | {"diffusion_pipeline"}
