"""Conversion of DeepSpeed's partitioned state to and from plain whole tensors by parameter name.

ZeRO flattens the parameters of a group into one vector and gives each rank a slice of it, with the optimizer's state as
slices of the same shape. DeepSpeed's `safe_get_full_…` and `safe_set_full_…` gather and scatter one parameter's part;
this module applies them to the whole model and fills the gap that they leave (`_make_room`).
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

MOMENTS = ("exp_avg", "exp_avg_sq")


class PartitionedState:
    """Weights and AdamW's state of a DeepSpeed engine at ZeRO 1 to 3. All methods are collective.

    Args:
        engine: a `deepspeed.DeepSpeedEngine` before its first update, with torch's AdamW and an fp32 model.
        module: its bare model.
        is_main: True if this rank gets the whole tensors.
    """

    def __init__(self, engine: Any, module: nn.Module, is_main: bool) -> None:
        self._engine, self._module, self._is_main = engine, module, is_main
        self._names = [name for name, p in module.named_parameters() if p.requires_grad]
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._make_room()

    def _make_room(self) -> None:
        """Create AdamW's (empty) state now, as its first step would.

        DeepSpeed links the moments to the parameters at the first group's first step, when the second group has none
        yet: reading them would fail from then on, and writing them before a first step is not possible.
        """
        zero = self._engine.optimizer
        partitions = getattr(zero, "fp32_partitioned_groups_flat", None)  # ZeRO 3
        if partitions is None:
            partitions = zero.single_partition_of_fp32_groups
        for flat in partitions:
            self._engine.basic_optimizer.state[flat] = {
                "step": torch.zeros((), dtype=torch.float32, device=flat.device),
                **{key: torch.zeros_like(flat) for key in MOMENTS},
            }
        if hasattr(zero, "_lazy_init_hp_params_optimizer_state"):  # ZeRO 1 and 2
            zero._lazy_init_hp_params_optimizer_state()

    # -- out -------------------------------------------------------------------------------------------------------

    def weights(self, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """Return entries of the model's `state_dict`, on the CPU; tied ones share memory. Empty on other ranks.

        Args:
            names: entries that are wanted; None: all.
        """
        whole: dict[int, Tensor] = {}
        for name, parameter in self._module.named_parameters():
            if names is not None and name not in names:
                continue
            with self._gathered(parameter):
                if self._is_main:
                    whole[id(parameter)] = parameter.detach().cpu().clone()
        entries = self._module.state_dict(keep_vars=True)
        return {
            key: whole.get(id(entry), entry.detach().cpu())
            for key, entry in entries.items()
            if self._is_main and (names is None or key in names)
        }

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """Return AdamW's state by parameter name, on the CPU; empty before the first update and on other ranks."""
        from deepspeed.utils import safe_get_full_optimizer_state

        step = self._steps()[0].detach().cpu()
        if step == 0:
            return {}
        state: dict[str, dict[str, Tensor]] = {}
        for name, parameter in zip(self._names, self._parameters, strict=True):
            whole = {key: safe_get_full_optimizer_state(parameter, key) for key in MOMENTS}
            if self._is_main:
                state[name] = {"step": step.clone(), **{key: tensor.cpu() for key, tensor in whole.items()}}
        return state

    # -- in --------------------------------------------------------------------------------------------------------

    def load_weights(self, saved: Mapping[str, Tensor], names: Collection[str] | None = None) -> None:
        """Load the weights of a model's `state_dict`, which every rank passes.

        Args:
            saved: what `weights` returned.
            names: entries that it holds; None: all.

        Raises:
            ValueError: a parameter is missing, unknown, or has another shape.
        """
        entries = self._module.state_dict(keep_vars=True)
        if names is not None:
            entries = {name: entry for name, entry in entries.items() if name in names}
        if entries.keys() != saved.keys():
            raise ValueError(f"the model has other parameters ({min(entries.keys() ^ saved.keys())})")
        for key, entry in entries.items():
            with torch.no_grad(), self._gathered(entry, writing=True):
                if entry.shape != saved[key].shape:
                    raise ValueError(f"{key} has the shape {tuple(saved[key].shape)}, here {tuple(entry.shape)}")
                entry.copy_(saved[key])
        self._engine.optimizer.refresh_fp32_params()  # copies the weights to the partitions that are updated

    def load_moments(self, saved: Mapping[str, Mapping[str, Any]]) -> None:
        """Load AdamW's state by parameter name, which every rank passes; parameters without one start fresh.

        Raises:
            ValueError: the state is of other parameters, of another shape, or of different numbers of updates.
        """
        from deepspeed.utils import safe_set_full_optimizer_state

        if unknown := saved.keys() - set(self._names):
            raise ValueError(f"adamw has a state for {min(unknown)}, which it does not train here")
        steps = {float(state["step"]) for state in saved.values()}
        if len(steps) > 1:
            raise ValueError(f"ZeRO counts one number of updates for all parameters, the state has {sorted(steps)}")
        for name, parameter in zip(self._names, self._parameters, strict=True):
            shape = getattr(parameter, "ds_shape", parameter.shape)  # ZeRO 3: the parameter itself is empty
            for key in MOMENTS:
                value = saved[name][key] if name in saved else torch.zeros(shape)
                if value.shape != shape:
                    raise ValueError(f"the optimizer's state of {name} has the shape {tuple(value.shape)}")
                safe_set_full_optimizer_state(parameter, value.to(parameter.device), key)
        for step in self._steps():
            step.fill_(max(steps, default=0.0))

    def _steps(self) -> list[Tensor]:
        return [state["step"] for state in self._engine.basic_optimizer.state.values()]

    def _gathered(self, parameter: Tensor, writing: bool = False) -> Any:
        """Gather a parameter: inside it is whole on every rank, and what rank 0 writes to it is kept."""
        from deepspeed.runtime.zero import GatheredParameters

        partitioned = hasattr(parameter, "ds_id")
        return GatheredParameters([parameter] if partitioned else [], modifier_rank=0 if writing else None)


def set_mode(engine: Any, training: bool) -> None:
    """Switch a DeepSpeed engine and its module to training or evaluation.

    DeepSpeed's own `train` and `eval` leave the flag of the engine itself alone, which a loss reads: labels would be
    smoothed in validation too.
    """
    engine.train(training)
    engine.training = training


def whole_copy(skeleton: nn.Module, weights: Mapping[str, Tensor], device: torch.device) -> nn.Module:
    """Return a module like `skeleton`, whose parameters may be empty, with the weights of a `state_dict`."""
    made = copy.deepcopy(skeleton)
    for name, parameter in made.named_parameters():
        parameter.data = weights[name]
    for name, buffer in made.named_buffers():
        if name in weights:
            buffer.copy_(weights[name])
    return made.to(device)


def emptied(module: nn.Module) -> nn.Module:
    """Copy a module with empty parameters: ties, buffers and structure only."""
    memo: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty(0, dtype=p.dtype), requires_grad=p.requires_grad) for p in module.parameters()
    }
    return copy.deepcopy(module, memo)
