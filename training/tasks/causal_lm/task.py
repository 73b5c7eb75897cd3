"""Language tasks on data of any origin: tokenizer, token store, hold-out, packing. The tasks text and chat inherit it.

No torch at import.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from training.errors import ConfigError, DataError, printable
from training.language.messages import Marked, Message
from training.models.protocol import Artefacts, ModelFamily
from training.models.tokenizers import (
    DOCUMENT,
    by_character,
    end_token,
    from_artefacts,
    load_tokenizer,
    needs_transformers,
    size_of,
    to_artefacts,
    train_bpe,
    with_stop_tokens,
)
from training.settings.tree import ModelOptions, TaskOptions, TrainingConfig
from training.tasks.batch_plan import mix, shuffled
from training.tasks.causal_lm.options import LanguageOptions
from training.tasks.metrics import LANGUAGE_METRICS, Metric
from training.tasks.packing import PackedDataset
from training.tasks.protocol import BaseTask, Prepared, ShownSample, family_of
from training.tasks.rows.datasets_rows import is_saved_dataset
from training.tasks.rows.find import find_source
from training.tasks.rows.source import Source
from training.tasks.token_dataset import EncodedSample
from training.tasks.token_store import TokenStore, TokenStoreWriter, cached, key_of

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerFast

DEFAULT_VOCABULARY = 8192
"""Tokens of a tokenizer that is trained on the data where nobody says how many."""
TOLERANCE = 1e-5
"""Largest relative difference between the loss of packed samples and that of the same samples alone, in fp32."""
TOLERANCE_BY_TOKEN = 1e-4
"""Largest relative difference of the losses of single tokens, in their root mean square."""
TOLERANCE_TO_NEIGHBOUR = 1e-6
"""Largest relative change of a token's loss by the tokens of another sample, in their root mean square: the two passes
have the same shape, so that almost nothing is rounded otherwise."""
MOST_PACKED_TOKENS = 4096
"""Tokens of the row by which packing is proved, where there is one that is no longer."""
_VALIDATION = 3  # beside the draws of `BatchPlan`
DEFAULTS: Mapping[str, Any] = {"run.epochs": 3, "schedule.schedule": "cosine"}
"""Settings with which a task of this kind starts: the hundred epochs of the presets are HLBD's."""
FORM = 4
"""Version of the encoding: a store of another one is not read."""


@dataclass(frozen=True)
class LanguageData:
    """Sources of a run with the tokenizer that reads them."""

    sources: Sequence[Source]
    tokenizer: PreTrainedTokenizerFast
    artefacts: Artefacts
    """Tokenizer and other plain data of the model."""
    options: LanguageOptions
    model: ModelOptions
    """Options of the network, completed."""
    family: ModelFamily

    @property
    def longest(self) -> int:
        """Return how many tokens a sample may have."""
        return int(getattr(self.model, "max_seq_len", None) or 1024)

    @property
    def vocabulary(self) -> int:
        """Return the number of tokens."""
        return size_of(self.tokenizer)


