"""Optimizers from the config: PyTorch's own AdamW and Muon, as one object that the engine steps and saves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from training.config import OptimizerConfig


class OptimizerSet:
    """One or two torch optimizers that share a learning rate."""

    def __init__(self, optimizers: Mapping[str, torch.optim.Optimizer]) -> None:
        self.optimizers = dict(optimizers)

    def set_learning_rate(self, learning_rate: float) -> None:
        """For every group of every optimizer."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """State of each optimizer by name."""
        return {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from a saved state. Raises KeyError if it is another optimizer's."""
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(saved[name])


def build_optimizers(model: nn.Module, config: OptimizerConfig, device: torch.device) -> OptimizerSet:
    """AdamW on everything, or Muon on the hidden matrices and AdamW on the rest.

    Muon (Jordan et al. 2024) is for the matrices between hidden features: embeddings, output heads, norms and the
    autopoietic controls, which start at zero and have one row per head, stay with AdamW. `match_rms_adamw` (Moonlight,
    arXiv 2502.16982) scales Muon's updates so that one learning rate serves both. Weight decay is for matrices.
    """
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    controls = {id(p) for name, p in model.named_parameters() if "self_control" in name or name.startswith("head.")}
    parameters = [p for p in model.parameters() if p.requires_grad]
    hidden = [p for p in parameters if p.ndim == 2 and id(p) not in tables and id(p) not in controls]
    rest = parameters
    optimizers: dict[str, torch.optim.Optimizer] = {}
    if config.optimizer == "muon" and hidden:
        is_hidden = {id(p) for p in hidden}
        rest = [p for p in parameters if id(p) not in is_hidden]
        optimizers["muon"] = torch.optim.Muon(
            hidden,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            momentum=config.muon_momentum,
            adjust_lr_fn="match_rms_adamw",
        )
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if groups:
        optimizers["adamw"] = torch.optim.AdamW(
            groups,
            lr=config.learning_rate,
            betas=(config.adam_beta1, config.adam_beta2),
            eps=config.adam_eps,
            fused=device.type in ("cpu", "cuda"),
        )
    return OptimizerSet(optimizers)
