"""Peak memory of one rank in closed form, part by part. No torch.

On a GPU it is the memory of tensors (`torch.cuda.max_memory_allocated`). On a CPU it is the resident set of the rank's
process, which includes the interpreter, torch's libraries and the gaps that the C library's allocator leaves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from training.backends.placement import Placement
from training.models.cost import FP32, BatchShape, ModelCost, count, elements
from training.settings.tree import TrainingConfig

DeviceKind = Literal["cpu", "cuda", "mps"]

PROCESS_BYTES = 337_000_000
"""Resident set of a process that has trained a tiny model: Python, torch 2.13 for CPUs and what they import."""
GAPS = 1.15
"""Resident bytes per byte of short-lived tensors on a CPU. glibc keeps freed blocks below 32 MB and splits them for
later ones; if every tensor is mapped separately (MALLOC_MMAP_THRESHOLD_=65536), the figure is 1.0. Measured:
docs/ESTIMATE.md."""
HALF_KERNELS_BYTES = 80_000_000
"""Bytes of oneDNN's 16-bit kernels on a CPU, which are compiled and kept for each length of batch."""
CUDA_WORKSPACE_BYTES = 34_000_000
"""Bytes of cuBLAS's workspace, which torch takes from its own pool."""
BUCKET_ELEMENTS = 50_000_000
"""Largest number of elements that the DeepSpeed backend reduces at once (`engines.deepspeed.config.LARGEST_BUCKET`)."""


@dataclass(frozen=True)
class RankMemory:
    """Bytes that one rank needs, by purpose."""

    process: int
    """Bytes of interpreter and libraries; 0 on a GPU."""
    weights: int
    gradients: int
    optimizer: int
    """Bytes of moments, the stabilizer's state and ZeRO's own copy of the weights."""
    buckets: int
    """Bytes of the buffers in which gradients and weights are collected for communication between ranks."""
    activations: int
    """Bytes of one micro-batch, including the gradients of activations, and on a CPU the allocator's gaps."""
    average: int
    """Bytes of the moving average of the trained weights."""
    peak: int
    """Largest number of bytes at one time: gradients are allocated while activations are freed."""
    on_host: int = 0
    """Bytes offloaded from the GPU to the host."""

    def parts(self) -> list[tuple[str, int]]:
        """Return (name, bytes) of the parts that are not empty."""
        named = {
            "process": self.process,
            "weights": self.weights,
            "gradients": self.gradients,
            "optimizer": self.optimizer,
            "buckets": self.buckets,
            "average": self.average,
            "activations": self.activations,
        }
        return [(name, size) for name, size in named.items() if size]


def optimizer_bytes(config: TrainingConfig, cost: ModelCost) -> int:
    """Compute the bytes of the whole state of optimizers and stabilizer, which is also their size in a checkpoint."""
    total = count(cost, cost.frozen)
    momentum_only = _matrix_elements(cost) if config.optimizer.optimizer == "muon" else 0
    size = FP32 * (2 * (total - momentum_only) + momentum_only)
    if config.optimizer.stabilizer == "dbc_dac":
        size += stabilizer_bytes(config, cost)
    return size


def average_bytes(config: TrainingConfig, cost: ModelCost) -> int:
    """Compute the bytes of the moving average of the trained weights, which every rank has whole; 0: there is none."""
    return FP32 * count(cost, cost.frozen) if config.optimizer.ema_decay is not None else 0


def _matrix_elements(cost: ModelCost) -> int:
    return sum(elements(cost.shapes[name]) for name in cost.matrices)


def stabilizer_bytes(config: TrainingConfig, cost: ModelCost) -> int:
    """Compute the bytes of DBC-DAC: a norm per row, and for a matrix above its rank a basis and the remainder."""
    size, rank = 0, config.optimizer.dbc_rank
    for name, shape in cost.shapes.items():
        if name in cost.frozen:
            continue
        rows, columns = (shape[0], elements(shape[1:])) if len(shape) >= 2 else (1, elements(shape))
        size += rows
        if min(rows, columns) > rank:
            size += columns * rank + rows * columns
    return size * FP32


