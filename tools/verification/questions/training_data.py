"""The training data of the model that is verified: which files, and which of their rows its run held back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import cast

from tools.runs.data import config_of_run, other_data
from training.checkpoints.finished_model import TrainedModel
from training.errors import ConfigError, DataError
from training.settings.tree import TrainingConfig
from training.tasks.hlbd.files import Corpus, Pairs, load_corpus, split_corpus
from training.tasks.hlbd.options import HLBDOptions


@dataclass(frozen=True)
class TrainingData:
    """The files whose questions are asked, seen as the run saw them."""

    corpus: Corpus
    pairs: Pairs
    held_back: Collection[str] = ()
    """Prompts that the run kept for validation and never trained on."""
    notes: tuple[str, ...] = ()


def training_data(trained: TrainedModel, datasets: Sequence[str] | None, pairs: Pairs | None) -> TrainingData:
    """Read the questions that a model was trained on.

    Args:
        trained: the model, with what is known of its run.
        datasets: files to ask; None: the run's own.
        pairs: how concepts become questions; None: as the run did it.

    Raises:
        UserError: the run's files are not known, or a file cannot be read or has changed since, or `pairs` contradicts
            the run.
    """
    if trained.settings is None:
        if datasets is None:
            raise DataError(
                f"{trained.origin}: nothing here says what this model was trained on; name the files with --dataset"
            )
        note = "nothing is known of the model's run: rows that it held back for validation count as training rows here"
        return TrainingData(load_corpus(datasets, pairs or "levels"), pairs or "levels", notes=(note,))
    config = config_of_run(trained.settings, str(trained.origin))
    options = cast(HLBDOptions, config.data)
    if pairs not in (None, options.pairs):
        raise ConfigError(f"--pairs {pairs}: the model was trained with --pairs {options.pairs}; leave --pairs out")
    if datasets is None:
        own = _own_files(trained, options)
        return TrainingData(own, options.pairs, _held_back(own, config))
    corpus = load_corpus(datasets, options.pairs)
    if not options.validation_split:
        return TrainingData(corpus, options.pairs)
    if corpus.fingerprint() == trained.data_fingerprint:
        return TrainingData(corpus, options.pairs, _held_back(corpus, config))
    try:
        own = _own_files(trained, options)
    except DataError as error:
        note = (
            f"the run held back {options.validation_split:.4g} of its data for validation, and these rows count as "
            f"training rows here, because they cannot be told from the others: {error}"
        )
        return TrainingData(corpus, options.pairs, notes=(note,))
    return TrainingData(corpus, options.pairs, _held_back(own, config))


def _own_files(trained: TrainedModel, options: HLBDOptions) -> Corpus:
    """Read the files that the model was trained on.

    Raises:
        DataError: they have moved or changed, or the run had a dataset made in Python.
    """
    if trained.data_fingerprint is None:
        raise DataError(
            f"{trained.origin}: its run's data was given in Python or is not recorded; name its files with --dataset"
        )
    try:
        corpus = load_corpus(options.datasets, options.pairs)
    except DataError as error:
        raise DataError(f"{error} (the run's data; --dataset says where it is now)") from error
    if corpus.fingerprint() != trained.data_fingerprint:
        raise other_data(trained.origin, [file.path for file in corpus.files], "--dataset")
    return corpus


def _held_back(own: Corpus, config: TrainingConfig) -> frozenset[str]:
    train, validation = split_corpus(own, config.data.validation_split, config.run.seed)
    # Two concepts may share a prompt: what was seen once was trained on.
    return frozenset(s.prompt for s in validation) - {s.prompt for s in train}
