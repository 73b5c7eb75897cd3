"""Engine of --backend deepspeed: one optimizer update by DeepSpeed (ZeRO 0 to 3), in our loop and with our numbers.

DeepSpeed spreads state over the ranks, reduces gradients, clips and steps. We keep control of the learning rate of each
update, the weight that the loss is divided by, the end of an update, AdamW itself (torch's, built as for every
backend), autocast and the loss scale. DeepSpeed therefore always sees an fp32 model: its own bf16 and fp16 modes keep
weights and sum gradients in 16 bits, which gives another curve than playground's.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import ValidationError
from torch import nn

from training.engines.deepspeed.config import CONFIG_NAME, deepspeed_json, options_of
from training.engines.deepspeed.environment import prepare_deepspeed
from training.engines.deepspeed.state import PartitionedState, emptied, set_mode, whole_copy
from training.engines.evaluation import evaluate_with
from training.engines.optimizers import OptimizerSet, build_optimizers
from training.engines.results import EvaluationResult, FigureSums, UpdateResult
from training.engines.torch_engine import Stopwatch
from training.errors import ConfigError
from training.machine.environment import variables_set
from training.machine.ranks import Ranks
from training.machine.seeding import seed_torch
from training.models.protocol import BaseFamily, ModelFamily, load_saved_state, saved_state
from training.settings.tree import TrainingConfig
from training.storage.atomic import write_atomically
from training.tasks.objective import Batch, LossFunction, LossSum


class LossScale:
    """Loss scale of fp16, updated as by `torch.amp.GradScaler` and saved in its form."""

    def __init__(self) -> None:
        self.scale = 2.0**16
        self._growth_factor, self._backoff_factor, self._growth_interval = 2.0, 0.5, 2000
        self._growth_tracker = 0

    def update(self, overflowed: bool) -> None:
        """Halve the scale after an overflow, double it after 2000 updates without one."""
        self._growth_tracker = 0 if overflowed else self._growth_tracker + 1
        if overflowed:
            self.scale *= self._backoff_factor
        elif self._growth_tracker == self._growth_interval:
            self.scale, self._growth_tracker = self.scale * self._growth_factor, 0

    def state_dict(self) -> dict[str, float | int]:
        """Return the keys of `GradScaler.state_dict`."""
        return {
            "scale": self.scale,
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._growth_tracker,
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore a saved scale."""
        self.scale = float(saved["scale"])
        self._growth_factor, self._backoff_factor = saved["growth_factor"], saved["backoff_factor"]
        self._growth_interval, self._growth_tracker = saved["growth_interval"], saved["_growth_tracker"]


