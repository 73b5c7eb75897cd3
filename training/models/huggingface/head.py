"""An output head that skips work: logits only at the positions that have a loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

_chosen: Tensor | None = None
"""Positions whose logits the forward pass in progress computes; None: all."""


def choose_in_head(network: Any) -> Any:
    """Let the output head compute logits only at the positions that `logits_at` asks for; return what undoes it.

    A vocabulary has 50,000 to 250,000 entries: logits at positions without a loss, such as those of a prompt, are most
    of the memory of a small model and a large part of its time. A hook works inside of every wrapper (DDP, DeepSpeed,
    PEFT), where an argument of `forward` would not arrive. An adapter of the head must be there before the hook: both
    parts have to see the same positions.
    """
    head = network.get_output_embeddings()
    return head.register_forward_pre_hook(_choose) if isinstance(head, nn.Module) else None


def _choose(head: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
    if _chosen is None:
        return None
    hidden_BTD, *rest = arguments
    return hidden_BTD.reshape(-1, hidden_BTD.shape[-1]).index_select(0, _chosen), *rest


def logits_at(network: Any, tokens_BT: Tensor, positions_N: Tensor, position_ids_BT: Tensor | None = None) -> Tensor:
    """Return the logits (N, V) at chosen positions.

    Args:
        network: a causal language model, in any wrapper.
        tokens_BT: int64 ids, padded on the right: causality keeps padding from what comes before it.
        positions_N: int64 indices into the flattened (B·T) positions.
        position_ids_BT: int64 positions that restart at each packed sample, from which transformers makes a
            block-diagonal mask for each kind of attention layer; None: nothing is packed.
    """
    global _chosen
    packed = {} if position_ids_BT is None else {"position_ids": position_ids_BT}
    _chosen = positions_N
    try:
        logits: Tensor = network(input_ids=tokens_BT, use_cache=False, **packed).logits
    finally:
        _chosen = None
    if logits.ndim == 2:
        return logits
    if logits.ndim == 3 and logits.shape[0] == 1 and logits.shape[1] == len(positions_N) != tokens_BT.numel():
        return logits[0]
    return logits.reshape(-1, logits.shape[-1]).index_select(0, positions_N)  # a network without a head of its own


class WholeText(nn.Module):
    """Network whose only input is tokens (B, T), and whose only output is logits (B, T, V)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Return the logits at every position."""
        logits_BTV: Tensor = self.network(input_ids=tokens_BT, use_cache=False).logits
        return logits_BTV
