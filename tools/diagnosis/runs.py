"""The runs on disk: how each ended, what it can be resumed from, what is damaged, what a kill left behind."""

from __future__ import annotations

import os
import shlex
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tools.diagnosis.findings import Finding, Status
from tools.figures.wording import size_text
from training.checkpoints.branches import ahead_of_record
from training.checkpoints.run_directory import (
    CONFIG_NAME,
    FINAL_NAME,
    MODEL_DIRECTORY,
    asides_of_kills,
    leftovers_of_kills,
)
from training.checkpoints.run_lock import is_locked
from training.checkpoints.run_search import find_runs
from training.errors import CheckpointError, UnreadableError
from training.machine.commands import pip_command, python_command, shown
from training.record.log import LOG_NAME, REPORT_NAME, DamagedLines, read_events, read_report
from training.record.report import Report
from training.storage.atomic import name_of_aside

SECTION = "runs"
SILENT_AFTER = 600.0
"""Seconds without an update after which a running run is suspected to hang."""


def diagnose_runs(roots: Sequence[Path]) -> Iterator[Finding]:
    """Check every run below the given directories."""
    unreadable: list[OSError] = []
    found = list(find_runs(roots, unreadable))
    for error in unreadable:
        where = Path(error.filename)
        fix = f"chmod u+rx {shlex.quote(shown(where))}"
        yield Finding(SECTION, "search", Status.WARNING, f"{shown(where)} cannot be read ({error.strerror})", fix)
    if not found:
        below = ", ".join(map(shown, roots))
        yield Finding(
            SECTION,
            "search",
            Status.OK,
            f"no run below {below}",
            python_command("train.py", "--config", "playground_cpu"),
        )
    for run_dir in found:
        yield from diagnose_run(run_dir)


def diagnose_run(run_dir: Path) -> Iterator[Finding]:
    """Check state, checkpoints, final model, leftovers and size of one run."""
    section = f"run {shown(run_dir)}"
    faults: list[str] = []
    stored = read_report(run_dir, faults)
    report, log_fault = _record(run_dir, stored)
    at_work = is_locked(run_dir)
    yield _state(section, run_dir, report or {}, at_work)
    if report is not None and stored is None:
        message = f"{REPORT_NAME} is missing or damaged; {LOG_NAME} has everything, and resuming writes it again"
        yield Finding(section, "report", Status.WARNING, message, _resume(run_dir, report), tuple(faults))
    elif faults:
        message = f"{faults[0]}; resuming writes the report again"
        yield Finding(section, "report", Status.WARNING, message, _resume(run_dir, report or {}), tuple(faults))
    if log_fault:
        message = f"{log_fault}; the checkpoints do not need them"
        yield Finding(section, "log", Status.WARNING, message)
    yield from _checkpoints(section, run_dir, report or {}, at_work)
    if not at_work:
        yield from _final_model(section, run_dir, report or {})
        yield from _leftovers(section, run_dir, report or {})
    # Not rglob: it ends with an error where a run at work renames a directory meanwhile.
    found = (Path(folder, file) for folder, _, files in os.walk(run_dir) for file in files)
    files = [p for p in found if p.is_file() and not p.is_symlink()]
    size = sum(_size(p) for p in files)
    message = f"{size_text(size)} in {len(files)} files"
    yield Finding(section, "disk use", Status.OK, message, facts={"bytes": size, "files": len(files)})


def _record(run_dir: Path, report: dict[str, Any] | None) -> tuple[dict[str, Any] | None, str]:
    """Return the run's report, folded from the event log where there is none, and what is wrong with the log."""
    damaged = DamagedLines()
    try:
        events = read_events(run_dir / LOG_NAME, damaged)
        if report is None:
            report = Report.of(events).to_dict()
        else:
            deque(events, maxlen=0)
    except FileNotFoundError:
        return report, ""
    except OSError as error:
        return report, f"{LOG_NAME}: it cannot be read ({error.strerror})"
    return report, str(damaged) if damaged.count else ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a run at work has just replaced it
        return 0


def _backend(report: dict[str, Any]) -> list[str]:
    name = report.get("backend")
    return ["--backend", name] if isinstance(name, str) and name != "playground" else []


