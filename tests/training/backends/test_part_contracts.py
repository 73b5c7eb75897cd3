"""The built-in task and model family keep the contracts of their kinds."""

from __future__ import annotations

from typing import ClassVar

from tests.contracts.model_contract import ModelContract
from tests.contracts.task_contract import TaskContract
from training.models.registry import MODELS
from training.tasks.registry import TASKS


class TestHLBD(TaskContract):
    name: ClassVar[str] = "hlbd"


class TestAPT(ModelContract):
    name: ClassVar[str] = "apt"


def test_the_contracts_cover_every_task_and_family_that_is_built_in() -> None:
    assert set(TASKS.built_in) <= {contract.name for contract in TaskContract.__subclasses__()}
    assert set(MODELS.built_in) <= {contract.name for contract in ModelContract.__subclasses__()}
