"""The probe: some samples of the run's own training data, the same for every point of a surface."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch
from torch import nn

from training.machine.seeding import seed_torch
from training.tasks.batch_plan import mix, shuffled
from training.tasks.objective import Batch, Objective

_BATCH = 64
"""Samples of one forward pass, at most."""


class Probe:
    """Fixed samples on which a model's mean loss per token is measured.

    It is measured as in a run's validation, but in the weights' own precision (fp32): in eval mode, without label
    smoothing.

    Args:
        objective: makes the batches and the loss.
        dataset: the dataset that the samples are drawn from.
        num_samples: number of samples at most.
        seed: decides which samples are drawn.
        device: the device that holds the model.
    """

    def __init__(self, objective: Objective, dataset: Any, num_samples: int, seed: int, device: torch.device) -> None:
        chosen = shuffled(len(dataset), mix(seed, len(dataset)))[:num_samples]
        lengths = objective.lengths(dataset)
        rows = sorted((int(i) for i in chosen), key=lambda i: (int(lengths[i]), i))
        parts = [rows[at : at + _BATCH] for at in range(0, len(rows), _BATCH)]
        on_host = [objective.collate([dataset[i] for i in part]) for part in parts]
        self._objective, self._seed, self._device = objective, seed, device
        self._batches = [batch.to(device) for batch in on_host]
        self.num_samples = len(rows)
        self.num_tokens = sum(batch.weight for batch in on_host)
        """Number of tokens that have a loss."""
        self.digest = _digest(on_host)
        """BLAKE2b hash of every tensor."""

    @torch.no_grad()
    def loss(self, model: nn.Module) -> float:
        """Return the mean loss per token, from one forward pass over all samples."""
        model.eval()
        losses = []
        for number, batch in enumerate(self._batches):
            # A loss with random draws has the same ones at every point.
            seed_torch(mix(self._seed, number) >> 1, self._device)
            losses.append(float(self._objective.loss(model, batch).loss))
        return math.fsum(losses) / self.num_tokens


def _digest(batches: list[Batch]) -> str:
    state = hashlib.blake2b(digest_size=16)
    for batch in batches:
        for name, tensor in sorted(batch.tensors.items()):
            state.update(f"{name}{tuple(tensor.shape)}".encode())
            state.update(tensor.contiguous().numpy().data)
    return state.hexdigest()
