"""Whole runs on two ranks, through the front door and by hand: playground's curve, DeepSpeed's files, exact resume."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import ROOT, write_tiny_dataset
from training.loop.weight_snapshots import snapshot_files
from training.record.reporter import Event, read_events, read_report

if TYPE_CHECKING:
    from tests.conftest import FrontDoor, TinyDataset, Train

TOLERANCE = 1e-5
"""Relative difference of loss and gradient norm over 42 updates; measured is 5e-7."""
SETTINGS = shlex.split(
    "--d-model 16 --num-layers 1 --num-heads 2 --d-ff 16 --learning-rate 1e-3 --validation-split 0.1 --device cpu "
    # Each epoch ends in a smaller update, and one of the two ranks has less to do in it.
    "--dataset tiny.json --epochs 14 --batch-size 3 --global-batch-size 10 --save-interval 7 --answer-samples 0"
)
TRAIN = [sys.executable, str(ROOT / "train.py")]
SCRIPT = ROOT / "training/train_deepspeed.py"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
DEEPSPEED = [str(Path(sys.executable).with_name("deepspeed")), "--num_accelerators", "2", "--master_port", "29617"]
"""As users type it, but for the port: other runs may have the default one."""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "TORCHDYNAMO_DISABLE": "1"}
"""Nothing is compiled here; DeepSpeed's import alone would load torch's compiler, in each launcher and each rank."""
SCRIPTS = """
import json, runpy, sys
for command in json.loads(sys.argv[1]):
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")
"""
"""A program: command lines of scripts, run one after the other as if each were started alone."""
CALLS = """
import json, sys
sys.path.insert(0, sys.argv[2])
from training.train import main
print([main(call) for call in json.loads(sys.argv[1])])
"""
"""A program: arguments of calls of the front door below a folder; it prints the exit codes."""
JSON = {
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_clipping": "auto",
    "zero_optimization": {"stage": 2, "overlap_comm": False},
    "steps_per_print": 1000,
}


def run(cwd: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """A command in the runs' folder; it must succeed."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs.

    plain: playground in one process; zero_2: through the front door and deepspeed's launcher; again: zero_2 from its
    middle, by the deepspeed command; zero_3: from zero_2's middle, by torchrun.
    """
    folder = tmp_path_factory.mktemp("deepspeed")
    write_tiny_dataset(folder / "tiny.json", rows=30)
    (folder / "ds.json").write_text(json.dumps(JSON), encoding="utf-8")
    run(folder, *TRAIN, *SETTINGS, "--run-dir", "plain")
    zero_2 = [*SETTINGS, "--zero-stage", "2", "--deepspeed-config", "ds.json"]
    for library in ("random", "torch"):  # a user's own files, in the directory of the launch
        (folder / f"{library}.py").write_text("raise ImportError('not the library')", encoding="utf-8")
    run(folder, *TRAIN, "--backend", "deepspeed", "--num-processes", "2", *zero_2, "--run-dir", "zero_2")
    for library in ("random", "torch"):  # the deepspeed command itself would import them
        (folder / f"{library}.py").unlink()
    middle = ["--resume", "zero_2/checkpoint_epoch_7"]
    run(folder, *DEEPSPEED, SCRIPT, *zero_2, *middle, "--run-dir", "again")
    zero_3 = [*SETTINGS, "--zero-stage", "3", "--deepspeed-config", "none"]
    told = run(folder, *TORCHRUN, SCRIPT, *zero_3, *middle, "--run-dir", "zero_3")
    (folder / "zero_3.out").write_text(told.stdout, encoding="utf-8")
    return folder


def curve(run_dir: Path, after: int = 0) -> list[Event]:
    events = read_events(run_dir / "progress.jsonl")
    return [e for e in events if e["event"] in ("step", "eval") and e["step"] > after]


def assert_same_curve(one: list[Event], other: list[Event]) -> None:
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        for figure in ("step", "event", "learning_rate", "tokens", "loss_tokens", "clipped"):
            assert a.get(figure) == b.get(figure), (a["step"], figure)
        for figure in ("loss", "grad_norm") if a["event"] == "step" else ("loss",):
            assert a[figure] == pytest.approx(b[figure], rel=TOLERANCE), (a["step"], figure)


@pytest.mark.slow
def test_deepspeeds_curve_is_playgrounds(runs: Path) -> None:
    plain = curve(runs / "plain")
    assert len([e for e in plain if e["event"] == "step"]) == 42
    assert_same_curve(plain, curve(runs / "zero_2"))
    report = read_report(runs / "zero_2")
    assert report is not None
    assert (report["backend"], report["state"], report["world_size"]) == ("deepspeed", "finished", 2)


@pytest.mark.slow
def test_it_writes_what_the_documents_show(runs: Path) -> None:
    in_checkpoint = {p.name for p in (runs / "zero_2/checkpoint_epoch_7").iterdir()}
    assert in_checkpoint == {
        "manifest.json", "model.safetensors", "optimizer.safetensors", "state.json", "tokenizer.json",
        "mp_rank_00_model_states.pt",
        "zero_pp_rank_0_mp_rank_00_optim_states.pt", "zero_pp_rank_1_mp_rank_00_optim_states.pt",
    }  # fmt: skip
    written = json.loads((runs / "zero_2/deepspeed_config.json").read_text(encoding="utf-8"))
    assert written["zero_optimization"]["stage"] == 2
    assert written["zero_optimization"]["overlap_comm"] is False
    assert (written["train_batch_size"], written["steps_per_print"]) == (12, 1000)


@pytest.mark.slow
def test_the_final_model_is_the_portable_one_that_playground_writes(runs: Path) -> None:
    plain, mine = runs / "plain/final_model", runs / "zero_2/final_model"
    assert {p.name for p in plain.iterdir()} == {p.name for p in mine.iterdir()}
    assert (plain / "tokenizer.json").read_bytes() == (mine / "tokenizer.json").read_bytes()
    a, b = load_file(plain / "model.safetensors"), load_file(mine / "model.safetensors")
    assert a.keys() == b.keys()
    for name in a:
        assert np.allclose(a[name], b[name], rtol=0.0, atol=1e-6), name


@pytest.mark.slow
def test_the_same_layout_goes_on_bit_for_bit_by_the_deepspeed_command(runs: Path) -> None:
    uninterrupted, resumed = (load_file(runs / name / "final_model/model.safetensors") for name in ("zero_2", "again"))
    assert all(torch.equal(uninterrupted[name], resumed[name]) for name in uninterrupted)
    losses = [[e["loss"] for e in curve(runs / name, after=21)] for name in ("zero_2", "again")]
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_another_zero_stage_goes_on_with_the_curve_by_torchrun(runs: Path) -> None:
    assert_same_curve(curve(runs / "plain", after=21), curve(runs / "zero_3", after=21))
    assert "resumed from zero_2/checkpoint_epoch_7 at step 21 of 42" in (runs / "zero_3.out").read_text("utf-8")
    shards = {p.name for p in (runs / "zero_3/checkpoint_epoch_14").glob("*.pt")}
    kinds = ("model_states", "optim_states")
    assert shards == {f"zero_pp_rank_{rank}_mp_rank_00_{kind}.pt" for rank in (0, 1) for kind in kinds}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zero_2", "zero_3"])
def test_the_path_through_weight_space_is_kept_whole_and_is_playgrounds(runs: Path, name: str) -> None:
    plain, mine = dict(snapshot_files(runs / "plain")), dict(snapshot_files(runs / name))
    assert list(plain) == list(range(43))
    assert list(mine) == [step for step in plain if step >= (0 if name == "zero_2" else 21)], "where it went on"
    for step, file in mine.items():
        a, b = load_file(plain[step]), load_file(file)
        assert {key: tensor.shape for key, tensor in a.items()} == {key: tensor.shape for key, tensor in b.items()}
        for key in a:  # the last bit of bf16
            assert torch.allclose(a[key].float(), b[key].float(), rtol=2**-7, atol=1e-5), (step, key)


@pytest.mark.slow
def test_playground_goes_on_from_the_shards_of_two_ranks(
    runs: Path, front_door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    done = front_door([*SETTINGS, "--resume", "zero_2/checkpoint_epoch_7", "--run-dir", "back"])
    assert done.exit_code == 0, done.stderr
    assert_same_curve(curve(runs / "plain", after=21), curve(runs / "back", after=21))
    assert "not bit for bit as it would have gone on: backend deepspeed -> playground" in done.stdout


@pytest.fixture(scope="module")
def merged(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`NAME/`: the last checkpoint of a run as its own copy of DeepSpeed's tool merges it; both in one process."""
    folder = tmp_path_factory.mktemp("merged")
    calls = [
        [str(runs / name / "zero_to_fp32.py"), str(runs / name), str(folder / name), "-t", "checkpoint_epoch_14"]
        for name in ("zero_2", "zero_3")
    ]
    run(runs, sys.executable, "-c", SCRIPTS, json.dumps(calls))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zero_2", "zero_3"])
