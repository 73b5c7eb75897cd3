#!/usr/bin/env python3
"""See a run train: its measured loss landscape, curves, gradient, learning rate, path and figures in one picture.

    python tools/visualize_training.py --log-dir RUN                                 # a window, live
    python tools/visualize_training.py --log-dir RUN --output live.png               # a picture, kept up to date
    python tools/visualize_training.py --log-dir RUN --mode offline --output run.png --dpi 300
    python tools/visualize_training.py --log-dir RUN --mode offline --output run.gif # or .mp4
    python tools/visualize_training.py --log-dir RUN --compare OTHER_RUN --theme paper
    python tools/visualize_training.py --log-dir RUN --mode offline --panel landscape --output landscape.png

The landscape is shown once `python tools/loss_landscape.py RUN` has measured it, samples where the run draws some. The
tool only reads, and costs the run nothing; live, it may be started before the run and outlives it. Ctrl-C or closing
the window ends it.

Exit code: 0, or 2 for unusable input.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
if __name__ == "__main__":
    from training.machine.startup import begin

    begin()

from tools.command_line import CommandLine, check_directory, finish, number_between, one_of, path_given
from tools.figures.output_file import check_writable
from training.errors import UserError, printable
from training.record.reporter import LOG_NAME, REPORT_NAME

if TYPE_CHECKING:
    from tools.dashboard.panels.drawing_style import Pen
    from tools.dashboard.reader import Reader

MODES = ("realtime", "offline")
DEFAULT_OUTPUT = Path("training_dashboard.png")
STILL_DPI, FILM_DPI = 100.0, 75.0
FILMS = (".gif", ".mp4")
NICENESS = 10
"""Niceness of a viewer: of a core that a program of niceness 0 wants too, it gets a tenth."""


def _parser() -> CommandLine:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add(
        "--log-dir",
        metavar="DIR",
        type=path_given,
        required=True,
        help="the run directory; live, it need not exist yet",
    )
    add("--mode", metavar="MODE", default="realtime", help="realtime or offline (default: %(default)s)")
    add(
        "--output",
        metavar="FILE",
        type=path_given,
        help="realtime: a .png that is kept up to date, instead of a window; offline: .png, .gif or .mp4 (default: "
        f"{DEFAULT_OUTPUT})",
    )
    add("--compare", metavar="DIR", type=path_given, nargs="+", default=[], help="runs whose loss curves are drawn too")
    add("--refresh", metavar="SECONDS", default="2", help="time between updates, realtime (default: %(default)s)")
    add("--theme", metavar="NAME", default="cyber", help="cyber, matrix, vaporwave or paper (default: %(default)s)")
    add(
        "--panel",
        metavar="NAME",
        help="draw one panel alone: landscape, loss, gradient, learning-rate, trajectory, status or samples",
    )
    add(
        "--dpi",
        metavar="DOTS",
        help=f"dots an inch of the picture's 12.8 x 7.2 inches (default: {STILL_DPI:g}, that is 1280 x 720; films "
        f"{FILM_DPI:g})",
    )
    return parser


def holds_run(directory: Path) -> bool:
    """Return whether the directory holds the record of a run."""
    return (directory / LOG_NAME).is_file() or (directory / REPORT_NAME).is_file()


def _check_directories(args: argparse.Namespace) -> None:
    wanted = [("--compare", other) for other in args.compare]
    if args.mode == "offline":
        wanted.insert(0, ("--log-dir", args.log_dir))
    elif args.log_dir.exists() and not args.log_dir.is_dir():
        raise UserError(f"--log-dir {args.log_dir}: this is a file; give a run directory")
    for flag, directory in wanted:
        check_directory(directory, "give a run directory", flag)
        try:
            is_run = holds_run(directory)
        except OSError as error:
            raise UserError(
                f"{flag} {directory}: it cannot be read ({error.strerror}); fix that and try again"
            ) from error
        if not is_run:
            raise UserError(f"{flag} {directory}: there is no run in it (neither {LOG_NAME} nor {REPORT_NAME})")


def _check_output(args: argparse.Namespace) -> None:
    if args.output is None:
        if args.mode == "realtime" and args.dpi is not None:
            raise UserError(f"--dpi {args.dpi}: a window has its screen's resolution; add --output FILE.png")
        return
    suffix = args.output.suffix.lower()
    if args.mode == "realtime" and suffix != ".png":
        raise UserError(f"--output {args.output}: realtime keeps a .png up to date; for a film add --mode offline")
    check_writable("--output", args.output, (".png", *FILMS))


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        UserError: the input cannot be used.
    """
    args = _parser().parse_args(arguments)
    one_of("--mode", args.mode, "mode", MODES)
    refresh = number_between("--refresh", args.refresh, 0.1, 3600.0, "seconds")
    dpi = number_between("--dpi", args.dpi, 50.0, 600.0, "dots an inch") if args.dpi is not None else None
    from tools.dashboard.panels.theme import theme_named

    theme = theme_named(args.theme)
    _check_directories(args)
    _check_output(args)

    # Imported here, so that --help and a misspelt flag do not wait.
    from tools.dashboard.layout import panel_named
    from tools.dashboard.panels.drawing_style import Pen
    from tools.dashboard.reader import Reader
    from tools.figures.fonts import Typeface

    panel = panel_named(args.panel) if args.panel is not None else None
    pen, reader = Pen(theme, Typeface()), Reader(args.log_dir, args.compare)
    if args.mode == "offline":
        _offline(reader, pen, args.output or DEFAULT_OUTPUT, dpi, panel)
        return 0
    _print_advice(pen)
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C ends it
        _watch(reader, pen, args.output, dpi, panel, refresh)
    return 0


