"""What a tracker is sent besides figures: the files of a finished run, and never at the cost of the run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.tracker_record import Book, started, step_event
from training.tracking import background
from training.tracking.background import Trackers
from training.tracking.tracker import FileKeeper

FILES = ["final_model/code/modeling.py", "final_model/config.json", "final_model/model.safetensors"]


class Keeper(Book):
    """A tracker that keeps files, too."""

    name = "keeper"

    def __init__(self, deed: Callable[[str], object] = lambda name: None) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}
        self._deed = deed

    def keep_file(self, file: Path, name: str) -> None:
        assert self.ends, "the run's end comes first"
        self._deed(name)
        self.files[name] = file.read_bytes()


class Board(Book):
    """Holds back half of its event file until it is finished, as a buffer does."""

    name = "tensorboard"

    def __init__(self, run_dir: Path) -> None:
        super().__init__()
        self._file = run_dir / "logs" / "events.out.tfevents.1.host"

    def finish(self, state: str, report: Path) -> None:
        self._file.parent.mkdir()
        self._file.write_bytes(b"half")
        threading.Event().wait(0.1)
        self._file.write_bytes(b"whole")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """With a final model in it."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode() * 1000)
    return tmp_path


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Set when the test is over, at the latest."""
    event = threading.Event()
    yield event
    event.set()


def follow(trackers: Trackers, end: str = "run_finished", *, has_model: bool = True) -> None:
    """A short run, to its end."""
    events = [started(), step_event(1), {"event": end, "time": 2.0}]
    if has_model:
        events.append({"event": "final_model", "time": 3.0, "path": "final_model", "step": 1})
    for event in events:
        trackers.event(event)
    trackers.close()


def test_a_finished_run_s_model_is_kept_after_the_run_s_end_was_told(run_dir: Path) -> None:
    keeper, book = Keeper(), Book()
    assert isinstance(keeper, FileKeeper)
    assert not isinstance(book, FileKeeper)
    follow(Trackers([keeper, book], run_dir, {}))
    assert keeper.files == {name: (run_dir / name).read_bytes() for name in FILES}
    assert keeper.ends == book.ends == ["finished, report missing"]


@pytest.mark.parametrize("end", ["run_stopped", "run_failed"])
def test_a_run_that_is_not_finished_sends_no_file(end: str, run_dir: Path) -> None:
    keeper = Keeper()
    follow(Trackers([keeper, Board(run_dir)], run_dir, {}), end)
    assert keeper.files == {}


def test_a_model_that_this_part_of_the_run_has_not_written_is_not_sent_for_its_own(run_dir: Path) -> None:
    keeper = Keeper()
    follow(Trackers([keeper], run_dir, {}), has_model=False)
    assert keeper.files == {}


@pytest.mark.parametrize("is_first", [True, False])
def test_event_files_are_kept_where_tensorboard_follows_too_and_are_whole(is_first: bool, run_dir: Path) -> None:
    keeper, board = Keeper(), Board(run_dir)
    follow(Trackers([keeper, board] if is_first else [board, keeper], run_dir, {}))
    assert keeper.files["logs/events.out.tfevents.1.host"] == b"whole"
    assert len(keeper.files) == 1 + len(FILES)
    alone = Keeper()
    follow(Trackers([alone], run_dir, {}))
    assert sorted(alone.files) == FILES


def test_a_file_that_is_refused_costs_one_line_that_names_it(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(name: str) -> None:
        if name == FILES[1]:
            raise ConnectionError("https://user:secret@store.example/?sv=1&sig=abc is unreachable\nand more")

    keeper = Keeper(refuse)
    follow(Trackers([keeper], run_dir, {}))
    assert list(keeper.files) == FILES[:1], "the rest is not tried"
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert line.startswith(
        f"warning: --track keeper did not take {run_dir / FILES[1]} (ConnectionError: https://store."
    )
    assert line.endswith("; it lies there, and --resume sends it again")
    assert "secret" not in line


def test_a_slow_line_gets_the_time_that_the_files_need(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(background, "KEPT_BYTES_PER_SECOND", 1000)
    keeper = Keeper(lambda name: threading.Event().wait(0.2))
    follow(Trackers([keeper], run_dir, {}, seconds_to_finish=0.1))
    assert sorted(keeper.files) == FILES
    assert "track   keeper: 80.0 KB of files are on their way; waiting 1 min 20 s at most" in capsys.readouterr().err


def test_a_hanging_line_is_left_behind_after_that_time_and_sends_nothing_later(
    run_dir: Path, released: threading.Event, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(background, "KEPT_BYTES_PER_SECOND", 1_000_000)
    keeper = Keeper(lambda name: released.wait(60))
    follow(Trackers([keeper], run_dir, {}, seconds_to_finish=0.1))
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert line.startswith("warning: --track keeper has not finished after 0.18 s and is left behind; ")
    released.set()
    for thread in [thread for thread in threading.enumerate() if thread.name == "track-keeper"]:
        thread.join(10)
    assert len(keeper.files) <= 1


def test_ctrl_c_leaves_the_files_behind_and_not_the_run(
    run_dir: Path, released: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def write(line: str, **_: object) -> None:
        said.append(line)
        if "Ctrl-C leaves them behind" in line:
            threading.Timer(0.05, signal.pthread_kill, (threading.get_ident(), signal.SIGINT)).start()

    monkeypatch.setattr("tqdm.tqdm.write", write)
    monkeypatch.setattr(background, "KEPT_BYTES_PER_SECOND", 1000)
    keeper = Keeper(lambda name: released.wait(60))
    follow(Trackers([keeper], run_dir, {}, seconds_to_finish=0.1))
    assert keeper.ends == ["finished, report missing"]
    assert "is left behind" in said[-1]


def test_a_model_over_the_limit_is_not_sent_and_said_so(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(background, "MAX_KEPT_BYTES", 50_000)
    keeper, board = Keeper(), Board(run_dir)
    follow(Trackers([keeper, board], run_dir, {}))
    assert list(keeper.files) == ["logs/events.out.tfevents.1.host"], "what is small is sent"
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert line.startswith(
        f"warning: --track keeper is not sent {run_dir / 'final_model'} (80.0 KB, more than 50.0 KB); "
    )
