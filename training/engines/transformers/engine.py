"""Engine of --backend huggingface: state and figures of the updates that transformers' Trainer makes.

transformers owns the loop (`loop/transformers_loop.py`); the engine keeps the state in the form that every engine
shares. On one rank or with DDP the gradient is conditioned here as in plain torch; with a DeepSpeed file accelerate
passes it to DeepSpeed.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerState

from training.engines.deepspeed.engine import LossScale
from training.engines.deepspeed.state import PartitionedState, emptied, set_mode, whole_copy
from training.engines.evaluation import evaluate_with
from training.engines.joint_optimizer import joined
from training.engines.results import EvaluationResult, FigureSums, UpdateResult
from training.engines.torch_base import TorchParts
from training.engines.torch_engine import Stopwatch
from training.engines.transformers.arguments import training_arguments
from training.errors import CheckpointError
from training.machine.ranks import Ranks
from training.machine.seeding import seed_torch
from training.models.protocol import Artefacts, ModelFamily, load_saved_state
from training.settings.tree import TrainingConfig
from training.tasks.objective import Batch, LossFunction, LossSum
from training.tasks.rank_batches import GlobalBatch

STATE_NAME = "trainer_state.json"


class HuggingFaceEngine(TorchParts):
    """See `training.engines.protocol.Engine`.

    Args:
        model: fresh, the same on every rank.
        config: resolved settings with the section `huggingface`.
        ranks: the processes of the run, and the device of this one.
        family: of the model; None: any module.

    Raises:
        ConfigError: transformers refuses an argument.
    """

    def __init__(
        self, model: nn.Module, config: TrainingConfig, ranks: Ranks, family: ModelFamily | None = None
    ) -> None:
        super().__init__(model, config, ranks, family)
        self.transformers_model: nn.Module = self.family.transformers_form(model)
        """Module for transformers; it shares its parameters with `model()`."""
        self.arguments = training_arguments(config, ranks, sum(p.numel() for p in model.parameters()))
        self.optimizer = joined(self._optimizers.optimizers)
        self.scaler = self._scaler
        self._stopwatch = Stopwatch(ranks.device)
        self._artefacts: Artefacts = {}
        self._state: Callable[[], TrainerState] | None = None
        self._start: Any = None
        self._middle: Any = None
        self._sums = FigureSums(ranks.device)
        self._result: UpdateResult | None = None

    # -- an update, in the parts in which transformers makes it ------------------------------------------------------

    def begin_update(self, learning_rate: float) -> None:
        """Prepare an update, before its first micro-batch."""
        self._sums.clear()
        self._result = None
        self._optimizers.set_learning_rate(learning_rate)

    def loss_share(self, model: nn.Module, batch: Batch, loss: LossFunction, weight: int) -> Tensor:
        """Compute a micro-batch's part of the update's loss, as a differentiable scalar.

        Args:
            model: `transformers_model`, wrapped by accelerate.
            batch: micro-batch of this rank.
            loss: loss of the task.
            weight: weight of the global batch, over all ranks.
        """
        seed_torch(batch.seed, self.ranks.device)
        on_device = batch.to(self.ranks.device)
        self._start = self._stopwatch.mark()
        result = self._forward(model, on_device, loss)
        self._middle = self._stopwatch.mark()
        self._sums.add(result, batch.weight)
        return self._share(result.loss, batch, weight)

    def _forward(self, model: nn.Module, batch: Batch, loss: LossFunction) -> LossSum:
        called: Any = self.family.called(model)
        return loss(called, batch)

    def _share(self, loss: Tensor, batch: Batch, weight: int) -> Tensor:
        # The weight is the global batch's; the ranks' gradients are averaged, which is undone here.
        return loss / (weight / self.ranks.world_size) if batch.weight else loss * 0.0

    def backward_done(self) -> None:
        """Record the end of a micro-batch's backward pass."""
        self._stopwatch.add(self._start, self._middle, self._stopwatch.mark())

    def condition(self, batch: GlobalBatch) -> Tensor:
        """Stabilize and clip the whole gradient, or drop it on all ranks if it is not finite; return its norm.

        An optimizer without a gradient changes nothing: that skips the update.
        """
        norm = self._gradient_norm()
        *own_sums, grad_norm = torch.cat([self._sums.stacked(), norm.float().reshape(1)]).tolist()
        tokens = sum(part.tokens for part in batch.micro_batches)
        *totals, all_tokens, not_finite = self.ranks.total([*own_sums, tokens, float(not math.isfinite(grad_norm))])
        finite = math.isfinite(totals[0]) and not not_finite
        clipped = finite and self._condition(norm, grad_norm)
        if not finite:
            self._optimizers.zero_grad()
        self._note(batch, totals, grad_norm, int(all_tokens), skipped=not finite, clipped=clipped)
        return norm

    def _note(
        self,
        batch: GlobalBatch,
        totals: list[float],
        grad_norm: float,
        tokens: int,
        *,
        skipped: bool,
        clipped: bool,
    ) -> None:
        forward_ms, backward_ms = self._stopwatch.read()
        loss, metrics = self._sums.means(totals, batch.weight)
        self._result = UpdateResult(
            loss=loss,
            metrics=metrics,
            grad_norm=grad_norm,
            weight=batch.weight,
            tokens=tokens,
            forward_ms=forward_ms,
            backward_ms=backward_ms,
            skipped=skipped,
            clipped=clipped,
        )

    def result(self) -> UpdateResult:
        """Return the figures of the update that ended."""
        assert self._result is not None, "transformers ended an update without asking for its gradient's norm"
        return self._result

    def prepared(self, wrapped: nn.Module) -> None:
        """Take note that transformers has wrapped model and optimizer, and that updates follow."""

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def attach(self, artefacts: Artefacts, state: Callable[[], TrainerState]) -> None:
        """Set what `save_extra` writes next to the portable state: the run's artefacts and transformers' own state."""
        self._artefacts, self._state = artefacts, state

    def save_extra(self, directory: Path) -> None:
        """Write the files with which `AutoModelForCausalLM.from_pretrained` opens the checkpoint."""
        if not self.ranks.is_main:
            return
        if self._state is not None:
            self._state().save_to_json(str(directory / STATE_NAME))
        for name, text in self.family.transformers_files(self._model, self._artefacts).items():
            (directory / name).write_text(text, encoding="utf-8")


