"""Delete runs: all that they have written, and nothing else that lies in their directories.

It asks first; without a terminal it needs --yes. A run at work is never deleted. The job of a server that has started
the run goes with it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from training.errors import UserError

if TYPE_CHECKING:
    from training.experiments.store.index import ExperimentStore
    from training.experiments.store.rows import RunRow


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
            kept = _delete(store, row)
            if kept:
                say(Message("{name}: deleted; {kept} stay", name=row.name, kept=", ".join(kept)))
            else:
                say(Message("{name}: deleted", name=row.name))
    return 0


def _delete(store: ExperimentStore, row: RunRow) -> Sequence[str]:
    """Delete a run, and its job if it has one; return the names of what stays in its directory."""
    from training.checkpoints.run_lock import is_locked
    from training.experiments.jobs.files import jobs_directory
    from training.experiments.jobs.job_queue import JobQueue

    jobs = jobs_directory(store.root)
    if not (jobs / row.id).is_dir():
        return store.delete(row.id).kept
    if is_locked(jobs):
        raise UserError(f"run {row.name}: it is a job of the server that runs; delete it there, or stop the server")
    path, queue = store.run_path(row.id), JobQueue(store.root)
    try:
        queue.delete(row.id, files=True)
    finally:
        queue.close()
        store.refresh()
    return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else ()
