"""Common parts of every engine in plain torch: the module, its optimizers, the stabilizer and the loss scale."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.engines.evaluation import evaluate_with
from training.engines.optimizers import build_optimizers
from training.engines.results import EvaluationResult
from training.engines.stabilizer import DBCDAC
from training.machine.ranks import Ranks
from training.models.protocol import BaseFamily, ModelFamily, load_saved_state, saved_state
from training.settings.tree import Precision, TrainingConfig
from training.tasks.objective import Batch, LossFunction, LossSum


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which a forward pass computes in a precision."""
    if precision not in ("bf16", "fp16"):
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


class TorchParts:
    """Model in training, whole on this rank: all of an engine except the computation of the gradient.

    Args:
        model: new or loaded model, the same on every rank; it is moved to the device.
        config: settings of optimizer, precision, clipping and stabilizer.
        ranks: the processes of the run, and the device of this one.
        family: model family that groups the parameters; None: they are grouped by the kind of module.
    """

    def __init__(
        self, model: nn.Module, config: TrainingConfig, ranks: Ranks, family: ModelFamily | None = None
    ) -> None:
        self.ranks = ranks
        self.layout: Mapping[str, Any] = {}
        self.family: ModelFamily = family or BaseFamily()
        device = ranks.device
        self._model = model.to(device)
        self._optimizers = build_optimizers(
            self._model, self.family.parameter_groups(self._model), config.optimizer, device
        )
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

    def model(self) -> nn.Module:
        """Return the bare module."""
        return self._model

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        return autocast(self._precision, self.ranks.device)

    def _gradient_norm(self) -> Tensor:
        return torch.nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])

    def _condition(self, norm: Tensor, grad_norm: float) -> bool:
        """Stabilize and clip the gradient, whose norm is `norm`; return True if it was clipped."""
        if self._stabilizer is not None:
            self._stabilizer()
            norm = self._gradient_norm()
        if self._max_grad_norm is None:
            return False
        torch.nn.utils.clip_grads_with_norm_(self._parameters, self._max_grad_norm, norm)
        return grad_norm > self._max_grad_norm

    def evaluate(self, batches: Iterable[Batch], loss: LossFunction) -> EvaluationResult:
        """See `Engine.evaluate`."""
        self._model.eval()

        def forward(batch: Batch) -> LossSum:
            with self._autocast():
                return loss(self._model, batch)

        return evaluate_with(forward, batches, self.ranks)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of model, optimizers, loss scale and stabilizer, on the CPU."""
        state: dict[str, Any] = {
            "model": saved_state(self.family, self._model),
            "optimizers": self._optimizers.state_dict(),
        }
        if self._scaler:
            state["scaler"] = self._scaler.state_dict()
        if self._stabilizer:
            state["stabilizer"] = self._stabilizer.state_dict()
        return state

    def save_extra(self, directory: Path) -> None:
        """Do nothing: there are no additional files."""

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """See `Engine.load_state_dict`."""
        load_saved_state(self.family, self._model, saved["model"])
        self._optimizers.load_state_dict(saved["optimizers"])
        # Parts for which another backend saved no state start fresh; resuming reports it.
        if self._scaler and "scaler" in saved:
            self._scaler.load_state_dict(saved["scaler"])
        if self._stabilizer and "stabilizer" in saved:
            self._stabilizer.load_state_dict(saved["stabilizer"])