class HuggingFaceDeepSpeedEngine(HuggingFaceEngine):
    """Engine with a DeepSpeed file: DeepSpeed's engine steps within transformers' backward pass.

    Args:
        stage: ZeRO stage, 1 to 3.
    """

    def __init__(
        self, model: nn.Module, config: TrainingConfig, ranks: Ranks, family: ModelFamily | None, stage: int
    ) -> None:
        skeleton = emptied(model) if stage == 3 else None
        super().__init__(model, config, ranks, family)
        self._skeleton = skeleton
        self.layout = {"zero_stage": stage}
        self._dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.run.precision)
        self.scaler = None  # ZeRO scales the loss itself, by the scale set before each update
        self._scale = LossScale() if config.run.precision == "fp16" else None
        self._wrapped: Any = None
        self._partitioned: PartitionedState | None = None
        self._moments: Mapping[str, Any] | None = None

    def prepared(self, wrapped: nn.Module) -> None:
        """See `HuggingFaceEngine.prepared`; what a checkpoint brought of the optimizer reaches it now."""
        self._wrapped = wrapped
        self._partitioned = PartitionedState(wrapped, self.transformers_model, self.ranks.is_main)
        if self._moments is not None:
            try:
                self._partitioned.load_moments(self._moments)
            except ValueError as error:
                raise CheckpointError(f"the checkpoint does not fit this model and optimizer ({error})") from error
            self._moments = None

    def begin_update(self, learning_rate: float) -> None:
        """Prepare an update, before its first micro-batch."""
        super().begin_update(learning_rate)
        set_mode(self._wrapped, training=True)
        if self._scale:
            self._wrapped.optimizer.override_loss_scale(self._scale.scale)

    @contextlib.contextmanager
    def _casting(self) -> Iterator[None]:
        """Let the model itself compute in the wanted precision. DeepSpeed would end an autocast around its engine."""
        if self._dtype is None:
            yield
            return
        model = self.transformers_model
        model.forward = torch.autocast(self.ranks.device.type, self._dtype)(model.forward)
        try:
            yield
        finally:
            del model.forward  # makes the class's own `forward` visible again

    def _forward(self, model: nn.Module, batch: Batch, loss: LossFunction) -> LossSum:
        with self._casting():
            return super()._forward(model, batch, loss)

    def _share(self, loss: Tensor, batch: Batch, weight: int) -> Tensor:
        # If the loss is not finite, no gradient is; the reduction spreads that to all ranks, and ZeRO skips the update
        # on all of them.
        factor = self.ranks.world_size / weight if batch.weight else 0.0
        return loss * factor * (1.0 + 0.0 * loss.detach())

    def condition(self, batch: GlobalBatch) -> Tensor:
        """Read the norm only: DeepSpeed has already clipped and stepped, or skipped the update."""
        grad_norm = float(self._wrapped.get_global_grad_norm())
        tokens = sum(part.tokens for part in batch.micro_batches)
        *totals, all_tokens = self.ranks.total([*self._sums.stacked().tolist(), tokens])
        finite = math.isfinite(grad_norm)
        if self._scale:
            self._scale.update(not finite)
        clipped = finite and self._max_grad_norm is not None and grad_norm > self._max_grad_norm
        self._note(batch, totals, grad_norm, int(all_tokens), skipped=not finite, clipped=clipped)
        return torch.tensor(grad_norm)

    def evaluate(self, batches: Iterable[Batch], loss: LossFunction) -> EvaluationResult:
        """See `Engine.evaluate`."""
        if self._wrapped is None:  # the run was already at its end when it was resumed
            return super().evaluate(batches, loss)
        set_mode(self._wrapped, training=False)
        return evaluate_with(lambda batch: self._forward(self._wrapped, batch, loss), batches, self.ranks)

    def model(self) -> nn.Module:
        """Return the bare module. At ZeRO 3 rank 0 gets a copy with gathered weights, the others their share."""
        if self._partitioned is None or self._skeleton is None:
            return self._model
        weights = self._partitioned.weights()
        return whole_copy(self._skeleton, weights, self.ranks.device) if self.ranks.is_main else self._model

    def state_dict(self) -> dict[str, Any]:
        """See `Engine.state_dict`."""
        if self._partitioned is None:
            return super().state_dict()
        scaler = {"scaler": self._scale.state_dict()} if self._scale else {}
        return {
            "model": self._partitioned.weights(self.family.saved_names(self._model)),
            "optimizers": {"adamw": self._partitioned.moments()},
            **scaler,
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """See `Engine.load_state_dict`; before DeepSpeed has the model.

        Raises:
            ValueError: it is the state of another model or optimizer.
        """
        if saved["optimizers"].keys() != {"adamw"}:
            raise ValueError(f"it is the state of {' and '.join(sorted(saved['optimizers']))}, here it is adamw")
        load_saved_state(self.family, self._model, saved["model"])
        self._moments = saved["optimizers"]["adamw"]
        if self._scale and "scaler" in saved:
            self._scale.load_state_dict(saved["scaler"])
