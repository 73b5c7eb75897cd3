"""Import the runs of an archive that `export` wrote, here or elsewhere.

    python tools/experiments.py import run.zip --into from_the_cluster

Every name, size and checksum is looked at first; nothing that is there is replaced, and all runs appear or none.
"""

from __future__ import annotations

import argparse

from tools.command_line import path_given


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of the sub-command."""
    add = parser.add_argument
    add("archive", metavar="FILE.zip", type=path_given, help="the archive")
    add("--into", metavar="FOLDER", default="", help="folder below the root for the runs (default: the root itself)")


def run(args: argparse.Namespace) -> int:
    """Import the runs and return the exit code.

    Raises:
        UserError: it is no such archive, a run is there already, or the disk refuses.
    """
    from tools.experiment_views.opened_store import opened_store
    from training.experiments.store.archive import read_archive
    from training.language.messages import Message, say

    imported = read_archive(args.archive, args.root, args.into.strip("/"))
    with opened_store(args.root):  # the index knows them now
        for one in imported:
            say(Message("imported {path} ({id})", path=one.path, id=one.id))
    return 0
