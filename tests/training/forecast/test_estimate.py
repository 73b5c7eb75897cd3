"""What a run would need, asked before it starts: computed by `--dry-run`, measured by `--estimate`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training import TrainingConfig
from training.backends.placement import Placement, placement_of
from training.backends.prepare import config_class
from training.backends.registry import BACKENDS
from training.forecast.dry_run import fit_lines, largest_batch, micro_batches
from training.forecast.memory import rank_memory
from training.forecast.what_fits import nearest_fit
from training.machine.free_memory import gpu_memory, host_memory
from training.models.apt.cost import APTCost
from training.models.cost import BatchShape
from training.settings.yaml_files import flatten, nest

if TYPE_CHECKING:
    from tests.conftest import FrontDoor, TinyDataset, Train

ROOT = Path(__file__).resolve().parents[3]
GB = 1_000_000_000


def config_of(backend: str = "playground", **values: Any) -> TrainingConfig:
    tree_class = config_class(BACKENDS.load(backend))
    return tree_class.from_dict(nest(flatten({"backend": backend, **values}, tree_class, "test")))


def comments(printed: str) -> list[str]:
    return [line.removeprefix("# ") for line in printed.splitlines() if line.startswith("# ")]


# -- a dry run -----------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_the_run_would_need(
    front_door: FrontDoor, tiny_dataset: TinyDataset, tiny_flags: list[str]
) -> None:
    shown = front_door([*tiny_flags, "--datasets", tiny_dataset(), "--epochs", "3", "--dry-run"])
    assert (shown.exit_code, shown.stderr) == (0, "")
    told = comments(shown.stdout)
    assert told[0].startswith("computed from the settings")
    assert any(line.startswith("data: 12 samples and ") for line in told)
    assert "steps: 2 per epoch, 6 in all, 8 samples each" in told
    assert any(line.startswith("parameters: ") for line in told)
    assert any(line.startswith("memory of each rank: about ") and "weights" in line for line in told)
    assert any(line.startswith("checkpoint: ") for line in told)
    assert told[-1].startswith("plan: ")


def test_a_dry_run_without_its_data_says_so_and_tells_the_rest(front_door: FrontDoor) -> None:
    shown = front_door(["--datasets", "nowhere.json", "--dry-run"])
    assert (shown.exit_code, shown.stderr) == (0, "")
    told = comments(shown.stdout)
    assert any(line.startswith("data: nowhere.json: no such data file") for line in told)
    assert any(line.endswith(" for each token of the vocabulary") for line in told)
    again = front_door(["--datasets", "nowhere.json", "--vocab-size", "300", "--dry-run"])
    assert any(line.startswith("memory of each rank: at most ") for line in comments(again.stdout))


def test_a_dry_run_counts_what_a_run_would_read(
    front_door: FrontDoor, tiny_dataset: TinyDataset, tiny_flags: list[str], tmp_path: Path
) -> None:
    flags: list[str | Path] = [
        *tiny_flags,
        "--datasets",
        tiny_dataset(rows=30),
        "--validation-split",
        "0.2",
        "--run-dir",
        tmp_path / "r",
    ]
    told = comments(front_door([*flags, "--dry-run"]).stdout)
    from training.record.reporter import read_report

    assert front_door([*flags, "--epochs", "1"]).exit_code == 0
    report = read_report(tmp_path / "r")
    assert report is not None
    assert f"parameters: {report['num_parameters']:,}" in told
    tokens = report["epochs"][0]["tokens"]
    assert any(f"data: {report['num_train_samples']:,} samples and {tokens:,} tokens" in line for line in told)
    assert any(f"steps: {report['steps_per_epoch']:,} per epoch" in line for line in told)


def test_a_dry_run_of_a_giant_says_that_it_does_not_fit_and_what_would(front_door: FrontDoor) -> None:
    giant = ["--d-model", "4096", "--num-layers", "100", "--d-ff", "16384", "--device", "cpu"]
    told = comments(front_door([*giant, "--dry-run"]).stdout)
    (line,) = (line for line in told if line.startswith("does not fit: "))
    assert "are needed and" in line
    assert "the smallest need with the same curve is" in line


@pytest.mark.slow
def test_a_dry_run_computes_all_this_without_numpy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / "train.py"), "--dry-run"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "# memory of each rank" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert imported.isdisjoint({"numpy", "torch"})


# -- an estimate ---------------------------------------------------------------------------------------------------


@pytest.fixture
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_an_estimate_measures_updates_and_leaves_nothing_behind(
    front_door: FrontDoor,
    tiny_dataset: TinyDataset,
    tiny_flags: list[str],
    tree: Callable[[], dict[str, bytes | None]],
    tmp_path: Path,
    own_temporary_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    data = tiny_dataset(rows=40)
    before = tree()
    said = front_door([*tiny_flags, "--datasets", data, "--validation-split", "0.2", "--run-dir", "run", "--estimate"])
    assert (said.exit_code, said.stderr) == (0, "")
    assert tree() == before
    lines = said.stdout.splitlines()
    assert [line.split()[0] for line in lines if line[0] != " "][:6] == [
        *("data", "steps", "model", "memory", "time", "disk"),
    ]
    assert any("ms per update" in line for line in lines)
    assert any("evaluations" in line and " in all: start " in line and "final model" in line for line in lines)


def test_one_process_stands_for_several_ranks_and_what_it_cannot_measure_is_said(
    front_door: FrontDoor, tiny_dataset: TinyDataset, tiny_flags: list[str], own_temporary_folder: Path
) -> None:
    threads = torch.get_num_threads()
    try:
        flags = [*tiny_flags, "--batch-size", "4", "--global-batch-size", "16", "--num-processes", "2"]
        said = front_door([*flags, "--datasets", tiny_dataset(rows=40), "--estimate"])
    finally:
        torch.set_num_threads(threads)
    assert (said.exit_code, said.stderr) == (0, "")
    assert "3 per epoch, 300 in all, 16 samples each by 2 ranks" in said.stdout
    assert "of one rank's share in one process" in said.stdout
    assert "not counted the communication between 2 ranks" in said.stdout
    assert "buckets" in said.stdout


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--datasets", "nowhere.json"], "nowhere.json: no such data file"),
        (["--vocab-size", "5"], "vocab_size=5 is too small"),
        (["--max-seq-len", "5"], "samples are longer than max_seq_len=5 tokens"),
        (["--precision", "fp16", "--device", "cpu"], "precision=fp16 needs a GPU"),
    ],
)
def test_an_estimate_refuses_what_the_run_would_refuse(
    flags: list[str], complaint: str, front_door: FrontDoor, tiny_dataset: TinyDataset, own_temporary_folder: Path
) -> None:
    refusal = front_door(["--datasets", tiny_dataset(), *flags, "--estimate"])
    assert refusal.exit_code == 2
    assert refusal.stderr.startswith("error: ")
    assert complaint in refusal.stderr
    assert refusal.stderr.count("\n") == 1
    assert list(own_temporary_folder.iterdir()) == []


@pytest.mark.slow
def test_memory_and_disk_come_out_as_expected(train: Train, tiny_dataset: TinyDataset, tmp_path: Path) -> None:
    from training.record.reporter import read_report

    flags = ["--d-model", "192", "--num-layers", "4", "--num-heads", "4", "--d-ff", "512", "--device", "cpu"]
    done = train([*flags, "--datasets", tiny_dataset(rows=64), "--max-steps", "6", "--run-dir", "run", "--fp32"])
    assert done.returncode == 0, done.stderr
    report = read_report(tmp_path / "run")
    assert report is not None
    memory, disk = report["estimate"]["peak_memory_bytes"], report["estimate"]["checkpoint_bytes"]
    assert report["memory"] == {"kind": "resident", "peak_bytes": [memory["actual"]]}
    # The process itself is most of it here, and another torch is of another size; docs/ESTIMATE.md has the real table.
    assert memory["expected"] == pytest.approx(memory["actual"], rel=0.3)
    assert disk["expected"] == pytest.approx(disk["actual"], rel=0.02)


# -- memory --------------------------------------------------------------------------------------------------------


def peak(config: TrainingConfig, samples: int = 32, micro: int = 1, spread: Placement | None = None) -> int:
    batch = BatchShape(samples, 64, samples * 8)
    return rank_memory(config, APTCost(config.model.network(300)), batch, micro, "cuda", spread or Placement()).peak


def test_what_saves_memory_saves_memory() -> None:
    plain = config_of(d_model=512, num_layers=8, d_ff=2048)
    assert peak(config_of(d_model=512, num_layers=8, d_ff=2048, gradient_checkpointing=True)) < peak(plain)
    assert peak(config_of(d_model=512, num_layers=8, d_ff=2048, optimizer="muon")) < peak(plain)
    assert peak(config_of(d_model=512, num_layers=8, d_ff=2048, precision="bf16"), 256) < peak(plain, 256)
    assert peak(plain, 16) < peak(plain, 32)
    assert peak(plain) < peak(plain, micro=2), "gradients of the first micro-batch wait for the second"


def test_each_zero_stage_needs_less_than_the_one_before_and_offload_less_again() -> None:
    wide = config_of(backend="deepspeed", d_model=4096, num_layers=4, d_ff=16384, num_gpus=8)
    by_stage = [peak(wide, 4, spread=Placement(8, 8, zero_stage=stage)) for stage in (0, 1, 2)]
    assert by_stage == sorted(by_stage, reverse=True)
    assert len(set(by_stage)) == 3
    assert peak(wide, 4, spread=Placement(8, 8, zero_stage=2, cpu_offload=True)) < by_stage[2]


# -- what would fit ------------------------------------------------------------------------------------------------


@given(
    st.sampled_from(["playground", "deepspeed"]),
    st.integers(1, 200),
    st.integers(1, 3),
    st.floats(0.3, 1.0),
)
@settings(max_examples=60, deadline=None)
def test_what_is_said_to_fit_does_fit_and_keeps_the_curve(backend: str, batch: int, steps: int, room: float) -> None:
    config = config_of(
        backend, d_model=512, num_layers=8, d_ff=2048, vocab_size=300, batch_size=batch,
        gradient_accumulation_steps=steps,
    )  # fmt: skip

    def needed(other: TrainingConfig) -> int:
        place = placement_of(other)
        batch = largest_batch(other, place, None)
        assert batch is not None
        cost = APTCost(other.model.network())
        return rank_memory(other, cost, batch, micro_batches(other, place), "cuda", place).peak

    available = int(needed(config) * room)
    tried: dict[int, TrainingConfig] = {}

    def remember(other: TrainingConfig) -> int:
        tried[needed(other)] = other
        return needed(other)

    advice = nearest_fit(config, remember, available)
    for other in tried.values():
        other.validate()
        assert other.curve_hash() == config.curve_hash()
    if advice.endswith("and gives the same curve"):
        assert min(tried) <= available
    else:
        assert min(tried, default=available + 1) > available
        assert "train a smaller model" in advice


def test_smaller_batches_come_before_slower_updates() -> None:
    config = config_of(d_model=512, num_layers=8, d_ff=2048, vocab_size=300, batch_size=64)

    def needed(other: TrainingConfig) -> int:
        return GB * other.run.batch_size // (4 if other.run.gradient_checkpointing else 1)

    (fits,) = fit_lines(config, "cpu", needed, 100 * GB)
    assert fits == "fits: 100 GB are free on this machine"
    (does_not,) = fit_lines(config, "cpu", needed, 20 * GB)
    assert does_not.endswith("--batch-size 16 --global-batch-size 64 needs 16.0 GB and gives the same curve")
    assert list(fit_lines(config, "cpu", needed, None)) == []


def test_ranks_on_cpus_share_the_memory_of_their_machine() -> None:
    config = config_of(num_processes=4, vocab_size=300)
    (line,) = fit_lines(config, "cpu", lambda other: 10 * GB, 30 * GB)
    assert line.startswith("does not fit: 40.0 GB are needed for 4 ranks and 30.0 GB are free on this machine")


# -- how much there is ---------------------------------------------------------------------------------------------


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


MEMINFO = "MemTotal:       32000000 kB\nMemFree:  1000 kB\nMemAvailable:   16000000 kB\n"


def test_free_memory_is_what_the_kernel_says_is_available(tmp_path: Path) -> None:
    assert host_memory(machine(tmp_path, {"proc/meminfo": MEMINFO})) == 16_000_000 * 1024


@pytest.mark.parametrize("place", ["", "jobs/", "jobs/mine/"])
def test_a_container_leaves_no_more_than_its_limit(place: str, tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/jobs/mine\n",
        f"sys/fs/cgroup/{place}memory.max": "3000000000\n",
        f"sys/fs/cgroup/{place}memory.current": "1000000000\n",
        f"sys/fs/cgroup/{place}memory.stat": "anon 5\ninactive_file 250000000\n",
    }
    assert host_memory(machine(tmp_path, files)) == 2_250_000_000, "cached files make room when it is needed"
    files[f"sys/fs/cgroup/{place}memory.max"] = "max\n"
    assert host_memory(machine(tmp_path, files)) == 16_000_000 * 1024


def test_older_cgroups_are_read_too(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/docker/x\n0::/\n",
        "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": "2000000000\n",
        "sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes": "500000000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "500000000\n",
    }
    assert host_memory(machine(tmp_path, files)) == 1_500_000_000


def test_without_a_driver_no_gpu_memory_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_memory() is None


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_gpu_memory_is_what_nvidia_smi_says_of_the_first_visible_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\n[ "$1" = "--id=2" ] && echo 40000 || echo broken\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert gpu_memory() == 40000 << 20
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert gpu_memory() is None
