"""Proof on a built network, in two or three short passes: no token sees what comes after it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from training.errors import ConfigError, printable
from training.models.huggingface.head import choose_in_head, logits_at
from training.models.transformers_library import reason_of

PROOF_TOKENS = 8
"""Tokens of the row by which a network is examined; the second half is changed."""
TOLERANCE = 1e-4
"""Largest difference that rounding may make, as a share of the largest logit."""


def prove_causal(network: Any, where: str) -> None:
    """Refuse a network whose tokens see the next one, such as an encoder: it would learn to copy, with a loss near 0.

    The output head gets its hook here; a network whose own code cannot do with a part of the positions goes without.

    Args:
        network: with its final weights, on any device that it runs on.
        where: what the user named; begins the error line.

    Raises:
        ConfigError: a later token changes earlier logits, the network cannot read a row, or its numbers are not finite.
    """
    was_training, half = network.training, PROOF_TOKENS // 2
    device = network.get_input_embeddings().weight.device
    rows = network.get_input_embeddings().weight.shape[0]
    row_T = torch.arange(PROOF_TOKENS, device=device) * 7 % max(rows - 1, 1)
    other_T = row_T.clone()
    other_T[half:] = (row_T[half:] + 3) % max(rows - 1, 1)
    network.eval()
    try:
        with torch.no_grad(), _kernels_of_any_device(network):
            full_TV, other_TV = (network(input_ids=tokens_T[None], use_cache=False).logits[0].float()
                                 for tokens_T in (row_T, other_T))  # fmt: skip
            scale = float(full_TV.abs().max())
            seen = float((full_TV[:half] - other_TV[:half]).abs().max())
            _choose_where_it_works(network, row_T, full_TV, TOLERANCE * scale)
    except Exception as error:  # of the network, whose code may be anybody's
        raise ConfigError(f"{where}: the network cannot read a row of tokens ({reason_of(error)})") from error
    finally:
        network.train(was_training)
    if not torch.isfinite(full_TV).all():
        raise ConfigError(
            f"{where}: the network's output is not finite: its weights hold NaN or infinity; copy it again"
        )
    if seen > TOLERANCE * scale:
        kind = printable(getattr(network.config, "model_type", type(network).__name__))
        raise ConfigError(
            f"{where}: in this network ({kind}) each token sees those after it, so that predicting the next one would "
            "be copying; choose a decoder (for BERT and its like: is_decoder in config.json)"
        )


@contextlib.contextmanager
def _kernels_of_any_device(network: Any) -> Iterator[None]:
    """Replace flash attention, which needs a GPU and half precision, while a block runs."""
    kernels = getattr(network.config, "_attn_implementation", None)
    if not (isinstance(kernels, str) and kernels.startswith("flash")):
        yield
        return
    network.set_attn_implementation("eager")
    try:
        yield
    finally:
        network.set_attn_implementation(kernels)


def _choose_where_it_works(network: Any, row_T: torch.Tensor, full_TV: torch.Tensor, tolerance: float) -> None:
    hook = choose_in_head(network)
    if hook is None:
        return
    positions_N = torch.tensor([1, PROOF_TOKENS - 2], device=row_T.device)
    try:
        some_NV = logits_at(network, row_T[None], positions_N).float()
        same = (
            some_NV.shape == (2, full_TV.shape[-1]) and float((some_NV - full_TV[positions_N]).abs().max()) <= tolerance
        )
    except (RuntimeError, IndexError, ValueError):
        same = False
    if not same and torch.isfinite(full_TV).all():
        hook.remove()
