"""`tools/visualize_training.py` as a user calls it: a picture, a film, a window, and wrongly."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageGrab

from tests.conftest import ROOT, Train
from tests.support.measured_surfaces import quadratic_surface
from tests.support.recorded_runs import RecordedRun
from tools.dashboard import animation, toolkit
from tools.dashboard.panels.drawing_style import Pen
from tools.dashboard.panels.theme import THEMES
from tools.dashboard.picture import draw
from tools.dashboard.reader import Reader
from tools.figures.fonts import Typeface
from tools.landscape.surface import surface_path, write_surface
from tools.visualize_training import run as command
from training.errors import UserError
from training.record.reporter import LOG_NAME

SCRIPT = "tools/visualize_training.py"


@pytest.fixture
def recorded(tmp_path: Path) -> RecordedRun:
    """Half a run that is at work: its last event is not yet."""
    return RecordedRun(tmp_path / "recorded", start=time.time(), validation=lambda epoch: 1.0 / epoch).train(50).flush()


# -- offline -------------------------------------------------------------------------------------------------------


def test_the_picture_has_the_size_that_was_asked_for_and_the_run_is_left_alone(
    finished_run: Path, tmp_path: Path, tree: Callable[[], dict[str, bytes | None]]
) -> None:
    before = tree()
    flags = ["--mode", "offline", "--output", str(tmp_path / "run.png"), "--compare", str(finished_run)]
    assert command(["--log-dir", str(finished_run), *flags, "--dpi", "150"]) == 0
    with Image.open(tmp_path / "run.png") as picture:
        assert picture.size == (1920, 1080)
    assert set(tree()) - set(before) == {"run.png"}
    assert {name: content for name, content in tree().items() if name != "run.png"} == before


def test_a_gif_moves(recorded: RecordedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animation, "FRAMES", 3)
    monkeypatch.setattr(animation, "STILL_FRAMES", 1)
    write_surface(surface_path(recorded.path, "abc"), quadratic_surface(50))
    film = tmp_path / "run.gif"
    assert command(["--log-dir", str(recorded.path), "--mode", "offline", "--output", str(film), "--dpi", "50"]) == 0
    with Image.open(film) as gif:
        assert (gif.n_frames, gif.size, gif.info["loop"]) == (3, (640, 360), 0)  # type: ignore[attr-defined]
        shown = []
        for n in range(3):
            gif.seek(n)
            shown.append(np.asarray(gif.convert("RGB"), dtype=np.int16))
    assert all((np.abs(a - b) > 40).mean() > 0.002 for a, b in itertools.pairwise(shown))


def test_a_gif_keeps_the_colours_of_thin_lines(tmp_path: Path) -> None:
    """A legend's colour is the line's, though little of the picture has it."""
    frame = np.zeros((180, 320, 3), dtype=np.uint8)
    frame[..., 2] = np.linspace(0, 255, 320, dtype=np.uint8)  # what covers most of it
    frame[..., 0] = np.linspace(0, 255, 180, dtype=np.uint8)[:, None]
    lines = {10: (124, 255, 107), 90: (255, 209, 102), 170: (255, 84, 112)}
    for row, colour in lines.items():
        frame[row, 40:80] = colour
    animation.save_gif(iter([frame]), tmp_path / "lines.gif", lambda done, total: None, 1)
    with Image.open(tmp_path / "lines.gif") as gif:
        shown = np.asarray(gif.convert("RGB"), dtype=np.int16)
    for row, colour in lines.items():
        assert np.abs(shown[row, 60] - colour).max() <= 40, colour


def test_an_mp4_has_its_frames_and_leaves_nothing_else(
    recorded: RecordedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import imageio_ffmpeg

    monkeypatch.setattr(animation, "FRAMES", 3)
    monkeypatch.setattr(animation, "STILL_FRAMES", 1)
    film = tmp_path / "run.mp4"
    flags = ["--mode", "offline", "--output", str(film), "--dpi", "51", "--panel", "loss"]  # 653 x 367, both odd
    assert command(["--log-dir", str(recorded.path), *flags]) == 0
    assert imageio_ffmpeg.count_frames_and_secs(str(film))[0] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recorded", "run.mp4"]


def test_a_film_needs_its_encoder(recorded: RecordedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(
        UserError, match=r"an MP4 needs imageio-ffmpeg, which is not installed: pip install imageio-ffmpeg"
    ):
        command(["--log-dir", str(recorded.path), "--mode", "offline", "--output", str(tmp_path / "run.mp4")])


# -- input that cannot be used -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "the following arguments are required: --log-dir"),
        (["--log-dir", "gone", "--mode", "offline"], "--log-dir gone: there is no such directory; give a run"),
        (["--log-dir", "file"], "--log-dir file: this is a file; give a run directory"),
        (["--log-dir", ".", "--mode", "offline"], "--log-dir .: there is no run in it (neither progress.jsonl nor"),
        (["--log-dir", "a", "--mode", "ofline"], "--mode ofline: unknown mode; did you mean 'offline'?"),
        (["--log-dir", "a", "--theme", "cyper"], "--theme cyper: unknown theme; did you mean 'cyber'?"),
        (["--log-dir", "a", "--panel", "landscap"], "--panel landscap: unknown panel; did you mean 'landscape'?"),
        (["--log-dir", "a", "--output", "a.gif"], "--output a.gif: realtime keeps a .png up to date; for a film add"),
        (["--log-dir", "recorded", "--mode", "offline", "--output", "a.jpg"], "--output a.jpg: give a name that ends"),
        (["--log-dir", "a", "--output", "no/a.png"], "--output no/a.png: there is no folder no; create it first"),
        (["--log-dir", "a", "--compare", "."], "--compare .: there is no run in it"),
        (["--log-dir", "a", "--compare", "gone"], "--compare gone: there is no such directory"),
        (["--log-dir", "away", "--mode", "offline"], "--log-dir away: it cannot be read (File name too long); fix"),
        (["--log-dir", "a", "--compare", "away"], "--compare away: it cannot be read (File name too long); fix"),
        (["--log-dir", "a", "--refresh", "0"], "--refresh must be a number of seconds from 0.1 to 3600, got '0'"),
        (["--log-dir", "a", "--dpi", "9"], "--dpi must be a number of dots an inch from 50 to 600, got '9'"),
        (["--log-dir", "a", "--dpi", "90"], "--dpi 90: a window has its screen's resolution; add --output FILE.png"),
        (["--log-dir", "a"], "there is no display to open a window on (DISPLAY is not set); add --output FILE.png"),
        (["--log-dir", "a", "--dip", "90"], "unrecognized arguments: --dip 90 (see --help)"),
    ],
)  # fmt: skip
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have a display always")
def test_bad_input_is_one_clear_line(
    arguments: list[str], told: str, recorded: RecordedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    (tmp_path / "file").touch()
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / LOG_NAME).symlink_to("x" * 300)  # refused for everybody, as a missing permission is not
    with pytest.raises(UserError) as caught:
        command(arguments)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have a display always")
def test_a_display_that_does_not_answer_is_told_by_name_with_the_toolkits_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", ":9999")  # there is none
    monkeypatch.setattr(toolkit, "TOOLKITS", toolkit.TOOLKITS[:1])
    with pytest.raises(UserError) as caught:
        command(["--log-dir", str(tmp_path / "run")])
    assert str(caught.value) == (
        'no window can be opened on display :9999 (Tk: couldn\'t connect to display ":9999"); mend that, or add '
        "--output FILE.png to keep a picture up to date instead"
    )


def test_where_no_toolkit_is_installed_it_is_said_how_to_install_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":9999")
    monkeypatch.setattr(toolkit, "TOOLKITS", [one._replace(modules=("no_such_module",)) for one in toolkit.TOOLKITS])
    with pytest.raises(UserError) as caught:
        toolkit.toolkit_here()
    assert str(caught.value) == (
        "no window can be opened: neither Tk nor Qt is installed; install Tk (Debian: apt install python3-tk) or Qt "
        "(pip install PySide6-Essentials), or add --output FILE.png to keep a picture up to date instead"
    )


ABORTS = """import sys, os
print("qt.qpa.plugin: From 6.5.0, xcb-cursor0 or libxcb-cursor0 is needed to load the Qt xcb platform plugin.",
      "Available platform plugins are: minimal, offscreen, xcb.", sep=chr(10), file=sys.stderr, flush=True)
