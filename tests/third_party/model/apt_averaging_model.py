"""A model family in one file: the next token is predicted from the running mean of all tokens so far.

torch comes in only when a network is built, so that `--help` and `--list-models` stay quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from training.models.protocol import BaseFamily
from training.settings.tree import ModelOptions

if TYPE_CHECKING:
    from torch import nn


class AveragingOptions(ModelOptions):
    """Options of --model averaging."""

    features: int = Field(32, ge=1, description="Features of an embedding and of the hidden layer.")


class AveragingFamily(BaseFamily):
    """Embedding, running mean with the newest token next to it, one hidden layer, output head."""

    name: ClassVar[str] = "averaging"
    Options: ClassVar[type[ModelOptions]] = AveragingOptions

    def build(self, options: ModelOptions, vocabulary: int | None) -> nn.Module:
        """See `ModelFamily.build`."""
        import torch
        from torch import Tensor, nn

        class Averaging(nn.Module):
            def __init__(self, tokens: int, features: int) -> None:
                super().__init__()
                self.embedding = nn.Embedding(tokens, features)
                self.hidden = nn.Linear(2 * features, features)
                self.head = nn.Linear(features, tokens)

            def forward(self, tokens_BT: Tensor, positions_N: Tensor) -> Tensor:
                x_BTD = self.embedding(tokens_BT)
                counts_T1 = torch.arange(1, x_BTD.shape[1] + 1, device=x_BTD.device).unsqueeze(1)
                seen_BTE = torch.cat([x_BTD, x_BTD.cumsum(dim=1) / counts_T1], dim=-1)
                chosen_NE = seen_BTE.flatten(0, 1)[positions_N]
                logits: Tensor = self.head(self.hidden(chosen_NE).relu())
                return logits

        assert vocabulary is not None
        return Averaging(vocabulary, options.features)
