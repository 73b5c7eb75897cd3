"""HLBD data as a `datasets` dataset: the samples of `load_corpus`, in their order, and their tokens.

The rows are written once into the cache of `datasets` (memory-mapped Arrow files) and reused, as long as the files'
bytes and the project's code stay the same; with `streaming` they are read from the JSON on demand. Nothing is
downloaded or sent. `datasets` is imported only here, inside the functions.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

import apt_model.tokenizer
import training.storage.json_stream
import training.tasks.hlbd.dataset
import training.tasks.hlbd.files
import training.tasks.hlbd.json_stream
import training.tasks.hlbd.stream
from apt_model.tokenizer import DynamicTagTokenizer
from training.errors import ConfigError, DataError
from training.tasks.hlbd.dataset import HLBDDataset
from training.tasks.hlbd.files import Pairs, Sample
from training.tasks.hlbd.stream import CorpusStream

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

IGNORED = -100
"""Label of a token without a loss, as PyTorch and transformers have it."""


@overload
def hlbd_dataset(
    names: Sequence[str | Path],
    pairs: Pairs = ...,
    *,
    streaming: Literal[False] = ...,
    cache_dir: Path | None = ...,
) -> Dataset: ...


@overload
def hlbd_dataset(
    names: Sequence[str | Path], pairs: Pairs = ..., *, streaming: Literal[True], cache_dir: Path | None = ...
) -> IterableDataset: ...


def hlbd_dataset(
    names: Sequence[str | Path], pairs: Pairs = "levels", *, streaming: bool = False, cache_dir: Path | None = None
) -> Dataset | IterableDataset:
    """Return the samples of HLBD files: columns `prompt`, `answer`, `module` (text) and `entry` (int64).

    Args:
        names: files, found in the same way as by `--datasets`.
        pairs: samples made from a concept, as for `--pairs`.
        streaming: read the files while the dataset is iterated, and never hold a whole one.
        cache_dir: cache of `datasets`; None: its default (HF_DATASETS_CACHE). Only without `streaming`.

    Raises:
        DataError: a file cannot be used; with `streaming`, a fault inside a file is reported when it is reached.
        ConfigError: `datasets` is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise ConfigError("datasets is not installed; run: pip install -e '.[huggingface]'") from error
    stream = CorpusStream(names, pairs)
    types = {"prompt": "string", "answer": "string", "module": "string", "entry": "int64"}
    # One type object per column: a shared object would hash differently from the cached ones, which are not shared.
    features = datasets.Features({name: datasets.Value(of) for name, of in types.items()})
    # A tuple: a list would be taken for shards that can be read separately.
    how: dict[str, Any] = {"features": features, "gen_kwargs": {"names": stream.paths, "pairs": pairs}}
    if streaming:
        return datasets.IterableDataset.from_generator(_samples, **how)
    try:
        # By default, the library would recognise a file by its name alone, even if its content has changed.
        return datasets.Dataset.from_generator(
            _samples, **how, cache_dir=cache_dir, fingerprint=_fingerprint(stream.paths, pairs)
        )
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, DataError):
            raise error.__cause__ from None
        raise


def tokenised(
    dataset: Dataset | IterableDataset,
    tokenizer: DynamicTagTokenizer,
    max_seq_len: int,
    loss_on: Literal["answer", "all"] = "answer",
    truncate: bool = False,
) -> Dataset | IterableDataset:
    """Return `dataset` with the columns `input_ids` and `labels` (lists of int32), equal to `HLBDDataset`'s items.

    `input_ids` are `[BOS] prompt [SEP] answer [EOS]`; `labels` are the same, with -100 before the first token that
    is learned. They are not shifted: transformers' models do that. A dataset that is not streamed caches both columns.

    Args:
        dataset: dataset from `hlbd_dataset`, or made from it (shuffled, split, filtered, …).
        tokenizer: the model's tokenizer.
        max_seq_len: longest sample in tokens.
        loss_on: as for `--loss-on`.
        truncate: as for `--truncate`; a sample that loses its whole answer is left out.

    Raises:
        DataError: a sample is too long and `truncate` is off; in a stream, raised when the sample is reached.
    """
    import datasets

    integers = datasets.List(datasets.Value("int32"))
    features = datasets.Features({**(dataset.features or {}), "input_ids": integers, "labels": integers})
    arguments = {
        "tokenizer": json.dumps(tokenizer.to_dict()),  # passed as text, so that equal tokenizers have equal hashes
        "max_seq_len": max_seq_len,
        "loss_on": loss_on,
        "truncate": truncate,
        "code": _code(),  # so that a change of the code invalidates the cache
    }
    return dataset.map(_encode, batched=True, fn_kwargs=arguments, features=features)


def _samples(names: tuple[Path, ...], pairs: Pairs) -> Iterator[dict[str, Any]]:
    for sample in CorpusStream(names, pairs):
        yield sample._asdict()


def _encode(
    batch: dict[str, list[Any]],
    tokenizer: str,
    max_seq_len: int,
    loss_on: Literal["answer", "all"],
    truncate: bool,
    code: str,
) -> dict[str, list[Any]]:
    """Return the columns of those samples of a batch that fit; the encoding is `HLBDDataset`'s."""
    ours = _tokenizer(tokenizer)
    samples = [Sample(*row) for row in zip(*(batch[name] for name in Sample._fields), strict=True)]
    # HLBDDataset leaves out samples without room for an answer; here their other columns have to go too.
    kept = [i for i, s in enumerate(samples) if not truncate or len(ours.prompt_ids(s.prompt)) < max_seq_len]
    columns = {name: [values[i] for i in kept] for name, values in batch.items()}
    columns |= {"input_ids": [], "labels": []}
    if not kept:
        return columns
    encoded = HLBDDataset([samples[i] for i in kept], ours, max_seq_len, loss_on, truncate)
    for i in range(len(encoded)):
        sample = encoded[i]
        columns["input_ids"].append(sample.tokens.tolist())
        columns["labels"].append(np.where(sample.trained, sample.tokens, IGNORED).tolist())
    return columns


@functools.lru_cache(maxsize=4)
def _tokenizer(text: str) -> DynamicTagTokenizer:
    return DynamicTagTokenizer.from_dict(json.loads(text))


def _fingerprint(paths: tuple[Path, ...], pairs: Pairs) -> str:
    """Return 32 hex digits that change with a file's content, with the pairs, and with the code."""
    state = hashlib.blake2b(f"{pairs}\x1f{_code()}".encode(), digest_size=16)
    for path in paths:
        try:
            with path.open("rb") as file:
                state.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(f"{path}: the data file cannot be read ({error.strerror})") from error
    return state.hexdigest()


def _code() -> str:
    """Return 16 hex digits of the code that makes samples and tokens."""
    modules = (
        training.tasks.hlbd.files,
        apt_model.tokenizer,
        training.tasks.hlbd.dataset,
        training.tasks.hlbd.stream,
        training.tasks.hlbd.json_stream,
        training.storage.json_stream,
    )
    text = "".join(map(inspect.getsource, modules)) + inspect.getsource(_encode)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
