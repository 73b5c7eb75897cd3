"""What a network costs: sizes of its parameters, memory of a pass, and work. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

FP32, INT64 = 4, 8
"""Bytes of a number."""

Shape = tuple[int, ...]


class BatchShape(NamedTuple):
    """One forward pass of a rank: a micro-batch."""

    samples: int
    """B."""
    width: int
    """T: tokens of the longest sample that are read; what the others lack is padding. 1 where lengths do not matter."""
    positions: int
    """N: the batch's weight, such as tokens with a loss."""

    @property
    def padded_tokens(self) -> int:
        """M = B·T."""
        return self.samples * self.width


class PassBytes(NamedTuple):
    """Memory of one forward and backward pass, in bytes, apart from weights and their gradients."""

    peak: int
    """Largest sum of what the backward pass needs and the gradients of activations."""
    spare: int
    """On a CPU: freed temporaries that the allocator keeps resident."""


class ModelCost(Protocol):
    """Sizes, memory and work of a network, in closed form or measured."""

    shapes: Mapping[str, Shape]
    """Parameter name -> shape; a tied parameter once."""
    matrices: frozenset[str]
    """Names of the parameters that Muon gets."""
    buffers: int
    """Bytes of what is no parameter and stays in memory, such as tables of rotary positions."""

    def pass_bytes(self, batch: BatchShape, *, half: bool, on_cuda: bool, checkpointing: bool) -> PassBytes:
        """Compute the memory of a pass over a micro-batch.

        Args:
            batch: the micro-batch.
            half: bf16 or fp16 autocast; else fp32.
            on_cuda: kernels of CUDA, which keep less than those of a CPU.
            checkpointing: whether activations are recomputed in the backward pass.
        """
        ...

    def work(self, batch: BatchShape) -> float:
        """Compute the floating-point operations of one forward pass."""
        ...


def elements(shape: Shape) -> int:
    """Return how many numbers a tensor of this shape has."""
    product = 1
    for size in shape:
        product *= size
    return product


def count(cost: ModelCost) -> int:
    """Return how many numbers a model trains."""
    return sum(map(elements, cost.shapes.values()))


def work_of(cost: ModelCost, batches: Iterable[BatchShape]) -> float:
    """Compute the operations of the forward passes of one update."""
    return sum(cost.work(batch) for batch in batches)
