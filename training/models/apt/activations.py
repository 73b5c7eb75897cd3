"""Bytes that a forward pass keeps for the backward pass, in closed form. No torch.

The terms follow `apt_model/model.py` line by line; a test counts what autograd really holds on to (each storage once)
and compares. Shape legend as there: B batch, T padded tokens, D d_model, H heads, F d_ff, V vocabulary, N positions
with a loss; M = B·T. On a CPU (and on MPS) an RMSNorm also keeps its normalised input, dropout keeps its noise in the
activation's own width, and attention with dropout spells its T × T matrices out; on CUDA these are fused kernels.
"""

from __future__ import annotations

from typing import NamedTuple

from apt_model.config import ModelConfig
from training.models.apt.size import block_shapes, elements, outer_shapes

FP32 = 4
INT64 = 8


class BatchShape(NamedTuple):
    """One forward pass of a rank: a micro-batch."""

    samples: int
    """B."""
    width: int
    """T: tokens of the longest sample, less the last one; what the others lack is padding."""
    positions: int
    """N: tokens with a loss."""

    @property
    def padded_tokens(self) -> int:
        """M = B·T."""
        return self.samples * self.width


class Activations(NamedTuple):
    """Bytes of one forward and backward pass, beside weights and gradients."""

    block: int
    """What one block keeps, but the last."""
    last_block: int
    """The last block's feed-forward layer works on N positions only."""
    ends: int
    """Embedding, final norm, head, loss; the batch itself."""
    casts: int
    """16-bit copies of the weights, which autocast makes in each forward pass."""
    backward: int
    """Most that a block's backward pass needs for gradients of activations, beside what was kept."""

    def kept(self, num_layers: int) -> int:
        """Bytes alive at the end of a forward pass."""
        return (num_layers - 1) * self.block + self.last_block + self.ends + self.casts


def activations(config: ModelConfig, batch: BatchShape, *, half: bool, on_cuda: bool) -> Activations:
    """What a pass over `batch` keeps.

    Args:
        config: with `vocab_size` set.
        batch: shape of the micro-batch.
        half: bf16 or fp16 autocast; else fp32.
        on_cuda: fused kernels, see above.
    """
    narrow = 2 if half else FP32  # what a linear layer computes in
    B, T, N = batch
    M, D, H = batch.padded_tokens, config.d_model, config.num_heads
    V = config.vocab_size or 0
    attention = M * _attention_bytes(config, narrow, on_cuda)
    if config.dropout and not on_cuda:
        attention += 3 * B * H * T * T * FP32 - M * H * FP32  # probabilities, noise, their product; no log-sum-exp
    feed_forward = _feed_forward_bytes(config, narrow, on_cuda)
    norm = _norm_bytes(D, on_cuda)
    ends = M * INT64 + N * 2 * INT64 + FP32  # tokens, positions, targets; the sum of the loss
    ends += N * (norm + D * narrow + V * FP32)  # final norm, the head's input, log-probabilities
    if config.dropout:
        ends += M * D * (1 if on_cuda else FP32)
    matrices = sum(elements(shape) for shape in block_shapes(config).values() if len(shape) == 2)
    casts = (config.num_layers * matrices + elements(outer_shapes(config)["embedding.weight"])) * narrow if half else 0
    # Gradients of gate, up and their product (F each), of the normed input and the residual stream (D each).
    backward = max(M * (3 * config.d_ff * narrow + 3 * D * FP32), N * 2 * V * FP32)
    return Activations(
        block=attention + M * feed_forward,
        last_block=attention + N * feed_forward,
        ends=ends,
        casts=casts,
        backward=backward,
    )


def _norm_bytes(width: int, on_cuda: bool) -> int:
    """Per token: the input, the reciprocal root of its mean square, and on a CPU their product too. fp32."""
    return (width if on_cuda else 2 * width) * FP32 + FP32


def _attention_bytes(config: ModelConfig, narrow: int, on_cuda: bool) -> int:
    """Per token: norm, projections, rotation, attention, output projection."""
    D, H = config.d_model, config.num_heads
    half, dropout = narrow != FP32, config.dropout > 0.0
    attends_in = narrow if on_cuda else FP32  # `Attention.forward` says why
    size = _norm_bytes(D, on_cuda)
    size += D * narrow  # the normed input, as the projection reads it
    size += 2 * D * attends_in  # queries and keys
    size += H * FP32  # log-sum-exp
    if on_cuda or not (half or (dropout and H > 1)):
        size += 3 * D * narrow  # values: a view that keeps queries and keys before the rotation alive
    else:
        size += D * FP32  # values, converted, or copied head by head
    if config.attention == "autopoietic":
        size += D * FP32  # queries before their temperature
        size += 2 * (2 * H * narrow)  # sigmoid and its double
        size += D * narrow if half else 0  # the normed input is converted a second time, for the controls
        size += D * attends_in  # attention's output, which the gate multiplies
        size += D * narrow  # gated, as the output projection reads it
    else:
        size += D * narrow  # attention's output, as the output projection reads it
        if (half and not dropout) or (half and on_cuda):
            size += D * attends_in  # attention's own copy of it
    if dropout:
        size += D * (1 if on_cuda else narrow)
    return size


def _feed_forward_bytes(config: ModelConfig, narrow: int, on_cuda: bool) -> int:
    """Per token: norm, SwiGLU."""
    D = config.d_model
    size = _norm_bytes(D, on_cuda)
    size += D * narrow * (2 if narrow != FP32 else 1)  # the normed input: converted for gate and for up
    size += 4 * config.d_ff * narrow  # gate, its silu, up, their product
    if config.dropout:
        size += D * (1 if on_cuda else narrow)
    return size
