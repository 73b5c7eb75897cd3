"""Export runs to a file: a table (.csv, .jsonl, .parquet, .tex), or whole runs that `import` takes elsewhere (.zip).

    python tools/experiments.py export --output runs.csv --where "val_loss<2"
    python tools/experiments.py export baseline/run_0001 --output table.tex --columns name,learning_rate,val_loss
    python tools/experiments.py export baseline/run_0001 --output run.zip --no-checkpoints

A run that is at work is no part of an archive: its files change while they are read. Nothing is replaced.
"""

from __future__ import annotations

import argparse

from tools.command_line import path_given
from training.errors import UserError


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of the sub-command."""
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="*", help="ids or names (default: all runs that are not archived)")
    add("--where", metavar="CONDITION", default="", help="the runs for which this holds, as for list")
    add("--output", metavar="FILE", type=path_given, required=True, help="ends in .csv, .jsonl, .parquet, .tex or .zip")
    add("--columns", metavar="NAME,NAME", help="columns of a table (default: all; in .tex those in which runs differ)")
    add("--no-checkpoints", action="store_true", help="leave checkpoints and weight snapshots out of a .zip")


def run(args: argparse.Namespace) -> int:
    """Write the file and return the exit code.

    Raises:
        UserError: there is no such run or column, the file is there, or it cannot be written.
    """
    from tools.experiment_views.opened_store import opened_store
    from training.experiments.store.query import Query
    from training.experiments.store.tables import ZIP, export_runs, runs_named
    from training.language.messages import Message, say

    if args.runs and args.where:
        raise UserError("export: give runs by name or --where, not both")
    if args.no_checkpoints and args.output.suffix.lower() != ZIP:
        raise UserError(f"--no-checkpoints: {args.output} is a table, which has none; leave it out")
    columns = [word.strip() for word in args.columns.split(",")] if args.columns is not None else None
    with opened_store(args.root) as store:
        wanted: list[str] | None = args.runs or None
        if args.where:
            wanted = [row.id for row in store.runs(Query(where=args.where, sort=""))]
        rows = runs_named(store, wanted)
        ids = [row.id for row in rows]
        export_runs(store, ids, args.output, columns=columns, with_checkpoints=not args.no_checkpoints)
    say(Message("wrote {path} ({count} runs)", path=args.output, count=len(rows)))
    return 0
