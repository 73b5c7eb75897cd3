"""The Python door for loops that are not ours: what was logged is what the record, the monitor and the index say."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.test_architecture import LIGHT, reached_on_import
from tools.runs.fleet import Fleet
from training.checkpoints.run_lock import is_locked, owner_of
from training.errors import UserError
from training.experiments.store.annotations import read_annotations
from training.experiments.store.artefacts import Condition
from training.experiments.store.identity import run_id_of
from training.experiments.store.index import ExperimentStore
from training.experiments.tracker import ExperimentConfig, ExperimentTracker, metric_of
from training.record.history import History
from training.record.log import LOG_NAME, read_events, read_report
from training.record.run_state import State
from training.settings.plain_yaml import read_yaml
from training.tasks.metrics import Metric

Tree = Callable[[], dict[str, bytes | None]]


@pytest.fixture
def tracker(tmp_path: Path) -> ExperimentTracker:
    made = ExperimentTracker(tmp_path / "experiments")
    made.create_experiment(ExperimentConfig(name="baseline", description="the first try", tags=["small", "cpu"]))
    return made


def directory_of(tracker: ExperimentTracker, number: int = 1) -> Path:
    return tracker.directory / "baseline" / f"run_{number:04d}"


def report_of(path: Path) -> dict[str, Any]:
    faults: list[str] = []
    report = read_report(path, faults)
    assert report is not None
    assert faults == []
    return report


def row_of(tracker: ExperimentTracker, run_id: str) -> Any:
    with ExperimentStore(tracker.directory) as store:
        store.refresh()
        return store.run(run_id)


# -- what was logged is what is read -------------------------------------------------------------------------------


def test_a_run_has_what_any_run_has(tracker: ExperimentTracker) -> None:
    run_id = tracker.start_run("baseline", settings={"learning_rate": 1e-3, "layers": [4, 4]}, total_steps=2)
    path = directory_of(tracker)
    assert run_id == run_id_of(tracker.directory, path)
    assert is_locked(path)
    assert (owner := owner_of(path)) is not None
    assert owner.pid == os.getpid()
    assert tracker.log_metrics({"loss": 0.7, "accuracy": 0.5, "val_loss": 0.9, "lr": 1e-3}, run_id) == 1
    assert tracker.log_metrics({"train_loss": 0.6, "accuracy": 0.6, "val/loss": 0.8}, run_id) == 2
    assert row_of(tracker, run_id).state == State.RUNNING
    tracker.complete_run(run_id, {"accuracy": 0.93})
    assert not is_locked(path)

    report = report_of(path)
    assert (report["state"], report["step"], report["reason"]) == ("finished", 2, "completed")
    assert report["curve"]["loss"] == [0.7, 0.6]
    assert report["curve"]["accuracy"] == [0.5, 0.6]
    assert report["curve"]["learning_rate"] == [1e-3, None]
    assert [(e["step"], e["epoch"], e["loss"]) for e in report["evaluations"]] == [(1, 1, 0.9), (2, 2, 0.8)]
    assert report["best"] == {"step": 2, "epoch": 2, "loss": 0.8}
    assert report["result"] == {"accuracy": 0.93}
    assert read_yaml(path / "config.yaml") == {"experiment": "baseline", "learning_rate": 1e-3, "layers": [4, 4]}
    assert read_annotations(path).tags == ("cpu", "small")
    assert read_annotations(path).note == "the first try"
    row = row_of(tracker, run_id)
    assert (row.id, row.name, row.state) == (run_id, "baseline/run_0001", State.FINISHED)
    assert (row.loss, row.val_loss, row.best_loss, row.metrics) == (0.6, 0.8, 0.8, {"accuracy": 0.6})
    assert row.progress == 1.0


def test_the_monitor_sees_it_as_any_other_run(tracker: ExperimentTracker) -> None:
    run_id = tracker.start_run("baseline", total_steps=10)
    for loss in (0.7, 0.6):
        tracker.log_metrics({"loss": loss, "reward": 3.0}, run_id, epoch=1)
    fleet = Fleet([tracker.directory])
    now = report_of(directory_of(tracker))["started_at"]
    (shown,) = fleet.look(now)
    assert (shown.name, shown.state, shown.step, shown.loss) == ("baseline/run_0001", State.RUNNING, 2, 0.6)
    assert [metric.name for metric in shown.metrics] == ["reward"]
    assert shown.alerts == ()
    tracker.log_metrics({"loss": 0.5, "new": 1.0}, run_id, epoch=1)
    tracker.fail_run(run_id, ValueError("no more data"))
    (shown,) = fleet.look(now)
    assert (shown.state, shown.step, shown.loss) == (State.FAILED, 3, 0.5)
    assert shown.reason == "ValueError: no more data"
    assert [metric.name for metric in shown.metrics] == ["reward", "new"]


FIGURES = st.dictionaries(
    st.sampled_from(["loss", "accuracy", "reward", "val_loss", "val_accuracy"]),
    st.floats(width=32) | st.integers(-1000, 1000),
    min_size=1,
)


def written(figures: Mapping[str, float], is_validation: bool) -> dict[str, float | None]:
    """Return the figures of an update or of an evaluation as a record has them."""
    return {
        name.removeprefix("val_"): value if math.isfinite(value) else None
        for name, value in figures.items()
        if name.startswith("val_") == is_validation
    }


@settings(max_examples=20)
@given(st.lists(FIGURES, min_size=1, max_size=8))
def test_whatever_was_logged_is_in_the_record_the_report_and_the_index(calls: list[dict[str, float]]) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        tracker = ExperimentTracker(folder)
        run_id = tracker.start_run(tracker.create_experiment(ExperimentConfig("baseline")))
        steps = [tracker.log_metrics(figures, run_id) for figures in calls]
        tracker.complete_run(run_id)
        path = directory_of(tracker)
        events = list(read_events(path / LOG_NAME))
        for name, is_validation in (("step", False), ("eval", True)):
            wanted = [(n, row) for n, call in zip(steps, calls, strict=True) if (row := written(call, is_validation))]
            found = [event for event in events if event["event"] == name]
            assert [(event["step"], {key: event.get(key) for key in row}) for event, (_, row) in zip(
                found, wanted, strict=True
            )] == wanted  # fmt: skip
            for event, (_, row) in zip(found, wanted, strict=True):
                assert sorted(event.get("nonfinite", [])) == sorted(key for key, value in row.items() if value is None)
        history, report = History.of(events), report_of(path)
        assert report["step"] == history.step
        assert {m.name for m in history.metrics} == {n.removeprefix("val_") for c in calls for n in c} - {"loss"}
        with ExperimentStore(tracker.directory) as store:
            store.refresh()
            shown, kept = store.run(run_id), store.figures(run_id)
        updates = [call for call in calls if written(call, False)]
        if updates and "loss" in updates[-1]:
            assert shown.loss == updates[-1]["loss"] or not math.isfinite(updates[-1]["loss"])
            assert math.isnan(kept["loss"]) == (not math.isfinite(updates[-1]["loss"]))
        evaluations = [call for call in calls if "val_loss" in call and math.isfinite(call["val_loss"])]
        assert shown.best_loss == min((call["val_loss"] for call in evaluations), default=None)


def test_an_update_without_a_loss_is_none_whose_loss_is_not_finite(tracker: ExperimentTracker) -> None:
    quiet, broken = tracker.start_run("baseline"), tracker.start_run("baseline")
    tracker.log_metrics({"reward": 1.0}, quiet)
    tracker.log_metrics({"reward": 1.0, "loss": math.nan}, broken)
    tracker.log_metrics({"reward": 1.0, "loss": 0.5}, broken)
    tracker.close()
    assert list(row_of(tracker, quiet).alerts) == []
    assert (row_of(tracker, quiet).sparkline, row_of(tracker, broken).sparkline) == ([], [None, 0.5])
    first, second = Fleet([tracker.directory]).look(report_of(directory_of(tracker))["started_at"])
    assert (len(first.points), len(second.points)) == (0, 2)
    assert [alert["kind"] for alert in row_of(tracker, broken).alerts] == ["not finite"]
    assert report_of(directory_of(tracker))["loss_not_finite_at"] is None
    assert report_of(directory_of(tracker, 2)).get("loss_not_finite_at", 1) == 1


def test_scalars_of_any_library_are_numbers(tracker: ExperimentTracker) -> None:
    import numpy as np
    import torch

    run_id = tracker.start_run("baseline")
    tracker.log_metrics(
        {
            "loss": torch.tensor(0.5, requires_grad=True), "a": np.float32(0.25), "b": np.int64(3), "c": True,
            "d": torch.tensor([2.0]), "e": 10**30, "tokens": 128.0,
        },
        run_id,
    )  # fmt: skip
    tracker.close()
    latest = report_of(directory_of(tracker))["latest"]
    assert {k: latest[k] for k in ("loss", "a", "b", "c", "d", "e", "tokens")} == {
        "loss": 0.5, "a": 0.25, "b": 3, "c": 1, "d": 2.0, "e": 1e30, "tokens": 128,
    }  # fmt: skip


def test_a_metric_that_was_declared_keeps_its_form(tracker: ExperimentTracker) -> None:
    share = Metric("solved", "Solved", "higher", form="percent")
    run_id = tracker.start_run("baseline", metrics=[share])
    tracker.log_metrics({"solved": 0.25, "word_error": 0.1}, run_id)
    tracker.close()
    declared = report_of(directory_of(tracker))["metrics"]
    assert declared == [share.to_dict(), metric_of("word_error").to_dict()]
    assert [metric_of(name).better for name in ("word_error", "bleu", "val/loss")] == ["lower", "higher", "lower"]


def test_measurements_alone_are_numbered_and_none_is_lost(tracker: ExperimentTracker) -> None:
    run_id = tracker.start_run("baseline")
    assert [tracker.log_metrics({"val_loss": loss}, run_id) for loss in (3.0, 2.0, 1.0)] == [1, 2, 3]
    assert tracker.log_metrics({"loss": 1.0}, run_id) == 3
    assert tracker.log_metrics({"loss": 1.0, "val_loss": 0.5, "epoch": 7, "step": 10}, run_id) == 10
    assert tracker.log_metrics({"val_loss": 0.4}, run_id, step=12, epoch=8) == 12
    tracker.close()
    evaluations = report_of(directory_of(tracker))["evaluations"]
    assert [(e["step"], e["epoch"]) for e in evaluations] == [(1, 1), (2, 2), (3, 3), (10, 7), (12, 8)]


def test_a_measurement_before_the_first_update_is_at_step_zero(tracker: ExperimentTracker) -> None:
    run_id = tracker.start_run("baseline")
    assert tracker.log_metrics({"val_loss": 9.0}, run_id, step=0) == 0
    assert tracker.log_metrics({"loss": 3.0, "val_loss": 4.0}, run_id) == 1
    tracker.close()
    assert [(e["step"], e["loss"]) for e in report_of(directory_of(tracker))["evaluations"]] == [(0, 9.0), (1, 4.0)]


def test_settings_are_read_back_as_they_were_given(tracker: ExperimentTracker) -> None:
    settings = {"a": "1e3", "b": 1e-05, "c": None, "d": "no", "e": {"f": ["=", "2026-11-30", ""]}, "g": "x\ny: \u2028"}
    tracker.start_run("baseline", settings=settings)
    tracker.close()
    assert read_yaml(directory_of(tracker) / "config.yaml") == {"experiment": "baseline", **settings}


def test_a_run_that_cannot_begin_leaves_no_folder(tracker: ExperimentTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.record.reporter.write_atomically", full)
    with pytest.raises(UserError, match="No space left on device"):
        tracker.start_run("baseline")
    assert [path.name for path in (tracker.directory / "baseline").iterdir()] == ["experiment.json"]


def test_passes_counted_from_zero_stay_as_they_were_logged(tracker: ExperimentTracker) -> None:
    run_id = tracker.start_run("baseline")
    for epoch in range(3):
        tracker.log_metrics({"loss": 3.0 - epoch, "val_loss": 4.0 - epoch, "epoch": epoch}, run_id)
    tracker.close()
    report = report_of(directory_of(tracker))
    assert [e["epoch"] for e in report["evaluations"]] == [0, 1, 2]
    assert [(e["epoch"], e["loss"]) for e in report["epochs"]] == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert row_of(tracker, run_id).val_loss == 2.0


@dataclass
class Result:
    """Result of a user's own training function."""

    best: float
    path: Path


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (Result(0.5, Path("model.pt")), {"best": 0.5, "path": "model.pt"}),
        ({"a": {"b": [1, math.inf]}, "c": math.nan}, {"a": {"b": [1, None]}, "c": None, "nonfinite": ["c"]}),
        (3, {"value": 3}),
    ],
)
def test_a_result_stands_in_the_report(tracker: ExperimentTracker, result: Any, expected: Any) -> None:
    run_id = tracker.start_run("baseline")
    tracker.complete_run(run_id, result)
    assert report_of(directory_of(tracker))["result"] == expected


