"""Learning-rate schedules: exact restarts, bounds, warm-up and ends."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.loop.schedules import learning_rate_at, restart_position
from training.settings.tree import ScheduleConfig

BASE, LOW = 3e-4, 1e-5
STEPS_PER_EPOCH = 18
SHAPES = st.sampled_from(["warm_restarts", "cosine", "linear", "constant"])


def test_warm_restarts_restart_exactly_at_epochs_10_30_and_70() -> None:
    rate = learning_rate_at(ScheduleConfig(), BASE, STEPS_PER_EPOCH, 100 * STEPS_PER_EPOCH)
    rates = [rate(step) for step in range(100 * STEPS_PER_EPOCH)]
    rises = [step for step in range(1, len(rates)) if rates[step] > rates[step - 1]]
    assert rises == [epoch * STEPS_PER_EPOCH for epoch in (10, 30, 70)]
    assert [rates[step] for step in (0, *rises)] == pytest.approx([BASE] * 4)
    assert [rates[step - 1] for step in rises] == pytest.approx([LOW] * 3, rel=0.01)


@pytest.mark.parametrize(("first", "factor"), [(10, 1), (10, 2), (3, 2), (1, 3)])
def test_warm_restarts_agree_with_pytorch(first: int, factor: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, first, factor, eta_min=LOW)
    ours = learning_rate_at(
        ScheduleConfig(restart_epochs=first, restart_mult=factor), BASE, STEPS_PER_EPOCH, 50 * STEPS_PER_EPOCH
    )
    optimizer.step()
    for step in range(0, 50 * STEPS_PER_EPOCH, 3):
        theirs.step(step / STEPS_PER_EPOCH)
        assert ours(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6), f"step {step}"


@pytest.mark.parametrize("factor", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("first", [0.1, 0.3, 0.7, 1.0, 2.5, 10.0])
def test_cycles_begin_on_the_step_that_their_lengths_add_up_to(first: float, factor: float) -> None:
    steps_per_epoch = 10
    rate = learning_rate_at(
        ScheduleConfig(restart_epochs=first, restart_mult=factor), BASE, steps_per_epoch, 100 * steps_per_epoch
    )
    begin = 0.0
    for cycle in range(8):
        step = round(begin * steps_per_epoch)
        if abs(begin * steps_per_epoch - step) < 1e-9:  # elsewhere the restart falls between two steps
            assert rate(step) == pytest.approx(BASE), f"cycle {cycle} begins at step {step}"
        begin += first * factor**cycle


@pytest.mark.parametrize(
    ("epochs", "cycle", "progress"),
    [(0, 0, 0.0), (5, 0, 0.5), (10, 1, 0.0), (20, 1, 0.5), (30, 2, 0.0), (50, 2, 0.5), (70, 3, 0.0), (150, 4, 0.0)],
)
def test_the_place_within_the_cycles_of_the_documented_schedule(epochs: float, cycle: int, progress: float) -> None:
    found_cycle, found_progress = restart_position(epochs, first=10, factor=2)
    assert found_cycle == cycle
    assert found_progress == pytest.approx(progress, abs=1e-12)


@given(
    shape=SHAPES,
    base=st.floats(1e-6, 1.0),
    low_share=st.floats(0.0, 1.0),
    warmup=st.integers(0, 300),
    first=st.floats(0.05, 50.0),
    factor=st.floats(1.0, 4.0),
    steps_per_epoch=st.integers(1, 200),
    total=st.integers(1, 2000),
    step=st.integers(0, 5000),
)
@settings(max_examples=50, deadline=None)
def test_after_warm_up_the_rate_stays_between_the_lowest_and_the_base(
    shape: str,
    base: float,
    low_share: float,
    warmup: int,
    first: float,
    factor: float,
    steps_per_epoch: int,
    total: int,
    step: int,
) -> None:
    config = ScheduleConfig.model_validate({
        "schedule": shape,
        "min_lr": base * low_share,
        "warmup_steps": warmup,
        "restart_epochs": first,
        "restart_mult": factor,
    })  # fmt: skip
    rate = learning_rate_at(config, base, steps_per_epoch, total)(warmup + step)
    assert base * low_share * (1 - 1e-9) <= rate <= base * (1 + 1e-9)


@pytest.mark.parametrize("shape", ["warm_restarts", "cosine", "linear", "constant"])
def test_warm_up_rises_in_equal_steps_to_the_base_rate(shape: str) -> None:
    config = ScheduleConfig.model_validate({"schedule": shape, "warmup_steps": 4})
    rate = learning_rate_at(config, BASE, STEPS_PER_EPOCH, 100)
    assert [rate(step) for step in range(5)] == pytest.approx([BASE * n / 5 for n in (1, 2, 3, 4, 5)])


@pytest.mark.parametrize("shape", ["warm_restarts", "cosine", "linear", "constant"])
def test_without_warm_up_the_first_update_has_the_base_rate(shape: str) -> None:
    config = ScheduleConfig.model_validate({"schedule": shape})
    assert learning_rate_at(config, BASE, STEPS_PER_EPOCH, 100)(0) == pytest.approx(BASE)


@pytest.mark.parametrize(("shape", "middle"), [("cosine", (BASE + LOW) / 2), ("linear", (BASE + LOW) / 2)])
@pytest.mark.parametrize("warmup", [0, 20])
def test_cosine_and_linear_fall_to_the_lowest_rate_and_stay_there(shape: str, middle: float, warmup: int) -> None:
    config = ScheduleConfig.model_validate({"schedule": shape, "warmup_steps": warmup, "min_lr": LOW})
    rate = learning_rate_at(config, BASE, STEPS_PER_EPOCH, 200 + warmup)
    rates = [rate(step) for step in range(warmup, 300 + warmup)]
    assert rates == sorted(rates, reverse=True)
    assert rates[100] == pytest.approx(middle)
    assert rates[200:] == pytest.approx([LOW] * 100)


def test_cosine_is_flat_at_its_ends_and_linear_is_not() -> None:
    cosine, linear = (
        learning_rate_at(ScheduleConfig.model_validate({"schedule": shape}), BASE, STEPS_PER_EPOCH, 200)
        for shape in ("cosine", "linear")
    )
    assert cosine(20) > linear(20)
    assert cosine(180) < linear(180)


def test_constant_is_constant() -> None:
    rate = learning_rate_at(ScheduleConfig(schedule="constant"), BASE, STEPS_PER_EPOCH, 100)
    assert {rate(step) for step in range(500)} == {BASE}


@given(shape=SHAPES, step=st.integers(0, 3000))
@settings(max_examples=25, deadline=None)
def test_a_rate_depends_on_its_step_alone(shape: str, step: int) -> None:
    config = ScheduleConfig.model_validate({"schedule": shape, "warmup_steps": 7})
    asked_before = learning_rate_at(config, BASE, STEPS_PER_EPOCH, 2000)
    for other in (2999, 0, 500):
        asked_before(other)
    assert asked_before(step) == learning_rate_at(config, BASE, STEPS_PER_EPOCH, 2000)(step)