def _resume(run_dir: Path, report: dict[str, Any]) -> str:
    """Return the command that resumes a run. The directory brings the run's own settings."""
    if not (run_dir / CONFIG_NAME).is_file():
        return "the run's own command with --resume (its settings were not recorded)"
    return python_command("train.py", *_backend(report), "--resume", run_dir)


def _start_again(run_dir: Path, report: dict[str, Any]) -> str:
    """Return the command that starts a run again with its own settings, in a directory next to it."""
    if not (run_dir / CONFIG_NAME).is_file():
        return "the run's own command with another --run-dir (its settings were not recorded)"
    again = run_dir.with_name(f"{run_dir.resolve().name}_again")
    return python_command("train.py", *_backend(report), "--config", run_dir / CONFIG_NAME, "--run-dir", again)


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"


def _progress(report: dict[str, Any]) -> str:
    """Return the progress in words: `at step 360 of 360, epoch 20, loss 0.0123`."""
    latest = report.get("latest") or {}
    total = report.get("total_steps")
    text = f"at step {report.get('step', 0)}" + (f" of {total}" if total is not None else "")
    text += f", epoch {latest['epoch']}" if latest.get("epoch") is not None else ""
    return text + (f", loss {latest['loss']:.4g}" if latest.get("loss") is not None else "")


def _state(section: str, run_dir: Path, report: dict[str, Any], at_work: bool) -> Finding:
    """Check the state: finished, stopped, failed, running; or stale: recorded as running, but without a process."""
    said = report.get("state", "unknown")
    updated = report.get("updated_at")
    age = time.time() - updated if isinstance(updated, int | float) else None
    when = f", updated {_ago(age)}" if age is not None else ""
    state, status, fix = said, Status.OK, ""
    message = f"{said} {_progress(report)}{when}"
    if said == "running" and not at_work:
        state, status, fix = "stale", Status.WARNING, _resume(run_dir, report)
        message = f"stale: its record says running, but no process works on it; {_progress(report)}{when}"
    elif said == "running" and age is not None and age > SILENT_AFTER:
        # Stopping it is the user's decision: it may only be slow.
        state, status, fix = "silent", Status.WARNING, f"tail -n 3 {shlex.quote(shown(run_dir / LOG_NAME))}"
        message = f"silent: a process works on it and has reported nothing for a long time; {_progress(report)}{when}"
    elif said == "failed":
        status, fix = Status.ERROR, _resume(run_dir, report)
        error = str(report.get("error", "no reason recorded")).splitlines()[0]
        message = f"failed {_progress(report)}{when}: {error}"
    elif said == "stopped":
        fix = _resume(run_dir, report)
    elif said == "unknown":
        status, fix = Status.WARNING, _resume(run_dir, report)
        message = f"no record: {LOG_NAME} and {REPORT_NAME} are missing or unreadable"
    facts = {"state": state, "step": report.get("step"), "total_steps": report.get("total_steps"),
             "updated_at": updated, "run_id": report.get("run_id"), "backend": report.get("backend")}  # fmt: skip
    return Finding(section, "state", status, message, fix, facts=facts)


