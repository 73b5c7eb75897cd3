"""Trackers behind the reporter: whatever one does, the training goes on as if it were not there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.tracker_record import Book, eval_event, started, step_event, train_a_line
from training.tracking import background
from training.tracking.background import Trackers
from training.tracking.tracker import Held, Point, RunStart


class Faulty(Book):
    """Does something bad in one of its methods."""

    name = "faulty"

    def __init__(self, method: str, deed: Callable[[], None]) -> None:
        super().__init__()
        self._bad, self._deed = method, deed
        self.calls: list[str] = []

    def _maybe(self, method: str) -> None:
        self.calls.append(method)
        if method == self._bad:
            self._deed()

    def start(self, run: RunStart) -> Held:
        self._maybe("start")
        return super().start(run)

    def log(self, points: Sequence[Point]) -> None:
        self._maybe("log")
        super().log(points)

    def finish(self, state: str, report: Path) -> None:
        self._maybe("finish")
        super().finish(state, report)


@pytest.fixture(scope="module")
def untracked(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, float]]:
    return train_a_line(tmp_path_factory.mktemp("untracked") / "run")


@pytest.fixture
def never() -> Iterator[Callable[[], None]]:
    """Waits until the test is over."""
    over = threading.Event()
    yield lambda: assert_in_time(over)
    over.set()


def fail() -> None:
    raise ConnectionError("https://user:secret@tracker.example is unreachable\nand more lines")


def assert_in_time(event: threading.Event) -> None:
    assert event.wait(60)


def leave_the_thread() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize("deed", [fail, leave_the_thread])
@pytest.mark.parametrize("method", ["start", "log", "finish"])
def test_a_tracker_that_raises_is_switched_off_with_one_line_and_the_curve_is_the_same(
    method: str,
    deed: Callable[[], None],
    untracked: list[tuple[int, float]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    faulty, book = Faulty(method, deed), Book()
    assert train_a_line(tmp_path / "run", faulty, book) == untracked
    assert faulty.calls[-1] == method, "after its fault it was not called again"
    assert book.steps() == list(range(1, 31)), "its neighbour has everything"
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: --track faulty failed and is switched off (")
    assert "secret" not in warnings[0]


@pytest.mark.parametrize("method", ["start", "log", "finish"])
def test_a_tracker_that_hangs_for_ever_holds_up_no_step_and_is_left_behind_at_the_end(
    method: str,
    never: Callable[[], None],
    untracked: list[tuple[int, float]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    faulty, book = Faulty(method, never), Book()
    assert train_a_line(tmp_path / "run", faulty, book) == untracked
    assert faulty.calls[-1] == method, "it hangs still, and all thirty updates are done"
    assert book.steps() == list(range(1, 31))
    assert book.ends == ["finished, report there"]
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "--track faulty has not finished after 0.3 s and is left behind" in warnings[0]


def test_a_tracker_that_was_left_behind_tells_nothing_more_when_it_wakes_up(tmp_path: Path) -> None:
    asleep, over = threading.Event(), threading.Event()

    def sleep() -> None:
        asleep.set()
        over.wait(60)

    faulty = Faulty("start", sleep)
    train_a_line(tmp_path / "run", faulty)
    over.set()
    thread = next((t for t in threading.enumerate() if t.name == "track-faulty"), None)
    if thread is not None:
        thread.join(10)
    assert asleep.is_set()
    assert faulty.calls == ["start"], "the run may go on elsewhere by now, and tell the same points"


def test_a_tracker_that_is_too_slow_gets_fewer_points_is_told_of_once_and_memory_stays_bounded(
    never: Callable[[], None], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "MAX_WAITING", 100)
    released = threading.Event()
    faulty = Faulty("start", lambda: assert_in_time(released))
    trackers = Trackers([faulty], tmp_path, {}, seconds_to_finish=30)
    trackers.event(started())
    for step in range(1, 1001):
        trackers.event(step_event(step))
        if step % 100 == 0:
            trackers.event(eval_event(step))
        assert len(trackers._lanes[0]._waiting) <= 100
    released.set()
    trackers.close()
    assert faulty.steps("eval/loss") == list(range(100, 1001, 100)), "the rare points are kept"
    assert faulty.steps() == sorted(set(faulty.steps()))
    assert 20 <= len(faulty.steps()) <= 100
    lines = [line for line in capsys.readouterr().err.splitlines() if "does not keep up" in line]
    assert len(lines) == 1


@pytest.mark.parametrize(("end", "is_waited_for"), [("run_finished", True), ("run_stopped", False)])
def test_a_finished_run_in_a_job_is_waited_for_since_nothing_sends_later_what_is_missing(
    end: str, is_waited_for: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that was stopped, because its machine is taken away, has half a minute for everything, and is resumed."""
    released = threading.Event()
    trackers = Trackers(
        [Faulty("start", lambda: assert_in_time(released))],
        tmp_path,
        {},
        seconds_to_finish=0.1,
        seconds_when_finished=30,
    )
    for event in (started(), step_event(1), {"event": end, "step": 1, "time": 3.0, "reason": ""}):
        trackers.event(event)
    threading.Timer(0.5, released.set).start()
    trackers.close()
    assert ("is left behind" not in capsys.readouterr().err) == is_waited_for
    released.wait(10)


def test_what_comes_during_a_long_call_waits_and_goes_together_in_the_next(tmp_path: Path) -> None:
    calls: list[int] = []
    is_called, released = threading.Event(), threading.Event()

    class Slow(Book):
        def log(self, points: Sequence[Point]) -> None:
            calls.append(len(points))
            is_called.set()
            assert_in_time(released)

    trackers = Trackers([Slow()], tmp_path, {}, seconds_to_finish=30)
    for event in (started(), step_event(1), step_event(2)):
        trackers.event(event)
    assert_in_time(is_called)
    for step in range(3, 103):
        trackers.event(step_event(step))
    assert len(calls) == 1, "a hundred events passed in the time of one call"
    released.set()
    trackers.close()
    assert sum(calls) == 102
    assert max(calls) >= 100
