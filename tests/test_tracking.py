"""Trackers behind the reporter: whatever one does, the training goes on as if it were not there.

No point is lost, and none is told twice.
"""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from apt_model.errors import ConfigError
from tests.conftest import FrontDoor
from training.config import TrainingConfig
from training.loop import Trainer
from training.progress import LOG_NAME, ProgressReporter, read_events
from training.task import ModuleTask
from training.tracking import background
from training.tracking.background import Trackers
from training.tracking.choice import check, trackers_for
from training.tracking.figures import flat, point_of
from training.tracking.secrets import without_secrets
from training.tracking.tracker import Point, RunStart, Told, Tracker


class Book:
    """A tracker that keeps everything, and can be cut back to what a kill would have left of it."""

    name: ClassVar[str] = "book"
    seconds_between_calls: ClassVar[float] = 0.005

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.starts: list[RunStart] = []
        self.ends: list[str] = []

    def start(self, run: RunStart) -> Told:
        self.starts.append(run)
        return Told(self.points[-1].step if self.points else 0)

    def whereabouts(self) -> str:
        return "here"

    def log(self, points: Sequence[Point]) -> None:
        self.points += points

    def finish(self, state: str, report: Path) -> None:
        self.ends.append(f"{state}, report {'there' if report.exists() else 'missing'}")

    def steps(self, figure: str = "train/loss") -> list[int]:
        return [point.step for point in self.points if figure in point.figures]


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

    def start(self, run: RunStart) -> Told:
        self._maybe("start")
        return super().start(run)

    def log(self, points: Sequence[Point]) -> None:
        self._maybe("log")
        super().log(points)

    def finish(self, state: str, report: Path) -> None:
        self._maybe("finish")
        super().finish(state, report)


# -- the same curve, whatever a tracker does -----------------------------------------------------------------------

ROWS = [{"x": torch.tensor([n / 10.0, 1.0]), "y": torch.tensor(n / 5.0)} for n in range(20)]


def squared_error(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    loss: torch.Tensor = ((model(batch["x"]).squeeze(1) - batch["y"]) ** 2).sum()
    return loss


def train_a_line(run_dir: Path, *trackers: Tracker) -> list[tuple[int, float]]:
    """Thirty real updates; returns the curve in the record."""
    config = TrainingConfig.from_dict({"run": {"run_dir": run_dir, "epochs": 3, "batch_size": 2}})
    task = ModuleTask(model=lambda: nn.Linear(2, 1), loss=squared_error)
    sinks = [Trackers(trackers, run_dir, flat(config.to_dict()), seconds_to_finish=0.3)]
    result = Trainer(config, ROWS, task=task, sinks=sinks).train()
    assert (result.state, result.step) == ("finished", 30)
    return [(e["step"], e["loss"]) for e in read_events(run_dir / LOG_NAME) if e["event"] == "step"]


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


# -- what is told --------------------------------------------------------------------------------------------------


def started(**facts: Any) -> dict[str, Any]:
    return {"event": "run_started", "time": 0.0, "run_id": "r", "curve_hash": "c", "backend": "playground", **facts}


def step_event(step: int, **more: Any) -> dict[str, Any]:
    figures = {"loss": 1.0 / step, "accuracy": 0.5, "learning_rate": 1e-3, "tokens_per_second": 10.0}
    return {"event": "step", "time": float(step), "step": step, "epoch": 1, **figures, **more}


def eval_event(step: int) -> dict[str, Any]:
    return {"event": "eval", "time": float(step), "step": step, "epoch": 1, "loss": 1.0, "accuracy": 0.5}


def figures_of(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in ("event", "time")}


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


# -- settings and refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--track", "wandb,mlflow"], ["wandb", "mlflow"]),
        (["--track", "wandb", "mlflow"], ["wandb", "mlflow"]),
        (["--track", "tensorboard", "--track", "mlflow,tensorboard"], ["tensorboard", "mlflow"]),
        (["--wandb"], ["wandb"]),
        (["--wandb", "--track", "tensorboard"], ["tensorboard", "wandb"]),
        (["--track", "none"], []),
        ([], []),
    ],
)
def test_trackers_are_chosen_by_words_or_comma_lists(
    words: list[str], expected: list[str], front_door: FrontDoor
) -> None:
    done = front_door([*words, "--explain", "track"])
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == f"track.track = {tuple(expected)}"


