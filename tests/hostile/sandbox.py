"""A directory for each hostile case, the process that runs it, and the judge of what it did.

The process is forked from this one, which has imported what is slow to import; from there on it does what
`python SCRIPT …` does. So a case costs a tenth of a second where a start costs three.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import os
import re
import resource
import runpy
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.cases import (
    CHATS_FILE,
    COMMANDS,
    DANGLING,
    DATA,
    ENDLESS,
    FIFO,
    FINDINGS,
    LANGUAGE,
    LOOP,
    MODEL,
    RUN,
    TEMPLATE,
    TEXTS_FILE,
    TINY,
    USERS_DIRECTORY,
    USERS_FILE,
    Case,
    Change,
    edited,
)

ROOT = Path(__file__).resolve().parents[2]
# Imported before the first fork. No thread may have been started by then: what it holds stays locked in the child.
SLOW_TO_IMPORT = (
    *("torch", "numpy", "matplotlib.figure", "matplotlib.backends.backend_agg", "PIL.Image"),
    *("training.train", "training.run", "training.loop.trainer", "training.forecast.estimate"),
    *("transformers.models.llama.modeling_llama", "transformers.models.auto.modeling_auto", "peft", "tokenizers"),
)
ADDRESS_SPACE, CPU_SECONDS, FILE_SIZE = 12 << 30, 120, 256 << 20
# A refusal is one line; a few more where argparse or a second stream adds its own.
LONGEST_REFUSAL, MOST_LINES = 2000, 3
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]")
BOX = "box"


@dataclass(frozen=True)
class Outcome:
    """Outcome of a case.

    Args:
        exit_code: of its process, negative if a signal ended it; None if the deadline did.
        output: stdout and then stderr, where they could be read.
        errors: stderr alone.
        changed: files of the box that are other than before, or gone, or new.
        seconds: that it took.
    """

    exit_code: int | None
    output: str
    errors: str
    changed: tuple[str, ...]
    seconds: float


def import_what_is_slow() -> None:
    """Import `SLOW_TO_IMPORT`, and check that a fork is safe afterwards."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # the Hub's library reads it once
    os.environ["DS_ACCELERATOR"] = "cpu"
    for module in SLOW_TO_IMPORT:
        importlib.import_module(module)
    assert threading.active_count() == 1, threading.enumerate()


def make_template(directory: Path) -> Path:
    """Write the box that every case gets a copy of, and return it: a finished run, its data, and a user's own files."""
    import json

    from training.train import main

    box = directory / BOX
    (box / USERS_DIRECTORY).mkdir(parents=True)
    (box / USERS_FILE).write_text("the user's own\n", encoding="utf-8")
    (box / USERS_DIRECTORY / "config.yaml").write_text("a: user's own\n", encoding="utf-8")
    rows = [{"input": f"{i} + 1 = ?", "output": str(i + 1)} for i in range(12)]
    (box / DATA).write_text(json.dumps({"data": {"m": rows}}), encoding="utf-8")
    os.mkfifo(box / FIFO)
    for name, target in ((ENDLESS, "/dev/zero"), (DANGLING, "nothing_there"), (LOOP, LOOP)):
        (box / name).symlink_to(target)
    (box / "link_to_mine").symlink_to(USERS_FILE)
    (box / "link_to_run").symlink_to(RUN)
    words = ["--datasets", DATA, *TINY, "--run-dir", RUN, "--epochs", "2", "--save-interval", "1"]
    with contextlib.chdir(box), contextlib.redirect_stdout(io.StringIO()):
        assert main(words) == 0
    # In a process of its own: the tokenizers' threads do not survive a fork.
    subprocess.run([sys.executable, "-c", _LANGUAGE_FILES, str(box)], check=True, cwd=ROOT)
    return directory


_LANGUAGE_FILES = f"""
import shutil, sys
from pathlib import Path
from tests.support.language_data import chats_file, tiny_model, topics_file
box = Path(sys.argv[1])
shutil.copytree(tiny_model(), box / {MODEL!r})
shutil.copy(chats_file(), box / {CHATS_FILE!r})
shutil.copy(topics_file(12, 200), box / {TEXTS_FILE!r})
"""


def flags_of_scripts() -> Mapping[str, tuple[str, ...]]:
    """Return for each script of `COMMANDS`, and each of `LANGUAGE`, the flags that take a value, by its `--help`."""
    flags = {}
    for words in COMMANDS.values():
        if words[0] not in flags:
            azure = ("--backend", "azure") if words[0] == "train.py" else ()
            shown = _output_of_help((words[0], *azure, "--help"))
            flags[words[0]] = tuple(dict.fromkeys(re.findall(r"(--[a-z][a-z0-9-]+) (?=[A-Za-z{\[])", shown)))
            assert flags[words[0]], shown
    for name, words in LANGUAGE.items():
        shown = _output_of_help((*words[:3], *(("--model", "huggingface") if MODEL in words else ()), "--help"))
        flags[name] = tuple(dict.fromkeys(re.findall(r"(--[a-z][a-z0-9-]+) (?=[A-Za-z{\[])", shown)))
        assert flags[name], shown
    return flags


def _output_of_help(words: Sequence[str]) -> str:
    read, write = os.pipe()
    process = os.fork()
    if not process:
        os.close(read)
        os.dup2(write, 1)
        _open_streams()
        _be(words)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as output:
        shown = output.read()
    os.waitpid(process, 0)
    return shown


def _be(words: Sequence[str]) -> None:
    """Become `python SCRIPT …` in this forked process; does not return."""
    exit_code = 1
    try:
        script = ROOT / words[0]
        sys.argv = [str(script), *words[1:]]
        runpy.run_path(str(script), run_name="__main__")
        exit_code = 0
    except SystemExit as ended:
        exit_code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(exit_code)


