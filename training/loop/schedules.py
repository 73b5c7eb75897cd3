"""Learning-rate schedules: pure functions of the step. They have no state, so there is nothing to resume.

`step` counts optimizer updates from 0; the value is the learning rate of the update that turns step into step + 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from training.settings.tree import ScheduleConfig


def cosine_between(high: float, low: float, progress: float) -> float:
    """Interpolate from `high` (progress 0) to `low` (progress 1) along half a cosine."""
    return low + 0.5 * (high - low) * (1.0 + math.cos(math.pi * min(1.0, max(0.0, progress))))


def restart_position(epochs_done: float, first: float, factor: float) -> tuple[int, float]:
    """Return (number of restarts so far, progress 0..1 within the current cycle) of warm restarts."""
    if factor == 1.0:
        cycle = int(epochs_done / first + 1e-9)
        return cycle, epochs_done / first - cycle
    # The cycles' lengths are a geometric series: after n cycles first·(factor^n - 1)/(factor - 1) epochs are done.
    cycle = int(math.log(epochs_done / first * (factor - 1.0) + 1.0, factor) + 1e-9)
    start = first * (factor**cycle - 1.0) / (factor - 1.0)
    return cycle, (epochs_done - start) / (first * factor**cycle)


def learning_rate_at(
    config: ScheduleConfig, learning_rate: float, steps_per_epoch: int, total_steps: int
) -> Callable[[int], float]:
    """Return the function step -> learning rate.

    `warm_restarts` is SGDR (Loshchilov & Hutter, arXiv 1608.03983): `restart_epochs` is its T_0, `restart_mult` its
    T_mult. Warm-up rises linearly to the base rate; the schedule itself begins after it.
    """
    base, low, warmup = learning_rate, config.min_lr, config.warmup_steps

    def rate(step: int) -> float:
        if step < warmup:
            return base * (step + 1) / (warmup + 1)
        step -= warmup
        progress = step / max(1, total_steps - warmup)
        match config.schedule:
            case "constant":
                return base
            case "linear":
                return low + (base - low) * (1.0 - min(1.0, progress))
            case "cosine":
                return cosine_between(base, low, progress)
            case "warm_restarts":
                _, in_cycle = restart_position(step / steps_per_epoch, config.restart_epochs, config.restart_mult)
                return cosine_between(base, low, in_cycle)

    return rate
