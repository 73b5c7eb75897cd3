"""The engine of --backend huggingface: what transformers' Trainer works on, and each update's figures.

transformers owns the loop (`hf_trainer.py`); this keeps the state in the form that every engine shares. Alone or with
DDP the gradient is conditioned here as in plain torch; with a DeepSpeed file accelerate hands it to DeepSpeed.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerState

from apt_model.huggingface.modeling_apt import APTForCausalLM
from apt_model.huggingface.remote_code import write_code
from apt_model.model import APT
from apt_model.portable import transformers_settings
from apt_model.tokenizer import DynamicTagTokenizer
from training.engines.deepspeed.engine import LossScale
from training.engines.deepspeed.state import PartitionedState, emptied, whole_copy
from training.engines.evaluation import evaluate_with
from training.engines.joint_optimizer import joined
from training.engines.results import EvaluationResult, UpdateResult
from training.engines.torch_base import TorchParts
from training.engines.torch_engine import Stopwatch
from training.engines.transformers.arguments import training_arguments
from training.errors import CheckpointError
from training.machine.ranks import Ranks
from training.machine.seeding import seed_torch
from training.settings.tree import TrainingConfig
from training.tasks.protocol import Batch, LossFunction, LossSum
from training.tasks.rank_batches import GlobalBatch

STATE_NAME = "trainer_state.json"


class Positional:
    """A transformers model in any wrapper, called as the task's loss calls an APT: `(tokens_BT, positions_N)`."""

    def __init__(self, wrapped: nn.Module) -> None:
        self._wrapped = wrapped

    @property
    def training(self) -> bool:
        """Of the model."""
        return self._wrapped.training

    def __call__(self, tokens_BT: Tensor, positions_N: Tensor) -> Tensor:
        """(N, V) logits."""
        logits: Tensor = self._wrapped(input_ids=tokens_BT, positions_N=positions_N).logits
        return logits


