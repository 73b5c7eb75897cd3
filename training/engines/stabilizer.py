"""DBC-DAC: dimension-balanced compression and dimension-accompanying compensation of gradients.

For every matrix gradient G (R rows, C columns), once per update, before clipping:

1. Spike guard. Each row keeps a running norm; a row above `spike_factor` times it is scaled down to that. 2. Balance.
Rows are divided by their running norms, so that a low-rank basis serves weak rows as well as strong ones. 3. Compress
(DBC). The remainder of earlier updates is added, and the sum M is projected on a low-rank basis by one power
   iteration, warm-started from the last update: P = orth(M Q), Q = Mᵀ P, M̂ = P Qᵀ (PowerSGD, Vogels et al.,
   arXiv 1905.13727).
4. Compensate (DAC). The remainder of the projection, M - M̂, is kept and added in later updates.
5. Unbalance. The rows of M̂ get their norms back and replace G.

Vectors (norms' weights) get only step 1, each as a single row. The initial bases come from a separate random generator,
so that the stabilizer does not change dropout. The figures behind its defaults are in docs/STABILIZER.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

NORM_DECAY = 0.99
WARMUP_UPDATES = 10
"""Number of first updates in which running norms adapt quickly and rows are only guarded against multiples of the first
norms."""


class DBCDAC:
    """State of the stabilizer for a set of parameters; call it once per update, after the backward pass.

    Args:
        named_parameters: the parameters whose gradients it balances, in a fixed order.
        rank: rank of the compressed gradient; a matrix that is not larger is not compressed.
        spike_factor: a row is clipped to this many times its running norm.
        seed: seed of the initial bases.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        rank: int,
        spike_factor: float,
        seed: int,
    ) -> None:
        self.rank = rank
        self.spike_factor = spike_factor
        self._parameters = dict(named_parameters)
        self._generator = torch.Generator().manual_seed(seed)
        self._state: dict[str, dict[str, Tensor]] = {}
        self._updates = 0

    @torch.no_grad()
    def __call__(self) -> None:
        """Replace every gradient by its stabilized form. Gradients must be finite."""
        for name, parameter in self._parameters.items():
            if parameter.grad is not None:
                self._stabilize(name, parameter.grad)
        self._updates += 1

    def _stabilize(self, name: str, gradient: Tensor) -> None:
        rows_RC = gradient.reshape(gradient.shape[0], -1) if gradient.ndim >= 2 else gradient.reshape(1, -1)
        norms_R = rows_RC.norm(dim=1)
        state = self._state.get(name)
        if state is None:
            # A row that is zero now (a gate at the start) must not be clipped to zero forever: its norm starts at the
            # mean.
            state = self._state[name] = {"norms": norms_R.clamp(min=float(norms_R.mean()) + 1e-12)}
        limit_R = self.spike_factor * state["norms"]
        rows_RC = rows_RC * (limit_R / norms_R.clamp(min=1e-30)).clamp(max=1.0)[:, None]
        decay = min(NORM_DECAY, 1.0 - 1.0 / (self._updates + 2.0)) if self._updates < WARMUP_UPDATES else NORM_DECAY
        state["norms"].mul_(decay).add_(torch.minimum(norms_R, limit_R), alpha=1.0 - decay)
        if min(rows_RC.shape) > self.rank:
            rows_RC = self._compress(state, rows_RC)
        gradient.copy_(rows_RC.reshape(gradient.shape))

    def _compress(self, state: dict[str, Tensor], rows_RC: Tensor) -> Tensor:
        if "basis" not in state:
            # Drawn on the CPU, so that the start is the same on every device.
            basis = torch.randn(rows_RC.shape[1], self.rank, generator=self._generator)
            state["basis"] = basis.to(rows_RC)
            state["owed"] = torch.zeros_like(rows_RC)
        scale_R1 = state["norms"].clamp(min=1e-12)[:, None]
        wanted_RC = rows_RC / scale_R1 + state["owed"]
        left_RK, _ = torch.linalg.qr(wanted_RC @ state["basis"])
        state["basis"] = wanted_RC.T @ left_RK
        paid_RC: Tensor = left_RK @ state["basis"].T
        state["owed"] = wanted_RC - paid_RC
        return paid_RC * scale_R1

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next update depends on."""
        return {"updates": self._updates, "generator": self._generator.get_state(), "parameters": self._state}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        self._updates = saved["updates"]
        self._generator.set_state(saved["generator"].cpu())
        self._state = {
            name: {key: tensor.to(self._parameters[name].device) for key, tensor in tensors.items()}
            for name, tensors in saved["parameters"].items()
        }
