"""Ask a trained model, one question or many.

    python tools/chat.py --model runs/make_train                          # type a question; an empty line ends it
    python tools/chat.py --model runs/make_train --prompt "12 + 34 = ?"   # one question: prints the answer alone
    python tools/chat.py --model runs/make_train < questions.txt          # a question a line, an answer a line

MODEL is a final_model.pt, a checkpoint_*, a final_model/ or a run directory of an APT that was trained on HLBD. Answers
are greedy: the same question always gets the same one.

Exit code: 0, or 2 for unusable input.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
if __name__ == "__main__":
    from training.machine.startup import begin

    begin()

from tools.command_line import CommandLine, finish, one_of, path_given, print_any_character
from training.errors import UserError

DEVICES = ("auto", "cpu", "cuda", "mps")


def _parser() -> CommandLine:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("--model", metavar="PATH", type=path_given, required=True, help="model file, checkpoint, or directory")
    add("--prompt", metavar="TEXT", help="the question (default: those of the standard input, a line each)")
    add("--device", default="auto", help="cpu, cuda or mps (default: the best one here)")
    return parser


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        UserError: the model or a question cannot be used.
    """
    args = _parser().parse_args(arguments)
    one_of("--device", args.device, "device", DEVICES)
    if args.prompt is not None and not args.prompt.strip():
        raise UserError("--prompt is empty; give a question")

    # Imported here, so that --help and a misspelt flag do not wait for torch.
    from tools.verification.questions.answerer import answerer_of, load_hlbd_model
    from training.machine.device import pick_device

    trained = load_hlbd_model(args.model)
    longest = int(getattr(trained.options, "max_seq_len", 256))
    answerer = answerer_of(trained, longest, pick_device(args.device), 1)
    print_any_character(as_json=False)
    for question in [args.prompt] if args.prompt is not None else _questions():
        if unknown := answerer.unknown([question]):
            print(f"the model has never seen: {' '.join(unknown)}", file=sys.stderr)
        [answer] = answerer.answer([question])
        if answerer.num_too_long:
            answerer.num_too_long = 0
            print(f"the question has more tokens than the model reads (max_seq_len {longest})", file=sys.stderr)
        print(answer.text or "(nothing)", flush=True)
    return 0


def _questions() -> Iterator[str]:
    """Yield the questions that are typed or piped; on a terminal an empty line is the end."""
    is_terminal = sys.stdin.isatty()
    while True:
        if is_terminal:
            print("> ", end="", flush=True)
        line = sys.stdin.readline()
        question = line.strip()
        if not line or (is_terminal and not question):
            return
        if question:
            yield question


def main() -> int:
    """Run the tool as a process; its module docstring lists the exit codes."""
    return finish("chat", run)


if __name__ == "__main__":
    sys.exit(main())
