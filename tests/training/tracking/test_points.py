"""What trackers are told: the record's figures, each once, however often a run is killed and resumed."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.tracker_record import Book, eval_event, figures_of, started, step_event, train_a_line
from training.record.reporter import ProgressReporter
from training.tasks.metrics import Metric
from training.tracking.background import Trackers
from training.tracking.figures import point_of
from training.tracking.tracker import Point


def test_figures_bear_the_names_of_the_record_below_their_kind() -> None:
    point = point_of(step_event(3, grad_norm=2.0, skipped=True, weights_fingerprint="abc"), 3)
    assert point is not None
    assert (point.step, point.time) == (3, 3.0)
    assert point.figures == pytest.approx({
        "train/loss": 1 / 3, "train/accuracy": 0.5, "train/grad_norm": 2.0, "train/learning_rate": 1e-3,
        "train/tokens_per_second": 10.0, "train/epoch": 1.0, "train/skipped": 1.0, "train/perplexity": math.exp(1 / 3),
    })  # fmt: skip


def test_a_loss_that_is_not_finite_is_told_as_such() -> None:
    point = point_of(step_event(3) | {"loss": None, "nonfinite": ["loss"]}, 3)
    assert point is not None
    assert math.isnan(point.figures["train/loss"])
    assert "train/perplexity" not in point.figures


def test_the_recitation_of_the_finished_model_is_told_at_the_last_step(tmp_path: Path) -> None:
    book = Book()
    trackers = Trackers([book], tmp_path, {})
    for event in (
        started(),
        step_event(7),
        {"event": "recitation", "time": 9.0, "modules": {"a": {"right": 3, "asked": 4}, "b": {"right": 0, "asked": 2}}},
    ):
        trackers.event(event)
    trackers.close()
    assert book.points[-1] == Point(7, 9.0, {"recitation/accuracy": 0.5})


def test_the_conclusion_of_any_task_is_told_at_the_last_step(tmp_path: Path) -> None:
    book = Book()
    trackers = Trackers([book], tmp_path, {})
    figures = {
        "recitation": {"a": {"right": 3, "asked": 4}, "b": {"right": 0, "asked": 2}},
        "samples": {"fid": 3.5, "pictures": ["a.png"]},
        "score": 0.25,
        "notes": "none",
    }
    for event in (started(), step_event(7), {"event": "conclusion", "time": 9.0, "figures": figures, "lines": []}):
        trackers.event(event)
    trackers.close()
    told = {"recitation/accuracy": 0.5, "samples/fid": 3.5, "conclusion/score": 0.25}
    assert book.points[-1] == Point(7, 9.0, told)


def test_a_figure_that_the_task_does_not_have_is_no_figure_of_a_tracker(tmp_path: Path) -> None:
    """Neither as it comes nor when it is sent later from the record."""
    metrics = [Metric("mean_error", "MAE", "lower").to_dict()]
    figures = {"loss": 0.5, "mean_error": 0.25, "samples": 4, "samples_per_second": 8.0, "epoch": 1}
    live, late = Book(), Book()
    first = ProgressReporter(tmp_path, 1, [Trackers([live], tmp_path, {})])
    first.run_started(run_id="r", steps_per_epoch=10, metrics=metrics)
    first.step(step=1, **figures)
    first.evaluation(step=1, epoch=1, loss=0.5, mean_error=0.25)
    first.close()
    first.flush()
    second = ProgressReporter(tmp_path, 1, [Trackers([late], tmp_path, {})])
    second.run_resumed(1, run_id="r", metrics=metrics)
    second.close()
    assert [dict(point.figures) for point in live.points] == [
        {f"train/{name}": value for name, value in figures.items()},
        {"eval/loss": 0.5, "eval/mean_error": 0.25, "eval/epoch": 1},
    ]
    assert live.points == late.points


def test_params_are_the_resolved_config_flat_and_tags_name_the_run(tmp_path: Path) -> None:
    book = Book()
    train_a_line(tmp_path / "run", book)
    [start] = book.starts
    assert start.params["optimizer.learning_rate"] == 3e-4
    assert start.params["run.epochs"] == 3
    assert start.tags["backend"] == "playground"
    assert set(start.tags) >= {"backend", "run_id", "curve_hash"}
    assert start.tags["run_id"] == start.run_id
    assert not start.is_resumed


@pytest.mark.parametrize("end", ["run_finished", "run_stopped", "run_failed", None])
def test_a_tracker_is_told_how_the_run_ended(end: str | None, tmp_path: Path) -> None:
    book = Book()
    trackers = Trackers([book], tmp_path, {})
    trackers.event(started())
    if end:
        trackers.event({"event": end, "time": 1.0})
    trackers.close()
    state = (end or "run_stopped").removeprefix("run_")
    assert book.ends == [f"{state}, report missing"]


# -- kills and resumes ---------------------------------------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    """Parts of a run: (resumed from, killed after, what of it the tracker held when all was over)."""
    parts, reached = [], 0
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, reached))
        reached = draw(st.integers(begin, begin + 12))
        parts.append((begin, reached, draw(st.integers(0, reached))))
    return parts


@settings(max_examples=60, deadline=None)
@given(histories())
def test_however_often_a_run_is_killed_and_resumed_each_point_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, int, int]]
) -> None:
    run_dir = tmp_path_factory.mktemp("killed")
    book, clock = Book(), iter(range(1, 10**6))
    for number, (begin, end, held) in enumerate(parts):
        reporter = ProgressReporter(run_dir, 1, [Trackers([book], run_dir, {})])
        reporter._clock = lambda: float(next(clock))
        facts = {"run_id": "r", "curve_hash": "c", "steps_per_epoch": 4}
        if number:
            reporter.run_resumed(begin, **facts)
        else:
            reporter.run_started(**facts)
        for step in range(begin + 1, end + 1):
            reporter.step(**figures_of(step_event(step)))
            if step % 3 == 0:
                reporter.evaluation(**figures_of(eval_event(step)))
        reporter.flush()  # as before each checkpoint
        reporter.close()
        if number + 1 < len(parts):  # a kill: the tracker holds whole steps only, and not all of them
            book.points = [point for point in book.points if point.step <= held]
    # Where it died further on than it came later, the tracker is ahead of the run.
    expected = list(range(1, max([parts[-1][1], *(p.step for p in book.points)]) + 1))
    assert book.steps() == expected
    assert book.steps("eval/loss") == [step for step in expected if step % 3 == 0]


def test_a_tracker_that_is_switched_on_late_is_told_the_whole_past(tmp_path: Path) -> None:
    first = ProgressReporter(tmp_path, 1)
    first.run_started(run_id="r", steps_per_epoch=10)
    for step in range(1, 9):
        first.step(**figures_of(step_event(step)))
    first.flush()
    book = Book()
    second = ProgressReporter(tmp_path, 1, [Trackers([book], tmp_path, {})])
    second.run_resumed(6, run_id="r")
    second.step(**figures_of(step_event(7, loss=0.7)))
    second.close()
    assert book.steps() == [1, 2, 3, 4, 5, 6, 7]
    assert book.points[-1].figures["train/loss"] == 0.7, "what was done again is told as it was done again"


def test_a_step_is_told_with_its_validation_or_not_at_all(tmp_path: Path) -> None:
    class Calls(Book):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[list[int]] = []

        def log(self, points: Sequence[Point]) -> None:
            self.calls.append([point.step for point in points])
            super().log(points)

    book = Calls()
    trackers = Trackers([book], tmp_path, {})
    trackers.event(started())
    for step in range(1, 4):
        trackers.event(step_event(step))
        time.sleep(0.02)  # the tracker asks again and again
        trackers.event(eval_event(step))
    trackers.close()
    assert [call for call in book.calls if len(call) % 2] == []
    assert sorted(step for call in book.calls for step in call) == [1, 1, 2, 2, 3, 3]