def test_what_was_made_is_referenced_by_its_checksum(tracker: ExperimentTracker, tmp_path: Path) -> None:
    run_id = tracker.start_run("baseline")
    (tmp_path / "model.bin").write_bytes(b"abc")
    logged = tracker.log_artifact(tmp_path / "model.bin", run_id, kind="model")
    assert logged.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (directory_of(tracker) / "notes.txt").write_text("a")
    tracker.log_artifact(directory_of(tracker) / "notes.txt", run_id, name="notes")
    tracker.close()
    document = json.loads((directory_of(tracker) / "artifacts.json").read_text())
    assert [(a["name"], a["path"], a["kind"]) for a in document["artifacts"]] == [
        ("model.bin", str((tmp_path / "model.bin").resolve()), "model"),
        ("notes", "notes.txt", "logged"),
    ]


# -- ends ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (None, "finished", "completed"),
        (ZeroDivisionError("division"), "failed", "ZeroDivisionError: division"),
        (KeyboardInterrupt(), "stopped", "interrupted"),
    ],
)
def test_a_block_ends_its_run(tracker: ExperimentTracker, error: BaseException | None, state: str, reason: str) -> None:
    def train() -> None:
        with tracker.run("baseline") as run:
            run.log_metrics({"loss": 0.5})
            if error is not None:
                raise error

    if error is None:
        train()
    else:
        with pytest.raises(type(error)):
            train()
    report = report_of(directory_of(tracker))
    assert report["state"] == state
    assert report.get("error") == reason or report.get("reason") == reason
    assert not is_locked(directory_of(tracker))


