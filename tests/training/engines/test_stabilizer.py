"""DBC-DAC: balanced by norms, compressed to a rank, what is left out is paid back, spikes are clipped row by row."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from training.engines.stabilizer import DBCDAC


def make(rows: int = 12, columns: int = 10, **options: Any) -> tuple[nn.Parameter, DBCDAC]:
    parameter = nn.Parameter(torch.zeros(rows, columns))
    return parameter, DBCDAC([("w", parameter)], **{"rank": 3, "spike_factor": 4.0, "seed": 0, **options})


def gradient(seed: int, rows: int = 12, columns: int = 10) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def apply(parameter: nn.Parameter, stabilizer: DBCDAC, value: Tensor) -> Tensor:
    parameter.grad = value.clone()
    stabilizer()
    assert parameter.grad is not None
    return parameter.grad


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_what_comes_out_has_the_rank_asked_for(seed: int, rank: int) -> None:
    parameter, stabilizer = make(rank=rank)
    out = apply(parameter, stabilizer, gradient(seed))
    assert int(torch.linalg.matrix_rank(out)) <= rank


def test_rows_get_their_norms_back() -> None:
    """A gradient of low rank whose rows differ by two orders of magnitude comes through whole."""
    left, right = gradient(1, 12, 2), gradient(2, 2, 10)
    wanted = torch.diag(10.0 ** torch.linspace(-1, 1, 12)) @ left @ right
    parameter, stabilizer = make(rank=2, spike_factor=1e9)
    for _ in range(4):  # the power iteration is warm-started
        out = apply(parameter, stabilizer, wanted)
    torch.testing.assert_close(out, wanted, rtol=1e-3, atol=1e-6)


def test_what_the_projection_leaves_out_is_paid_back() -> None:
    """With a constant gradient, what was paid in all approaches what was asked in all, in every direction."""
    wanted = gradient(3)
    parameter, stabilizer = make(rank=3, spike_factor=1e9)
    paid = torch.zeros_like(wanted)
    misses = []
    for update in range(1, 121):
        paid += apply(parameter, stabilizer, wanted)
        misses.append(float((paid / update - wanted).norm() / wanted.norm()))
    assert misses[0] > 0.3, "rank 3 of 10 leaves much out at first"
    assert misses[-1] < 0.05
    assert misses[-1] < misses[20] < misses[3]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 11), st.floats(1e2, 1e8))
def test_a_spiking_row_is_clipped_to_its_running_norm_and_the_others_are_left_alone(row: int, factor: float) -> None:
    parameter, stabilizer = make(rank=100)  # nothing is compressed: the guard alone
    usual = gradient(4)
    for _ in range(30):
        assert torch.equal(apply(parameter, stabilizer, usual), usual)
    spiked = usual.clone()
    spiked[row] *= factor
    out = apply(parameter, stabilizer, spiked)
    assert float(out[row].norm()) == pytest.approx(4.0 * float(usual[row].norm()), rel=0.05)
    others = [r for r in range(12) if r != row]
    assert torch.equal(out[others], usual[others])


def test_a_spike_hardly_moves_what_counts_as_usual() -> None:
    parameter, stabilizer = make(rank=100)
    usual = gradient(4)
    for _ in range(30):
        apply(parameter, stabilizer, usual)
    apply(parameter, stabilizer, usual * 1e4)
    assert torch.equal(apply(parameter, stabilizer, usual), usual)
    second = apply(parameter, stabilizer, usual * 1e4)
    assert float(second.norm()) < 4.5 * float(usual.norm())


def test_rows_that_begin_at_zero_are_not_held_at_zero() -> None:
    parameter, stabilizer = make(rank=100)
    silent = gradient(5)
    silent[3] = 0.0
    apply(parameter, stabilizer, silent)
    awake = gradient(6)
    for _ in range(12):
        out = apply(parameter, stabilizer, awake)
    torch.testing.assert_close(out[3], awake[3])


def test_it_draws_from_a_generator_of_its_own() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    parameter, stabilizer = make()
    apply(parameter, stabilizer, gradient(1))
    assert torch.equal(torch.rand(3), expected)


def test_its_state_goes_on_bit_for_bit() -> None:
    first_parameter, first = make()
    for seed in range(5):
        apply(first_parameter, first, gradient(seed))
    second_parameter, second = make(seed=99)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for seed in range(5, 9):
        assert torch.equal(
            apply(first_parameter, first, gradient(seed)), apply(second_parameter, second, gradient(seed))
        )


def test_vectors_are_guarded_and_never_compressed() -> None:
    parameter = nn.Parameter(torch.zeros(40))
    stabilizer = DBCDAC([("norm", parameter)], rank=2, spike_factor=4.0, seed=0)
    usual = torch.linspace(-1, 1, 40)
    for _ in range(20):
        assert torch.equal(apply(parameter, stabilizer, usual), usual)
    assert float(apply(parameter, stabilizer, usual * 1e6).norm()) == pytest.approx(4 * float(usual.norm()), rel=0.05)
