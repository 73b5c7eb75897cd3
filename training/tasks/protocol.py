"""Protocol of tasks: what is learned, from which data, with which metrics, and what is shown at the end.

A task owns its data and its objective. The backend decides where and how it is trained, the model family how
the network is built. No torch at import: `--help` and `--list-tasks` read this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from training.models.protocol import Artefacts, ModelFamily
from training.settings.tree import DEFAULT_MODEL, ModelOptions, TaskOptions, TrainingConfig
from training.tasks.card import CardFacts, TaskCard, task_card
from training.tasks.metrics import Metric

if TYPE_CHECKING:
    from torch import nn

    from training.tasks.answers.prompt_format import PromptFormat
    from training.tasks.objective import Objective


@dataclass(frozen=True)
class Prepared:
    """Data and objective of a task, ready for training."""

    config: TrainingConfig
    """Settings, completed with values that the data determines (the vocabulary's size)."""
    family: ModelFamily
    objective: Objective
    train: Any
    """Object with a length and items, which `Objective.collate` accepts."""
    validation: Any | None = None
    fingerprint: str = ""
    """Hash of the data: it must be the same in a resumed run and on all ranks."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Plain description of the data for the report."""
    artefacts: Artefacts = field(default_factory=dict)
    """Plain data that is kept in every checkpoint and next to the finished model (the tokenizer)."""
    vocabulary: int | None = None
    """Number of tokens; None: the task has no tokens."""
    introduction: Sequence[str] = ()
    """Lines about the data and the model for the user, before the first update."""
    asked: ModelOptions | None = None
    """Options of the network as the user gave them, for the run's config.yaml: it asks for the same again, also from a
    task that trains a tokenizer of vocab_size tokens and then adds some. None: those of `config`."""
    seconds_to_conclude: float | None = None
    """Time that `Task.conclude` should keep to, where the user did not say how much to examine; None: any time."""


class Conclusion(NamedTuple):
    """Result of a task's look at the finished model."""

    figures: Mapping[str, Any] = {}
    """Plain data for the report."""
    lines: Sequence[str] = ()
    """Lines for the user."""


ShownSample = Sequence[tuple[str, bool]]
"""Pieces of a sample's text in their order, each with whether the model learns to write it."""


class DataPreview(NamedTuple):
    """Facts about the data that a dry run can get without preparing it."""

    num_samples: int
    """Number of training samples, without those held back for validation."""
    num_tokens: int
    """Number of tokens read in an epoch, never padding; 0: samples have no tokens."""
    vocabulary: int | None
    longest: Sequence[tuple[int, int]]
    """(width, weight) of the longest samples, longest first, as many as a micro-batch holds."""


class Task(Protocol):
    """Protocol of a task. Third parties register theirs as an `apt_trainer.tasks` entry point."""

    name: ClassVar[str]
    Options: ClassVar[type[TaskOptions]]
    """Settings of the data: the config's section `data`, and a group of flags."""
    inputs: ClassVar[str]
    """Required input of the network: "tokens", "noisy samples"; a model family with other inputs is refused."""
    metrics: ClassVar[tuple[Metric, ...]]
    """Figures in addition to the loss. A metric that is not declared here appears nowhere."""

    def data_files(self, options: TaskOptions) -> Sequence[Path]:
        """Return the local files of the data, so that they can be uploaded for a job on another machine.

        Raises:
            DataError: one is missing.
        """
        ...

    def with_data_files(self, options: TaskOptions, files: Sequence[str]) -> TaskOptions:
        """Return the options with other paths for the data's files, in the order of `data_files`."""
        ...

    def preview(self, config: TrainingConfig) -> DataPreview | None:
        """Describe the data for a dry run, in a fraction of a second and without torch; None: that would take longer.

        Raises:
            DataError: the data cannot be used.
        """
        ...

    def prepare(self, config: TrainingConfig) -> Prepared:
        """Read the data and build the objective. Every rank calls it and must get the same result.

        Raises:
            UserError: the data or a setting cannot be used.
        """
        ...

    def shown_samples(self, prepared: Prepared, count: int) -> Sequence[ShownSample]:
        """Return the first training samples as a person reads them; empty: this task has no text to show.

        Args:
            prepared: return value of `prepare`.
            count: number of samples at most.
        """
        ...

    def check_model(self, model: nn.Module, prepared: Prepared) -> Sequence[str]:
        """Prove on the new model, before the first update and on every rank, what the data alone does not show.

        Args:
            model: whole network with its first weights, on the CPU.
            prepared: return value of `prepare`.

        Returns:
            Lines for the user.

        Raises:
            UserError: the model does not do what the task needs.
        """
        ...

    def sample_interval(self, config: TrainingConfig) -> int | None:
        """Return how many epochs lie between two pictures of `show`; 0: only at the end; None: it shows nothing."""
        ...

    def show(self, model: nn.Module, prepared: Prepared, seed: int) -> Mapping[str, bytes]:
        """Draw samples of what the model has learned so far, on rank 0.

        Args:
            model: the network that is validated, in eval mode, on the device of the run.
            prepared: return value of `prepare`.
            seed: of all random draws, the same each time. The global generators are the task's own meanwhile.

        Returns:
            Pictures by name (small letters, digits and `_`), each the content of a PNG file.
        """
        ...

    def conclude(self, model: nn.Module, prepared: Prepared) -> Conclusion:
        """Examine the finished model, on rank 0: answers, samples, pictures, or nothing.

        Args:
            model: model with the final weights, on the device of the run.
            prepared: return value of `prepare`, and the time that this may take.
        """
        ...

    def prompt_format(self, family: ModelFamily, artefacts: Artefacts, where: str) -> PromptFormat:
        """Return the form in which the finished model is asked.

        Args:
            family: the model's family.
            artefacts: plain data that was saved with it, such as the tokenizer.
            where: file or directory, for errors.

        Raises:
            UserError: it has no tokenizer, so it cannot be asked in words.
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
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Settings by dotted key, such as `run.epochs`, that fit the task better than the backend's preset."""
    default_model: ClassVar[str] = DEFAULT_MODEL
    """Model family that is trained where nobody names one."""

    def data_files(self, options: TaskOptions) -> Sequence[Path]:
        """See `Task.data_files`: the data comes from no file."""
        return ()

    def with_data_files(self, options: TaskOptions, files: Sequence[str]) -> TaskOptions:
        """See `Task.with_data_files`: the data comes from no file."""
        return options

    def preview(self, config: TrainingConfig) -> DataPreview | None:
        """See `Task.preview`: not known before the data is prepared."""
        return None

    def shown_samples(self, prepared: Prepared, count: int) -> Sequence[ShownSample]:
        """See `Task.shown_samples`: no text to show."""
        return ()

    def check_model(self, model: nn.Module, prepared: Prepared) -> Sequence[str]:
        """See `Task.check_model`: nothing to prove."""
        return ()

    def sample_interval(self, config: TrainingConfig) -> int | None:
        """See `Task.sample_interval`: never."""
        return None

    def show(self, model: nn.Module, prepared: Prepared, seed: int) -> Mapping[str, bytes]:
        """See `Task.show`: no picture."""
        return {}

    def conclude(self, model: nn.Module, prepared: Prepared) -> Conclusion:
        """See `Task.conclude`: nothing to show."""
        return Conclusion()

    def prompt_format(self, family: ModelFamily, artefacts: Artefacts, where: str) -> PromptFormat:
        """See `Task.prompt_format`: the model continues a text."""
        from training.tasks.answers.prompt_format import ContinuationFormat

        return ContinuationFormat(family.tokenizer(artefacts, where))

    def card(self, facts: CardFacts) -> TaskCard:
        """See `Task.card`: the settings of the data, and the validation's figures."""
        return task_card(facts)


def check_data(config: TrainingConfig) -> None:
    """Read the data as the run will, so that errors show before a job waits in a queue.

    Raises:
        UserError: the error that the run would raise: a file cannot be used, the vocabulary is too small.
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
