"""`tools/diagnose_issues.py`: machine, packages, and the command as a whole (data and runs have files of their own)."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.conftest import ROOT, TinyDataset
from tests.support.findings import row, the, worst, write_rows
from tools import diagnose_issues
from tools.diagnosis import dependencies, environment
from tools.diagnosis.findings import Finding, Status, lines, summary, to_dict
from training.machine import limits as machine

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
    """Return the findings for a project with these dependencies."""
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


# -- the command ---------------------------------------------------------------------------------------------------


def command(*arguments: str | Path, cwd: Path, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, or this code with its arguments."""
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
        Finding("data a", "重复", Status.WARNING, "eight", "fix it", tuple(f"case {i}" for i in range(8))),
        Finding("run b", "state", Status.ERROR, "failed"),
    ]
    assert list(lines(findings)) == [
        "data a",
        "  ok       rows   fine",
        "  warning  重复   eight",
        *(f"                  case {i}" for i in range(5)),
        "                  and 3 more (--json lists them all)",
        "                  -> fix it",
        "run b",
        "  error    state  failed",
        "",
        "1 ok, 1 warnings, 1 errors",
    ]
    assert summary(findings[:1]) == "1 ok, 0 warnings, 0 errors"
    assert to_dict(findings)["findings"][1]["details"][7] == "case 7"
