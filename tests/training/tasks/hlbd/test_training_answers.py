"""Questions asked at the end of a run: as many as the time allows, evenly chosen, the same ones each time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.third_party.task.apt_reversal_task import ReversalTask
from training import TrainingConfig
from training.record.reporter import read_report
from training.tasks.hlbd.dataset import HLBDDataset
from training.tasks.hlbd.files import load_corpus
from training.tasks.hlbd.task import MOST_ANSWERS, HLBDTask, prepared_from_datasets, tokenizer_of
from training.tasks.hlbd.training_answers import FIRST_QUESTIONS, recite, spread_order
from training.tasks.protocol import Conclusion, Prepared

if TYPE_CHECKING:
    from tests.conftest import FrontDoor

SMALL = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16}


@given(st.integers(1, 3000), st.integers(0, 8))
def test_every_beginning_of_the_order_is_spread_evenly(count: int, power: int) -> None:
    order = spread_order(count)
    assert sorted(order) == list(range(count))
    asked = 2**power
    if asked <= count // 2:
        places = [-1, *sorted(order[:asked]), count]
        gaps = [after - before for before, after in itertools.pairwise(places)]
        assert max(gaps) <= 4 * count / asked + 1


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    corpus = load_corpus(["HLBD_Hardcore_Full.json"])
    dataset = HLBDDataset(corpus.samples[::2], tokenizer_of(corpus), 64)
    return prepared_from_datasets(TrainingConfig.from_dict({"model": SMALL}), dataset)


@pytest.fixture(scope="module")
def model(prepared: Prepared) -> nn.Module:
    return prepared.objective.build_model()


def test_as_many_are_asked_as_fit_into_the_time(prepared: Prepared, model: nn.Module) -> None:
    def ticks() -> Iterator[float]:
        yield 100.0
        for asked in (16, 50):  # a tenth of a second for each question: 34 more fit into the 3.4 s that are left
            yield 100.0 + 0.1 * asked

    train: HLBDDataset = prepared.train
    clock = ticks()
    found = recite(model, train.tokenizer, train.samples, 5.0, lambda: next(clock))
    expected = sorted(spread_order(len(train.samples))[:50])
    assert [one.sample for one in found] == [train.samples[i] for i in expected]
    whole = recite(model, train.tokenizer, train.samples)
    assert [one.answer for one in found] == [whole[i].answer for i in expected]
    modules = {one.sample.module for one in found}
    assert modules == {sample.module for sample in train.samples}


def conclusion(prepared: Prepared, model: nn.Module, answer_samples: int | None, seconds: float) -> Conclusion:
    report = prepared.config.report.model_copy(update={"answer_samples": answer_samples})
    config = prepared.config.model_copy(update={"report": report})
    return HLBDTask().conclude(model, replace(prepared, config=config, seconds_to_conclude=seconds))


def test_a_budget_that_is_used_up_is_said_and_a_number_of_the_users_is_honoured(
    prepared: Prepared, model: nn.Module
) -> None:
    number = len(prepared.train.samples)
    cut = conclusion(prepared, model, None, 0.0)
    assert cut.lines[0].startswith(f"answers to {FIRST_QUESTIONS} of {number} training questions")
    assert cut.lines[1] == f"  (as many as fit into 0.0 s; --answer-samples {number} asks them all)"
    assert sum(module["asked"] for module in cut.figures["recitation"].values()) == FIRST_QUESTIONS
    for asked in (50, number, 10 * number):
        whole = conclusion(prepared, model, asked, 0.0)
        assert whole.lines[0].startswith(f"answers to {min(asked, number)} of {number} training questions")
        assert not whole.lines[1].startswith("  (")
    assert conclusion(prepared, model, 0, 1e9) == Conclusion()
    assert number < MOST_ANSWERS
    assert conclusion(prepared, model, None, 1e9).lines[0].startswith(f"answers to {number} of {number}")


class NotingTask(ReversalTask):
    """A task that notes how long it may look at its finished model."""

    def conclude(self, model: nn.Module, prepared: Prepared) -> Conclusion:
        """Return the time."""
        return Conclusion({"time": {"seconds": prepared.seconds_to_conclude}})


def test_any_task_is_told_how_long_its_look_at_the_model_may_take(front_door: FrontDoor, tmp_path: Path) -> None:
    flags = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    task = f"{__name__}:NotingTask"
    done = front_door(["--task", task, *flags, "--max-steps", "2", "--device", "cpu", "--run-dir", tmp_path / "run"])
    assert done.exit_code == 0, done.stderr
    report = read_report(tmp_path / "run") or {}
    assert report["time"] == {"seconds": max(2.0, 0.1 * report["training_seconds"])}
