"""Compare runs: the settings in which they differ, their figures and curves, and what is more than chance.

    python tools/experiments.py compare baseline/run_0001 baseline/run_0002 --figure comparison.png

Runs that differ in one setting and were each trained with the same three seeds or more are compared in pairs, as
`--compare` of train.py does.
"""

from __future__ import annotations

import argparse
import sys

from tools.command_line import path_given, print_any_character
from tools.figures.output_file import check_writable


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of the sub-command."""
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="+", help="ids or names; the first one is the reference")
    add("--figure", metavar="FILE", type=path_given, help="draw the curves as a PNG")
    add("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """Compare runs and return the exit code.

    Raises:
        UserError: there is no such run, or the picture cannot be written.
    """
    check_writable("--figure", args.figure, (".png",))
    print_any_character(as_json=args.json)

    # Imported here, so that --help and a misspelt flag do not wait.
    from tools.experiment_views.opened_store import opened_store
    from training.errors import printable
    from training.experiments.side_by_side import side_by_side

    with opened_store(args.root) as store:
        compared = side_by_side(store, args.runs)
    if args.json:
        import json

        print(json.dumps(compared.to_dict(), ensure_ascii=False, indent=1, allow_nan=False, default=str))
    else:
        from tools.experiment_views.compare_text import lines_of
        from training.language.messages import say

        for line in lines_of(compared, sys.stdout.encoding):
            say(line)
    if args.figure is not None:
        from tools.experiment_views.compare_figure import draw

        for note in draw(compared, args.figure):
            print(f"note   {printable(note)}", file=sys.stderr)
        print(f"wrote {printable(args.figure)}", file=sys.stderr)
    return 0
