"""The rule of relative speed: volumes by hand, and what must hold whatever its constants are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apt_model.config import ModelConfig
from training import TrainingConfig
from training.backends.placement import Placement
from training.forecast.relative_speed import moved_bytes, relative_speed
from training.models.apt.cost import APTCost
from training.models.cost import BatchShape, count

COST = APTCost(ModelConfig(d_model=64, num_layers=2, num_heads=2, d_ff=128, max_seq_len=64, vocab_size=100))
BYTES = 4 * count(COST)


@pytest.mark.parametrize(
    ("stage", "passes", "times"),
    [(None, 1, 2.0), (None, 4, 2.0), (0, 4, 2.0), (1, 4, 2.0), (2, 1, 2.0), (2, 4, 5.0), (3, 1, 3.0), (3, 4, 12.0)],
)
def test_volumes_are_those_of_the_paper(stage: int | None, passes: int, times: float) -> None:
    ranks = 4
    moved = moved_bytes(COST, passes, Placement(ranks, ranks, zero_stage=stage))
    assert moved == pytest.approx(times * BYTES * (ranks - 1) / ranks)


def test_one_rank_sends_nothing_until_it_offloads() -> None:
    assert moved_bytes(COST, 1, Placement(zero_stage=3)) == 0.0
    offloading = Placement(zero_stage=3, cpu_offload=True)
    assert moved_bytes(COST, 1, offloading) == 9 * BYTES
    assert moved_bytes(COST, 1, offloading._replace(param_offload=True)) == 11 * BYTES


@given(
    samples=st.integers(1, 4096),
    batch=st.integers(1, 512),
    ranks=st.integers(1, 16),
    stage=st.sampled_from([None, 1, 2, 3]),
)
def test_no_layout_is_faster_than_its_ranks(samples: int, batch: int, ranks: int, stage: int | None) -> None:
    config = TrainingConfig.from_dict({"batch_size": batch, "global_batch_size": samples})
    shape = BatchShape(min(batch, samples), 32, min(batch, samples) * 16)
    place = Placement(ranks, ranks, "cuda", zero_stage=stage)
    speed = relative_speed(config, COST, shape, "cuda", place, config)
    assert 0.0 < speed <= ranks * (1.0 + 1e-9)
    if ranks == 1:
        assert speed == pytest.approx(1.0)
    assert relative_speed(config, COST, shape, "cpu", place, config) == 1.0
    assert relative_speed(config, None, None, "cuda", place, config) == samples / -(-samples // ranks)
