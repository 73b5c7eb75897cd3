"""Search for the nearest settings with which a run fits into memory and the curve stays the same. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from training.backends.placement import wider_layouts
from training.machine.units import as_size
from training.settings.tree import TrainingConfig


def nearest_fit(config: TrainingConfig, needed: Callable[[TrainingConfig], int], available: int) -> str:
    """Return advice on a run that does not fit, as the end of a sentence.

    Smaller micro-batches come first: they cost the least time. Then come recomputed activations, then both; with
    DeepSpeed also higher ZeRO stages and offload, with and without these.

    Args:
        config: the settings that do not fit.
        needed: function from settings to bytes.
        available: free bytes.
    """
    least: tuple[int, str] | None = None
    for other, flags in _changes(config):
        size = needed(other)
        if size <= available:
            return f"{flags} needs {as_size(size)} and gives the same curve"
        if least is None or size < least[0]:
            least = (size, flags)
    if least is None or least[0] >= needed(config):
        return "no setting with the same curve needs less; train a smaller model, or use a machine with more memory"
    return (
        f"the smallest need with the same curve is {as_size(least[0])} ({least[1]}); train a smaller model, or use a "
        "machine with more memory"
    )


def _changes(config: TrainingConfig) -> Iterator[tuple[TrainingConfig, str]]:
    """Yield (settings, flags that set them), the nearest first."""
    for sharded, sharding_flags in ((config, ""), *wider_layouts(config)):
        if sharding_flags:
            yield sharded, sharding_flags.strip()
        for checkpointing in (False, True):
            if checkpointing and config.run.gradient_checkpointing:
                continue
            other, flags = sharded, sharding_flags
            if checkpointing:
                other = _with(other, "run", gradient_checkpointing=True)
                flags += " --gradient-checkpointing"
                yield other, flags.strip()
            for size in _smaller_batches(config.run.batch_size):
                yield _with_batch_size(other, size), f"{flags}{_batch_flags(config, size)}".strip()


def _smaller_batches(size: int) -> Iterator[int]:
    while size > 1:
        size = (size + 1) // 2
        yield size


def _with_batch_size(config: TrainingConfig, size: int) -> TrainingConfig:
    total = config.run.samples_per_update
    return _with(config, "run", batch_size=size, global_batch_size=total, gradient_accumulation_steps=None)


def _batch_flags(config: TrainingConfig, size: int) -> str:
    flags = f" --batch-size {size}"
    if config.run.global_batch_size is None:
        flags += f" --global-batch-size {config.run.samples_per_update}"
    return flags + (" --gradient-accumulation-steps none" if config.run.gradient_accumulation_steps else "")


def _with(config: TrainingConfig, section: str, **changes: Any) -> TrainingConfig:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=changes)})
