"""Memory of one rank in closed form: what a run needs at its peak, part by part. No torch.

On a GPU it is what tensors hold (`torch.cuda.max_memory_allocated`). On a CPU it is the resident set of the rank's
process, in which the interpreter, torch's libraries and the gaps that the C library's allocator leaves count too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from training.models.apt.activations import FP32, Activations, BatchShape, activations
from training.models.apt.size import block_shapes, count_parameters, elements, parameter_shapes
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


class Sharing(NamedTuple):
    """How a run's state lies on its ranks."""

    ranks: int = 1
    """That share each global batch, over all machines."""
    ranks_here: int = 1
    """On this machine; on CPUs their memories add up."""
    zero_stage: int | None = None
    """None: not DeepSpeed. What the stage spreads is divided by `ranks`."""
    cpu_offload: bool = False
    param_offload: bool = False


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


def sharing(config: TrainingConfig) -> Sharing:
    """How the settings spread the run, by the options that a backend has (`zero_stage`, `cpu_offload`, …)."""
    launch, options = config.launch, getattr(config, config.backend, None)
    here = launch.num_processes or launch.num_gpus or 1
    return Sharing(
        ranks=here * launch.nnodes,
        ranks_here=here,
        zero_stage=getattr(options, "zero_stage", None),
        cpu_offload=bool(getattr(options, "cpu_offload", False)),
        param_offload=bool(getattr(options, "param_offload", False)),
    )


def optimizer_bytes(config: TrainingConfig) -> int:
    """State of the optimizers and the stabilizer, whole: it is also what a checkpoint holds of them."""
    counts = count_parameters(config.model.network())
    momentum_only = counts.hidden if config.optimizer.optimizer == "muon" else 0
    size = FP32 * (2 * (counts.total - momentum_only) + momentum_only)
    if config.optimizer.stabilizer == "dbc_dac":
        size += stabilizer_bytes(config)
    return size


def stabilizer_bytes(config: TrainingConfig) -> int:
    """DBC-DAC's norm of each row, and for each matrix above its rank a basis and what is owed."""
    size, rank = 0, config.optimizer.dbc_rank
    for _, shape in parameter_shapes(config.model.network()):
        rows, columns = shape if len(shape) == 2 else (1, shape[0])
        size += rows
        if min(rows, columns) > rank:
            size += columns * rank + rows * columns
    return size * FP32


def checkpoint_bytes(config: TrainingConfig) -> int:
    """Files of one checkpoint: weights, the optimizer's state, and DeepSpeed's own shards beside them."""
    weights = FP32 * count_parameters(config.model.network()).total
    size = weights + optimizer_bytes(config)
    if sharing(config).zero_stage is not None:
        size += size + (weights if sharing(config).zero_stage in (1, 2) else 0)  # and the master copy
    return size


def rank_memory(
    config: TrainingConfig, batch: BatchShape, micro_batches: int, device: DeviceKind, spread: Sharing | None = None
) -> RankMemory:
    """What the largest update needs.

    Args:
        config: with `vocab_size` set and precision resolved.
        batch: the micro-batch that needs most.
        micro_batches: forward passes of one update on this rank.
        device: where it computes.
        spread: how state lies on the ranks; None: as the settings say.
    """
    spread, on_cuda = spread or sharing(config), device == "cuda"
    weights = FP32 * count_parameters(config.model.network()).total
    kept = _pass_bytes(config, batch, on_cuda)
    state = _state_bytes(config, spread, weights)
    tables = 2 * config.model.max_seq_len * config.model.head_dim * FP32  # rotary cosines and sines
    # With one micro-batch, gradients are made as activations go; with several, those of the first are there from then.
    sums_up = micro_batches > 1 or state.gradients_stay
    working = kept + (state.gradients if sums_up else max(0, state.gradients - kept))
    gaps = 1.0 if on_cuda else GAPS
    lasting = state.weights + state.optimizer + state.buckets + tables
    on_host = state.on_host if on_cuda else 0
    if not on_cuda:
        lasting += state.on_host  # offloaded to where it is already
    process = CUDA_WORKSPACE_BYTES if on_cuda else PROCESS_BYTES
    if not on_cuda and config.run.precision != "fp32":
        process += HALF_KERNELS_BYTES
    return RankMemory(
        process=process,
        weights=state.weights + tables,
        gradients=state.gradients,
        optimizer=state.optimizer + (0 if on_cuda else state.on_host),
        buckets=state.buckets,
        activations=round(gaps * kept) + (0 if on_cuda else _spare(config, batch)),
        peak=process + lasting + round(gaps * working) + (0 if on_cuda else _spare(config, batch)),
        on_host=on_host,
    )


def _pass_bytes(config: TrainingConfig, batch: BatchShape, on_cuda: bool) -> int:
    """Most that a forward and backward pass holds of activations and their gradients."""
    layers: int = config.model.num_layers
    found = _activations(config, batch, on_cuda)
    if not config.run.gradient_checkpointing:
        return found.kept(layers) + found.backward
    # Each block keeps its input; in the backward pass one block at a time is computed again, with its own casts.
    inputs: int = layers * batch.padded_tokens * config.model.d_model * FP32
    again = max(found.block if layers > 1 else 0, found.last_block) + found.casts // max(1, layers)
    return inputs + found.ends + max(found.casts, again + found.backward)


def _activations(config: TrainingConfig, batch: BatchShape, on_cuda: bool) -> Activations:
    return activations(config.model.network(), batch, half=config.run.precision in ("bf16", "fp16"), on_cuda=on_cuda)


def _spare(config: TrainingConfig, batch: BatchShape) -> int:
    """On a CPU: freed temporaries of about one block, which stay resident between those that are kept.

    Of two where blocks are computed again: what one leaves behind does not fit the next one's gradients.
    """
    return _activations(config, batch, on_cuda=False).block * (2 if config.run.gradient_checkpointing else 1)


class _State(NamedTuple):
    weights: int
    gradients: int
    optimizer: int
    buckets: int
    gradients_stay: bool
    """Between updates and micro-batches, whatever their number."""
    on_host: int = 0


def _state_bytes(config: TrainingConfig, spread: Sharing, weights: int) -> _State:
    """What is held from update to update, by ZeRO stage (arXiv 1910.02054, for fp32 weights)."""
    optimizer = optimizer_bytes(config)
    stage, ranks = spread.zero_stage, spread.ranks
    bucket = min(weights, BUCKET_ELEMENTS * FP32)
    if not stage:
        largest = max(elements(shape) for shape in block_shapes(config.model.network()).values()) * FP32
        muon = 3 * largest // 2 if config.optimizer.optimizer == "muon" else 0  # Newton-Schulz, in bf16
        # DDP sums gradients in buckets of their own; DeepSpeed without ZeRO in smaller ones.
        buckets = 0 if ranks == 1 else weights if stage is None else bucket
        return _State(weights, weights + muon, optimizer, buckets, gradients_stay=False)
    share = math.ceil(weights / ranks)
    state = math.ceil(optimizer / ranks) + share  # the master copy, which ZeRO keeps of fp32 weights too
    on_host = 0
    if spread.cpu_offload:
        state, on_host = 0, state + share  # gradients go to the host too
    if stage < 3:
        return _State(weights, weights if stage == 1 else share, state, bucket, True, on_host)
    held = 0 if spread.param_offload else share
    # Gathered weights are let go after use only beyond DeepSpeed's `stage3_max_live_parameters` (10^9); they are there
    # as they arrive and as they are used.
    gathered = 2 * min(weights, 4_000_000_000)
    return _State(held + gathered, share + bucket, state, bucket, True, on_host + share - held)