class LanguageTask(BaseTask):
    """Base of the tasks that predict tokens of texts."""

    inputs: ClassVar[str] = "tokens"
    metrics: ClassVar[tuple[Metric, ...]] = LANGUAGE_METRICS
    name: ClassVar[str]

    # -- what a task of this kind says itself ----------------------------------------------------------------------

    @abstractmethod
    def texts(self, sources: Sequence[Source], options: LanguageOptions) -> Iterator[str]:
        """Yield the texts by which a tokenizer is trained."""

    @abstractmethod
    def encode(self, data: LanguageData, writer: TokenStoreWriter) -> None:
        """Write the samples of the data, and facts about them.

        Raises:
            UserError: a row cannot be used.
        """

    @abstractmethod
    def settings_of_encoding(self, data: LanguageData) -> Mapping[str, Any]:
        """Return the settings that decide what `encode` writes, as plain data."""

    @abstractmethod
    def report(self, data: LanguageData, store: TokenStore) -> Iterator[str]:
        """Yield lines about the encoded data.

        Raises:
            DataError: nothing in it would be learned.
        """

    def stop_tokens(self, data: LanguageData, store: TokenStore) -> list[int]:
        """Return the tokens that end what the model writes."""
        return [end_token(data.tokenizer, f"--task {self.name}")]

    def prepare_tokenizer(
        self, tokenizer: PreTrainedTokenizerFast, options: LanguageOptions
    ) -> PreTrainedTokenizerFast:
        """Return the tokenizer with what the task adds to it, such as the tokens of a chat template."""
        return tokenizer

    # -- `Task` ------------------------------------------------------------------------------------------------------

    def data_files(self, options: TaskOptions) -> Sequence[Path]:
        """See `Task.data_files`."""
        options = cast(LanguageOptions, options)
        return [path for name in options.datasets for path in _own_files(name)]

    def with_data_files(self, options: TaskOptions, files: Sequence[str]) -> TaskOptions:
        """See `Task.with_data_files`."""
        left, names = list(files), []
        for name in cast(LanguageOptions, options).datasets:
            own = _own_files(name)
            names += left[: len(own)] or [name]
            left = left[len(own) :]
        return options.model_copy(update={"datasets": tuple(names)})

    def prepare(self, config: TrainingConfig) -> Prepared:
        """See `Task.prepare`."""
        from training.tasks.language_modeling import LanguageModeling

        data = self.read(config)
        options = data.options
        asked, config = config.model, config.model_copy(update={"model": data.model})
        content = _content(data.sources)

        def make(writer: TokenStoreWriter) -> None:
            self.encode(data, writer)
            _refuse_changed(data.sources, content)

        store = cached(self._key(data, content), data.vocabulary, make)
        lines = [*self.report(data, store)]
        train, validation = self._split(store, options.validation_split, config.run.seed)
        facts: dict[str, Any] = {"vocab_size": data.vocabulary, "data": _files(data.sources), **_counts(store)}
        datasets: list[Any] = [train, validation]
        if options.packing:
            datasets = [part and PackedDataset(part, data.longest) for part in datasets]
            facts["packing"] = datasets[0].facts
            lines.append(_packing_line(datasets[0]))
        objective = LanguageModeling(
            data.family, data.model, data.vocabulary, label_smoothing=options.label_smoothing, metrics=self.metrics
        )
        fingerprint = key_of(store.fingerprint, options.packing)
        facts["data_fingerprint"] = fingerprint
        return Prepared(
            config=config,
            family=data.family,
            objective=objective,
            train=datasets[0],
            validation=datasets[1],
            fingerprint=fingerprint,
            facts=facts,
            artefacts=with_stop_tokens(data.artefacts, data.tokenizer, self.stop_tokens(data, store)),
            vocabulary=data.vocabulary,
            asked=asked,
            introduction=[*lines, *self._shown(data, train, options.show_batch)],
        )

    def shown_samples(self, prepared: Prepared, count: int) -> Sequence[ShownSample]:
        """See `Task.shown_samples`; of packed samples the rows, as the model gets them."""
        from training.tasks.causal_lm.shown_samples import pieces_of

        tokenizer = prepared.family.tokenizer(prepared.artefacts, "the data")
        samples = (prepared.train[number] for number in range(min(count, len(prepared.train))))
        return [[*pieces_of(tokenizer, sample)] for sample in samples]

    def check_model(self, model: nn.Module, prepared: Prepared) -> Sequence[str]:
        """See `Task.check_model`: packed samples do not see each other in this model, or packing is refused."""
        if not isinstance(prepared.train, PackedDataset):
            return ()
        if getattr(prepared.config.model, "attn_implementation", None) == "flash_attention_2":
            raise ConfigError(
                "--packing is proved before the first step, in fp32, which flash_attention_2 does not compute; take "
                "--attn-implementation sdpa, or leave --packing out"
            )
        return prove_packing(model, prepared)

    # -- the data ----------------------------------------------------------------------------------------------------

    def read(self, config: TrainingConfig) -> LanguageData:
        """Find the sources, and the tokenizer that reads them.

        Raises:
            UserError: a source or the tokenizer cannot be used.
        """
        options = cast(LanguageOptions, config.data)
        if not isinstance(options, self.Options):
            raise ConfigError(
                f"the task {self.name} got the settings of the task {config.task}; make them by "
                f"config_class(task={self.name!r})"
            )
        needs_transformers(f"--task {self.name}")
        if not options.datasets:
            raise ConfigError(f"--task {self.name} needs data: give --datasets FILE …")
        sources = [find_source(name) for name in options.datasets]
        family = family_of(config)
        artefacts = family.starting_artefacts(config.model)
        tokenizer = self._tokenizer(config, sources, artefacts)
        # A tokenizer.json may hold the settings of whoever saved it: they would cut texts without a word.
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
        before = len(tokenizer), tokenizer.chat_template
        tokenizer = self.prepare_tokenizer(tokenizer, options)
        is_unchanged = before == (len(tokenizer), tokenizer.chat_template)
        kind, base = options.tokenizer, getattr(config.model, "base_model", None)
        end_token(tokenizer, f"--tokenizer {kind}" if kind else f"--model {base}" if base else f"--task {self.name}")
        if options.tokenizer is not None or DOCUMENT not in artefacts or not is_unchanged:
            artefacts = {**artefacts, **to_artefacts(tokenizer)}
        model = family.completed(config.model, size_of(tokenizer))
        return LanguageData(sources, tokenizer, artefacts, options, model, family)

    def _tokenizer(
        self, config: TrainingConfig, sources: Sequence[Source], artefacts: Artefacts
    ) -> PreTrainedTokenizerFast:
        options = cast(LanguageOptions, config.data)
        kind = options.tokenizer
        if kind is None and DOCUMENT in artefacts:
            return family_of(config).tokenizer(artefacts, "--model")
        if kind not in (None, "bpe", "characters"):
            return load_tokenizer(kind, bool(getattr(config.model, "trust_remote_code", False)))
        base = getattr(config.model, "base_model", None)
        if kind is None and base is not None:
            raise ConfigError(
                f"--model {printable(base)}: there is no tokenizer beside its weights, which know only the tokens that "
                "they were trained on; give that tokenizer (--tokenizer DIR)"
            )
        vocabulary = getattr(config.model, "vocab_size", None) or DEFAULT_VOCABULARY
        # Training takes a minute per gigabyte, and each rank and each resumed run needs the same one.
        content = _content(sources)
        key = key_of("tokenizer", FORM, kind, vocabulary, self.name, *self._column_settings(options), *content)

        def make(writer: TokenStoreWriter) -> None:
            texts = self.texts(sources, options)
            made = by_character(texts) if kind == "characters" else train_bpe(texts, vocabulary)
            _refuse_changed(sources, content)
            writer.facts.update(to_artefacts(made))

        return from_artefacts(cached(key, 1, make).facts, "the cached tokenizer")

    def _column_settings(self, options: LanguageOptions) -> Iterable[Any]:
        """Return the settings that decide which texts `texts` yields."""
        return ()

    def _key(self, data: LanguageData, content: Sequence[str]) -> str:
        return key_of(
            "samples", FORM, self.name, *content, to_artefacts(data.tokenizer),
            dict(self.settings_of_encoding(data)),
        )  # fmt: skip

    def _split(self, store: TokenStore, share: float, seed: int) -> tuple[Any, Any]:
        """Split off the share of the units (documents, conversations) for validation.

        Of fewer than twenty units the last pieces are held back: no unit could be spared whole.
        """
        if share <= 0.0:
            return store, None
        units_N = self.units(store)
        count = int(units_N[-1]) + 1
        if count >= LEAST_UNITS:
            chosen = shuffled(count, mix(seed, _VALIDATION))[: max(1, round(count * share))]
            held = np.isin(units_N, chosen)
        else:
            held = np.arange(len(units_N)) >= len(units_N) - max(1, round(len(units_N) * share))
        if held.all() or not held.any():
            raise DataError(
                f"validation_split={share:g} of {len(units_N)} samples leaves one side empty; choose another share"
            )
        return store.subset(np.flatnonzero(~held)), store.subset(np.flatnonzero(held))

    def units(self, store: TokenStore) -> NDArray[np.int64]:
        """Return the number of each sample's unit, int64 (N,), ascending: samples of a unit stay on one side."""
        return np.arange(len(store), dtype=np.int64)

    def _shown(self, data: LanguageData, train: Any, count: int) -> Iterator[str]:
        from training.tasks.causal_lm.shown_samples import show

        for number in shuffled(len(train), mix(0, len(train)))[:count].tolist():
            yield Message("sample  number {number}:", number=number)
            plain, coloured = (show(data.tokenizer, train[number], color=color) for color in (False, True))
            yield from map(Marked, plain, coloured)