def test_deepspeeds_own_tool_reads_the_shards(runs: Path, merged: Path, name: str) -> None:
    theirs = torch.load(merged / name / "pytorch_model.bin", weights_only=True)
    ours = load_file(runs / name / "final_model/model.safetensors")
    assert ours.keys() <= theirs.keys()
    assert all(torch.equal(theirs[key], ours[key]) for key in ours)


class Refused(NamedTuple):
    """What calls of the front door said that refused, one after the other in one process, for DeepSpeed's import."""

    exit_codes: list[int]
    stderr: list[str]
    """Lines: all that the process wrote."""
    shard: Path
    """That is missing in the checkpoint of the second call."""


@pytest.fixture(scope="module")
def refused(runs: Path, tmp_path_factory: pytest.TempPathFactory, tiny_flags: list[str]) -> Refused:
    """A key that DeepSpeed does not know, then a checkpoint without one of its shards."""
    folder = tmp_path_factory.mktemp("refused")
    (folder / "ds.json").write_text('{"zero_optimization": {"no_such_key": 1}}', encoding="utf-8")
    where = ["--datasets", "tiny.json", "--run-dir", folder / "key"]
    key = [*tiny_flags, *where, "--deepspeed-config", folder / "ds.json"]
    shutil.copytree(runs / "zero_2/checkpoint_epoch_7", folder / "checkpoint_epoch_7")
    shard = folder / "checkpoint_epoch_7/zero_pp_rank_1_mp_rank_00_optim_states.pt"
    shard.unlink()
    missing = [*SETTINGS, "--run-dir", folder / "shard", "--resume", shard.parent]
    calls = [["--backend", "deepspeed", *map(str, call)] for call in (key, missing)]
    done = run(runs, sys.executable, "-c", CALLS, json.dumps(calls), ROOT)
    assert not (folder / "key").exists()
    return Refused(json.loads(done.stdout.splitlines()[-1]), done.stderr.splitlines(), shard)


