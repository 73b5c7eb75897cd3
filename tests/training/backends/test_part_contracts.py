"""The built-in task and model family keep the contracts of their kinds."""

from __future__ import annotations

from typing import ClassVar

from tests.contracts.settings_contracts import ModelSettingsContract, TaskSettingsContract
from training.models.registry import MODELS
from training.tasks.registry import TASKS


class TestHLBD(TaskSettingsContract):
    name: ClassVar[str] = "hlbd"


class TestText(TaskSettingsContract):
    name: ClassVar[str] = "text"


class TestChat(TaskSettingsContract):
    name: ClassVar[str] = "chat"


class TestDiffusion(TaskSettingsContract):
    name: ClassVar[str] = "diffusion"


class TestUNet(ModelSettingsContract):
    name: ClassVar[str] = "unet"


class TestDenoisingMLP(ModelSettingsContract):
    name: ClassVar[str] = "denoising_mlp"


class TestHuggingFace(ModelSettingsContract):
    name: ClassVar[str] = "huggingface"


class TestAPT(ModelSettingsContract):
    name: ClassVar[str] = "apt"


class TestDiffusionPipeline(ModelSettingsContract):
    name: ClassVar[str] = "diffusion_pipeline"


def test_the_contracts_cover_every_task_and_family_that_is_built_in() -> None:
    assert set(TASKS.built_in) <= {contract.name for contract in TaskSettingsContract.__subclasses__()}
    assert set(MODELS.built_in) <= {contract.name for contract in ModelSettingsContract.__subclasses__()}
