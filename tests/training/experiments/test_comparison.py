"""`--compare`: variants trained with the same seeds, and whether they differ by more than the seeds do."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.recorded_runs import RecordedRun
from tests.support.sweeps import train_here
from training import TrainingConfig
from training.errors import ConfigError
from training.experiments import comparison
from training.experiments.comparison import Difference, figures_of_run, parse_comparison, table
from training.tasks.metrics import Metric

if TYPE_CHECKING:
    from tests.conftest import FrontDoor, TinyDataset


# -- the statistics --------------------------------------------------------------------------------------------------


def test_a_difference_is_judged_by_the_paired_t_test_of_the_textbooks() -> None:
    # Five pairs, mean 1, standard deviation 1: t is the root of 5, and Student's 97.5 % point with 4 degrees is 2.7764.
    found = Difference.of("b", [1.0 - 2**0.5, 1.0, 1.0, 1.0, 1.0 + 2**0.5])
    assert found.mean == pytest.approx(1.0)
    half = 2.7764 / 5**0.5
    assert list(found.interval) == pytest.approx([1.0 - half, 1.0 + half], abs=1e-4)
    assert found.p == pytest.approx(0.0890, abs=1e-4)
    assert not found.is_more_than_the_spread


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=3, max_size=8))
def test_the_verdict_the_interval_and_the_p_value_never_contradict_each_other(deltas: list[float]) -> None:
    found = Difference.of("b", deltas)
    assert found.interval[0] <= found.mean <= found.interval[1]
    assert 0.0 <= found.p <= 1.0
    if not math.isclose(found.p, 0.05, abs_tol=1e-6):
        assert found.is_more_than_the_spread == (found.p < 0.05)
    mirrored = Difference.of("b", [-d for d in deltas])
    assert mirrored.mean == pytest.approx(-found.mean)
    assert mirrored.p == pytest.approx(found.p)


def test_runs_that_are_the_same_do_not_differ() -> None:
    found = Difference.of("b", [0.0, 0.0, 0.0])
    assert (found.mean, found.p, found.is_more_than_the_spread) == (0.0, 1.0, False)


# -- what is asked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seeds", "told"),
    [
        ("attention", 3, "should be SETTING=VALUE,VALUE"),
        ("attention=standard", 3, "two values or more"),
        ("attention=standard,standard", 3, "each once"),
        ("attentoin=standard,autopoietic", 3, "did you mean 'attention'"),
        ("seed=1,2", 3, "seed is not compared"),
        ("task=hlbd,other", 3, "another task has other settings"),
        ("max_seq_len=64,128", 3, "another max_seq_len makes the loss one of other tokens"),
        ("validation_split=0.1,0.2", 3, "another validation_split makes the loss one of other tokens"),
        ("loss_on=answer,all", 3, "another loss_on makes the loss one of other tokens"),
        ("attention=[,standard", 3, "a value is not valid YAML"),
        ("track=[tensorboard],[wandb]", 3, "lists are not compared"),
        ("attention=a/b,a_b", 3, "two of the values would share a run directory"),
        ("attention=standard,autopoietic", 2, "fewer than 3"),
    ],
)
def test_a_comparison_that_says_nothing_is_refused(text: str, seeds: int, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        parse_comparison(text, seeds, TrainingConfig, 42)
    assert str(caught.value).startswith("--compare")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("attention=standard,automatic", "attention = 'automatic' (from --compare)"),
        ("label_smoothing=0.0,0.1", "only validation losses can be compared; add --validation-split 0.1"),
    ],
    ids=["a value that the setting cannot have", "a setting that is part of a training loss"],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_trained(
    text: str, told: str, front_door: FrontDoor, tiny_dataset: TinyDataset, tmp_path: Path
) -> None:
    refused = front_door(["--datasets", tiny_dataset(), "--run-dir", tmp_path / "both", "--compare", text])
    assert refused.exit_code == 2
    assert told in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "both").exists()


def test_the_speed_is_in_the_unit_that_the_task_has(tmp_path: Path) -> None:
    parsed = parse_comparison("learning_rate=0.001,0.03", 3, TrainingConfig, 42)
    runs = [(value, seed) for value in parsed.values for seed in parsed.seeds]
    shown: dict[str, str] = {}
    for name, metrics in (("language", None), ("line", {Metric("mean_error", "MAE", "lower"): 0.5})):
        run = RecordedRun(tmp_path / name, start=0.0, metrics=metrics).train().finish()
        figures = dict.fromkeys(runs, figures_of_run(run.path))
        shown[name] = "\n".join(table(parsed, figures, [], "validation loss"))
    assert "tokens/s" in shown["language"]
    assert "samples/s" not in shown["language"]
    assert "tokens/s" not in shown["line"], "a task without tokens has no such figure, not even 0"
    [speed] = [line for line in shown["line"].splitlines() if line.startswith("samples/s")]
    assert float(speed.split()[1]) > 0


# -- for real --------------------------------------------------------------------------------------------------------


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each run go through the front door of this process, with the config and the flags that its own would get.

    A process of its own imports torch, for seconds; a dozen runs would take a minute.
    """
    monkeypatch.setattr(comparison, "train_in_own_process", train_here)