def checkpoint_bytes(config: TrainingConfig, cost: ModelCost, placement: Placement) -> int:
    """Compute the size of a checkpoint: weights, the optimizer's state, and DeepSpeed's own shards next to them."""
    weights = FP32 * count(cost, cost.unsaved)
    size = weights + optimizer_bytes(config, cost)
    average = average_bytes(config, cost)
    if placement.zero_stage is not None:
        size += size + (weights if placement.zero_stage in (1, 2) else 0)  # and the master copy of the weights
    return size + average


def rank_memory(
    config: TrainingConfig,
    cost: ModelCost,
    batch: BatchShape,
    micro_batches: int,
    device: DeviceKind,
    placement: Placement,
) -> RankMemory:
    """Compute the memory of the largest update.

    Args:
        config: settings with a resolved precision.
        cost: sizes and memory of the network.
        batch: the micro-batch that needs most memory.
        micro_batches: number of forward passes per update on this rank.
        device: device of the rank.
        placement: distribution of the state over the ranks.
    """
    on_cuda = device == "cuda"
    half = config.run.precision in ("bf16", "fp16")
    found = cost.pass_bytes(batch, half=half, on_cuda=on_cuda, checkpointing=config.run.gradient_checkpointing)
    kept, spare = found.peak, 0 if on_cuda else found.spare
    state = _state_bytes(config, cost, placement)
    # With one micro-batch, gradients are allocated while activations are freed; with several, the first one's stay.
    sums_up = micro_batches > 1 or state.gradients_stay
    working = kept + (state.gradients if sums_up else max(0, state.gradients - kept))
    gaps = 1.0 if on_cuda else GAPS
    average = average_bytes(config, cost)
    lasting = state.weights + state.optimizer + state.buckets + average + cost.buffers
    on_host = state.on_host if on_cuda else 0
    if not on_cuda:
        lasting += state.on_host  # offloading to the host, where it already is
    process = CUDA_WORKSPACE_BYTES if on_cuda else PROCESS_BYTES
    if not on_cuda and config.run.precision != "fp32":
        process += HALF_KERNELS_BYTES
    return RankMemory(
        process=process,
        weights=state.weights + cost.buffers,
        gradients=state.gradients,
        optimizer=state.optimizer + (0 if on_cuda else state.on_host),
        buckets=state.buckets,
        activations=round(gaps * kept) + spare,
        average=average,
        peak=process + lasting + round(gaps * working) + spare,
        on_host=on_host,
    )


class _State(NamedTuple):
    weights: int
    gradients: int
    optimizer: int
    buckets: int
    gradients_stay: bool
    """True if gradients stay in memory between updates, for any number of micro-batches."""
    on_host: int = 0


def _state_bytes(config: TrainingConfig, cost: ModelCost, placement: Placement) -> _State:
    """Compute the memory held from update to update, by ZeRO stage (arXiv 1910.02054, for fp32 weights)."""
    weights, optimizer = FP32 * count(cost), optimizer_bytes(config, cost)
    trained = FP32 * count(cost, cost.frozen)
    stage, ranks = placement.zero_stage, placement.ranks
    bucket = min(trained, BUCKET_ELEMENTS * FP32)
    if not stage:
        largest = max((elements(cost.shapes[name]) for name in cost.matrices), default=0) * FP32
        muon = 3 * largest // 2 if config.optimizer.optimizer == "muon" else 0  # Newton-Schulz, in bf16
        # DDP sums gradients in its own buckets; DeepSpeed without ZeRO in smaller ones.
        buckets = 0 if ranks == 1 else trained if stage is None else bucket
        return _State(weights, trained + muon, optimizer, buckets, gradients_stay=False)
    share = math.ceil(trained / ranks)
    state = math.ceil(optimizer / ranks) + share  # the master copy, which ZeRO keeps even for fp32 weights
    on_host = 0
    if placement.cpu_offload:
        state, on_host = 0, state + share  # gradients go to the host too
    if stage < 3:
        return _State(weights, trained if stage == 1 else share, state, bucket, True, on_host)
    sharded = math.ceil(weights / ranks)
    held = 0 if placement.param_offload else sharded
    # Gathered weights are freed after use only beyond DeepSpeed's `stage3_max_live_parameters` (10^9); they exist as
    # they arrive and as they are used.
    gathered = 2 * min(weights, 4_000_000_000)
    return _State(held + gathered, share + bucket, state, bucket, True, on_host + sharded - held)
