"""Talk to a trained model: its answers are shown while it writes them.

    python tools/chat.py --model runs/make_train                          # type; an empty line or Ctrl-D ends it
    python tools/chat.py --model runs/make_train --prompt "12 + 34 = ?"   # one question: prints the answer alone
    python tools/chat.py --model runs/make_train < questions.txt          # a question a line, an answer a line

MODEL is a run directory, also of a run that is not finished; a final_model/ or final_model.pt, a checkpoint_*; or any
directory of transformers or PEFT. The model is asked as it was trained: one of --task hlbd answers a question, one of
--task text continues the text, and one of --task chat (or any model with a chat template) holds a conversation.

Answers are greedy unless --temperature is given: the same question always gets the same one. On a terminal:

    Ctrl-C    ends the answer, not the program; at the prompt it ends the program
    /new      begins a new conversation (the model forgets the earlier turns)

A conversation that becomes longer than what the model reads loses its oldest turns, and a line says so. Questions that
are piped are independent of one another; a line end in their answers is written as \\n.

Exit code: 0, 2 for unusable input, or 130 for Ctrl-C at the prompt.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
if __name__ == "__main__":
    from training.machine.startup import begin

    begin()

from tools.command_line import (
    MOST_SEED,
    CommandLine,
    finish,
    number_between,
    one_of,
    path_given,
    print_any_character,
    whole_number,
)
from training.errors import UserError, printable, printable_text
from training.language.messages import Message, say
from training.machine.stop_signals import StopSignals

if TYPE_CHECKING:
    from training.inference.conversation import Conversation
    from training.inference.speaker import Speaker
    from training.tasks.answers.answer import Answer
    from training.tasks.answers.sampling import Chooser

DEVICES = ("auto", "cpu", "cuda", "mps")
NEW = "/new"
MOST_NEW_TOKENS = 1_000_000
MOST_TEMPERATURE = 100.0


def _parser() -> CommandLine:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("--model", metavar="PATH", type=path_given, required=True, help="run, model file, checkpoint, or directory")
    add("--prompt", metavar="TEXT", help="the question (default: those of the standard input, a line each)")
    add("--system", metavar="TEXT", help="system message, for a model with a chat template")
    add("--max-new-tokens", metavar="N", default="256", help="longest answer in tokens (default: 256)")
    add("--temperature", metavar="T", default="0", help="0: the most probable token; 1: as the model has learned")
    add("--top-p", metavar="P", help="draw from the most probable tokens that have this share together (default: 1)")
    add("--seed", metavar="N", help="with --temperature: the same seed gives the same answers (default: 0)")
    add("--device", default="auto", help="cpu, cuda or mps (default: the best one here)")
    return parser


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        UserError: the model or a question cannot be used.
    """
    args = _parser().parse_args(arguments)
    one_of("--device", args.device, "device", DEVICES)
    longest = whole_number("--max-new-tokens", args.max_new_tokens, 1, MOST_NEW_TOKENS)
    temperature = number_between("--temperature", args.temperature, 0.0, MOST_TEMPERATURE)
    for flag, given in (("--top-p", args.top_p), ("--seed", args.seed)):
        if given is not None and temperature == 0.0:
            raise UserError(f"{flag} {given} has no effect on greedy answers; add --temperature 1, or leave it out")
    top_p = number_between("--top-p", "1" if args.top_p is None else args.top_p, 0.0, 1.0)
    seed = whole_number("--seed", "0" if args.seed is None else args.seed, 0, MOST_SEED)
    for flag, text in (("--prompt", args.prompt), ("--system", args.system)):
        if text is not None:
            _check_text(flag, text)

    # Imported here, so that --help and a misspelt flag do not wait for torch.
    from training.inference.conversation import Conversation
    from training.inference.speaker import load_speaker
    from training.machine.device import pick_device
    from training.tasks.answers.sampling import Chooser, Sampling

    is_typed = args.prompt is None and sys.stdin.isatty()
    if is_typed:
        say(Message("model   reading {path}", path=args.model), sys.stderr)
    speaker = load_speaker(args.model, pick_device(args.device))
    choose = Chooser(Sampling(temperature, top_p, seed))
    print_any_character(as_json=False)
    with contextlib.suppress(AttributeError):  # a stream of a test's own has no encoding to set
        sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    talk = _Talk(speaker, Conversation(speaker, args.system), choose, longest)
    if args.prompt is not None:
        talk.ask(args.prompt)
    elif is_typed:
        talk.converse()
    else:
        talk.answer_lines()
    return 0


def _check_text(flag: str, text: str) -> None:
    if not text.strip():
        what = "a question" if flag == "--prompt" else "a message, or leave it out"
        raise UserError(f"{flag} is empty; give {what}")
    if not _is_unicode(text):
        raise UserError(f"{flag} {text}: this is not UTF-8")


