"""Moving average of the weights in a checkpoint: its place, and the weights that stand for the run. No torch.

`training.loop.weight_average` keeps the average as the state of a callback. A checkpoint has it as
`average.safetensors`, beside the weights in training (`model.safetensors`), from which the run goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CALLBACK = "training.loop.weight_average.WeightAverage"
"""Name of the callback whose state it is, in a checkpoint's `loop.callbacks`."""
WEIGHTS = "weights"
"""Key of the averaged tensors by name in that state."""


def evaluated_weights(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights that stand for a run at a checkpoint: the averaged ones where the run keeps an average.

    Args:
        payload: content of a checkpoint; the average has the trained weights only, all others are the engine's.

    Raises:
        LookupError, TypeError, AttributeError: it is not the content of a checkpoint.
    """
    weights = dict(payload["engine"]["model"])
    average = payload.get("loop", {}).get("callbacks", {}).get(CALLBACK)
    return weights if average is None else {**weights, **average[WEIGHTS]}