def _watch(reader: Reader, pen: Pen, output: Path | None, dpi: float | None, panel: str | None, refresh: float) -> None:
    """Follow the run in a picture or in a window."""
    if output is not None:
        from tools.dashboard.live import keep_rewriting

        print(f"{printable(output)} is kept up to date; Ctrl-C ends it", file=sys.stderr)
        _give_way()
        keep_rewriting(reader, pen, dpi or STILL_DPI, output, panel, refresh)
    else:
        from tools.dashboard.window import Window, open_figure

        figure = open_figure(f"APT: {reader.run.directory}")
        _give_way()
        Window(figure, reader, pen, panel, refresh).show()


def _give_way() -> None:
    """Lower the priority of this process, so that a run on the same core goes first."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)


def _offline(reader: Reader, pen: Pen, path: Path, dpi: float | None, panel: str | None) -> None:
    """Write the picture or the film."""
    frame = reader.look()
    if path.suffix.lower() in FILMS:
        from tools.dashboard.animation import FRAMES, encoder, film, save_gif, save_mp4

        if frame.run.history.step < 1:
            raise UserError(f"--output {path}: the run has done no update yet, so there is nothing to replay")
        if path.suffix.lower() == ".mp4":
            encoder()  # before the frames are drawn, which takes half a minute
        save = save_gif if path.suffix.lower() == ".gif" else save_mp4
        save(film(frame, pen, dpi or FILM_DPI, panel, FRAMES), path, _progress, FRAMES)
    else:
        from tools.dashboard.picture import save as save_picture

        save_picture(frame, pen, dpi or STILL_DPI, path, panel)
    _print_advice(pen)
    print(f"wrote {printable(path)}", file=sys.stderr)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\rframe {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _print_advice(pen: Pen) -> None:
    for note in pen.typeface.advice():
        print(f"note   {printable(note)}", file=sys.stderr)


def main() -> int:
    """Run the tool as a process; its module docstring lists the exit codes."""
    return finish("visualize_training", run)


if __name__ == "__main__":
    sys.exit(main())