class HuggingFaceEngine(TorchParts):
    """See `training.engines.torch_engine.Engine`.

    Args:
        model: fresh, the same on every rank.
        config: resolved settings with the section `huggingface`.
        ranks: the processes of the run, and the device of this one.

    Raises:
        ConfigError: transformers refuses an argument.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig, ranks: Ranks) -> None:
        super().__init__(model, config, ranks)
        self.transformers_model: nn.Module = APTForCausalLM.from_apt(model) if isinstance(model, APT) else model
        """What transformers is given; it shares its parameters with `model()`."""
        self.arguments = training_arguments(config, ranks, sum(p.numel() for p in model.parameters()))
        self.optimizer = joined(self._optimizers.optimizers)
        self.scaler = self._scaler
        self._stopwatch = Stopwatch(ranks.device)
        self._tokenizer: DynamicTagTokenizer | None = None
        self._state: Callable[[], TrainerState] | None = None
        self._start: Any = None
        self._middle: Any = None
        self._sums = torch.zeros(2, device=ranks.device)
        self._result: UpdateResult | None = None

    # -- an update, in the parts in which transformers makes it ------------------------------------------------------

    def begin_update(self, learning_rate: float) -> None:
        """Before the first micro-batch."""
        self._sums.zero_()
        self._result = None
        self._optimizers.set_learning_rate(learning_rate)

    def loss_share(self, model: nn.Module, batch: Batch, loss: LossFunction, weight: int) -> Tensor:
        """A micro-batch's part of the update's loss, to be differentiated.

        Args:
            model: `transformers_model` as accelerate wrapped it.
            batch: of this rank.
            loss: the task's.
            weight: of the whole global batch, over all ranks.
        """
        seed_torch(batch.seed, self.ranks.device)
        on_device = batch.to(self.ranks.device)
        self._start = self._stopwatch.mark()
        result = self._forward(model, on_device, loss)
        self._middle = self._stopwatch.mark()
        if batch.weight:
            self._sums += torch.stack([result.loss.detach().float(), result.correct.detach().float()])
        return self._share(result.loss, batch, weight)

    def _forward(self, model: nn.Module, batch: Batch, loss: LossFunction) -> LossSum:
        called: Any = Positional(model) if isinstance(self._model, APT) else model
        return loss(called, batch)

    def _share(self, loss: Tensor, batch: Batch, weight: int) -> Tensor:
        # Tokens of the whole global batch; the ranks' gradients are averaged, which is taken back here.
        return loss / (weight / self.ranks.world_size) if batch.weight else loss * 0.0

    def backward_done(self) -> None:
        """After a micro-batch's backward pass."""
        self._stopwatch.add(self._start, self._middle, self._stopwatch.mark())

    def condition(self, batch: GlobalBatch) -> Tensor:
        """Stabilize and clip the whole gradient, or drop it on all ranks where it is not finite; returns its norm.

        An optimizer that finds no gradient changes nothing: the update is then left out.
        """
        norm = self._gradient_norm()
        loss_sum, num_right, grad_norm = torch.cat([self._sums, norm.float().reshape(1)]).tolist()
        tokens = sum(part.tokens for part in batch.micro_batches)
        loss_sum, num_right, all_tokens, not_finite = self.ranks.total([
            loss_sum, num_right, tokens, float(not math.isfinite(grad_norm)),
        ])  # fmt: skip
        finite = math.isfinite(loss_sum) and not not_finite
        clipped = finite and self._condition(norm, grad_norm)
        if not finite:
            self._optimizers.zero_grad()
        self._note(batch, loss_sum, num_right, grad_norm, int(all_tokens), skipped=not finite, clipped=clipped)
        return norm

    def _note(
        self,
        batch: GlobalBatch,
        loss_sum: float,
        num_right: float,
        grad_norm: float,
        tokens: int,
        *,
        skipped: bool,
        clipped: bool,
    ) -> None:
        forward_ms, backward_ms = self._stopwatch.read()
        self._result = UpdateResult(
            loss=loss_sum / batch.weight,
            accuracy=num_right / batch.weight,
            grad_norm=grad_norm,
            weight=batch.weight,
            tokens=tokens,
            forward_ms=forward_ms,
            backward_ms=backward_ms,
            skipped=skipped,
            clipped=clipped,
        )

    def result(self) -> UpdateResult:
        """The figures of the update that ended."""
        assert self._result is not None, "transformers ended an update without asking for its gradient's norm"
        return self._result

    def prepared(self, wrapped: nn.Module) -> None:
        """transformers has wrapped model and optimizer; updates follow."""

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def attach(self, tokenizer: DynamicTagTokenizer | None, state: Callable[[], TrainerState]) -> None:
        """What `save_extra` writes beside the portable state: the tokenizer's settings, transformers' own state."""
        self._tokenizer, self._state = tokenizer, state

    def save_extra(self, directory: Path) -> None:
        """What transformers looks for: with it the checkpoint opens with `AutoModelForCausalLM.from_pretrained`."""
        if not self.ranks.is_main:
            return
        if self._state is not None:
            self._state().save_to_json(str(directory / STATE_NAME))
        if isinstance(self._model, APT) and self._tokenizer is not None:
            settings = transformers_settings(self._model, self._tokenizer)
            config = settings["config.json"]
            settings["config.json"] = {**self._model.config.model_dump(mode="json"), **config}
            for name, content in settings.items():
                (directory / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            write_code(directory)


class HuggingFaceDeepSpeedEngine(HuggingFaceEngine):
    """The same with a DeepSpeed file: its engine steps within transformers' backward pass.

    Args:
        stage: of ZeRO, 1 to 3.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig, ranks: Ranks, stage: int) -> None:
        skeleton = emptied(model) if stage == 3 else None
        super().__init__(model, config, ranks)
        self._skeleton = skeleton
        self._dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.run.precision)
        self.scaler = None  # ZeRO scales the loss itself, by what it is told before each update
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
        """Before the first micro-batch."""
        super().begin_update(learning_rate)
        if self._scale:
            self._wrapped.optimizer.override_loss_scale(self._scale.scale)

    @contextlib.contextmanager
    def _casting(self) -> Iterator[None]:
        """Inside, the model computes in the precision asked for. DeepSpeed would end an autocast around its engine."""
        if self._dtype is None:
            yield
            return
        model = self.transformers_model
        model.forward = torch.autocast(self.ranks.device.type, self._dtype)(model.forward)
        try:
            yield
        finally:
            del model.forward  # the class's own is seen again

    def _forward(self, model: nn.Module, batch: Batch, loss: LossFunction) -> LossSum:
        with self._casting():
            return super()._forward(model, batch, loss)

    def _share(self, loss: Tensor, batch: Batch, weight: int) -> Tensor:
        # Where the loss is not finite neither is any gradient; the reduction carries that to all ranks, and ZeRO leaves
        # the update out on all of them.
        factor = self.ranks.world_size / weight if batch.weight else 0.0
        return loss * factor * (1.0 + 0.0 * loss.detach())

    def condition(self, batch: GlobalBatch) -> Tensor:
        """DeepSpeed has clipped and stepped already, or left the update out: only read what came of it."""
        grad_norm = float(self._wrapped.get_global_grad_norm())
        tokens = sum(part.tokens for part in batch.micro_batches)
        loss_sum, num_right, all_tokens = self.ranks.total([*self._sums.tolist(), tokens])
        finite = math.isfinite(grad_norm)
        if self._scale:
            self._scale.update(not finite)
        clipped = finite and self._max_grad_norm is not None and grad_norm > self._max_grad_norm
        self._note(batch, loss_sum, num_right, grad_norm, int(all_tokens), skipped=not finite, clipped=clipped)
        return torch.tensor(grad_norm)

    def evaluate(self, batches: Iterable[Batch], loss: LossFunction) -> EvaluationResult:
        """See `Engine.evaluate`."""
        if self._wrapped is None:  # a run that was at its end when it was resumed
            return super().evaluate(batches, loss)
        self._wrapped.eval()
        return evaluate_with(lambda batch: self._forward(self._wrapped, batch, loss), batches, self.ranks)

    def model(self) -> nn.Module:
        """The bare module. At ZeRO 3 rank 0 gets a copy with the weights gathered, the others their share."""
        if self._partitioned is None or self._skeleton is None:
            return self._model
        weights = self._partitioned.weights()
        return whole_copy(self._skeleton, weights, self.ranks.device) if self.ranks.is_main else self._model

    def state_dict(self) -> dict[str, Any]:
        """See `Engine.state_dict`."""
        if self._partitioned is None:
            return super().state_dict()
        scaler = {"scaler": self._scale.state_dict()} if self._scale else {}
        return {"model": self._partitioned.weights(), "optimizers": {"adamw": self._partitioned.moments()}, **scaler}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """See `Engine.load_state_dict`; before DeepSpeed has the model.

        Raises:
            ValueError: it is the state of another model or optimizer.
        """
        if saved["optimizers"].keys() != {"adamw"}:
            raise ValueError(f"it is the state of {' and '.join(sorted(saved['optimizers']))}, here it is adamw")
        self._model.load_state_dict(saved["model"])
        self._moments = saved["optimizers"]["adamw"]
        if self._scale and "scaler" in saved:
            self._scale.load_state_dict(saved["scaler"])
