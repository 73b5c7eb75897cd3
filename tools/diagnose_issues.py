#!/usr/bin/env python3
"""Look for what is wrong, and say which command fixes it: the machine, the packages, the data files, the runs.

    python tools/diagnose_issues.py                          # everything; runs are searched below the working directory
    python tools/diagnose_issues.py runs hlbd_playground     # runs are searched below these directories
    python tools/diagnose_issues.py --datasets my_data.json  # this data file instead of those in data/

A finding is ok, a warning (work continues, but perhaps not as you expect) or an error (training, resuming or verifying
fails, or its result would be wrong). Nothing is changed. See docs/DIAGNOSIS.md.

Exit code: 0 without an error, 1 with one, 2 for unusable arguments.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
if __name__ == "__main__":
    from training.machine.startup import begin

    begin()

from tools.command_line import CommandLine, check_directory, finish, path_given, print_any_character
from training.errors import UserError
from training.language.messages import say

NEEDED_PYTHON = (3, 11)
"""The version in `requires-python` of pyproject.toml. An older one cannot even read the modules imported below."""


def _parser() -> CommandLine:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    where = "where runs are searched (default: the working directory)"
    add("paths", metavar="PATH", type=path_given, nargs="*", help=where)
    add("--datasets", metavar="FILE", nargs="+", help="HLBD files to check (default: every .json file in data/)")
    add("--json", action="store_true", help="print JSON, with every case")
    return parser


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        UserError: the input cannot be used.
    """
    args = _parser().parse_args(arguments)
    if sys.version_info < NEEDED_PYTHON:
        needed, here = (".".join(map(str, version[:2])) for version in (NEEDED_PYTHON, sys.version_info))
        raise UserError(
            f"Python {here} runs this, and the project needs {needed} or newer: install it and `make setup`"
        )
    roots = args.paths or [Path()]
    for root in roots:
        check_directory(root, "give a directory with runs in it, and data files with --datasets")

    # Imported here, so that --help and a misspelt flag do not wait.
    from tools.diagnosis.data_set import data_paths, diagnose_data
    from tools.diagnosis.dependencies import diagnose_dependencies
    from tools.diagnosis.environment import diagnose_environment
    from tools.diagnosis.findings import exit_code, lines, to_json
    from tools.diagnosis.runs import diagnose_runs

    paths = data_paths(args.datasets)
    findings = [
        *diagnose_environment(roots),
        *diagnose_dependencies(),
        *diagnose_data(paths, complete=args.datasets is None),
        *diagnose_runs(roots),
    ]
    print_any_character(as_json=args.json)
    if args.json:
        print(to_json(findings))
    else:
        for line in lines(findings):
            say(line)
    return exit_code(findings)


def main() -> int:
    """Run the tool as a process; its module docstring lists the exit codes."""
    return finish("diagnose_issues", run)


if __name__ == "__main__":
    sys.exit(main())
