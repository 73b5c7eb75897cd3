"""Sizes, memory and work of an APT in closed form, equal to what building, running and counting gives. No torch.

The terms of a pass follow `apt_model/model.py` line by line; a test compares them with the storages that autograd
really keeps, each counted once. Shape legend as there: B batch, T padded tokens, D d_model, H heads, F d_ff, V
vocabulary, N positions with a loss; M = B·T. On a CPU (and on MPS) an RMSNorm also keeps its normalised input, dropout
keeps its noise in the activation's own width, and attention with dropout stores its T × T matrices; on CUDA these are
fused kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from apt_model.config import ModelConfig
from training.models.cost import FP32, INT64, BatchShape, PassBytes, Shape, elements


class APTCost:
    """`ModelCost` of an APT.

    Args:
        config: shape of the network, including `vocab_size`.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self.shapes: Mapping[str, Shape] = dict(parameter_shapes(config))
        self.matrices = frozenset(
            name
            for name, shape in self.shapes.items()
            if name.startswith("blocks.") and len(shape) == 2 and not name.endswith(CONTROLS)
        )
        self.frozen = self.unsaved = frozenset[str]()
        self.buffers = 2 * config.max_seq_len * config.head_dim * FP32  # rotary cosines and sines

    def pass_bytes(self, batch: BatchShape, *, half: bool, on_cuda: bool, checkpointing: bool) -> PassBytes:
        """See `ModelCost.pass_bytes`."""
        config, layers = self._config, self._config.num_layers
        found = activations(config, batch, half=half, on_cuda=on_cuda)
        if not checkpointing:
            return PassBytes(found.kept(layers) + found.backward, found.block)
        # Each block keeps its input; the backward pass recomputes one block at a time, with its own casts.
        inputs = layers * batch.padded_tokens * config.d_model * FP32
        again = max(found.block if layers > 1 else 0, found.last_block) + found.casts // max(1, layers)
        peak = inputs + found.ends + max(found.casts, again + found.backward)
        # Freed memory of one block does not fit the next one's gradients, so that of two blocks remains.
        return PassBytes(peak, 2 * found.block)

    def work(self, batch: BatchShape) -> float:
        """See `ModelCost.work`: two operations for each weight and token that meet, and attention's products.

        The last feed-forward layer and the head work on the N positions with a loss alone.
        """
        config = self._config
        tokens, positions = batch.padded_tokens, batch.positions
        width, layers = config.d_model, config.num_layers
        projections = 2.0 * 4 * width * width
        feed_forward = 2.0 * 3 * width * config.d_ff
        attention = 2.0 * 2 * batch.width * width / 2  # causal attention: half of all pairs
        head = 2.0 * width * (config.vocab_size or 0)
        return tokens * (layers * (projections + attention) + (layers - 1) * feed_forward) + positions * (
            feed_forward + head
        )


CONTROLS = "attention.self_control.weight"
"""Name suffix of the controls of autopoietic attention: they start at zero, one row per head, and stay with AdamW."""


def block_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Return name -> shape of one block's parameters; all blocks are equal."""
    width, inner = config.d_model, config.d_ff
    shapes: dict[str, Shape] = {
        "attention_norm.weight": (width,),
        "attention.qkv.weight": (3 * width, width),
        "attention.out.weight": (width, width),
        "feed_forward_norm.weight": (width,),
        "feed_forward.gate.weight": (inner, width),
        "feed_forward.up.weight": (inner, width),
        "feed_forward.down.weight": (width, inner),
    }
    if config.attention == "autopoietic":
        shapes[CONTROLS] = (2 * config.num_heads, width)
    return shapes


