"""Commands that the user can paste as they are: paths below the working directory are relative to it. No torch."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""


def shown(path: Path) -> str:
    """Return the path relative to the working directory if it is below it, else the absolute path.

    A name that a program would take for a flag gets `./` in front.
    """
    absolute = path if path.is_absolute() else Path.cwd() / path
    try:
        relative = str(absolute.relative_to(Path.cwd()))
    except ValueError:
        return str(absolute)
    return f"./{relative}" if relative.startswith("-") else relative


def interpreter() -> str:
    """Return `python` if that word starts this very interpreter, else its path."""
    return "python" if shutil.which("python") == sys.executable else shlex.quote(shown(Path(sys.executable)))


def python_command(script: str, *arguments: str | Path) -> str:
    """Return a call of a script in the checkout: `python train.py --resume runs/a`."""
    words = [shown(ROOT / script), *(shown(a) if isinstance(a, Path) else a for a in arguments)]
    return f"{interpreter()} {shlex.join(words)}"


def pip_command(extra: str = "") -> str:
    """Return the command that installs the project with pinned packages, and with one of its extras."""
    target = f"{shown(ROOT)}[{extra}]" if extra else shown(ROOT)
    return f"{interpreter()} -m pip install -c {shlex.quote(shown(ROOT / 'constraints.txt'))} -e {shlex.quote(target)}"
