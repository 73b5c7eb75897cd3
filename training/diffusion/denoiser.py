"""A trained network as the estimate of the clean sample that samplers ask for, with classifier-free guidance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from training.diffusion.noise_schedules import NoiseSchedule, signal_and_noise_of
from training.diffusion.predictions import Prediction
from training.errors import ConfigError

Network = Callable[[Tensor, Tensor, Mapping[str, Tensor]], Tensor]
"""Called with inputs (N, …), time (N,) and conditions by name, each (N, …); returns outputs shaped like the inputs."""


class Denoiser:
    """The estimate D(x, sigma) of the clean samples x0 in x = x0 + sigma·eps.

    Everything is computed in the dtype of x, which must be one that the network accepts.

    Args:
        network: the network, already in evaluation mode.
        schedule: the noise levels that it was trained on.
        prediction: what its output means.
        conditions: what the samples are to be, by name: tensors whose first dimension is the samples'.
        unconditional: the same names, for "no condition"; needed for a guidance other than 1.
        guidance: w in D = D_uncond + w·(D_cond - D_uncond), arXiv 2207.12598 eq. 6 with w = 1 + its own w: 1 is the
            plain conditional estimate, which costs one call of the network instead of one of twice the size.

    Raises:
        ConfigError: the guidance is not finite, or needs the unconditional conditions and there are none.
    """

    def __init__(
        self,
        network: Network,
        schedule: NoiseSchedule,
        prediction: Prediction,
        conditions: Mapping[str, Tensor] | None = None,
        unconditional: Mapping[str, Tensor] | None = None,
        guidance: float = 1.0,
    ) -> None:
        if not math.isfinite(guidance):
            raise ConfigError(f"guidance {guidance!r}: give a finite number; 1 is no guidance")
        if guidance != 1.0 and not (conditions and unconditional):
            raise ConfigError(
                f"guidance {guidance!r}: only a model with conditions can be guided; 1 is no guidance"
                if not conditions
                else f"guidance {guidance!r}: the model has learned no samples without their condition; give 1"
            )
        if guidance != 1.0 and conditions and unconditional and set(conditions) != set(unconditional):
            raise ValueError(f"conditions {sorted(conditions)} and unconditional {sorted(unconditional)} differ")
        self.network = network
        self.schedule = schedule
        self.prediction = prediction
        self.conditions = dict(conditions or {})
        self.unconditional = dict(unconditional or {})
        self.guidance = guidance

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return the estimate of the clean samples, shaped like x.

        Args:
            x: noisy samples x0 + sigma·eps, (N, …); for sigma = ∞ the noise eps itself.
            sigma: noise level, 0 … ∞, the same for all samples.

        Raises:
            ConfigError: sigma is ∞, and the prediction has no estimate there.
        """
        if math.isinf(sigma) and self.prediction.kind in ("epsilon", "edm"):
            raise ConfigError(
                f"prediction {self.prediction.kind}: it has no estimate at sigma = ∞, pure noise;"
                " sample from a finite sigma, or train with v or x0"
            )
        a, s = map(float, signal_and_noise_of(sigma))
        z = x if math.isinf(sigma) else a * x
        output = self._output(self.prediction.scaled_input(z, a, s), self.prediction.time_at(self.schedule, sigma))
        return self.prediction.clean(output, z, a, s)

    def _output(self, inputs: Tensor, time: float) -> Tensor:
        times = torch.full((len(inputs),), time, dtype=inputs.dtype, device=inputs.device)
        if self.guidance == 1.0:
            return self.network(inputs, times, self.conditions)
        both = {name: torch.cat([self.conditions[name], self.unconditional[name]]) for name in self.conditions}
        wanted, free = self.network(torch.cat([inputs, inputs]), torch.cat([times, times]), both).chunk(2)
        # The estimate is affine in the output with the same offset for both, so guiding the output guides the estimate.
        return free + self.guidance * (wanted - free)
