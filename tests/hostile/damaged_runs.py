"""Every reader and tool on runs with one damaged file: what each does, and whether it harmed anything.

    python -m tests.hostile.damaged_runs 2000      # so many cases, evenly chosen; prints the figures

A case is a file, what happened to it, and a reader. The tests run a small sample of the same cases.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.conftest import enter_front_door, write_tiny_dataset
from tests.hostile.damaged_files import WHOLE, Damage, bit_flips, damaged_keys
from training.checkpoints.manifest import NAME as MANIFEST
from training.checkpoints.manifest import read_manifest, write_manifest
from training.errors import UserError

SECONDS = 60
"""Time after which a reader counts as hanging."""
SHAPE = (
    *("--d-model", "16", "--num-layers", "1", "--num-heads", "2", "--d-ff", "16"),
    *("--batch-size", "8", "--answer-samples", "0", "--device", "cpu"),
)
JUST_READ = frozenset({"monitor", "monitor figure", "dashboard", "picture", "diagnosis", "verifier", "export"})
"""Readers that change nothing in the run directory."""


class Case(NamedTuple):
    """One damaged file and one reader."""

    file: str
    what: str
    damage: Damage
    reader: str

    def __str__(self) -> str:
        return f"{self.reader}: {self.file}, {self.what}"


class Outcome(NamedTuple):
    """Outcome of a reader."""

    exit_code: int
    message: str
    """The error line of a refusal."""
    fault: str
    """Fault: a traceback, a hang, a file that was harmed; empty: nothing."""


def make_run(directory: Path) -> Path:
    """Train two small epochs with snapshots and validation, and measure a landscape."""
    from tools.loss_landscape import run as landscape

    data = write_tiny_dataset(directory / "tiny.json", 40)
    words: list[str | Path] = [
        "--datasets",
        data,
        "--run-dir",
        directory / "whole",
        "--epochs",
        "2",
        "--save-interval",
        "1",
    ]
    done = enter_front_door([*SHAPE, *words, "--validation-split", "0.2"])
    assert done.exit_code == 0, done
    with contextlib.redirect_stdout(io.StringIO()):
        assert landscape([*_landscape(directory / "whole")]) == 0
    return directory / "whole"


def _landscape(run_dir: Path) -> Sequence[str]:
    return [str(run_dir), "--resolution", "5", "--budget", "30", "--probe", "8", "--device", "cpu"]


def _dashboard(run_dir: Path) -> int:
    from tools.dashboard.reader import Reader

    Reader(run_dir, []).look()
    return 0


def readers(run_dir: Path, data: Path, out: Path) -> Mapping[str, Callable[[], int]]:
    """Return the readers of a run directory by name; each returns an exit code."""
    from tools import (
        diagnose_issues,
        export_model,
        loss_landscape,
        monitor_all_trainings,
        verify_hlbd_model,
        visualize_training,
    )

    run = str(run_dir)
    return {
        "monitor": lambda: monitor_all_trainings.run([run, "--json"]),
        "monitor figure": lambda: monitor_all_trainings.run([run, "--figure", str(out / "runs.png")]),
        "dashboard": lambda: _dashboard(run_dir),
        "picture": lambda: visualize_training.run(
            ["--log-dir", run, "--mode", "offline", "--output", str(out / "run.png"), "--dpi", "50"]
        ),
        "diagnosis": lambda: diagnose_issues.run([run, "--datasets", str(data)]),
        "verifier": lambda: verify_hlbd_model.run(["--model", run, "--dataset", str(data), "--sample", "3"]),
        "verifier of a checkpoint": lambda: verify_hlbd_model.run(
            ["--model", str(run_dir / "checkpoint_epoch_1"), "--dataset", str(data), "--sample", "3"]
        ),
        "landscape": lambda: loss_landscape.run([*_landscape(run_dir)]),
        "export": lambda: export_model.run([run, "--output", str(out / "model")]),
        "resume": lambda: _resume(run_dir),
        "resume of a checkpoint": lambda: _resume(run_dir / "checkpoint_epoch_1"),
    }


def _resume(path: Path) -> int:
    done = enter_front_door(["--resume", path])
    print(done.stdout)
    if done.exit_code == 2:
        raise UserError(done.stderr.removeprefix("error: ").rstrip("\n"))
    return done.exit_code


def cases(whole: Path, names: Sequence[str], flips: int = 5) -> Iterator[Case]:
    """Yield every case of a run.

    Args:
        whole: the run.
        names: of the readers.
        flips: flipped bits of a file.
    """
    for path in sorted(p for p in whole.rglob("*") if p.is_file() and p.suffix != ".py"):
        file = path.relative_to(whole).as_posix()
        damages = dict(WHOLE)
        content = path.read_bytes()
        for bit, flipped in bit_flips(content, flips):
            damages[f"bit {bit} flipped"] = _replace(flipped)
        if path.suffix == ".json":
            for what, copy in damaged_keys(content, levels=3 if path.name == "state.json" else 2):
                damages[what] = _replace(copy)
        for what, damage in damages.items():
            for name in names:
                yield Case(file, what, damage, name)


def _replace(content: bytes) -> Damage:
    return lambda path: _signed(path, content)


def _signed(path: Path, content: bytes) -> None:
    """Replace a file's content; a checkpoint's manifest, which would tell, then speaks of the new one."""
    path.write_bytes(content)
    manifest = path.parent / MANIFEST
    if manifest.is_file() and path != manifest:
        was = read_manifest(path.parent)
        manifest.unlink()
        write_manifest(path.parent, step=was.step, kind=was.kind, run_id=was.run_id, config_hash=was.config_hash)


def contents(directory: Path) -> dict[str, bytes | None]:
    """Return what lies in a directory: the content of each file, None for all else."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(directory.rglob("*"))
    }


