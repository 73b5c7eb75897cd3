"""`quick_test.sh` run for real: four stages pass here, and what is broken is named by the stage that finds it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

STAGES = ["commands answer", "backends check", "HLBD data diagnosed", "tiny train-resume-verify run"]


def quick_test(
    *arguments: str, cwd: Path, script: Path = ROOT / "quick_test.sh", **variables: str
) -> subprocess.CompletedProcess[str]:
    """The script, with its temporary directory below `cwd`."""
    temporary = cwd / "temporary"
    temporary.mkdir(exist_ok=True)
    return subprocess.run(
        ["bash", str(script), *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable, "TMPDIR": str(temporary), **variables},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def results(done: subprocess.CompletedProcess[str]) -> list[tuple[str, str]]:
    """(stage, PASS or FAIL) in the order of the output."""
    found = re.findall(r"^\[(\d)/4\] (.+) \.\.\. (PASS|FAIL) \(\d+ s\)$", done.stdout, re.MULTILINE)
    assert [number for number, _, _ in found] == ["1", "2", "3", "4"], done.stdout
    return [(name, result) for _, name, result in found]


@pytest.fixture
def small_data(tmp_path: Path) -> Path:
    """The project's smallest file under another name, without its held-out file beside it."""
    return Path(shutil.copy(ROOT / "data" / "HLBD_Hardcore_Full.json", tmp_path / "my data.json"))


EXTRAS = (
    "accelerate", "azure", "datasets", "deepspeed", "huggingface_hub", "imageio_ffmpeg", "mlflow", "onnx",
    "onnxruntime", "onnxscript", "pypinyin", "tensorboard", "transformers", "wandb",
)  # fmt: skip
"""Modules that `make train` does not install."""
WITHOUT_EXTRAS = f"""import sys
from importlib.machinery import PathFinder
class Core(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {EXTRAS} else PathFinder.find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Core
"""


@pytest.fixture
def core_only(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a folder that hides the extras from every Python that has it in PYTHONPATH."""
    folder = tmp_path_factory.mktemp("core_only")
    (folder / "sitecustomize.py").write_text(WITHOUT_EXTRAS, encoding="utf-8")
    return str(folder)


@pytest.mark.slow
def test_with_the_core_alone_all_four_stages_pass_from_any_directory_and_leave_nothing_behind(
    tmp_path: Path, core_only: str
) -> None:
    before = sorted(p.name for p in ROOT.iterdir())
    done = quick_test(cwd=tmp_path, PYTHONPATH=f"{core_only}{os.pathsep}{ROOT}")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.endswith(" s; left out, not installed: deepspeed huggingface azure\n")
    assert results(done) == [(name, "PASS") for name in STAGES]
    assert re.search(r"^ +playground +available", done.stdout, re.MULTILINE)
    assert re.search(r"^ +\d+ ok, \d+ warnings, 0 errors$", done.stdout, re.MULTILINE)
    assert "resumed at step 9 of 24" in done.stdout
    assert "bit for bit the same" in done.stdout
    assert list((tmp_path / "temporary").iterdir()) == []
    assert [p.name for p in tmp_path.iterdir()] == ["temporary"]
    assert sorted(p.name for p in ROOT.iterdir()) == before


@pytest.mark.slow
def test_a_broken_data_file_fails_the_stages_that_need_it_with_the_command_and_its_words(
    small_data: Path, tmp_path: Path
) -> None:
    small_data.write_bytes(small_data.read_bytes()[:2000])
    done = quick_test(cwd=tmp_path, QUICK_TEST_DATA=small_data.name)
    assert done.returncode == 1
    assert [result for _, result in results(done)] == ["PASS", "PASS", "FAIL", "FAIL"]
    assert "exit code 1: " in done.stdout
    assert "diagnose_issues.py" in done.stdout
    assert "exit code 2: " in done.stdout
    assert done.stdout.count("cut short") == 2
    assert done.stdout.endswith(f"quick_test: FAILED: {STAGES[2]}, {STAGES[3]}\n")
    assert list((tmp_path / "temporary").iterdir()) == []


def test_an_interpreter_that_is_not_there_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    script = Path(shutil.copy(ROOT / "quick_test.sh", tmp_path))
    done = quick_test(cwd=tmp_path, script=script, PYTHON="no-such-python")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "no-such-python" in done.stderr
    assert "make setup" in done.stderr


@pytest.mark.parametrize("arguments", [["nowhere.json"], ["--fast"], ["a.json", "b.json"]])
def test_arguments_that_cannot_be_used_are_one_line_and_exit_code_2(arguments: list[str], tmp_path: Path) -> None:
    done = quick_test(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("quick_test: ")
    assert done.stderr.count("\n") == 1
    assert list((tmp_path / "temporary").iterdir()) == []


def test_help_tells_the_stages_and_the_exit_codes(tmp_path: Path) -> None:
    done = quick_test("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Four stages" in done.stdout
    assert "Exit code: 0" in done.stdout
    assert "#" not in done.stdout


def test_the_twin_for_windows_has_the_same_stages_commands_and_settings() -> None:
    shell = (ROOT / "quick_test.sh").read_text(encoding="utf-8")
    batch = (ROOT / "quick_test.bat").read_bytes().decode("ascii").replace("\r\n", "\n")
    assert re.findall(r"^call :stage \d \"(.+?)\"", batch, re.MULTILINE) == STAGES
    assert re.findall(r"^stage \"(.+?)\"", shell, re.MULTILINE) == STAGES

    def flags(text: str) -> set[str]:
        joined = text.replace("\\\n", " ")
        return set(
            re.findall(r"--[a-z][a-z-]+(?: [\w.]+)?", "\n".join(x for x in joined.split("\n") if x[:3] != "rem"))
        )

    assert flags(batch) == flags(shell)
    labels = set(re.findall(r"^:(\w+)$", batch, re.MULTILINE))
    assert set(re.findall(r"(?:call :|goto |stage \d \".+?\" )(\w+)", batch)) <= labels


def test_the_batch_file_has_the_line_ends_that_labels_need() -> None:
    content = (ROOT / "quick_test.bat").read_bytes()
    assert content.count(b"\n") == content.count(b"\r\n") > 100
