"""Muon in fp32 is torch's Muon, without the rounding of bf16."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from training.engines.muon import Float32Muon, orthogonalized

COEFFICIENTS = (3.4445, -4.775, 2.0315)


def textbook(matrix: Tensor, steps: int) -> Tensor:
    """The iteration as it is published, one matrix at a time, in fp64."""
    x = matrix.double()
    if x.shape[0] > x.shape[1]:
        return textbook(matrix.T, steps).T
    x = x / x.norm()
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    done: Tensor = x
    return done


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 24), st.integers(1, 24), st.integers(1, 3), st.integers(0, 2**31))
def test_all_steps_on_the_small_side_give_the_published_iteration(
    rows: int, columns: int, count: int, seed: int
) -> None:
    matrices = torch.randn(count, rows, columns, generator=torch.Generator().manual_seed(seed))
    found = orthogonalized(matrices, COEFFICIENTS, 5, 1e-7)
    expected = torch.stack([textbook(matrix, 5) for matrix in matrices])
    assert torch.allclose(found.double(), expected, atol=2e-3)


def test_its_singular_values_come_near_one() -> None:
    torch.manual_seed(0)
    found = orthogonalized(torch.randn(2, 48, 16), COEFFICIENTS, 5, 1e-7)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_a_gradient_of_zeros_moves_nothing() -> None:
    assert torch.equal(orthogonalized(torch.zeros(1, 4, 6), COEFFICIENTS, 5, 1e-7), torch.zeros(1, 4, 6))


def movements(kind: type[torch.optim.Muon], steps: int = 5) -> list[Tensor]:
    """How far three matrices get in some updates on the same gradients."""
    torch.manual_seed(0)
    matrices = [nn.Parameter(torch.randn(shape)) for shape in ((16, 16), (32, 16), (16, 32))]
    starts = [matrix.detach().clone() for matrix in matrices]
    optimizer: torch.optim.Optimizer = kind(
        matrices, lr=0.01, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(steps):
        for matrix in matrices:
            matrix.grad = torch.randn_like(matrix)
        optimizer.step()
    assert all(optimizer.state[m].keys() == {"momentum_buffer"} for m in matrices)
    return [matrix.detach() - start for matrix, start in zip(matrices, starts, strict=True)]


def test_it_moves_the_weights_as_torchs_own_does() -> None:
    for ours, torchs in zip(movements(Float32Muon), movements(torch.optim.Muon), strict=True):
        assert torch.nn.functional.cosine_similarity(ours.ravel(), torchs.ravel(), dim=0) > 0.999
        assert float((ours - torchs).norm() / torchs.norm()) < 0.05


def test_a_matrix_without_a_gradient_is_left_alone() -> None:
    matrices = [nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))]
    optimizer = Float32Muon(matrices, lr=0.1, weight_decay=0.5, adjust_lr_fn="match_rms_adamw")
    matrices[0].grad = torch.eye(2)
    optimizer.step()
    assert torch.equal(matrices[1].detach(), torch.ones(2, 2))
    assert not torch.equal(matrices[0].detach(), torch.ones(2, 2))
