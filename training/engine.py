"""One whole optimizer update: forward and backward over the micro-batches, normalisation, clipping, step.

The loop says *what* (batches, loss, learning rate), an engine *how* (plain torch here; DDP and DeepSpeed later).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from training.config import TrainingConfig
from training.optimizers import build_optimizers
from training.stabilizer import DBCDAC
from training.task import Batch, LossFunction


@dataclass(frozen=True)
class UpdateResult:
    """One update's figures, over the global batch."""

    loss: float
    """Mean over the weight (answer tokens), before any division by accumulation."""
    accuracy: float
    """Share of the weight's tokens that were right, 0 to 1."""
    grad_norm: float
    """Global norm of the gradient before stabilizer and clipping."""
    weight: int
    tokens: int
    forward_ms: float
    backward_ms: float
    skipped: bool
    """The update was left out because the loss or the gradient was not finite; the weights did not change."""
    clipped: bool


@dataclass(frozen=True)
class EvaluationResult:
    """Means over a data set."""

    loss: float
    accuracy: float
    weight: int


class Engine(Protocol):
    """How one update is done. `state_dict` and `load_state_dict` are collective: every rank calls them."""

    is_main: bool
    device: torch.device

    def update(self, micro_batches: Sequence[Batch], loss: LossFunction, learning_rate: float) -> UpdateResult:
        """Train on the micro-batches as on one batch: gradients are normalised by their total weight."""
        ...

    def evaluate(self, batches: Iterable[Batch], loss: LossFunction) -> EvaluationResult:
        """Measure without training."""
        ...

    def model(self) -> nn.Module:
        """The bare module, unwrapped."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on, as plain data and tensors."""
        ...

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        ...


