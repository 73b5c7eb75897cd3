"""--backend huggingface: transformers' Trainer owns the loop, and the curve is still playground's, bit for bit."""

from __future__ import annotations

import inspect
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from apt_model.tokenizer import DynamicTagTokenizer
from tests.support.small_apts import language_modeling
from training.checkpoints.checkpoint import list_checkpoints, load_checkpoint
from training.checkpoints.finished_model import load_trained_model
from training.loop.transformers_loop import HuggingFaceTrainer
from training.loop.weight_snapshots import snapshot_files
from training.record.reporter import Event, read_events
from training.settings.other_names import TRAINING_ARGUMENTS
from training.tasks.language_modeling import LanguageModeling
from training.tasks.objective import Batch, LossSum
from training.train_hf_trainer import _callback

if TYPE_CHECKING:
    from tests.conftest import FrontDoor, Outcome, TinyDataset, Train

pytestmark = pytest.mark.slow

# 32 rows in updates of 10 samples, cut into batches of 3: the last batch of an update and the last update of an epoch
# are smaller ones.
FLAGS = [
    *("--d-model", "16", "--num-layers", "1", "--num-heads", "2", "--d-ff", "16", "--device", "cpu"),
    *("--batch-size", "3", "--global-batch-size", "10", "--learning-rate", "0.01", "--epochs", "3"),
    *("--answer-samples", "0", "--validation-split", "0.1", "--report-batches", "1", "--save-interval", "1"),
]

Run = Callable[..., "Outcome"]


