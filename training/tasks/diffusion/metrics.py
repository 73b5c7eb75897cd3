"""Metrics of diffusion: the held-out loss in bands of noise levels. No torch."""

from __future__ import annotations

from training.tasks.metrics import Metric


def band_name(number: int) -> str:
    """Return the key of a band's loss in the record; bands are counted from 1, the least noise."""
    return f"loss_band_{number}"


def band_metrics(count: int) -> tuple[Metric, ...]:
    """Return the metrics of so many bands; of a single one none, for it is the loss itself."""
    if count == 1:
        return ()
    return tuple(Metric(band_name(n), f"Noise {n}", "lower", at="evaluation") for n in range(1, count + 1))