def _checkpoints(section: str, run_dir: Path, report: dict[str, Any], at_work: bool) -> Iterator[Finding]:
    """Check the checkpoints: the newest is read whole, of the others only the manifests."""
    if at_work:
        names = [c.get("path") for c in report.get("checkpoints", [])]
        message = f"newest {names[-1]}; not read, because the run is at work" if names else "none yet"
        yield Finding(section, "checkpoints", Status.OK, message)
        return
    try:
        from training.checkpoints.checkpoint import list_checkpoints, newest_good
    except (ImportError, OSError) as error:  # without torch they cannot be read; the environment's section says why
        yield Finding(section, "checkpoints", Status.WARNING, f"not read: {error}", pip_command())
        return
    readable, unreadable = list_checkpoints(run_dir)
    good, faults = newest_good(run_dir)
    newest_first = [path for _, path in readable]
    passed_over = newest_first[: newest_first.index(good[0])] if good else newest_first
    refused = [path for path in newest_first + [path for path, _ in unreadable] if _may_not_be_read(path, faults)]
    damaged = [path for path in (*(path for path, _ in unreadable), *passed_over) if path not in refused]
    details = tuple(str(fault).replace(str(run_dir), shown(run_dir)) for fault in faults)
    facts: dict[str, Any] = {
        "newest_good": good[0].name if good else None,
        "older": [path.name for path in newest_first[len(passed_over) + 1 :]],
        "damaged": [path.name for path in damaged],
    }
    if refused:  # nothing is known of them, so nothing is advised that would cost one
        message = f"{len(refused)} cannot be read: {details[0]}"
        readable_again = f"chmod -R u+rX {shlex.join(map(shown, refused))}"
        yield Finding(section, "checkpoints", Status.WARNING, message, readable_again, details, facts)
        return
    if good is None and not damaged:
        yield Finding(section, "checkpoints", Status.OK, "none", facts=facts)
        return
    if good is None and report.get("state") != "finished":
        message = f"all {len(damaged)} are damaged: the run cannot be resumed"
        fix = _start_again(run_dir, report)
        yield Finding(section, "checkpoints", Status.ERROR, message, fix, details, facts)
        return
    message = (
        f"newest good one {good[0].name} (step {good[1]['step']})" if good else "none good, and the run is finished"
    )
    message += f", {len(facts['older'])} older" if facts["older"] else ""
    status, fix = Status.OK, ""
    if damaged:
        moves = [(path, path.with_name(f"damaged_{path.name}")) for path in damaged]
        fix = " && ".join(f"mv {shlex.join((shown(path), shown(aside)))}" for path, aside in moves)
        status = Status.WARNING
        message = f"{len(damaged)} damaged; {message}"
    elif good is not None and (warning := ahead_of_record(run_dir, good[0], good[1]["step"])):
        status, message = Status.WARNING, warning.replace(str(run_dir), shown(run_dir))
    yield Finding(section, "checkpoints", status, message, fix, details, facts)


def _may_not_be_read(path: Path, faults: Sequence[CheckpointError]) -> bool:
    return any(isinstance(fault, UnreadableError) and str(fault).startswith(f"{path}/") for fault in faults)


def _final_model(section: str, run_dir: Path, report: dict[str, Any]) -> Iterator[Finding]:
    """Check both forms of the finished model, as the verifier reads them. Resuming a finished run writes them again."""
    try:
        from training.checkpoints.finished_model import load_trained_model
    except (ImportError, OSError):  # said above
        return
    whole: list[str] = []
    for name in (FINAL_NAME, MODEL_DIRECTORY):
        if (run_dir / name).exists():
            try:
                load_trained_model(run_dir / name)
            except UnreadableError as error:
                message = str(error).replace(str(run_dir), shown(run_dir))
                fix = f"chmod -R u+rX {shlex.quote(shown(run_dir / name))}"
                yield Finding(section, "final model", Status.WARNING, message, fix)
            except CheckpointError as error:
                message = str(error).replace(str(run_dir), shown(run_dir))
                yield Finding(section, "final model", Status.ERROR, message, _resume(run_dir, report))
            else:
                whole.append(name)
    if whole:
        yield Finding(section, "final model", Status.OK, f"good: {', '.join(whole)}", facts={"good": whole})


def _leftovers(section: str, run_dir: Path, report: dict[str, Any]) -> Iterator[Finding]:
    """Find what a kill left behind. The next resume cleans up; until then it only takes space."""
    asides = asides_of_kills(run_dir)
    only_copies = [p for p in asides if not name_of_aside(p).exists()]
    found = sorted({*leftovers_of_kills(run_dir), *asides} - {*only_copies})
    if only_copies:
        names = ", ".join(name_of_aside(p).name for p in only_copies)
        message = f"a kill came while {names} was being replaced; resuming puts it back from {only_copies[0].name}"
        yield Finding(section, "leftovers", Status.WARNING, message, _resume(run_dir, report))
    if found:
        names = ", ".join(p.name for p in found)
        fix = f"rm -r {shlex.join(shown(p) for p in found)}"
        yield Finding(section, "leftovers", Status.WARNING, f"temporary files of a kill: {names}", fix)
