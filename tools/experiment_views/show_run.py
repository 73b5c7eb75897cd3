"""Show all that is known of one run: state, figures, settings, tags and note."""

from __future__ import annotations

import argparse

from tools.command_line import print_any_character


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of the sub-command."""
    parser.add_argument("name", metavar="RUN", help="its name, the last part of it, or its id")
    parser.add_argument("--json", action="store_true", help="print one JSON document (docs/EXPERIMENTS.md)")


def run(args: argparse.Namespace) -> int:
    """Show the run and return the exit code.

    Raises:
        UserError: there is no such run.
    """
    from tools.experiment_views.opened_store import opened_store

    print_any_character(as_json=args.json)
    with opened_store(args.root) as store:
        row = store.run(args.name)
        settings, figures = store.settings(row.id), store.figures(row.id)
        if args.json:
            from tools.experiment_views.run_document import run_document

            print(run_document(args.root, row, {"settings": settings, "figures": figures}))
            return 0
        from rich.console import Console

        from tools.experiment_views.run_page import page

        Console(soft_wrap=True).print(page(row, settings, figures))
    return 0