class Stopwatch:
    """Milliseconds of forward and backward passes; on CUDA by events, read when the device is waited for anyway."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: list[tuple[Any, Any, Any]] = []

    def mark(self) -> Any:
        """A point in time."""
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def add(self, start: Any, middle: Any, end: Any) -> None:
        """One forward (start to middle) and backward (middle to end)."""
        self._marks.append((start, middle, end))

    def read(self) -> tuple[float, float]:
        """(forward ms, backward ms) since the last call. On CUDA the device must have been waited for."""
        if self._cuda:
            spans = [(a.elapsed_time(b), b.elapsed_time(c)) for a, b, c in self._marks]
        else:
            spans = [((b - a) * 1e3, (c - b) * 1e3) for a, b, c in self._marks]
        self._marks.clear()
        return sum(s[0] for s in spans), sum(s[1] for s in spans)


class TorchEngine:
    """Plain PyTorch in one process, on CPU, CUDA or MPS.

    Args:
        model: fresh or loaded; it is moved to the device.
        config: optimizer, precision, clipping, stabilizer.
        device: where to compute.
        compile_model: run the forward pass through `torch.compile`.
    """

    is_main = True

    def __init__(
        self, model: nn.Module, config: TrainingConfig, device: torch.device, compile_model: bool = False
    ) -> None:
        self.device = device
        self._model = model.to(device)
        # Batches are as long as their longest sample, so shapes vary.
        self._forward = cast(nn.Module, torch.compile(self._model, dynamic=True)) if compile_model else self._model
        self._optimizers = build_optimizers(self._model, config.optimizer, device)
        self._parameters = [p for p in self._model.parameters() if p.requires_grad]
        self._max_grad_norm = config.optimizer.max_grad_norm
        self._precision = config.run.precision
        self._scaler = torch.amp.GradScaler(device.type) if self._precision == "fp16" else None
        self._stabilizer = (
            DBCDAC(
                self._model.named_parameters(),
                rank=config.optimizer.dbc_rank,
                spike_factor=config.optimizer.dbc_spike_factor,
                seed=config.run.seed,
            )
            if config.optimizer.stabilizer == "dbc_dac"
            else None
        )
        self._stopwatch = Stopwatch(device)

    def model(self) -> nn.Module:
        """The bare module."""
        return self._model

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self._precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if self._precision == "bf16" else torch.float16)

    def update(self, micro_batches: Sequence[Batch], loss: LossFunction, learning_rate: float) -> UpdateResult:
        """See `Engine.update`."""
        self._model.train()
        weight = sum(batch.weight for batch in micro_batches)
        losses: list[Tensor] = []
        right: list[Tensor] = []
        for batch in micro_batches:
            torch.manual_seed(batch.seed)
            on_device = batch.to(self.device)
            start = self._stopwatch.mark()
            with self._autocast():
                result = loss(self._forward, on_device)
            middle = self._stopwatch.mark()
            # Tokens of the whole global batch, not of this micro-batch: a mean of means would weigh tokens unequally.
            share = result.loss / weight
            torch.autograd.backward(self._scaler.scale(share) if self._scaler else share)
            self._stopwatch.add(start, middle, self._stopwatch.mark())
            losses.append(result.loss.detach())
            right.append(result.correct.detach())
        if self._scaler:
            for optimizer in self._optimizers.optimizers.values():
                self._scaler.unscale_(optimizer)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        # The only wait for the device in an update: the bar's figures and the decision to skip come in one transfer.
        figures = torch.stack([torch.stack(losses).sum().float(), torch.stack(right).sum().float(), norm.float()])
        loss_sum, num_right, grad_norm = figures.tolist()
        forward_ms, backward_ms = self._stopwatch.read()
        finite = math.isfinite(loss_sum) and math.isfinite(grad_norm)
        clipped = False
        if finite:
            clipped = self._apply(norm, grad_norm, learning_rate)
        if self._scaler:
            # An overflow seen by unscale_ lowers the scale; torch wants step() before update() only where it steps.
            self._scaler.update()
        self._optimizers.zero_grad()
        return UpdateResult(
            loss=loss_sum / weight,
            accuracy=num_right / weight,
            grad_norm=grad_norm,
            weight=weight,
            tokens=sum(batch.tokens for batch in micro_batches),
            forward_ms=forward_ms,
            backward_ms=backward_ms,
            skipped=not finite,
            clipped=clipped,
        )

    def _apply(self, norm: Tensor, grad_norm: float, learning_rate: float) -> bool:
        """Stabilize, clip and step; returns whether the gradient was clipped."""
        if self._stabilizer is not None:
            self._stabilizer()
            norm = torch.nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        clipped = False
        if self._max_grad_norm is not None:
            clipped = grad_norm > self._max_grad_norm
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self._max_grad_norm, norm)
        self._optimizers.set_learning_rate(learning_rate)
        for optimizer in self._optimizers.optimizers.values():
            if self._scaler:
                self._scaler.step(optimizer)
            else:
                optimizer.step()
        return clipped

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch], loss: LossFunction) -> EvaluationResult:
        """See `Engine.evaluate`."""
        self._model.eval()
        sums = torch.zeros(2, dtype=torch.float64)
        weight = 0
        for batch in batches:
            with self._autocast():
                result = loss(self._model, batch.to(self.device))
            sums += torch.stack([result.loss.double(), result.correct.double()]).cpu()
            weight += batch.weight
        loss_sum, num_right = sums.tolist()
        return EvaluationResult(loss_sum / max(1, weight), num_right / max(1, weight), weight)

    def state_dict(self) -> dict[str, Any]:
        """Model, optimizers, loss scale and stabilizer, on the CPU."""
        state: dict[str, Any] = {
            "model": self._model.state_dict(),
            "optimizers": self._optimizers.state_dict(),
        }
        if self._scaler:
            state["scaler"] = self._scaler.state_dict()
        if self._stabilizer:
            state["stabilizer"] = self._stabilizer.state_dict()
        return state

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """See `Engine.load_state_dict`."""
        self._model.load_state_dict(saved["model"])
        self._optimizers.load_state_dict(saved["optimizers"])
        if self._scaler:
            self._scaler.load_state_dict(saved["scaler"])
        if self._stabilizer:
            self._stabilizer.load_state_dict(saved["stabilizer"])
