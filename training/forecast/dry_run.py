"""What a run will need, computed from its settings and its data alone: `--dry-run` shows it. No torch, no NumPy.

Nothing here is measured; `training.forecast.estimate` trains a few updates and measures.
"""

from __future__ import annotations

import heapq
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from apt_model.tokenizer import DynamicTagTokenizer
from training.errors import DataError
from training.forecast.memory import DeviceKind, RankMemory, checkpoint_bytes, rank_memory, sharing
from training.forecast.what_fits import nearest_fit
from training.machine.free_memory import gpu_memory, host_memory
from training.machine.hardware import count_gpus
from training.machine.units import as_size
from training.models.apt.activations import BatchShape
from training.models.apt.size import count_parameters
from training.settings.tree import Precision, TrainingConfig
from training.tasks.hlbd.files import Sample, find_dataset, load_corpus, split_corpus
from training.tasks.hlbd.vocab_size import with_vocab_size

CHEAP_BYTES = 512 * 1024
"""Data files up to this size together are read for a dry run, in less than a tenth of a second."""


@dataclass(frozen=True)
class DataFacts:
    """What the sizes of a run follow from."""

    num_samples: int
    """For training, without those held back."""
    num_tokens: int
    """Read in an epoch: each sample's but the last, never padding."""
    vocab_size: int
    longest: list[tuple[int, int]]
    """(tokens, tokens with a loss) of the longest samples, longest first, as many as a micro-batch holds."""


def read_data(config: TrainingConfig) -> DataFacts:
    """The facts, from the data files.

    Raises:
        DataError: a file cannot be read, or no sample is short enough.
    """
    corpus = load_corpus(config.data.datasets, config.data.pairs)
    train, _ = split_corpus(corpus, config.data.validation_split, config.run.seed)
    tokenizer = DynamicTagTokenizer.from_texts((text for s in corpus.samples for text in s[:2]), corpus.tags)
    limit = config.model.max_seq_len
    lengths = [_length(tokenizer, sample, config.data.loss_on == "all") for sample in train]
    if config.data.truncate:
        lengths = [(min(n, limit), weight - max(0, n - limit)) for n, weight in lengths if n - weight < limit]
    too_long = sum(n > limit for n, _ in lengths)
    if too_long:
        raise DataError(
            f"{too_long} of {len(train)} samples are longer than max_seq_len={limit} tokens; set --max-seq-len "
            f"{max(lengths)[0]} or --truncate"
        )
    return DataFacts(
        num_samples=len(lengths),
        num_tokens=sum(n - 1 for n, _ in lengths),
        vocab_size=tokenizer.vocab_size,
        longest=heapq.nlargest(config.run.batch_size, lengths),
    )


def _length(tokenizer: DynamicTagTokenizer, sample: Sample, learns_prompt: bool) -> tuple[int, int]:
    prompt, answer = len(tokenizer.prompt_ids(sample.prompt)), len(tokenizer.encode(sample.answer)) + 1
    return prompt + answer, prompt + answer - 1 if learns_prompt else answer


def guess_device(config: TrainingConfig) -> DeviceKind:
    """The kind of device that the run will pick, asked of the driver instead of torch."""
    wanted = getattr(getattr(config, config.backend, None), "device", "auto")
    if wanted != "auto":
        return cast(DeviceKind, wanted)
    if config.launch.num_gpus is not None or count_gpus():
        return "cuda"
    return "mps" if (platform.system(), platform.machine()) == ("Darwin", "arm64") else "cpu"


def guess_precision(config: TrainingConfig, device: DeviceKind) -> Precision:
    """What `auto` will become, told from the processor's own list of what it can do."""
    if config.run.precision != "auto" or device != "cpu":
        return "bf16" if config.run.precision == "auto" and device == "cuda" else config.run.precision
    try:
        told = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "fp32"
    return "bf16" if "avx512_bf16" in told or "amx_bf16" in told else "fp32"


