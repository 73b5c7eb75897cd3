"""Outcome of a job: its exit code, why it failed, and the end of its log."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from training.azure.service.errors import ServiceError, code_of, status_of
from training.azure.service.jobs import JobState, RunHistory, history_of, look_at
from training.machine.units import as_duration
from training.record.reporter import read_report

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient

    from training.azure.service.workspace import Workspace

EXIT_FAILED = 1
EXIT_CANCELLED = 130
CLOCKS_DIFFER = 60.0
"""Greatest difference in seconds between a machine's clock and the service's."""
LAST_LINES = 20
LONGEST_ERROR = 400
LOG_TAIL_BYTES = 64 * 1024
ARTIFACT_STORE = "workspaceartifactstore"
USER_LOGS = "user_logs/"

_EXIT_STATUS = re.compile(r"exited with (?:status )?code:?\s*(-?\d+)", re.IGNORECASE)
_LOG_FILE = re.compile(r"log file '([^']+)'")
_TIMED_OUT = re.compile(
    r"timed?[ -]?out|(?:exceeded|reached|over) (?:the |its )?(?:maximum |max )?(?:allowed )?(?:run(?:ning)? ?)?"
    r"(?:time|duration|timeout)|MaxRunDuration",
    re.IGNORECASE,
)
_STORAGE_ERROR = re.compile(r"^\s*(?:\ufeff)?<\?xml[^>]*>\s*<Error>\s*<Code>(\w+)</Code>")


@dataclass(frozen=True)
class JobOutcome:
    """The outcome of a job that has ended."""

    exit_code: int
    """Exit code of this program."""
    lines: list[str] = field(default_factory=list)
    """Lines for the user."""


def outcome_of(workspace: Workspace, state: JobState, run_dir: Path) -> JobOutcome:
    """Find out how a job ended. A service that reports only the state is enough."""
    from azure.core.exceptions import AzureError

    if state.status == "Completed":
        return JobOutcome(0, [f"job {state.job}: completed"])
    try:
        history = history_of(workspace, state.job)
    except AzureError as error:
        history = RunHistory(None, None, None, {})
        unknown = [_no_details(error, state)]
    else:
        unknown = []
    if is_timeout(state, history):
        limit = f" of {as_duration(state.timeout)}" if state.timeout else ""
        return JobOutcome(
            EXIT_FAILED,
            [f"job {state.job}: ended by its time limit{limit}; " + (
                "what its trials have reached stays" if state.is_sweep
                else f"go on with --resume {state.job} and a longer --timeout-hours"
            )],
        )  # fmt: skip
    if state.status == "Canceled":
        return JobOutcome(EXIT_CANCELLED, [f"job {state.job}: cancelled", *unknown])
    lines = [f"job {state.job}: failed", *unknown, *_reasons(workspace, state, history, run_dir)]
    return JobOutcome(exit_status(history.error or "") or EXIT_FAILED, lines)


def trial_failure(workspace: Workspace, trial: str, run_dir: Path) -> list[str]:
    """Say why a trial of a sweep failed, in the lines of a job.

    Args:
        workspace: of the sweep.
        trial: its name; it has failed.
        run_dir: directory into which its record is mirrored.
    """
    from azure.core.exceptions import AzureError

    lines = [f"trial {trial}: failed"]
    try:
        state = look_at(workspace, trial)
        return [*lines, *_reasons(workspace, state, history_of(workspace, trial), run_dir)]
    except AzureError as error:
        return [*lines, _no_details(error, None)]


def _reasons(workspace: Workspace, state: JobState, history: RunHistory, run_dir: Path) -> list[str]:
    """Say why a job failed: the service's words, the training's, and the end of the log."""
    lines = [f"the service says: {_one_line(history.error)}"] if history.error else []
    if state.is_sweep:  # its trials do the training, and have logs of their own
        return lines or [f"see {_where(state)}"]
    report = read_report(run_dir) or {}
    is_of_this_job = report.get("ended_at", 0.0) >= (history.started or 0.0) - CLOCKS_DIFFER
    if report.get("state") == "failed" and report.get("error") and is_of_this_job:
        lines.append(f"the training says: {_one_line(str(report['error']))}")
    return lines + log_lines(workspace, state, history)


def _no_details(error: Exception, state: JobState | None) -> str:
    return f"Azure ML does not say more ({_one_line(str(error))}); see {_where(state)}"


def exit_status(error: str) -> int | None:
    """Return the exit status that the service's error names, in a shell's form; None: it names none."""
    found = _EXIT_STATUS.search(error)
    if found is None:
        return None
    status = int(found[1])
    # For a process that a signal ended Python says -15, and a shell 143.
    status = 128 - status if status < 0 else status
    return status if 0 < status < 256 else EXIT_FAILED


def is_timeout(state: JobState, history: RunHistory) -> bool:
    """Return True if the job's own time limit ended it. The service calls such a job cancelled or failed."""
    if history.error and exit_status(history.error) is None and _TIMED_OUT.search(history.error):
        return True
    return bool(state.status == "Canceled" and state.timeout and (history.seconds or 0.0) >= state.timeout)


