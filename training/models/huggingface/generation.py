"""Generation with a causal language model of transformers, one token at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def stream(
    model: nn.Module, tokens: Sequence[int], max_new_tokens: int, choose: Callable[[Tensor], int]
) -> Iterator[int]:
    """Yield new tokens after a prompt, with the key-value cache of transformers.

    Args:
        model: in any mode; it runs in eval mode and is switched back afterwards.
        tokens: ids of the prompt, one or more.
        max_new_tokens: limit.
        choose: function from the logits (V,) in fp32 to the next token.
    """
    network: Any = model
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        read, cache = torch.tensor([list(tokens)], device=device), None
        for _ in range(max_new_tokens):
            with torch.inference_mode():
                output = network(input_ids=read, past_key_values=cache, use_cache=True)
                token = choose(output.logits[0, -1].float())
            cache = output.past_key_values
            yield token
            read = torch.tensor([[token]], device=device)
    finally:
        model.train(was_training)
