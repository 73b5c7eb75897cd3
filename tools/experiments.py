#!/usr/bin/env python3
"""All runs below a root as a table that can be asked: filtered, sorted, grouped, compared, tagged, archived, exported.

    python tools/experiments.py list --where "learning_rate<1e-3 and val_loss<2" --sort val_loss
    python tools/experiments.py list --group-by model.d_model
    python tools/experiments.py show sweep/a            # a run by its name, or by its id
    python tools/experiments.py compare sweep/a sweep/b # settings that differ, figures, curves, statistics
    python tools/experiments.py artefacts sweep/a --check  # what it has made; is it still there and unchanged?
    python tools/experiments.py tag sweep/a baseline
    python tools/experiments.py note sweep/a "the first that converged"
    python tools/experiments.py archive sweep/b         # left out of lists; --undo brings it back
    python tools/experiments.py delete sweep/c          # asks first, and never deletes a run at work
    python tools/experiments.py export --output runs.csv  # .csv .jsonl .parquet .tex, or .zip with whole runs
    python tools/experiments.py import runs.zip         # which an export wrote here or elsewhere
    python tools/experiments.py reindex

A run is what its directory holds: the index, ROOT/.server/experiments.sqlite, may be deleted at any time. Each command
has a help of its own: python tools/experiments.py list --help (docs/EXPERIMENTS.md).

Exit code: 0; 1 if `artefacts` finds something changed or missing; 2 for unusable input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
if __name__ == "__main__":
    from training.machine.startup import begin

    begin()

from tools.command_line import CommandLine, finish, path_given
from tools.experiment_views import (
    archive_runs,
    compare_runs,
    delete_runs,
    export_runs,
    import_runs,
    list_runs,
    note_run,
    reindex,
    run_artefacts,
    show_run,
    tag_run,
)

DEFAULT_ROOT = Path("runs")
COMMANDS: dict[str, ModuleType] = {
    "list": list_runs,
    "show": show_run,
    "artefacts": run_artefacts,
    "compare": compare_runs,
    "tag": tag_run,
    "note": note_run,
    "archive": archive_runs,
    "delete": delete_runs,
    "export": export_runs,
    "import": import_runs,
    "reindex": reindex,
}
"""Sub-command -> its module: `add_flags(parser)` declares its flags, `run(args)` does it and returns the exit code. It
imports what is heavy in `run` alone, so that no help waits for it."""

MAY_BEGIN_WITH_DASH = ("--sort", "--where")
"""Flags whose values may."""


def _parser() -> CommandLine:
    parser = CommandLine(__doc__)
    _add_root(parser, DEFAULT_ROOT)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        options: dict[str, Any] = {"text": module.__doc__, "is_part": True}
        part = commands.add_parser(name, help=(module.__doc__ or "").partition("\n")[0], **options)
        _add_root(part, argparse.SUPPRESS)  # the value given before the command stays
        module.add_flags(part)
    return parser


def _add_root(parser: argparse.ArgumentParser, default: object) -> None:
    parser.add_argument(
        "--root", metavar="DIR", type=path_given, default=default, help="directory that holds all runs (default: runs)"
    )


def _joined(words: Sequence[str]) -> Iterator[str]:
    """Yield the words of the command line; `--sort -val_loss` as one, since argparse takes what follows for a flag."""
    flag = None
    for word in words:
        if flag is not None and not word.startswith("--"):
            yield f"{flag}={word}"
            flag = None
            continue
        if flag is not None:
            yield flag
        flag = word if word in MAY_BEGIN_WITH_DASH else None
        if flag is None:
            yield word
    if flag is not None:
        yield flag


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        UserError: the input cannot be used.
    """
    args = _parser().parse_args(list(_joined(arguments)))
    code: int = COMMANDS[args.command].run(args)
    return code


def main() -> int:
    """Run the tool as a process; its module docstring lists the exit codes."""
    return finish("experiments", run)


if __name__ == "__main__":
    sys.exit(main())