def outer_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Return name -> shape of the parameters before and after the blocks. `config.vocab_size` must be set."""
    assert config.vocab_size is not None
    table = (config.vocab_size, config.d_model)
    shapes: dict[str, Shape] = {"embedding.weight": table, "norm.weight": (config.d_model,)}
    if not config.tie_embeddings:
        shapes["head.weight"] = table
    return shapes


def parameter_shapes(config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    """Yield (name, shape) of every parameter of an APT, a tied head once."""
    yield from outer_shapes(config).items()
    for layer in range(config.num_layers):
        for name, shape in block_shapes(config).items():
            yield f"blocks.{layer}.{name}", shape


class ParameterCounts(NamedTuple):
    """Trained numbers of a model, by how optimizers treat them."""

    tables: int
    """Numbers in the embedding, and in the head unless it is tied."""
    hidden: int
    """Numbers in matrices between hidden features, which Muon trains."""
    controls: int
    """Numbers in temperatures and gates of autopoietic attention."""
    norms: int

    @property
    def total(self) -> int:
        """Return the number of all parameters."""
        return sum(self)


def count_parameters(config: ModelConfig) -> ParameterCounts:
    """Count the parameters of an APT of this shape. `config.vocab_size` must be set."""
    outer, block, layers = outer_shapes(config), block_shapes(config), config.num_layers
    norms = sum(elements(shape) for shape in block.values() if len(shape) == 1)
    controls = elements(block.get(CONTROLS, (0,)))
    return ParameterCounts(
        tables=sum(elements(shape) for shape in outer.values() if len(shape) == 2),
        hidden=layers * (sum(map(elements, block.values())) - norms - controls),
        controls=layers * controls,
        norms=layers * norms + config.d_model,
    )


class Activations(NamedTuple):
    """Bytes of one forward and backward pass, in addition to weights and their gradients."""

    block: int
    """Bytes that each block but the last keeps."""
    last_block: int
    """Bytes that the last block keeps: its feed-forward layer works on N positions only."""
    ends: int
    """Bytes of embedding, final norm, head, loss and the batch itself."""
    casts: int
    """Bytes of the 16-bit copies of the weights, which autocast makes in each forward pass."""
    backward: int
    """Largest number of bytes that a block's backward pass needs for gradients of activations."""

    def kept(self, num_layers: int) -> int:
        """Return the bytes alive at the end of a forward pass."""
        return (num_layers - 1) * self.block + self.last_block + self.ends + self.casts


def activations(config: ModelConfig, batch: BatchShape, *, half: bool, on_cuda: bool) -> Activations:
    """Compute the bytes that a pass over `batch` keeps.

    Args:
        config: shape of the network, including `vocab_size`.
        batch: shape of the micro-batch.
        half: bf16 or fp16 autocast; else fp32.
        on_cuda: fused kernels of CUDA, see the module's docstring.
    """
    narrow = 2 if half else FP32  # the width in which a linear layer computes
    B, T, N = batch
    M, D, H = batch.padded_tokens, config.d_model, config.num_heads
    V = config.vocab_size or 0
    attention = M * _attention_bytes(config, narrow, on_cuda)
    if config.dropout and not on_cuda:
        attention += 3 * B * H * T * T * FP32 - M * H * FP32  # probabilities, noise and their product; no log-sum-exp
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
    """Compute bytes per token: the input, the reciprocal root of its mean square, and on a CPU their product. fp32."""
    return (width if on_cuda else 2 * width) * FP32 + FP32


def _attention_bytes(config: ModelConfig, narrow: int, on_cuda: bool) -> int:
    """Compute bytes per token: norm, projections, rotation, attention, output projection."""
    D, H = config.d_model, config.num_heads
    half, dropout = narrow != FP32, config.dropout > 0.0
    attends_in = narrow if on_cuda else FP32  # `Attention.forward` explains why
    size = _norm_bytes(D, on_cuda)
    size += D * narrow  # the normed input, as the projection reads it
    size += 2 * D * attends_in  # queries and keys
    size += H * FP32  # log-sum-exp
    if on_cuda or not (half or (dropout and H > 1)):
        size += 3 * D * narrow  # values: a view that keeps the unrotated queries and keys alive
    else:
        size += D * FP32  # values, converted or copied head by head
    if config.attention == "autopoietic":
        size += D * FP32  # queries before their temperature
        size += 2 * (2 * H * narrow)  # the sigmoid and twice the sigmoid
        size += D * narrow if half else 0  # the normed input is converted a second time, for the controls
        size += D * attends_in  # attention's output, which the gate multiplies
        size += D * narrow  # its gated form, as the output projection reads it
    else:
        size += D * narrow  # attention's output, as the output projection reads it
        if (half and not dropout) or (half and on_cuda):
            size += D * attends_in  # attention's own copy of its output
    if dropout:
        size += D * (1 if on_cuda else narrow)
    return size


def _feed_forward_bytes(config: ModelConfig, narrow: int, on_cuda: bool) -> int:
    """Compute bytes per token: norm, SwiGLU."""
    D = config.d_model
    size = _norm_bytes(D, on_cuda)
    size += D * narrow * (2 if narrow != FP32 else 1)  # the normed input: converted for gate and for up
    size += 4 * config.d_ff * narrow  # gate, its silu, up, their product
    if config.dropout:
        size += D * (1 if on_cuda else narrow)
    return size
