"""Optimizer that combines several torch optimizers, for libraries that step a single optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch


class JointOptimizer(torch.optim.Optimizer):
    """Optimizer that steps each of its optimizers in turn.

    It shares their parameter groups, so a learning rate that is set here reaches all of them.

    Args:
        optimizers: optimizers by name, of different parameters.
    """

    def __init__(self, optimizers: Mapping[str, torch.optim.Optimizer]) -> None:
        self.optimizers = dict(optimizers)
        # torch's own constructor would copy the groups; they have to be the same objects.
        self.param_groups = [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]
        self.defaults = {}

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Step every optimizer."""
        if closure is not None:
            raise ValueError("several optimizers cannot share a closure: each would call it")
        for optimizer in self.optimizers.values():
            optimizer.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each optimizer, by its name."""
        return {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state_dict[name])
        self.param_groups = [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]


def joined(optimizers: Mapping[str, torch.optim.Optimizer]) -> torch.optim.Optimizer:
    """Return the optimizer itself if there is only one, else all of them as one."""
    return next(iter(optimizers.values())) if len(optimizers) == 1 else JointOptimizer(optimizers)
