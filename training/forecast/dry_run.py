"""Forecast of a run's needs, computed only from its settings and its data: `--dry-run` shows it.

Nothing here is measured; `training.forecast.estimate` trains a few updates and measures. For a network with a closed
form, neither torch nor NumPy is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from training.backends.placement import Placement, placement_of
from training.errors import ConfigError, DataError
from training.forecast.memory import DeviceKind, RankMemory, checkpoint_bytes, rank_memory
from training.forecast.what_fits import nearest_fit
from training.machine.description import has_mps, multiplies_bf16
from training.machine.free_memory import gpu_memory, host_memory
from training.machine.hardware import count_gpus
from training.machine.units import as_size
from training.models.cost import BatchShape, ModelCost, count
from training.settings.tree import Precision, TrainingConfig
from training.tasks.protocol import DataPreview, Task, family_of, task_of

CHEAP_BYTES = 512 * 1024
"""Total size up to which data files are prepared for a dry run, if the task has no faster way."""


def guess_device(placement: Placement) -> DeviceKind:
    """Guess the kind of device that the run will pick, from the driver instead of torch."""
    if placement.device != "auto":
        return placement.device
    if count_gpus():
        return "cuda"
    return "mps" if has_mps() else "cpu"


def guess_precision(config: TrainingConfig, device: DeviceKind, cpu_has_bf16: bool | None = None) -> Precision:
    """Guess what `auto` will become.

    Args:
        config: settings of the run.
        device: device of its ranks.
        cpu_has_bf16: the processor multiplies in bf16; None: this machine's is asked.
    """
    if config.run.precision != "auto" or device != "cpu":
        return "bf16" if config.run.precision == "auto" and device == "cuda" else config.run.precision
    return "bf16" if (multiplies_bf16() if cpu_has_bf16 is None else cpu_has_bf16) else "fp32"


def largest_batch(config: TrainingConfig, placement: Placement, data: DataPreview | None) -> BatchShape | None:
    """Return a micro-batch of the longest samples; None: their lengths are not known.

    If the data is not known, every sample is assumed to have the model's largest length (`max_seq_len`).
    """
    share = -(-config.run.samples_per_update // placement.ranks)
    size = min(config.run.batch_size, share)
    if data is None:
        longest = getattr(config.model, "max_seq_len", None)
        return None if longest is None else BatchShape(size, longest - 1, size * (longest - 1))
    chosen = data.longest[:size]
    return BatchShape(len(chosen), max(1, chosen[0][0]), sum(weight for _, weight in chosen))


def micro_batches(config: TrainingConfig, placement: Placement) -> int:
    """Return the number of forward passes per update on a rank."""
    return -(-config.run.samples_per_update // (placement.ranks * config.run.batch_size))


@dataclass(frozen=True)
class Workload:
    """Model and data of a run as far as they are known before it: what all its layouts have in common."""

    config: TrainingConfig
    """Settings of the run; those of the model are completed by the data."""
    data: DataPreview | None
    why_no_data: str = ""
    cost: ModelCost | None = None
    """Sizes of the network; None: they are not known without training it."""
    notes: list[str] = field(default_factory=list)
    """Lines for the user on sizes that are not known."""

    def batch(self, config: TrainingConfig, placement: Placement) -> BatchShape | None:
        """Return the largest micro-batch of a layout; None: the samples' lengths are not known."""
        return largest_batch(config, placement, self.data)

    def memory(self, config: TrainingConfig, device: DeviceKind, placement: Placement) -> RankMemory | None:
        """Compute the memory of one rank of a layout; None: it is not known without training.

        Args:
            config: settings with a resolved precision.
            device: device of its ranks.
            placement: the layout, as the config's backend says it.
        """
        config = config.model_copy(update={"model": self.config.model})
        batch = self.batch(config, placement)
        if self.cost is None or batch is None:
            return None
        return rank_memory(config, self.cost, batch, micro_batches(config, placement), device, placement)


def workload_of(config: TrainingConfig) -> Workload:
    """Find out what is known about a run's model and data, in a moment and without training.

    Args:
        config: settings with a resolved precision.

    Raises:
        ConfigError: the settings contradict the data, such as a vocabulary that is too small.
    """
    task, family = task_of(config), family_of(config)
    data, reason = _preview(task, config)
    if not reason and (data is None or not family.has_closed_form):
        from training.forecast.measured_cost import cost_of, preview_of

        prepared = task.prepare(config)
        data, config = preview_of(prepared), prepared.config
        try:
            return Workload(config, data, cost=cost_of(prepared))
        except ConfigError as error:
            return Workload(config, data, notes=[str(error)])
    vocabulary = data.vocabulary if data is not None else None
    config = config.model_copy(update={"model": family.completed(config.model, vocabulary)})
    return Workload(
        config, data, reason, family.cost(config.model, vocabulary), notes=[*family.open_sizes(config.model)]
    )


@dataclass(frozen=True)
class Forecast:
    """Needs of a run, as far as its settings and its data tell them; None: they do not."""

    lines: list[str]
    """All of it for the user."""
    memory_bytes: int | None = None
    """Peak memory of each rank."""
    checkpoint_bytes: int | None = None
    """Size of one checkpoint."""
    fits: bool | None = None
    """Whether it fits into the memory that is free now."""