def apply(change: Change, box: Path) -> None:
    """Change a file of the box."""
    path = box / change.path
    if change.kind == "edit":
        if path.is_file():
            is_json = path.suffix in (".json", ".jsonl")
            content = edited(path.read_bytes(), change.content, is_json)
            path.write_bytes(content)
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if change.kind == "write":
        path.write_bytes(change.content)
    elif change.kind == "fifo":
        os.mkfifo(path)
    elif change.kind == "endless":
        path.symlink_to("/dev/zero")
    elif change.kind == "directory":
        path.mkdir()
    elif change.kind == "link":
        path.symlink_to(os.fsdecode(change.content))


def run_case(case: Case, template: Path, directory: Path, deadline: float) -> Outcome:
    """Run a case in a copy of the template, and return what it did; the copy is left in `directory`."""
    shutil.copytree(template / BOX, directory / BOX, symlinks=True, ignore=lambda at, names: {FIFO} & set(names))
    os.mkfifo(directory / BOX / FIFO)
    for change in case.changes:
        apply(change, directory / BOX)
    before = dict(_contents(directory))
    cache = directory.with_name(f"{directory.name}.cache")  # beside the box: a refused run may leave tokens in it
    outputs = (directory / "stdout", directory / "stderr")
    began = time.monotonic()
    process = os.fork()
    if not process:
        _enter(case, directory / BOX, cache, outputs)
        _be(case.words)
    exit_code = _wait(process, began + deadline)
    seconds = time.monotonic() - began
    shutil.rmtree(cache, ignore_errors=True)
    shown = [file.read_bytes().decode("utf-8", "surrogateescape") if file.exists() else "" for file in outputs]
    for file in outputs:
        file.unlink(missing_ok=True)
    after = dict(_contents(directory))
    changed = tuple(sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path)))
    return Outcome(exit_code, "".join(shown), shown[1], changed, seconds)


def _enter(case: Case, box: Path, cache: Path, outputs: Sequence[Path]) -> None:
    """Set limits, directory, variables and streams of the forked process."""
    os.setsid()
    for limit, most in (
        (resource.RLIMIT_AS, ADDRESS_SPACE), (resource.RLIMIT_CPU, CPU_SECONDS), (resource.RLIMIT_FSIZE, FILE_SIZE)
    ):  # fmt: skip
        resource.setrlimit(limit, (most, most))
    os.chdir(box)
    home = {"HOME": str(box), "HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline", "PYTHONPATH": str(ROOT)}
    home["APT_TRAINER_CACHE"] = str(cache)
    os.environ.update({**home, **case.environment})
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    for number, output in enumerate(outputs, 1):
        if case.streams == "closed":
            os.close(number)
        else:
            target = "/dev/full" if case.streams == "full" else output
            file = os.open(target, os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(file, number)
            os.close(file)
    if case.streams == "closed":  # as the interpreter does at its start
        sys.stdout = sys.stderr = None
    else:
        _open_streams()


def _open_streams() -> None:
    """Open stdout and stderr as the interpreter does: those that the fork has know another file."""
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _wait(process: int, until: float) -> int | None:
    """Wait for a process and whatever it has started; kill them at the deadline."""
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)  # what it has left behind
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return None
        time.sleep(0.01)


def _contents(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield each path below a directory with what is there."""
    for at, directories, files in os.walk(directory):
        for name in (*directories, *files):
            path = Path(at) / name
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                what = hashlib.sha256(path.read_bytes()).hexdigest()
            elif stat.S_ISLNK(mode):
                what = f"link to {path.readlink()}"
            else:
                what = stat.filemode(mode)[0]
            yield str(path.relative_to(directory)), what


def faults(case: Case, outcome: Outcome) -> list[str]:
    """Return what is wrong with what a case did: a word for the kind, and the particulars.

    The kinds: `traceback`, `hang`, `harmed` (a file of the user's, or any file where the command refused), `exit code`,
    `silent` (a refusal without a word), `long` (a refusal of many lines or characters), `raw` (control characters).
    """
    found = []
    last = outcome.output.strip().splitlines()[-1:] or [""]
    if "Traceback (most recent call last)" in outcome.output or "Exception ignored in" in outcome.output:
        found.append(f"traceback: {last[0][:300]!r}")
    if outcome.exit_code is None:
        found.append(f"hang: killed after {outcome.seconds:.0f} s; {last[0][:200]!r}")
    users = tuple(f"{BOX}/{name}" for name in (USERS_DIRECTORY, DATA, TEXTS_FILE, CHATS_FILE, MODEL, TEMPLATE))
    harmed = [path for path in outcome.changed if path.startswith(users)]
    if outcome.exit_code == 2 and not harmed and case.streams == "files":  # else it may have done its work unheard
        harmed = list(outcome.changed)
    if harmed:
        found.append(f"harmed: {harmed[:5]}")
    codes = (0, 2, *((1,) if case.words[0] in FINDINGS else ()), *((1, 141) if case.streams != "files" else ()))
    if outcome.exit_code is not None and outcome.exit_code not in codes and not found:
        found.append(f"exit code: {outcome.exit_code}; {last[0][:300]!r}")
    if outcome.exit_code == 2 and case.streams == "files":
        if not outcome.errors.strip():
            found.append("silent: exit code 2 without a word")
        if len(outcome.errors) > LONGEST_REFUSAL or outcome.errors.count("\n") > MOST_LINES:
            found.append(f"long: {len(outcome.errors)} characters, {outcome.errors.count(chr(10))} lines")
    if (raw := CONTROL.search(outcome.output)) is not None:
        around = outcome.output[max(0, raw.start() - 60) : raw.end() + 20]
        found.append(f"raw: {around!r}")
    return found
