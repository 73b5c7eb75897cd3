"""What a run says is an event that the terminal prints: lines on stdout, the bar on stderr, the task's figures."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tqdm.utils import disp_len

from training.record.reporter import ProgressReporter
from training.record.terminal import FiguresBar, Terminal, live_figures
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
    assert " ".join(live_figures(event, [ERROR])) == "Loss 0.5000 MAE 0.125 LR 3.00e-04 FW 21ms BW 43ms"
    assert " ".join(live_figures(event, [])) == "Loss 0.5000 LR 3.00e-04 FW 21ms BW 43ms"
    assert live_figures({"loss": 0.5}, [ACCURACY]) == ["Loss 0.5000"], "nobody measured it"
    assert live_figures({"loss": None, "accuracy": None}, [ACCURACY]) == ["Loss nan", "Acc nan"]


@settings(max_examples=150, deadline=None)
@given(
    columns=st.integers(1, 250),
    step=st.integers(0, 10**6),
    elapsed=st.floats(0.0, 4e5),
    epoch=st.integers(1, 10**4),
    loss=st.floats(0.0, 1e6),
    accuracy=st.floats(0.0, 1.0),
)
def test_every_figure_of_the_bar_is_whole_at_every_width(
    columns: int, step: int, elapsed: float, epoch: int, loss: float, accuracy: float
) -> None:
    event = {"loss": loss, "accuracy": accuracy, **TIMES}
    bar = FiguresBar(total=10**6, initial=step, file=io.StringIO(), ncols=columns)
    bar.set_description_str(f"epoch {epoch}/10000", refresh=False)
    bar.figures = live_figures(event)
    bar.start_t -= elapsed
    shown = str(bar)
    bar.close()
    assert disp_len(shown) <= columns
    _, comma, figures = shown.partition(", ")
    assert bool(figures) == bool(comma)
    assert " ".join(bar.figures).startswith(figures)
    assert not figures or " ".join(bar.figures)[len(figures) :][:1] in ("", " "), shown
    assert shown.count("[") == shown.count("]") == shown.count("<")
    assert f" {step}/1000000" in shown or "/1000" not in shown.replace("/10000 ", "")
    if columns >= 13:
        assert f"{step / 1e4:3.0f}%".strip() in shown


def test_a_usual_bar_has_its_loss_and_accuracy_at_80_columns_and_all_figures_at_120() -> None:
    event = {"loss": 0.5123, "accuracy": 0.317, **TIMES}
    shown = {}
    for columns in (80, 120):
        bar = FiguresBar(total=1800, initial=216, file=io.StringIO(), ncols=columns)
        bar.set_description_str("epoch 12/100", refresh=False)
        bar.figures = live_figures(event)
        shown[columns] = str(bar)
        bar.close()
    assert shown[80].endswith("Loss 0.5123 PPL 1.669 Acc 31.7%")
    assert shown[120].endswith("Acc 31.7% LR 3.00e-04 FW 21ms BW 43ms")


def test_the_time_left_is_said_once_it_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = ProgressReporter(None, sinks=[Terminal(lambda: ["stop    Ctrl-C"])])
    reporter.run_started(total_steps=1800, num_epochs=100, steps_per_epoch=18)
    reporter.introduced(["run     runs/default"])
    reporter.estimate(0, {"peak_memory_bytes": 3e8})
    reporter.estimate(19, {"training_seconds": 190.0, "update_ms": 104.4, "timed_updates": 16})
    assert capsys.readouterr().out.splitlines() == [
        "run     runs/default",
        "stop    Ctrl-C",
        "time    about 3 min 6 s more: 1,781 steps of 104 ms, plus validation, checkpoints",
    ]


def test_in_a_log_file_the_last_step_stands_before_the_end_and_the_examples(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reporter = reporter_of()
    for step in range(1, 5):
        reporter.step(step=step, epoch=(step + 1) // 2, batch=step, loss=1.0, **TIMES)
    reporter.checkpoint(Path("nowhere/checkpoint_epoch_2"), 4)
    reporter.run_finished(reason="all steps done")
    reporter.said(["finished at step 4"])
    reporter.conclusion({}, ["examples:"])
    reporter.close()
    steps = [line.partition(" Loss")[0] for line in capsys.readouterr().out.splitlines()]
    assert steps == [
        "epoch 1/2 step 1/4", "saved checkpoint_epoch_2 (step 4)", "epoch 2/2 step 4/4", "finished at step 4",
        "examples:",
    ]  # fmt: skip


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
