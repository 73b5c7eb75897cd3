"""Leave runs out of lists, or bring them back with --undo. Nothing else changes, and nothing is deleted."""

from __future__ import annotations

import argparse


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of the sub-command."""
    parser.add_argument("names", metavar="RUN", nargs="+", help="its name, the last part of it, or its id")
    parser.add_argument("--undo", action="store_true", help="show them in lists again")


def run(args: argparse.Namespace) -> int:
    """Mark the runs and return the exit code.

    Raises:
        UserError: there is no such run.
    """
    from tools.experiment_views.opened_store import opened_store
    from training.language.messages import Message, say

    with opened_store(args.root) as store:
        rows = [store.run(name) for name in args.names]  # one wrong name changes nothing
        for row in rows:
            store.annotate(row.id, archived=not args.undo)
            done = Message("{name}: in lists again", name=row.name)
            say(done if args.undo else Message("{name}: archived", name=row.name))
    return 0
