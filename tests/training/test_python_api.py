"""The notebook user's door: the examples of docs/PYTHON_API.md are run as they stand, and callbacks are called."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from training import TrainingConfig
from training.checkpoints.checkpoint import load_checkpoint
from training.checkpoints.finished_model import load_trained_model
from training.engines.results import EvaluationResult, UpdateResult
from training.errors import UserError
from training.loop.callbacks import Callback, RunView
from training.loop.trainer import Trainer
from training.machine.units import as_size
from training.tasks.hlbd.task import HLBDTask
from training.tasks.objective import ModuleObjective
from training.train import main

ROOT = Path(__file__).resolve().parents[2]


def examples(page: str) -> dict[str, str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return dict(re.findall(r"<!-- example: (\w+) -->\n```python\n(.*?)```", text, flags=re.DOTALL))


@pytest.mark.parametrize("page", ["PYTHON_API.md", "zh-CN/PYTHON_API.md"])
@pytest.mark.parametrize("name", ["hlbd", "own"])
def test_an_example_of_the_docs_runs_as_it_stands(
    page: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(examples(page)[name], f"{page}:{name}", "exec"), {})
    assert re.search(r"(finished|stopped) \d+", capsys.readouterr().out)


def squared_error(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    loss: torch.Tensor = ((model(batch["x"]).squeeze(1) - batch["y"]) ** 2).sum()
    return loss


ROWS = [{"x": torch.tensor([n / 10.0, 1.0]), "y": torch.tensor(n / 5.0)} for n in range(20)]
TASK = ModuleObjective(model=lambda: nn.Linear(2, 1), loss=squared_error)


def make_config(run_dir: Path, **run: Any) -> TrainingConfig:
    return TrainingConfig.from_dict({
        "run": {"run_dir": run_dir, "epochs": 3, "batch_size": 6, **run},
        "optimizer": {"learning_rate": 0.02},
        "schedule": {"schedule": "constant"},
        "checkpoint": {"save_interval": 2},
    })  # fmt: skip


class Diary(Callback):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_run_start(self, trainer: RunView) -> None:
        self.lines.append("start")

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        self.lines.append(f"step {trainer.step}")

    def on_evaluation(self, trainer: RunView, result: EvaluationResult) -> None:
        self.lines.append("evaluation")

    def on_epoch(self, trainer: RunView, epoch: int) -> None:
        self.lines.append(f"epoch {epoch}")

    def on_checkpoint(self, trainer: RunView, path: Path) -> None:
        assert path.exists()
        self.lines.append(path.name)

    def on_run_end(self, trainer: RunView, figures: Mapping[str, Any]) -> None:
        self.lines.append("end")


def test_callbacks_hear_of_everything_in_order(tmp_path: Path) -> None:
    diary = Diary()
    config = make_config(tmp_path / "run", epochs=2)
    Trainer(config, ROWS, ROWS[:4], objective=TASK, device="cpu", callbacks=[diary]).train()
    # Twenty rows in batches of six: four updates an epoch, the last one with two rows.
    assert diary.lines == [
        "start", "step 1", "step 2", "step 3", "step 4", "evaluation", "epoch 1",
        "step 5", "step 6", "step 7", "step 8", "evaluation", "epoch 2", "checkpoint_epoch_2", "end",
    ]  # fmt: skip


def test_a_callback_can_stop_the_run_and_the_run_can_be_resumed(tmp_path: Path) -> None:
    class StopAtFive(Callback):
        def on_step(self, trainer: RunView, result: UpdateResult) -> None:
            if trainer.step == 5:
                trainer.stop()

    config = make_config(tmp_path / "run")
    stopped = Trainer(config, ROWS, objective=TASK, device="cpu", callbacks=[StopAtFive()]).train()
    assert (stopped.state, stopped.step, stopped.exit_code) == ("stopped", 5, 0)
    resumed = Trainer(config, ROWS, objective=TASK, device="cpu", resume=True)
    assert resumed.step == 5
    assert resumed.train().step == 12
    straight = Trainer(make_config(tmp_path / "straight"), ROWS, objective=TASK, device="cpu")
    straight.train()
    pairs = zip(resumed.engine.model().parameters(), straight.engine.model().parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_an_error_in_a_callback_is_the_users_own_and_the_report_says_that_the_run_failed(tmp_path: Path) -> None:
    class Faulty(Callback):
        def on_step(self, trainer: RunView, result: UpdateResult) -> None:
            raise ZeroDivisionError("my own fault")

    with pytest.raises(ZeroDivisionError):
        Trainer(make_config(tmp_path / "run"), ROWS, objective=TASK, device="cpu", callbacks=[Faulty()]).train()
    report = json.loads((tmp_path / "run" / "experiment_report.json").read_text(encoding="utf-8"))
    assert report["state"] == "failed"
    assert report["error"] == "ZeroDivisionError: my own fault"


def test_early_stopping_ends_a_run_that_no_longer_gets_better_and_resuming_it_does_not_train_on(tmp_path: Path) -> None:
    config = make_config(tmp_path / "run", epochs=50).model_copy(
        update={"optimizer": make_config(tmp_path).optimizer.model_copy(update={"learning_rate": 1e-12})}
    )
    config = config.model_copy(
        update={
            "checkpoint": config.checkpoint.model_copy(update={"early_stopping_patience": 2, "save_interval": None}),
            "schedule": config.schedule.model_copy(update={"min_lr": 0.0}),
        }
    )
    steps = Trainer(config, ROWS, ROWS[:4], objective=TASK, device="cpu").train().step
    report = json.loads((tmp_path / "run" / "experiment_report.json").read_text(encoding="utf-8"))
    assert steps < 200
    assert "no better validation loss for 2 epochs" in report["reason"]
    assert Trainer(config, ROWS, ROWS[:4], objective=TASK, device="cpu", resume=True).train().step == steps


def test_rotation_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    config = make_config(tmp_path / "run", epochs=6)
    config = config.model_copy(
        update={
            "checkpoint": config.checkpoint.model_copy(update={"save_interval": 1, "keep_last": 2, "keep_best": True})
        }
    )
    Trainer(config, ROWS, objective=TASK, device="cpu").train()
    kept = sorted(p.name for p in (tmp_path / "run").glob("checkpoint_*"))
    assert kept == ["checkpoint_best", "checkpoint_epoch_5", "checkpoint_epoch_6"]
    report = json.loads((tmp_path / "run" / "experiment_report.json").read_text(encoding="utf-8"))
    assert load_checkpoint(tmp_path / "run" / "checkpoint_best")["step"] == report["best"]["step"]


def test_updates_that_stay_not_finite_stop_the_run_with_advice_and_good_weights(tmp_path: Path) -> None:
    def breaks_after_four(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        calls.append(1)
        return squared_error(model, batch) * (float("nan") if len(calls) > 4 else 1.0)

    calls: list[int] = []
    task = ModuleObjective(model=lambda: nn.Linear(2, 1), loss=breaks_after_four)
    config = make_config(tmp_path / "run", epochs=20)
    config = config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"max_skipped_updates": 3})})
    trainer = Trainer(config, ROWS, objective=task, device="cpu")
    with pytest.raises(UserError, match="3 updates in a row had a loss or gradient that is not finite"):
        trainer.train()
    assert all(torch.isfinite(p).all() for p in trainer.engine.model().parameters())
    report = json.loads((tmp_path / "run" / "experiment_report.json").read_text(encoding="utf-8"))
    assert report["num_skipped_updates"] == 3
    assert report["curve"]["loss"][4:] == [None, None, None], "a number that is not finite is written as null"
    assert "skipped" in report["warnings"][0]["message"]


def test_a_run_is_shown_on_the_terminal_unless_it_is_switched_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Trainer(make_config(tmp_path / "shown"), ROWS, ROWS[:4], objective=TASK, device="cpu").train()
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "model   module 3 parameters"
    assert shown[1].startswith(f"run     {tmp_path / 'shown'} on cpu, fp32, 12 steps")
    assert any(line.startswith("epoch 3/3 step 12/12 Loss ") for line in shown)
    assert f"saved   {tmp_path}/shown/final_model.pt and {tmp_path}/shown/final_model/" in shown
    Trainer(make_config(tmp_path / "silent"), ROWS, objective=TASK, device="cpu", progress=False).train()
    assert "".join(capsys.readouterr()) == ""


def test_a_module_s_final_weights_are_saved_and_load_into_it(tmp_path: Path) -> None:
    trainer = Trainer(make_config(tmp_path / "run"), ROWS, objective=TASK, device="cpu")
    trainer.train()
    mine = nn.Linear(2, 1)
    mine.load_state_dict(load_file(tmp_path / "run" / "final_model" / "model.safetensors"))
    pairs = zip(mine.parameters(), trainer.engine.model().parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    for form in (".", "final_model", "final_model.pt"):
        with pytest.raises(UserError, match=r"your own code builds; load them into it with module\.load_"):
            load_trained_model(tmp_path / "run" / form)


def test_a_task_s_final_model_is_saved_as_from_the_command_line_and_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data.json"
    rows = [{"input": f"{n}加{n}", "output": str(2 * n)} for n in range(20)]
    data.write_text(json.dumps({"data": {"sums": rows}}), encoding="utf-8")
    settings = {
        "datasets": [str(data)], "d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16, "max_seq_len": 16,
        "epochs": 2, "batch_size": 5,
    }  # fmt: skip
    config = TrainingConfig.from_dict({**settings, "run_dir": tmp_path / "python"})
    result = Trainer.of(HLBDTask().prepare(config), device="cpu").train()
    assert result.figures["recitation"]["sums"]["asked"] == 20
    assert "answers to 20 of 20 training questions" in capsys.readouterr().out
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items() if key != "datasets"]
    preset = ["--learning-rate=0.0003", "--device=cpu", f"--datasets={data}", f"--run-dir={tmp_path / 'line'}"]
    kept = config.to_dict()
    same = [f"--{key}={kept[section][key.replace('-', '_')]}" for section, key in
            (("optimizer", "weight-decay"), ("schedule", "schedule"), ("schedule", "restart-epochs"))]  # fmt: skip
    monkeypatch.setattr("training.run.LARGE_FILE", 1)
    assert main([*flags, *preset, *same]) == 0
    assert f"data    reading {data} ({as_size(data.stat().st_size)})" in capsys.readouterr().out
    python, line = (load_trained_model(tmp_path / name / "final_model").model for name in ("python", "line"))
    assert all(torch.equal(a, b) for a, b in zip(python.parameters(), line.parameters(), strict=True))


def test_a_dataset_needs_an_objective(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="objective"):
        Trainer(make_config(tmp_path / "run"), ROWS, device="cpu")  # type: ignore[call-arg]
    assert not (tmp_path / "run").exists()


def test_a_schedule_that_is_stretched_by_a_resume_says_so_in_the_report(tmp_path: Path) -> None:
    def config(epochs: int) -> TrainingConfig:
        made = make_config(tmp_path / "run", epochs=epochs)
        return made.model_copy(update={"schedule": made.schedule.model_copy(update={"schedule": "cosine"})})

    Trainer(config(2), ROWS, objective=TASK, device="cpu").train()
    Trainer(config(4), ROWS, objective=TASK, device="cpu", resume=True).train()
    report = json.loads((tmp_path / "run" / "experiment_report.json").read_text(encoding="utf-8"))
    assert "the cosine schedule now ends at step 16, it was planned to end at 8" in report["warnings"][0]["message"]
    assert report["step"] == 16
