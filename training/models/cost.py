"""Cost of a network: sizes of its parameters, memory of a pass, and work. No torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple, Protocol

FP32, INT64 = 4, 8
"""Bytes of one number."""

Shape = tuple[int, ...]


class BatchShape(NamedTuple):
    """Shape of a micro-batch, one forward pass of a rank."""

    samples: int
    """B: number of samples."""
    width: int
    """T: number of tokens read of the longest sample; the others are padded to it. 1 if lengths do not matter."""
    positions: int
    """N: weight of the batch, such as the number of tokens with a loss."""

    @property
    def padded_tokens(self) -> int:
        """Return M = B·T."""
        return self.samples * self.width


class PassBytes(NamedTuple):
    """Memory of one forward and backward pass, in bytes, without weights and their gradients."""

    peak: int
    """Largest sum of kept activations and their gradients."""
    spare: int
    """Bytes of freed temporaries that the allocator keeps resident on a CPU."""


class ModelCost(Protocol):
    """Sizes, memory and work of a network, in closed form or measured."""

    shapes: Mapping[str, Shape]
    """Parameter name -> shape; a tied parameter once."""
    matrices: frozenset[str]
    """Names of the parameters that Muon trains."""
    frozen: frozenset[str]
    """Names of the parameters that are not trained."""
    unsaved: frozenset[str]
    """Names of the parameters that no checkpoint holds, such as those of the model that adapters belong to."""
    buffers: int
    """Bytes of permanent tensors that are not parameters, such as tables of rotary positions."""

    def pass_bytes(self, batch: BatchShape, *, half: bool, on_cuda: bool, checkpointing: bool) -> PassBytes:
        """Compute the memory of a pass over a micro-batch.

        Args:
            batch: the micro-batch.
            half: bf16 or fp16 autocast; else fp32.
            on_cuda: kernels of CUDA, which keep less memory than those of a CPU.
            checkpointing: True if the backward pass recomputes activations.
        """
        ...

    def work(self, batch: BatchShape) -> float:
        """Compute the floating-point operations of one forward pass."""
        ...


def elements(shape: Shape) -> int:
    """Return the number of elements of a tensor of this shape."""
    product = 1
    for size in shape:
        product *= size
    return product


def count(cost: ModelCost, without: Collection[str] = ()) -> int:
    """Return the number of parameters of a model, less those of these names."""
    return sum(elements(shape) for name, shape in cost.shapes.items() if name not in without)


def work_of(cost: ModelCost, batches: Iterable[BatchShape]) -> float:
    """Compute the operations of the forward passes of one update."""
    return sum(cost.work(batch) for batch in batches)