def examine(case: Case, whole: Path, folder: Path) -> Outcome:
    """Damage a copy of a run in `folder`, let the reader read it, and judge what it did."""
    run_dir, out = folder / "run", folder / "out"
    for place in (run_dir, out):
        shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(whole, run_dir)
    out.mkdir()
    case.damage(run_dir / case.file)
    before = contents(run_dir)
    outcome = _read(readers(run_dir, whole.parent / "tiny.json", out)[case.reader])
    if outcome.fault:
        return outcome
    if case.reader in JUST_READ and contents(run_dir) != before:
        return outcome._replace(fault="it changed the run")
    if outcome.exit_code == 2:
        fault = refusal_fault(outcome.message, case.file)
        return outcome._replace(fault=fault)
    return outcome


def refusal_fault(message: str, file: str) -> str:
    """Return what is wrong with the line of a refusal; empty: nothing."""
    if "\n" in message or not all(c.isprintable() for c in message):
        return "the refusal is not one printable line"
    if len(message) > 2000:
        return "the refusal is longer than a screen"
    names = {file, Path(file).name, *Path(file).parts[:-1]}
    return "" if any(name in message for name in names) else "the refusal does not name the file"


def _read(reader: Callable[[], int]) -> Outcome:
    class HangError(BaseException):
        pass

    def stop(*_: object) -> None:
        raise HangError

    said = io.StringIO()
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = reader()
    except UserError as error:
        return Outcome(2, str(error), "")
    except HangError:
        return Outcome(-1, "", f"no answer after {SECONDS} s")
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome(-1, "", f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"[:300])
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    bad = "a traceback was printed" if "Traceback (most recent" in said.getvalue() else ""
    return Outcome(code, "", bad or ("" if code in (0, 1) else f"exit code {code}"))


def main(wanted: int) -> int:
    """Run so many cases and print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        whole = make_run(Path(folder))
        names = list(readers(whole, whole, whole))
        every = list(cases(whole, names))
        chosen = random.Random(wanted).sample(every, min(wanted, len(every)))
        codes: Counter[str] = Counter()
        for case in chosen:
            outcome = examine(case, whole, Path(folder) / "work")
            codes[f"exit {outcome.exit_code}" if not outcome.fault else "fault"] += 1
            if outcome.fault:
                print(f"{case}: {outcome.fault} {outcome.message}", flush=True)
        print(json.dumps({"cases": len(chosen), "of": len(every), **codes}))
    return 1 if codes["fault"] else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
