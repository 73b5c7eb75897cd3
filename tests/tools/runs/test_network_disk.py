"""A run on a network disk: sizes that lag, files that vanish and come back, clocks without fractions, a disk that
refuses. Whatever a reader is shown in between, it ends by telling the run as it is."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.measured_surfaces import quadratic_surface
from tests.support.recorded_runs import RecordedRun
from tools.dashboard.panels.frame import RunView
from tools.dashboard.reader import FollowedRun, Reader
from tools.landscape.directory import LANDSCAPE_NAME
from tools.landscape.surface import read_surface, surface_path, write_surface
from tools.runs.fleet import SEARCH_EVERY, Fleet
from tools.runs.summary import WatchedRun
from training.record.alerts import Kind
from training.record.follower import ProgressFollower
from training.record.reporter import LOG_NAME, REPORT_NAME, read_report
from training.record.run_state import State

START = 1000.0
NO_DISK_TAKES_IT = "x" * 300
"""A name; asking for it fails otherwise than by its absence."""


# -- what a client may show of a file that grows elsewhere ---------------------------------------------------------


class Client:
    """A network disk's client: it shows a run's two files as they are, as they were, or not at all.

    All its times are the same second: a coarse clock.
    """

    def __init__(self, run: RecordedRun, served_to: Path) -> None:
        self.path = served_to
        self._log, self._report = (run.path / LOG_NAME).read_bytes(), (run.path / REPORT_NAME).read_bytes()
        served_to.mkdir()

    def show(self, log_bytes: int | None, *, is_report_there: bool, is_replaced: bool) -> None:
        """The log's first bytes (modulo its length), in the same file or in another one; None: none."""
        log, report = self.path / LOG_NAME, self.path / REPORT_NAME
        if is_replaced or log_bytes is None:
            log.unlink(missing_ok=True)
        if log_bytes is not None:
            self._write(log, self._log[: log_bytes % (len(self._log) + 1)])
        report.unlink(missing_ok=True)
        if is_report_there:
            self._write(report, self._report)

    def show_all(self) -> None:
        """What the server has."""
        self.show(len(self._log), is_report_there=True, is_replaced=False)

    def _write(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        os.utime(path, (START, START))


def curves(view: RunView) -> object:
    """What is drawn of a run, but for what depends on when it was looked at."""
    history = view.history
    return (
        history.step, history.updates, history.latest, history.clipped, history.skipped, history.loss_spikes,
        [(mean.epoch, mean.step, mean.loss and round(mean.loss, 9)) for mean in history.epochs],
        view.summary and (view.summary.state, view.summary.step, view.summary.loss, view.summary.evaluations),
    )  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(
    shown=st.lists(
        st.tuples(st.one_of(st.none(), st.integers(0, 20_000)), st.booleans(), st.booleans()), min_size=1, max_size=8
    )
)
def test_whatever_was_shown_before_the_last_look_tells_the_run(
    shown: list[tuple[int | None, bool, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("disk")
    run = RecordedRun(folder / "server", start=START, total_steps=40, validation=lambda epoch: 2.0 / epoch)
    run.train(25, clipped=True).flush().wait(5).resume(15).train(20).flush()
    client = Client(run, folder / "client")
    followed = FollowedRun(client.path, "run")
    for log_bytes, is_report_there, is_replaced in shown:
        client.show(log_bytes, is_report_there=is_report_there, is_replaced=is_replaced)
        followed.look(run.now)
    client.show_all()
    followed.look(run.now)
    assert curves(followed.look(run.now)) == curves(FollowedRun(client.path, "run").look(run.now))
    report = read_report(run.path)
    assert report is not None
    assert [update.loss for update in followed.look(run.now).history.updates] == report["curve"]["loss"]


def test_a_size_that_lags_behind_is_told_anew_and_is_read_no_further_than_it_goes(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=START).train(40).flush()
    log = run.path / LOG_NAME
    whole = log.read_bytes()
    follower = ProgressFollower(run.path)
    follower.look()
    log.write_bytes(whole[: len(whole) // 2])  # another server answers, with attributes of a minute ago
    assert follower.look().report is not None
    log.write_bytes(whole)
    assert [event["step"] for event in follower.look().events if event["event"] == "step"][-1] == 40


# -- a disk that refuses -------------------------------------------------------------------------------------------


def a_log_that_cannot_be_opened(run: Path) -> None:
    (run / LOG_NAME).symlink_to(LOG_NAME)  # to itself: ELOOP


def a_log_that_cannot_be_asked_about(run: Path) -> None:
    (run / LOG_NAME).symlink_to(NO_DISK_TAKES_IT)  # ENAMETOOLONG


def a_log_that_cannot_be_read(run: Path) -> None:
    (run / LOG_NAME).symlink_to("/proc/self/mem")  # it opens; reading at 0 is EIO


REFUSALS = [a_log_that_cannot_be_opened, a_log_that_cannot_be_asked_about]
REFUSALS += [a_log_that_cannot_be_read] if sys.platform.startswith("linux") else []
Refusal = Callable[[Path], None]


class Away:
    """Takes a file or directory away, for something in its place; `back` undoes it. The same inode comes back."""

    def __init__(self, path: Path) -> None:
        self._path, self._aside = path, path.with_name(f"aside {path.name}")
        path.rename(self._aside)

    def back(self) -> None:
        """As if nothing had been."""
        self._path.unlink(missing_ok=True)
        self._aside.rename(self._path)


@pytest.fixture
def run(tmp_path: Path) -> RecordedRun:
    return RecordedRun(tmp_path / "run", start=START).train(30).flush()


@pytest.mark.parametrize("refuse", REFUSALS)
def test_a_disk_that_refuses_is_told_and_what_was_known_stays_until_it_is_back(
    run: RecordedRun, refuse: Refusal
) -> None:
    watched = WatchedRun(run.path, "run")
    watched.look(run.now)
    away = Away(run.path / LOG_NAME)
    refuse(run.path)
    for _ in range(2):
        watched.look(run.now)
        summary = watched.summary(run.now)
        assert (summary.state, summary.step) == (State.UNREADABLE, 30)
        assert "it cannot be read (" in summary.reason
        assert [alert.kind for alert in summary.alerts] == [Kind.UNREADABLE]
    away.back()
    run.train(5).flush()
    watched.look(run.now)
    summary = watched.summary(run.now)
    assert (summary.state, summary.step, summary.reason, summary.alerts) == (State.RUNNING, 35, "", ())


@pytest.mark.parametrize("refuse", REFUSALS)
def test_the_dashboard_keeps_its_curves_while_the_disk_refuses(run: RecordedRun, refuse: Refusal) -> None:
    followed = FollowedRun(run.path, "run")
    before = followed.look(run.now).history.updates
    away = Away(run.path / LOG_NAME)
    refuse(run.path)
    view = followed.look(run.now)
    assert (view.history.updates, view.was_deleted) == (before, False)
    away.back()
    run.train(5).flush()
    assert curves(followed.look(run.now)) == curves(FollowedRun(run.path, "run").look(run.now))


@pytest.mark.parametrize("target", ["itself", NO_DISK_TAKES_IT])
def test_a_whole_directory_may_refuse_and_come_back_with_its_surface(run: RecordedRun, target: str) -> None:
    write_surface(surface_path(run.path, "abc"), quadratic_surface())
    reader = Reader(run.path, [run.path])
    assert reader.look().surface is not None
    away = Away(run.path)
    run.path.symlink_to(run.path.name if target == "itself" else target)
    frame = reader.look()
    assert frame.run.summary is not None
    assert (frame.run.summary.state, frame.run.history.step, frame.surface) == (State.UNREADABLE, 30, None)
    away.back()
    frame = reader.look()
    assert frame.surface is not None
    assert frame.run.summary is not None
    assert frame.run.summary.state is not State.UNREADABLE


def test_a_surface_that_the_disk_refuses_hides_no_other(run: RecordedRun) -> None:
    write_surface(surface_path(run.path, "abc"), quadratic_surface())
    surface_path(run.path, "refused").symlink_to(NO_DISK_TAKES_IT)
    surface_path(run.path, "looped").symlink_to(surface_path(run.path, "looped").name)
    found = read_surface(run.path)
    assert found is not None
    assert found.key == quadratic_surface().key
    shutil.rmtree(run.path / LANDSCAPE_NAME)
    (run.path / LANDSCAPE_NAME).symlink_to(NO_DISK_TAKES_IT)
    assert read_surface(run.path) is None


def test_a_run_that_the_disk_refuses_is_named_and_hides_no_other(run: RecordedRun, tmp_path: Path) -> None:
    (tmp_path / "refused").mkdir()
    a_log_that_cannot_be_asked_about(tmp_path / "refused")
    fleet = Fleet([tmp_path])
    assert [found.name for found in fleet.look(START)] == ["run"]
    (told,) = fleet.unreadable
    assert str(tmp_path / "refused") in told
    (tmp_path / "refused" / LOG_NAME).unlink()
    RecordedRun(tmp_path / "refused", start=START).train(3).flush()
    assert [found.name for found in fleet.look(START + SEARCH_EVERY)] == ["refused", "run"]
    assert fleet.unreadable == []
