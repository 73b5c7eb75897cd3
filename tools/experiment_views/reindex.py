"""Read all runs again. Needed by nobody whose clock and disk are right; for everybody else."""

from __future__ import annotations

import argparse


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of the sub-command: there are none."""


def run(args: argparse.Namespace) -> int:
    """Read the runs again and return the exit code.

    Raises:
        UserError: there is no such root.
    """
    from tools.experiment_views.opened_store import opened_store
    from training.language.messages import Message, say
    from training.machine.units import as_size

    with opened_store(args.root) as store:
        changes = store.reindex()
        count = len(changes.added) + len(changes.changed)
        size = as_size(changes.bytes_read)
        say(Message("runs read again: {count:,} ({size} of records)", count=count, size=size))
    return 0