def dry_run_lines(config: TrainingConfig) -> list[str]:
    """Return the lines that `--dry-run` prints below the settings.

    Raises:
        ConfigError: see `forecast`.
    """
    return forecast(config).lines


def forecast(config: TrainingConfig) -> Forecast:
    """Compute what a run will need. Unreadable data is reported in a line, not raised.

    Raises:
        ConfigError: the settings contradict the data, such as a vocabulary that is too small.
    """
    lines = ["computed from the settings; --estimate trains a few updates and measures memory and time"]
    placement = placement_of(config)
    device = guess_device(placement)
    run = config.run.model_copy(update={"precision": guess_precision(config, device)})
    found = workload_of(config.model_copy(update={"run": run}))
    config, data, cost = found.config, found.data, found.cost
    lines += [f"data: {found.why_no_data}"] if data is None else _data_lines(config, data)
    if cost is None:
        return Forecast([*lines, *found.notes])
    trained = f", {count(cost, cost.frozen):,} of them trained" if cost.frozen else ""
    lines.append(f"parameters: {count(cost):,}{trained}")
    batch = largest_batch(config, placement, data)
    saved = checkpoint_bytes(config, cost, placement)
    if batch is None:
        lines.append("memory of each rank: the samples' lengths are not known; --estimate reads the data")
        return Forecast(lines, checkpoint_bytes=saved)
    need = rank_memory(config, cost, batch, micro_batches(config, placement), device, placement)
    lines.append(f"memory of each rank: {'at most' if data is None else 'about'} {describe(need, batch)}")
    lines.append(f"checkpoint: {as_size(saved)} each")

    def needed(other: TrainingConfig) -> int:
        place = placement_of(other)
        shape = largest_batch(other, place, data) or batch
        return rank_memory(other, cost, shape, micro_batches(other, place), device, place).peak

    available = gpu_memory() if device == "cuda" else host_memory()
    lines += fit_lines(config, device, needed, available)
    fits = None if available is None else needed(config) * ranks_that_share(config, device) <= available
    return Forecast(lines, need.peak, saved, fits)


def ranks_that_share(config: TrainingConfig, device: DeviceKind) -> int:
    """Return how many ranks share the memory: those on CPUs that of their machine, and each GPU has its own."""
    return 1 if device == "cuda" else placement_of(config).ranks_here


def _data_lines(config: TrainingConfig, data: DataPreview) -> Iterator[str]:
    run = config.run
    steps = -(-data.num_samples // run.samples_per_update)
    total = min(steps * run.epochs, run.max_steps or steps * run.epochs)
    tokens = f" and {data.num_tokens:,} tokens per epoch, the longest of {data.longest[0][0] + 1} tokens"
    yield f"data: {data.num_samples:,} samples{tokens if data.num_tokens else ' per epoch'}"
    yield f"steps: {steps:,} per epoch, {total:,} in all, {run.samples_per_update} samples each"


def _preview(task: Task, config: TrainingConfig) -> tuple[DataPreview | None, str]:
    """Return what is known about the data, or why nothing is; (None, ""): the data can be prepared quickly."""
    try:
        size = sum(map(_bytes_of, task.data_files(config.data)))
        found = task.preview(config)
    except (DataError, OSError) as error:
        return None, str(error)
    if found is not None or size <= CHEAP_BYTES:
        return found, ""
    return None, f"{as_size(size)}, not read in a dry run; --estimate reads it"


def _bytes_of(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files)


def describe(need: RankMemory, batch: BatchShape) -> str:
    """Format the memory of one rank with its parts."""
    parts = ", ".join(f"{name} {as_size(size)}" for name, size in need.parts())
    host = f"; {as_size(need.on_host)} offloaded to the host" if need.on_host else ""
    shape = f"{batch.samples} x {batch.width} tokens" if batch.width > 1 else f"{batch.samples} samples"
    return f"{as_size(need.peak)} at its peak ({parts}; not all at one time), with a micro-batch of {shape}{host}"


def fit_lines(
    config: TrainingConfig,
    device: DeviceKind,
    needed: Callable[[TrainingConfig], int],
    available: int | None,
) -> Iterator[str]:
    """Yield lines on whether a run fits, and otherwise the nearest setting that does; none if free memory is unknown.

    Args:
        config: the run's settings.
        device: device of its ranks.
        needed: function from settings to bytes of one rank.
        available: free bytes.
    """
    if available is None:
        return
    ranks = ranks_that_share(config, device)
    place = "on the GPU" if device == "cuda" else "on this machine"
    size = needed(config) * ranks
    if size <= available:
        yield f"fits: {as_size(available)} are free {place}"
        return
    together = f" for {ranks} ranks" if ranks > 1 else ""
    advice = nearest_fit(config, lambda other: needed(other) * ranks, available)
    yield f"does not fit: {as_size(size)} are needed{together} and {as_size(available)} are free {place}; {advice}"