@pytest.fixture
def command(tiny_dataset: TinyDataset, tiny_flags: list[str], tmp_path: Path) -> list[str | Path]:
    words: list[str | Path] = ["--datasets", tiny_dataset(rows=24), "--run-dir", tmp_path / "both", *tiny_flags]
    words += ["--epochs", "2", "--seed", "5", "--validation-split", "0.25"]
    return [*words, "--compare", "learning_rate=0.001,0.03"]


@pytest.mark.slow  # twelve runs
@pytest.mark.usefixtures("in_this_process")
def test_variants_are_trained_with_the_same_seeds_and_held_side_by_side(
    front_door: FrontDoor, command: list[str | Path], tmp_path: Path
) -> None:
    done = front_door(command)
    assert done.exit_code == 0, done.stderr
    document = json.loads((tmp_path / "both" / "comparison.json").read_text(encoding="utf-8"))
    assert (document["setting"], document["seeds"]) == ("optimizer.learning_rate", [5, 6, 7])
    assert document["metric"] == "validation loss"
    losses: dict[float, list[float]] = {0.001: [], 0.03: []}
    for run in document["runs"]:
        report = json.loads((tmp_path / "both" / run["run_dir"] / "experiment_report.json").read_text(encoding="utf-8"))
        assert report["evaluations"][-1]["loss"] == run["loss"]
        losses[run["value"]].append(run["loss"])
    (difference,) = document["differences"]
    assert difference["deltas"] == [b - a for a, b in zip(losses[0.001], losses[0.03], strict=True)]
    assert difference["mean"] < 0.0, "thirty times the rate learns more in two epochs"
    assert "0.03 less 0.001: -" in done.stdout
    assert "than the spread of 3 seeds" in done.stdout

    again = front_door([*command, "--resume"])
    assert again.exit_code == 0, again.stderr
    assert json.loads((tmp_path / "both" / "comparison.json").read_text(encoding="utf-8")) == document


@pytest.mark.slow  # starts a process
def test_each_run_has_a_process_of_its_own_and_a_refused_one_ends_the_comparison(
    front_door: FrontDoor,
    command: list[str | Path],
    finished_run: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "both").mkdir()
    finished_run.rename(tmp_path / "both" / "learning_rate-0.001-seed5")
    done = front_door(command)
    assert done.exit_code == 2, "the run is there already"
    assert "holds a run already" in capfd.readouterr().err
    assert "the comparison ends here; go on with: the same command and --resume" in done.stdout.splitlines()[-1]
    assert [path.name for path in (tmp_path / "both").iterdir()] == ["learning_rate-0.001-seed5"]
