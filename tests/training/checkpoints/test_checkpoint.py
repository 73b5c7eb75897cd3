"""A checkpoint is written whole or not at all, and read only if it is whole, ours, and of this run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from training.checkpoints.checkpoint import (
    begin,
    commit,
    list_checkpoints,
    load_checkpoint,
    newest_good,
    save_checkpoint,
)
from training.checkpoints.finished_model import load_trained_model
from training.checkpoints.manifest import existing_form
from training.checkpoints.run_directory import RunDirectory
from training.checkpoints.single_file import digest, load_single_file, save_single_file
from training.errors import CheckpointError, UserError

ROOT = Path(__file__).resolve().parents[3]


def payload(step: int = 3) -> dict[str, Any]:
    weights = {"w": torch.arange(500.0) + step, "scalar": torch.tensor(1)}
    return {
        "kind": "checkpoint",
        "step": step,
        "total_steps": 60,
        "num_samples": 12,
        "data_fingerprint": None,
        "run_id": "abc",
        "config_hash": "0123",
        "config": {name: {} for name in ("model", "data", "optimizer", "schedule", "run")},
        "engine": {
            "model": weights,
            "optimizers": {"adamw": {"w": {"step": torch.tensor(3.0), "exp_avg": torch.ones(500)}}},
            "stabilizer": {"updates": 3, "parameters": {"w": {"norms": torch.ones(3, dtype=torch.bfloat16)}}},
        },
        "loop": {
            "batch": 0,
            "epoch_loss": [float("inf"), 0],
            "early_stopping": {"best": None, "epochs_without_gain": 0},
            "skipped_updates": {"in_a_row": 0},
            "callbacks": {},
            "betas": (0.9, 0.95),
        },
        "tokenizer": {"format": "apt-tokenizer", "characters": ["天", "🌧"]},
    }


FILES = ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json", "tensors.safetensors",
         "tokenizer.json"]  # fmt: skip


def test_a_checkpoint_is_a_directory_of_safetensors_and_json_that_reads_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_step_3"
    save_checkpoint(path, payload())
    assert digest(load_checkpoint(path)) == digest(payload())
    assert sorted(p.name for p in path.iterdir()) == FILES
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "nothing temporary stays"
    assert torch.equal(load_file(path / "model.safetensors")["w"], payload()["engine"]["model"]["w"])
    assert set(load_file(path / "optimizer.safetensors")) == {"adamw/w/step", "adamw/w/exp_avg"}
    assert json.loads((path / "tokenizer.json").read_text(encoding="utf-8")) == payload()["tokenizer"]
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["format"], manifest["version"], manifest["kind"]) == ("apt-checkpoint", 2, "checkpoint")
    assert (manifest["step"], manifest["run_id"], manifest["config_hash"]) == (3, "abc", "0123")
    assert sorted(manifest["files"]) == FILES[1:]
    assert manifest["files"]["state.json"]["bytes"] == (path / "state.json").stat().st_size


def test_a_checkpoint_of_the_same_name_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_best"
    save_checkpoint(path, payload(1))
    (path / "stray.txt").write_text("of the older one", encoding="utf-8")
    (tmp_path / ".checkpoint_best.tmp").mkdir()  # a save that was killed
    (tmp_path / ".checkpoint_best.tmp" / "half").write_bytes(b"half")
    save_checkpoint(path, payload(2))
    assert load_checkpoint(path)["step"] == 2
    assert sorted(p.name for p in path.iterdir()) == FILES
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FILES), st.floats(0.0, 1.0, exclude_max=True), st.integers(1, 255))
def test_a_changed_byte_anywhere_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, name: str, where: float, flip: int
) -> None:
    path = tmp_path_factory.mktemp("c") / "checkpoint_step_3"
    save_checkpoint(path, payload())
    raw = bytearray((path / name).read_bytes())
    raw[int(where * len(raw))] ^= flip
    (path / name).write_bytes(raw)
    told = ""
    try:
        loaded = load_checkpoint(path)
    except CheckpointError as error:
        told = str(error)
    if told:
        assert str(path) in told
        assert name == "manifest.json" or name in told
        assert "\n" not in told
    else:  # a byte that carries no data: white space between the manifest's words
        assert name == "manifest.json"
        assert digest(loaded) == digest(payload())


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_file_cut_short_is_refused_by_name(name: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_step_3"
    save_checkpoint(path, payload())
    raw = (path / name).read_bytes()
    (path / name).write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(CheckpointError, match=rf"checkpoint_step_3/{name}: (cut short|damaged)"):
        load_checkpoint(path)


def test_what_an_engine_adds_belongs_to_the_checkpoint_and_is_missed_by_name(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_epoch_25"
    shard = "zero_pp_rank_1_mp_rank_00_optim_states.pt"
    temporary = begin(path)
    (temporary / shard).write_bytes(b"a shard")
    (temporary / "global_step50").mkdir()
    (temporary / "global_step50" / "more.pt").write_bytes(b"more")
    commit(temporary, path, payload())
    assert load_checkpoint(path)["step"] == 3
    (path / "notes.txt").write_text("a user's own", encoding="utf-8")
    assert load_checkpoint(path)["step"] == 3
    (path / "global_step50" / "more.pt").write_bytes(b"less")
    with pytest.raises(CheckpointError, match=r"checkpoint_epoch_25/global_step50/more\.pt: damaged"):
        load_checkpoint(path)
    (path / shard).unlink()
    with pytest.raises(CheckpointError, match=rf"checkpoint_epoch_25/{shard} is missing$"):
        load_checkpoint(path)


def edit_manifest(path: Path, **changes: Any) -> None:
    document = json.loads((path / "manifest.json").read_text(encoding="utf-8")) | changes
    (path / "manifest.json").write_text(json.dumps(document), encoding="utf-8")


def empty(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


SPOILT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing at all": (shutil.rmtree, "no such checkpoint"),
    "an empty directory": (empty, r"no manifest\.json"),
    "no manifest": (lambda p: (p / "manifest.json").unlink(), r"no manifest\.json"),
    "an empty manifest": (lambda p: (p / "manifest.json").write_bytes(b""), "damaged"),
    "a manifest that is not text": (lambda p: (p / "manifest.json").write_bytes(b"\xff\xfe"), "damaged"),
    "a list": (lambda p: (p / "manifest.json").write_text("[1]"), "not a checkpoint of this project"),
    "somebody else's manifest": (lambda p: (p / "manifest.json").write_text('{"format": "x"}'), "not a checkpoint"),
    "a later version": (lambda p: edit_manifest(p, version=99), "version 99"),
    "another step": (lambda p: edit_manifest(p, step=4), "does not match its own checksum"),
    "a file less in the manifest": (lambda p: edit_manifest(p, files={}), "does not match its own checksum"),
}


@pytest.mark.parametrize(("spoil", "told"), SPOILT.values(), ids=SPOILT.keys())
def test_what_is_no_checkpoint_of_ours_is_said_to_be_none(
    spoil: Callable[[Path], Any], told: str, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint_step_3"
    save_checkpoint(path, payload())
    spoil(path)
    with pytest.raises(CheckpointError, match=rf"checkpoint_step_3.*{told}") as refused:
        load_checkpoint(path)
    assert "\n" not in str(refused.value)


def test_what_is_neither_plain_data_nor_a_tensor_is_refused_when_it_is_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="loop/path: a checkpoint cannot hold a PosixPath"):
        save_checkpoint(tmp_path / "checkpoint_best", payload() | {"loop": {"path": tmp_path}})
    assert not (tmp_path / "checkpoint_best").exists()


def test_the_newest_good_checkpoint_is_found_by_its_step_and_damaged_ones_are_named(tmp_path: Path) -> None:
    for step in (2, 30, 10, 40):
        save_checkpoint(tmp_path / f"checkpoint_step_{step}", payload(step))
    (tmp_path / "checkpoint_step_40" / "manifest.json").unlink()
    assert [step for step, _ in list_checkpoints(tmp_path)[0]] == [30, 10, 2]
    weights = tmp_path / "checkpoint_step_30" / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    (tmp_path / "checkpoint_notes").mkdir()
    (tmp_path / "checkpoint_step_50").write_text("a file", encoding="utf-8")
    found, faults = newest_good(tmp_path)
    assert found is not None
    assert found[1]["step"] == 10
    assert ["checkpoint_step_40" in str(faults[0]), "checkpoint_step_30/model" in str(faults[1])] == [True, True]
    assert len(faults) == 2, "what no run would call a checkpoint is none"


def test_a_whole_checkpoint_without_a_runs_state_is_named_and_passed_over(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint_step_3", payload())
    wrong = {"artefacts": 7, "loop": {}, "config": "text", "total_steps": "60", "num_samples": None, "engine": {}}
    for step, (name, value) in enumerate(wrong.items(), 4):
        save_checkpoint(tmp_path / f"checkpoint_step_{step}", payload(step) | {name: value})
    del (lost := payload(20))["config"]
    save_checkpoint(tmp_path / "checkpoint_step_20", lost)
    found, faults = newest_good(tmp_path)
    assert found is not None
    # An empty engine is a state; which weights it must have, only the model knows.
    assert found[1]["step"] == 4 + list(wrong).index("engine")
    save_checkpoint(tmp_path / "checkpoint_step_9", payload(9) | {"engine": 1})
    found, faults = newest_good(tmp_path)
    assert found is not None
    assert found[1]["step"] == 3
    newest_first = ("config", "engine", *reversed(list(wrong)[:-1]))
    assert [name for name, fault in zip(newest_first, faults, strict=True) if name not in str(fault)] == []
    with pytest.raises(CheckpointError, match="artefacts are of type int"):
        load_trained_model(tmp_path / "checkpoint_step_4")


def test_a_file_name_of_older_documents_is_the_directory_where_only_that_is_there(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint_epoch_25", payload())
    assert load_checkpoint(tmp_path / "checkpoint_epoch_25.pt")["step"] == 3
    (tmp_path / "notes").mkdir()
    for as_it_is in ("checkpoint_epoch_25", "checkpoint_epoch_50.pt", "notes.pt", "checkpoint_epoch_25.json"):
        assert existing_form(tmp_path / as_it_is) == tmp_path / as_it_is
    (tmp_path / "checkpoint_epoch_25.pt").write_bytes(b"a file of that name")
    with pytest.raises(CheckpointError, match=r"checkpoint_epoch_25\.pt: cut short, damaged"):
        load_checkpoint(tmp_path / "checkpoint_epoch_25.pt")


def test_a_finished_model_in_one_file_is_refused_when_a_byte_is_changed_or_it_is_none(tmp_path: Path) -> None:
    path = tmp_path / "final_model.pt"
    weights = {"kind": "final_model", "model": {"w": torch.arange(500.0)}}
    save_single_file(path, weights)
    assert torch.equal(torch.load(path, weights_only=True)["model"]["w"], torch.arange(500.0))
    raw = bytearray(path.read_bytes())
    raw[raw.find(torch.arange(500.0).numpy().tobytes()[400:480])] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"final_model\.pt: damaged"):
        load_single_file(path)
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(CheckpointError, match=r"final_model\.pt: cut short, damaged"):
        load_single_file(path)
    for content, told in (([1, 2], "not a checkpoint"), ({"format": "apt-checkpoint", "version": 99}, "version 99")):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=told):
            load_single_file(path)
    torch.save({"format": "apt-checkpoint", "code": Path}, path)
    with pytest.raises(CheckpointError, match="cut short, damaged or not a checkpoint of this project"):
        load_single_file(path)


# -- full disks and kills ------------------------------------------------------------------------------------------

FILL_DISK = """
import resource, signal, sys
sys.path.insert(0, {root!r})
import torch
from pathlib import Path
from training.errors import UserError
from training.checkpoints.checkpoint import save_checkpoint
path = Path({path!r})
save_checkpoint(path, {{"kind": "checkpoint", "step": 1}})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # the kernel refuses to write beyond this, as a full disk
try:
    save_checkpoint(path, {{"kind": "checkpoint", "step": 2, "engine": {{"model": {{"w": {too_big}}}}}}})
