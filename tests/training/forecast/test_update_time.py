"""Time from a few timed updates, over the real mix of batch lengths; expectations beside facts in the report."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apt_model.config import ModelConfig
from tests.support.small_apts import language_modeling
from training import TrainingConfig
from training.forecast.estimate import count_checkpoints
from training.forecast.update_time import Mix, extra_seconds, fit_pace, largest_of
from training.machine.ranks import Ranks
from training.machine.units import as_duration, as_size
from training.machine.usage import OtherLoad
from training.models.apt.cost import APTCost
from training.models.cost import BatchShape, work_of
from training.record.report import MAX_RANKS
from training.record.reporter import ProgressReporter, read_report
from training.tasks.batch_plan import BatchPlan
from training.tasks.rank_batches import Feed

if TYPE_CHECKING:
    from tests.conftest import FrontDoor, TinyDataset

MODEL = ModelConfig(d_model=64, num_layers=2, num_heads=4, d_ff=96, vocab_size=50)
COST = APTCost(MODEL)


@given(
    st.floats(0.001, 1.0),
    st.floats(1e-12, 1e-9),
    st.lists(st.floats(1e6, 1e10), min_size=2, max_size=30, unique=True),
)
def test_a_line_is_found_again(fixed: float, slope: float, amounts: list[float]) -> None:
    if max(amounts) < 1.01 * min(amounts):
        return
    pace = fit_pace(amounts, [fixed + slope * amount for amount in amounts])
    middle = sum(amounts) / len(amounts)
    assert pace.seconds(middle) == pytest.approx(fixed + slope * middle, rel=1e-6)


def test_times_that_shrink_with_work_are_noise() -> None:
    assert fit_pace([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]).seconds(100.0) == 2.0
    assert fit_pace([1.0, 2.0], [1.0, 3.0]).fixed == 0.0, "no work takes no less than no time"
    assert fit_pace([5.0, 5.0], [1.0, 3.0]).seconds(10.0) == pytest.approx(4.0)
    assert fit_pace([0.0], [1.0]).seconds(0.0) == 1.0


def test_few_short_updates_foretell_an_epoch_with_long_ones() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 200, size=4000)
    plan = BatchPlan(lengths, 16, seed=1, window=16)
    mix = Mix(plan, np.ones_like(lengths), 16, ranks=1)

    def takes(shapes: list[BatchShape]) -> float:
        return 0.01 + 1e-9 * work_of(COST, shapes)

    timed = sorted((mix.shapes(0, i) for i in range(32)), key=lambda s: s[0].width)[:24]
    pace = fit_pace([work_of(COST, shapes) for shapes in timed], [takes(shapes) for shapes in timed])
    foretold = sum(pace.seconds(work_of(COST, shapes)) for shapes in mix.updates())
    assert foretold == pytest.approx(sum(map(takes, mix.updates())), rel=1e-9)
    assert largest_of(mix.updates()).width == lengths.max() - 1


@given(st.integers(1, 80), st.integers(1, 12), st.integers(1, 30), st.integers(1, 4))
def test_the_mix_is_what_the_ranks_are_fed(count: int, batch_size: int, global_batch: int, ranks: int) -> None:
    lengths = np.arange(2, count + 2)
    plan = BatchPlan(lengths, global_batch, seed=3, window=2)
    mix = Mix(plan, np.ones_like(lengths), batch_size, ranks)
    for index in range(plan.steps_per_epoch):
        indices = plan.indices(0, index)
        share = indices[::ranks]
        shapes = mix.shapes(0, index)
        assert len(shapes) == -(-len(indices) // (ranks * batch_size)), "as many micro-batches as on every rank"
        assert sum(shape.samples for shape in shapes) == len(share)
        assert max(shape.width for shape in shapes) == lengths[share].max() - 1


def test_the_shapes_are_those_of_the_batches(tiny_dataset: TinyDataset) -> None:
    import torch

    from apt_model.tokenizer import DynamicTagTokenizer
    from training.tasks.hlbd.dataset import HLBDDataset
    from training.tasks.hlbd.files import load_corpus

    corpus = load_corpus([tiny_dataset(rows=30)])
    tokenizer = DynamicTagTokenizer.from_texts(text for s in corpus.samples for text in s[:2])
    dataset = HLBDDataset(corpus.samples, tokenizer, 64)
    task = language_modeling(MODEL)
    plan = BatchPlan(dataset.lengths, 8, seed=1, window=4)
    mix = Mix(plan, dataset.weights, 3, ranks=1)
    feed = Feed(task, dataset, Ranks(torch.device("cpu")), 3)
    for index in range(plan.steps_per_epoch):
        batches = list(feed.batches(plan.indices(0, index)))
        shapes = [(*b.tensors["tokens"].shape, b.weight) for b in batches]
        assert [tuple(shape) for shape in mix.shapes(0, index)] == shapes


def test_work_grows_with_everything_that_is_computed() -> None:
    base = COST.work(BatchShape(4, 10, 8))
    assert base < COST.work(BatchShape(5, 10, 8))
    assert base < COST.work(BatchShape(4, 11, 8))
    assert base < COST.work(BatchShape(4, 10, 9))
    assert base < APTCost(MODEL.model_copy(update={"num_layers": 3})).work(BatchShape(4, 10, 8))


@pytest.mark.parametrize(
    ("settings", "written", "kept"),
    [
        ({"save_interval": None}, 1, 1),
        ({"save_interval": 2}, 5, 5),
        ({"save_interval": 3}, 4, 4),
        ({"save_interval": 3, "save_steps": 25}, 7, 7),
        ({"save_interval": 2, "keep_last": 2}, 5, 2),
        ({"save_interval": 2, "keep_last": 2, "keep_best": True}, 15, 3),
    ],
)
def test_checkpoints_are_counted_as_the_loop_writes_them(settings: dict[str, Any], written: int, kept: int) -> None:
    config = TrainingConfig.from_dict({"checkpoint": settings})
    assert count_checkpoints(config, steps_per_epoch=10, total_steps=100) == (written, kept)


def test_sizes_and_durations_read_well() -> None:
    assert [as_size(n) for n in (640_000, 99_400_000, 1_236_000_000, 2.5e12)] == [
        "640 KB",
        "99.4 MB",
        "1.24 GB",
        "2.50 TB",
    ]
    assert [as_duration(s) for s in (0.44, 21.4, 200, 18_720, 100_000)] == [
        *("0.4 s", "21 s", "3 min 20 s", "5 h 12 min", "1 d 3 h"),
    ]


# -- the report ----------------------------------------------------------------------------------------------------


def test_a_run_tells_what_it_expected_and_what_came_true(
    front_door: FrontDoor, tiny_dataset: TinyDataset, tiny_flags: list[str], tmp_path: Path
) -> None:
    where: list[str | Path] = ["--datasets", tiny_dataset(), "--run-dir", tmp_path / "run"]
    assert front_door([*tiny_flags, *where, "--epochs", "15", "--save-interval", "5"]).exit_code == 0
    report = read_report(tmp_path / "run")
    assert report is not None
    beside = report["estimate"]
    assert set(beside) == {"peak_memory_bytes", "checkpoint_bytes", "training_seconds"}
    assert all(pair["expected"] > 0 and pair["actual"] > 0 for pair in beside.values())
    assert beside["training_seconds"]["actual"] == report["training_seconds"]
    assert beside["checkpoint_bytes"]["actual"] == report["checkpoints"][-1]["bytes"]
    assert report["memory"]["peak_bytes"] == [beside["peak_memory_bytes"]["actual"]]


def test_what_is_not_known_yet_is_null(tmp_path: Path) -> None:
    reporter = ProgressReporter(tmp_path)
    reporter.run_started(total_steps=10, steps_per_epoch=5)
    assert reporter.report.to_dict()["estimate"] == {}
    reporter.estimate(0, {"peak_memory_bytes": 100})
    reporter.estimate(3, {"training_seconds": 2.0})
    reporter.estimate(4, {})
    assert reporter.report.to_dict()["estimate"] == {
        "peak_memory_bytes": {"expected": 100, "actual": None},
        "training_seconds": {"expected": 2.0, "actual": None},
    }


def test_a_run_that_ended_early_is_not_compared_with_the_time_of_a_whole_one(tmp_path: Path) -> None:
    reporter = ProgressReporter(tmp_path)
    reporter.run_started(total_steps=10, steps_per_epoch=5)
    reporter.estimate(3, {"training_seconds": 2.0})
    reporter.step(step=5, epoch=1, loss=1.0)
    reporter.run_finished(reason="no better validation loss for 2 epochs")
    assert reporter.report.to_dict()["estimate"]["training_seconds"]["actual"] is None


def test_the_peak_of_a_resumed_run_is_that_of_all_its_processes(tmp_path: Path) -> None:
    reporter = ProgressReporter(tmp_path)
    reporter.run_started(total_steps=10)
    reporter.memory(5, "resident", [300, 100])
    reporter.memory(6, "resident", [])
    reporter.flush()
    again = ProgressReporter(tmp_path)
    again.run_resumed(5, total_steps=10)
    again.memory(8, "resident", [200, 250])
    assert again.report.to_dict()["memory"] == {"kind": "resident", "peak_bytes": [300, 250]}
    again.memory(9, "resident", [50])
    assert again.report.to_dict()["memory"]["peak_bytes"] == [50], "another number of ranks begins anew"
    again.memory(9, "resident", [1] * 5000)
    assert len(again.report.to_dict()["memory"]["peak_bytes"]) == MAX_RANKS


# -- what else runs ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux tells how busy its processors are")
def test_what_another_program_computes_is_seen() -> None:
    load = OtherLoad()
    burning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.6)
        share = load.share()
    finally:
        burning.kill()
        burning.wait()
    assert share is not None
    # Half a processor at least, whatever else goes on; it is no child of ours that has ended, so it is another program.
    assert share > 0.2 / (os.cpu_count() or 1)


@given(st.floats(0.01, 1e4), st.floats(0.0, 1e4), st.floats(0.0, 1e4))
def test_our_own_work_is_no_other_program_s(seconds: float, own: float, others: float) -> None:
    books = iter([(100.0, 50.0, 20.0), (100.0 + seconds, 50.0 + own + others, 20.0 + own)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.machine.usage._now", lambda: next(books))
        share = OtherLoad().share()
    expected = min(1.0, others / (seconds * (os.cpu_count() or 1)))
    assert share == pytest.approx(expected, abs=1e-6 / seconds)


def test_warming_up_is_counted_once() -> None:
    pace = fit_pace([1.0, 2.0], [0.1, 0.2])
    assert extra_seconds(pace, [1.0, 1.0], [0.5, 0.3]) == pytest.approx(0.6)
    assert extra_seconds(pace, [2.0], [0.1]) == 0.0, "a quick start is no gain for later"
    assert extra_seconds(pace, [], []) == 0.0
