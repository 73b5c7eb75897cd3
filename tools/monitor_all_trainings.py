#!/usr/bin/env python3
"""Watch every training run below some directories: how each is doing, what is wrong, and which is best.

    python tools/monitor_all_trainings.py                              # all runs below the working directory, live
    python tools/monitor_all_trainings.py runs /mnt/shared/runs --sort best
    python tools/monitor_all_trainings.py runs --once                  # one table; also where the output is no terminal
    python tools/monitor_all_trainings.py runs --json                  # one JSON document (docs/MONITORING.md)
    python tools/monitor_all_trainings.py runs --figure comparison.png # one table, and the comparison as a picture

It only reads, and costs the runs nothing. Ctrl-C leaves.

Exit code: 0, or 2 for input that cannot be used.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tools.command_line import CommandLine, finish, number_between, path_given
from tools.monitoring.order import ORDERS
from training.errors import UserError

if TYPE_CHECKING:
    from tools.runs.fleet import Fleet

TABLE_WIDTH_ELSEWHERE = 160
"""Columns of the table where the output is no terminal: all of them are shown."""


def _parser() -> CommandLine:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add(
        "directories",
        metavar="DIR",
        type=path_given,
        nargs="*",
        help="where runs are searched (default: the working directory)",
    )
    add("--once", action="store_true", help="print one table and leave")
    add("--json", action="store_true", help="print one JSON document and leave")
    add("--figure", metavar="FILE", type=path_given, help="draw the comparison as a PNG and leave")
    add("--sort", choices=ORDERS, default="state", help="order of the table (default: %(default)s)")
    add("--refresh", metavar="SECONDS", default="2", help="time between two looks (default: %(default)s)")
    add(
        "--stalled-after",
        metavar="SECONDS",
        help="silence after which a run counts as stalled (default: five of its usual intervals, at least a minute)",
    )
    return parser


def _seconds(flag: str, text: str) -> float:
    return number_between(flag, text, 0.1, 86400.0, "seconds")


def _check_directories(roots: list[Path]) -> None:
    for root in roots:
        if not root.is_dir():
            what = "this is a file" if root.exists() else "there is no such directory"
            raise UserError(f"{root}: {what}; give a directory with runs in it")


def run(arguments: list[str]) -> int:
    """Do what the command line asks; the exit code. Raises UserError for what cannot be used."""
    args = _parser().parse_args(arguments)
    refresh = _seconds("--refresh", args.refresh)
    stalled_after = _seconds("--stalled-after", args.stalled_after) if args.stalled_after is not None else None
    roots = args.directories or [Path()]
    _check_directories(roots)
    if args.figure is not None:
        if args.figure.suffix.lower() != ".png":
            raise UserError(f"--figure {args.figure}: the figure is a PNG; give a name that ends in .png")
        if not args.figure.parent.is_dir():
            raise UserError(f"--figure {args.figure}: there is no folder {args.figure.parent}; create it first")

    # Imported here, so that --help and a misspelt flag do not wait.
    from tools.runs.fleet import Fleet

    fleet = Fleet(roots, stalled_after)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names hold characters that an old terminal's encoding lacks. JSON is UTF-8 whoever reads it.
        sys.stdout.reconfigure(encoding="utf-8" if args.json else None, errors="replace")
    if args.once or args.json or args.figure is not None or not sys.stdout.isatty():
        try:
            _look_once(fleet, args)
        except BrokenPipeError:  # whoever read the output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    from tools.monitoring.screen import watch

    watch(fleet, args.sort, refresh)
    return 0


def _look_once(fleet: Fleet, args: argparse.Namespace) -> None:
    """Print one table or document, and draw the figure."""
    from tools.monitoring.leaderboard import leaderboards
    from tools.monitoring.order import in_order

    now = time.time()
    runs = in_order(fleet.look(now), args.sort)
    for note in fleet.unreadable:
        print(f"monitor_all_trainings: {note}", file=sys.stderr)
    if not runs:
        below = ", ".join(map(str, fleet.roots))
        raise UserError(f"no run below {below}; give the directory above your run directories")
    alerts, boards = fleet.alerts(runs, now), leaderboards(runs)
    if args.json:
        from tools.monitoring.document import to_json

        print(to_json(fleet.roots, now, runs, alerts, boards, fleet.unreadable))
    else:
        from rich.console import Console

        from tools.monitoring.sparkline import glyphs_for
        from tools.monitoring.table import Layout, picture

        console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH_ELSEWHERE)
        console.print(picture(runs, alerts, boards, Layout(console.width, None, glyphs_for(sys.stdout.encoding))))
    if args.figure is not None:
        from tools.monitoring.figure import draw

        for note in draw(runs, boards, args.figure):
            print(f"note   {note}", file=sys.stderr)
        print(f"wrote {args.figure}", file=sys.stderr)


def main() -> int:
    """Command line entry: see the module's text for exit codes."""
    return finish("monitor_all_trainings", run)


if __name__ == "__main__":
    sys.exit(main())