def largest_batch(config: TrainingConfig, data: DataFacts | None) -> BatchShape:
    """A micro-batch of the longest samples; of `max_seq_len` tokens each where the data is not known."""
    share = -(-config.run.samples_per_update // sharing(config).ranks)
    size = min(config.run.batch_size, share)
    if data is None:
        width = config.model.max_seq_len - 1
        return BatchShape(size, width, size * width)
    longest = data.longest[:size]
    return BatchShape(len(longest), longest[0][0] - 1, sum(weight for _, weight in longest))


def micro_batches(config: TrainingConfig) -> int:
    """Forward passes of one update on a rank."""
    return -(-config.run.samples_per_update // (sharing(config).ranks * config.run.batch_size))


def dry_run_lines(config: TrainingConfig) -> Iterator[str]:
    """What `--dry-run` says below the settings. Data that cannot be read is told of, not raised.

    Raises:
        ConfigError: the given vocabulary size is too small for the data.
    """
    data, reason = _data_if_cheap(config)
    if data is not None:
        config = with_vocab_size(config, data.vocab_size)
    device = guess_device(config)
    run = config.run.model_copy(update={"precision": guess_precision(config, device)})
    config = config.model_copy(update={"run": run})
    yield "computed from the settings; --estimate measures a few updates, and time with them"
    if data is None:
        yield f"data: {reason}"
    else:
        steps = -(-data.num_samples // run.samples_per_update)
        total = min(steps * run.epochs, run.max_steps or steps * run.epochs)
        yield (
            f"data: {data.num_samples:,} samples and {data.num_tokens:,} tokens an epoch, the longest of "
            f"{data.longest[0][0]} tokens"
        )
        yield f"steps: {steps:,} an epoch, {total:,} in all, {run.samples_per_update} samples each"
    if config.model.vocab_size is None:
        without = count_parameters(config.model.network(vocab_size=1))
        each = config.model.d_model * (1 if config.model.tie_embeddings else 2)
        yield f"parameters: {without.total - each:,} and {each:,} for each token of the vocabulary"
        return
    yield f"parameters: {count_parameters(config.model.network()).total:,}"
    batch = largest_batch(config, data)
    need = rank_memory(config, batch, micro_batches(config), device)
    yield f"memory of each rank: {'at most' if data is None else 'about'} {describe(need, batch)}"
    yield f"checkpoint: {as_size(checkpoint_bytes(config))} each"

    def needed(other: TrainingConfig) -> int:
        return rank_memory(other, largest_batch(other, data), micro_batches(other), device).peak

    yield from fit_lines(config, device, needed, gpu_memory() if device == "cuda" else host_memory())


def describe(need: RankMemory, batch: BatchShape) -> str:
    """One rank's memory with its parts."""
    parts = ", ".join(f"{name} {as_size(size)}" for name, size in need.parts())
    host = f"; offloaded to the host {as_size(need.on_host)}" if need.on_host else ""
    return (
        f"{as_size(need.peak)} at its peak ({parts}; not all at one time), with a micro-batch of {batch.samples} x "
        f"{batch.width} tokens{host}"
    )


def fit_lines(
    config: TrainingConfig,
    device: DeviceKind,
    needed: Callable[[TrainingConfig], int],
    available: int | None,
) -> Iterator[str]:
    """Whether a run fits, and if not the nearest setting that does; nothing where the machine does not tell.

    Args:
        config: the run's settings.
        device: where its ranks compute.
        needed: settings -> bytes of one rank. Ranks on CPUs share a machine's memory, a GPU is each one's own.
        available: free bytes.
    """
    if available is None:
        return
    ranks = 1 if device == "cuda" else sharing(config).ranks_here
    place = "on the GPU" if device == "cuda" else "on this machine"
    size = needed(config) * ranks
    if size <= available:
        yield f"fits: {as_size(available)} are free {place}"
        return
    together = f" for {ranks} ranks" if ranks > 1 else ""
    advice = nearest_fit(config, lambda other: needed(other) * ranks, available)
    yield f"does not fit: {as_size(size)} are needed{together} and {as_size(available)} are free {place}; {advice}"


def _data_if_cheap(config: TrainingConfig) -> tuple[DataFacts | None, str]:
    try:
        size = sum(find_dataset(name).stat().st_size for name in config.data.datasets)
        if size > CHEAP_BYTES:
            return None, f"{as_size(size)}, not read in a dry run; --estimate reads it"
        return read_data(config), ""
    except DataError as error:
        return None, str(error)
