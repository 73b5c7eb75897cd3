"""Estimate of a run's needs before it starts: `--estimate` trains a few of its updates and computes the rest.

The output distinguishes measured from computed figures. All files that are written are deleted again.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, cast

from training.backends.placement import Placement, placement_of
from training.errors import printable
from training.forecast.dry_run import describe, fit_lines, micro_batches
from training.forecast.memory import DeviceKind, RankMemory, checkpoint_bytes, rank_memory
from training.forecast.update_time import Mix, Pace, extra_seconds, fit_pace, largest_of
from training.machine.free_memory import host_memory
from training.machine.units import as_duration, as_size
from training.machine.usage import OtherLoad
from training.models.cost import BatchShape, ModelCost, count, work_of
from training.settings.tree import TrainingConfig
from training.tasks.batch_plan import BatchPlan

DISTURBED = 0.05
"""Share of the processors from which on other programs matter: threads wait for each other, so one that waits for its
processor delays all."""


@dataclass(frozen=True)
class Estimate:
    """Figures of a whole run; times in seconds."""

    config: TrainingConfig
    cost: ModelCost
    device: DeviceKind
    placement: Placement
    num_samples: int
    num_tokens: int
    """Number of tokens read in an epoch."""
    longest: int
    """Number of tokens of the longest sample."""
    steps_per_epoch: int
    total_steps: int
    num_measured: int
    update_seconds: float
    """Mean time of an update over the real mix of batch lengths."""
    uncertainty: float
    """Two standard errors of that mean, as a share of it: from the scatter of the updates; later changes of the
    machine's speed are not included."""
    warmup_seconds: float
    """Additional time of the first updates, compared with later ones of the same work: once in a process."""
    start_seconds: float
    """Time until the first update: libraries, data, model."""
    num_evaluations: int
    evaluation_seconds: float
    """Time of one evaluation."""
    num_checkpoints: int
    """Number of checkpoints written in all."""
    num_kept: int
    """Number of checkpoints on disk at the end."""
    checkpoint_seconds: float
    """Time to write one checkpoint."""
    final_seconds: float
    """Time to write the finished model."""
    checkpoint_bytes: int
    """Size of one checkpoint."""
    final_bytes: int
    """Size of the finished model, in one form or two."""
    computed: RankMemory
    peak_bytes: int
    """Peak memory of each rank: the measured peak, plus computed parts that the calibrated process did not have."""
    batch: BatchShape
    """Micro-batch that needs most memory."""
    available: int | None
    other_load: float | None
    """Share of the processors that other programs took while updates were timed; None: unknown."""
    was_stopped: int = 0
    """Exit code if a signal stopped the calibration; 0: none did."""

    @property
    def training_seconds(self) -> float:
        """Return the time of all updates."""
        return self.total_steps * self.update_seconds + self.warmup_seconds

    @property
    def total_seconds(self) -> float:
        """Return the time from the command to the finished model."""
        evaluations = self.num_evaluations * self.evaluation_seconds
        checkpoints = self.num_checkpoints * self.checkpoint_seconds
        return self.start_seconds + self.training_seconds + evaluations + checkpoints + self.final_seconds

    def needed(self, other: TrainingConfig) -> int:
        """Compute the bytes of a rank with other settings, corrected by the computed figure's error for these."""
        placement = placement_of(other)
        share = -(-other.run.samples_per_update // placement.ranks)
        size = min(other.run.batch_size, share)
        batch = BatchShape(size, self.batch.width, -(-self.batch.positions * size // self.batch.samples))
        computed = rank_memory(other, self.cost, batch, micro_batches(other, placement), self.device, placement).peak
        return self.peak_bytes + computed - self.computed.peak


def estimate(config: TrainingConfig) -> Estimate:
    """Train a few updates in this process and compute what the whole run needs.

    Raises:
        UserError: the run itself would refuse the data, the settings or the device.
    """
    started = time.perf_counter()
    import torch

    from training.forecast.measured_cost import cost_of
    from training.forecast.rehearsal import Rehearsal

    placement = placement_of(config)
    rehearsal = Rehearsal(config, placement)
    config, prepared = rehearsal.config, rehearsal.prepared
    lengths, weights = (f(prepared.train) for f in (prepared.objective.lengths, prepared.objective.weights))
    device = cast(DeviceKind, rehearsal.device.type)
    available = torch.cuda.mem_get_info()[0] if device == "cuda" else host_memory()
    ready, load = time.perf_counter(), OtherLoad()
    trainer, measured = rehearsal.calibrate()
    other_load = load.share()

    run, cost = config.run, cost_of(prepared, may_compute=True)
    # The same batches as the run's if it has one rank; else the same number of samples as a rank, of similar lengths.
    stand_in = Mix(trainer.plan, weights, run.batch_size, ranks=1)
    tried = [stand_in.shapes(*divmod(step, trainer.plan.steps_per_epoch)) for step in measured.steps]
    pace = fit_pace([work_of(cost, shapes) for shapes in tried], measured.seconds)
    warmup = range(len(measured.warmup))
    first = [work_of(cost, stand_in.shapes(*divmod(step, trainer.plan.steps_per_epoch))) for step in warmup]
    plan = BatchPlan(lengths, run.samples_per_update, run.seed, config.data.length_window)
    steps = plan.steps_per_epoch
    total = min(run.epochs * steps, run.max_steps or run.epochs * steps)
    updates = Mix(plan, weights, run.batch_size, placement.ranks).updates(limit=total)

    largest = largest_of(updates)
    computed = rank_memory(config, cost, largest, micro_batches(config, placement), device, placement)
    instead = rank_memory(config, cost, largest_of(tried), max(map(len, tried)), device, Placement())
    is_measured = placement.zero_stage is None
    return Estimate(
        config=config,
        cost=cost,
        device=device,
        placement=placement,
        num_samples=len(prepared.train),
        num_tokens=int((lengths - 1).sum()) if lengths.any() else 0,
        longest=int(lengths.max()),
        steps_per_epoch=steps,
        total_steps=total,
        num_measured=len(measured.seconds),
        update_seconds=statistics.fmean(pace.seconds(work_of(cost, shapes)) for shapes in updates),
        uncertainty=_uncertainty(pace, [work_of(cost, shapes) for shapes in tried], measured.seconds),
        warmup_seconds=extra_seconds(pace, first, measured.warmup),
        start_seconds=ready - started + measured.build_seconds,
        num_evaluations=-(-total // steps) if prepared.validation is not None else 0,
        evaluation_seconds=measured.evaluation_seconds,
        num_checkpoints=(saves := count_checkpoints(config, steps, total)).written,
        num_kept=saves.kept,
        checkpoint_seconds=measured.checkpoint_seconds,
        final_seconds=measured.final_seconds,
        checkpoint_bytes=measured.checkpoint_bytes if is_measured else checkpoint_bytes(config, cost, placement),
        final_bytes=measured.final_bytes,
        computed=computed,
        peak_bytes=max(0, measured.peak_bytes + computed.peak - instead.peak),
        batch=largest,
        available=available,
        other_load=other_load,
        was_stopped=measured.was_stopped,
    )


class Saves(NamedTuple):
    """Number of checkpoints of a run."""

    written: int
    kept: int


def count_checkpoints(config: TrainingConfig, steps_per_epoch: int, total_steps: int) -> Saves:
    """Count the checkpoints that a run writes, if every epoch is the best so far: that cannot be known in advance."""
    settings = config.checkpoint
    at = {total_steps}
    if settings.save_interval is not None:
        every = settings.save_interval * steps_per_epoch
        at.update(range(every, total_steps + 1, every))
    if settings.save_steps is not None:
        at.update(range(settings.save_steps, total_steps + 1, settings.save_steps))
    best = total_steps // steps_per_epoch if settings.keep_best else 0
    return Saves(len(at) + best, min(len(at), settings.keep_last or len(at)) + min(1, best))


def _uncertainty(pace: Pace, amounts: list[float], seconds: list[float]) -> float:
    scatter = [took - pace.seconds(amount) for amount, took in zip(amounts, seconds, strict=True)]
    return float(2.0 * statistics.pstdev(scatter) / math.sqrt(len(scatter)) / statistics.fmean(seconds))


def lines(found: Estimate) -> Iterator[str]:
    """Yield the estimate as lines for the user."""
    config, placement = found.config, found.placement
    ranks = f" by {placement.ranks} ranks" if placement.ranks > 1 else ""
    tokens = f" and {found.num_tokens:,} tokens per epoch, the longest of {found.longest} tokens"
    yield f"data        {found.num_samples:,} samples{tokens if found.num_tokens else ' per epoch'}"
    yield (
        f"steps       {found.steps_per_epoch:,} per epoch, {found.total_steps:,} in all, "
        f"{config.run.samples_per_update} samples each{ranks}"
    )
    trained = f", {count(found.cost, found.cost.frozen):,} of them trained" if found.cost.frozen else ""
    yield f"model       {count(found.cost):,} parameters{trained}, {config.run.precision}"
    kind = "tensors on the GPU" if found.device == "cuda" else "resident set"
    yield (
        f"memory      {as_size(found.peak_bytes)} for each rank at its peak ({kind}), measured with a checkpoint and "
        f"{found.num_measured} timed updates" + (" of one rank's share in one process" if ranks else "")
    )
    yield f"            from computation alone: about {describe(found.computed, found.batch)}"
    yield (
        f"time        {found.update_seconds * 1e3:.1f} ms per update over the epoch's mix of lengths "
        f"(± {found.uncertainty:.0%} by their scatter), {as_duration(found.update_seconds * found.steps_per_epoch)} "
        "per epoch"
    )
    parts = [f"start {as_duration(found.start_seconds)}", f"updates {as_duration(found.training_seconds)}"]
    if found.num_evaluations:
        seconds = found.num_evaluations * found.evaluation_seconds
        parts.append(f"{_times(found.num_evaluations, 'evaluation')} {as_duration(seconds)}")
    seconds = found.num_checkpoints * found.checkpoint_seconds
    parts.append(f"{_times(found.num_checkpoints, 'checkpoint')} {as_duration(seconds)}")
    parts.append(f"final model {as_duration(found.final_seconds)}")
    yield f"            {as_duration(found.total_seconds)} in all: {', '.join(parts)}"
    if found.device == "cpu" and (found.other_load or 0.0) > DISTURBED:
        yield (
            f"            other programs took {found.other_load:.0%} of the processors meanwhile; alone the run is "
            "faster by an unknown amount"
        )
    kept = found.num_kept * found.checkpoint_bytes
    yield (
        f"disk        {as_size(found.checkpoint_bytes)} per checkpoint, {as_size(kept)} in all, and "
        f"{as_size(found.final_bytes)} of the final model"
    )
    missing = _not_counted(found)
    if missing:
        yield f"not counted {'; '.join(missing)}"
    for line in fit_lines(config, found.device, found.needed, found.available):
        head, _, rest = line.partition(": ")
        yield f"{head + ':':<12}{rest}"


def _times(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _not_counted(found: Estimate) -> list[str]:
    placement, missing = found.placement, []
    if found.config.report.answer_samples != 0:
        missing.append("the task's look at the finished model")
    if placement.ranks > 1:
        missing.append(f"the communication between {placement.ranks} ranks")
    if placement.zero_stage is not None:
        missing.append("DeepSpeed's own time; the memory that ZeRO spreads is computed, not measured")
    return missing


def print_estimate(config: TrainingConfig) -> int:
    """Estimate a run and print the result. Return the exit code.

    Raises:
        UserError: as `estimate`.
    """
    found = estimate(config)
    if found.was_stopped:
        print("the estimate was stopped; nothing was kept")
        return found.was_stopped
    for line in lines(found):
        print(printable(line))
    return 0
