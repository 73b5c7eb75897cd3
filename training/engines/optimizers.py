"""Optimizers of the config: PyTorch's AdamW and Muon, as one object that the engine steps and saves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from training.engines.eager_optimizers import EagerAdamW, EagerMuon
from training.engines.muon import Float32Muon
from training.models.protocol import ParameterGroups
from training.settings.tree import OptimizerConfig


class OptimizerSet:
    """One or two torch optimizers that share a learning rate.

    Args:
        optimizers: optimizers by name.
        named_parameters: the names under which the state of their parameters is saved.
    """

    def __init__(
        self, optimizers: Mapping[str, torch.optim.Optimizer], named_parameters: Iterable[tuple[str, nn.Parameter]]
    ) -> None:
        self.optimizers = dict(optimizers)
        self._names = {parameter: name for name, parameter in named_parameters}

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the learning rate of every group of every optimizer."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return `{"adamw": {parameter's name: {"step": …, "exp_avg": …, "exp_avg_sq": …}}, …}`, tensors not copied.

        The keys are names, so the state fits any order and grouping of the parameters, and thus any engine. A parameter
        that had no gradient yet has no entry. Hyperparameters are not included: they come from the config.
        """
        return {
            name: {self._names[p]: dict(optimizer.state[p]) for p in _parameters(optimizer) if p in optimizer.state}
            for name, optimizer in self.optimizers.items()
        }

    def load_state_dict(self, saved: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        """Restore a saved state; nothing of it is shared.

        Raises:
            ValueError: the state is of another optimizer, of other parameters, or of another shape.
        """
        if saved.keys() != self.optimizers.keys():
            raise ValueError(f"it is a state of {_listed(saved)}, the optimizer here is {_listed(self.optimizers)}")
        for name, optimizer in self.optimizers.items():
            states = dict(saved[name])
            by_index: dict[int, dict[str, Any]] = {}
            for index, parameter in enumerate(_parameters(optimizer)):
                of_parameter = states.pop(self._names[parameter], None)
                if of_parameter is not None:
                    by_index[index] = {key: self._copied(parameter, value) for key, value in of_parameter.items()}
            if states:
                raise ValueError(f"{name} has a state for {min(states)}, which it does not train here")
            # torch numbers the parameters in the order of its groups, and converts each state to its dtype and device.
            optimizer.load_state_dict({"state": by_index, "param_groups": optimizer.state_dict()["param_groups"]})

    def _copied(self, parameter: nn.Parameter, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if value.ndim and value.shape != parameter.shape:
            name, was, now = self._names[parameter], tuple(value.shape), tuple(parameter.shape)
            raise ValueError(f"the optimizer's state of {name} has the shape {was}, the parameter has {now}")
        return value.clone()


def _listed(names: Iterable[str]) -> str:
    return " and ".join(sorted(names)) or "none"


def _parameters(optimizer: torch.optim.Optimizer) -> Iterator[nn.Parameter]:
    """Yield the parameters in the order of torch's numbering."""
    for group in optimizer.param_groups:
        yield from group["params"]


def build_optimizers(
    model: nn.Module,
    groups: ParameterGroups,
    config: OptimizerConfig,
    device: torch.device,
    adamw: type[torch.optim.AdamW] = EagerAdamW,
) -> OptimizerSet:
    """Build AdamW for everything, or Muon for the matrices between hidden features and AdamW for the rest.

    `match_rms_adamw` (Moonlight, arXiv 2502.16982) scales the updates of Muon (Jordan et al. 2024) so that one learning
    rate serves both. Embeddings, output heads and norms stay with AdamW; weight decay is for matrices and tables.

    Args:
        model: model whose parameter names are used for saved states.
        groups: the model's trained parameters, as its family groups them.
        config: the optimizer and its settings.
        device: device of the parameters.
        adamw: class of AdamW; DeepSpeed knows torch's own alone.
    """
    optimizers: dict[str, torch.optim.Optimizer] = {}
    by_muon: set[int] = set()
    if config.optimizer == "muon" and groups.matrices:
        by_muon = {id(p) for p in groups.matrices}
        muon = Float32Muon if device.type == "cpu" else EagerMuon
        optimizers["muon"] = muon(
            groups.matrices,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            momentum=config.muon_momentum,
            adjust_lr_fn="match_rms_adamw",
        )
    # In the model's own order: DeepSpeed stores the parameters of a group one after the other in this order.
    decayed = {id(p) for p in (*groups.matrices, *groups.embeddings)} - by_muon
    norms = {id(p) for p in groups.norms}
    parts = [
        {"params": [p for p in model.parameters() if id(p) in decayed], "weight_decay": config.weight_decay},
        {"params": [p for p in model.parameters() if id(p) in norms], "weight_decay": 0.0},
    ]
    parts = [part for part in parts if part["params"]]
    if parts:
        optimizers["adamw"] = adamw(
            parts,
            lr=config.learning_rate,
            betas=(config.adam_beta1, config.adam_beta2),
            eps=config.adam_eps,
            fused=device.type in ("cpu", "cuda"),
        )
    return OptimizerSet(optimizers, model.named_parameters())
