"""A task and a model family of third parties, installed as packages: trained everywhere, resumed exactly."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.warm_start import WarmStart
from training.record.reporter import LOG_NAME, read_events, read_report

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SETTINGS: dict[str, Any] = {
    "task": "reversal",
    "model": {"model": "averaging", "features": 16},
    "data": {"validation_split": 0.1, "strings": 90},
    "run": {"batch_size": 8, "global_batch_size": 20, "epochs": 60},
    "optimizer": {"learning_rate": 1e-3},
    "checkpoint": {"save_interval": None, "save_steps": 7, "keep_last": 3},
}
"""Batches of 8, 8 and 4 strings: unequal micro-batches, and a second rank that has none of the last."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed both packages."""
    folder = tmp_path_factory.mktemp("third_party")
    packages = [folder / name for name in ("task", "model")]
    for package in packages:
        source = ROOT / "tests" / "third_party" / package.name
        shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    where = ["--no-build-isolation", "--target", str(folder / "site")]
    subprocess.run([*pip, *where, *map(str, packages)], check=True, timeout=300)
    return folder / "site"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "reversal.yaml"
    path.write_text(json.dumps(SETTINGS), encoding="utf-8")  # JSON is YAML
    return path


@pytest.fixture(scope="module")
def warm(site: Path) -> Iterator[WarmStart]:
    """Processes that see the installed packages, and import torch and transformers once for all."""
    modules = ("training.train", "training.run", "training.loop.transformers_loop", "deepspeed")
    with WarmStart(*modules, variables={"PYTHONPATH": str(site)}) as started:
        yield started


def environment(site: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}


def finish(warm: WarmStart, *words: str | Path) -> str:
    process = warm.start([str(word) for word in words])
    shown = process.wait()
    assert process.returncode == 0, shown
    return shown


def run(site: Path, *words: str | Path, script: str = "train.py", cwd: Path = ROOT) -> str:
    command = [sys.executable, str(ROOT / script), *map(str, words)]
    done = subprocess.run(
        command, cwd=cwd, env=environment(site), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def weights_of(run_dir: Path) -> str:
    return hashlib.sha256((run_dir / "final_model" / "model.safetensors").read_bytes()).hexdigest()


def test_installed_packages_are_listed_with_their_names(site: Path) -> None:
    listed = run(site, "--list-tasks", "--list-models").splitlines()
    names = {line.split()[0]: line for line in listed}
    assert "apt-reversal-task" in names["reversal"]
    assert "apt-averaging-model" in names["averaging"]
    assert {"hlbd", "apt"} <= names.keys()


def test_every_backend_trains_them_on_one_curve(site: Path, config: Path, tmp_path: Path) -> None:
    """The certificate: our loop alone and on two ranks, DeepSpeed and transformers' Trainer on two ranks."""
    alone = ["playground", "deepspeed:zero_stage=3", "huggingface"]
    variants = [f"{variant}{',' if ':' in variant else ':'}num_processes=2" for variant in alone]
    report = tmp_path / "parity.json"
    shown = run(
        site, "--config", config, "--steps", "12", "--json", report, "--backends", *variants,
        script="tools/check_training_backends.py",
    )  # fmt: skip
    document = json.loads(report.read_text(encoding="utf-8"))
    assert (document["verdict"], shown.count("certificate: PASS")) == ("pass", 1), shown
    states = {variant["name"]: variant["state"] for variant in document["variants"]}
    assert states == dict.fromkeys(variants, "pass"), shown


def last_step(run_dir: Path) -> int:
    log = run_dir / LOG_NAME
    return max((e["step"] for e in read_events(log) if e["event"] == "step"), default=0) if log.exists() else 0


@pytest.mark.parametrize("backend", ["playground", "huggingface"])
def test_a_killed_run_goes_on_bit_for_bit(warm: WarmStart, config: Path, tmp_path: Path, backend: str) -> None:
    alone = ["--backend", backend, "--device", "cpu", "--num-threads", "1", "--report-batches", "1"]
    words = ["--config", str(config), *alone]
    finish(warm, *words, "--run-dir", tmp_path / "whole")
    killed = [*words, "--run-dir", str(tmp_path / "killed")]
    process = warm.start(killed)
    while process.poll(0.005) is None and last_step(tmp_path / "killed") < 17:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "it was at work"
    finish(warm, *killed, "--resume")
    assert weights_of(tmp_path / "killed") == weights_of(tmp_path / "whole")


def test_the_record_has_the_task_s_figures_and_no_others(warm: WarmStart, config: Path, tmp_path: Path) -> None:
    shown = finish(warm, "--config", config, "--run-dir", tmp_path / "run", "--epochs", "2")
    assert "model   averaging 924 parameters, 12 tokens in the vocabulary" in shown.splitlines()
    assert "reversed 81 strings" in shown.splitlines()
    assert "PPL" not in shown
    steps = [event for event in read_events(tmp_path / "run" / LOG_NAME) if event["event"] == "step"]
    assert all("accuracy" in step and "perplexity" not in step for step in steps)
    report = read_report(tmp_path / "run")
    assert report is not None
    assert report["reversal"] == {"strings": 81}
    assert "perplexity" not in json.dumps(report)


def test_a_task_and_a_model_go_with_those_that_are_built_in(warm: WarmStart, tmp_path: Path) -> None:
    small = ["--d-model", "16", "--num-layers", "1", "--num-heads", "2", "--d-ff", "16", "--epochs", "1"]
    shown = finish(warm, "--task", "reversal", *small, "--run-dir", tmp_path / "one")
    assert "model   APT" in shown
    shown = finish(
        warm, "--model", "averaging", "--epochs", "1", "--answer-samples", "20", "--run-dir", tmp_path / "other"
    )
    assert "answers to 20 of 575 training questions" in shown


def test_a_dry_run_measures_a_network_without_a_closed_form(warm: WarmStart, config: Path) -> None:
    shown = finish(warm, "--config", config, "--dry-run")
    assert "# data: 81 samples and 729 tokens per epoch" in shown
    assert "# parameters: 924" in shown
    assert "# memory of each rank: about " in shown


def test_a_class_of_the_user_s_own_is_found_in_the_current_directory(tmp_path: Path) -> None:
    for package, name in (("task", "apt_reversal_task.py"), ("model", "apt_averaging_model.py")):
        shutil.copy(ROOT / "tests" / "third_party" / package / name, tmp_path / f"my_{package}.py")
    words = ["--task", "my_task:ReversalTask", "--model", "my_model:AveragingFamily", "--epochs", "1"]
    shown = run(tmp_path, *words, "--num-processes", "2", "--device", "cpu", "--run-dir", "run", cwd=tmp_path)
    assert "2 ranks sharing" in shown
    assert (tmp_path / "run" / "final_model" / "model.json").is_file()
