"""Add tags to a run, or remove them with --remove; without a tag, list all tags.

tag                        # all tags, with the number of runs that have each
tag sweep/a baseline best
tag sweep/a best --remove
"""

from __future__ import annotations

import argparse

from training.errors import UserError


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of the sub-command."""
    parser.add_argument("name", metavar="RUN", nargs="?", help="its name, the last part of it, or its id")
    parser.add_argument("tags", metavar="TAG", nargs="*", help="1 to 64 characters, no comma")
    parser.add_argument("--remove", action="store_true", help="take these tags away")


def run(args: argparse.Namespace) -> int:
    """Change the tags and return the exit code.

    Raises:
        UserError: there is no such run, or a tag cannot be used.
    """
    from tools.experiment_views.opened_store import opened_store
    from tools.figures.wording import aligned
    from training.language.messages import Message, say

    with opened_store(args.root) as store:
        if args.name is None:
            for line in aligned([(tag, str(count)) for tag, count in store.tags().items()] or [("-", "0")], ""):
                print(line)
            return 0
        if not args.tags:
            raise UserError(f"tag {args.name}: give at least one tag")
        row = store.run(args.name)
        added, removed = ([], args.tags) if args.remove else (args.tags, [])
        row = store.tag(row.id, add=added, remove=removed)
        say(Message("{name}: {tags}", name=row.name, tags=", ".join(row.tags) or "-"))
    return 0
