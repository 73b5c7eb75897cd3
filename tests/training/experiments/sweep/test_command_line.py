"""`--sweep` on the command line: its forms mean the same, and bad input is one line before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import FrontDoor, TinyDataset

SPACE = "learning_rate=1e-4..1e-2 log, d_model=16|32"


@pytest.fixture
def words(tiny_dataset: TinyDataset, tiny_flags: list[str], tmp_path: Path) -> list[str]:
    """Return the flags of a small run; nothing is written, since each test asks for a dry run or is refused."""
    return ["--datasets", str(tiny_dataset()), "--run-dir", str(tmp_path / "sweep"), *tiny_flags]


def trials(front_door: FrontDoor, words: list[str]) -> list[str]:
    """Return the lines of a dry run about the sweep."""
    done = front_door([*words, "--dry-run"])
    assert done.exit_code == 0, done.stderr
    lines = [line.removeprefix("# ") for line in done.stdout.splitlines() if line.startswith("# ")]
    return lines[next(n for n, line in enumerate(lines) if line.startswith("sweep:")) :]


def test_a_text_flags_and_a_file_mean_the_same(front_door: FrontDoor, words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "search: {learning_rate: 1e-4..1e-2 log, d_model: [16, 32]}\nmax_trials: 4\nsampling: sobol\nepochs: 3\n",
        encoding="utf-8",
    )
    from_text = trials(front_door, [*words, "--sweep", SPACE, "--trials", "4", "--sampling", "sobol"])
    assert from_text[:3] == [
        "sweep: minimize train/loss, 4 trials, sampling sobol",
        "varies learning_rate: 0.0001 to 0.01, loguniform",
        "varies d_model: 16, 32",
    ]
    assert len(from_text) == 7
    of_search = ["--search", "learning_rate=log(1e-4..1e-2)", "d_model=16,32", "--max-trials", "4"]
    assert trials(front_door, [*words, "--sweep", *of_search, "--sampling", "sobol"]) == from_text
    assert trials(front_door, [*words, "--sweep", str(file)]) == from_text
    assert trials(front_door, [*words, "--sweep", str(file), "--trials", "2"])[3:] == from_text[3:5]
    resolved = front_door([*words, "--sweep", str(file), "--dry-run"]).stdout
    assert "epochs: 3\n" in resolved


def test_azure_takes_the_same_texts_and_files(front_door: FrontDoor, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(f"search: '{SPACE}'\nmax_trials: 4\n", encoding="utf-8")
    for given in (SPACE, str(file)):
        done = front_door(["--backend", "azure", "--sweep", given, "--explain", "search"])
        assert done.stdout.startswith(f"azure.search = ('{SPACE}',)\n"), done.stderr
        assert (
            "azure.sweep = True\n" in front_door(["--backend", "azure", "--sweep", given, "--explain", "sweep"]).stdout
        )


def test_a_file_may_name_the_task_and_the_backend(front_door: FrontDoor, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("backend: huggingface\nsearch: [learning_rate=1e-4|1e-3]\n", encoding="utf-8")
    shown = front_door(["--sweep", file, "--explain", "backend"])
    assert shown.stdout.startswith("backend = huggingface\n"), shown.stderr
    told = front_door(["--config", "playground_cpu", "--sweep", file, "--explain", "backend"])
    assert told.stderr == f"error: --sweep {file}: next to --config, it cannot have backend; leave one out\n"


def test_the_options_are_explained(front_door: FrontDoor, words: list[str]) -> None:
    shown = front_door([*words, "--sweep", "--trials", "7", "--explain", "trials"]).stdout
    assert shown.startswith("sweep.max_trials = 7\n")
    assert "  set by   --max-trials\n" in shown


BAD = [
    (["--sweep", "learning_rate=1e-2..1e-4"], "the range is reversed, 0.01 is above 0.0001; give the lower end first"),
    (["--sweep", "learning_rate=1e-2..1e-4 log"], "the range is reversed, 0.01 is above 0.0001"),
    (["--sweep", "lerning_rate=1e-4..1e-2"], "--search lerning_rate: no such setting; did you mean 'learning_rate'?"),
    (["--sweep", "seed=1|2"], "a sweep does not vary seed: the best trial is trained again with seeds of its own"),
    (["--sweep", "max_seq_len=64|128"], "not vary max_seq_len: with another one the loss is that of other tokens"),
    (["--sweep", "dropout=0.0..0.3"], "training losses are measured with it; add --validation-split 0.1"),
    (["--sweep", "model=apt|huggingface"], "a sweep does not vary model: another model has other settings"),
    (["--sweep", SPACE, "--trials", "0"], "max_trials = '0' (from --max-trials): input should be greater than or"),
    (["--sweep", SPACE, "--trials", "many"], "max_trials = 'many' (from --max-trials): should be a whole number"),
    (["--sweep", "d_model=16|32", "--trials", "3"], "can be combined in 2 ways only; give --max-trials 2"),
    (["--sweep", SPACE, "--sampling", "grid"], "sampling=grid takes choice only, and learning_rate is loguniform"),
    (["--sweep", SPACE, "--sampling", "bayesian"], "should be one of 'random', 'sobol' or 'grid'"),
    (["--sweep", SPACE, "--sweep-metric", "f1"], "sweep_metric=f1: a run reports no such metric; a run reports train/"),
    (["--sweep", SPACE, "--sweep-metric", "eval/loss"], "needs validation data; give --validation-split 0.1"),
    (
        ["--sweep", SPACE, "--confirm-seeds", "2"],
        "should be 3 or more, since fewer say nothing about their spread, or 0",
    ),
    (
        ["--sweep", "d_model=16|18|31"],
        "would have d_model=31, and would be refused: d_model=31 cannot be divided among",
    ),
    (["--sweep", SPACE, "--push-to-hub", "me/it"], "each trial of a sweep would push its model; push the best one"),
    (
        ["--sweep", "nowhere.yaml"],
        "--sweep nowhere.yaml: no such file; give a YAML file, or settings with their values",
    ),
    (["--sweep", ""], "--sweep : is empty; give a path"),
    (["--sweep", "d_model"], "--sweep d_model: no such file; give a YAML file, or settings with their values"),
    (
        ["--sweep", SPACE, "--halving", "1"],
        "halving = '1' (from --halving): input should be greater than or equal to 2",
    ),
    (["--sweep", SPACE, "--halving", "2"], "halving=2 compares trials by their evaluations, and the metric is train/"),
    (
        ["--sweep", SPACE, "--halving", "2", "--validation-split", "0.2", "--max-steps", "9"],
        "halving=2 counts in epochs, and max_steps=9 may end a run inside one; give --epochs alone",
    ),
    (
        ["--sweep", SPACE, "--halving", "4", "--validation-split", "0.2", "--epochs", "3"],
        "halving=4: a run of epochs=3 has no rung; give --epochs 4 or more",
    ),
    (["--stop-after", "0"], "--stop-after: '0' should be a whole number from 1 to 1,000,000"),
    (["--stop-after", "2", "--estimate"], "--stop-after 2 is for a run, and --estimate makes its own; leave one out"),
    (["--trials", "3"], "--max-trials 3 is for a sweep; give --sweep with it"),
    (["--search", "d_model=16|32"], "--search d_model=16|32 is for a sweep; give --sweep with it"),
    (["--sweep", SPACE, "--compare", "d_model=16,32"], "--sweep and --compare do not go together"),
    (["--sweep", SPACE, "--estimate"], "--sweep and --estimate do not go together"),
]


@pytest.mark.parametrize(("given", "told"), BAD, ids=[" ".join(given) for given, _ in BAD])
def test_bad_input_is_one_line(
    given: list[str], told: str, front_door: FrontDoor, words: list[str], tmp_path: Path
) -> None:
    refused = front_door([*words, *given])
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert told in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("search: {learning_rate: 3}\n", "should be a list of values or a mapping with `type`, not 3"),
        ("serch: [d_model=16]\n", "unknown key 'serch'; did you mean 'search'?"),
        ("search: [d_model=16|32\n", "not valid YAML"),
        ("backend: auto\nsearch: [d_model=16|32]\n", "--sweep and --backend auto do not go together"),
    ],
)
def test_a_bad_file_is_one_line(text: str, told: str, front_door: FrontDoor, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(text, encoding="utf-8")
    refused = front_door([*words, "--sweep", str(tmp_path / "space.yaml")])
    assert refused.exit_code == 2
    assert told in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_damaged_sweep_is_named(front_door: FrontDoor, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text('{"schema_version": 1, "backend": 3}')
    refused = front_door(["--resume", tmp_path])
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"error: {tmp_path / 'sweep.json'}: damaged, ")
    assert refused.stderr.count("\n") == 1
