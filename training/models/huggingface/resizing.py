"""New rows of an embedding, and of the head, for tokens that a model has not seen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def resize(network: Any, rows: int) -> bool:
    """Give embedding and head at least so many rows; return True if there are new ones.

    A new row is the mean of the old ones: a random one would be answered by large, arbitrary logits at first, and would
    be another one in each process that reads the model.
    """
    old: int = network.get_input_embeddings().num_embeddings
    if old >= rows:
        return False
    network.resize_token_embeddings(rows, mean_resizing=False)
    first, last = network.get_input_embeddings(), network.get_output_embeddings()
    _fill(first.weight, old)
    if last is not None and last.weight is not first.weight:
        _fill(last.weight, old)
    if isinstance(getattr(last, "bias", None), nn.Parameter):
        _fill(last.bias, old)
    return True


def _fill(table: Tensor, old: int) -> None:
    with torch.no_grad():
        table[old:] = table[:old].mean(dim=0)