@pytest.fixture
def run(front_door: FrontDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("huggingface", "--dropout", "0.1")`: a run in `tmp_path/huggingface`, on the data of this test."""
    rows = [
        {"input": f"问题 {n} + {n * n}？" + "啊" * (n % 5), "output": str(n * 7 % 13) * (1 + n % 3)} for n in range(32)
    ]
    data = tmp_path / "rows.json"
    data.write_text(json.dumps({"data": {"sums": rows}}, ensure_ascii=False), encoding="utf-8")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def train(backend: str, *more: str, into: str | None = None) -> Outcome:
        where = ["--datasets", str(data), "--run-dir", str(tmp_path / (into or backend))]
        return front_door(["--backend", backend, *FLAGS, *where, *more])

    return train


def steps(run_dir: Path) -> list[Event]:
    return [e for e in read_events(run_dir / "progress.jsonl") if e["event"] == "step"]


FIGURES = ("step", "epoch", "batch", "loss", "accuracy", "grad_norm", "learning_rate", "tokens", "loss_tokens")


def assert_same_run(a: Path, b: Path) -> None:
    """The same figures at every step, and the same weights at the end: to the bit."""
    ours, theirs = steps(a), steps(b)
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert [one[key] for key in FIGURES] == [other[key] for key in FIGURES]
        assert one.get("clipped") == other.get("clipped")
        assert one.get("skipped") == other.get("skipped")
    first, second = (load_trained_model(path / "final_model").model.state_dict() for path in (a, b))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    mine, wanted = ([(taken, file.read_bytes()) for taken, file in snapshot_files(path)] for path in (a, b))
    assert len(wanted) > 3, "and along the way"
    assert mine == wanted


# -- the same curve ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param([], id="default"),
        pytest.param(["--dropout", "0.2", "--max-grad-norm", "0.3"], id="dropout and clipping"),
        pytest.param(["--optimizer", "muon", "--max-grad-norm", "none"], id="two optimizers, no clipping"),
        pytest.param(["--stabilizer", "dbc_dac", "--dbc-rank", "4"], id="stabilizer"),
        pytest.param(["--precision", "bf16", "--gradient-checkpointing"], id="bf16, recomputed activations"),
        pytest.param(["--label-smoothing", "0.1", "--schedule", "cosine", "--warmup-steps", "3"], id="smoothed labels"),
        pytest.param(["--global-batch-size", "64"], id="an update larger than the data"),
    ],
)
def test_the_backend_does_not_change_the_curve(run: Run, tmp_path: Path, asked: list[str]) -> None:
    for backend in ("playground", "huggingface"):
        done = run(backend, *asked)
        assert done.exit_code == 0, done
    assert_same_run(tmp_path / "huggingface", tmp_path / "playground")


def test_an_update_without_a_finite_gradient_is_left_out_as_everywhere(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = LanguageModeling.loss

    def sometimes_nan(self: LanguageModeling, model: nn.Module, batch: Batch) -> LossSum:
        found = right(self, model, batch)
        return found._replace(loss=found.loss * math.nan) if model.training and batch.seed % 5 == 0 else found

    monkeypatch.setattr(LanguageModeling, "loss", sometimes_nan)
    for backend in ("playground", "huggingface"):
        done = run(backend)
        assert done.exit_code == 0, done
    assert 0 < sum(bool(e.get("skipped")) for e in steps(tmp_path / "huggingface")) < 9
    assert_same_run(tmp_path / "huggingface", tmp_path / "playground")


# -- what a user of transformers finds -----------------------------------------------------------------------------


class Diary(TrainerCallback):  # type: ignore[misc]
    """Notes what it is told, with the figures."""

    pages: list[tuple[str, int, dict[str, Any]]]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        Diary.pages = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        Diary.pages.append(("log", state.global_step, dict(logs or {})))

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        Diary.pages.append(("evaluate", state.global_step, dict(metrics)))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert (Path(args.output_dir) / f"checkpoint-{state.global_step}" / "model.safetensors").is_file()
        Diary.pages.append(("save", state.global_step, {}))


class StopAtFive(TrainerCallback):  # type: ignore[misc]
    """Ends the run by itself."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step >= 5


class SaveAndEvaluateAtTwo(TrainerCallback):  # type: ignore[misc]
    """Asks for more than the settings do."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_save = control.should_evaluate = state.global_step == 2


def test_callbacks_hear_of_logs_validations_and_checkpoints(run: Run, tmp_path: Path) -> None:
    done = run("huggingface", "--trainer-callbacks", f"{__name__}:Diary", "--hf", "logging_steps=2")
    assert done.exit_code == 0, done
    # The backend imported this file by its own name; that class is the one that was told.
    pages = Diary.pages
    assert [step for name, step, _ in pages if name == "save"] == [3, 6, 9]
    told = {step: logs for name, step, logs in pages if name == "log" and "loss" in logs}
    assert list(told) == [2, 4, 6, 8]
    losses = {e["step"]: e["loss"] for e in steps(tmp_path / "huggingface")}
    for step, logs in told.items():
        assert logs["loss"] == pytest.approx((losses[step - 1] + losses[step]) / 2, rel=1e-5)
    evaluated = [(step, metrics["eval_loss"]) for name, step, metrics in pages if name == "evaluate"]
    recorded = [e for e in read_events(tmp_path / "huggingface" / "progress.jsonl") if e["event"] == "eval"]
    assert evaluated == [(e["step"], e["loss"]) for e in recorded]


def test_a_callback_is_found_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "from transformers import TrainerCallback\n\nclass Mine(TrainerCallback):\n    pass\n"
    (tmp_path / "my_callbacks_here.py").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert _callback("my_callbacks_here:Mine", TrainerCallback).__name__ == "Mine"


def test_a_callback_that_ends_the_training_leaves_a_run_that_goes_on_exactly(run: Run, tmp_path: Path) -> None:
    assert run("playground").exit_code == 0
    stopped = run("huggingface", "--trainer-callbacks", f"{__name__}:StopAtFive")
    assert "stopped at step 5" in stopped.stdout, stopped
    assert run("huggingface", "--resume").exit_code == 0
    record = json.loads((tmp_path / "huggingface" / "experiment_report.json").read_text(encoding="utf-8"))
    assert record["curve"]["step"] == list(range(1, 10))
    uninterrupted = {e["step"]: e["loss"] for e in steps(tmp_path / "playground")}
    assert {e["step"]: e["loss"] for e in steps(tmp_path / "huggingface")} == uninterrupted


def test_a_callback_can_ask_for_a_checkpoint_and_a_validation(run: Run, tmp_path: Path) -> None:
    done = run("huggingface", "--trainer-callbacks", f"{__name__}:SaveAndEvaluateAtTwo")
    assert done.exit_code == 0, done
    assert (tmp_path / "huggingface" / "checkpoint-2" / "manifest.json").is_file()
    recorded = [e["step"] for e in read_events(tmp_path / "huggingface" / "progress.jsonl") if e["event"] == "eval"]
    assert recorded == [2, 3, 6, 9]


def test_its_log_history_goes_on_over_a_resume(run: Run, tmp_path: Path) -> None:
    every_step = ["--hf", "logging_steps=1"]
    assert run("huggingface", "--trainer-callbacks", f"{__name__}:StopAtFive", *every_step).exit_code == 0
    assert run("huggingface", "--resume", *every_step).exit_code == 0
    newest = list_checkpoints(tmp_path / "huggingface")[0][0][1]
    state = json.loads((newest / "trainer_state.json").read_text(encoding="utf-8"))
    assert state["global_step"] == 9
    assert [entry["step"] for entry in state["log_history"] if "loss" in entry] == list(range(1, 9))


def test_a_checkpoint_opens_with_transformers_alone(run: Run, tmp_path: Path) -> None:
    assert run("huggingface").exit_code == 0
    checkpoint = tmp_path / "huggingface" / "checkpoint-9"
    theirs = AutoModelForCausalLM.from_pretrained(checkpoint, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=True)
    ours = load_trained_model(checkpoint)
    ids = DynamicTagTokenizer.from_dict(ours.artefacts["tokenizer"]).prompt_ids("问题 3 + 9？")
    assert tokenizer("问题 3 + 9？")["input_ids"] == ids
    tokens_BT = torch.tensor([ids])
    with torch.no_grad():
        assert torch.equal(theirs(input_ids=tokens_BT, use_cache=False).logits, ours.model(tokens_BT))


def test_the_best_model_is_the_final_one_where_that_is_asked_for(run: Run, tmp_path: Path) -> None:
    # So high a rate that the first epoch is the best.
    asked = ["--load-best-model-at-end", "--learning-rate", "0.3", "--schedule", "constant", "--epochs", "6"]
    for backend in ("playground", "huggingface"):
        done = run(backend, *asked)
        assert done.exit_code == 0, done
        best = load_checkpoint(tmp_path / backend / "checkpoint_best")
        assert best["step"] < 18
        assert f"that of step {best['step']}" in done.stdout
        final = load_trained_model(tmp_path / backend / "final_model").model.state_dict()
        assert all(torch.equal(tensor, final[name]) for name, tensor in best["engine"]["model"].items())


def test_early_stopping_alone_holds_data_back_and_ends_the_run(run: Run, tmp_path: Path) -> None:
    asked = ["--early-stopping", "--learning-rate", "0.3", "--schedule", "constant", "--epochs", "30"]
    done = run("huggingface", *asked, "--early-stopping-patience", "2")
    assert done.exit_code == 0, done
    record = json.loads((tmp_path / "huggingface" / "experiment_report.json").read_text(encoding="utf-8"))
    assert record["state"] == "finished"
    assert record["step"] < 90
    assert "no better validation loss for 2 epochs" in json.dumps(record)


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "parts"),
    [
        (["--hf", "logging_step=5"], ["logging_step", "did you mean 'logging_steps'?"]),
        (["--hf", "learning_rate=1"], ["learning_rate=1", "--learning-rate"]),
        (["--hf", "fsdp=full_shard"], ["FSDP is not supported", "--deepspeed"]),
        (["--hf", "logging_steps"], ["should be key=value"]),
        (["--hf", "logging_steps=1", "logging_steps=2"], ["given twice"]),
        (["--hf", "logging_steps=many"], ["transformers refuses it", "logging_steps=many"]),
        (["--fp16"], ["fp16", "needs a GPU"]),
        (["--trainer-callbacks", "json:dumps"], ["json:dumps", "TrainerCallback"]),
        (["--trainer-callbacks", "no_such_module:C"], ["no_such_module", "cannot be imported"]),
        (["--trainer-callbacks", "Diary"], ["package.module:Class"]),
        (["--deepspeed", "no_such.json"], ["no_such.json", "ds_config"]),
        (["--deepspeed", "ds_config", "--optimizer", "muon"], ["optimizer=muon", "ZeRO"]),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing_behind(
    run: Run, tmp_path: Path, asked: list[str], parts: list[str]
) -> None:
    refused = run("huggingface", *asked)
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: ")
    assert refused.stderr.count("\n") == 1
    for part in parts:
        assert part in refused.stderr
    assert not (tmp_path / "huggingface").exists()


@pytest.mark.parametrize(
    ("document", "parts"),
    [
        ({"zero_optimization": {"stage": 0}}, ["stage is 0", "1, 2 or 3"]),
        ({"zero_optimization": {"stage": 5}}, ["stage is 5"]),
        ({"train_batch_size": 7, "zero_optimization": {"stage": 2}}, ["train_batch_size is 7", "--global-batch-size"]),
        (
            {"optimizer": {"type": "AdamW", "params": {"lr": 0.5}}, "zero_optimization": {"stage": 1}},
            ["optimizer.params.lr is 0.5", "--learning-rate"],
        ),
        ({"scheduler": {"type": "WarmupLR"}, "zero_optimization": {"stage": 1}}, ["scheduler", "--schedule"]),
        ({"bf16": {"enabled": True}, "zero_optimization": {"stage": 1}}, ["bf16.enabled", "--precision"]),
    ],
)
def test_a_deepspeed_file_that_contradicts_the_settings_is_refused(
    run: Run, tmp_path: Path, document: dict[str, Any], parts: list[str]
) -> None:
    file = tmp_path / "ds.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    refused = run("huggingface", "--deepspeed", str(file))
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"error: --deepspeed {file}")
    assert refused.stderr.count("\n") == 1
    for part in parts:
        assert part in refused.stderr


def test_a_share_may_be_smaller_than_a_micro_batch_may_be_with_a_deepspeed_file_too(
    train: Train, tiny_dataset: TinyDataset
) -> None:
    words = [*FLAGS, "--deepspeed", "ds_config", "--batch-size", "16", "--max-steps", "2", "--run-dir", "run"]
    done = train(["--backend", "huggingface", *words, "--datasets", tiny_dataset()])
    assert done.returncode == 0, done.stderr
    assert "finished at step 2" in done.stdout


def test_a_checkpoint_of_another_model_or_of_another_program_is_refused(run: Run, tmp_path: Path) -> None:
    assert run("huggingface").exit_code == 0
    other = run("huggingface", "--d-model", "32", "--resume", str(tmp_path / "huggingface" / "checkpoint-6"))
    assert other.exit_code == 2
    assert "d_model was 16 in the run and is 32 now" in other.stderr
    foreign = tmp_path / "elsewhere" / "checkpoint-500"
    transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2)).save_pretrained(foreign)
    refused = run("huggingface", "--resume-from-checkpoint", str(foreign), into="fresh")
    assert refused.exit_code == 2
    assert "no manifest.json" in refused.stderr
    assert refused.stderr.count("\n") == 1


# -- transformers' own -----------------------------------------------------------------------------------------------


def test_every_owned_argument_is_one_that_transformers_has() -> None:
    known = inspect.signature(transformers.TrainingArguments).parameters
    of_scripts = {"do_train", "do_eval", "do_predict"}
    assert TRAINING_ARGUMENTS.keys() - known.keys() <= of_scripts


@pytest.mark.parametrize(
    "name",
    [
        "_clip_grad_norm", "_get_grad_norm", "_prepare_for_training", "_load_from_checkpoint", "_load_rng_state",
        "_save_checkpoint", "_evaluate",
    ],
)  # fmt: skip
def test_transformers_still_has_each_part_that_we_take_the_place_of(name: str) -> None:
    ours, theirs = (inspect.signature(getattr(c, name)) for c in (HuggingFaceTrainer, transformers.Trainer))
    assert list(ours.parameters) == list(theirs.parameters)


def test_smoothed_labels_count_in_training_alone() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(1))

    class Fixed(nn.Module):
        def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
            return logits

    from apt_model.config import ModelConfig

    task = language_modeling(ModelConfig(vocab_size=7), label_smoothing=0.2)
    targets = torch.tensor([0, 1, 2, 3, 4])
    batch = Batch({"tokens": targets, "positions": targets, "targets": targets}, weight=5, tokens=5, num_samples=1)
    model = Fixed()
    log_probabilities = logits.log_softmax(-1)
    true = -log_probabilities[torch.arange(5), targets].sum()
    smoothed = 0.8 * true - 0.2 * log_probabilities.mean(-1).sum()
    assert task.loss(model.train(), batch).loss == pytest.approx(float(smoothed), rel=1e-6)
    assert task.loss(model.eval(), batch).loss == pytest.approx(float(true), rel=1e-6)
