"""The nine faults of the programs that this one replaces. Each must never come back."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from apt_model.tokenizer import DynamicTagTokenizer
from training import TrainingConfig
from training.engines.results import UpdateResult
from training.loop.callbacks import Callback, RunView
from training.loop.trainer import Trainer
from training.record.report import MAX_POINTS, MAX_POINTS_PER_EPOCH
from training.record.reporter import read_report
from training.record.terminal import live_figures
from training.tasks.hlbd.dataset import HLBDDataset
from training.tasks.hlbd.files import Sample
from training.tasks.hlbd.task import prepared_from_datasets
from training.train import main

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = [Sample(f"{n}加{n}", str(2 * n), "arithmetic", n) for n in range(40)]
TOKENIZER = DynamicTagTokenizer.from_texts(t for s in SAMPLES for t in s[:2])
DATASET = HLBDDataset(SAMPLES, TOKENIZER, 32)


def make_config(run_dir: Path, **run: Any) -> TrainingConfig:
    return TrainingConfig.from_dict({
        "model": {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16, "max_seq_len": 32},
        "run": {"run_dir": run_dir, "epochs": 3, "batch_size": 2, **run},
        "checkpoint": {"save_interval": None},
    })  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("script", ["train.py", "training/train.py", "training/train_hlbd_playground.py"])
def test_fault_1_imports_failed_outside_the_checkout(script: str, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, str(ROOT / script), "--dry-run"],
        capture_output=True, text=True, cwd=tmp_path, env=environment, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "backend: playground" in result.stdout


def test_fault_2_the_number_of_heads_never_reached_the_model(tmp_path: Path) -> None:
    argv = [
        "--num-heads",
        "2",
        "--d-model",
        "16",
        "--num-layers",
        "1",
        "--d-ff",
        "16",
        "--max-steps",
        "1",
        "--device",
        "cpu",
    ]
    more = ["--answer-samples", "0", "--run-dir", str(tmp_path / "run")]
    assert main([*argv, *more]) == 0
    saved = torch.load(tmp_path / "run" / "final_model.pt", weights_only=True)
    assert saved["model_config"]["num_heads"] == 2
    # The autopoietic control has two rows per head: the weights themselves show the heads.
    assert saved["model"]["blocks.0.attention.self_control.weight"].shape == (4, 16)


def test_fault_3_the_loss_shown_was_divided_by_the_accumulation_steps(tmp_path: Path) -> None:
    class First(Callback):
        loss = 0.0

        def on_step(self, trainer: RunView, result: UpdateResult) -> None:
            self.loss = self.loss or result.loss

    losses = []
    for name, batch_size, accumulation in (("one", 16, 1), ("four", 4, 4)):
        seen = First()
        config = make_config(
            tmp_path / name, batch_size=batch_size, gradient_accumulation_steps=accumulation, max_steps=1
        )
        Trainer.of(prepared_from_datasets(config, DATASET), device="cpu", callbacks=[seen]).train()
        losses.append(seen.loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_fault_4_there_was_no_progress_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    Trainer.of(prepared_from_datasets(make_config(tmp_path / "run"), DATASET), device="cpu").train()
    last = screen.getvalue().replace("\n", "\r").split("\r")
    assert any("epoch 3/3 100%" in line and "60/60" in line for line in last), last[-3:]


def test_fault_5_the_bar_lacked_the_six_live_figures() -> None:
    event = {"loss": 0.5, "accuracy": 0.831, "learning_rate": 3e-4, "forward_ms": 21.2, "backward_ms": 43.4}
    assert " ".join(live_figures(event)) == "Loss 0.5000 PPL 1.649 Acc 83.1% LR 3.00e-04 FW 21ms BW 43ms"


def test_fault_6_the_report_came_only_at_the_end(tmp_path: Path) -> None:
    class Look(Callback):
        batches: tuple[int, ...] = ()

        def on_step(self, trainer: RunView, result: UpdateResult) -> None:
            report = read_report(tmp_path / "run")
            assert report is not None
            self.batches += (report["batch"],)

    look = Look()
    Trainer.of(
        prepared_from_datasets(make_config(tmp_path / "run", epochs=2), DATASET), device="cpu", callbacks=[look]
    ).train()
    assert look.batches[8:10] == (0, 10)
    assert look.batches[18:20] == (10, 20)
    assert look.batches[-1] == 40


@pytest.mark.slow
def test_fault_7_the_report_grew_without_bound(tmp_path: Path) -> None:
    config = make_config(tmp_path / "run", epochs=30, batch_size=1)
    Trainer.of(prepared_from_datasets(config, DATASET), device="cpu").train()
    report = json.loads((tmp_path / "run" / "experiment_report.json").read_text(encoding="utf-8"))
    assert report["step"] == 1200 > MAX_POINTS
    assert len(report["curve"]["step"]) <= MAX_POINTS
    assert max(report["curve"]["epoch"].count(e) for e in range(1, 31)) <= MAX_POINTS_PER_EPOCH


def test_fault_8_a_large_loss_overflowed_the_perplexity() -> None:
    event = {"loss": 1e6, "accuracy": 0.0, "learning_rate": 1.0, "forward_ms": 0.0, "backward_ms": 0.0}
    assert "PPL inf" in live_figures(event)
    assert "PPL inf" in live_figures({**event, "loss": None})


def test_fault_9_padding_counted_in_the_accuracy(tmp_path: Path) -> None:
    class Sums(Callback):
        weight = tokens = 0

        def on_step(self, trainer: RunView, result: UpdateResult) -> None:
            self.weight += result.weight
            self.tokens += result.tokens

    sums = Sums()
    Trainer.of(
        prepared_from_datasets(make_config(tmp_path / "run", epochs=1, batch_size=7), DATASET),
        device="cpu",
        callbacks=[sums],
    ).train()
    assert sums.weight == sum(len(s.answer) + 1 for s in SAMPLES), "answers and [EOS], whatever the padding"
    assert sums.tokens == int(DATASET.lengths.sum()) - len(SAMPLES)
