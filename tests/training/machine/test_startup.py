"""Before a program listens: a Python without its packages, a Ctrl-C during imports, streams that are closed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from training.machine.startup import EXTRAS, ROOT, missing_package

SCRIPTS = sorted(
    path
    for path in [ROOT / "train.py", *ROOT.glob("training/train*.py"), *ROOT.glob("tools/*.py")]
    if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")
)
PROJECT_FILE = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_python_without_the_packages_is_one_line_with_the_remedy(script: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", script, "--help"],  # -S: as a Python in which nothing is installed
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:  # its help needs none of them
        assert "usage: " in done.stdout
        return
    assert done.returncode == 2
    assert done.stderr.startswith("error: "), done.stderr
    assert f" is not installed for {sys.executable}; run" in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_every_script_begins_so() -> None:
    assert [path.name for path in SCRIPTS if "    begin()\n" not in path.read_text(encoding="utf-8")] == []
    names = {path.name for path in SCRIPTS}
    assert {"train.py", "train_deepspeed.py", "train_hf_trainer.py", "monitor_all_trainings.py"} <= names


def test_a_missing_package_is_answered_with_the_extra_that_brings_it() -> None:
    for extra, modules in EXTRAS.items():
        assert f"\n{extra} = [" in PROJECT_FILE
        for module in modules.split():
            line = missing_package(ModuleNotFoundError(name=f"{module}.part"))
            assert line is not None
            assert line.startswith(f"{module} is not installed for {sys.executable}; run")
    assert missing_package(ModuleNotFoundError(name="a_module_of_the_user_s")) is None
    assert missing_package(ModuleNotFoundError("without a name")) is None
    assert missing_package(ImportError(name="torch")) is None


def test_ctrl_c_while_the_program_is_still_imported_leaves_no_traceback(tmp_path: Path) -> None:
    program = (
        "import os, runpy, signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'training.backends.prepare':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        f"sys.argv = [{str(ROOT / 'train.py')!r}, '--list-backends']\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("closing", [">&-", "<&- >&- 2>&-"])
def test_nothing_is_written_into_a_file_that_got_the_number_of_a_closed_stream(closing: str, tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from training.machine.startup import begin\n"
        "begin()\n"
        "file = open('file', 'w')\n"
        "print('lost', flush=True)\n"
        "print('lost too', file=sys.stderr)\n"
        "os.system('echo a child')\n"
        "file.write(str(file.fileno()))"
    )
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closing}', "sh", sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        check=False,
    )
    assert (done.returncode, done.stderr in (b"", b"lost too\n")) == (0, True)
    assert int((tmp_path / "file").read_text(encoding="utf-8")) > 2


def test_a_python_that_is_too_old_can_read_the_first_lines() -> None:
    """Nothing newer than Python 3.8 up to `begin()`, so that its line is what an older one prints."""
    import ast

    for script in [*SCRIPTS, ROOT / "training/machine/startup.py", ROOT / "training/__init__.py"]:
        ast.parse(script.read_text(encoding="utf-8"), feature_version=(3, 8))
