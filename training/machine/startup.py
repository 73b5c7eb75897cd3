"""First act of a program of this project: before anything is imported that may be missing, or interrupted by Ctrl-C.

Only the standard library, and only what a Python that is too old can read.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
NEEDED_PYTHON = (3, 11)
"""The version in `requires-python` of pyproject.toml."""
EXIT_CANNOT_START = 2

_CORE = "matplotlib numpy PIL pydantic pydantic_core pydantic_settings rich safetensors scipy torch tqdm yaml"
EXTRAS = {
    "azure": "azure azureml msrest",
    "data": "pypinyin",
    "deepspeed": "deepspeed",
    "huggingface": "accelerate datasets huggingface_hub tokenizers transformers",
    "mlflow": "alembic mlflow sqlalchemy",
    "onnx": "onnx onnxruntime onnxscript",
    "server": "fastapi httpx starlette uvicorn",
    "tensorboard": "tensorboard",
    "video": "imageio_ffmpeg",
    "wandb": "wandb",
}
"""Extra of pyproject.toml -> modules that it brings."""


def begin() -> None:
    """Prepare this process: a clear line for a wrong Python, no traceback for Ctrl-C or a missing package.

    Until the program listens (`training.machine.command`), Ctrl-C ends it as it ends any program.
    """
    if sys.version_info < NEEDED_PYTHON:
        here, needed = (".".join(map(str, version[:2])) for version in (sys.version_info, NEEDED_PYTHON))
        _refuse(f"Python {here} runs this, and it needs {needed} or newer; {_remedy()}")
    open_missing_streams()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.excepthook = _show


def listen() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again, where somebody can tell what became of the work."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def missing_package(error: BaseException) -> str | None:
    """Return one line that says what to install; None: the error is not about a package that we name."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    module = error.name.partition(".")[0]
    extra = next((extra for extra, modules in EXTRAS.items() if module in modules.split()), None)
    if extra is None and module not in _CORE.split():
        return None
    what = "." if extra is None else f"'.[{extra}]'"
    return f"{module} is not installed for {sys.executable}; {_remedy(what)}"


def open_missing_streams() -> None:
    """Open nothing's file as a standard stream that was closed (`>&-`).

    The next file that is opened would get its number, and whatever is printed would be written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing != number:
                os.dup2(nothing, number)
                os.close(nothing)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))


def _remedy(what: str = ".") -> str:
    """Return what to do: use the project's own Python, else install."""
    own = ROOT / ".venv"
    if own.exists() and own.resolve() != Path(sys.prefix).resolve():
        return f"run `. {own / 'bin' / 'activate'}` first"
    return f"run, in {ROOT}: {sys.executable} -m pip install -e {what} -c constraints.txt"


def _refuse(line: str) -> None:
    sys.stderr.write(f"error: {line}\n")
    raise SystemExit(EXIT_CANNOT_START)


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show an error that nobody caught; for a missing package without its traceback."""
    line = missing_package(error)
    if line is not None:
        _refuse(line)  # the interpreter ends with the exit code of an exit that is raised here
    sys.__excepthook__(kind, error, trace)