LEAST_UNITS = 20
FIRST_PIECES = "first_pieces"
"""Fact of a store: the number of each document's first sample."""


def _own_files(name: str) -> Sequence[Path]:
    """Return the files of a dataset; of one that the library datasets saved the directory, which is read as a whole."""
    files = find_source(name).files()
    return [Path(name)] if files and is_saved_dataset(Path(name)) else files


def _content(sources: Sequence[Source]) -> list[str]:
    return [source.fingerprint() for source in sources]


def _refuse_changed(sources: Sequence[Source], content: Sequence[str]) -> None:
    """Refuse data that somebody wrote to while it was read: it would be kept under the name of what it was before.

    Raises:
        DataError: names the source.
    """
    for source, before, now in zip(sources, content, _content(sources), strict=True):
        if before != now:
            raise DataError(f"{source.name}: the data changed while it was read; start again when it is written")


def _files(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Return a report's rows about the sources; a file without its directory, which is nobody's business."""
    names = [Path(source.name).name if Path(source.name).exists() else source.name for source in sources]
    return [
        {"file": name, "format": source.kind, "bytes": source.size} for name, source in zip(names, sources, strict=True)
    ]


def _counts(store: TokenStore) -> dict[str, Any]:
    """Return the facts of a store that a report shows: one number per document would make it longer than the data."""
    return {name: fact for name, fact in store.facts.items() if name != FIRST_PIECES}


def _packing_line(packed: PackedDataset) -> str:
    facts = packed.facts
    return Message(
        "packing {samples:,} samples in {rows:,} rows of up to {capacity} tokens, {fill:.1%} full",
        samples=facts["samples"], rows=facts["rows"], capacity=packed.capacity, fill=facts["fill"],
    )  # fmt: skip


def prove_packing(model: nn.Module, prepared: Prepared) -> Sequence[str]:
    """Prove on a packed row, in fp32, that its samples have the losses that they have alone.

    The sum of the losses and each single one are compared; then the row's first sample is exchanged, which must change
    nothing behind it. In a model with new weights a neighbour changes so little that a sum would not show it.

    Raises:
        ConfigError: they differ: in this model packed samples see each other, or their positions do not restart.
    """
    import torch
    import torch.nn.functional as F

    packed, objective = prepared.train, prepared.objective
    row = _row_for_proof(packed)
    if row is None:
        return ()
    numbers = packed.bins[row]

    def losses(sample: EncodedSample) -> Tensor:
        tensors = objective.collate([sample]).tensors
        logits_NV = prepared.family.logits(model, tensors).float()
        return F.cross_entropy(logits_NV, tensors["targets"], reduction="none").double()

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            together_N, changed_N = losses(packed[row]), losses(_with_another_first(packed[row], prepared.vocabulary))
            alone_N = torch.cat([losses(packed.base[int(number)]) for number in numbers])
    finally:
        model.train(was_training)
    behind = int(packed[row].trained[: packed[row].starts[1]].sum())
    difference = float(abs(together_N.sum() - alone_N.sum()) / alone_N.sum().abs().clamp(min=1e-12))
    by_token = _distance(together_N, alone_N)
    by_neighbour = _distance(changed_N[behind:], together_N[behind:])
    if not (difference <= TOLERANCE and by_token <= TOLERANCE_BY_TOKEN and by_neighbour <= TOLERANCE_TO_NEIGHBOUR):
        raise ConfigError(
            f"--packing: in this model packed samples see each other: {len(numbers)} of them have a loss of "
            f"{float(together_N.sum()):.6f} in one row and {float(alone_N.sum()):.6f} alone, and another first sample "
            f"changes the others' by {by_neighbour:.0e}; leave --packing out, or try --attn-implementation sdpa or "
            "eager"
        )
    proved = Message(
        "proved  packing: the loss of {count} samples in one row is that of the samples alone ({difference:.0e})",
        count=len(numbers), difference=difference,
    )  # fmt: skip
    return (proved,)


def _distance(one_N: Tensor, other_N: Tensor) -> float:
    return float((one_N - other_N).norm() / other_N.norm().clamp(min=1e-12))


def _with_another_first(sample: EncodedSample, vocabulary: int | None) -> EncodedSample:
    """Return a packed sample with other tokens in its first part."""
    tokens = np.array(sample.tokens)
    first = slice(0, sample.starts[1])
    tokens[first] = (tokens[first].astype(np.int64) + 1) % (vocabulary or int(tokens.max()) + 1)
    return sample._replace(tokens=tokens)


def _row_for_proof(packed: PackedDataset) -> int | None:
    """Return the row with most tokens behind its first sample, which is where another sample could be seen; None: every
    sample has a row for itself. A row that is short is preferred: a pass over a long one takes memory.
    """
    starts_R = packed.bins.starts
    several = np.flatnonzero(np.diff(starts_R, append=len(packed.bins.order)) > 1)
    if not len(several):
        return None
    short = several[packed.lengths[several] <= MOST_PACKED_TOKENS]
    rows = short if len(short) else several
    behind = packed.lengths[rows] - packed.base.lengths[packed.bins.order[starts_R[rows]]]
    return int(rows[np.argmax(behind)])
