"""Muon with matrix products in fp32, for CPUs.

`torch.optim.Muon` orthogonalises in bf16, which a CPU without bf16 arithmetic emulates: an update of the default model
then spends more time in the optimizer than in the model. Here matrices of one shape go through the same iteration
together, in fp32 and on the smaller side. On CUDA, where bf16 is fast, torch's own Muon is used.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from training.engines.eager_optimizers import EagerMethods


def orthogonalized(matrices_NRC: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Move the singular values of matrices (N, R, C), fp32, to about 1 by Newton–Schulz (Jordan et al. 2024).

    Each step maps X to (aI + bA + cA²) X with A = X Xᵀ. All steps are polynomials of the first A, so they are computed
    on the small square A only and applied to X once, at the end.
    """
    if matrices_NRC.shape[1] > matrices_NRC.shape[2]:
        return orthogonalized(matrices_NRC.mT, coefficients, steps, eps).mT
    x_NRC = matrices_NRC / matrices_NRC.norm(dim=(1, 2), keepdim=True).clamp_min(eps)
    gram_NRR = x_NRC @ x_NRC.mT
    applied_NRR = _step(gram_NRR, coefficients)
    step_NRR = applied_NRR
    for _ in range(steps - 1):
        gram_NRR = step_NRR @ gram_NRR @ step_NRR
        step_NRR = _step(gram_NRR, coefficients)
        applied_NRR = step_NRR @ applied_NRR
    done_NRC: Tensor = applied_NRR @ x_NRC
    return done_NRC


def _step(gram_NRR: Tensor, coefficients: tuple[float, float, float]) -> Tensor:
    """Compute aI + bA + cA²."""
    a, b, c = coefficients
    step_NRR = torch.baddbmm(gram_NRR, gram_NRR, gram_NRR, beta=b, alpha=c)
    step_NRR.diagonal(dim1=1, dim2=2).add_(a)
    return step_NRR


class Float32Muon(EagerMethods, torch.optim.Muon):
    """Variant of `torch.optim.Muon` in fp32: same arguments, same state, same updates up to bf16's rounding.

    The only supported `adjust_lr_fn` is `match_rms_adamw` (Moonlight, arXiv 2502.16982).
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            self._step_group(group)

    def _step_group(self, group: dict[str, Any]) -> None:
        by_shape: defaultdict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        momentum = group["momentum"]
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter.grad)
            mean = state["momentum_buffer"].lerp_(parameter.grad, 1.0 - momentum)
            # Nesterov momentum, as in torch.
            by_shape[parameter.shape].append((parameter, parameter.grad.lerp(mean, momentum)))
        for shape, members in by_shape.items():
            updates = orthogonalized(
                torch.stack([update for _, update in members]),
                group["ns_coefficients"],
                group["ns_steps"],
                group["eps"],
            )
            rate = group["lr"] * 0.2 * math.sqrt(max(shape))
            for (parameter, _), update in zip(members, updates, strict=True):
                parameter.mul_(1.0 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)
