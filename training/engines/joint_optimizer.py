"""Several torch optimizers behind the interface of one, for libraries that step a single optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch


class JointOptimizer(torch.optim.Optimizer):
    """Steps each of its optimizers in turn. Their parameter groups are its own, so a learning rate reaches all.

    Args:
        optimizers: by name, of different parameters.
    """

    def __init__(self, optimizers: Mapping[str, torch.optim.Optimizer]) -> None:
        self.optimizers = dict(optimizers)
        # torch's own constructor would copy the groups; these are to be the same objects.
        self.param_groups = [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]
        self.defaults = {}

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every optimizer."""
        if closure is not None:
            raise ValueError("several optimizers cannot share a closure: each would call it")
        for optimizer in self.optimizers.values():
            optimizer.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The state of each, by its name."""
        return {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`."""
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state_dict[name])
        self.param_groups = [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]


def joined(optimizers: Mapping[str, torch.optim.Optimizer]) -> torch.optim.Optimizer:
    """The optimizer itself where there is one, else all of them as one."""
    return next(iter(optimizers.values())) if len(optimizers) == 1 else JointOptimizer(optimizers)
