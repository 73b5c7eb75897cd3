"""Objective of diffusion: a network's estimate at drawn noise levels, and the samples with their draws.

Every random draw of a sample (crop, flip, level, left-out condition, noise) is a function of the sample and of a seed
that the run derives from its own, the epoch and the sample's number: the same for any number of ranks, any size of
micro-batches and any backend.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.diffusion.noise_schedules import NoiseSchedule, signal_and_noise_of
from training.diffusion.predictions import Prediction
from training.models.denoiser import LABELS, DenoiserFamily
from training.settings.tree import ModelOptions
from training.tasks.batch_plan import mix
from training.tasks.diffusion.metrics import band_metrics, band_name
from training.tasks.fingerprints import hash_of_row
from training.tasks.metrics import Metric
from training.tasks.objective import Batch, LossSum

CONDITION = "condition_"
"""Prefix of the tensors of a batch that are conditions of the network."""


class CleanSample(Protocol):
    """A sample as a source gives it."""

    @property
    def values(self) -> NDArray[np.float32]:
        """Return the values, (C, H, W) or (D,)."""
        ...


class CleanSamples(Protocol):
    """Source of samples without noise."""

    def __len__(self) -> int: ...

    def sample(self, index: int, draws: np.random.Generator | None) -> Any:
        """Return a `CleanSample`; its crop and flip are drawn from `draws`, with None there is no random one."""
        ...


Conditions = Mapping[str, NDArray[Any]]
"""Conditions of one sample by name: `labels` (), int64; `text` (T, D), float32."""


@dataclass(frozen=True)
class Conditioning:
    """The conditions that a network gets with a sample.

    Args:
        of: function (number of a sample, the sample) -> its conditions.
        left_out: conditions in the place of those that are left out.
        dropout: share of the training samples whose conditions are left out, for classifier-free guidance.
    """

    of: Callable[[int, Any], Conditions]
    left_out: Conditions
    dropout: float = 0.0


@dataclass(frozen=True)
class LevelDraws:
    """Distribution of the noise levels of training samples.

    Args:
        schedule: the levels.
        law: "uniform" over the levels, or "lognormal": ln sigma is normal (arXiv 2206.00364, table 1), cut off at the
            schedule's ends.
        mean: of ln sigma.
        deviation: standard deviation of ln sigma.
    """

    schedule: NoiseSchedule
    law: str = "uniform"
    mean: float = -1.2
    deviation: float = 1.2

    @cached_property
    def _log_sigma(self) -> NormalDist:
        return NormalDist(self.mean, self.deviation)

    def drawn(self, draws: np.random.Generator) -> float:
        """Return the sigma of a level; one number is drawn."""
        return self.quantile(draws.random())

    def quantile(self, share: float) -> float:
        """Return the sigma below which this share of the levels lies, 0 to 1."""
        sigmas = self.schedule.sigmas
        if self.law == "uniform":
            return float(sigmas[min(int(share * len(sigmas)), len(sigmas) - 1)])
        share = min(max(share, 1e-12), 1.0 - 1e-12)
        sigma = math.exp(self._log_sigma.inv_cdf(share))
        return min(max(sigma, float(sigmas[0])), float(sigmas[-1]))

    def bands(self, count: int) -> NDArray[np.float64]:
        """Return the sigmas in the middles of so many bands with equal shares of the levels, ascending."""
        return np.array([self.quantile((number + 0.5) / count) for number in range(count)])


class SampleDraws:
    """Generator that is set to the beginning of a sample's own stream: what `Generator(Philox(key=seed))` would draw.

    One generator is set again and again, because making one takes ten times as long, more than the draws of a sample.
    """

    def __init__(self) -> None:
        self._bits = np.random.Philox(key=0)
        self._generator = np.random.Generator(self._bits)
        self._beginning = self._bits.state

    def of(self, seed: int) -> np.random.Generator:
        """Return the generator, at the beginning of the stream of a seed (0 to 2^63 - 1) until the next call."""
        self._beginning["state"]["key"][0] = seed
        self._bits.state = self._beginning
        return self._generator


class NoisySample(NamedTuple):
    """A clean sample with the noise that it gets, at one level in training and at each band in validation (K)."""

    values: NDArray[np.float32]
    """Clean sample, (…)."""
    noise: NDArray[np.float32]
    """(K, …)."""
    sigmas: NDArray[np.float64]
    """Ratio of noise to signal, (K,)."""
    conditions: Conditions


class NoisySamples:
    """Dataset of samples with noise.

    Args:
        source: samples without noise.
        levels: distribution of the levels.
        conditioning: conditions of the network; None: it gets none.
        bands: sigmas at which each sample is measured, for validation, with no other random draw than the noise; None:
            a level is drawn for each sample, for training.
    """

    def __init__(
        self,
        source: CleanSamples,
        levels: LevelDraws,
        conditioning: Conditioning | None = None,
        bands: NDArray[np.float64] | None = None,
    ) -> None:
        self.source, self.levels, self.conditioning, self.bands = source, levels, conditioning, bands
        self._draws = SampleDraws()

    def __len__(self) -> int:
        return len(self.source)

    def in_bands(self, bands: NDArray[np.float64]) -> NoisySamples:
        """Return the same samples at these sigmas, with no other random draw than the noise."""
        return NoisySamples(self.source, self.levels, self.conditioning, bands)

    def labels(self) -> NDArray[np.int64]:
        """Return the class that the network gets with each sample, (N,); zeros where it gets none."""
        if self.conditioning is None or LABELS not in self.conditioning.left_out:
            return np.zeros(len(self), dtype=np.int64)
        samples = (self.source.sample(number, None) for number in range(len(self)))
        return np.array([self.conditioning.of(n, sample)[LABELS] for n, sample in enumerate(samples)], dtype=np.int64)

    def __getitem__(self, index: int) -> NoisySample:
        """Return a sample with fixed draws, which depend on its number alone."""
        return self.drawn(index, mix(index) >> 1)

    def drawn(self, index: int, seed: int) -> NoisySample:
        """Return a sample with the draws of a seed.

        Args:
            index: its number.
            seed: 0 to 2^63 - 1.
        """
        draws = self._draws.of(seed)
        is_training = self.bands is None
        sample = self.source.sample(index, draws if is_training else None)
        sigmas = np.array([self.levels.drawn(draws)]) if self.bands is None else self.bands
        conditions: Conditions = {}
        if self.conditioning is not None:
            conditions = self.conditioning.of(index, sample)
            # The number is drawn in any case: what follows depends on the settings and on no sample.
            if draws.random() < self.conditioning.dropout and is_training:
                conditions = self.conditioning.left_out
        noise = draws.standard_normal((len(sigmas), *sample.values.shape), dtype=np.float32)
        return NoisySample(sample.values, noise, sigmas, conditions)


class DiffusionObjective:
    """Objective: the network's output at drawn noise levels, compared with what the prediction says.

    The loss of a sample is the weighted mean squared error over its values; in validation the mean over the bands.

    Args:
        family: builds the network and runs it.
        options: the network's options, completed.
        schedule: the noise levels.
        prediction: meaning of the network's output.
        weighting: weight of a level in the loss.
        gamma: largest signal-to-noise ratio that counts, for min_snr.
        bands: number of noise levels at which validation measures a sample.
    """

    def __init__(
        self,
        family: DenoiserFamily,
        options: ModelOptions,
        schedule: NoiseSchedule,
        prediction: Prediction,
        weighting: str = "plain",
        gamma: float = 5.0,
        bands: int = 1,
    ) -> None:
        self.family, self.options = family, options
        self.schedule, self.prediction = schedule, prediction
        self.weighting, self.gamma, self.bands = weighting, gamma, bands
        self.metrics: Sequence[Metric] = band_metrics(bands)

    def build_model(self) -> nn.Module:
        """Return a network of the family with new weights, or with those that training starts from."""
        return self.family.build(self.options, None)

    def lengths(self, dataset: Any) -> NDArray[np.int64]:
        """Return zeros: all samples have the same size."""
        return np.zeros(len(dataset), dtype=np.int64)

    def weights(self, dataset: Any) -> NDArray[np.int64]:
        """Return ones: all samples have the same weight."""
        return np.ones(len(dataset), dtype=np.int64)

    def collate(self, samples: Sequence[NoisySample]) -> Batch:
        """Stack samples.

        Tensors: `clean` (N, …), `noise` (N, K, …), signal `a`, noise `s`, `time` and `weight` of each level (N, K) in
        fp32, and each condition under its name with the prefix `CONDITION`.
        """
        sigmas_NK = np.stack([sample.sigmas for sample in samples])
        a_NK, s_NK = (torch.from_numpy(part) for part in signal_and_noise_of(sigmas_NK))
        weight_NK = self.prediction.loss_weight(self.weighting, a_NK.flatten(), s_NK.flatten(), self.gamma)
        tensors = {
            "clean": torch.from_numpy(np.stack([sample.values for sample in samples])),
            "noise": torch.from_numpy(np.stack([sample.noise for sample in samples])),
            "a": a_NK.float(),
            "s": s_NK.float(),
            "time": torch.from_numpy(self._time(sigmas_NK)).float(),
            "weight": weight_NK.reshape(a_NK.shape).float(),
        }
        for name in samples[0].conditions:
            stacked = np.stack([sample.conditions[name] for sample in samples])
            tensors[f"{CONDITION}{name}"] = torch.from_numpy(stacked)
        return Batch(tensors, weight=len(samples), tokens=0, num_samples=len(samples))

    def _time(self, sigmas: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the network's input `time` at any sigmas, as `Prediction.time_at` does at one."""
        if self.prediction.kind == "edm":
            found: NDArray[np.float64] = np.log(sigmas) / 4.0
            return found
        return self.schedule.index_of(sigmas)

    def hashes(self, batch: Batch) -> Iterator[int]:
        """Yield a hash of each sample: its values, noise, levels and conditions."""
        names = sorted(batch.tensors)
        for row in range(batch.num_samples):
            yield hash_of_row(*(batch.tensors[name][row].contiguous().numpy().tobytes() for name in names))

    def loss(self, model: nn.Module, batch: Batch) -> LossSum:
        """Sum the samples' losses; where they were measured in bands, also the loss in each band."""
        count = batch.tensors["noise"].shape[1]
        sums = [self.loss_at(model, batch.tensors, level) for level in range(count)]
        if count == 1:
            return LossSum(sums[0])
        return LossSum(
            torch.stack(sums).mean(),
            {band_name(number): value.detach() for number, value in enumerate(sums, start=1)},
        )

    def loss_at(self, model: nn.Module, tensors: Mapping[str, Tensor], level: int) -> Tensor:
        """Sum the losses at one of the levels of each sample."""
        clean, noise = tensors["clean"], tensors["noise"][:, level]
        a_N, s_N, time_N, weight_N = (tensors[name][:, level] for name in ("a", "s", "time", "weight"))
        conditions = {
            name.removeprefix(CONDITION): tensor for name, tensor in tensors.items() if name.startswith(CONDITION)
        }
        read = self.prediction.network_input(clean, noise, a_N, s_N)
        output = self.family.denoise(model, read, time_N, conditions).float()
        target = self.prediction.target(clean, noise, a_N, s_N)
        error_N = (output - target).square().flatten(1).mean(dim=1)
        return (weight_N * error_N).sum()