os.abort()"""
"""What Qt does where one of its libraries is missing: it takes the process along."""


def test_a_toolkit_that_takes_its_process_along_costs_no_more_than_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    tk, qt = toolkit.TOOLKITS
    broken = qt._replace(modules=("json",), trial=ABORTS)
    monkeypatch.setenv("DISPLAY", ":9999")
    monkeypatch.setenv("MPLBACKEND", "qtagg")
    monkeypatch.setattr(toolkit, "TOOLKITS", (tk._replace(modules=("no_such_module",)), broken))
    with pytest.raises(UserError) as caught:
        toolkit.toolkit_here()
    assert str(caught.value).startswith(
        f"no window can be opened on display :9999 (Qt: {toolkit.X11_LIBRARIES}); mend that, or install Tk (Debian: "
        "apt install python3-tk), or add --output"
    )
    monkeypatch.setattr(toolkit, "TOOLKITS", (tk._replace(modules=("json",), trial="import {}"), broken))
    assert toolkit.toolkit_here().name == "Tk", "though MPLBACKEND asks for Qt"
    working = qt._replace(modules=("json",), trial="import {}")
    monkeypatch.setattr(toolkit, "TOOLKITS", (tk._replace(modules=("json",), trial="import {}"), working))
    assert toolkit.toolkit_here().name == "Qt"


@pytest.mark.slow
def test_bad_input_ends_with_2_no_traceback_and_without_waiting_for_anything_heavy(
    train: Train, tmp_path: Path
) -> None:
    done = train(["--log-dir", "gone", "--mode", "offline"], script=SCRIPT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "visualize_training: --log-dir gone: there is no such directory; give a run directory\n"
    asked = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / SCRIPT), "--help"], capture_output=True, text=True, check=True
    )
    lines = [line for line in asked.stderr.splitlines() if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert imported.isdisjoint({"torch", "numpy", "matplotlib", "pydantic"})


# -- live ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """The command in a process of its own."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
        processes.append(
            subprocess.Popen(
                [sys.executable, str(ROOT / SCRIPT), *map(str, arguments), "--refresh", "0.2"],
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


Pixels = np.ndarray[tuple[int, ...], np.dtype[np.int16]]


def until(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60.0) -> None:
    """Wait for something that a process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.1)


def below_its_header(picture: Image.Image) -> Pixels:
    """A dashboard of 1280 x 720 without its first lines, in which the time stands."""
    return np.asarray(picture.convert("RGB"), dtype=np.int16)[50:720, :1280]


def is_as(one: Pixels, other: Pixels) -> bool:
    return one.shape == other.shape and float((np.abs(one - other).max(axis=2) > 30).mean()) < 1e-4


def loss_panel(run_dir: Path) -> tuple[int, Pixels]:
    """(update, picture) of whoever looks at the run now, for the first time."""
    frame = Reader(run_dir, []).look()
    picture = draw(frame, Pen(THEMES["cyber"], Typeface()), 100.0, "loss")
    return frame.now, below_its_header(Image.open(io.BytesIO(picture)))


def story_of(run_dir: Path) -> Iterator[tuple[str, int]]:
    """What may happen to a run under watch, and the update that it is at then."""
    yield "it has not begun", 0
    run = RecordedRun(run_dir, start=time.time(), validation=lambda epoch: 3.0 / epoch).train(30).flush()
    yield "it has begun", 30
    run.train(2).flush()
    log = run_dir / LOG_NAME
    whole = log.read_bytes()
    log.write_bytes(whole[:-20])
    yield "its last line is half written", 31
    log.write_bytes(whole)
    yield "and then whole", 32
    run.resume(12).train(8).flush()
    yield "it was resumed before that", 20
    RecordedRun(run_dir, start=time.time() + 60.0, loss=lambda step: 1.0 + 1.0 / step).train(45).flush()
    yield "it was started anew in the same directory", 45
    shutil.rmtree(run_dir)
    yield "it was deleted", 0
    RecordedRun(run_dir, start=time.time() + 120.0).train(10).flush()
    yield "and is back", 10


def follow_the_story(run_dir: Path, process: subprocess.Popen[str], shown: Callable[[], Pixels]) -> None:
    """Whatever happens, a viewer that looks on comes to show what one that comes now is shown."""
    before: Pixels = np.zeros((1, 1, 3), dtype=np.int16)
    for happens, step in story_of(run_dir):
        now, wanted = loss_panel(run_dir)
        assert now == step, happens
        assert not is_as(wanted, before), f"{happens}: it would not be noticed"
        until(lambda wanted=wanted: is_as(shown(), wanted), process)  # type: ignore[misc]
        before = wanted
    assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(19, os.nice(0) + 10), "the training goes first"
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=20)[1]
    assert (process.returncode, "Traceback" in told) == (0, False), told


@pytest.mark.slow
def test_a_picture_follows_a_run_through_whatever_happens_to_it(
    tmp_path: Path, started: Callable[..., subprocess.Popen[str]]
) -> None:
    picture = tmp_path / "live.png"
    process = started("--log-dir", tmp_path / "run", "--output", picture, "--panel", "loss")
    until(picture.exists, process)
    # Whenever it is read it is whole, else Pillow refuses it.
    follow_the_story(tmp_path / "run", process, lambda: below_its_header(Image.open(io.BytesIO(picture.read_bytes()))))
    assert {path.name for path in tmp_path.iterdir()} == {"run", "live.png"}


@pytest.fixture
def display() -> Iterator[str]:
    """A screen in memory. 1440 pixels are 381 whole millimetres, so it has 96 dots an inch and a window is as large as
    a picture. Without `-noreset` it would begin anew when its only client leaves, and refuse whoever comes just then.
    """
    try:
        server = subprocess.Popen(
            ["Xvfb", "-displayfd", "1", "-screen", "0", "1440x740x24", "-dpi", "96", "-nolisten", "tcp", "-noreset"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.fail("this test needs Xvfb: `make display` installs it")
    assert server.stdout is not None
    yield f":{server.stdout.readline().strip()}"
    server.terminate()
    server.wait(20)
    server.stdout.close()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Xvfb is X11's")
def test_a_window_follows_a_run_through_whatever_happens_to_it(
    tmp_path: Path, display: str, started: Callable[..., subprocess.Popen[str]]
) -> None:
    process = started("--log-dir", tmp_path / "run", "--panel", "loss", DISPLAY=display)
    follow_the_story(tmp_path / "run", process, lambda: below_its_header(ImageGrab.grab(xdisplay=display)))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Xvfb is X11's")
def test_a_window_shows_each_refresh_and_turns_its_landscape(
    recorded: RecordedRun, display: str, started: Callable[..., subprocess.Popen[str]]
) -> None:
    write_surface(surface_path(recorded.path, "abc"), quadratic_surface(50))

    def screen() -> Pixels:
        return np.asarray(ImageGrab.grab(xdisplay=display).convert("RGB"), dtype=np.int16)

    def changed(before: Pixels, left: float, right: float) -> float:
        """Share of the pixels of the upper part, between two shares of the width."""
        columns, rows = slice(int(1280 * left), int(1280 * right)), slice(60, 420)
        return float((np.abs(screen() - before).max(axis=2) > 30)[rows, columns].mean())

    def turned_alone() -> bool:
        before = screen()
        time.sleep(0.4)
        return changed(before, 0.02, 0.52) > 0.002 and changed(before, 0.55, 0.98) == 0.0

    blank = screen()
    process = started("--log-dir", recorded.path, DISPLAY=display)
    until(lambda: changed(blank, 0.55, 0.98) > 0.02, process)
    for _ in range(2):  # each refresh brings the new updates
        before = screen()
        recorded.train(20).flush()
        until(lambda before=before: changed(before, 0.55, 0.98) > 0.003, process)  # type: ignore[misc]
    until(turned_alone, process)  # and without news the landscape goes on turning
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=20)[1]
    assert (process.returncode, "Traceback" in told) == (0, False), told
