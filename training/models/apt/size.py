"""Sizes of a model's parts from its settings alone: as if it were built and counted. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from apt_model.config import ModelConfig

Shape = tuple[int, ...]


def block_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Name -> shape of one block's parameters; all blocks are alike."""
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
        shapes["attention.self_control.weight"] = (2 * config.num_heads, width)
    return shapes


def outer_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Name -> shape of what stands before and after the blocks. `config.vocab_size` must be set."""
    assert config.vocab_size is not None
    table = (config.vocab_size, config.d_model)
    shapes: dict[str, Shape] = {"embedding.weight": table, "norm.weight": (config.d_model,)}
    if not config.tie_embeddings:
        shapes["head.weight"] = table
    return shapes


def parameter_shapes(config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    """(name, shape) of every parameter of an APT, a tied head once."""
    yield from outer_shapes(config).items()
    for layer in range(config.num_layers):
        for name, shape in block_shapes(config).items():
            yield f"blocks.{layer}.{name}", shape


class ParameterCounts(NamedTuple):
    """Numbers that a model trains, by what optimizers make of them."""

    tables: int
    """Embedding, and the head where it is not tied."""
    hidden: int
    """Matrices between hidden features: Muon's."""
    controls: int
    """Temperatures and gates of autopoietic attention."""
    norms: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


def elements(shape: Shape) -> int:
    """Numbers in a tensor of this shape."""
    product = 1
    for size in shape:
        product *= size
    return product


def count_parameters(config: ModelConfig) -> ParameterCounts:
    """The counts of an APT of this shape. `config.vocab_size` must be set."""
    outer, block, layers = outer_shapes(config), block_shapes(config), config.num_layers
    norms = sum(elements(shape) for shape in block.values() if len(shape) == 1)
    controls = elements(block.get("attention.self_control.weight", (0,)))
    return ParameterCounts(
        tables=sum(elements(shape) for shape in outer.values() if len(shape) == 2),
        hidden=layers * (sum(map(elements, block.values())) - norms - controls),
        controls=layers * controls,
        norms=layers * norms + config.d_model,
    )