@pytest.mark.parametrize("text", ["track: wandb,mlflow", "track: [wandb, mlflow]", "track: {track: [wandb, mlflow]}"])
def test_yaml_may_give_them_too(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    assert TrainingConfig.from_yaml(tmp_path / "c.yaml").track.track == ("wandb", "mlflow")


def test_no_tracker_s_setting_changes_the_curve_s_hash() -> None:
    plain = TrainingConfig()
    tracked = TrainingConfig.from_dict({"track": {"track": "wandb", "wandb_project": "p", "wandb_mode": "offline"}})
    assert tracked.curve_hash() == plain.curve_hash()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--track", "wandbb"], "track = 'wandbb' (from --track): should be one of 'wandb', 'tensorboard' or 'mlflow'"),
        (["--wandb-mode", "on"], "should be one of 'online', 'offline' or 'disabled'"),
        (["--wandb-project", "a/b"], "wandb_project = 'a/b' (from --wandb-project): a W&B project's name has no '/'"),
        (["--mlflow-tracking-uri", "runs/mlflow"], "--mlflow-tracking-uri: MLflow no longer writes to plain director"),
        (["--mlflow-tracking-uri", "ftp://host"], "--mlflow-tracking-uri: ftp: is no MLflow store; give one of http:"),
        (["--mlflow-tracking-uri", "sqlite://x.db"], "three slashes before a relative path"),
        (["--mlflow-tracking-uri", "http:///x"], "there is no host in it"),
        (["--mlflow-tracking-uri", "http://[::1"], "not a URI"),
        (["--mlflow-tracking-uri", "http://me:hunter2@host"], "a password or token does not belong into a setting"),
        (["--mlflow-tracking-uri", "https://hunter2@host"], "a password or token does not belong into a setting"),
        (["--mlflow-tracking-uri", "postgresql://h/db?password=hunter2"], "a password or token does not belong"),
    ],
)
def test_a_wrong_setting_is_one_line_without_any_password(
    flags: list[str], told: str, front_door: FrontDoor, tree: Callable[[], Mapping[str, Any]], tmp_path: Path
) -> None:
    done = front_door([*flags, "--run-dir", tmp_path / "run", "--dry-run"])
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert told in done.stderr
    assert "hunter2" not in done.stderr + done.stdout
    assert tree() == {}


def test_a_missing_package_is_told_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # An empty folder named like the package, such as wandb leaves one in the working directory, is no package.
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    for module in ("wandb", "tensorboard", "mlflow", "sqlalchemy", "alembic"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    for name in ("wandb", "tensorboard", "mlflow"):
        told = rf"--track {name}: .* is not installed; run: pip install -e '\.\[{name}\]'"
        with pytest.raises(ConfigError, match=told):
            check(TrainingConfig.from_dict({"track": {"track": name}}))


def test_a_disabled_tracker_needs_neither_package_nor_login_and_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert trackers_for(TrainingConfig.from_dict({"track": {"track": "wandb", "wandb_mode": "disabled"}})) == []
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert trackers_for(TrainingConfig.from_dict({"track": {"track": "wandb"}})) == []


def test_a_mode_that_the_environment_misspells_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(ConfigError, match="WANDB_MODE=ofline: no such mode"):
        check(TrainingConfig.from_dict({"track": {"track": "wandb"}}))


def test_secrets_are_taken_out_of_what_a_library_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    told = without_secrets(f"401 for {'k' * 40} at postgresql://me:pw@db.example/x")
    assert told == "401 for <WANDB_API_KEY> at postgresql://db.example/x"


def test_the_file_of_the_trackers_names_holds_no_settings(tmp_path: Path) -> None:
    from training.tracking.tracker_file import TrackerFile

    def start(run_id: str, is_resumed: bool, curve: str = "c") -> RunStart:
        return RunStart(run_id, 0, 0.0, is_resumed, {"curve_hash": curve}, {})

    file = TrackerFile(tmp_path)
    file.keep("mlflow", start("r", False), run="abc")
    file.keep("wandb", start("r", False), id="def")
    assert json.loads(file.path.read_text()) == {
        "mlflow": {"run_id": "r", "curve_hash": "c", "run": "abc"},
        "wandb": {"run_id": "r", "curve_hash": "c", "id": "def"},
    }
    assert file.recall("mlflow", start("r", True))["run"] == "abc"
    assert file.recall("mlflow", start("r", True, curve="another")) == {}, "another curve is another run"
    assert file.recall("mlflow", start("new", False)) == {}, "a run that starts anew has no past"
    file.keep("wandb", start("new", False), id="ghi")
    assert list(json.loads(file.path.read_text())) == ["wandb"]
    file.path.write_text("{")
    with pytest.raises(ValueError, match=r"trackers\.json is damaged; delete it"):
        file.recall("mlflow", start("r", True))
