"""Evaluation over all ranks: the same for every engine except the forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from training.engines.results import EvaluationResult, FigureSums
from training.machine.ranks import Ranks
from training.machine.seeding import seed_torch
from training.tasks.objective import Batch, LossSum


@torch.no_grad()
def evaluate_with(forward: Callable[[Batch], LossSum], batches: Iterable[Batch], ranks: Ranks) -> EvaluationResult:
    """Average loss and metrics over all ranks' batches. Collective.

    Each batch is seeded, so that a loss with random draws gives the same figure for the same weights, every time.

    Args:
        forward: computes the summed loss of a batch on the device; the model is in evaluation mode.
        batches: batches of this rank, on the CPU; one of weight 0 adds nothing.
        ranks: the processes, and the device of this one.
    """
    sums = FigureSums(torch.device("cpu"), torch.float64)
    own_weight = 0
    for batch in batches:
        seed_torch(batch.seed, ranks.device)
        result = forward(batch.to(ranks.device))
        on_host = LossSum(result.loss.double().cpu(), {name: s.double().cpu() for name, s in result.sums.items()})
        sums.add(on_host, batch.weight)
        own_weight += batch.weight
    *totals, weight = ranks.total([*sums.stacked().tolist(), own_weight])
    loss, metrics = sums.means(totals, max(1.0, weight))
    return EvaluationResult(loss, int(weight), metrics)
