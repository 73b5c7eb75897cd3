"""What a task is: what is learned, from which data, with which figures, and what is shown at the end.

A task owns its data and its objective. Where and how it is trained is the backend's matter, how the network looks the
model family's. No torch at import: `--help` and `--list-tasks` read this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from training.models.protocol import Artefacts, ModelFamily
from training.settings.tree import TaskOptions, TrainingConfig
from training.tasks.card import CardFacts, TaskCard, task_card
from training.tasks.metrics import Metric

if TYPE_CHECKING:
    from torch import nn

    from training.tasks.objective import Objective


@dataclass(frozen=True)
class Prepared:
    """A task's data and objective, ready to be trained."""

    config: TrainingConfig
    """The settings, with what the data decided filled in (the vocabulary's size)."""
    family: ModelFamily
    objective: Objective
    train: Any
    """Something with a length and items, which `Objective.collate` takes."""
    validation: Any | None = None
    fingerprint: str = ""
    """Hash of the data: a resumed run must have the same, and all ranks too."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Plain data about the data for the report."""
    artefacts: Artefacts = field(default_factory=dict)
    """Plain data that is kept in every checkpoint and next to the finished model (the tokenizer)."""
    vocabulary: int | None = None
    """Number of tokens; None: the task has no tokens."""
    introduction: Sequence[str] = ()
    """Lines about the data and the model for the user, before the first update."""


class Conclusion(NamedTuple):
    """What a task found out about the finished model."""

    figures: Mapping[str, Any] = {}
    """Plain data for the report."""
    lines: Sequence[str] = ()
    """For the user."""


class DataPreview(NamedTuple):
    """What a dry run knows of the data without preparing it."""

    num_samples: int
    """For training, without those held back."""
    num_tokens: int
    """Read in an epoch, never padding; 0: samples have no tokens."""
    vocabulary: int | None
    longest: Sequence[tuple[int, int]]
    """(width, weight) of the longest samples, longest first, as many as a micro-batch holds."""


class Task(Protocol):
    """Something that can be learned. Third parties register theirs as an `apt_trainer.tasks` entry point."""

    name: ClassVar[str]
    Options: ClassVar[type[TaskOptions]]
    """Settings of the data: the config's section `data`, and a group of flags."""
    inputs: ClassVar[str]
    """What its network has to read: "tokens", "vectors", "images"; a model family with other inputs is refused."""
    metrics: ClassVar[tuple[Metric, ...]]
    """Figures next to the loss. What is not declared here appears nowhere."""

    def data_files(self, options: TaskOptions) -> Sequence[Path]:
        """Return the files of this machine that the data comes from, so that a job elsewhere can take them along.

        Raises:
            DataError: one is missing.
        """
        ...

    def with_data_files(self, options: TaskOptions, files: Sequence[str]) -> TaskOptions:
        """Return the options with the data's files at other places, in the order of `data_files`."""
        ...

    def preview(self, config: TrainingConfig) -> DataPreview | None:
        """Describe the data for a dry run, in a fraction of a second and without torch; None: it would take longer.

        Raises:
            DataError: the data cannot be used.
        """
        ...

    def prepare(self, config: TrainingConfig) -> Prepared:
        """Read the data and make the objective. Every rank calls it and must get the same.

        Raises:
            UserError: the data or a setting cannot be used.
        """
        ...

    def conclude(self, model: nn.Module, prepared: Prepared) -> Conclusion:
        """Look at the finished model, on rank 0: answers, samples, pictures, or nothing.

        Args:
            model: the final weights, on the device of the run.
            prepared: as `prepare` returned it.
        """
        ...

    def card(self, facts: CardFacts) -> TaskCard:
        """Return the task's part of the card of a model that is published: data, figures, limits."""
        ...


class BaseTask:
    """Defaults for a task: inherit it and write `prepare`."""

    Options: ClassVar[type[TaskOptions]] = TaskOptions
    inputs: ClassVar[str] = "tokens"
    metrics: ClassVar[tuple[Metric, ...]] = ()

    def data_files(self, options: TaskOptions) -> Sequence[Path]:
        """See `Task.data_files`: the data comes from no file."""
        return ()

    def with_data_files(self, options: TaskOptions, files: Sequence[str]) -> TaskOptions:
        """See `Task.with_data_files`: the data comes from no file."""
        return options

    def preview(self, config: TrainingConfig) -> DataPreview | None:
        """See `Task.preview`: not known before the data is prepared."""
        return None

    def conclude(self, model: nn.Module, prepared: Prepared) -> Conclusion:
        """See `Task.conclude`: nothing to show."""
        return Conclusion()

    def card(self, facts: CardFacts) -> TaskCard:
        """See `Task.card`: the settings of the data, and the validation's figures."""
        return task_card(facts)


def check_data(config: TrainingConfig) -> None:
    """Read the data as the run will, so that what is wrong with it shows before a job waits in a queue.

    Raises:
        UserError: what the run would raise: a file that cannot be used, a vocabulary that is too small.
    """
    task = task_of(config)
    preview = task.preview(config)
    if preview is None:
        task.prepare(config)
    else:
        family_of(config).completed(config.model, preview.vocabulary)


def task_of(config: TrainingConfig) -> Task:
    """Return the task that a config names."""
    from training.tasks.registry import TASKS

    return TASKS.load(config.task)()


def family_of(config: TrainingConfig) -> ModelFamily:
    """Return the model family that a config names."""
    from training.models.registry import MODELS

    return MODELS.load(config.model.model)()
