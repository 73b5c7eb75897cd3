"""Engine in plain torch. An update is forward and backward over the micro-batches, normalisation, clipping, step.

The loop decides *what* is done (batches, loss, learning rate), an engine *how*: plain torch in one or several processes
here, DeepSpeed in `engines/deepspeed`, transformers' Trainer in `engines/transformers`.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training.engines.results import FigureSums, UpdateResult
from training.engines.torch_base import TorchParts
from training.machine.ranks import Ranks
from training.machine.seeding import seed_torch
from training.models.protocol import ModelFamily
from training.settings.tree import TrainingConfig
from training.tasks.objective import Batch, LossFunction


class Stopwatch:
    """Timer of forward and backward passes, in ms; on CUDA it uses events, read when the host waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: list[tuple[Any, Any, Any]] = []

    def mark(self) -> Any:
        """Return a point in time."""
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def add(self, start: Any, middle: Any, end: Any) -> None:
        """Add one forward (start to middle) and one backward pass (middle to end)."""
        self._marks.append((start, middle, end))

    def read(self) -> tuple[float, float]:
        """Return (forward ms, backward ms) since the last call. On CUDA the host must have waited for the device."""
        if self._cuda:
            spans = [(a.elapsed_time(b), b.elapsed_time(c)) for a, b, c in self._marks]
        else:
            spans = [((b - a) * 1e3, (c - b) * 1e3) for a, b, c in self._marks]
        self._marks.clear()
        return sum(s[0] for s in spans), sum(s[1] for s in spans)


class TorchEngine(TorchParts):
    """Engine in plain PyTorch on CPU, CUDA or MPS: one process, or several that average their gradients (DDP).

    Args:
        model: new or loaded model, the same on every rank; it is moved to the device.
        config: settings of optimizer, precision, clipping and stabilizer.
        ranks: the processes of the run, and the device of this one.
        family: model family that groups the parameters; None: they are grouped by the kind of module.
        compile_model: run the forward pass through `torch.compile`.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        ranks: Ranks,
        family: ModelFamily | None = None,
        compile_model: bool = False,
    ) -> None:
        super().__init__(model, config, ranks, family)
        device = ranks.device
        self._ddp = (
            DistributedDataParallel(
                self._model, device_ids=[device] if device.type == "cuda" else None, forward_sync_buffers=False
            )
            if ranks.world_size > 1
            else None
        )
        self._forward: nn.Module = self._ddp or self._model
        if compile_model:  # batches are as long as their longest sample, so shapes vary
            self._forward = cast(nn.Module, torch.compile(self._forward, dynamic=True))
        self._stopwatch = Stopwatch(device)
        self._sums = FigureSums(device)

    def update(
        self, micro_batches: Sequence[Batch], loss: LossFunction, learning_rate: float, weight: int
    ) -> UpdateResult:
        """See `UpdatingEngine.update`."""
        self._model.train()
        self._sums.clear()
        for number, batch in enumerate(micro_batches):
            seed_torch(batch.seed, self.ranks.device)
            on_device = batch.to(self.ranks.device)
            is_last = number == len(micro_batches) - 1
            start = self._stopwatch.mark()
            with self._ddp.no_sync() if self._ddp and not is_last else contextlib.nullcontext():
                with self._autocast():
                    result = loss(self._forward, on_device)
                middle = self._stopwatch.mark()
                # The weight of the global batch, not of this micro-batch or rank: a mean of means would weight tokens
                # unequally. DDP divides by the number of ranks, which is undone here.
                share = result.loss / (weight / self.ranks.world_size) if batch.weight else result.loss * 0.0
                torch.autograd.backward(self._scaler.scale(share) if self._scaler else share)
            self._stopwatch.add(start, middle, self._stopwatch.mark())
            self._sums.add(result, batch.weight)
        if self._scaler:
            for optimizer in self._optimizers.optimizers.values():
                self._scaler.unscale_(optimizer)
        norm = self._gradient_norm()
        # The only wait for the device in an update: one transfer brings the figures and the decision to skip.
        *own_sums, grad_norm = torch.cat([self._sums.stacked(), norm.float().reshape(1)]).tolist()
        own_tokens = sum(batch.tokens for batch in micro_batches)
        # The norm is that of the averaged gradient, the same on each rank; the sum makes all ranks skip if one would.
        *totals, tokens, not_finite = self.ranks.total([*own_sums, own_tokens, float(not math.isfinite(grad_norm))])
        mean_loss, metrics = self._sums.means(totals, weight)
        forward_ms, backward_ms = self._stopwatch.read()
        finite = math.isfinite(mean_loss) and not not_finite
        clipped = False
        if finite:
            clipped = self._apply(norm, grad_norm, learning_rate)
        if self._scaler:
            # An overflow found by unscale_ lowers the scale; torch requires step() before update() only if a step is
            # made.
            self._scaler.update()
        self._optimizers.zero_grad()
        return UpdateResult(
            loss=mean_loss,
            metrics=metrics,
            grad_norm=grad_norm,
            weight=weight,
            tokens=int(tokens),
            forward_ms=forward_ms,
            backward_ms=backward_ms,
            skipped=not finite,
            clipped=clipped,
        )

    def _apply(self, norm: Tensor, grad_norm: float, learning_rate: float) -> bool:
        """Condition the gradient and step; return True if it was clipped."""
        clipped = self._condition(norm, grad_norm)
        self._optimizers.set_learning_rate(learning_rate)
        for optimizer in self._optimizers.optimizers.values():
            if self._scaler:
                self._scaler.step(optimizer)
            else:
                optimizer.step()
        return clipped
