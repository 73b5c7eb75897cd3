"""Reading what a diagnosis found, and carrying out the commands that it prints."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.conftest import FrontDoor
from tools.diagnosis.findings import Finding, Status

Row = dict[str, str]


def row(question: str, answer: str, **more: str) -> Row:
    return {"input": question, "output": answer, **more}


def write(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return path


def write_rows(path: Path, *rows: Row, **modules: Sequence[Row]) -> Path:
    return write(path, {"metadata": {}, "data": modules or {"m": list(rows)}})


def the(findings: Iterable[Finding], subject: str, section: str = "") -> Finding:
    """The only finding of that subject."""
    found = [f for f in findings if f.subject == subject and f.section.endswith(section)]
    assert len(found) == 1, found
    return found[0]


def worst(findings: Iterable[Finding]) -> list[tuple[str, Status]]:
    """(subject, status) of whatever is not ok."""
    return [(f.subject, f.status) for f in findings if f.status is not Status.OK]


def do(fix: str, front_door: FrontDoor) -> None:
    """Carry out a command that was printed as a fix."""
    words = shlex.split(fix)
    if words[0] in ("rm", "mv", "chmod"):
        subprocess.run(fix, shell=True, check=True)
        return
    assert Path(words[1]).name == "train.py", fix
    done = front_door(words[2:])
    assert done.exit_code == 0, done
