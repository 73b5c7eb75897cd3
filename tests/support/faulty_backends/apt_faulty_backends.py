"""Backends with one fault each, as real ones have had them: what tools/check_training_backends.py must catch and name.

Each is the playground backend with a broken engine (faulty_engines.py), or with a broken part in the training loop
(faulty_parts.py). The docstrings say where such a fault was seen, or how it comes about.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import Any, ClassVar
from unittest import mock

from training.backends.protocol import RunRequest, RunResult
from training.settings.section import Section
from training.train_hlbd_playground import PlaygroundBackend


def _load(target: str) -> Any:
    """`module:name`, imported only when a run begins: torch comes with it."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


class NoOptions(Section):
    """None of these backends has options of its own."""


class FaultyBackend(PlaygroundBackend):
    """The playground backend with an engine, and parts of the loop, from elsewhere."""

    name: ClassVar[str]
    Options: ClassVar[type[Section]] = NoOptions
    preset: ClassVar[str | None] = None
    engine: ClassVar[str] = "training.engines.torch_engine:TorchEngine"
    parts: ClassVar[dict[str, str]] = {}
    """Name in training.loop.trainer -> what stands there instead."""

    def run(self, request: RunRequest) -> RunResult:
        """Train, with the fault."""
        from training.machine.device import pick_device
        from training.machine.ranks import Ranks
        from training.run import run_task

        ranks = Ranks.join(pick_device("auto"))
        engine = _load(self.engine)
        with contextlib.ExitStack() as stack:
            for name, target in self.parts.items():
                stack.enter_context(mock.patch(f"training.loop.trainer.{name}", _load(target)))
            result = run_task(request, ranks, lambda model, config, family: engine(model, config, ranks, family))
        ranks.leave()
        return result


class OtherOrder(FaultyBackend):
    """The batches are right, their order is not: a sampler of its own."""

    name = "other_order"
    parts: ClassVar = {"BatchPlan": "faulty_parts:OtherOrder"}


class Reshuffled(FaultyBackend):
    """Shuffled with another seed: a data loader that draws its own."""

    name = "reshuffled"
    parts: ClassVar = {"BatchPlan": "faulty_parts:Reshuffled"}


class PaddedLastBatch(FaultyBackend):
    """The last batch of an epoch is filled up with samples that had their turn (accelerate's `even_batches`)."""

    name = "padded_last_batch"
    parts: ClassVar = {"BatchPlan": "faulty_parts:PaddedLastBatch"}


class ScheduleAhead(FaultyBackend):
    """The scheduler is stepped before the optimizer."""

    name = "schedule_ahead"
    parts: ClassVar = {"learning_rate_at": "faulty_parts:one_step_ahead"}


class MeanOfMeans(FaultyBackend):
    """Loss and gradient are averaged over micro-batches, whatever their number of tokens (transformers #34191)."""

    name = "mean_of_means"
    engine = "faulty_engines:MeanOfMeans"


class MeanOfMeansUnseen(FaultyBackend):
    """The same in the gradient only: the loss that is told is right."""

    name = "mean_of_means_unseen"
    engine = "faulty_engines:MeanOfMeansUnseen"


class HalfPrecision(FaultyBackend):
    """It computes in bf16, whatever it was told."""

    name = "half_precision"
    engine = "faulty_engines:HalfPrecision"


class SummedOverRanks(FaultyBackend):
    """Gradients are summed over the ranks, and nothing divides by their number."""

    name = "summed_over_ranks"
    engine = "faulty_engines:SummedOverRanks"


class RanksApart(FaultyBackend):
    """Gradients are never exchanged: each rank learns alone (`no_sync` around the whole update)."""

    name = "ranks_apart"
    engine = "faulty_engines:RanksApart"


class Uncleared(FaultyBackend):
    """The gradient of the update before is not cleared."""

    name = "uncleared"
    engine = "faulty_engines:Uncleared"


class WrongBetas(FaultyBackend):
    """AdamW's second beta is another library's default."""

    name = "wrong_betas"
    engine = "faulty_engines:WrongBetas"


class Unclipped(FaultyBackend):
    """`max_grad_norm` is not handed on."""

    name = "unclipped"
    engine = "faulty_engines:Unclipped"


class DecayOnAll(FaultyBackend):
    """Weight decay on norms too: all parameters in one group."""

    name = "decay_on_all"
    engine = "faulty_engines:DecayOnAll"


class StaleRate(FaultyBackend):
    """The optimizer gets the rate of the update before, while the right one is told: set after the step, not before."""

    name = "stale_rate"
    engine = "faulty_engines:StaleRate"


class MomentsLost(FaultyBackend):
    """A checkpoint's optimizer state is not loaded."""

    name = "moments_lost"
    engine = "faulty_engines:MomentsLost"


class RoundedOnLoading(FaultyBackend):
    """Weights pass through bf16 when a checkpoint is read."""

    name = "rounded_on_loading"
    engine = "faulty_engines:RoundedOnLoading"


class Stops(FaultyBackend):
    """It ends early, and says that all is well."""

    name = "stops"
    engine = "faulty_engines:Stops"