def storage_error(text: str) -> str | None:
    """Return the code of a storage error that stands where a log's text should; None: it is a log."""
    found = _STORAGE_ERROR.match(text)
    return found[1] if found else None


def primary_log(names: Iterable[str]) -> str | None:
    """Return the log of a job's first process: `user_logs/std_log.txt`, `…/std_log_process_0.txt`, …"""
    logs = sorted(name for name in names if name.startswith(f"{USER_LOGS}std_log") and name.endswith(".txt"))
    return min(logs, key=lambda name: [int(number) for number in re.findall(r"\d+", name)], default=None)


def log_lines(workspace: Workspace, state: JobState, history: RunHistory) -> list[str]:
    """Return the last lines of a job's log under a heading, or a line that says where the log is."""
    from azure.core.exceptions import AzureError

    see = f"see {_where(state)}"
    try:
        found = _log(workspace, state, history)
        if found is None:
            return [f"the job has left no log; {see}"]
        name, blob = found
        text = _tail(blob)
    except (AzureError, ServiceError) as error:
        why = code_of(error) or status_of(error) or type(error).__name__
        return [f"the job's log cannot be read ({why}); {see}"]
    if (code := storage_error(text)) is not None:
        return [f"the job's log cannot be read ({code}); {see}"]
    lines = [line for part in text.split("\n") if (line := part.rpartition("\r")[2].rstrip() or part.strip())]
    if not lines:
        return [f"the job's log is empty; {see}"]
    return [f"the last lines of {name} (all of it: {_where(state)}):", *(f"  {line}" for line in lines[-LAST_LINES:])]


def _log(workspace: Workspace, state: JobState, history: RunHistory) -> tuple[str, BlobClient] | None:
    """Find the log of the process that failed, which the error names, or of the first one."""
    from azure.storage.blob import BlobClient

    urls = history.log_urls
    named = _LOG_FILE.search(history.error or "")
    name = named[1] if named and named[1] in urls else primary_log(urls)
    if name is not None:
        return name, BlobClient.from_blob_url(urls[name])
    # The SDK looks here where the history names no logs.
    container = workspace.container(ARTIFACT_STORE)
    root = f"ExperimentRun/dcid.{state.job}/"
    names = [blob.name.removeprefix(root) for blob in container.list_blobs(name_starts_with=root + USER_LOGS)]
    name = primary_log(names)
    return None if name is None else (name, container.get_blob_client(root + name))


def _tail(blob: BlobClient) -> str:
    """Read the end of a text, from the beginning of a line."""
    size = blob.get_blob_properties().size
    if size == 0:
        return ""
    start = max(0, size - LOG_TAIL_BYTES)
    text: str = blob.download_blob(start, size - start).readall().decode("utf-8", errors="replace")
    return text if start == 0 else text.partition("\n")[2]


def _where(state: JobState | None) -> str:
    return (state.studio_url if state is not None else None) or "Studio"


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_ERROR else f"{line[:LONGEST_ERROR]}…"
