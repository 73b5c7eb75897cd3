"""A sweep on this machine: its trials are runs, it goes on exactly after any kill, and its best is checked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file

from tests.conftest import ROOT, write_tiny_dataset
from tests.support.sweeps import small_sweep, train_here
from training.checkpoints.run_lock import RunLock
from training.errors import EXIT_BAD_INPUT, UserError
from training.experiments.run_process import train_in_own_process
from training.experiments.sweep.document import DOCUMENT_NAME, RESULT_NAME, read_document
from training.experiments.sweep.local_sweep import LocalSweep, state_of
from training.record.log import read_report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.conftest import FrontDoor
    from training.settings.tree import TrainingConfig

pytestmark = pytest.mark.slow


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.is_dir())


def weights(run_dir: Path) -> dict[str, list[float]]:
    found = load_file(run_dir / "final_model" / "model.safetensors")
    return {name: tensor.flatten().tolist() for name, tensor in found.items()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("data") / "tiny.json", rows=16)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """Return the directory of a sweep of three trials whose best is checked with three seeds."""
    directory = tmp_path_factory.mktemp("whole") / "sweep"
    assert small_sweep(directory, data, confirm_seeds=3).run(train_here) == 0
    return directory


def test_each_trial_is_a_run_of_its_own_with_the_settings_that_were_drawn(whole: Path, data: Path) -> None:
    trials = small_sweep(whole, data, resume=True, confirm_seeds=3).trials
    assert [trial.name for trial in trials] == ["trial-001", "trial-002", "trial-003"]
    for trial in trials:
        report = read_report(trial.directory)
        assert report is not None
        assert report["state"] == "finished"
        config = (trial.directory / "config.yaml").read_text(encoding="utf-8")
        assert f"learning_rate: {trial.settings['optimizer.learning_rate']!r}\n" in config
        assert (trial.directory / "final_model" / "model.safetensors").exists()
    assert len({str(trial.settings) for trial in trials}) == 3


def test_the_result_names_the_best_and_compares_it_with_new_seeds(whole: Path, data: Path) -> None:
    result = json.loads((whole / RESULT_NAME).read_text(encoding="utf-8"))
    values = {trial["job"]: trial["metric"] for trial in result["trials"]}
    assert list(values.values()) == sorted(values.values()), "the best comes first"
    best = result["best"]
    assert best == next(iter(values))
    confirmed = result["confirmed"]
    assert confirmed["seeds"] == [6, 7, 8]
    for name, losses in (("default", confirmed["default"]), (best, confirmed["best"])):
        for seed, loss in zip(confirmed["seeds"], losses, strict=True):
            report = read_report(whole / f"{name}-seed{seed}")
            assert report is not None
            assert report["evaluations"][-1]["loss"] == loss
    low, high = confirmed["interval"]
    assert low <= confirmed["mean_difference"] <= high


def test_a_sweep_that_has_ended_trains_nothing_again_and_says_the_same(
    whole: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(config: TrainingConfig, flags: Sequence[str]) -> int:
        raise AssertionError(f"{config.run.run_dir} is trained again")

    before = (whole / RESULT_NAME).read_bytes()
    assert small_sweep(whole, data, resume=True, confirm_seeds=3).run(refuse) == 0
    assert (whole / RESULT_NAME).read_bytes() == before
    shown = capsys.readouterr().out
    assert "with new seeds: the best of 3 trials owes part of its lead to luck (the winner's curse)" in shown
    assert "settings: eval/loss at the end\n" in shown


def test_the_store_shows_the_runs_of_a_sweep(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tools import experiments

    words = ["list", "--where", "name ~ 'trial' and seed = 5", "--sort", "val_loss", "--json"]
    assert experiments.run(["--root", str(whole.parent), *words]) == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    result = json.loads((whole / RESULT_NAME).read_text(encoding="utf-8"))
    assert [row["name"] for row in rows] == [f"sweep/{trial['job']}" for trial in result["trials"]]


@pytest.mark.skipif(os.name == "nt", reason="processes are forked")
def test_a_sweep_that_is_killed_again_and_again_ends_with_the_same_weights(data: Path, tmp_path: Path) -> None:
    program = ROOT / "tests" / "support" / "programs" / "killed_sweeps.py"
    done = subprocess.run(
        [sys.executable, program, tmp_path, data],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *places, code = [json.loads(line) for line in done.stdout.splitlines()]
    assert code == 0
    assert len(places) >= 8, places
    assert any("sweep.json" in place for place in places)
    assert len({place.split()[1].partition("/")[0] for place in places if "trial-" in place}) >= 2
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert names_in(whole) == names_in(killed) == ["trial-001", "trial-002", "trial-003"]
    for name in names_in(whole):
        assert weights(whole / name) == weights(killed / name)
    assert (whole / RESULT_NAME).read_bytes() == (killed / RESULT_NAME).read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="the stop is a signal")
def test_a_stop_reaches_the_trial_which_saves_and_goes_on_exactly(data: Path, tmp_path: Path) -> None:
    directory = tmp_path / "sweep"
    long = {"epochs": 150, "save_interval": 150}
    sweep = small_sweep(directory, data, max_trials=1, settings=long)
    run_dir = sweep.trials[0].directory

    def stop() -> None:
        while not (read_report(run_dir) or {}).get("step"):
            time.sleep(0.02)
        if state_of(run_dir)[0] == "running":  # else nobody waits for a signal any more, and the test fails below
            os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=stop)
    watcher.start()
    assert sweep.run(train_in_own_process) == 128 + signal.SIGTERM
    watcher.join()
    assert state_of(run_dir)[0] == "stopped"
    assert list(run_dir.glob("checkpoint_*"))
    assert small_sweep(directory, data, max_trials=1, settings=long, resume=True).run(train_here) == 0
    undisturbed = small_sweep(tmp_path / "other", data, max_trials=1, settings=long)
    assert undisturbed.run(train_here) == 0
    assert weights(run_dir) == weights(undisturbed.trials[0].directory)


def test_a_trial_that_diverges_is_a_result_and_the_last_of_the_table(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"search": "learning_rate=0.001|100", "sampling": "grid", "max_trials": 2}
    diverging = {"max_grad_norm": None, "max_skipped_updates": 1, "precision": "fp32", "epochs": 12}
    sweep = small_sweep(tmp_path / "sweep", data, settings=diverging, **options)
    assert sweep.run(train_here) == 0
    shown = capsys.readouterr().out
    assert "trial-002 has diverged; the sweep goes on" in shown
    result = json.loads((tmp_path / "sweep" / RESULT_NAME).read_text(encoding="utf-8"))
    assert [(trial["job"], trial["status"]) for trial in result["trials"]] == [
        ("trial-001", "finished"),
        ("trial-002", "diverged"),
    ]


def test_survivors_of_halving_are_resumed_and_end_as_if_there_were_no_rungs(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = {"epochs": 4, "save_interval": 4}
    sweep = small_sweep(tmp_path / "halved", data, settings=longer, max_trials=4, halving=2)
    trained: list[tuple[str, list[str]]] = []

    def train(config: TrainingConfig, flags: Sequence[str]) -> int:
        trained.append((config.run.run_dir.name, list(flags)))
        return train_here(config, flags)

    assert sweep.run(train) == 0
    names = [trial.name for trial in sweep.trials]
    assert trained[:4] == [(name, ["--stop-after", "1"]) for name in names]
    document = read_document(tmp_path / "halved")
    assert document is not None
    first, second = document.survivors
    assert trained[4:] == [
        *((name, ["--resume", "--stop-after", "2"]) for name in first),
        *((name, ["--resume"]) for name in second),
    ]
    assert (len(first), len(second)) == (2, 1)
    steps = {trial.name: (read_report(trial.directory) or {})["step"] for trial in sweep.trials}
    per_epoch = max(steps.values()) // 4
    expected = {name: (4 if name in second else 2 if name in first else 1) * per_epoch for name in names}
    assert steps == expected
    assert f"{8 * per_epoch:,} of {16 * per_epoch:,} updates were made, which saved 50%" in capsys.readouterr().out
    whole = small_sweep(tmp_path / "whole", data, settings=longer, max_trials=4)
    assert whole.run(train_here) == 0
    assert weights(tmp_path / "halved" / second[0]) == weights(tmp_path / "whole" / second[0])
    reports = [read_report(tmp_path / place / first[0]) or {} for place in ("halved", "whole")]
    assert reports[0]["evaluations"][1]["loss"] == reports[1]["evaluations"][1]["loss"]
    again = small_sweep(tmp_path / "halved", data, settings=longer, max_trials=4, halving=2, resume=True)
    del trained[:]
    assert again.run(train) == 0
    assert trained == []


def test_more_trials_can_be_added_and_the_first_ones_stay(data: Path, tmp_path: Path) -> None:
    directory = tmp_path / "sweep"
    assert small_sweep(directory, data, max_trials=1).run(train_here) == 0
    before = (directory / "trial-001" / "progress.jsonl").read_bytes()
    assert small_sweep(directory, data, max_trials=2, resume=True).run(train_here) == 0
    assert names_in(directory) == ["trial-001", "trial-002"]
    assert (directory / "trial-001" / "progress.jsonl").read_bytes() == before
    document = read_document(directory)
    assert document is not None
    assert document.max_trials == 2


def test_a_trial_that_outlived_its_sweep_is_waited_for(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = small_sweep(tmp_path / "sweep", data, max_trials=1)
    run_dir = sweep.trials[0].directory
    run_dir.mkdir(parents=True)
    lock = RunLock.take(run_dir)
    assert lock is not None
    sweep.document.write(tmp_path / "sweep")
    released: list[bool] = []

    def train(config: TrainingConfig, flags: Sequence[str]) -> int:
        assert released, "the other process still trains it"
        return train_here(config, flags)

    def release() -> None:
        released.append(True)
        lock.release()

    timer = threading.Timer(0.2, release)
    timer.start()
    assert small_sweep(tmp_path / "sweep", data, max_trials=1, resume=True).run(train) == 0
    timer.join()
    assert f"which is still trained (pid {os.getpid()})" in capsys.readouterr().out


# -- what is refused -----------------------------------------------------------------------------------------------


def test_another_sweep_in_the_directory_is_refused_with_what_differs(whole: Path, data: Path) -> None:
    def told(**changes: Any) -> str:
        with pytest.raises(UserError) as caught:
            small_sweep(whole, data, resume=True, **{"confirm_seeds": 3, **changes}).run(train_here)
        return str(caught.value)

    other = told(search="learning_rate=1e-3..1e-2 log, d_model=16|32")
    assert other.startswith(f"--resume {whole}: the sweep in it has search = optimizer.learning_rate=loguniform(")
    assert "has sampling = random, and sobol was asked for; leave that out to go on with it" in told(sampling="sobol")
    assert "has metric = eval/loss, and train/loss was asked for" in told(sweep_metric="train/loss")
    assert "has d_ff = 16, and 24 was asked for" in told(settings={"d_ff": 24})
    assert "has seed = 5, and 6 was asked for" in told(settings={"seed": 6})


def test_a_directory_that_holds_something_else_is_left_alone(whole: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it holds a sweep already; go on with it"):
        small_sweep(whole, data, confirm_seeds=3).run(train_here)
    with pytest.raises(UserError, match="and a sweep has its own; choose another"):
        small_sweep(whole / "trial-001", data).run(train_here)
    (tmp_path / "sweep" / "trial-001").mkdir(parents=True)
    (tmp_path / "sweep" / "trial-001" / "progress.jsonl").touch()
    with pytest.raises(UserError, match=f"it holds trial-001 and no {DOCUMENT_NAME}"):
        small_sweep(tmp_path / "sweep", data).run(train_here)


def test_two_sweeps_do_not_work_in_one_directory(whole: Path, data: Path) -> None:
    lock = RunLock.take(whole)
    assert lock is not None
    try:
        with pytest.raises(UserError, match=rf"another sweep \(pid {os.getpid()}, since .* is at work in it"):
            small_sweep(whole, data, resume=True, confirm_seeds=3).run(train_here)
    finally:
        lock.release()


# -- the front door ------------------------------------------------------------------------------------------------


def test_the_front_door_goes_on_with_a_sweep_by_its_directory(whole: Path, data: Path, front_door: FrontDoor) -> None:
    done = front_door(["--resume", whole, "--dry-run"])
    assert done.exit_code == 0, done.stderr
    assert "# sweep: minimize eval/loss, 3 trials, sampling random\n" in done.stdout
    for trial in small_sweep(whole, data, resume=True, confirm_seeds=3).trials:
        assert f"# {trial.name}: {trial.in_words()}\n" in done.stdout
    told = front_door(["--resume", whole, "--d-ff", "24"])
    assert (told.exit_code, told.stdout) == (EXIT_BAD_INPUT, "")
    assert told.stderr.endswith(
        "has d_ff = 16, and 24 was asked for; leave that out to go on with it, or choose another --run-dir\n"
    )
    assert front_door(["--resume", whole, "--config", "playground_cpu"]).stderr == (
        f"error: --resume {whole}: the sweep in it has its settings; leave --config out\n"
    )


def test_overwriting_deletes_the_sweep_and_its_runs_and_no_file_of_the_user(
    data: Path, tmp_path: Path, front_door: FrontDoor
) -> None:
    directory = tmp_path / "sweep"
    assert small_sweep(directory, data, max_trials=2).run(train_here) == 0
    (directory / "notes.txt").write_text("mine")
    (directory / "trial-002" / "notes.txt").write_text("mine")
    sweep = small_sweep(directory, data, max_trials=1, settings={"seed": 9})
    overwriting = LocalSweep(_overwriting(sweep), sweep.options)
    assert overwriting.run(train_here) == 0
    left = sorted(str(path.relative_to(directory)) for path in directory.rglob("notes.txt"))
    assert left == ["notes.txt", "trial-002/notes.txt"]
    assert [path.name for path in (directory / "trial-002").iterdir()] == ["notes.txt"]
    document = read_document(directory)
    assert document is not None
    assert (document.seed, list(document.concluded)) == (9, ["trial-001"])


def _overwriting(sweep: LocalSweep) -> Any:
    from dataclasses import replace

    return replace(sweep.prepared, request=replace(sweep.prepared.request, overwrite=True))
