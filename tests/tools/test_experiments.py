"""The command `tools/experiments.py`: a table that can be asked, and changes that ask first."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.recorded_runs import RecordedRun
from tests.test_architecture import LIGHT, ROOT, reached_on_import
from tools import experiments
from tools.figures.wording import columns_of
from training.errors import UserError
from training.experiments.jobs.files import JobRequest, job_directories
from training.experiments.jobs.job_queue import JobQueue

START = 1_760_000_000.0
RATES = (1e-2, 1e-3, 3e-4)

Ask = Callable[..., str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root with three runs that are over and one that is silent, of two model sizes and three rates."""
    for n, rate in enumerate(RATES):
        settings: dict[str, dict[str, object]] = {
            "schedule": {"learning_rate": rate},
            "model": {"d_model": 64 if n < 2 else 128},
        }
        run = RecordedRun(
            tmp_path / "runs" / "sweep" / f"rate_{n}",
            start=START + 1000 * n,
            settings=settings,
            validation=lambda epoch, n=n: (n + 1.0) / epoch,  # type: ignore[misc]
        )
        run.train().finish()
    RecordedRun(tmp_path / "runs" / "silent", start=START - 1000).train(20).flush()
    return tmp_path / "runs"


@pytest.fixture
def ask(root: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Return a function that runs the command on the root and returns what it prints."""

    def run(*words: str) -> str:
        assert experiments.run(["--root", str(root), *words]) == 0
        return capsys.readouterr().out

    return run


def names(table: str) -> list[str]:
    """Return the names of a table's runs, in its order."""
    return [line.split()[0] for line in table.splitlines() if line.startswith(("sweep/", "silent"))]


# -- list ----------------------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first(ask: Ask) -> None:
    table = ask("list")
    assert table.startswith("4 runs: 1 stalled, 3 finished\n")
    assert names(table) == ["sweep/rate_2", "sweep/rate_1", "sweep/rate_0", "silent"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--where", "learning_rate<=1e-3 and val_loss<1"], ["sweep/rate_2", "sweep/rate_1"]),
        (["--where", "state = 'stalled'"], ["silent"]),
        (["--state", "finished", "--sort", "val_loss", "--limit", "1"], ["sweep/rate_0"]),
        (
            ["--sort", "-schedule.learning_rate,name", "--all"],
            ["sweep/rate_0", "sweep/rate_1", "sweep/rate_2", "silent"],
        ),
        (["--sort", "name", "--offset", "3"], ["sweep/rate_2"]),
        (["--search", "RATE_1"], ["sweep/rate_1"]),
    ],
)
def test_lists_are_filtered_and_sorted_by_settings_and_figures(words: list[str], expected: list[str], ask: Ask) -> None:
    assert names(ask("list", *words)) == expected


