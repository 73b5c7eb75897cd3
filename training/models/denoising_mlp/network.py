"""Residual network of linear layers that takes noise out of vectors."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

LONGEST_PERIOD = 10_000.0
"""Longest period of the time's sines, over 2π: longer than any number of noise levels."""


def sinusoids(values_N: Tensor, width: int) -> Tensor:
    """Return sines and cosines of numbers, (N, width), at periods from 2π to 2π · 10,000 (arXiv 1706.03762, §3.5)."""
    count = width // 2
    exponents_H = torch.arange(count, device=values_N.device, dtype=torch.float32) / max(1, count - 1)
    angles_NH = values_N.float().unsqueeze(1) * torch.exp(-math.log(LONGEST_PERIOD) * exponents_H)
    return torch.cat([angles_NH.sin(), angles_NH.cos()], dim=1)


class Block(nn.Module):
    """Residual block: norm, linear, the level's features added, linear.

    Args:
        width: features of input and output.
        dropout: share of the inner features that is dropped in training.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.level = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        self.dropout = dropout

    def forward(self, x_NW: Tensor, level_NW: Tensor) -> Tensor:
        """Return the features (N, W) after this block."""
        inner_NW = F.silu(self.first(self.norm(x_NW)) + self.level(level_NW))
        inner_NW = F.dropout(inner_NW, self.dropout, self.training)
        result: Tensor = x_NW + self.second(inner_NW)
        return result


class DenoisingMLP(nn.Module):
    """Network that reads noisy vectors, their noise level and their class.

    Args:
        size: length of a vector, D.
        classes: number of classes; 0: it reads none.
        width: features of each layer, W.
        num_blocks: residual blocks.
        input_frequencies: octaves of sines and cosines of each value.
        dropout: share of features that is dropped in training.
    """

    def __init__(
        self, size: int, classes: int, width: int, num_blocks: int, input_frequencies: int, dropout: float
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.input_frequencies, self.width = input_frequencies, width
        self.read = nn.Linear(size * (1 + 2 * input_frequencies), width)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.classes = nn.Embedding(classes + 1, width) if classes else None  # the last one: no class
        self.blocks = nn.ModuleList([Block(width, dropout) for _ in range(num_blocks)])
        self.norm = nn.LayerNorm(width)
        self.write = nn.Linear(width, size)

    def forward(self, sample_ND: Tensor, time_N: Tensor, labels_N: Tensor | None = None) -> Tensor:
        """Return the output (N, D) for noisy vectors (N, D) at noise levels `time` (N,)."""
        level_NW = self.time(sinusoids(time_N, self.width))
        if self.classes is not None:
            assert labels_N is not None, "a network that knows classes needs labels; the last one means no class"
            level_NW = level_NW + self.classes(labels_N)
        level_NW = F.silu(level_NW)
        octaves = [sample_ND * 2.0**octave for octave in range(self.input_frequencies)]
        x_NW = self.read(torch.cat([sample_ND, *(f(o) for o in octaves for f in (torch.sin, torch.cos))], dim=1))
        for block in self.blocks:
            if self.gradient_checkpointing and self.training:
                x_NW = checkpoint(block, x_NW, level_NW, use_reentrant=False)
            else:
                x_NW = block(x_NW, level_NW)
        output: Tensor = self.write(F.silu(self.norm(x_NW)))
        return output
