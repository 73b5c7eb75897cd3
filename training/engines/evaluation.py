"""Measuring without training, over all ranks: what every engine does alike, but for its forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from training.engines.results import EvaluationResult
from training.machine.ranks import Ranks
from training.tasks.protocol import Batch, LossSum


@torch.no_grad()
def evaluate_with(forward: Callable[[Batch], LossSum], batches: Iterable[Batch], ranks: Ranks) -> EvaluationResult:
    """The means over all ranks' batches. Collective.

    Args:
        forward: a batch on the device -> its summed loss; the model is in evaluation mode.
        batches: this rank's, on the CPU; those of weight 0 only take part.
        ranks: the processes, and the device of this one.
    """
    sums = torch.zeros(2, dtype=torch.float64)
    own_weight = 0
    for batch in batches:
        result = forward(batch.to(ranks.device))
        if batch.weight:
            sums += torch.stack([result.loss.double(), result.correct.double()]).cpu()
        own_weight += batch.weight
    loss_sum, num_right, weight = ranks.total([*sums.tolist(), own_weight])
    return EvaluationResult(loss_sum / max(1.0, weight), num_right / max(1.0, weight), int(weight))