@pytest.mark.slow
def test_a_key_that_deepspeed_does_not_know_is_one_line(refused: Refused) -> None:
    assert (refused.exit_codes[0], len(refused.stderr)) == (2, 2), "one line each"
    assert "no_such_key" in refused.stderr[0]


@pytest.mark.slow
def test_a_missing_shard_is_named_in_one_line(refused: Refused) -> None:
    assert (refused.exit_codes[1], len(refused.stderr)) == (2, 2), "one line each"
    assert refused.shard.name in refused.stderr[1]


@pytest.mark.slow
def test_a_port_in_use_is_one_line(
    train: Train, tiny_dataset: TinyDataset, tiny_flags: list[str], tmp_path: Path
) -> None:
    where: list[str | Path] = ["--datasets", tiny_dataset(), "--run-dir", tmp_path / "run"]
    with socket.socket() as other_program:
        other_program.bind(("0.0.0.0", 0))
        other_program.listen()
        port = str(other_program.getsockname()[1])
        rank = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        refusal = train([*tiny_flags, *where], script="training/train_deepspeed.py", env=rank)
    assert refusal.returncode == 2, refusal.stderr
    errors = [line for line in refusal.stderr.splitlines() if line.startswith("error: ")]
    assert [line.partition(" is in use")[0] for line in errors] == [f"error: port {port}, where the ranks meet,"]
    assert "Traceback" not in refusal.stderr
