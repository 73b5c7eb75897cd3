"""Memory of one rank in closed form: what a run needs at its peak, part by part. No torch.

On a GPU it is what tensors hold (`torch.cuda.max_memory_allocated`). On a CPU it is the resident set of the rank's
process, in which the interpreter, torch's libraries and the gaps that the C library's allocator leaves count too.
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
"""Resident bytes for each byte of short-lived tensors on a CPU. glibc keeps freed blocks below 32 MB and cuts them up
for the next ones; with every tensor mapped on its own (MALLOC_MMAP_THRESHOLD_=65536) the figure is 1.0. Measured:
docs/ESTIMATE.md."""
HALF_KERNELS_BYTES = 80_000_000
"""On a CPU: oneDNN's 16-bit kernels, compiled anew for each length of batch and kept."""
CUDA_WORKSPACE_BYTES = 34_000_000
"""cuBLAS's workspace, which torch takes from its own pool."""
BUCKET_ELEMENTS = 50_000_000
"""Largest piece that the DeepSpeed backend reduces at once (`deepspeed_config.LARGEST_BUCKET`)."""


@dataclass(frozen=True)
class RankMemory:
    """Bytes that one rank needs, by what they are for."""

    process: int
    """Interpreter and libraries; 0 on a GPU."""
    weights: int
    gradients: int
    optimizer: int
    """Moments; the stabilizer's state; ZeRO's own copy of the weights."""
    buckets: int
    """Where gradients and weights are put together to travel between ranks."""
    activations: int
    """Of one micro-batch, with the gradients of activations, and on a CPU with the allocator's gaps."""
    peak: int
    """Most that is held at one time: gradients grow while activations go."""
    on_host: int = 0
    """Offloaded from the GPU to the host."""

    def parts(self) -> list[tuple[str, int]]:
        """(name, bytes) of the parts that are not empty."""
        named = {
            "process": self.process,
            "weights": self.weights,
            "gradients": self.gradients,
            "optimizer": self.optimizer,
            "buckets": self.buckets,
            "activations": self.activations,
        }
        return [(name, size) for name, size in named.items() if size]


def optimizer_bytes(config: TrainingConfig, cost: ModelCost) -> int:
    """Compute the state of the optimizers and the stabilizer, whole, in bytes: a checkpoint holds as much of them."""
    total = count(cost)
    momentum_only = _matrix_elements(cost) if config.optimizer.optimizer == "muon" else 0
    size = FP32 * (2 * (total - momentum_only) + momentum_only)
    if config.optimizer.stabilizer == "dbc_dac":
        size += stabilizer_bytes(config, cost)
    return size


def _matrix_elements(cost: ModelCost) -> int:
    return sum(elements(cost.shapes[name]) for name in cost.matrices)


def stabilizer_bytes(config: TrainingConfig, cost: ModelCost) -> int:
    """Compute the state of DBC-DAC: a norm a row, and for a matrix above its rank a basis and what is owed."""
    size, rank = 0, config.optimizer.dbc_rank
    for shape in cost.shapes.values():
        rows, columns = (shape[0], elements(shape[1:])) if len(shape) >= 2 else (1, elements(shape))
        size += rows
        if min(rows, columns) > rank:
            size += columns * rank + rows * columns
    return size * FP32


def checkpoint_bytes(config: TrainingConfig, cost: ModelCost, placement: Placement) -> int:
    """Compute the size of a checkpoint: weights, the optimizer's state, and DeepSpeed's own shards next to them."""
    weights = FP32 * count(cost)
    size = weights + optimizer_bytes(config, cost)
    if placement.zero_stage is not None:
        size += size + (weights if placement.zero_stage in (1, 2) else 0)  # and the master copy
    return size


def rank_memory(
    config: TrainingConfig,
    cost: ModelCost,
    batch: BatchShape,
    micro_batches: int,
    device: DeviceKind,
    placement: Placement,
) -> RankMemory:
    """Compute what the largest update needs.

    Args:
        config: settings with the precision resolved.
        cost: sizes and memory of the network.
        batch: the micro-batch that needs most.
        micro_batches: forward passes of one update on this rank.
        device: where the rank computes.
        placement: how state is spread over the ranks.
    """
    on_cuda = device == "cuda"
    half = config.run.precision in ("bf16", "fp16")
    found = cost.pass_bytes(batch, half=half, on_cuda=on_cuda, checkpointing=config.run.gradient_checkpointing)
    kept, spare = found.peak, 0 if on_cuda else found.spare
    state = _state_bytes(config, cost, placement)
    # With one micro-batch, gradients are made as activations go; with several, those of the first are there from then.
    sums_up = micro_batches > 1 or state.gradients_stay
    working = kept + (state.gradients if sums_up else max(0, state.gradients - kept))
    gaps = 1.0 if on_cuda else GAPS
    lasting = state.weights + state.optimizer + state.buckets + cost.buffers
    on_host = state.on_host if on_cuda else 0
    if not on_cuda:
        lasting += state.on_host  # offloaded to where it is already
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
        peak=process + lasting + round(gaps * working) + spare,
        on_host=on_host,
    )


class _State(NamedTuple):
    weights: int
    gradients: int
    optimizer: int
    buckets: int
    gradients_stay: bool
    """Between updates and micro-batches, whatever their number."""
    on_host: int = 0


def _state_bytes(config: TrainingConfig, cost: ModelCost, placement: Placement) -> _State:
    """Compute what is held from update to update, by ZeRO stage (arXiv 1910.02054, for fp32 weights)."""
    weights, optimizer = FP32 * count(cost), optimizer_bytes(config, cost)
    stage, ranks = placement.zero_stage, placement.ranks
    bucket = min(weights, BUCKET_ELEMENTS * FP32)
    if not stage:
        largest = max((elements(cost.shapes[name]) for name in cost.matrices), default=0) * FP32
        muon = 3 * largest // 2 if config.optimizer.optimizer == "muon" else 0  # Newton-Schulz, in bf16
        # DDP sums gradients in buckets of their own; DeepSpeed without ZeRO in smaller ones.
        buckets = 0 if ranks == 1 else weights if stage is None else bucket
        return _State(weights, weights + muon, optimizer, buckets, gradients_stay=False)
    share = math.ceil(weights / ranks)
    state = math.ceil(optimizer / ranks) + share  # the master copy, which ZeRO keeps of fp32 weights too
    on_host = 0
    if placement.cpu_offload:
        state, on_host = 0, state + share  # gradients go to the host too
    if stage < 3:
        return _State(weights, weights if stage == 1 else share, state, bucket, True, on_host)
    held = 0 if placement.param_offload else share
    # Gathered weights are let go after use only beyond DeepSpeed's `stage3_max_live_parameters` (10^9); they are there
    # as they arrive and as they are used.
    gathered = 2 * min(weights, 4_000_000_000)
    return _State(held + gathered, share + bucket, state, bucket, True, on_host + share - held)
