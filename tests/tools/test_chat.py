"""The command `tools/chat.py`: answers of any model, piped or on a terminal, and one line for what cannot be asked."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apt_model.tokenizer import DynamicTagTokenizer
from tests.conftest import FrontDoor
from tests.support.language_data import chats_file, tiny_model
from tests.support.talking_models import chat_directory
from tools import chat
from training.checkpoints.finished_model import load_trained_model
from training.errors import UserError
from training.tasks.hlbd.files import Sample
from training.tasks.hlbd.training_answers import recite


def test_an_answer_a_question_typed_or_piped(
    finished_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = ["tiny 3 + 1 等于几？", "tiny 4 + 1 等于几？"]
    trained = load_trained_model(finished_run)
    tokenizer = DynamicTagTokenizer.from_dict(trained.artefacts["tokenizer"], "here")
    longest = "1" * (trained.options.model_dump()["max_seq_len"] - 1)
    expected = recite(trained.model, tokenizer, [Sample(q, longest, "m", 0) for q in questions])
    texts = [one.answer or "(nothing)" for one in expected]

    assert chat.run(["--model", str(finished_run), "--prompt", questions[0], "--device", "cpu"]) == 0
    assert capsys.readouterr().out.splitlines() == texts[:1]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([questions[0], "", questions[1]])))
    assert chat.run(["--model", str(finished_run), "--device", "cpu"]) == 0
    assert capsys.readouterr() == ("\n".join(texts) + "\n", "")


def test_what_the_model_cannot_read_is_said_beside_its_answer(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chat.run(["--model", str(finished_run), "--prompt", "龙 3", "--device", "cpu"]) == 0
    assert capsys.readouterr().err == "the model has never seen: 龙\n"


def test_a_question_that_is_too_long_is_refused_and_the_others_are_answered(
    finished_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = load_trained_model(finished_run).options.model_dump()["max_seq_len"]
    said = f"the prompt has 302 tokens, and the model reads {limit} together with its answer; shorten it"
    with pytest.raises(UserError) as caught:
        chat.run(["--model", str(finished_run), "--prompt", "3" * 300, "--device", "cpu"])
    assert str(caught.value) == said
    monkeypatch.setattr(sys, "stdin", io.StringIO("tiny 3 + 1\n" + "3" * 300 + "\ntiny 3 + 1\n"))
    assert chat.run(["--model", str(finished_run), "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    first, refused, last = printed.out.splitlines()
    assert (first, refused) == (last, "(nothing)")
    assert printed.err == f"chat: {said}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "nowhere"], "nowhere: no such model"),
        (["--model", ".", "--prompt", " "], "--prompt is empty"),
        (["--model", ".", "--device", "tpu"], "--device tpu"),
        (["--model", ".", "--system", " "], "--system is empty"),
        (["--model", ".", "--prompt", "\udcff"], "not UTF-8"),
        (
            ["--model", ".", "--max-new-tokens", "0"],
            "--max-new-tokens must be a whole number from 1 to 1000000, got '0'",
        ),
        (["--model", ".", "--temperature", "-1"], "--temperature"),
        (["--model", ".", "--temperature", "nan"], "--temperature must be a number from 0 to 100, got 'nan'"),
        (["--model", ".", "--temperature", "1", "--top-p", "1.1"], "--top-p must be a number from 0 to 1, got '1.1'"),
        (["--model", ".", "--temperature", "1", "--seed", "x"], "--seed"),
        (["--model", ".", "--seed", "3"], "--seed 3 has no effect on greedy answers"),
        (["--model", ".", "--top-p", "0.9"], "--top-p 0.9 has no effect"),
        ([], "--model"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(arguments: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        chat.run(arguments)
    assert "\n" not in str(caught.value)


# -- any model -----------------------------------------------------------------------------------------------------


def answer_to(prompt: str, model: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """Return what the command prints for a prompt."""
    capsys.readouterr()
    assert chat.run(["--model", str(model), "--prompt", prompt, "--device", "cpu", *flags]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("family", ["apt", "tests.third_party.model.apt_averaging_model:AveragingFamily"])
def test_a_model_trained_on_texts_goes_on_with_the_prompt(
    family: str, front_door: FrontDoor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "rain.txt"
    text.write_text("雨下了😀雨下了😀" * 20, encoding="utf-8")
    shape = ["--d-model", "32", "--num-layers", "1", "--num-heads", "2", "--max-seq-len", "64"]
    done = front_door([
        "--task", "text", "--datasets", text, "--tokenizer", "bpe", "--model", family, "--epochs", "60",
        "--learning-rate", "1e-2", "--run-dir", tmp_path / "run", *(shape if family == "apt" else []),
    ])  # fmt: skip
    assert done.exit_code == 0, done.stderr
    trained = load_trained_model(tmp_path / "run")
    tokenizer = trained.family.tokenizer(trained.artefacts, "here")
    prompt = [tokenizer.bos_token_id, *tokenizer("雨下", add_special_tokens=False)["input_ids"]]  # as it was trained
    new = list(trained.family.stream(trained.model, prompt, 12, lambda logits_V: int(logits_V.argmax())))
    expected = tokenizer.decode(new[: new.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in new else new)
    assert answer_to("雨下", tmp_path / "run", capsys, "--max-new-tokens", "12") == expected + "\n"
    [checkpoint] = (tmp_path / "run").glob("checkpoint_epoch_60")
    assert answer_to("雨下", checkpoint, capsys, "--max-new-tokens", "12") == expected + "\n"


@pytest.mark.slow
def test_an_adapter_that_was_trained_on_chats_answers_from_each_of_its_forms(
    front_door: FrontDoor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    done = front_door([
        "--task", "chat", "--datasets", chats_file(), "--model", tiny_model("llama"), "--lora", "--run-dir", run,
        "--epochs", "40", "--learning-rate", "1e-2",
    ])  # fmt: skip
    assert done.exit_code == 0, done.stderr
    question = "What is the capital of Japan? (1)"
    answer = answer_to(question, run, capsys)
    assert answer.startswith("The capital of ")
    assert "<|im_end|>" not in answer
    for form in (run / "final_model", next(run.glob("checkpoint_epoch_40"))):
        assert answer_to(question, form, capsys) == answer
    assert answer_to(question, run, capsys, "--system", "Be short.") != ""


@pytest.mark.slow
def test_a_directory_of_somebody_else_answers_by_draws_that_its_seed_decides(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def drawn(seed: str, top_p: str = "1") -> str:
        flags = ["--temperature", "1", "--seed", seed, "--top-p", top_p, "--max-new-tokens", "20"]
        return answer_to("Hello", tiny_model("gpt2"), capsys, *flags)

    greedy = answer_to("Hello", tiny_model("gpt2"), capsys, "--max-new-tokens", "20")
    assert drawn("1") == drawn("1") != drawn("2")
    assert drawn("1", "0") == greedy


@pytest.mark.slow
def test_what_a_model_writes_never_acts_on_the_terminal(
    tmp_path: Path, front_door: FrontDoor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "escapes.txt"
    text.write_text("go\x1b[31m\tred\nnext\r" * 30, encoding="utf-8")
    done = front_door([
        "--task", "text", "--datasets", text, "--tokenizer", "characters", "--epochs", "80", "--learning-rate", "1e-2",
        "--d-model", "32", "--num-layers", "1", "--num-heads", "2", "--max-seq-len", "64",
        "--run-dir", tmp_path / "run",
    ])  # fmt: skip
    assert done.exit_code == 0, done.stderr
    answer = answer_to("next\rgo", tmp_path / "run", capsys, "--max-new-tokens", "15")
    assert answer == "\\x1b[31m\tred\nnext\\r\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("rgo\nego\n"))
    assert chat.run(["--model", str(tmp_path / "run"), "--device", "cpu", "--max-new-tokens", "15"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2, "a line for each question"


@pytest.mark.slow
def test_piped_questions_know_nothing_of_one_another(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hello\n/new\nHello\n"))
    assert chat.run(["--model", str(chat_directory()), "--device", "cpu", "--max-new-tokens", "8"]) == 0
    printed = capsys.readouterr()
    first, _, last = printed.out.splitlines()
    assert first == last
    assert printed.err == "(cut after 8 tokens; --max-new-tokens sets how many)\n" * 3


# -- a terminal ----------------------------------------------------------------------------------------------------


class Terminal:
    """The command in a terminal of its own, whose keys are pressed."""

    def __init__(self, *arguments: str | Path, stdout: Path | None = None) -> None:
        self._process, self._terminal = pty.fork()
        if self._process == 0:
            if stdout is not None:
                os.dup2(os.open(stdout, os.O_WRONLY | os.O_CREAT), 1)
            script = Path(chat.__file__)
            env = {**os.environ, "TERM": "dumb", "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"}
            os.execve(sys.executable, [sys.executable, str(script), "--device", "cpu", *map(str, arguments)], env)
        self.output, self._is_over = b"", False

    def shows(self, pattern: str, seconds: float = 100.0) -> str:
        """Wait until a pattern is seen; return what was shown up to there, and forget it."""
        until = time.monotonic() + seconds
        while (found := re.search(pattern.encode(), self.output)) is None:
            assert time.monotonic() < until, self.output.decode(errors="replace")
            if select.select([self._terminal], [], [], 0.1)[0]:
                self.output += os.read(self._terminal, 65536)
        shown, self.output = self.output[: found.end()], self.output[found.end() :]
        return shown.decode(errors="replace")

    def press(self, keys: str) -> None:
        """Press keys; `\\x03` is Ctrl-C, `\\x04` Ctrl-D."""
        os.write(self._terminal, keys.encode())

    def end(self, keys: str) -> int:
        """Press keys that end the command; return the exit code.

        They are pressed again if nothing follows: Python loses a Ctrl-C between a prompt and its wait for a key.
        """
        for _ in range(20):
            self.press(keys)
            if select.select([self._terminal], [], [], 5.0)[0]:
                break
        with contextlib.suppress(OSError):  # the other end is closed
            while select.select([self._terminal], [], [], 60.0)[0]:
                self.output += os.read(self._terminal, 65536)
            raise AssertionError(f"it hangs: {self.output.decode(errors='replace')}")
        self._is_over = True
        return os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])

    def close(self) -> None:
        """Leave nothing behind, also when a test fails."""
        if not self._is_over:
            os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)
        os.close(self._terminal)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def make(*arguments: str | Path, stdout: Path | None = None) -> Terminal:
        opened.append(Terminal(*arguments, stdout=stdout))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


ANSWERS_FOR_EVER = 200_000
"""Tokens; a test waits for the beginning of such an answer and stops it."""


@pytest.mark.slow
def test_ctrl_c_ends_an_answer_and_at_the_prompt_the_program(terminal: Callable[..., Terminal]) -> None:
    screen = terminal("--model", chat_directory(ANSWERS_FOR_EVER), "--max-new-tokens", str(ANSWERS_FOR_EVER))
    assert "/new begins another" in screen.shows("> ")
    for _ in range(2):
        screen.press("Hello\r")
        screen.shows(r"(?s)Hello\r\n.{40}")  # the answer is being written
        screen.press("\x03")
        screen.shows(r"\r\n> ")
        screen.press("/new\r")  # the same answer for ever again
        assert "a new conversation" in screen.shows("> ")
    assert screen.end("\x03") == 130
    assert b"chat: stopped" in screen.output
    assert b"Traceback" not in screen.output


@pytest.mark.slow
def test_answers_into_a_file_leave_the_prompts_on_the_terminal(
    finished_run: Path, terminal: Callable[..., Terminal], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = answer_to("tiny 3 + 1", finished_run, capsys)
    screen = terminal("--model", finished_run, stdout=tmp_path / "answers.txt")
    screen.shows("> ")
    screen.press("tiny 3 + 1\r")
    screen.shows("> ")
    assert screen.end("\x04") == 0
    assert (tmp_path / "answers.txt").read_text(encoding="utf-8") == answer


@pytest.mark.slow
@pytest.mark.parametrize("keys", ["\x04", "\r"])
def test_ctrl_d_and_an_empty_line_end_the_program(
    keys: str, finished_run: Path, terminal: Callable[..., Terminal]
) -> None:
    screen = terminal("--model", finished_run)
    assert "it answers each question on its own" in screen.shows("> ")
    screen.press("tiny 3 + 1\r")
    screen.shows(r"tiny 3 \+ 1\r\n(.*\n)?> ")
    screen.press("3" * 300 + "\r")
    assert "chat: the prompt has 302 tokens" in screen.shows("shorten it")
    screen.shows("> ")
    assert screen.end(keys) == 0
