#!/usr/bin/env python3
"""Write a run's report as one HTML file: figures, curves, settings, certificates, samples, checkpoints, warnings.

    python tools/report.py runs/make_train                            # runs/make_train/report.html
    python tools/report.py runs/make_train --output paper.html --lang both

RUN is a run directory; the run may still go on. The file needs no server and no network: it opens from the disk, can be
sent by mail, and is printed well. Nothing in it can act: it has no script, and its head forbids a browser to load any.

Exit code: 0, or 2 for unusable input.
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

from tools.command_line import CommandLine, check_directory, finish, path_given
from tools.figures.output_file import check_writable, write_atomically
from tools.server.report.file import HTML_NAME
from training.language.messages import Message, chosen_language, say


def _parser() -> CommandLine:
    parser = CommandLine(__doc__)
    parser.add_argument("run", metavar="RUN", type=path_given, help="run directory")
    parser.add_argument(
        "--output", metavar="FILE", type=path_given, help=f"the file, .html (default: {HTML_NAME} in RUN)"
    )
    return parser


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        UserError: the run or the output cannot be used.
    """
    args = _parser().parse_args(arguments)
    check_directory(args.run, "give a run directory")
    output: Path = args.output if args.output is not None else args.run / HTML_NAME
    from tools.server.report.page import BEGINNING, report_html  # numpy, which --help does not wait for

    check_writable("--output", output, (".html", ".htm"), BEGINNING.encode())
    text = report_html(args.run, chosen_language() or "en")
    write_atomically(output, text.encode())
    say(Message("saved   {path}", path=output))
    return 0


if __name__ == "__main__":
    raise SystemExit(finish("report", run))