class DeepSpeedEngine:
    """See `training.engines.protocol.UpdatingEngine`.

    Args:
        model: fresh, the same on every rank; DeepSpeed takes it over.
        config: resolved settings with the section `deepspeed`.
        ranks: the processes of the run, and the device of this one.
        family: sorts the parameters; None: by the kind of module.

    Raises:
        ConfigError: DeepSpeed refuses a setting of the user's own JSON.
    """

    def __init__(
        self, model: nn.Module, config: TrainingConfig, ranks: Ranks, family: ModelFamily | None = None
    ) -> None:
        self.ranks = ranks
        self._module, self._family = model, family or BaseFamily()
        options = options_of(config)
        self.layout: Mapping[str, Any] = {
            "zero_stage": options.zero_stage,
            "cpu_offload": options.cpu_offload,
            "param_offload": options.param_offload,
        }
        self._stage = options.zero_stage
        self._max_grad_norm = config.optimizer.max_grad_norm
        self._scale = LossScale() if config.run.precision == "fp16" else None
        self._dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.run.precision)
        self._skeleton = emptied(model) if self._stage == 3 else None
        self._stopwatch = Stopwatch(ranks.device)
        self._sums = FigureSums(ranks.device)
        num_parameters = sum(p.numel() for p in model.parameters())
        document = deepspeed_json(config, ranks.world_size, num_parameters)
        self._unwritten: tuple[Path, str] | None = (
            config.run.run_dir / CONFIG_NAME,
            json.dumps(document, indent=2) + "\n",
        )
        model.to(ranks.device)
        self._optimizers = build_optimizers(
            model, self._family.parameter_groups(model), config.optimizer, ranks.device, torch.optim.AdamW
        )
        self._engine = _initialize(model, self._optimizers, document, ranks)
        self._partitioned = PartitionedState(self._engine, model, ranks.is_main) if self._stage else None

    def model(self) -> nn.Module:
        """Return the bare module. At ZeRO 3 rank 0 gets a copy with gathered weights, the others their share."""
        if self._partitioned is None or self._skeleton is None:
            return self._module
        weights = self._partitioned.weights()
        return whole_copy(self._skeleton, weights, self.ranks.device) if self.ranks.is_main else self._module

    @contextlib.contextmanager
    def _autocast(self) -> Iterator[None]:
        """Let the model itself compute in the wanted precision. DeepSpeed would end an autocast around its engine."""
        if self._dtype is None:
            yield
            return
        cast_to = torch.autocast(self.ranks.device.type, self._dtype)
        self._module.forward = cast_to(self._module.forward)
        try:
            yield
        finally:
            del self._module.forward  # makes the class's own `forward` visible again

    def update(
        self, micro_batches: Sequence[Batch], loss: LossFunction, learning_rate: float, weight: int
    ) -> UpdateResult:
        """See `UpdatingEngine.update`."""
        self._write_config()
        set_mode(self._engine, training=True)
        if self._scale and self._stage:
            self._engine.optimizer.override_loss_scale(self._scale.scale)
        # DeepSpeed divides by the number of ranks, which is undone here. ZeRO 0 does not support a loss scale.
        factor = self.ranks.world_size / weight * (self._scale.scale if self._scale and not self._stage else 1.0)
        self._sums.clear()
        for number, batch in enumerate(micro_batches):
            seed_torch(batch.seed, self.ranks.device)
            on_device = batch.to(self.ranks.device)
            self._engine.set_gradient_accumulation_boundary(number == len(micro_batches) - 1)
            start = self._stopwatch.mark()
            with self._autocast():
                result = loss(self._engine, on_device)
            middle = self._stopwatch.mark()
            summed = result.loss.detach()
            # Exactly the factor if the loss is finite. Otherwise no gradient is finite, whatever the loss consists of;
            # the reduction spreads that to all ranks, and all skip the update.
            share = result.loss * (factor if batch.weight else 0.0) * (1.0 + 0.0 * summed)
            self._engine.backward(share, scale_wrt_gas=False)
            self._stopwatch.add(start, middle, self._stopwatch.mark())
            self._sums.add(result, batch.weight)
        self._optimizers.set_learning_rate(learning_rate)
        grad_norm = self._step()
        finite = math.isfinite(grad_norm)
        if self._scale:
            self._scale.update(not finite)
        tokens = sum(batch.tokens for batch in micro_batches)
        *totals, all_tokens = self.ranks.total([*self._sums.stacked().tolist(), tokens])
        mean_loss, metrics = self._sums.means(totals, weight)
        forward_ms, backward_ms = self._stopwatch.read()
        return UpdateResult(
            loss=mean_loss,
            metrics=metrics,
            grad_norm=grad_norm,
            weight=weight,
            tokens=int(all_tokens),
            forward_ms=forward_ms,
            backward_ms=backward_ms,
            skipped=not finite,
            clipped=finite and self._max_grad_norm is not None and grad_norm > self._max_grad_norm,
        )

    def _write_config(self) -> None:
        """Write the settings before the first update, when the run directory certainly belongs to this run."""
        if self._unwritten and self.ranks.is_main:
            path, text = self._unwritten
            write_atomically(path, text.encode(), durable=False)
        self._unwritten = None

    def _step(self) -> float:
        """Clip and step if the gradient is finite; return its norm before clipping, the same on each rank."""
        if self._stage:
            # ZeRO itself skips a gradient that is not finite and reports an infinite norm.
            self._engine.step()
            return float(self._engine.get_global_grad_norm())
        gradients = [p.grad for p in self._module.parameters() if p.grad is not None]
        if self._scale:
            torch._foreach_mul_(gradients, 1.0 / self._scale.scale)
        norm = float(torch.nn.utils.get_total_norm(gradients))
        if math.isfinite(norm):
            self._engine.step()
        else:
            self._engine.zero_grad()
        return norm

    def evaluate(self, batches: Iterable[Batch], loss: LossFunction) -> EvaluationResult:
        """See `Engine.evaluate`."""
        set_mode(self._engine, training=False)

        def forward(batch: Batch) -> LossSum:
            with self._autocast():
                return loss(self._engine, batch)

        return evaluate_with(forward, batches, self.ranks)

    def state_dict(self) -> dict[str, Any]:
        """See `Engine.state_dict`. Gathered parameter by parameter: no rank but the first ever holds more than one."""
        state: dict[str, Any] = {}
        if self._partitioned is None:
            state["model"] = saved_state(self._family, self._module)
            state["optimizers"] = self._optimizers.state_dict()
        else:
            state["model"] = self._partitioned.weights(self._family.saved_names(self._module))
            state["optimizers"] = {"adamw": self._partitioned.moments()}
        if self._scale:
            state["scaler"] = self._scale.state_dict()
        return state

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """See `Engine.load_state_dict`.

        Raises:
            ValueError: it is the state of another model or optimizer.
        """
        if self._partitioned is None:
            load_saved_state(self._family, self._module, saved["model"])
            self._optimizers.load_state_dict(saved["optimizers"])
        else:
            if saved["optimizers"].keys() != {"adamw"}:
                raise ValueError(f"it is the state of {' and '.join(sorted(saved['optimizers']))}, here it is adamw")
            self._partitioned.load_weights(saved["model"], self._family.saved_names(self._module))
            self._partitioned.load_moments(saved["optimizers"]["adamw"])
        if self._scale and "scaler" in saved:
            self._scale.load_state_dict(saved["scaler"])

    def save_extra(self, directory: Path) -> None:
        """Write DeepSpeed's own files: `mp_rank_00_model_states.pt`, `zero_pp_rank_0_mp_rank_00_optim_states.pt`, …"""
        self._engine.save_checkpoint(str(directory.parent), tag=directory.name, save_latest=False)


def _initialize(model: nn.Module, optimizers: OptimizerSet, document: dict[str, Any], ranks: Ranks) -> Any:
    """Build DeepSpeed's engine around a model on its device."""
    prepare_deepspeed(ranks)
    import deepspeed
    from deepspeed.runtime.config import DeepSpeedConfigError

    try:
        # DeepSpeed needs it in a single process too.
        with variables_set(LOCAL_RANK=str(ranks.local_rank)):
            engine, *_ = deepspeed.initialize(
                model=model,
                optimizer=cast(Any, optimizers.optimizers["adamw"]),
                config=document,
                dist_init_required=False,
            )
    except (ValidationError, DeepSpeedConfigError) as error:
        faults = error.errors() if isinstance(error, ValidationError) else []
        reason = f"{'.'.join(map(str, faults[0]['loc']))}: {faults[0]['msg']}" if faults else str(error)
        raise ConfigError(f"--deepspeed-config: DeepSpeed refuses a setting ({reason.splitlines()[0]})") from error
    return engine
