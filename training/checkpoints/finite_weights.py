"""Weights that are not finite: a run that has diverged ends before they take the place of good ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch

from training.errors import UserError

REMEDY = (
    "start again with a lower --learning-rate, more --warmup-steps or --precision fp32, or look at the data (a resumed "
    "run repeats these updates)"
)


def refuse_not_finite(weights: Mapping[str, Any], parameters: Collection[str], what: str) -> None:
    """Refuse a model with a weight that is infinite or not a number.

    Args:
        weights: the model's state by name.
        parameters: names of those that are trained; a constant of the model may be infinite, such as a mask.
        what: begins the error line, and says what the weights are of and what is not done with them.

    Raises:
        UserError: names the first such weight.
    """
    for name, tensor in weights.items():
        if name in parameters and not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{what}: the weights are not finite ({name}), the run has diverged; {REMEDY}")
