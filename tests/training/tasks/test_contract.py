"""Every task keeps the rules of a task: the built-in ones and a third party's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tests.contracts.task_contract import TaskContract
from tests.support.language_data import chats_file, topics_file
from tests.third_party.task.apt_reversal_task import ReversalTask
from training.tasks.chat.task import ChatTask
from training.tasks.diffusion.task import DiffusionTask
from training.tasks.hlbd.task import HLBDTask
from training.tasks.protocol import Task
from training.tasks.registry import TASKS
from training.tasks.text.task import TextTask

SMALL: Mapping[str, Any] = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16}


class TestHLBD(TaskContract):
    task: ClassVar[type[Task]] = HLBDTask
    settings: ClassVar[Mapping[str, Any]] = {"model": SMALL, "report": {"answer_samples": 4}}


class TestReversal(TaskContract):
    """The example of a third party keeps the contract that it is judged by."""

    task: ClassVar[type[Task]] = ReversalTask
    settings: ClassVar[Mapping[str, Any]] = {"model": SMALL}


class TestText(TaskContract):
    task: ClassVar[type[Task]] = TextTask
    settings: ClassVar[Mapping[str, Any]] = {
        "model": {**SMALL, "max_seq_len": 64, "vocab_size": 300}, "data": {"datasets": [str(topics_file())]},
    }  # fmt: skip


class TestTextByCharacter(TaskContract):
    task: ClassVar[type[Task]] = TextTask
    settings: ClassVar[Mapping[str, Any]] = {
        "model": {**SMALL, "max_seq_len": 512},
        "data": {"datasets": [str(topics_file(count=60, characters=150))], "tokenizer": "characters"},
    }


class TestChat(TaskContract):
    task: ClassVar[type[Task]] = ChatTask
    settings: ClassVar[Mapping[str, Any]] = {
        "model": {**SMALL, "max_seq_len": 128, "vocab_size": 300}, "data": {"datasets": [str(chats_file())]},
    }  # fmt: skip


class TestDiffusion(TaskContract):
    task: ClassVar[type[Task]] = DiffusionTask
    model: ClassVar[str] = "denoising_mlp"
    settings: ClassVar[Mapping[str, Any]] = {
        "model": {"width": 16, "num_blocks": 1}, "data": {"datasets": ["moons:40"], "sampling_steps": 3},
    }  # fmt: skip


class TestDiffusionOfImages(TaskContract):
    task: ClassVar[type[Task]] = DiffusionTask
    model: ClassVar[str] = "unet"
    settings: ClassVar[Mapping[str, Any]] = {
        "model": {"block_channels": [4], "layers_per_block": 1, "norm_groups": 2, "attention_head_dim": 4},
        "data": {"datasets": ["digits"], "prediction": "edm", "noise_bands": 4, "sampling_steps": 3, "sample_count": 4},
    }


def test_the_contract_covers_every_task_that_is_built() -> None:
    covered = {contract.task.name for contract in TaskContract.__subclasses__()}
    assert set(TASKS.built_in) <= covered
