"""Noise schedules of diffusion: the noise levels that a network is trained on, in float64 and without torch.

A noise level is a pair of a signal ``a`` and a noise ``s`` with a² + s² = 1, and ``sigma = s / a``. The noisy form of a
clean sample x0 is ``z = a·x0 + s·eps``, or, divided by a, ``x = x0 + sigma·eps``; eps has mean 0 and variance 1. A
schedule whose last level is pure noise ends with a = 0 and sigma = ∞.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.errors import ConfigError, did_you_mean

SCHEDULES = ("linear", "scaled_linear", "cosine", "sigma", "karras")
SPACINGS = ("levels", "karras", "geometric")
MOST_LEVELS = 1_000_000

_BETAS = {"linear": (1e-4, 0.02), "scaled_linear": (0.00085, 0.012)}
"""First and last beta where none are given: arXiv 2006.11239 §4, and Stable Diffusion's (arXiv 2112.10752)."""
_SPACING = {"sigma": "geometric", "karras": "karras"}
"""Spacing of the sampling steps where none is given; "levels" for the schedules of betas."""
_COSINE_OFFSET = 0.008
_LARGEST_COSINE_BETA = 0.999
"""Both from arXiv 2102.09672 §3.2."""


@dataclass(frozen=True)
class NoiseSchedule:
    """The noise levels of a diffusion model, from the least noise (index 0) to the most.

    A setting that is unusable is refused when the schedule is made (`ConfigError`), and levels that do not ascend
    strictly are refused when `sigmas` is first asked for.

    Attributes:
        kind: the rule that makes the levels.
            ``linear``: beta rises linearly (arXiv 2006.11239 §4); a² is the product of 1 - beta.
            ``scaled_linear``: the square root of beta rises linearly (arXiv 2112.10752).
            ``cosine``: a² is a squared cosine of time, beta at most 0.999 (arXiv 2102.09672 eq. 17).
            ``sigma``: sigma rises geometrically from sigma_min to sigma_max (arXiv 2011.13456 App. C).
            ``karras``: sigma^(1/rho) rises linearly (arXiv 2206.00364 eq. 5).
        levels: number of levels.
        beta_start: first beta of ``linear`` and ``scaled_linear``; None: the default of the kind.
        beta_end: last beta of these.
        sigma_min: first sigma of ``sigma`` and ``karras``.
        sigma_max: last sigma of these.
        rho: exponent of ``karras``.
        zero_terminal_snr: shift and scale a so that the last level is pure noise and the first one stays (arXiv
            2305.08891 Alg. 1); only for schedules of betas.

    Example:
        >>> NoiseSchedule("linear", levels=1000).remaining_signal
        0.006352818087570025
    """

    kind: str = "linear"
    levels: int = 1000
    beta_start: float | None = None
    beta_end: float | None = None
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    zero_terminal_snr: bool = False

    def __post_init__(self) -> None:
        if self.kind not in SCHEDULES:
            near = did_you_mean(str(self.kind), SCHEDULES)
            raise ConfigError(
                f"noise_schedule {self.kind!r}: there is no such schedule{near}; choose {', '.join(SCHEDULES)}"
            )
        if type(self.levels) is not int or not 2 <= self.levels <= MOST_LEVELS:
            raise ConfigError(f"noise_levels {self.levels!r}: give a whole number from 2 to {MOST_LEVELS:,}")
        if self.kind in _BETAS:
            for name, default in zip(("beta_start", "beta_end"), _BETAS[self.kind], strict=True):
                if getattr(self, name) is None:
                    object.__setattr__(self, name, default)
                beta = _number(name, getattr(self, name))
                if not 0.0 < beta < 1.0:
                    raise ConfigError(f"{name} {beta!r}: a beta lies between 0 and 1, both left out")
        for name in ("sigma_min", "sigma_max", "rho"):
            if not 0.0 < _number(name, getattr(self, name)) < math.inf:
                raise ConfigError(f"{name} {getattr(self, name)!r}: give a finite number above 0")
        if not self.sigma_min < self.sigma_max:
            raise ConfigError(f"sigma_min {self.sigma_min!r}: must be less than sigma_max, which is {self.sigma_max!r}")
        if self.zero_terminal_snr and self.kind in _SPACING:
            raise ConfigError(
                f"zero_terminal_snr: it rescales a schedule of betas, and noise_schedule {self.kind} ends at sigma_max;"
                " raise sigma_max, or choose linear, scaled_linear or cosine"
            )

    @cached_property
    def sigmas(self) -> NDArray[np.float64]:
        """The levels' sigma = s / a, shape (levels,), strictly ascending; the last is ∞ with `zero_terminal_snr`."""
        with np.errstate(over="ignore", divide="ignore"):
            sigmas = self._sigmas_by_kind()
        rising = sigmas[1:] > sigmas[:-1]
        if not (rising.all() and sigmas[0] > 0.0):
            place = 0 if rising.all() else int(np.argmin(rising))
            pair = f"levels {place} and {place + 1} have sigma {sigmas[place]:.6g} and {sigmas[place + 1]:.6g}"
            raise ConfigError(
                f"noise_schedule {self.kind} with {self.levels} levels: sigma must rise from level to level, and {pair}"
                "; give fewer levels, or betas or sigmas that lie less far apart"
            )
        sigmas.setflags(write=False)
        return sigmas

    def _sigmas_by_kind(self) -> NDArray[np.float64]:
        if self.kind == "sigma":
            return geometric(self.sigma_min, self.sigma_max, self.levels)
        if self.kind == "karras":
            return karras(self.sigma_min, self.sigma_max, self.levels, self.rho)
        # a² is a product of numbers near 1, and s² = 1 - a²: in logarithms nothing cancels.
        log_signal = 0.5 * np.cumsum(np.log1p(-self.betas))
        if not self.zero_terminal_snr:
            return np.exp(-log_signal) * np.sqrt(-np.expm1(2.0 * log_signal))
        signal, lost = np.exp(log_signal), -np.expm1(log_signal)
        first, last = signal[0], signal[-1]
        rescaled = (signal - last) * (first / (first - last))
        lost = (first * lost - last * lost[0]) / (first - last)  # 1 - rescaled, without the cancellation
        sigmas: NDArray[np.float64] = np.sqrt(lost * (1.0 + rescaled)) / rescaled
        return sigmas

    @property
    def betas(self) -> NDArray[np.float64]:
        """The share of the variance that each level replaces by noise, shape (levels,), before any rescaling.

        Raises:
            ConfigError: this kind of schedule is one of sigmas.
        """
        if self.kind == "cosine":
            angle = (np.arange(self.levels + 1) / self.levels + _COSINE_OFFSET) / (1.0 + _COSINE_OFFSET) * np.pi / 2.0
            kept = np.cos(angle) ** 2
            betas: NDArray[np.float64] = np.minimum(1.0 - kept[1:] / kept[:-1], _LARGEST_COSINE_BETA)
            return betas
        if self.beta_start is None or self.beta_end is None:
            raise ConfigError(f"noise_schedule {self.kind}: it is a schedule of sigmas and has no betas")
        if self.kind == "linear":
            return np.linspace(self.beta_start, self.beta_end, self.levels)
        return np.linspace(math.sqrt(self.beta_start), math.sqrt(self.beta_end), self.levels) ** 2

    @property
    def remaining_signal(self) -> float:
        """The factor a of a clean sample in the last level: 0 is pure noise.

        A sampler starts from pure noise, so a schedule that keeps much here cannot be sampled from: ``linear`` with 100
        levels keeps 0.60 (36 % of the variance).
        """
        return float(self.signal_and_noise(self.levels - 1)[0])

    def signal_and_noise(self, index: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (a, s) of levels, a² + s² = 1; exact where sigma is ∞.

        Args:
            index: indices of levels of any shape; between two levels as `sigma_at`.

        Raises:
            ValueError: an index lies outside the schedule.
        """
        return signal_and_noise_of(self.sigma_at(index))

    def sigma_at(self, index: ArrayLike) -> NDArray[np.float64]:
        """Return sigma of levels; between two levels by interpolation of log sigma.

        Below a level whose sigma is ∞ 1 / sigma is interpolated.

        Args:
            index: numbers from 0 to levels - 1, of any shape.

        Raises:
            ValueError: an index lies outside the schedule.
        """
        place = np.asarray(index, dtype=np.float64)
        if not ((place >= 0.0) & (place <= self.levels - 1)).all():
            raise ValueError(f"an index of a noise level lies outside 0 … {self.levels - 1}: {index!r}")
        lower = np.minimum(place.astype(np.int64), self.levels - 2)
        low, high, share = self.sigmas[lower], self.sigmas[lower + 1], place - lower
        with np.errstate(divide="ignore", invalid="ignore"):
            between = np.where(np.isinf(high), low / (1.0 - share), low * (high / low) ** share)
        return np.where(share == 0.0, low, np.where(share == 1.0, high, between))

    def index_of(self, sigma: ArrayLike) -> NDArray[np.float64]:
        """Return the index of levels by their sigma: the inverse of `sigma_at`, exact at the levels themselves.

        A sigma outside the schedule has the index of the nearest level: a network knows no others.

        Args:
            sigma: values of any shape, 0 … ∞.

        Raises:
            ValueError: a sigma is negative or NaN.
        """
        value = np.asarray(sigma, dtype=np.float64)
        if not (value >= 0.0).all():
            raise ValueError(f"a sigma is 0 or more: {sigma!r}")
        value = np.clip(value, self.sigmas[0], self.sigmas[-1])
        lower = np.clip(np.searchsorted(self.sigmas, value, side="right") - 1, 0, self.levels - 2)
        low, high = self.sigmas[lower], self.sigmas[lower + 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(np.isinf(high), 1.0 - low / value, np.log(value / low) / np.log(high / low))
        return lower.astype(np.float64) + np.where(value == low, 0.0, np.where(value == high, 1.0, share))

    def sampling_sigmas(self, steps: int, spacing: str | None = None) -> NDArray[np.float64]:
        """Return the levels that a sampler visits: steps + 1 values of sigma, strictly descending, the last one 0.

        Args:
            steps: number of steps, 1 or more; more than there are levels is possible.
            spacing: ``levels``: evenly spaced indices of levels, the last level first ("trailing", arXiv 2305.08891
                Table 2), whole numbers unless there are more steps than levels. ``karras``: arXiv 2206.00364 eq. 5
                between the schedule's last and first level. ``geometric``: a constant ratio between these. None: the
                rule of the schedule itself (``karras``, ``sigma``: geometric), else ``levels``. A last level of sigma =
                ∞ is always the first step, and the others are spaced from the level below it.

        Raises:
            ConfigError: there are no steps, or there is no such spacing.
        """
        if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
            raise ConfigError(f"sampling_steps {steps!r}: give a whole number of 1 or more")
        spacing = spacing if spacing is not None else _SPACING.get(self.kind, "levels")
        if spacing not in SPACINGS:
            raise ConfigError(f"spacing {spacing!r}: there is no such spacing; choose {', '.join(SPACINGS)}")
        if spacing == "levels":
            if steps <= self.levels:
                # floor(x + 1/2), since rounding half to even could give a level twice
                whole = np.floor(np.arange(steps, 0, -1) * (self.levels / steps) + 0.5) - 1.0
                found = self.sigma_at(whole)
            else:
                found = self.sigma_at(np.linspace(self.levels - 1, 0, steps))
        else:
            infinite = self.sigmas[-1:][np.isinf(self.sigmas[-1:])]
            high, low, count = self.sigmas[-1 - len(infinite)], self.sigmas[0], steps - len(infinite)
            between = geometric(high, low, count) if spacing == "geometric" else karras(high, low, count, self.rho)
            found = np.concatenate([infinite, between])
        return np.append(found, 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings, defaults filled in, as JSON takes them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NoiseSchedule:
        """Make the schedule that `to_dict` described.

        Raises:
            ConfigError: a key is unknown, or a value is unusable.
        """
        names = [field.name for field in fields(cls)]
        for name in values:
            if name not in names:
                raise ConfigError(f"a noise schedule has no {name!r}{did_you_mean(str(name), names)}")
        return cls(**values)


def signal_and_noise_of(sigma: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (a, s) with s / a = sigma and a² + s² = 1 for values of sigma from 0 to ∞."""
    value = np.asarray(sigma, dtype=np.float64)
    length = np.hypot(1.0, value)
    with np.errstate(invalid="ignore"):
        return 1.0 / length, np.where(np.isinf(value), 1.0, value / length)


def geometric(first: float, last: float, count: int) -> NDArray[np.float64]:
    """Return `count` values with a constant ratio, both ends exact; one value is the first."""
    return _with_exact_ends(np.exp(np.linspace(math.log(first), math.log(last), count)), first, last)


def karras(first: float, last: float, count: int, rho: float) -> NDArray[np.float64]:
    """Return `count` values whose rho-th roots are evenly spaced (arXiv 2206.00364 eq. 5), both ends exact."""
    return _with_exact_ends(np.linspace(first ** (1.0 / rho), last ** (1.0 / rho), count) ** rho, first, last)


def _with_exact_ends(values: NDArray[np.float64], first: float, last: float) -> NDArray[np.float64]:
    values[-1:] = last
    values[:1] = first
    return values


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{name} {value!r}: give a number")
    return float(value)
