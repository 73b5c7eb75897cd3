"""NEFTune (arXiv 2310.05914): noise on the embeddings while a model is trained."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class Noise:
    """Hook of an embedding that adds uniform noise of magnitude alpha / √(T·D) while training.

    Args:
        alpha: strength.
    """

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha

    def __call__(self, embedding: nn.Module, arguments: Any, output_BTD: Tensor) -> Tensor:
        if not embedding.training:
            return output_BTD
        size = self._alpha / math.sqrt(output_BTD.shape[-2] * output_BTD.shape[-1])
        return output_BTD + torch.empty_like(output_BTD).uniform_(-size, size)


def add_noise(network: Any, alpha: float) -> None:
    """Add the noise to the input embeddings of every pass in training mode, over an adapter that they may have."""
    network.get_input_embeddings().register_forward_hook(Noise(alpha))
