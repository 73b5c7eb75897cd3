"""The toolkit that can open a window here, Tk or Qt, tried in a process of its own.

A toolkit that does not find its screen or one of its libraries may end its process (Qt does), and what is wrong stands
in several lines on stderr. So the trial is another process's, and one line of it is kept.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from typing import NamedTuple

from training.errors import UserError

INSTEAD = "add --output FILE.png to keep a picture up to date instead"
X11_LIBRARIES = "libraries of X11 are missing (Debian: apt install libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1)"
"""Qt names the first of them alone, and whichever is missing."""
TRIAL_SECONDS = 60.0
"""Longest that a trial may take: a screen at the end of a slow line."""


class Toolkit(NamedTuple):
    """A toolkit for windows."""

    name: str
    backend: str
    """Name of matplotlib's backend."""
    modules: tuple[str, ...]
    """It is installed where one of these is."""
    trial: str
    """A program that opens the screen and leaves; {} is the module that was found."""
    installation: str


TOOLKITS = (
    Toolkit(
        "Tk", "TkAgg", ("_tkinter",), "import tkinter; tkinter.Tk().destroy()", "Tk (Debian: apt install python3-tk)"
    ),
    Toolkit(
        "Qt",
        "QtAgg",
        ("PyQt6", "PySide6", "PyQt5", "PySide2"),
        "import {}.QtWidgets; from matplotlib.backends.qt_compat import QtWidgets; QtWidgets.QApplication([])",
        "Qt (pip install PySide6-Essentials)",
    ),
)
"""Toolkits in order of preference: Tk comes with Python, and needs half of Qt's memory."""


def toolkit_here() -> Toolkit:
    """Return the first toolkit that opens a window here; if `MPLBACKEND` names one, that one is tried first.

    Raises:
        UserError: there is none, or no screen.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UserError(f"there is no display to open a window on (DISPLAY is not set); {INSTEAD}")
    wish = os.environ.get("MPLBACKEND", "").lower()
    problems, missing = [], []
    for toolkit in sorted(TOOLKITS, key=lambda toolkit: toolkit.backend.lower() != wish):
        module = next(filter(find_spec, toolkit.modules), None)
        if module is None:
            missing.append(toolkit.installation)
        elif (problem := _problem_of(toolkit.trial.format(module))) is None:
            return toolkit
        else:
            problems.append(f"{toolkit.name}: {problem}")
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    where = f" on display {screen}" if screen else ""
    why = f"{where} ({'; '.join(problems)})" if problems else ": neither Tk nor Qt is installed"
    ways = [*(["mend that"] if problems else []), *(["install " + " or ".join(missing)] if missing else []), INSTEAD]
    raise UserError(f"no window can be opened{why}; {', or '.join(ways)}")


def _problem_of(program: str) -> str | None:
    """Say why a trial opens no window here; None: it does."""
    try:
        trial = subprocess.run(
            [sys.executable, "-c", program],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=TRIAL_SECONDS,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no answer in {TRIAL_SECONDS:g} s"
    if trial.returncode == 0:
        return None
    lines = [line.strip() for line in trial.stderr.splitlines() if line.strip()]
    if not lines:
        return f"its process ended with {trial.returncode}"
    if "xcb-cursor0" in lines[0]:
        return X11_LIBRARIES
    # Python says what is wrong last; Qt says it first, before the names of all its plug-ins.
    reason = lines[-1] if lines[0].startswith("Traceback") else lines[0]
    return reason.removeprefix("_tkinter.TclError: ").rstrip(".")
