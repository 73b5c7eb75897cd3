"""A task in one file: strings of digits are to be written backwards. Its data is made, not read."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from training.settings.tree import TaskOptions, TrainingConfig
from training.tasks.metrics import ACCURACY, Metric
from training.tasks.protocol import BaseTask, Conclusion, Prepared, family_of

if TYPE_CHECKING:
    from torch import nn

SEPARATOR, END = 10, 11  # after the ten digits


class ReversalOptions(TaskOptions):
    """Options of --task reversal."""

    digits: int = Field(4, ge=1, le=50, description="Digits of each string.")
    strings: int = Field(64, ge=2, description="Number of strings.")


class ReversalTask(BaseTask):
    """Prediction of the reversed string: `1 2 3 | 3 2 1 end`."""

    name: ClassVar[str] = "reversal"
    Options: ClassVar[type[TaskOptions]] = ReversalOptions
    metrics: ClassVar[tuple[Metric, ...]] = (ACCURACY,)

    def prepare(self, config: TrainingConfig) -> Prepared:
        """Make the strings, the same in every process."""
        import numpy as np

        from training.tasks.language_modeling import LanguageModeling
        from training.tasks.token_dataset import TokenDataset

        draw, options = random.Random(config.run.seed), config.data
        strings = [[draw.randrange(10) for _ in range(options.digits)] for _ in range(options.strings)]
        rows = [np.array([*s, SEPARATOR, *reversed(s), END], dtype=np.int32) for s in strings]
        held_back = round(len(rows) * options.validation_split)
        start = options.digits + 1  # the first token that is learned
        parts = (rows[held_back:], rows[:held_back])
        train, validation = (TokenDataset(part, [start] * len(part)) if part else None for part in parts)
        family = family_of(config)
        model = family.completed(config.model, END + 1)
        objective = LanguageModeling(family, model, END + 1, metrics=self.metrics)
        config = config.model_copy(update={"model": model})
        return Prepared(config, family, objective, train, validation, f"{options}", vocabulary=END + 1)

    def conclude(self, model: nn.Module, prepared: Prepared) -> Conclusion:
        """Count the parameters, to have something to say."""
        return Conclusion({"reversal": {"strings": len(prepared.train)}}, [f"reversed {len(prepared.train)} strings"])
