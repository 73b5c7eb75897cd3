"""`tools/diagnose_issues.py`: what it finds in data, packages and runs, and that its commands mend what it found."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT, FrontDoor, TinyDataset
from tools import diagnose_issues
from tools.diagnosis import dependencies, environment, machine, runs
from tools.diagnosis.data_file import DataFile, diagnose_file
from tools.diagnosis.data_set import data_paths, diagnose_data
from tools.diagnosis.finding import Finding, Status
from tools.diagnosis.report import lines, summary, to_dict
from training import run_directory
from training.progress import ProgressReporter
from training.run_directory import RunDirectory

Row = dict[str, str]


def row(question: str, answer: str, **more: str) -> Row:
    return {"input": question, "output": answer, **more}


def write(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return path


def write_rows(path: Path, *rows: Row, **modules: Sequence[Row]) -> Path:
    return write(path, {"metadata": {}, "data": modules or {"m": list(rows)}})


def the(findings: Iterable[Finding], subject: str, section: str = "") -> Finding:
    """The only finding of that subject."""
    found = [f for f in findings if f.subject == subject and f.section.endswith(section)]
    assert len(found) == 1, found
    return found[0]


def worst(findings: Iterable[Finding]) -> list[tuple[str, Status]]:
    """(subject, status) of whatever is not ok."""
    return [(f.subject, f.status) for f in findings if f.status is not Status.OK]


def diagnosed_data(*paths: Path) -> list[Finding]:
    return list(diagnose_data(paths, complete=False))


def do(fix: str, front_door: FrontDoor) -> None:
    """Carry out a command that was printed as a fix."""
    words = shlex.split(fix)
    if words[0] == "rm":
        subprocess.run(words, check=True)
        return
    assert Path(words[1]).name == "train.py", fix
    done = front_door(words[2:])
    assert done.exit_code == 0, done


# -- data files ----------------------------------------------------------------------------------------------------


def test_the_committed_data_has_no_fault() -> None:
    findings = list(diagnose_data(data_paths(None), complete=True))
    assert worst(findings) == []
    small = the(findings, "rows", "HLBD_Hardcore_Full.json")
    assert small.facts["modules"] == dict.fromkeys(
        ["geometry", "arithmetic", "zodiac", "physics", "reverse_english"], 115
    )
    assert the(findings, "rows", "data/HLBD_Full_V2.json").facts["concepts"] == 5000
    assert [f.facts["leaks"] for f in findings if f.subject == "leaks"] == [0, 0, 0]


def test_a_row_given_twice_is_named_with_both_places(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.json", x=[row("1+1", "2"), row("1+2", "3")], y=[row("1+1", "2")])
    findings = diagnosed_data(path)
    assert worst(findings) == [("duplicates", Status.WARNING)]
    assert the(findings, "duplicates").details == ("'1+1': module 'x', row 0; module 'y', row 0",)


def test_one_input_with_two_answers_is_an_error_that_shows_both(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.json", x=[row("1+2", "3"), row("1+1", "2")], y=[row("1+1", "二")])
    findings = diagnosed_data(path)
    assert worst(findings) == [("contradictions", Status.ERROR)]
    assert the(findings, "contradictions").details == ("'1+1': '2' (module 'x', row 1); '二' (module 'y', row 0)",)


def test_a_concept_told_in_two_ways_is_a_warning_since_the_loader_leaves_it_out(tmp_path: Path) -> None:
    told = [{"concept": "雨", "level_5": {"英文": text}} for text in ("rain", "It rains.")]
    kept = {"concept": "雪", "level_5": {"英文": "snow"}}
    findings = diagnosed_data(write(tmp_path / "a.json", {"samples": [*told, kept]}))
    assert worst(findings) == [("contradictions", Status.WARNING)]
    assert the(findings, "contradictions").facts == {"left_out": 2}


def test_a_held_out_question_in_a_training_file_is_an_error_wherever_it_stands(tmp_path: Path) -> None:
    own = write_rows(tmp_path / "a.json", row("1+1", "2"), row("1+2", "3"))
    other = write_rows(tmp_path / "b.json", row("café?", "3"))
    held_out = write_rows(
        tmp_path / "a_Heldout.json", row("1+2", "3", kind="paraphrase"), row("2+2", "4"), row("café?", "3")
    )
    findings = diagnosed_data(own, other, held_out)
    leaks = the(findings, "leaks")
    assert leaks.status is Status.ERROR
    assert leaks.facts["leaks"] == 2
    assert leaks.details == (
        "'1+2' (module 'm', row 0) is in a.json",
        "'café?' (module 'm', row 2) is in b.json",
    )
    assert the(diagnosed_data(own, held_out), "leaks").facts["leaks"] == 1


def test_a_paraphrased_concept_keeps_its_name_and_leaks_only_if_it_is_told_the_same(tmp_path: Path) -> None:
    def concept(name: str, english: str, **more: str) -> dict[str, Any]:
        return {"concept": name, "level_1": {"字卡": name[0]}, "level_5": {"英文": english}, **more}

    write(tmp_path / "a.json", {"samples": [concept("雨停", "Rain stops."), concept("雪停", "Snow stops.")]})
    held_out = tmp_path / "a_Heldout.json"
    fair = [concept("雨停", "It stopped raining.", kind="paraphrase"), concept("停", "stop", kind="new_fact")]
    assert the(diagnosed_data(write(held_out, {"samples": fair})), "leaks").facts["leaks"] == 0
    same = [*fair, concept("雪停", "Snow stops.", kind="paraphrase")]
    assert the(diagnosed_data(write(held_out, {"samples": same})), "leaks").facts["leaks"] == 2
    known = [*fair, concept("雪停", "The snow is over.", kind="new_fact")]
    assert the(diagnosed_data(write(held_out, {"samples": known})), "leaks").facts["leaks"] == 2


def test_held_out_characters_and_tags_that_training_lacks_are_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.json", row("ab", "c"))
    findings = diagnosed_data(write_rows(tmp_path / "a_Heldout.json", row("[FR]ba", "cé"), row("aé", "b")))
    characters = the(findings, "characters")
    assert characters.status is Status.WARNING
    assert characters.facts["unknown_tags"] == ["[FR]"]
    assert characters.facts["unknown_characters"]["é"] == 2
    assert not {"a", "b", "c"} & set(characters.facts["unknown_characters"])


def test_a_held_out_file_without_its_training_file_says_so(tmp_path: Path) -> None:
    findings = diagnosed_data(write_rows(tmp_path / "a_Heldout.json", row("a", "b")))
    assert worst(findings) == [("leaks", Status.WARNING)]
    assert "a.json" in the(findings, "leaks").message


def test_rows_too_long_for_the_model_come_with_a_command_that_train_accepts(
    tmp_path: Path, front_door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    findings = diagnosed_data(write_rows(tmp_path / "a b.json", row("长" * 300, "短"), row("短", "短")))
    longest = the(findings, "longest row")
    assert longest.status is Status.WARNING
    assert longest.details == ("304 tokens: module 'm', row 0",)
    do(f"{longest.fix} --max-steps 1 --d-model 16 --num-heads 2 --num-layers 1 --answer-samples 0", front_door)


_CHARACTERS = st.sampled_from(["a", "字", "[EN]", "[FR]", "[", "]", " "])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(_CHARACTERS, min_size=1, max_size=12), min_size=2, max_size=30))
def test_the_longest_row_is_the_one_with_most_tokens_not_most_characters(
    tmp_path_factory: pytest.TempPathFactory, questions: list[list[str]]
) -> None:
    path = tmp_path_factory.mktemp("lengths") / "a.json"
    file = DataFile.load(write_rows(path, *(row("".join(q), "答") for q in questions)))
    counted = max(len(file.tokenizer.prompt_ids(s.prompt)) + 2 for s in file.corpus.samples)
    assert the(diagnose_file(file), "longest row").facts["longest_tokens"] == counted


@pytest.mark.parametrize(
    ("question", "misspelt"),
    [("[en]雨", {"[en]": "[EN]"}), ("[EMOJ]雨", {"[EMOJ]": "[EMOJI]"}), ("[PHRASES]雨", {"[PHRASES]": "[PHRASE]"})],
)
def test_a_misspelt_tag_is_a_warning_with_the_one_that_was_meant(
    question: str, misspelt: dict[str, str], tmp_path: Path
) -> None:
    findings = diagnosed_data(write_rows(tmp_path / "a.json", row("[EN]雪", "snow"), row(question, "rain")))
    assert worst(findings) == [("tags", Status.WARNING)]
    assert the(findings, "tags").facts["misspelt"] == misspelt


def test_a_misspelt_level_is_found_by_the_tag_that_it_makes(tmp_path: Path) -> None:
    findings = diagnosed_data(write(tmp_path / "a.json", {"samples": [{"concept": "雨", "level_1": {"Emoji": "🌧️"}}]}))
    assert the(findings, "tags").facts["misspelt"] == {"[Emoji]": "[EMOJI]"}


def test_a_new_tag_and_brackets_in_a_text_are_no_fault(tmp_path: Path) -> None:
    findings = diagnosed_data(write_rows(tmp_path / "a.json", row("[XY]雨", "a[i]"), row("[FR]雨", "pluie")))
    assert worst(findings) == []
    assert the(findings, "tags").facts == {"used": ["[FR]", "[XY]"], "new": ["[XY]"]}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"data": {"m": [{"input": "1', "cut short"),
        (b"", "empty"),
        (b"\xff\xfe", "UTF-8"),
        (b'{"data": {"m": [{"input": 1, "output": "1"}]}}', "row 0"),
    ],
)
def test_a_broken_file_is_one_error_and_the_others_are_still_looked_at(
    content: bytes, told: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.json").write_bytes(content)
    findings = diagnosed_data(tmp_path / "broken.json", write_rows(tmp_path / "good.json", row("a", "b")))
    assert worst(findings) == [("rows", Status.ERROR)]
    assert told in the(findings, "rows", "broken.json").message
    assert the(findings, "rows", "good.json").facts["rows"] == 1


def test_a_missing_file_of_the_project_comes_with_the_command_that_writes_it() -> None:
    there = [p for p in data_paths(None) if p.stem != "HLBD_Hardcore_Full"]
    missing = [f for f in diagnose_data(there, complete=True) if "missing" in f.message]
    assert [(f.status, Path(f.section).name) for f in missing] == [(Status.ERROR, "HLBD_Hardcore_Full.json")]
    script, *arguments = shlex.split(missing[0].fix)[1:]
    assert (ROOT / script).resolve() == ROOT / "tools" / "generate_hlbd_hardcore.py"
    assert arguments == ["--version", "1"]


# -- machine and packages ------------------------------------------------------------------------------------------


def test_the_machine_has_a_core_and_more_memory_than_is_free() -> None:
    memory = machine.memory()
    assert 1 <= machine.usable_cores() <= (os.cpu_count() or 1)
    assert memory.total is not None
    assert memory.available is None or 0 < memory.available <= memory.total


def test_a_container_s_limits_count_where_they_are_below_the_machine_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    for name, content in (("cpu.max", "50000 100000\n"), ("memory.max", "1048576\n"), ("memory.current", "1000000\n")):
        (tmp_path / name).write_text(content, encoding="ascii")
    assert machine.usable_cores() == 1
    assert machine.memory().total == 1048576
    for name, content in (("cpu.max", "max 100000\n"), ("memory.max", "max\n")):
        (tmp_path / name).write_text(content, encoding="ascii")
    assert machine.memory().total != 1048576


@pytest.mark.parametrize(
    ("threads", "given", "status", "fix"),
    [
        (2, None, Status.OK, ""),
        (1, None, Status.OK, ""),
        (8, None, Status.WARNING, "export OMP_NUM_THREADS=2"),
        (1, "1", Status.WARNING, "unset OMP_NUM_THREADS"),
    ],
)
def test_threads_that_do_not_fit_the_cores_are_a_warning(
    threads: int, given: str | None, status: Status, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    found = environment.diagnose_threads(threads, cores=2)
    assert (found.status, found.fix) == (status, fix)


def test_a_full_disk_is_an_error_before_a_checkpoint_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_NO_DISK", 2**60)
    monkeypatch.setattr(environment, "_LITTLE_DISK", 2**61)
    assert the(environment.diagnose_environment([tmp_path, tmp_path]), "disk").status is Status.ERROR


def project(tmp_path: Path, core: Sequence[str], pins: str, **extras: Sequence[str]) -> list[Finding]:
    """The findings for a project with these dependencies."""
    listed = "\n".join(f"{name} = {json.dumps(list(texts))}" for name, texts in extras.items())
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nname = "apt-trainer"\ndependencies = {json.dumps(list(core))}\n'
        f"[project.optional-dependencies]\n{listed}\n",
        encoding="utf-8",
    )
    (tmp_path / "constraints.txt").write_text(pins, encoding="utf-8")
    return list(dependencies.diagnose_dependencies(tmp_path))


def test_a_core_package_that_is_missing_or_too_old_is_an_error_and_an_unpinned_one_a_warning(tmp_path: Path) -> None:
    core = [
        "no-such-package-of-ours>=1",
        "pytest>=999",
        "hypothesis>=1",
        "PyYAML>=5",
        "winreg-only; sys_platform == 'x'",
    ]
    findings = project(tmp_path, core, "# pins\nhypothesis==1.0\npyyaml==0.0 # comment\n")
    assert worst(findings) == [
        ("no-such-package-of-ours", Status.ERROR),
        ("pytest", Status.ERROR),
        ("hypothesis", Status.WARNING),
        ("PyYAML", Status.WARNING),
    ]
    assert ">=999 is needed" in the(findings, "pytest").message
    assert all("pip install -c" in f.fix for f in findings)


def test_a_build_s_name_behind_the_pinned_version_does_not_count(tmp_path: Path) -> None:
    import torch

    public = torch.__version__.partition("+")[0]
    assert worst(project(tmp_path, ["torch>=2.9"], f"torch=={public}\n")) == []


def test_a_missing_extra_is_no_fault_and_comes_with_the_command_that_brings_it(tmp_path: Path) -> None:
    findings = project(
        tmp_path, ["pytest"], "pytest==1\n", data=["no-such-package-of-ours"], dev=["apt-trainer[data]", "hypothesis"],
        old=["hypothesis>=999"], all=["apt-trainer[data,dev,old]"],
    )  # fmt: skip
    assert the(findings, "[dev]").facts["missing"] == ["no-such-package-of-ours"]
    assert the(findings, "[dev]").status is Status.OK
    assert shlex.split(the(findings, "[dev]").fix)[-1].endswith("[dev]")
    assert the(findings, "[old]").status is Status.WARNING
    assert not [f for f in findings if f.subject == "[all]"]


def test_the_project_s_own_packages_are_all_compared_with_a_pin() -> None:
    findings = list(dependencies.diagnose_dependencies())
    core = [f for f in findings if not f.subject.startswith("[")]
    assert {"torch", "numpy", "pydantic", "matplotlib"} <= {f.subject for f in core}
    assert all(f.facts["pinned"] for f in core)


# -- runs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[..., Path]:
    """Make a run directory with a record that ends as told, updated so many seconds ago, and no checkpoints."""

    def make(end: str = "", seconds_ago: float = 0.0, name: str = "recorded") -> Path:
        run_dir = tmp_path / name
        run_dir.mkdir(parents=True)
        reporter = ProgressReporter(run_dir)
        reporter._clock = lambda: time.time() - seconds_ago
        reporter.run_started(backend="playground", total_steps=40, epochs=4, steps_per_epoch=10)
        reporter.step(step=7, epoch=1, batch=7, loss=0.25)
        reporter.checkpoint(run_dir / "checkpoint_step_5.pt", step=5)
        if end == "failed":
            reporter.run_failed(RuntimeError("the disk is gone"))
        elif end == "stopped":
            reporter.run_stopped(reason="SIGTERM")
        elif end == "finished":
            reporter.run_finished(reason="all steps done")
        reporter.flush()
        return run_dir

    return make


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def test_a_finished_run_is_ok_and_its_newest_checkpoint_and_models_are_read(finished_run: Path) -> None:
    findings = list(runs.diagnose_run(finished_run))
    assert worst(findings) == []
    assert the(findings, "state").facts["state"] == "finished"
    assert the(findings, "checkpoints").facts == {
        "newest_good": "checkpoint_epoch_2.pt",
        "older": ["checkpoint_epoch_1.pt"],
        "damaged": [],
    }
    assert the(findings, "final model").facts["good"] == ["final_model.pt", "final_model"]
    assert the(findings, "disk use").facts["bytes"] > (finished_run / "final_model.pt").stat().st_size


@pytest.mark.parametrize(
    ("end", "state", "status"),
    [
        ("finished", "finished", Status.OK),
        ("stopped", "stopped", Status.OK),
        ("failed", "failed", Status.ERROR),
        ("", "stale", Status.WARNING),
    ],
)
def test_the_state_of_a_run_that_nobody_works_on(
    end: str, state: str, status: Status, recorded: Callable[..., Path]
) -> None:
    found = the(runs.diagnose_run(recorded(end)), "state")
    assert (found.facts["state"], found.status) == (state, status)
    assert "step 7 of 40" in found.message
    assert ("--resume" in found.fix) == (end != "finished")
    assert ("the disk is gone" in found.message) == (end == "failed")


@pytest.mark.parametrize(("seconds", "state", "status"), [(5, "running", Status.OK), (4000, "silent", Status.WARNING)])
def test_a_run_whose_lock_is_held_is_running_and_its_checkpoints_are_left_alone(
    seconds: float, state: str, status: Status, recorded: Callable[..., Path]
) -> None:
    run_dir = recorded(seconds_ago=seconds)
    (run_dir / "checkpoint_step_5.pt").write_bytes(b"would not read")
    claimed = RunDirectory(run_dir, resume=True)
    (run_dir / ".checkpoint_step_10.pt.tmp").write_bytes(b"half written")
    findings = list(runs.diagnose_run(run_dir))
    claimed.release()
    assert (the(findings, "state").facts["state"], the(findings, "state").status) == (state, status)
    assert the(findings, "checkpoints").message == "newest checkpoint_step_5.pt; not read, because the run is at work"
    assert not [f for f in findings if f.subject == "leftovers"]
    assert the(runs.diagnose_run(run_dir), "state").facts["state"] == "stale"


def test_the_lock_probe_never_takes_the_place_of_a_run(recorded: Callable[..., Path]) -> None:
    run_dir = recorded()
    assert runs.is_locked(run_dir) is False
    assert not (run_dir / ".lock").exists()
    RunDirectory(run_dir, resume=True).release()
    assert (runs.LOCK_NAME, runs.CONFIG_NAME) == (run_directory.LOCK_NAME, run_directory.CONFIG_NAME)


def test_a_damaged_newest_checkpoint_is_named_beside_the_good_one_and_the_fix_takes_it_away(
    finished_run: Path, front_door: FrontDoor
) -> None:
    flip_a_byte(finished_run / "checkpoint_epoch_2.pt")
    found = the(runs.diagnose_run(finished_run), "checkpoints")
    assert found.status is Status.WARNING
    assert found.facts == {
        "newest_good": "checkpoint_epoch_1.pt",
        "older": [],
        "damaged": ["checkpoint_epoch_2.pt"],
    }
    assert "checkpoint_epoch_2.pt" in found.details[0]
    do(found.fix, front_door)
    assert worst(runs.diagnose_run(finished_run)) == []


def test_a_checkpoint_cut_short_is_damaged_too(finished_run: Path) -> None:
    newest = finished_run / "checkpoint_epoch_2.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    assert the(runs.diagnose_run(finished_run), "checkpoints").facts["damaged"] == ["checkpoint_epoch_2.pt"]


def test_an_unfinished_run_without_a_good_checkpoint_is_an_error_and_can_be_started_anew(
    finished_run: Path, front_door: FrontDoor
) -> None:
    for path in finished_run.glob("checkpoint_*.pt"):
        flip_a_byte(path)
    assert worst(runs.diagnose_run(finished_run)) == [("checkpoints", Status.WARNING)], "its model is there"
    report = json.loads((finished_run / "experiment_report.json").read_text(encoding="utf-8"))
    write(finished_run / "experiment_report.json", report | {"state": "stopped"})
    found = the(runs.diagnose_run(finished_run), "checkpoints")
    assert found.status is Status.ERROR
    assert found.facts["damaged"] == ["checkpoint_epoch_2.pt", "checkpoint_epoch_1.pt"]
    do(found.fix, front_door)
    assert worst(runs.diagnose_run(finished_run)) == []


@pytest.mark.parametrize("name", ["final_model.pt", "final_model/model.safetensors", "final_model/tokenizer.json"])
def test_a_damaged_final_model_is_an_error_and_resuming_writes_it_again(
    name: str, finished_run: Path, front_door: FrontDoor
) -> None:
    path = finished_run / name
    path.write_bytes(path.read_bytes()[:-200])
    found = [f for f in runs.diagnose_run(finished_run) if f.status is not Status.OK]
    assert [(f.subject, f.status) for f in found] == [("final model", Status.ERROR)]
    assert name.partition("/")[0] in found[0].message
    do(found[0].fix, front_door)
    assert worst(runs.diagnose_run(finished_run)) == []


def test_temporary_files_of_a_kill_are_named_and_the_fix_deletes_them(
    finished_run: Path, front_door: FrontDoor
) -> None:
    (finished_run / ".checkpoint_epoch_3.pt.tmp").write_bytes(b"half")
    (finished_run / ".final_model.tmp").mkdir()
    found = the(runs.diagnose_run(finished_run), "leftovers")
    assert found.status is Status.WARNING
    do(found.fix, front_door)
    assert worst(runs.diagnose_run(finished_run)) == []


def test_a_lost_report_is_read_back_from_the_log_and_resuming_writes_it_again(
    finished_run: Path, front_door: FrontDoor
) -> None:
    before = the(runs.diagnose_run(finished_run), "state").facts
    (finished_run / "experiment_report.json").write_bytes(b'{"state": "fin')
    findings = list(runs.diagnose_run(finished_run))
    assert worst(findings) == [("report", Status.WARNING)]
    assert the(findings, "state").facts == before
    do(the(findings, "report").fix, front_door)
    assert worst(runs.diagnose_run(finished_run)) == []


def test_runs_are_found_at_any_depth_once_and_never_in_hidden_or_virtual_environments(
    tmp_path: Path, recorded: Callable[..., Path]
) -> None:
    for name in ("one", "deep/er/two", ".hidden/three", "env/lib/four"):
        recorded("finished", name=name)
    (tmp_path / "env" / "pyvenv.cfg").write_text("", encoding="utf-8")
    found = [f.section for f in runs.diagnose_runs([tmp_path, tmp_path / "deep"]) if f.subject == "state"]
    assert [Path(section).name for section in found] == ["two", "one"]


def test_no_run_at_all_is_no_fault(tmp_path: Path) -> None:
    assert worst(runs.diagnose_runs([tmp_path])) == []


# -- the command ---------------------------------------------------------------------------------------------------


def command(*arguments: str | Path, cwd: Path, code: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, or this code with its arguments."""
    start = ["-c", code] if code else [str(ROOT / "tools" / "diagnose_issues.py")]
    return subprocess.run(
        [sys.executable, *start, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.slow
def test_the_command_runs_from_anywhere_tells_it_all_and_changes_nothing(
    finished_run: Path, tmp_path: Path, tree: Callable[[], dict[str, bytes | None]]
) -> None:
    before = tree()
    done = command(cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    headings = [line for line in done.stdout.splitlines() if line and not line.startswith(" ")]
    assert headings[:2] == ["environment", "dependencies"]
    assert headings[-2:][0] == "run run"
    assert headings[-1].endswith(" warnings, 0 errors")
    assert tree() == before


@pytest.mark.slow
def test_json_says_the_same_as_the_text_and_an_error_sets_the_exit_code(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "题.json", row("1+1", "2"), row("1+1", "3"))
    done = command(".", "--datasets", data, "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    document = json.loads(done.stdout)
    assert document["schema_version"] == 1
    statuses = [f["status"] for f in document["findings"]]
    assert document["summary"] == {
        "ok": statuses.count("ok"),
        "warnings": statuses.count("warning"),
        "errors": statuses.count("error"),
    }
    wrong = [f for f in document["findings"] if f["status"] == "error"]
    assert [(f["section"], f["subject"]) for f in wrong] == [("data 题.json", "contradictions")]
    assert set(wrong[0]) == {"section", "subject", "status", "message", "fix", "details", "facts"}


@pytest.mark.slow
def test_without_torch_everything_else_is_still_told(
    finished_run: Path, tmp_path: Path, tiny_dataset: TinyDataset
) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.modules['torch'] = None\n"
        "from tools.diagnose_issues import run; sys.exit(run(sys.argv[1:]))"
    )
    done = command(".", "--datasets", tiny_dataset(), "--json", cwd=tmp_path, code=code)
    assert (done.returncode, done.stderr) == (1, "")
    findings = {(f["section"], f["subject"]): f for f in json.loads(done.stdout)["findings"]}
    assert findings["environment", "torch"]["status"] == "error"
    assert findings["data tiny.json", "rows"]["facts"]["rows"] == 12
    assert findings["run run", "state"]["facts"]["state"] == "finished"
    assert findings["run run", "checkpoints"]["status"] == "warning"


@pytest.mark.slow
def test_nothing_heavy_but_torch_is_imported(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from tools.diagnose_issues import run; run(['--json'])\n"
        "print(sorted({n.partition('.')[0] for n in sys.modules}), file=sys.stderr)"
    )
    done = command(cwd=tmp_path, code=code)
    for name in ("matplotlib", "transformers", "deepspeed", "azure", "mlflow", "wandb", "hypothesis"):
        assert f"'{name}'" not in done.stderr
    assert "'torch'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "nowhere: there is no such directory"),
        (["tiny.json"], "tiny.json: this is a file"),
        (["--datasets", "nowhere.json"], "nowhere.json: no such data file"),
        (["--dataset", "tiny.json"], "--dataset"),
        (["--json=yes"], "--json"),
        (["--datasets"], "--datasets"),
    ],
)
def test_arguments_that_cannot_be_used_are_one_line_and_exit_code_2(
    arguments: list[str], told: str, tmp_path: Path, tiny_dataset: TinyDataset,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    tiny_dataset()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["diagnose_issues.py", *arguments])
    assert diagnose_issues.main() == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("diagnose_issues: ")
    assert output.err.count("\n") == 1
    assert told in output.err


def test_a_python_that_is_too_old_is_told_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(diagnose_issues, "NEEDED_PYTHON", (99, 0))
    monkeypatch.setattr(sys, "argv", ["diagnose_issues.py"])
    assert diagnose_issues.main() == 2
    assert "99.0 or newer" in capsys.readouterr().err


def test_the_needed_python_is_that_of_the_project() -> None:
    asked = ".".join(map(str, diagnose_issues.NEEDED_PYTHON))
    assert f'requires-python = ">={asked}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_text_is_aligned_shows_five_cases_and_counts_the_rest() -> None:
    findings = [
        Finding("data a", "rows", Status.OK, "fine"),
        Finding("data a", "重复", Status.WARNING, "eight", "mend it", tuple(f"case {i}" for i in range(8))),
        Finding("run b", "state", Status.ERROR, "failed"),
    ]
    assert list(lines(findings)) == [
        "data a",
        "  ok       rows   fine",
        "  warning  重复   eight",
        *(f"                  case {i}" for i in range(5)),
        "                  and 3 more (--json lists them all)",
        "                  -> mend it",
        "run b",
        "  error    state  failed",
        "",
        "1 ok, 1 warnings, 1 errors",
    ]
    assert summary(findings[:1]) == "1 ok, 0 warnings, 0 errors"
    assert to_dict(findings)["findings"][1]["details"][7] == "case 7"
