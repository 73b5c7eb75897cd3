"""Choice of the next token: the most probable one, or one drawn at random from a seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from training.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """Settings of the choice."""

    temperature: float = 0.0
    """Divisor of the logits before the draw; 0: always the most probable token."""
    top_p: float = 1.0
    """Share of the probability from whose most probable tokens one is drawn (nucleus sampling, arXiv 1904.09751)."""
    seed: int = 0


class Chooser:
    """Function from the logits (V,) after a text to the next token. The same seed draws the same tokens in turn.

    Args:
        sampling: settings.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._generator = torch.Generator().manual_seed(sampling.seed)  # the CPU's: the same draws on every device

    def __call__(self, logits_V: Tensor) -> int:
        """Return the id of the next token.

        Raises:
            UserError: the logits are not finite numbers.
        """
        best, token = logits_V.max(dim=0)
        if not math.isfinite(float(best)):
            raise UserError("the model's logits are not finite numbers; take an earlier checkpoint")
        if self._sampling.temperature == 0.0:
            return int(token)
        # The best logit becomes 0, so that the lowest temperature overflows nothing.
        scaled_V = (logits_V.detach().cpu().double() - float(best)) / self._sampling.temperature
        sorted_V, ids_V = scaled_V.softmax(dim=0).sort(descending=True, stable=True)
        before_V = sorted_V.cumsum(dim=0) - sorted_V
        kept = max(1, int((before_V < self._sampling.top_p).sum()))
        cumulative_V = sorted_V[:kept].cumsum(dim=0)
        draw = torch.rand((), generator=self._generator, dtype=torch.float64) * cumulative_V[-1]
        return int(ids_V[min(int(torch.searchsorted(cumulative_V, draw, right=True)), kept - 1)])