def _is_unicode(text: str) -> bool:
    """Return whether a text holds no bytes that Python could not decode."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


class _Talk:
    """Questions put to a model, and its answers printed."""

    def __init__(self, speaker: Speaker, conversation: Conversation, choose: Chooser, longest: int) -> None:
        self._speaker, self._conversation, self._choose, self._longest = speaker, conversation, choose, longest

    def ask(self, question: str) -> None:
        """Print the answer to one question.

        Raises:
            UserError: it cannot be asked.
        """
        answer = self._begin(question)
        try:
            self._print(answer)
        except KeyboardInterrupt:
            print(flush=True)
            raise

    def answer_lines(self) -> None:
        """Answer each line of the standard input on its own, in one line."""
        for question in _lines():
            self._conversation.restart()
            try:
                answer = self._begin(question)
                text = "".join(answer).replace("\n", "\\n")
            except UserError as error:
                print(f"chat: {error}", file=sys.stderr)
                print("(nothing)", flush=True)
                continue
            print(printable_text(text) or "(nothing)", flush=True)
            self._note(answer)

    def converse(self) -> None:
        """Answer what is typed, until an empty line."""
        for line in self._introduction():
            say(line, sys.stderr)
        form = self._speaker.format
        for typed in _typed():
            question = typed if form.continues_text else typed.strip()
            if form.holds_conversation and question == NEW:
                self._conversation.restart()
                say(Message("a new conversation"), sys.stderr)
                continue
            try:
                self._answer_until_stopped(question)
            except UserError as error:
                print(f"chat: {error}", file=sys.stderr)

    def _answer_until_stopped(self, question: str) -> None:
        """Print an answer; Ctrl-C ends it.

        Raises:
            UserError: the question cannot be asked.
        """
        signals = StopSignals()
        with contextlib.suppress(KeyboardInterrupt), signals:  # a second Ctrl-C does not wait for the next token
            self._print(self._begin(question), signals)
        if signals.received is not None:
            print(flush=True)
            if not sys.stdout.isatty():  # the key was echoed into the line of the next prompt
                print(file=sys.stderr, flush=True)
            if signals.received != signal.SIGINT:
                signal.raise_signal(signals.received)

    def _begin(self, question: str) -> Answer:
        if not _is_unicode(question):
            raise UserError("the question is not UTF-8")
        if unknown := list(dict.fromkeys(self._speaker.format.unknown(question))):
            print(f"the model has never seen: {printable(' '.join(unknown))}", file=sys.stderr)
        answer = self._conversation.ask(question, self._choose, self._longest)
        if count := self._conversation.num_left_out:
            left_out = Message(
                "the oldest turns ({count}) are left out from here on: the model reads {limit:,} tokens",
                count=count, limit=self._speaker.context_length,
            )  # fmt: skip
            say(left_out, sys.stderr)
        return answer

    def _print(self, answer: Answer, signals: StopSignals | None = None) -> None:
        """Print an answer as it is written, up to a stop that was asked for; no line end behind a stopped one."""
        for piece in answer:
            print(printable_text(piece), end="", flush=True)
            if signals is not None and signals.received is not None:
                return
        print("" if answer.text else "(nothing)", flush=True)
        self._note(answer)

    def _note(self, answer: Answer) -> None:
        """Say on stderr that an answer has no end of its own; only in a chat does one belong to it."""
        from training.tasks.answers.answer import Ending

        if not self._speaker.format.holds_conversation:
            return
        if answer.ending == Ending.LIMIT:
            cut = Message("(cut after {count:,} tokens; --max-new-tokens sets how many)", count=answer.num_tokens)
            say(cut, sys.stderr)
        elif answer.ending == Ending.CONTEXT:
            limit = self._speaker.context_length
            cut = Message("(cut: the model reads {limit:,} tokens, the conversation and its answer)", limit=limit)
            say(cut, sys.stderr)

    def _introduction(self) -> Iterator[Message]:
        speaker = self._speaker
        yield Message("model   {model}", model=speaker.describe())
        if speaker.format.holds_conversation:
            yield Message("chat    it holds a conversation; {new} begins another", new=NEW)
        elif speaker.format.continues_text:
            yield Message("chat    it continues the text that you type")
        else:
            yield Message("chat    it answers each question on its own")
        yield Message("keys    Ctrl-C ends an answer; an empty line or Ctrl-D ends the program")


def _lines() -> Iterator[str]:
    """Yield the lines of the standard input that are not empty."""
    while line := sys.stdin.readline():
        if question := line.strip():
            yield question


def _typed() -> Iterator[str]:
    """Yield what is typed, until an empty line, Ctrl-D or the end of the terminal.

    Raises:
        KeyboardInterrupt: Ctrl-C at the prompt.
    """
    with contextlib.suppress(ImportError):  # not on Windows
        import readline  # noqa: F401  # keys that move the cursor, and earlier lines, for `input`
    # The answers alone belong into a file, so there the prompt goes to stderr.
    ask, shown = (input, sys.stdout) if sys.stdout.isatty() else (_line_after, sys.stderr)
    while True:
        try:
            typed = ask("> ")
        except EOFError:
            print(file=shown, flush=True)
            return
        except KeyboardInterrupt:
            print(file=shown, flush=True)
            raise
        if not typed.strip():
            return
        yield typed


def _line_after(prompt: str) -> str:
    """Return a line that is typed after a prompt on stderr, as `input` does on stdout.

    Raises:
        EOFError: Ctrl-D.
    """
    print(prompt, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.removesuffix("\n")


def main() -> int:
    """Run the tool as a process; its module docstring lists the exit codes."""
    return finish("chat", run)


if __name__ == "__main__":
    sys.exit(main())