def test_the_end_of_the_tracker_stops_what_is_still_open(tracker: ExperimentTracker) -> None:
    with tracker:
        tracker.start_run("baseline")
    assert report_of(directory_of(tracker))["state"] == "stopped"

    def fail() -> None:
        with tracker:
            tracker.start_run("baseline")
            raise RuntimeError("outside of the run")

    with pytest.raises(RuntimeError):
        fail()
    assert report_of(directory_of(tracker, 2))["state"] == "failed"


def test_threads_may_log_at_once(tracker: ExperimentTracker) -> None:
    run_id = tracker.start_run("baseline")
    steps: list[int] = []

    def log() -> None:
        steps.extend(tracker.log_metrics({"loss": 0.5}, run_id) for _ in range(50))

    threads = [threading.Thread(target=log) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tracker.complete_run(run_id)
    assert sorted(steps) == list(range(1, 201))
    logged = [e["step"] for e in read_events(directory_of(tracker) / LOG_NAME) if e["event"] == "step"]
    assert logged == list(range(1, 201))


def test_a_copy_of_the_process_writes_nothing(tracker: ExperimentTracker) -> None:
    run_id = tracker.start_run("baseline")
    child = os.fork()
    if child == 0:
        try:
            tracker.log_metrics({"loss": 0.5}, run_id)
        except UserError as error:
            os._exit(7 if "copy of it (fork)" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    tracker.complete_run(run_id)


KILLED = """
import os, signal, sys
from training import ExperimentConfig, ExperimentTracker
assert not {"torch", "matplotlib", "scipy"} & sys.modules.keys()
tracker = ExperimentTracker(sys.argv[1])
run_id = tracker.start_run(tracker.create_experiment(ExperimentConfig("baseline")), settings={"seed": 1})
for n in range(100):
    tracker.log_metrics({"loss": 1.0 / (n + 1), "val_loss": 2.0 / (n + 1)}, run_id)
print(run_id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_killed_process_has_lost_nothing_and_its_run_goes_on(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    run_id = done.stdout.strip()
    tracker = ExperimentTracker(tmp_path)
    row = row_of(tracker, run_id)
    assert (row.state, row.step, row.loss, row.best_loss) == (State.LOST, 100, 0.01, 0.02)

    assert tracker.start_run(resume=run_id) == run_id
    with pytest.raises(UserError, match=r"another process .* is training in it"):
        ExperimentTracker(tmp_path).start_run(resume=run_id)
    assert tracker.log_metrics({"loss": 0.005}, run_id) == 101
    tracker.complete_run(run_id)
    report = report_of(tmp_path / "baseline" / "run_0001")
    assert (report["state"], report["step"], report["resumed_at_steps"]) == ("finished", 101, [100])
    assert len(report["evaluations"]) == 100
    assert row_of(tracker, run_id).state == State.FINISHED


def test_a_run_goes_on_from_an_earlier_step(tracker: ExperimentTracker) -> None:
    run_id = tracker.start_run("baseline")
    for loss in (3.0, 2.0, 9.0, 9.0):
        tracker.log_metrics({"loss": loss, "val_loss": loss}, run_id)
    tracker.stop_run(run_id)
    other = ExperimentTracker(tracker.directory)
    other.start_run(resume=run_id, step=2)
    assert other.log_metrics({"loss": 1.0, "val_loss": 1.0}, run_id) == 3
    other.complete_run(run_id)
    report = report_of(directory_of(tracker))
    assert report["curve"]["loss"] == [3.0, 2.0, 1.0]
    assert [e["loss"] for e in report["evaluations"]] == [3.0, 2.0, 1.0]
    assert report["best"]["loss"] == 1.0


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({}, "no figure in it"),
        ({"epoch": 3}, "no figure in it"),
        ({"loss": "0.5"}, "'loss' is a str ('0.5'); give one number"),
        ({"loss": [0.5, 0.6]}, "'loss' is a list"),
        ({"loss": None}, "'loss' is a NoneType"),
        ({"loss": 1j}, "'loss' is a complex"),
        ({"": 1.0}, "is no name of a figure"),
        ({"a\nb": 1.0}, r"'a\nb' is no name of a figure"),
        ({7: 1.0}, "7 is no name of a figure"),
        ({"time": 1.0}, "'time' is a word of the record's own"),
        ({"tokens": 1.5}, "'tokens' is 1.5, and the record keeps a count"),
        ({"skipped": 3}, "'skipped' is 3, and the record keeps"),
        ({"loss": 1.0, "train_loss": 1.0}, "'loss' and 'train_loss' are names of one figure"),
        ({"loss": 1.0, "epoch": 0.5}, "epoch must be a whole number"),
        ({"loss": 1.0, "step": -1}, "step must be a whole number"),
        ({"loss": 1.0, "step": 0}, "the first one is 1"),
        ({"loss": 1.0, "step": 1}, "it is at step 1 already"),
        ({"val_loss": 1.0, "step": 1}, "it is at step 1 already"),
        ([0.5], "metrics is a list"),
    ],
)
def test_a_figure_that_cannot_be_recorded_is_refused_in_one_line(
    tracker: ExperimentTracker, tree: Tree, metrics: Any, message: str
) -> None:
    run_id = tracker.start_run("baseline")
    tracker.log_metrics({"loss": 0.5, "val_loss": 0.5}, run_id)
    before = tree()
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        tracker.log_metrics(metrics, run_id)
    assert "\n" not in str(caught.value)
    assert tree() == before
    tracker.close()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.create_experiment(ExperimentConfig("a/b")), "it names a folder"),
        (lambda t: t.create_experiment(ExperimentConfig("..")), "it names a folder"),
        (lambda t: t.create_experiment(ExperimentConfig(".hidden")), "passes over such a folder"),
        (lambda t: t.create_experiment(ExperimentConfig("checkpoint_best")), "passes over such a folder"),
        (lambda t: t.create_experiment(ExperimentConfig("")), "give a text"),
        (lambda t: t.create_experiment(ExperimentConfig("x" * 101)), "100 characters at most"),
        (lambda t: t.create_experiment(ExperimentConfig("a", tags="small")), "give a list of texts"),
        (lambda t: t.create_experiment(ExperimentConfig("a", tags=["x,y"])), "no comma"),
        (lambda t: t.create_experiment(ExperimentConfig("baseline", "another")), "with another description"),
        (lambda t: t.start_run("basline"), "no experiment 'basline'"),
        (lambda t: t.start_run("basline"), "did you mean 'baseline'?"),
        (lambda t: t.start_run(), "name the experiment"),
        (lambda t: t.start_run("baseline", step=3), "step goes with resume"),
        (lambda t: t.start_run("baseline", total_steps=-1), "total_steps must be a whole number"),
        (lambda t: t.start_run("baseline", settings={"a": object()}), "settings.a is a object"),
        (lambda t: t.start_run("baseline", settings={"a": math.nan}), "settings.a is nan"),
        (lambda t: t.start_run("baseline", settings={"a\n": 1}), "is no name"),
        (lambda t: t.start_run("baseline", settings=[1]), "settings is a list; give values by name"),
        (lambda t: t.start_run("baseline", settings={"experiment": "x"}), "which is the experiment's name"),
        (lambda t: t.start_run("baseline", metrics=["accuracy"]), "metrics holds a str"),
        (lambda t: t.start_run("baseline", settings={"a": "x" * 2**20}), "bytes, and 1,048,576 are read"),
        (lambda t: t.start_run("baseline", settings={"a": list(range(20_000))}), "more than 20,000 values"),
        (lambda t: t.start_run(resume="0" * 12), "there is no such run"),
        (lambda t: t.log_metrics({"loss": 1.0}, "0" * 12), "was not started by this tracker"),
        (lambda t: t.export("runs.csv"), "there is no run"),
        (lambda t: t.compare_runs(["a", "b"]), "there is no such run"),
    ],
)
def test_a_call_that_cannot_be_used_is_refused_in_one_line(
    tracker: ExperimentTracker, call: Callable[[ExperimentTracker], Any], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        call(tracker)
    assert "\n" not in str(caught.value)
    assert not any(path.name.startswith("run_") for path in (tracker.directory / "baseline").iterdir())


def test_an_experiment_is_found_again_and_runs_get_folders_of_their_own(tracker: ExperimentTracker) -> None:
    same = ExperimentConfig(name="baseline", description="the first try", tags=["cpu", "small"])
    assert ExperimentTracker(tracker.directory).create_experiment(same) == "baseline"
    assert tracker.experiments() == [ExperimentConfig("baseline", "the first try", ("cpu", "small"))]
    tracker.start_run("baseline")
    tracker.start_run("baseline", name="mine")
    tracker.start_run("baseline")
    tracker.close()
    with pytest.raises(UserError, match="is there already; give the run another name"):
        tracker.start_run("baseline", name="mine")
    folders = sorted(p.name for p in (tracker.directory / "baseline").iterdir() if p.is_dir())
    assert folders == ["mine", "run_0001", "run_0002"]


def test_a_run_that_is_over_takes_no_more(tracker: ExperimentTracker) -> None:
    run_id = tracker.start_run("baseline")
    tracker.complete_run(run_id)
    with pytest.raises(UserError, match=rf"run {run_id} is over \(finished\); go on with start_run\(resume="):
        tracker.log_metrics({"loss": 1.0}, run_id)


def test_a_run_of_our_own_loop_is_not_gone_on_with(tmp_path: Path, finished_run: Path) -> None:
    tracker = ExperimentTracker(tmp_path)
    with pytest.raises(UserError, match=r"train\.py --resume"):
        tracker.start_run(resume=run_id_of(tmp_path, finished_run))
    assert not is_locked(finished_run)


def test_the_python_door_brings_in_nothing_heavy() -> None:
    assert reached_on_import("training.experiments.tracker").isdisjoint({*LIGHT, "scipy", "pyarrow", "sqlite3"})


@pytest.mark.slow
@pytest.mark.parametrize("page", ["EXPERIMENTS.md", "zh-CN/EXPERIMENTS.md"])
def test_the_example_of_the_docs_runs_as_it_stands(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.search(r"<!-- example: tracker -->\n```python\n(.*?)```", text, flags=re.DOTALL)
    assert found is not None
    monkeypatch.chdir(tmp_path)
    exec(compile(found[1], page, "exec"), {})
    settings, mean = capsys.readouterr().out.rsplit(maxsplit=1)
    assert settings == "dict_keys(['learning_rate', 'seed'])"
    assert float(mean) == pytest.approx(0.09)
    with ExperimentStore(tmp_path / "experiments") as store:
        store.refresh()
        assert [run.state for run in store.runs()] == [State.FINISHED] * 7
        assert len((tmp_path / "runs.csv").read_text().splitlines()) == 7
        (logged,) = (a for a in store.artefacts(store.run("run_0007").id) if a.kind == "table")
    assert (logged.name, logged.condition) == ("runs.csv", Condition.UNCHANGED)
