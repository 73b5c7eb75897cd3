"""Delete runs: all that they have written, and nothing else that lies in their directories.

It asks first; without a terminal it needs --yes. A run at work is never deleted.
"""

from __future__ import annotations

import argparse
import sys

from training.errors import UserError


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of the sub-command."""
    parser.add_argument("names", metavar="RUN", nargs="+", help="its name, the last part of it, or its id")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
    """Delete the runs and return the exit code.

    Raises:
        UserError: there is no such run, it is at work, or nobody can be asked.
    """
    from tools.experiment_views.opened_store import opened_store
    from training.language.messages import Message, say, translated

    with opened_store(args.root) as store:
        rows = list({(row := store.run(name)).id: row for name in args.names}.values())
        for row in rows:
            words = Message(
                "{name}: {state}, step {step:,}, checkpoints: {count}",
                name=row.name,
                state=Message(row.state),
                step=row.step,
                count=row.num_checkpoints,
            )
            say(words)
        if not args.yes:
            if not (sys.stdin.isatty() and sys.stdout.isatty()):
                raise UserError("delete asks before it deletes, and there is no terminal to ask on; add --yes")
            question = translated(Message("delete all that they have written, for good? [y/N]"))
            if input(f"{question} ").strip().lower() not in ("y", "yes"):
                say(Message("nothing was deleted"))
                return 0
        for row in rows:
            kept = store.delete(row.id).kept
            if kept:
                say(Message("{name}: deleted; {kept} stay", name=row.name, kept=", ".join(kept)))
            else:
                say(Message("{name}: deleted", name=row.name))
    return 0
