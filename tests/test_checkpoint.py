"""A checkpoint is written whole or not at all, and read only if it is whole, ours, and of this run."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apt_model.errors import CheckpointError, UserError
from training.checkpoint import digest, list_checkpoints, load_checkpoint, newest_good, save_checkpoint
from training.run_directory import RunDirectory

ROOT = Path(__file__).resolve().parents[1]


def payload(step: int = 3) -> dict[str, Any]:
    return {
        "kind": "checkpoint",
        "step": step,
        "engine": {"model": {"w": torch.arange(500.0), "scalar": torch.tensor(1)}, "betas": (0.9, 0.95), "none": None},
        "half": torch.ones(3, dtype=torch.bfloat16),
    }


def test_a_checkpoint_reads_back_equal_and_holds_tensors_and_plain_data_only(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint_step_3.pt", payload())
    loaded = load_checkpoint(tmp_path / "checkpoint_step_3.pt")
    assert torch.equal(loaded["engine"]["model"]["w"], torch.arange(500.0))
    assert loaded["engine"]["betas"] == (0.9, 0.95)
    assert torch.load(tmp_path / "checkpoint_step_3.pt", weights_only=True)["step"] == 3
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint_step_3.pt"], "nothing temporary stays"


@settings(max_examples=60, deadline=None)
@given(st.floats(0.0, 1.0, exclude_max=True), st.integers(1, 255))
def test_a_changed_byte_anywhere_in_the_data_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, where: float, flip: int
) -> None:
    path = tmp_path_factory.mktemp("c") / "checkpoint_step_3.pt"
    save_checkpoint(path, payload())
    reference = load_checkpoint(path)
    raw = bytearray(path.read_bytes())
    raw[int(where * len(raw))] ^= flip
    path.write_bytes(raw)
    told = ""
    try:
        loaded = load_checkpoint(path)
    except CheckpointError as error:
        told = str(error)
    if told:
        assert path.name in told
        assert "\n" not in told
    else:  # a byte that carries no data: zip padding, dates
        assert digest(loaded) == digest(reference)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_checkpoint_cut_short_is_refused_by_name(tmp_path: Path, share: float) -> None:
    path = tmp_path / "checkpoint_step_3.pt"
    save_checkpoint(path, payload())
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(CheckpointError, match=r"checkpoint_step_3\.pt: .*(cut short|damaged|not a checkpoint)"):
        load_checkpoint(path)


def test_what_is_not_ours_is_said_to_be_not_ours(tmp_path: Path) -> None:
    foreign = {"other.pt": {"state_dict": {}}, "list.pt": [1, 2]}
    for name, content in foreign.items():
        torch.save(content, tmp_path / name)
    (tmp_path / "text.pt").write_text("hello", encoding="utf-8")
    torch.save({"format": "apt-checkpoint", "code": Path}, tmp_path / "code.pt")
    with zipfile.ZipFile(tmp_path / "archive.pt", "w") as archive:
        archive.writestr("a.txt", "hello")
    for name in [*foreign, "text.pt", "code.pt", "archive.pt"]:
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(tmp_path / name)
    torch.save({"format": "apt-checkpoint", "version": 99}, tmp_path / "newer.pt")
    with pytest.raises(CheckpointError, match="version 99"):
        load_checkpoint(tmp_path / "newer.pt")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "absent.pt")


def test_the_newest_good_checkpoint_is_found_by_its_step_and_damaged_ones_are_named(tmp_path: Path) -> None:
    for step in (2, 30, 10):
        save_checkpoint(tmp_path / f"checkpoint_step_{step}.pt", payload(step))
    (tmp_path / "checkpoint_step_40.pt").write_bytes(b"PK cut")
    assert [step for step, _ in list_checkpoints(tmp_path)[0]] == [30, 10, 2]
    raw = bytearray((tmp_path / "checkpoint_step_30.pt").read_bytes())
    at = raw.find(torch.arange(500.0).numpy().tobytes()[400:480])
    raw[at] ^= 1
    (tmp_path / "checkpoint_step_30.pt").write_bytes(raw)
    found, faults = newest_good(tmp_path)
    assert found is not None
    assert found[1]["step"] == 10
    assert ["checkpoint_step_40.pt" in str(faults[0]), "checkpoint_step_30.pt" in str(faults[1])] == [True, True]


FILL_DISK = """
import resource, signal, sys
sys.path.insert(0, {root!r})
import torch
from pathlib import Path
from apt_model.errors import UserError
from training.checkpoint import save_checkpoint
save_checkpoint(Path({path!r}), {{"step": 1}})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # the kernel refuses to write beyond this, as a full disk
try:
    save_checkpoint(Path({path!r}), {{"step": 2, "big": torch.zeros(1_000_000)}})
except UserError as error:
    print(error)
"""


@pytest.mark.skipif(os.name == "nt", reason="file size limits are POSIX")
def test_a_full_disk_is_one_clear_line_and_leaves_the_checkpoint_before_it_intact(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_step_1.pt"
    script = FILL_DISK.format(root=str(ROOT), path=str(path))
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.count("\n") == 1
    assert "could not be written (File too large" in result.stdout
    assert "earlier checkpoints are intact" in result.stdout
    assert load_checkpoint(path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


FILL_DISK_WHILE_TRAINING = """
import resource, signal, sys
sys.path.insert(0, {root!r})
from training.train import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.exit(main([
    "--run-dir", {run_dir!r}, "--d-model", "8", "--num-heads", "1", "--num-layers", "1", "--d-ff", "8", "--epochs", "9",
    "--save-interval", "none", "--num-threads", "1", "--device", "cpu",
]))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="file size limits are POSIX")
def test_a_disk_that_fills_up_under_the_progress_record_stops_the_run_with_one_clear_line(tmp_path: Path) -> None:
    script = FILL_DISK_WHILE_TRAINING.format(root=str(ROOT), run_dir=str(tmp_path / "run"))
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "the progress record could not be written (File too large)" in result.stderr


def test_a_run_directory_belongs_to_one_run_and_one_process(tmp_path: Path) -> None:
    first = RunDirectory(tmp_path / "run")
    with pytest.raises(UserError, match="another process is training in it"):
        RunDirectory(tmp_path / "run")
    save_checkpoint(first.step_checkpoint(1), payload())
    first.release()
    with pytest.raises(UserError, match="it holds a run already"):
        RunDirectory(tmp_path / "run")
    RunDirectory(tmp_path / "run", resume=True).release()
    (tmp_path / "run" / "my_notes.txt").write_text("mine", encoding="utf-8")
    RunDirectory(tmp_path / "run", overwrite=True).release()
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["my_notes.txt"], "only what a run writes is deleted"
