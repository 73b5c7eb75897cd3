#!/usr/bin/env python3
"""Watch every training run below some directories: how each is doing, what is wrong, and which is best.

    python tools/monitor_all_trainings.py                              # all runs below the working directory, live
    python tools/monitor_all_trainings.py runs /mnt/shared/runs --sort best
    python tools/monitor_all_trainings.py runs --once                  # one table; also if the output is not a terminal
    python tools/monitor_all_trainings.py runs --json                  # one JSON document (docs/MONITORING.md)
    python tools/monitor_all_trainings.py runs --figure comparison.png # one table, and the comparison as a picture

It only reads, and costs the runs nothing. Ctrl-C leaves.

Exit code: 0, or 2 for unusable input.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
if __name__ == "__main__":
    from training.machine.startup import begin

    begin()

from tools.command_line import CommandLine, check_directory, finish, number_between, path_given, print_any_character
from tools.figures.output_file import check_writable
from tools.monitoring.order import ORDERS
from training.errors import UserError, printable

if TYPE_CHECKING:
    from tools.runs.fleet import Fleet

TABLE_WIDTH_ELSEWHERE = 160
"""Characters per line where the output is not a terminal: enough for every column of the table."""


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
    add("--once", action="store_true", help="print one table and exit")
    add("--json", action="store_true", help="print one JSON document and exit")
    add("--figure", metavar="FILE", type=path_given, help="draw the comparison as a PNG and exit")
    add("--sort", choices=ORDERS, default="state", help="order of the table (default: %(default)s)")
    add("--refresh", metavar="SECONDS", default="2", help="time between updates (default: %(default)s)")
    add(
        "--stalled-after",
        metavar="SECONDS",
        help="silence after which a run counts as stalled (default: five of its usual intervals, at least a minute)",
    )
    return parser


def _seconds(flag: str, text: str) -> float:
    return number_between(flag, text, 0.1, 86400.0, "seconds")


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        UserError: the input cannot be used.
    """
    args = _parser().parse_args(arguments)
    refresh = _seconds("--refresh", args.refresh)
    stalled_after = _seconds("--stalled-after", args.stalled_after) if args.stalled_after is not None else None
    roots = args.directories or [Path()]
    for root in roots:
        check_directory(root, "give a directory with runs in it")
    check_writable("--figure", args.figure, (".png",))

    # Imported here, so that --help and a misspelt flag do not wait.
    from tools.runs.fleet import Fleet

    fleet = Fleet(roots, stalled_after)
    print_any_character(as_json=args.json)
    if args.once or args.json or args.figure is not None or not sys.stdout.isatty():
        _look_once(fleet, args)
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
        print(f"monitor_all_trainings: {printable(note)}", file=sys.stderr)
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
            print(f"note   {printable(note)}", file=sys.stderr)
        print(f"wrote {printable(args.figure)}", file=sys.stderr)


def main() -> int:
    """Run the tool as a process; its module docstring lists the exit codes."""
    return finish("monitor_all_trainings", run)


if __name__ == "__main__":
    sys.exit(main())
