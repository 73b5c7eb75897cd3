#!/usr/bin/env python3
"""Prove that the backend does not change the curve: really run each one, and compare them step by step.

    python tools/check_training_backends.py                                # every backend that is available here
    python tools/check_training_backends.py --backends deepspeed:zero_stage=3,num_processes=2 playground
    python tools/check_training_backends.py --config my.yaml --steps 50 --json parity.json --figure parity.png
    python tools/check_training_backends.py --task chat --model DIR --lora --datasets chats.jsonl

The reference (playground, one process) writes a seed checkpoint; it and each variant then run on from it, through
train.py, in a directory of its own. If a run leaves the reference's curve, the first step that differs is named, and
what differs there: data, loss, gradient, schedule or update. See docs/TRAINING_BACKENDS.md.

Any flag of train.py that says what is learned is taken too, over --config; how many processes there are, where and
how they train is said by the variants.

The name of a backend stands for all the ways in which it is usually run; `backend:setting=value,setting=value` is one.

Exit code: 0 if every variant that ran passed, 1 if one failed, 2 for unusable input.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
if __name__ == "__main__":
    from training.machine.startup import begin

    begin()

from tools.command_line import CommandLine, finish, path_given, whole_number
from training.errors import UserError
from training.language.messages import Message, say

EXIT_FAILED = 1
MOST_STEPS = 1000


def _parser() -> CommandLine:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("--steps", metavar="N", default="30", help="updates to compare (default: 30)")
    add("--backends", metavar="VARIANT", nargs="+", default=[], help="what to compare (default: every backend)")
    add(
        "--config",
        metavar="FILE",
        help="what to train, a YAML file or preset (default: a tiny model on HLBD)",
    )
    add("--json", metavar="FILE", type=path_given, help="write the certificate as JSON")
    add("--figure", metavar="FILE", type=path_given, help="draw the differences as a PNG")
    add("--runs", metavar="DIR", type=path_given, help="keep the runs and their logs here (default: they are deleted)")
    add("--timeout", metavar="SECONDS", default="600", help="time limit of one run (default: 600)")
    return parser


def _check_output(args: argparse.Namespace) -> None:
    """Refuse output paths before minutes of work, not after."""
    from tools.figures.output_file import check_writable

    check_writable("--json", args.json)
    check_writable("--figure", args.figure, (".png",))
    if args.runs is not None:
        if args.runs.exists() and (not args.runs.is_dir() or any(args.runs.iterdir())):
            raise UserError(f"--runs {args.runs}: it exists and is not an empty directory; choose another")
        try:
            args.runs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--runs {args.runs}: it cannot be created ({error.strerror}); choose another") from error


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        UserError: the input cannot be used.
    """
    args, flags = _parser().parse_known(arguments)
    steps = whole_number("--steps", args.steps, 1, MOST_STEPS)
    timeout = whole_number("--timeout", args.timeout, 1, 24 * 3600)

    # Imported here, so that --help and a misspelt flag do not wait.
    from tools.parity.certificate import write_json
    from tools.parity.examination import Examination, candidate, refuse_other_curves
    from tools.parity.provenance import ranks_here
    from tools.parity.settings import resolved
    from tools.parity.table import availability_lines, lines
    from tools.parity.variant import REFERENCE, Variant, expand

    _check_output(args)
    variants = expand(args.backends, ranks_here())
    for line in availability_lines([variant.backend for variant in variants]):
        say(line)
    print(flush=True)
    reference = resolved(Variant(REFERENCE), args.config, steps, flags)
    candidates = [candidate(v, args.config, steps, is_asked_for=bool(args.backends), flags=flags) for v in variants]
    refuse_other_curves(reference, candidates)
    with nullcontext(args.runs) if args.runs else tempfile.TemporaryDirectory(prefix="parity-") as folder:
        examination = Examination(reference, candidates, steps, Path(folder).resolve(), timeout, _print_now)
        certificate = examination.run()
    print()
    for line in lines(certificate):
        say(line)
    if args.json is not None:
        write_json(certificate, args.json)
        say(Message("wrote {path}", path=args.json))
    if args.figure is not None:
        from tools.parity.figure import draw

        for note in draw(certificate, args.figure):
            print(f"note   {note}")
        say(Message("wrote {path}", path=args.figure))
    return 0 if certificate.passed else EXIT_FAILED


def _print_now(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    """Run the tool as a process; its module docstring lists the exit codes."""
    # Ctrl-C has ended the run in progress, too.
    return finish("check_training_backends", run, "stopped; there is no certificate")


if __name__ == "__main__":
    sys.exit(main())
