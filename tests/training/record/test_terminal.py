"""What a run says is an event that the terminal prints: lines on stdout, the bar on stderr, the task's figures."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from training.record.reporter import ProgressReporter
from training.record.terminal import Terminal, live_figures
from training.tasks.metrics import ACCURACY, Metric

ERROR = Metric("mean_error", "MAE", "lower")
TIMES = {"learning_rate": 3e-4, "forward_ms": 21.2, "backward_ms": 43.4}


def reporter_of(*metrics: Metric) -> ProgressReporter:
    reporter = ProgressReporter(None, sinks=[Terminal()])
    facts = {"metrics": [metric.to_dict() for metric in metrics]} if metrics else {}
    reporter.run_started(total_steps=4, num_epochs=2, steps_per_epoch=2, **facts)
    return reporter


def test_the_bar_has_the_figures_of_the_task_and_no_others() -> None:
    event = {"loss": 0.5, "mean_error": 0.125, **TIMES}
    assert live_figures(event, [ERROR]) == "Loss 0.5000 MAE 0.125 LR 3.00e-04 FW 21ms BW 43ms"
    assert live_figures(event, []) == "Loss 0.5000 LR 3.00e-04 FW 21ms BW 43ms"
    assert live_figures({"loss": 0.5}, [ACCURACY]) == "Loss 0.5000", "nobody measured it"
    assert live_figures({"loss": None, "accuracy": None}, [ACCURACY]) == "Loss nan Acc nan"


def test_an_evaluation_is_said_with_the_metrics_of_the_task(capsys: pytest.CaptureFixture[str]) -> None:
    reporter_of().evaluation(step=2, epoch=1, loss=0.5, accuracy=0.831)
    reporter_of(ERROR).evaluation(step=2, epoch=1, loss=0.5, mean_error=0.125)
    reporter_of(ERROR).evaluation(step=2, epoch=1, loss=float("nan"), mean_error=0.125)
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1: validation loss 0.5000, accuracy 83.1%",
        "epoch 1: validation loss 0.5000, mean error 0.125",
        "epoch 1: validation loss is not finite",
    ]


def test_what_a_run_says_is_printed_as_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    reporter = reporter_of()
    reporter.introduced(["data    three rows", "model   a line"])
    reporter.resumed_from(Path("runs/a/checkpoint_2"), 2, 4)
    reporter.resumed_from(Path("runs/a/checkpoint_2"), 2, 4, ["another device", "another torch"])
    reporter.warning("hot", step=2)
    reporter.run_finished(reason="all steps done")
    reporter.final_model(tmp_path / "final_model", 4, ["saved   here"])
    reporter.conclusion({"recitation": {}}, ["answers to 2 questions"])
    reporter.said(["go on with: --resume"])
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "data    three rows", "model   a line", "resumed from runs/a/checkpoint_2 at step 2 of 4",
        "resumed from runs/a/checkpoint_2 at step 2 of 4",
        "not bit for bit as it would have gone on: another device; another torch", "warning: hot", "saved   here",
        "answers to 2 questions", "go on with: --resume",
    ]  # fmt: skip
    assert printed.err == ""


def test_no_line_tears_the_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "stdout", screen)  # one terminal shows both
    reporter = reporter_of()
    reporter.introduced(["before the bar"])
    for step in range(1, 5):
        reporter.step(step=step, epoch=(step + 1) // 2, batch=step, loss=1.0, **TIMES)
        reporter.said([f"after update {step}"])
    reporter.run_finished(reason="all steps done")
    reporter.conclusion({}, ["below the bar"])
    reporter.close()
    shown = screen.getvalue()
    assert shown.startswith("before the bar\n")
    assert shown.endswith("\nbelow the bar\n")
    assert "epoch 2/2 100%" in shown.splitlines()[-2].split("\r")[-1]
    for step in range(1, 5):
        (line,) = [line for line in shown.replace("\r", "\n").split("\n") if f"after update {step}" in line]
        assert line.strip() == f"after update {step}"
