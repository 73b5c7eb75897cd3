"""Runs side by side: only what differs, and statistics only where the runs are pairs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.recorded_runs import RecordedRun
from training.errors import UserError
from training.experiments.comparison import Difference
from training.experiments.side_by_side import SideBySide, side_by_side
from training.experiments.store.index import ExperimentStore

Record = Callable[..., RecordedRun]
START = 1_760_000_000.0


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Return a function that records a run: `record("a", total_steps=20)`."""
    return lambda name, **options: RecordedRun(tmp_path / name, start=START, **options)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ExperimentStore]:
    """Return the store of the runs."""
    with ExperimentStore(tmp_path) as opened:
        yield opened


def final_loss(rate: float, seed: int) -> float:
    return 1.0 + 10.0 * rate + 0.01 * seed + (0.001 if rate > 0.005 and seed == 2 else 0.0)


def recorded(
    record: Record, rate: float, seed: int, settings: dict[str, dict[str, Any]] | None = None, **options: Any
) -> str:
    name = options.pop("name", f"rate_{rate:g}_seed_{seed}")
    own = {"optimizer": {"learning_rate": rate}, "run": {"seed": seed, "run_dir": f"runs/{name}"}, **(settings or {})}
    is_over = options.pop("is_over", True)
    run = record(
        name, settings=own, validation=lambda epoch: final_loss(rate, seed) + 1.0 / epoch**9, **options
    ).train()
    (run.finish if is_over else run.flush)()
    return str(name)


def compared(store: ExperimentStore, names: list[str]) -> SideBySide:
    store.refresh()
    return side_by_side(store, names)


def test_pairs_are_compared_as_compare_does(store: ExperimentStore, record: Record) -> None:
    names = [recorded(record, rate, seed) for rate in (1e-3, 1e-2) for seed in (1, 2, 3)]
    found = compared(store, names)
    assert [run.name for run in found.runs] == names
    assert list(found.settings) == ["optimizer.learning_rate", "run.seed"]
    assert found.figures["val_loss"][found.runs[0].id] == pytest.approx(final_loss(1e-3, 1), abs=1e-6)
    assert len(found.curves[found.runs[0].id].loss) == 100
    (paired,) = found.statistics
    assert (paired.reference, paired.variant) == ({"optimizer.learning_rate": 1e-3}, {"optimizer.learning_rate": 1e-2})
    assert (paired.seeds, paired.measure) == ((1, 2, 3), "val_loss")
    expected = Difference.of("", [final_loss(1e-2, seed) - final_loss(1e-3, seed) for seed in (1, 2, 3)])
    assert paired.difference.deltas == pytest.approx(expected.deltas)
    assert paired.difference.mean == pytest.approx(expected.mean)
    assert paired.difference.p == pytest.approx(expected.p)
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["statistics"][0]["more_than_the_spread"] is True
    assert document["no_statistics"] == ""


def test_seeds_that_only_one_of_them_has_do_not_count(store: ExperimentStore, record: Record) -> None:
    names = [recorded(record, 1e-3, seed) for seed in (1, 2, 3, 4)]
    names += [recorded(record, 1e-2, seed) for seed in (3, 2, 1, 5)]
    (paired,) = compared(store, names).statistics
    assert paired.seeds == (1, 2, 3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"is_over": False}, "rate_0.01_seed_3 is not finished ("),
        ({"data": "another"}, "were trained on other data"),
        ({"settings": {"data": {"loss_on": "all"}}}, "no two settings were trained with the same 3 seeds or more"),
        ({"seed": 2, "name": "twin"}, "have the same settings and the same seed 2"),
        ({"seed": 7}, "no two settings were trained with the same 3 seeds or more"),
    ],
)
def test_what_is_no_pair_gets_no_statistics_and_it_says_why(
    store: ExperimentStore, record: Record, change: dict[str, Any], reason: str
) -> None:
    names = [recorded(record, 1e-3, seed) for seed in (1, 2, 3)] + [recorded(record, 1e-2, seed) for seed in (1, 2)]
    names.append(recorded(record, 1e-2, **{"seed": 3, **change}))
    found = compared(store, names)
    assert found.statistics == ()
    assert reason in found.no_statistics


def test_a_setting_that_decides_what_the_loss_is_of_is_not_compared(store: ExperimentStore, record: Record) -> None:
    names = [
        recorded(
            record, 1e-3, seed, name=f"{part}_{seed}", settings={"data": {"loss_on": part}, "model": {"model": "apt"}},
        )
        for part in ("answer", "all")
        for seed in (1, 2, 3)
    ]  # fmt: skip
    for name in names:
        with (store.root / name / "config.yaml").open("a") as config:
            config.write("task: hlbd\n")
    found = compared(store, names)
    assert found.statistics == ()
    assert found.no_statistics == "another loss_on makes the loss one of other tokens"


def test_the_same_settings_and_an_unfinished_loss_are_said(store: ExperimentStore, record: Record) -> None:
    for name in ("a", "b"):
        run = record(name, loss=lambda step: math.nan if step > 90 else 1.0)
        run.train().finish()
    found = compared(store, ["a", "b", "a"])
    assert len(found.runs) == 2
    assert found.settings == {}
    assert len(found.curves[found.runs[0].id].loss) == 90
    assert found.to_dict()["figures"]["loss"] == {run.id: None for run in found.runs}


@pytest.mark.parametrize(
    ("names", "message"), [(["a"], "from 2 to 20 runs"), (["a", "b"], "run b: there is no such run")]
)
def test_too_few_and_unknown_runs_are_refused(
    store: ExperimentStore, record: Record, names: list[str], message: str
) -> None:
    record("a").train(3).finish()
    store.refresh()
    with pytest.raises(UserError, match=message):
        side_by_side(store, names)
