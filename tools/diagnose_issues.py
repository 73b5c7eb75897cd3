#!/usr/bin/env python3
"""Look for what is wrong, and say which command mends it: the machine, the packages, the data files, the runs.

    python tools/diagnose_issues.py                          # all of it; runs are searched below the working directory
    python tools/diagnose_issues.py runs hlbd_playground     # runs are searched below these directories
    python tools/diagnose_issues.py --datasets my_data.json  # this data file instead of those in data/

Each finding is ok, a warning (work goes on, but not as you may think) or an error (training, resuming or verifying
fails, or its result would be wrong). Nothing is changed. See docs/DIAGNOSIS.md.

Exit code: 0 without an error, 1 with one, 2 for arguments that cannot be used.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tools.command_line import CommandLine, finish, path_given
from training.errors import UserError

NEEDED_PYTHON = (3, 11)
"""As `requires-python` in pyproject.toml. Asked here, because an older one cannot even read the modules below."""


def _parser() -> CommandLine:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    where = "where runs are searched (default: the working directory)"
    add("paths", metavar="PATH", type=path_given, nargs="*", help=where)
    add("--datasets", metavar="FILE", nargs="+", help="HLBD files to look at (default: every .json file in data/)")
    add("--json", action="store_true", help="print JSON, with every single case")
    return parser


def run(arguments: list[str]) -> int:
    """Do what the command line asks; the exit code. Raises UserError for what cannot be used."""
    args = _parser().parse_args(arguments)
    if sys.version_info < NEEDED_PYTHON:
        needed, here = (".".join(map(str, version[:2])) for version in (NEEDED_PYTHON, sys.version_info))
        raise UserError(
            f"Python {here} runs this, and the project needs {needed} or newer: install it and `make setup`"
        )
    roots = args.paths or [Path()]
    for root in roots:
        if not root.is_dir():
            what = "this is a file" if root.exists() else "there is no such directory"
            raise UserError(f"{root}: {what}; give a directory with runs in it, and data files with --datasets")

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
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Data holds characters that an old terminal's encoding lacks. JSON is UTF-8 whoever reads it.
        sys.stdout.reconfigure(encoding="utf-8" if args.json else None, errors="replace")
    if args.json:
        print(to_json(findings))
    else:
        for line in lines(findings):
            print(line)
    return exit_code(findings)


def main() -> int:
    """Command line entry: see the module's text for exit codes."""
    return finish("diagnose_issues", run)


if __name__ == "__main__":
    sys.exit(main())
