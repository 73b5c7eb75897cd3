"""The process in which a finished model answers for the server: `python -m tools.server.workers.chat MODEL`.

It reads requests from its standard input and writes what it has to say to its standard output, a JSON document a line:

    in    {"number": 3, "messages": [{"role": "user", "content": "12 + 34 = ?"}], "temperature": 0.0, …}
          {"stop": 3}
    out   {"ready": {"model": "…", "holds_conversation": true, …}}   or   {"refused": "one line"}
          {"number": 3, "text": "4"}, …, {"number": 3, "end": {"reason": "stop", …}}   or   {"number": 3, "error": "…"}

It ends with its standard input, that is with the server, however that ends.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from training.errors import EXIT_BAD_INPUT, UserError, printable

if TYPE_CHECKING:
    from training.inference.speaker import Speaker

NICENESS = 10
"""Niceness of an answer: of a core that a training wants too, it gets a tenth."""
REASONS = {"STOP": "stop", "LIMIT": "length", "CONTEXT": "context"}
"""Word for each `Ending` in an answer."""


class Requests:
    """Requests of the server, read in a thread of its own, so that a stop is heard while an answer is written.

    Args:
        stream: a JSON document a line.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._asked: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._stopped: set[int] = set()
        threading.Thread(target=self._read, daemon=True).start()

    def next(self) -> dict[str, Any]:
        """Wait for the next question that was not stopped meanwhile."""
        while True:
            request = self._asked.get()
            if request["number"] not in self._stopped:
                return request
            self._stopped.discard(request["number"])

    def is_stopped(self, number: int) -> bool:
        """Return whether nobody wants to hear more of an answer."""
        if number in self._stopped:
            self._stopped.discard(number)
            return True
        return False

    def _read(self) -> None:
        for line in self._stream:
            request = json.loads(line)
            if "stop" in request:
                self._stopped.add(request["stop"])
            else:
                self._asked.put(request)
        os._exit(0)  # the server is gone: nobody waits for what is being computed


def prompt_of(speaker: Speaker, messages: Sequence[Mapping[str, str]], max_new_tokens: int) -> tuple[list[int], int]:
    """Return the tokens that ask for the next message, and the number of earlier messages that had to be left out.

    The oldest question with its answer goes first; a system message stays. Up to half of what the model reads is kept
    free for its answer, as in `training.inference.conversation`.

    Raises:
        UserError: the messages cannot be asked.
    """
    limit, form = speaker.context_length, speaker.format
    system = [message for message in messages[:1] if message["role"] == "system"]
    if system and not form.holds_conversation:
        raise UserError("this model has no chat template, so it reads no system message; leave it out")
    turns = list(messages[len(system) :])
    starts = [number for number, message in enumerate(turns) if message["role"] == "user"]
    if not form.holds_conversation:
        return form.encode(turns[-1:]), 0
    kept_free = 0 if limit is None else min(max_new_tokens, limit // 2)
    for start in starts:
        prompt = form.encode([*system, *turns[start:]])
        if limit is None or len(prompt) + kept_free <= limit:
            break
    return prompt, start


def answer(speaker: Speaker, request: Mapping[str, Any], requests: Requests, say: Any) -> None:
    """Write the answer to one request, piece by piece.

    Raises:
        UserError: it cannot be asked.
    """
    from training.tasks.answers.sampling import Chooser, Sampling

    number, longest = request["number"], request["max_new_tokens"]
    prompt, left_out = prompt_of(speaker, request["messages"], longest)
    unknown = list(dict.fromkeys(speaker.format.unknown(request["messages"][-1]["content"])))
    choose = Chooser(Sampling(request["temperature"], request["top_p"], request["seed"]))
    written = speaker.answer_tokens(prompt, choose, longest)
    for piece in written:
        if requests.is_stopped(number):
            break
        if piece:
            say({"number": number, "text": piece})
    reason = "stopped" if written.ending is None else REASONS[written.ending.name]
    say({
        "number": number,
        "end": {
            "reason": reason, "tokens": written.num_tokens, "prompt_tokens": len(prompt), "left_out": left_out,
            "unknown": printable("".join(unknown)),
        },
    })  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Answer until the standard input ends, and return the exit code."""
    # What a library prints must not come between the lines of the protocol.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    requests = Requests(open(0, encoding="utf-8", closefd=False))  # noqa: SIM115  # no path: the descriptor

    def say(document: Mapping[str, Any]) -> None:
        out.write(json.dumps(document) + "\n")
        out.flush()

    try:
        speaker = _load(Path(arguments[0]))
    except UserError as error:
        say({"refused": str(error)})
        return EXIT_BAD_INPUT
    except ModuleNotFoundError as error:
        from training.machine.startup import missing_package

        say({"refused": missing_package(error) or f"{error.name} is not installed"})
        return EXIT_BAD_INPUT
    form = speaker.format
    say({
        "ready": {
            "model": speaker.describe(), "holds_conversation": form.holds_conversation,
            "continues_text": form.continues_text, "context_length": speaker.context_length,
        },
    })  # fmt: skip
    while True:
        request = requests.next()
        try:
            answer(speaker, request, requests, say)
        except UserError as error:
            say({"number": request["number"], "error": str(error)})


def _load(path: Path) -> Speaker:
    """Read the model onto the best device here.

    Raises:
        UserError: there is none, or it cannot answer.
    """
    from training.inference.speaker import load_speaker
    from training.machine.device import pick_device

    return load_speaker(path, pick_device("auto"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