except UserError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="file size limits are POSIX")
@pytest.mark.parametrize("too_big", ["torch.zeros(1_000_000)", "'plain data' * 100_000"])
def test_a_full_disk_is_one_clear_line_and_leaves_the_checkpoint_before_it_intact(too_big: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_step_1"
    script = FILL_DISK.format(root=str(ROOT), path=str(path), too_big=too_big)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.count("\n") == 1
    assert "could not be written (File too large; " in result.stdout
    assert "earlier checkpoints are intact" in result.stdout
    assert load_checkpoint(path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


KILL_AT_EVERY_CALL = """
import os, shutil, signal, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.training.checkpoints.test_checkpoint import payload
from training.checkpoints.checkpoint import delete_superseded, newest_good, save_checkpoint
from training.checkpoints.run_directory import RunDirectory

base = Path({base!r})
save_checkpoint(base / "first" / "checkpoint_best", payload(1))
save_checkpoint(base / "first" / "checkpoint_step_1", payload(1))

def save_and_rotate(run):
    save_checkpoint(run / "checkpoint_best", payload(2))
    save_checkpoint(run / "checkpoint_step_2", payload(2))
    delete_superseded(run, keep_last=1)

def killed_after(calls, run):
    def count(event, arguments):
        nonlocal calls
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            calls -= 1
            if calls < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count)
    try:
        save_and_rotate(run)
    finally:
        os._exit(0)

for calls in range(10_000):
    run = base / str(calls)
    shutil.copytree(base / "first", run)
    child = os.fork()
    if child == 0:
        killed_after(calls, run)
    _, status = os.waitpid(child, 0)
    entered = sorted(p.name for p in run.iterdir())
    RunDirectory(run, resume=True).release()
    found, faults = newest_good(run)
    names = sorted(p.name for p in run.iterdir())
    print(found[1]["step"], len(faults), ".checkpoint_best.old" in entered, *names)
    if os.WIFEXITED(status):
        break
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="processes are forked")
def test_a_kill_at_any_call_of_a_save_or_a_rotation_leaves_the_old_checkpoint_or_the_new_one(tmp_path: Path) -> None:
    script = KILL_AT_EVERY_CALL.format(root=str(ROOT), base=str(tmp_path))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) > 40, "each save makes dozens of calls"
    steps = [int(line[0]) for line in lines]
    assert steps == sorted(steps), "once the new one is there, it stays"
    assert set(steps) == {1, 2}
    assert "True" in [line[2] for line in lines], "between the two renames too"
    for _, faults, _, *names in lines:
        assert faults == "0", "no torn checkpoint"
        assert "checkpoint_best" in names
        assert not [name for name in names if name.startswith(".")], "no leftovers"
    assert lines[-1][3:] == ["checkpoint_best", "checkpoint_step_2"]


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
    with pytest.raises(UserError, match=r"another process \(pid \d+, since .*\) is training in it"):
        RunDirectory(tmp_path / "run")
    save_checkpoint(first.checkpoint(1), payload())
    first.release()
    with pytest.raises(UserError, match="it holds a run already"):
        RunDirectory(tmp_path / "run")
    RunDirectory(tmp_path / "run", resume=True).release()
    (tmp_path / "run" / "my_notes.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "run" / "checkpoint_notes").mkdir()
    RunDirectory(tmp_path / "run", overwrite=True).release()
    kept = sorted(p.name for p in (tmp_path / "run").iterdir())
    assert kept == ["checkpoint_notes", "my_notes.txt"], "only what a run writes is deleted"
