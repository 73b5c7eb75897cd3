"""List the runs: as many as fulfil all conditions, in any order, grouped by anything.

A condition names settings by their short or dotted name, figures and columns:

    --where "learning_rate<1e-3 and val_loss<2"
    --where "3e-4 <= learning_rate and (task = 'chat' or tag in ('baseline', 'best')) and not val_loss is null"
    --where "started_at >= '2026-11-30' and name ~ 'sweep'"

~ finds a part of a text in any case. A comparison with a value that is not known is false. `show RUN` lists the names
that a run has.
"""

from __future__ import annotations

import argparse
import sys

from tools.command_line import one_of, print_any_character, whole_number

MOST_LISTED = 100_000
TABLE_WIDTH_ELSEWHERE = 160
"""Characters per line where the output is not a terminal: enough for every column of the table."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of the sub-command."""
    add = parser.add_argument
    add("--where", metavar="CONDITION", default="", help="only runs that fulfil it (see above)")
    add("--search", metavar="TEXT", default="", help="only runs with it in name, note, tags, task, model or backend")
    add("--state", metavar="STATE", action="append", default=[], help="only runs in this state; may be repeated")
    add("--tag", metavar="TAG", action="append", default=[], help="only runs with this tag; may be repeated")
    archived = parser.add_mutually_exclusive_group()
    archived.add_argument("--archived", action="store_true", help="only archived runs")
    archived.add_argument("--all", action="store_true", help="archived runs too")
    add(
        "--sort",
        metavar="NAMES",
        default="-started_at",
        help="settings, figures or columns with commas between them; - in front: the highest first (default: "
        "%(default)s)",
    )
    add("--group-by", metavar="NAME", help="one table for each value of a setting, a figure or a column")
    add("--columns", metavar="NAMES", default="", help="settings, figures or columns to show as well")
    add("--limit", metavar="N", help="so many runs at most")
    add("--offset", metavar="N", default="0", help="leave out the first ones (default: %(default)s)")
    add("--json", action="store_true", help="print one JSON document (docs/EXPERIMENTS.md)")


def run(args: argparse.Namespace) -> int:
    """List the runs and return the exit code.

    Raises:
        UserError: a flag cannot be used.
    """
    limit = whole_number("--limit", args.limit, 1, MOST_LISTED) if args.limit is not None else None
    offset = whole_number("--offset", args.offset, 0, MOST_LISTED)
    shown = [name.strip() for name in args.columns.split(",") if name.strip()]

    # Imported here, so that --help and a misspelt flag do not wait.
    from tools.experiment_views.opened_store import opened_store
    from training.experiments.store.query import Query
    from training.record.run_state import State

    query = Query(
        text=args.search,
        where=args.where,
        states=[one_of("--state", state, "state", [known.value for known in State]) for state in args.state],
        tags=args.tag,
        archived=None if args.all else args.archived,
        sort=args.sort,
        limit=limit,
        offset=offset,
    )
    print_any_character(as_json=args.json)
    with opened_store(args.root) as store:
        total = store.count(query)
        groups = store.groups(args.group_by, query) if args.group_by is not None else None
        rows = store.runs(query) if groups is None else [row for group in groups for row in group.runs]
        values = store.values_of(shown, [row.id for row in rows])
        if args.json:
            from tools.experiment_views.run_document import list_document

            print(list_document(args.root, rows, total, values, args.group_by, groups))
            return 0
        from rich.console import Console

        from tools.experiment_views.run_table import picture
        from tools.monitoring.sparkline import glyphs_for

        console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH_ELSEWHERE)
        console.print(
            picture(rows, total, values, args.group_by, groups, console.width, glyphs_for(sys.stdout.encoding))
        )
    return 0