def test_runs_are_grouped_by_a_setting(ask: Ask) -> None:
    lines = ask("list", "--group-by", "d_model", "--sort", "name").splitlines()
    heads = [line for line in lines if line.startswith("d_model")]
    assert heads == [
        "d_model = 64   2 runs   best loss 0.1500 ± 0.0707 (mean and standard deviation)",
        "d_model = 128   1 run",
        "d_model = not known   1 run",
    ]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_table_fits_80_columns(language: str, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.experiment_views.list_runs.TABLE_WIDTH_ELSEWHERE", 80)
    ask("tag", "silent", "a tag with a long name", "another tag")
    table = ask("list", "--lang", language, "--columns", "learning_rate")
    assert max(columns_of(line) for line in table.splitlines()) <= 80
    assert ("学" in table or "已完成" in table) == (language == "zh")
    assert [name for name in ("0.0003", "0.001", "0.01") if name in table] == ["0.0003", "0.001", "0.01"]


def test_a_document_has_all_figures_and_those_that_were_asked_for(ask: Ask, root: Path) -> None:
    document = json.loads(ask("list", "--json", "--columns", "d_model,grad_norm", "--group-by", "d_model"))
    assert (document["format"], document["schema_version"]) == ("apt-experiments", 1)
    assert (document["total"], document["root"]) == (4, str(root))
    first = next(run for run in document["runs"] if run["name"] == "sweep/rate_0")
    assert (first["val_loss"], first["values"]) == (0.1, {"d_model": 64, "grad_norm": 1.0})
    assert [group["value"] for group in document["groups"]] == [64, 128, None]


# -- one run -------------------------------------------------------------------------------------------------------


def test_one_run_is_shown_with_its_settings_and_figures(ask: Ask) -> None:
    page = ask("show", "rate_1")
    assert "sweep/rate_1" in page
    assert "schedule.learning_rate  0.001" in page
    assert "val_loss             0.2" in page
    shown = json.loads(ask("show", "rate_1", "--json"))["run"]
    assert (shown["settings"]["schedule.learning_rate"], shown["figures"]["val_loss"]) == (1e-3, 0.2)


def test_tags_notes_and_the_archive_stay_with_the_run(ask: Ask) -> None:
    assert ask("tag", "rate_1", "best", "baseline") == "sweep/rate_1: baseline, best\n"
    assert ask("tag", "rate_1", "best", "--remove") == "sweep/rate_1: baseline\n"
    assert ask("tag") == "baseline  1\n"
    assert ask("note", "rate_1", "converged") == "converged\n"
    assert names(ask("list", "--tag", "baseline", "--search", "verg")) == ["sweep/rate_1"]
    assert ask("archive", "rate_1", "rate_2") == "sweep/rate_1: archived\nsweep/rate_2: archived\n"
    assert names(ask("list")) == ["sweep/rate_0", "silent"]
    assert names(ask("list", "--archived")) == ["sweep/rate_2", "sweep/rate_1"]
    assert ask("archive", "rate_1", "--undo") == "sweep/rate_1: in lists again\n"
    assert len(names(ask("list", "--all"))) == 4


# -- deleting ------------------------------------------------------------------------------------------------------


def test_deleting_without_a_terminal_needs_consent(ask: Ask, root: Path) -> None:
    with pytest.raises(UserError, match="delete asks before it deletes, and there is no terminal to ask on; add --yes"):
        ask("delete", "rate_1")
    (root / "sweep" / "rate_1" / "mine.txt").write_text("mine")
    assert "sweep/rate_1: deleted; mine.txt stay\n" in ask("delete", "rate_1", "--yes")
    assert [entry.name for entry in (root / "sweep" / "rate_1").iterdir()] == ["mine.txt"]
    assert len(names(ask("list"))) == 3


@contextmanager
def terminal(answer: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put a terminal under stdin and stdout, on which somebody types an answer."""
    reader, typist = pty.openpty()
    os.write(typist, f"{answer}\n".encode())
    with os.fdopen(reader, "r") as stdin, os.fdopen(os.dup(reader), "w") as stdout, monkeypatch.context() as patched:
        patched.setattr(sys, "stdin", stdin)
        patched.setattr(sys, "stdout", stdout)
        try:
            yield
        finally:
            os.close(typist)


@pytest.mark.parametrize(("answer", "is_there"), [("n", True), ("", True), ("yes", False)])
def test_deleting_asks_on_a_terminal(answer: str, is_there: bool, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(answer, monkeypatch):
        assert experiments.run(["delete", "rate_1", "--root", str(root)]) == 0
    assert (root / "sweep" / "rate_1").exists() == is_there


def test_a_run_goes_with_its_job_unless_a_server_has_it(ask: Ask, root: Path) -> None:
    queue = JobQueue(root)
    jobs = [queue.submit(JobRequest(name)) for name in ("first", "second")]
    for job in jobs:
        RecordedRun(job.run_dir, start=START).train().finish()
    with pytest.raises(
        UserError, match=r"^run first: it is a job of the server that runs; delete it there, or stop the"
    ):
        ask("delete", "first", "--yes")
    queue.close()
    assert "first: deleted\n" in ask("delete", "first", "--yes")
    assert [path.name for path in job_directories(root)] == [jobs[1].id]
    assert not jobs[0].run_dir.exists()
    assert "first" not in ask("list")


# -- unusable input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list", "--where", "lerning_rate<1"], "unknown name 'lerning_rate' at character 1; did you mean 'learning_r"),
        (["list", "--sort", "val_los"], "--sort val_los: unknown name 'val_los'; did you mean 'val_loss'?"),
        (["list", "--group-by", "tags"], "--group-by tags: a run may have several tags"),
        (["list", "--columns", "d_modle"], "--columns d_modle: unknown name 'd_modle'; did you mean 'd_model'?"),
        (["list", "--state", "runing"], "--state runing: unknown state; did you mean 'running'?"),
        (["list", "--limit", "0"], "--limit must be a whole number from 1 to 100000, got '0'"),
        (["list", "--archived", "--all"], "argument --all: not allowed with argument --archived (see --help)"),
        (["show", "rate_9"], "run rate_9: there is no such run below"),
        (["tag", "rate_1"], "tag rate_1: give at least one tag"),
        (["tag", "rate_1", "a,b"], "tag 'a,b': a tag has 1 to 64 characters, no comma and no control characters"),
        (["note", "rate_1", "x" * 10_001], "a note has up to 10,000 characters, got 10,001"),
        (["lst"], "argument COMMAND: invalid choice: 'lst'"),
        (["list", "--sort", "--json"], "argument --sort: expected one argument (see --help)"),
        (["list", "--sort"], "argument --sort: expected one argument (see --help)"),
        ([], "the following arguments are required: COMMAND (see --help)"),
    ],
)
def test_unusable_input_is_one_line(words: list[str], said: str, ask: Ask) -> None:
    with pytest.raises(UserError) as caught:
        ask(*words)
    assert said in str(caught.value)


def test_a_root_without_runs_is_one_line(tmp_path: Path) -> None:
    for place, said in ((tmp_path / "gone", "there is no such directory"), (tmp_path, "no run below")):
        with pytest.raises(UserError, match=said):
            experiments.run(["list", "--root", str(place)])


def test_names_of_runs_are_shown_and_not_obeyed(ask: Ask, root: Path) -> None:
    RecordedRun(root / "red \x1b[31m\nline", start=START).train(1).flush()
    page = ask("list") + ask("show", r"red \x1b[31m\nline") + ask("tag", r"red \x1b[31m\nline", "x")
    assert "\x1b" not in page
    assert r"red \x1b[31m\nline" in page


def test_asking_for_help_waits_for_nothing_heavy() -> None:
    assert reached_on_import("tools.experiments").isdisjoint({*LIGHT, "numpy", "pydantic", "rich", "sqlite3", "yaml"})


@pytest.mark.slow
def test_the_command_runs_as_a_process(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "experiments.py"), "list", "--root", str(root), "--sort", "-val_loss"],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    )
    assert names(done.stdout)[0] == "sweep/rate_2"
    assert done.stderr == ""
