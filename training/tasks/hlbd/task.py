"""HLBD as a task: questions with answers, and concepts on eight levels. No torch at import."""

from __future__ import annotations

import heapq
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from apt_model.errors import ModelError
from apt_model.tokenizer import DynamicTagTokenizer
from training.errors import CheckpointError, DataError
from training.language.messages import Message
from training.models.protocol import Artefacts, ModelFamily
from training.settings.tree import TaskOptions, TrainingConfig
from training.tasks.card import CardFacts, TaskCard
from training.tasks.hlbd.card import hlbd_card
from training.tasks.hlbd.files import Corpus, Sample, find_dataset, load_corpus, split_corpus
from training.tasks.hlbd.options import HLBDOptions
from training.tasks.metrics import LANGUAGE_METRICS, Metric
from training.tasks.protocol import BaseTask, Conclusion, DataPreview, Prepared, ShownSample, family_of

if TYPE_CHECKING:
    from torch import nn

    from training.tasks.answers.prompt_format import PromptFormat
    from training.tasks.hlbd.dataset import HLBDDataset

MOST_ANSWERS = 1000
"""Number of training questions asked at the end of a run whose user did not say how many."""
CHEAP_BYTES = 512 * 1024
"""Total size up to which data files are read for a dry run, which takes less than a tenth of a second."""


class HLBDTask(BaseTask):
    """Prediction of the answer's tokens (or all tokens) of `[BOS] prompt [SEP] answer [EOS]`."""

    name: ClassVar[str] = "hlbd"
    Options: ClassVar[type[TaskOptions]] = HLBDOptions
    metrics: ClassVar[tuple[Metric, ...]] = LANGUAGE_METRICS

    def data_files(self, options: TaskOptions) -> Sequence[Path]:
        """See `Task.data_files`."""
        return [find_dataset(name) for name in cast(HLBDOptions, options).datasets]

    def with_data_files(self, options: TaskOptions, files: Sequence[str]) -> TaskOptions:
        """See `Task.with_data_files`."""
        return options.model_copy(update={"datasets": tuple(files)})

    def preview(self, config: TrainingConfig) -> DataPreview | None:
        """See `Task.preview`: None for files of more than half a megabyte."""
        options = _options(config)
        if sum(find_dataset(name).stat().st_size for name in options.datasets) > CHEAP_BYTES:
            return None
        return read_preview(config)

    def prepare(self, config: TrainingConfig) -> Prepared:
        """See `Task.prepare`."""
        options = _options(config)
        corpus = load_corpus(options.datasets, options.pairs)
        train, validation = split_corpus(corpus, options.validation_split, config.run.seed)
        tokenizer = tokenizer_of(corpus)
        return prepared_from_samples(config, tokenizer, train, validation, corpus)

    def shown_samples(self, prepared: Prepared, count: int) -> Sequence[ShownSample]:
        """See `Task.shown_samples`."""
        data: HLBDDataset = prepared.train
        found: list[ShownSample] = []
        for tokens, trained, _ in (data[number] for number in range(min(count, len(data)))):
            runs = itertools.groupby(zip(tokens.tolist(), trained.tolist(), strict=True), key=lambda pair: pair[1])
            found.append([(data.tokenizer.decode((n for n, _ in run), keep_control=True), kind) for kind, run in runs])
        return found

    def conclude(self, model: nn.Module, prepared: Prepared) -> Conclusion:
        """See `Task.conclude`: ask the model its own training questions."""
        from training.tasks.hlbd.training_answers import accuracy_by_module, evenly_chosen, recite, table

        train: HLBDDataset = prepared.train
        number = prepared.config.report.answer_samples
        chosen = evenly_chosen(train.samples, MOST_ANSWERS if number is None else number)
        if not chosen:
            return Conclusion()
        seconds = prepared.seconds_to_conclude if number is None else None
        started = time.perf_counter()
        answered = recite(model, train.tokenizer, chosen, seconds)
        counts = accuracy_by_module(answered)
        figures = {module: {"right": right, "asked": number} for module, (right, number) in counts.items()}
        headline = Message(
            "answers to {asked} of {all} training questions, generated freely ({seconds:.1f} s):",
            asked=len(answered),
            all=len(train.samples),
            seconds=time.perf_counter() - started,
        )
        lines: list[str] = [headline]
        if len(answered) < len(chosen):
            budget = Message(
                "  (as many as fit into {seconds:.1f} s; --answer-samples {all} asks them all)",
                seconds=seconds,
                all=len(train.samples),
            )
            lines.append(budget)
        return Conclusion({"recitation": figures}, [*lines, *table(answered)])

    def prompt_format(self, family: ModelFamily, artefacts: Artefacts, where: str) -> PromptFormat:
        """See `Task.prompt_format`."""
        from training.tasks.hlbd.prompt import QuestionPrompt

        try:
            return QuestionPrompt(DynamicTagTokenizer.from_dict(artefacts.get("tokenizer"), where))
        except ModelError as error:
            raise CheckpointError(str(error)) from error

    def card(self, facts: CardFacts) -> TaskCard:
        """See `Task.card`: what the verifier found, else what the model recites."""
        return hlbd_card(facts)


def tokenizer_of(corpus: Corpus) -> DynamicTagTokenizer:
    """Build the tokenizer of a corpus: every character and tag of its prompts and answers.

    Raises:
        DataError: a level's name cannot be a tag.
    """
    try:
        return DynamicTagTokenizer.from_texts((text for s in corpus.samples for text in s[:2]), corpus.tags)
    except ModelError as error:
        raise DataError(str(error)) from error


