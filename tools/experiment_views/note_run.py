"""Write a note about a run; without a text, show the note; an empty text deletes it."""

from __future__ import annotations

import argparse


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of the sub-command."""
    parser.add_argument("name", metavar="RUN", help="its name, the last part of it, or its id")
    parser.add_argument("text", metavar="TEXT", nargs="?", help="up to 10,000 characters")


def run(args: argparse.Namespace) -> int:
    """Write or show the note and return the exit code.

    Raises:
        UserError: there is no such run, or the note is too long.
    """
    from tools.experiment_views.opened_store import opened_store
    from training.errors import printable_text

    with opened_store(args.root) as store:
        row = store.run(args.name)
        if args.text is not None:
            row = store.annotate(row.id, note=args.text)
        if row.note:
            print(printable_text(row.note))
    return 0
