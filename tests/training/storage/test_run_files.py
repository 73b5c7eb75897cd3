"""Who writes a file into a run directory declares it, and `--overwrite` deletes what was declared."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from training.checkpoints.run_directory import RunDirectory
from training.checkpoints.start_from import refuse_absent_checkpoints
from training.errors import UserError
from training.storage.run_files import BUILT_IN, RunFile, run_files

WRITTEN = (
    "progress.jsonl", "experiment_report.json", "final_model.pt", "config.yaml", "deepspeed_config.json",
    "zero_to_fp32.py", "zero_to_torch.py", "trackers.json", "comparison.json", "azure_job.json",
    "final_model/model.safetensors", "wandb/run-1/files", "snapshots/step_000000001.safetensors",
    "landscape/surface_1.json", "logs/events.out.tfevents.1", "checkpoint_epoch_1/manifest.json",
)  # fmt: skip
OTHERS = ("notes.txt", "logs/mine.txt", "data.json", "zero.py", "checkpoint_notes/a", "final_model.txt")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    for name in (*WRITTEN, *OTHERS):
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    return tmp_path / "run"


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package of a third party; the caller writes its module `apt_recorder.py`."""
    place = tmp_path / "site"
    (place / "apt_recorder-1.0.dist-info").mkdir(parents=True)
    (place / "apt_recorder-1.0.dist-info" / "METADATA").write_text("Name: apt-recorder\nVersion: 1.0\n")
    (place / "apt_recorder-1.0.dist-info" / "entry_points.txt").write_text(
        "[apt_trainer.run_files]\nrecorder = apt_recorder:RUN_FILES\n"
    )
    monkeypatch.syspath_prepend(str(place))
    run_files.cache_clear()
    yield place / "apt_recorder.py"
    run_files.cache_clear()
    sys.modules.pop("apt_recorder", None)


def left(run_dir: Path) -> set[str]:
    return {path.relative_to(run_dir).as_posix() for path in run_dir.rglob("*") if path.is_file()}


def test_all_that_is_declared_goes_and_nothing_else(run_dir: Path) -> None:
    RunDirectory(run_dir, overwrite=True).release()
    assert left(run_dir) == set(OTHERS)


def test_links_go_and_not_what_they_lead_to(run_dir: Path, tmp_path: Path) -> None:
    (run_dir / "comparison.json").unlink()
    (run_dir / "comparison.json").symlink_to(tmp_path / "nothing")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_text("mine")
    (run_dir / "trackers.json").unlink()
    (run_dir / "trackers.json").symlink_to(tmp_path / "elsewhere")
    RunDirectory(run_dir, overwrite=True).release()
    assert not os.path.lexists(run_dir / "comparison.json")
    assert not os.path.lexists(run_dir / "trackers.json")
    assert (tmp_path / "elsewhere" / "a.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["progress.jsonl", "experiment_report.json", "final_model.pt", "azure_job.json"])
def test_a_directory_with_a_declared_sign_of_a_run_holds_one(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    (tmp_path / "config.yaml").write_text("{}")
    assert RunDirectory(tmp_path, claim=False).holds_run() == [name]


def test_a_run_that_was_trained_elsewhere_cannot_go_on_here_until_it_becomes_local(tmp_path: Path) -> None:
    (tmp_path / "azure_job.json").write_text("{}")
    with pytest.raises(UserError, match=f"download --what all --run-dir {tmp_path}"):
        refuse_absent_checkpoints(tmp_path)
    RunDirectory(tmp_path, claim=False).becomes_local()
    refuse_absent_checkpoints(tmp_path)
    assert left(tmp_path) == set()


def test_a_third_partys_files_go_too(run_dir: Path, third_party: Path) -> None:
    third_party.write_text(
        "from training.storage.run_files import RunFile\nRUN_FILES = [RunFile('recorder.db', shows_run=True)]\n"
    )
    (run_dir / "recorder.db").write_text("theirs")
    (run_dir / "recorder.txt").write_text("mine")
    assert "recorder.db" in RunDirectory(run_dir, claim=False).holds_run()
    RunDirectory(run_dir, overwrite=True).release()
    assert left(run_dir) == {*OTHERS, "recorder.txt"}


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("raise RuntimeError('no licence')", "no licence"),
        ("", "no attribute 'RUN_FILES'"),
        ("RUN_FILES = ['recorder.db']", "'recorder.db' is not a RunFile"),
        ("from training.storage.run_files import RunFile\nRUN_FILES = [RunFile('*')]", "'*' is not the name"),
        ("from training.storage.run_files import RunFile\nRUN_FILES = [RunFile('../other')]", "'../other' is not"),
        ("from training.storage.run_files import RunFile\nRUN_FILES = [RunFile('')]", "'' is not the name"),
    ],
)
def test_a_declaration_that_cannot_be_used_is_named_once_and_costs_nothing_else(
    module: str, told: str, run_dir: Path, third_party: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    third_party.write_text(module)
    (run_dir / "recorder.db").write_text("theirs")
    RunDirectory(run_dir, overwrite=True).release()
    assert left(run_dir) == {*OTHERS, "recorder.db"}
    said = capsys.readouterr().err
    assert said.startswith("warning: apt_recorder:RUN_FILES (from package apt-recorder)")
    assert told in said
    assert said.count("\n") == 1


def test_the_projects_own_declarations_bring_in_no_torch() -> None:
    program = (
        "import sys\nfrom training.storage.run_files import run_files\nrun_files()\n"
        "print(sorted({'torch', 'azure', 'wandb', 'deepspeed', 'matplotlib'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert len(set(BUILT_IN)) == len(BUILT_IN)
    assert len({file.pattern for file in run_files()}) == len(run_files()), "each file has one writer"
    assert RunFile("config.yaml", is_taken_over=True) in run_files()
