"""Which trial of a sweep is the best: one that has a model to bring home."""

from __future__ import annotations

from typing import Any

import pytest

from training.azure.follow.sweep import sweep_of
from training.azure.service.jobs import BEST_TRIAL, JobState
from training.experiments.sweep.metric import figure
from training.experiments.sweep.trials import Sweep


def state(job: str, status: str, **more: Any) -> JobState:
    return JobState(job, status, "command", "apt-tests", None, None, **more)


def sweep(trials: dict[str, tuple[str, float | None]], chosen: str | None = None, goal: str = "minimize") -> Sweep:
    """A sweep that has ended, whose trials ended so, with these last losses."""
    properties = {BEST_TRIAL: chosen} if chosen is not None else {}
    parent = state("s", "Completed", objective=("train/loss", goal), properties=properties)
    children = [state(job, status) for job, (status, _) in trials.items()]
    reports = {job: {"latest": {"loss": loss}} for job, (_, loss) in trials.items() if loss is not None}
    return sweep_of(parent, children, reports.get, lambda job: None)


def best(*args: Any, **more: Any) -> str | None:
    found = sweep(*args, **more).best
    return None if found is None else found.job


def test_the_services_choice_counts() -> None:
    assert best({"s_0": ("Completed", 1.0), "s_1": ("Completed", 2.0)}, chosen="s_1") == "s_1"


@pytest.mark.parametrize("status", ["Failed", "Canceled"])
def test_a_trial_that_did_not_come_through_is_never_the_best(status: str) -> None:
    """The service goes by the values alone; such a trial has no final model."""
    trials = {"s_0": ("Completed", 2.0), "s_1": (status, 1.0), "s_2": ("Completed", 3.0)}
    assert best(trials, chosen="s_1") == "s_0"
    assert best(trials) == "s_0"
    assert best(trials, goal="maximize") == "s_2"
    assert best({"s_0": (status, 1.0)}, chosen="s_0") is None


def test_a_trial_that_has_told_nothing_or_nothing_finite_is_not_the_best() -> None:
    trials = {"s_0": ("Completed", None), "s_1": ("Completed", float("nan")), "s_2": ("Completed", float("-inf"))}
    assert best(trials) is None
    assert best(trials | {"s_3": ("Completed", 9.0)}) == "s_3"
    assert figure({"latest": {"loss": float("inf")}}, "train/loss") is None
    assert figure({}, "eval/loss") is None
