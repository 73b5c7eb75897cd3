"""Samples with noise, and the loss of a network on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from training.diffusion.closed_forms import FiniteSetDenoiser, least_loss
from training.diffusion.noise_schedules import NoiseSchedule
from training.diffusion.predictions import PREDICTIONS, Prediction
from training.machine.ranks import Ranks
from training.models.denoiser import LABELS, BaseDenoiserFamily, DenoiserOptions
from training.settings.tree import ModelOptions
from training.tasks.diffusion.objective import (
    Conditioning,
    DiffusionObjective,
    LevelDraws,
    NoisySamples,
    SampleDraws,
)
from training.tasks.diffusion.sources import Sample
from training.tasks.rank_batches import Feed

SCHEDULE = NoiseSchedule("linear", levels=50, beta_end=0.3)
VALUES = np.random.default_rng(1).normal(size=(12, 3)).astype(np.float32)


class Points:
    """Source of the rows of `VALUES`, with classes."""

    def __len__(self) -> int:
        return len(VALUES)

    def sample(self, index: int, draws: np.random.Generator | None) -> Sample:
        return Sample(VALUES[index], label=index % 4)


CONDITIONING = Conditioning(
    of=lambda index, sample: {LABELS: np.array(sample.label)}, left_out={LABELS: np.array(4)}, dropout=0.25
)


class Ideal(nn.Module):
    """The ideal denoiser of `VALUES` as a network."""

    def __init__(self, prediction: Prediction) -> None:
        super().__init__()
        self.prediction, self.denoiser = prediction, FiniteSetDenoiser(torch.from_numpy(VALUES).double())

    def forward(self, sample: Tensor, time: Tensor) -> Tensor:
        level = time.double().numpy()
        sigma = np.exp(4.0 * level) if self.prediction.kind == "edm" else SCHEDULE.sigma_at(level)
        a = torch.from_numpy(1.0 / np.hypot(1.0, sigma))
        s = torch.from_numpy(sigma) * a
        z = sample.double()
        if self.prediction.kind == "edm":
            z = z * (s**2 + (a * self.prediction.sigma_data) ** 2).sqrt().unsqueeze(1)
        clean = self.denoiser(z / a.unsqueeze(1), torch.from_numpy(sigma))
        return self.prediction.output(clean, z, a, s).float()


class IdealFamily(BaseDenoiserFamily):
    """Family of `Ideal`."""

    name: ClassVar[str] = "ideal"

    def __init__(self, prediction: Prediction) -> None:
        self.prediction = prediction

    def network(self, options: ModelOptions) -> nn.Module:
        return Ideal(self.prediction)

    def completed_for(self, options: ModelOptions, shape: Any, num_classes: int | None, diffusion: Any) -> ModelOptions:
        return options

    def denoise(
        self, model: Callable[..., Any], sample: Tensor, time: Tensor, conditions: Mapping[str, Tensor]
    ) -> Tensor:
        output: Tensor = model(sample, time)
        return output


def samples(bands: NDArray[np.float64] | None = None, **levels: Any) -> NoisySamples:
    return NoisySamples(Points(), LevelDraws(SCHEDULE, **levels), CONDITIONING, bands)


def objective(kind: str = "v", weighting: str = "plain", bands: int = 1) -> DiffusionObjective:
    prediction = Prediction(kind, 0.7)
    return DiffusionObjective(IdealFamily(prediction), DenoiserOptions(), SCHEDULE, prediction, weighting, bands=bands)


@given(index=st.integers(0, 11), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=30, deadline=None)
def test_a_draw_is_a_function_of_sample_and_seed(index: int, seed: int) -> None:
    one, same, other = (samples().drawn(index, s) for s in (seed, seed, (seed + 1) % 2**63))
    assert np.array_equal(one.noise, same.noise)
    assert np.array_equal(one.sigmas, same.sigmas)
    assert one.conditions == same.conditions
    assert not np.array_equal(one.noise, other.noise)
    assert one.noise.dtype == np.float32
    assert one.sigmas[0] in SCHEDULE.sigmas


@given(seeds=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4), count=st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_a_stream_begins_where_a_new_generator_of_its_seed_does(seeds: list[int], count: int) -> None:
    draws = SampleDraws()
    for seed in seeds:
        one, other = draws.of(seed), np.random.Generator(np.random.Philox(key=seed))
        assert one.random() == other.random()
        assert np.array_equal(
            one.standard_normal(count, dtype=np.float32), other.standard_normal(count, dtype=np.float32)
        )


@pytest.mark.parametrize("world", [1, 2, 3])
def test_any_number_of_ranks_and_any_size_of_batches_draw_the_same(world: int) -> None:
    found = objective()
    whole = next(Feed(found, samples(), Ranks(torch.device("cpu")), 12).batches(range(12), lambda n: n))
    expected = sorted(found.hashes(whole))
    hashes: list[int] = []
    for rank in range(world):
        feed = Feed(found, samples(), Ranks(torch.device("cpu"), rank, rank, world), 2)
        for batch in feed.batches(range(12), lambda n: 100 + n):
            hashes += found.hashes(batch)
    assert sorted(hashes) == expected


def test_levels_and_left_out_conditions_have_the_shares_that_they_should() -> None:
    drawn = [samples().drawn(number % 12, number) for number in range(4000)]
    share = np.mean([int(sample.conditions[LABELS]) == 4 for sample in drawn])
    assert share == pytest.approx(0.25, abs=0.025)
    indices = SCHEDULE.index_of(np.array([sample.sigmas[0] for sample in drawn]))
    assert np.histogram(indices, bins=5, range=(-0.5, 49.5))[0] / 4000 == pytest.approx([0.2] * 5, abs=0.025)
    law = LevelDraws(NoiseSchedule("karras"), "lognormal", mean=-1.0, deviation=0.5)
    logs = np.log([law.drawn(np.random.Generator(np.random.Philox(key=n))) for n in range(2000)])
    assert (logs.mean(), logs.std()) == (pytest.approx(-1.0, abs=0.05), pytest.approx(0.5, abs=0.03))


@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("weighting", ["plain", "min_snr", "edm"])
def test_the_loss_of_the_ideal_denoiser_is_the_closed_form(kind: str, weighting: str) -> None:
    found = objective(kind, weighting)
    batch = found.collate([samples().drawn(number, number) for number in range(12)])
    a, s = (batch.tensors[name][:, 0].double() for name in ("a", "s"))
    clean, noise = batch.tensors["clean"].double(), batch.tensors["noise"][:, 0].double()
    ideal = FiniteSetDenoiser(torch.from_numpy(VALUES).double())
    expected = least_loss(ideal, found.prediction, clean, noise, a, s, weighting)
    loss = found.loss(found.build_model(), batch)
    assert float(loss.loss) == pytest.approx(float(expected.sum()), rel=2e-3)
    assert loss.sums == {}


def test_validation_measures_each_band_on_noise_that_stays_and_nothing_else_is_drawn() -> None:
    found = objective(bands=3)
    bands = LevelDraws(SCHEDULE).bands(3)
    assert (np.diff(bands) > 0).all()
    held = samples(bands)
    one, again, other = held.drawn(2, 5), held.drawn(2, 5), held.drawn(2, 6)
    assert np.array_equal(one.noise, again.noise)
    assert one.noise.shape == (3, 3)
    assert {int(sample.conditions[LABELS]) for sample in (one, other)} == {2}, "no condition is left out"
    batch = found.collate([held.drawn(number, number) for number in range(6)])
    loss, sums = found.loss(found.build_model(), batch)
    assert list(sums) == [metric.name for metric in found.metrics] == ["loss_band_1", "loss_band_2", "loss_band_3"]
    assert float(loss) == pytest.approx(np.mean([float(value) for value in sums.values()]))
    assert batch.weight == 6