def prepared_from_samples(
    config: TrainingConfig,
    tokenizer: DynamicTagTokenizer,
    train: Sequence[Sample],
    validation: Sequence[Sample] = (),
    corpus: Corpus | None = None,
) -> Prepared:
    """Prepare samples for training, as `HLBDTask.prepare` does with those of files.

    Args:
        config: settings of the run.
        tokenizer: tokenizer with the samples' characters.
        train: samples to learn.
        validation: samples to measure; empty: no validation.
        corpus: their origin, for the report; None: they do not come from files.

    Raises:
        UserError: a sample is too long, or the model's vocabulary too small.
    """
    from training.tasks.hlbd.dataset import HLBDDataset

    options = _options(config)

    def encode(samples: Sequence[Sample]) -> HLBDDataset:
        return HLBDDataset(samples, tokenizer, _longest(config), options.loss_on, options.truncate)

    prepared = prepared_from_datasets(config, encode(train), encode(validation) if validation else None)
    if corpus is None:
        return prepared
    lines = [*_introduction(corpus, prepared.train), *prepared.introduction]
    return _with_corpus(prepared, corpus, lines)


def prepared_from_datasets(
    config: TrainingConfig, train: HLBDDataset, validation: HLBDDataset | None = None
) -> Prepared:
    """Prepare encoded samples for training.

    Example:
        >>> Trainer.of(prepared_from_datasets(config, HLBDDataset(samples, tokenizer, max_seq_len=64))).train()
    """
    from training.tasks.language_modeling import LanguageModeling

    family: ModelFamily = family_of(config)
    vocabulary = train.tokenizer.vocab_size
    asked, model = config.model, family.completed(config.model, vocabulary)
    config = config.model_copy(update={"model": model})
    return Prepared(
        config=config,
        family=family,
        objective=LanguageModeling(family, model, vocabulary, label_smoothing=_options(config).label_smoothing),
        train=train,
        validation=validation,
        facts={"vocab_size": vocabulary},
        artefacts={"tokenizer": train.tokenizer.to_dict()},
        vocabulary=vocabulary,
        asked=asked,
    )


def _with_corpus(prepared: Prepared, corpus: Corpus, lines: Sequence[str]) -> Prepared:
    total = max(1, corpus.num_entries)
    files = [
        {"file": f.path.name, "entries": f.entries, "samples": f.samples, "share": round(f.entries / total, 4)}
        for f in corpus.files
    ]
    facts: dict[str, Any] = {"data": files, "data_fingerprint": corpus.fingerprint(), **prepared.facts}
    return Prepared(
        **{**vars(prepared), "facts": facts, "fingerprint": corpus.fingerprint(), "introduction": tuple(lines)}
    )


def _introduction(corpus: Corpus, dataset: HLBDDataset) -> Iterator[str]:
    for line in corpus.describe():
        yield Message("data    {line}", line=line)
    if contradictions := corpus.contradictions():
        several = Message(
            "{count} questions are given with several answers, the first is {first!r}; tools/diagnose_issues.py lists "
            "them",
            count=len(contradictions),
            first=contradictions[0],
        )
        yield Message("warning: {message}", message=several)
    if dataset.num_unknown:
        unknown = Message("{count} characters have no token and are read as [UNK]", count=dataset.num_unknown)
        yield Message("warning: {message}", message=unknown)
    if dataset.num_truncated:
        cut, whole = dataset.num_truncated, dataset.num_left_out
        yield Message("data    {line}", line=Message("{cut} samples cut, {whole} of them whole", cut=cut, whole=whole))


def read_preview(config: TrainingConfig) -> DataPreview:
    """Read the data files and measure the samples.

    Raises:
        DataError: a file cannot be read, or no sample is short enough.
    """
    options = _options(config)
    corpus = load_corpus(options.datasets, options.pairs)
    train, _ = split_corpus(corpus, options.validation_split, config.run.seed)
    tokenizer = tokenizer_of(corpus)
    limit = _longest(config)
    lengths = [_length(tokenizer, sample, options.loss_on == "all") for sample in train]
    if options.truncate:
        lengths = [(min(n, limit), weight - max(0, n - limit)) for n, weight in lengths if n - weight < limit]
    too_long = sum(n > limit for n, _ in lengths)
    if too_long:
        raise DataError(
            f"{too_long} of {len(train)} samples are longer than max_seq_len={limit} tokens; set --max-seq-len "
            f"{max(lengths)[0]} or --truncate"
        )
    longest = heapq.nlargest(config.run.batch_size, lengths)
    return DataPreview(
        num_samples=len(lengths),
        num_tokens=sum(n - 1 for n, _ in lengths),
        vocabulary=tokenizer.vocab_size,
        longest=[(length - 1, weight) for length, weight in longest],
    )


def _length(tokenizer: DynamicTagTokenizer, sample: Sample, learns_prompt: bool) -> tuple[int, int]:
    prompt, answer = len(tokenizer.prompt_ids(sample.prompt)), len(tokenizer.encode(sample.answer)) + 1
    return prompt + answer, prompt + answer - 1 if learns_prompt else answer


def _longest(config: TrainingConfig) -> int:
    """Return how many tokens a sample may have: as many as the network reads, any number where it names no limit."""
    return getattr(config.model, "max_seq_len", sys.maxsize)


def _options(config: TrainingConfig) -> HLBDOptions:
    return cast(HLBDOptions, config.data)
