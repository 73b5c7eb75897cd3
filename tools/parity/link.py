"""The links of the chain that one optimizer update is, in causal order: each is computed from those before it."""

from __future__ import annotations

from enum import StrEnum


class Link(StrEnum):
    """What can differ first. Once one differs, everything behind it does, at this update and at all later ones."""

    START = "start"
    """The weights before the first update: the checkpoint was read otherwise."""
    DATA = "data"
    """The samples of the global batch."""
    LOSS = "loss"
    """Same samples, same weights: the forward pass, or what the loss is divided by."""
    GRADIENT = "gradient"
    """Same loss: the backward pass, accumulation, or averaging over ranks."""
    SCHEDULE = "schedule"
    """Same gradient: the learning rate."""
    UPDATE = "update"
    """Same gradient and rate: clipping, moments, betas, weight decay."""
