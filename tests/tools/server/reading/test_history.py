"""The history of a run: thinned so that extremes and marks stay, the same whether read at once or as the log grew."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.recorded_runs import RecordedRun
from tools.server.reading.history import AXES, Buckets, Evaluations, FollowedCurve, HistoryCache, RunCurve
from training.record.history import History
from training.record.log import LOG_NAME, read_events
from training.record.reporter import ProgressReporter

VALUES = st.lists(
    st.one_of(st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf, -math.inf]), st.none()), max_size=120
)
"""Series of a figure; None: it was not measured."""


def is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def bucketed(series: Sequence[float | None], most: int) -> Buckets:
    buckets = Buckets(most)
    for step, value in enumerate(series, start=1):
        figures = {"loss": value} if value is not None and math.isfinite(value) else {}
        bad = ["loss"] if value is not None and not math.isfinite(value) else []
        buckets.add((step, step / 2, step * 10, step / 7), figures, bad)
    return buckets


@given(VALUES, st.sampled_from([2, 4, 8, 64]), st.integers(1, 40))
@settings(max_examples=300, deadline=None)
def test_thinning_keeps_extremes_and_marks(series: list[float | None], most: int, points: int) -> None:
    thinned = bucketed(series, most).thinned(points)
    assert len(thinned) <= min(most, points)
    assert thinned.rows == len(series)
    finite = [value for value in series if is_finite(value)]
    bad = {n for n, value in enumerate(series, start=1) if value is not None and not is_finite(value)}
    if not finite and not bad:
        assert "loss" not in thinned.columns
        return
    column, steps = thinned.columns["loss"], [0, *map(int, thinned.axes["step"])]
    assert steps[-1] == len(series)
    for n in range(len(thinned)):
        inside = range(steps[n] + 1, steps[n + 1] + 1)
        assert len(inside) <= thinned.stride
        values = [series[step - 1] for step in inside if is_finite(series[step - 1])]
        if values:
            assert (column.low[n], column.high[n], column.value[n]) == (min(values), max(values), values[-1])  # type: ignore[type-var]
        else:
            assert all(math.isnan(kept[n]) for kept in (column.low, column.high, column.value))
        marked = sorted(bad & set(inside))
        assert column.bad_at[n] == marked[0] if marked else math.isnan(column.bad_at[n])
    assert list(thinned.axes["tokens"]) == [10.0 * step for step in steps[1:]]


@given(st.integers(1, 300), st.integers(1, 300), st.integers(2, 50))
@settings(max_examples=100, deadline=None)
def test_a_curve_that_grows_keeps_its_earlier_points(first: int, more: int, points: int) -> None:
    series = [math.sin(n) for n in range(first + more)]
    before, after = (bucketed(series[:count], 1024).thinned(points) for count in (first, first + more))
    while before.stride < after.stride:
        before = before.thinned_once()
    whole = first // before.stride
    assert list(after.columns["loss"].high[:whole]) == list(before.columns["loss"].high[:whole])


@given(st.lists(st.one_of(st.none(), st.floats(0, 10)), min_size=1, max_size=60), st.integers(2, 10))
@settings(max_examples=100, deadline=None)
def test_evaluations_keep_the_best_and_the_last(losses: list[float | None], most: int) -> None:
    kept = Evaluations()
    for step, loss in enumerate(losses):
        kept.add({"step": step, "loss": loss})
    thinned = kept.thinned(most)
    assert len(thinned) <= most
    assert thinned[-1]["step"] == len(losses) - 1
    if finite := [loss for loss in losses if loss is not None]:
        assert min(row["loss"] for row in thinned if row["loss"] is not None) == min(finite)


def test_a_figure_that_comes_late_is_not_measured_before() -> None:
    buckets = Buckets(4)
    for step in range(1, 11):
        buckets.add((step, 0, 0, 0), {"loss": 1.0} | ({"late": float(step)} if step > 8 else {}), [])
    assert list(buckets.axes["step"]) == [4.0, 8.0, 10.0]
    assert buckets.columns["late"].low.tolist()[-1] == 9.0
    assert math.isnan(buckets.columns["late"].low[0])


# -- of records ----------------------------------------------------------------------------------------------------


def history(run_dir: Path, points: int = 1000, **options: Any) -> dict[str, Any]:
    found = HistoryCache().history(run_dir, points, **options)
    json.dumps(found, allow_nan=False)
    return found


def spoilt(step: int) -> float:
    return math.nan if step in (7, 8, 95) else 50.0 if step == 33 else 4.0 / step


def test_every_update_of_a_short_run_is_there(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=1e9, seconds=2.0, loss=spoilt, validation=lambda epoch: 5.0 / epoch)
    run.train().finish()
    found = history(run.path)
    assert found["step"] == list(range(1, 101))
    assert found["seconds"] == [2.0 * step for step in range(1, 101)]
    assert found["tokens"] == [1000.0 * step for step in range(1, 101)]
    assert found["epoch"] == [step / 10 for step in range(1, 101)]
    assert found["series"]["loss"]["value"][32] == 50.0
    assert found["series"]["loss"]["value"][6] is None
    assert found["series"]["perplexity"]["value"][0] == math.exp(4.0)
    assert found["nonfinite"] == {"loss": [7, 8, 95]}
    assert (found["thinned"], found["total_points"], found["unit"]) == (False, 100, "tokens")
    assert found["evaluations"]["step"] == list(range(10, 101, 10))
    assert found["evaluations"]["loss"][1] == 2.5
    assert found["evaluations"]["tokens"][0] == 10_000.0
    assert {"loss", "accuracy", "grad_norm", "learning_rate", "tokens_per_second"} <= set(found["keys"])
    log = run.path / LOG_NAME
    assert found["position"] == f"{found['generation']}-{log.stat().st_size}"


def test_a_long_run_is_thinned_and_keeps_its_spike(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=1e9, loss=spoilt).train().finish()
    found = history(run.path, points=10, keys=["loss", "no such figure"])
    assert len(found["step"]) <= 10
    assert found["thinned"]
    assert found["total_points"] == 100
    assert list(found["series"]) == ["loss"]
    assert max(v for v in found["series"]["loss"]["high"] if v is not None) == 50.0
    assert found["nonfinite"] == {"loss": [7, 95]}


def test_what_a_resumed_run_did_again_counts_once(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=1e9).train(60).flush().wait(500.0).resume(40).train(30).flush()
    run.wait(50.0).resume(70).train().finish()
    found = history(run.path)
    assert found["step"] == list(range(1, 101))
    assert found["resumed_at"] == [40, 70]
    assert found["seconds"][-1] == History.of(read_events(run.path / LOG_NAME)).seconds == 100.0


@pytest.mark.parametrize("cuts", [(0, 1, 2), (10, 57, 58, 99), tuple(range(0, 130, 5))])
def test_a_log_that_grows_gives_the_same_as_one_that_is_read_at_once(tmp_path: Path, cuts: tuple[int, ...]) -> None:
    run = RecordedRun(tmp_path / "run", start=1e9, loss=spoilt, validation=lambda epoch: 5.0 / epoch)
    run.train(60).flush().resume(55).train().finish()
    lines = (run.path / LOG_NAME).read_bytes().splitlines(keepends=True)
    growing = tmp_path / "growing"
    growing.mkdir()
    cache = HistoryCache()
    with (growing / LOG_NAME).open("wb") as log:
        for start, end in zip((0, *cuts), (*cuts, len(lines)), strict=True):
            half = lines[end - 1][:20] if end > start else b""
            log.write(b"".join(lines[start:end])[: -len(lines[end - 1])] + half if half else b"")
            log.flush()
            cache.history(growing)  # the last line is half written
            log.write(lines[end - 1][20:] if half else b"")
            log.flush()
            now = cache.history(growing)
            fresh = HistoryCache().history(growing)
            assert now == fresh
    assert cache.history(growing) == history(run.path)


def test_what_is_appended_is_read_once(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=1e9).train(50).flush()
    cache = HistoryCache()
    cache.history(run.path)
    followed = cache.followed(run.path)
    assert followed is not None
    before, size = followed.bytes_read, (run.path / LOG_NAME).stat().st_size
    cache.history(run.path)
    assert followed.bytes_read == before
    run.train(10).flush()
    assert cache.history(run.path)["step"][-1] == 60
    assert followed.bytes_read - before == (run.path / LOG_NAME).stat().st_size - size


def test_an_overwritten_log_is_read_again(tmp_path: Path) -> None:
    cache = HistoryCache()
    first = RecordedRun(tmp_path / "run", start=1e9).train(50).flush()
    before = cache.history(first.path)
    RecordedRun(tmp_path / "run", start=2e9).train(80).flush()
    after = cache.history(first.path)
    assert after["step"] == list(range(1, 81))
    assert after["generation"] != before["generation"]
    log = first.path / LOG_NAME
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:31]))
    assert cache.history(first.path)["step"] == list(range(1, 31))


def test_a_log_of_the_same_length_and_inode_but_other_content_is_read_again(tmp_path: Path) -> None:
    cache = HistoryCache()
    run = RecordedRun(tmp_path / "run", start=1e9).train(20).flush()
    cache.history(run.path)
    log = run.path / LOG_NAME
    log.write_bytes(log.read_bytes().replace(b'"step": 20', b'"step": 21'))
    os.utime(log, ns=(10**18, 10**18))
    assert cache.history(run.path)["step"][-1] == 21


def test_a_run_without_a_log_has_its_report_s_curve(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=1e9, loss=spoilt, validation=lambda epoch: 5.0 / epoch).train().finish()
    (run.path / LOG_NAME).unlink()
    found = history(run.path)
    assert found["step"] == list(range(1, 101))
    assert (found["position"], found["generation"], found["tokens"][0]) == (None, None, None)
    assert found["nonfinite"] == {"loss": [7, 8, 95]}
    assert len(found["evaluations"]["step"]) == 10


def test_a_directory_without_a_record_has_no_history(tmp_path: Path) -> None:
    cache = HistoryCache()
    with pytest.raises(FileNotFoundError):
        cache.history(tmp_path)
    assert cache.followed(tmp_path) is None


def test_damaged_lines_and_numbers_without_bounds_are_left_out(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=1e9).train(5).flush()
    with (run.path / LOG_NAME).open("ab") as log:
        log.write(b'garbage\n{"event": "step", "step": 6, "loss": 1e999}\n{"event": "step", "step": 7, "loss": NaN}\n')
    found = history(run.path)
    assert found["step"] == [1, 2, 3, 4, 5, 7]
    assert found["nonfinite"] == {"loss": [7]}


def test_the_number_of_figures_is_bounded() -> None:
    curve = RunCurve()
    for step in range(1, 1000):
        curve.apply({"event": "step", "step": step, "loss": 1.0, f"figure{step}": 1.0})
    assert len(curve.updates.columns) == 64
    assert "loss" in curve.updates.columns


def test_the_cache_forgets_the_runs_that_were_not_asked_for_the_longest(tmp_path: Path) -> None:
    first = RecordedRun(tmp_path / "run_0", start=1e9).train(50).flush().path
    paths = [first] + [tmp_path / f"run_{n}" for n in range(1, 6)]
    for path in paths[1:]:
        shutil.copytree(first, path)
    one = FollowedCurve(first)
    one.look()
    cache = HistoryCache(most_bytes=3 * one.curve.bytes_held)
    for path in [*paths, paths[3]]:
        cache.history(path)
        assert cache.bytes_held <= 3 * one.curve.bytes_held
    assert [cache.followed(path) is not None for path in paths] == [False, False, False, True, True, True]


def test_a_reporter_s_own_run_of_a_task_that_counts_samples(tmp_path: Path) -> None:
    reporter = ProgressReporter(tmp_path, 1)
    reporter.run_started(metrics=[])
    for step in range(1, 4):
        reporter.step(step=step, epoch=1, loss=1.0 / step, samples=8, mae=math.inf if step == 2 else 0.5)
    reporter.flush()
    found = history(tmp_path)
    assert (found["unit"], found["tokens"]) == ("samples", [8.0, 16.0, 24.0])
    assert found["nonfinite"] == {"mae": [2]}
    assert "perplexity" not in found["series"]
    assert set(AXES) <= set(found)
