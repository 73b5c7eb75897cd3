"""Verify a trained model: what it learned, what it memorised, and which shortcuts it took.

    python tools/verify_hlbd_model.py --model runs/default
    python tools/verify_hlbd_model.py --model final_model.pt --dataset D.json --json report.json --figure report.png

MODEL is a final_model.pt, a checkpoint_*, a final_model/ or a run directory. The questions of its training files show
what the model knows, those of the held-out file what it understood; rows that its run held back for validation are a
group of their own (docs/VERIFIER.md).

Exit code: 0, or 2 for unusable input, or 3 with --fail-on-shortcut when a shortcut was found.
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

from tools.command_line import CommandLine, finish, one_of, path_given, whole_number
from training.language.messages import Message, say

EXIT_SHORTCUT = 3
DEFAULT_SAMPLE = 10_000
DEVICES = ("auto", "cpu", "cuda", "mps")


def _parser() -> CommandLine:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("--model", metavar="PATH", type=path_given, required=True, help="model file, checkpoint, or directory")
    add("--dataset", metavar="FILE", nargs="+", help="ask the questions of these HLBD files (default: the run's own)")
    add(
        "--held-out",
        metavar="FILE",
        nargs="+",
        help="held-out files (default: the *_Heldout.json next to each dataset, if there is one)",
    )
    add(
        "--sample",
        metavar="N",
        default=str(DEFAULT_SAMPLE),
        help="ask about N training, N validation and N held-out questions at most, evenly chosen "
        "(default: %(default)s)",
    )
    add(
        "--pairs",
        choices=["levels", "full"],
        help="how concepts became questions in training (default: as in the model's run, else levels)",
    )
    add("--json", metavar="FILE", type=path_given, help="write the report as JSON")
    add("--figure", metavar="FILE", type=path_given, help="draw the report as a PNG")
    add("--fail-on-shortcut", action="store_true", help=f"exit with {EXIT_SHORTCUT} when a shortcut was found")
    add(
        "--batch-size",
        metavar="N",
        default="256",
        help="prompts per forward pass; does not change the answers (default: 256)",
    )
    add("--device", default="auto", help="cpu, cuda or mps (default: the best one here)")
    return parser


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        UserError: the input cannot be used; nothing has been written then.
    """
    args = _parser().parse_args(arguments)
    sample, batch_size = (
        whole_number("--sample", args.sample, 1, 10**7),
        whole_number("--batch-size", args.batch_size, 1, 2**20),
    )
    one_of("--device", args.device, "device", DEVICES)

    # Imported here, so that --help and a misspelt flag do not wait for torch.
    from tools.figures.output_file import check_writable
    from tools.verification.questions.answerer import answerer_of, load_hlbd_model
    from tools.verification.questions.question_files import load_questions
    from tools.verification.questions.training_data import training_data
    from tools.verification.report import write_json
    from tools.verification.table import lines
    from tools.verification.verification import verify
    from training.machine.device import pick_device

    check_writable("--json", args.json)
    check_writable("--figure", args.figure, (".png",))
    trained = load_hlbd_model(args.model)
    data = training_data(trained, args.dataset, args.pairs)
    questions = load_questions(data, args.held_out, sample)
    longest = max(len(q.truth) for q in questions.all)
    answerer = answerer_of(trained, longest, pick_device(args.device), batch_size)
    report = verify(answerer, questions, str(args.model))
    for line in lines(report):
        say(line)
    if args.json is not None:
        write_json(report, args.json)
        say(Message("wrote {path}", path=args.json))
    if args.figure is not None:
        from tools.verification.figure import draw

        for note in draw(report, args.figure):
            say(Message("note   {note}", note=note))
        say(Message("wrote {path}", path=args.figure))
    return EXIT_SHORTCUT if args.fail_on_shortcut and report.found else 0


def main() -> int:
    """Run the tool as a process; its module docstring lists the exit codes."""
    return finish("verify_hlbd_model", run)


if __name__ == "__main__":
    sys.exit(main())
