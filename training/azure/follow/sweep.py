"""Sweeps: the trials with their settings and metrics, the best one, and the view of a sweep that runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.azure.follow.job_outcome import trial_failure
from training.azure.follow.record_mirror import RecordMirror
from training.azure.service.errors import service_refusals
from training.azure.service.job_file import JobHandle, command
from training.azure.service.jobs import BEST_TRIAL, RUNS_PATH, JobState, jobs_of, look_at
from training.checkpoints.run_directory import CONFIG_NAME
from training.errors import UserError, printable
from training.experiments.sweep.metric import figure
from training.experiments.sweep.trials import Sweep, Trial, best_of, short_value, table_lines
from training.record.log import REPORT_NAME, parse_report, read_report
from training.settings.plain_yaml import parse_yaml
from training.storage.json_files import parse_json
from training.tracking.figures import flat

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

    from training.azure.service.workspace import Workspace

MOST_TRIALS = 1000
MOST_NAMED = 4
"""Number of failed trials that are named."""
TAG_OF_VALUES = "hyperparameters"
"""Tag of a trial in which the service keeps its settings, as JSON."""

Report = Mapping[str, Any]


def look_at_sweep(workspace: Workspace, handle: JobHandle, state: JobState) -> Sweep:
    """Ask for a sweep with its trials, whose metrics are read from their records in the datastore.

    Raises:
        UserError: the service or the storage refuses.
    """
    with service_refusals(f"looking at the trials of {handle.job}"):
        children = jobs_of(workspace, MOST_TRIALS, parent=handle.job)
        container = workspace.container(handle.datastore)
        reports = {child.job: _stored(container, child.job, REPORT_NAME, parse_report) for child in children}
        configs = {child.job: _config(container, child) for child in children}
    return sweep_of(state, children, reports.get, configs.get)


def best_run(workspace: Workspace, handle: JobHandle, trial: str | None = None) -> JobHandle:
    """Return the handle of a sweep's best trial, or of the one that is named; for any other job its own handle.

    Raises:
        UserError: there is no such trial, or none has reached anything.
    """
    if handle.path is not None:
        if trial is not None:
            raise UserError(f"--trial {trial}: job {handle.job} is no sweep and has no trials; leave it out")
        return handle
    with service_refusals(f"looking at sweep {handle.job}"):
        state = look_at(workspace, handle.job)
    sweep = look_at_sweep(workspace, handle, state)
    names = [each.job for each in sweep.trials]
    if trial is not None:
        if trial not in names:
            raise UserError(
                f"--trial {trial}: the sweep {handle.job} has no such trial, but {', '.join(names) or 'none'}"
            )
    elif sweep.best is None:
        raise UserError(
            f"the sweep {handle.job} has no best trial: none of {len(names)} has come through with {sweep.metric}"
        )
    else:
        trial = sweep.best.job
    return replace(handle, job=trial, path=trial_path(trial))


def trial_path(trial: str) -> str:
    """Return a trial's run directory within the datastore."""
    return f"{RUNS_PATH}/{trial}"


def sweep_of(
    state: JobState,
    children: Iterable[JobState],
    report_of: Callable[[str], Report | None],
    config_of: Callable[[str], Mapping[str, Any] | None],
) -> Sweep:
    """Put together what the service and the trials' records say.

    The best is the service's choice once it has made one; before that the best by the last values.
    """
    metric, goal = state.objective or ("", "minimize")
    trials = []
    for child in children:
        report = report_of(child.job) or {}
        trials.append(
            Trial(
                job=child.job,
                status=child.status,
                settings=_settings(child, state.searched, config_of(child.job)),
                metric=figure(report, metric),
                step=report.get("step"),
                total_steps=report.get("total_steps"),
            )
        )
    best = _best(trials, goal, state.properties.get(BEST_TRIAL) if state.has_ended else None)
    marked = [replace(trial, is_best=trial.job == best) for trial in trials]
    return Sweep(state.job, metric, goal, sorted(marked, key=lambda trial: _number_of(trial.job)))


class SweepProgress:
    """The view of a sweep: mirrors each trial's record into a directory, and prints a line when one begins or ends."""

    has_begun = False
    """There is no bar: the heartbeat's line has the progress."""

    def __init__(self, workspace: Workspace, handle: JobHandle, run_dir: Path, seconds: float) -> None:
        """Make a view of a sweep that has been submitted.

        Args:
            workspace: of the sweep.
            handle: of the sweep.
            run_dir: parent of the trials' directories.
            seconds: between two looks at the trials, of which there may be hundreds.
        """
        self._workspace, self._handle, self._run_dir, self._seconds = workspace, handle, run_dir, seconds
        self._last_look = -seconds
        self._reports: dict[str, Report] = {}
        self._mirrors: dict[str, RecordMirror] = {}
        self._statuses: dict[str, str] = {}
        self._configs: dict[str, Mapping[str, Any] | None] = {}
        self._sweep: Sweep | None = None

    def look(self, state: JobState) -> None:
        """Ask for the trials, and copy what is new of those that run or have just ended."""
        if time.monotonic() - self._last_look < self._seconds and not state.has_ended:
            return
        children = jobs_of(self._workspace, MOST_TRIALS, parent=self._handle.job)
        container = self._workspace.container(self._handle.datastore)
        news = []
        for child in children:
            if self._statuses.get(child.job) == child.status and (child.is_waiting or child.has_ended):
                continue
            if child.job not in self._mirrors:
                self._mirrors[child.job] = self._begin(child.job)
            if self._mirrors[child.job].look(container):
                self._reports[child.job] = _digest(read_report(self._run_dir / child.job) or {})
            if self._configs.get(child.job) is None:
                self._configs[child.job] = _config(container, child)
            if self._statuses.get(child.job) != child.status:
                news.append(child.job)
                self._statuses[child.job] = child.status
        self._sweep = sweep_of(state, children, self._reports.get, self._configs.get)
        for trial in self._sweep.trials:
            if trial.job in news and trial.status not in ("NotStarted", "Queued", "Preparing", "Starting"):
                self.say(_trial_line(trial, self._sweep.metric))
        self._last_look = time.monotonic()

    def _begin(self, trial: str) -> RecordMirror:
        directory, path = self._run_dir / trial, trial_path(trial)
        directory.mkdir(exist_ok=True)
        replace(self._handle, job=trial, path=path, register_model=None).write(directory)
        return RecordMirror(path, directory)

    @property
    def status(self) -> str:
        """Progress in one line."""
        ended = sum(status in ("Completed", "Failed", "Canceled") for status in self._statuses.values())
        running = sum(status == "Running" for status in self._statuses.values())
        best = self._sweep.best if self._sweep is not None else None
        so_far = f", best {best.metric:.6g}" if best is not None and best.metric is not None else ""
        done = "1 trial" if ended == 1 else f"{ended} trials"
        return f"sweep {self._handle.job}: {done} done, {running} running{so_far}"

    def say(self, message: str) -> None:
        """Print a line."""
        print(printable(message), flush=True)

    def summary(self) -> list[str]:
        """Return the table of the trials, and the reason of the first failure."""
        if self._sweep is None or not self._sweep.trials:
            return []
        lines = table_lines(self._sweep)
        failed = [trial.job for trial in self._sweep.trials if trial.status == "Failed"]
        if not failed:
            return lines
        first, *others = failed
        lines += trial_failure(self._workspace, first, self._run_dir / first)
        if others:
            count = "1 other trial" if len(others) == 1 else f"{len(others)} other trials"
            named = ", ".join(others[:MOST_NAMED]) + (", …" if len(others) > MOST_NAMED else "")
            show = command("show", self._run_dir / others[0])
            lines.append(f"{count} failed too ({named}); to see the log of one: {show}")
        return lines

    def close(self) -> None:
        """Do nothing: nothing is open."""


def _digest(report: Report) -> Report:
    """Keep what the table needs of a trial's report: there may be hundreds."""
    kept = ("step", "total_steps", "latest", "best", "memory", "recitation")
    return {key: report.get(key) for key in kept} | {"evaluations": (report.get("evaluations") or [])[-1:]}


def _trial_line(trial: Trial, metric: str) -> str:
    values = " ".join(f"{name}={short_value(value)}" for name, value in trial.settings.items())
    reached = f", {metric} {trial.metric:.6g}" if trial.metric is not None and trial.status == "Completed" else ""
    return f"trial {trial.job}: {trial.status}{reached}{f' ({values})' if values else ''}"


def _best(trials: list[Trial], goal: str, chosen: str | None) -> str | None:
    # A trial that failed or was ended early has no model to download, however good its last value.
    whole = [trial for trial in trials if trial.status not in ("Failed", "Canceled")]
    if chosen in [trial.job for trial in whole]:
        return chosen
    best = best_of(whole, goal)
    return None if best is None else best.job


def _settings(child: JobState, searched: tuple[str, ...], config: Mapping[str, Any] | None) -> dict[str, Any]:
    try:
        values = parse_json(child.tags.get(TAG_OF_VALUES, ""))
    except ValueError:
        values = None
    if isinstance(values, dict) and values:
        return {str(name): value for name, value in values.items()}
    resolved = {key.rpartition(".")[2]: value for key, value in flat(config or {}).items()}
    return {name: resolved[name] for name in searched if name in resolved}


def _stored(container: ContainerClient, trial: str, name: str, parse: Callable[[bytes], Any]) -> Any:
    """Read a file of a trial's run directory; None: there is none, or half of one."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        found = parse(container.get_blob_client(f"{trial_path(trial)}/{name}").download_blob().readall())
    except (ResourceNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _config(container: ContainerClient, child: JobState) -> Mapping[str, Any] | None:
    if TAG_OF_VALUES in child.tags:
        return None
    found: Mapping[str, Any] | None = _stored(
        container, child.job, CONFIG_NAME, lambda content: parse_yaml(content.decode())
    )
    return found


def _number_of(trial: str) -> tuple[str, int]:
    """Return a key that sorts `sweep_10` after `sweep_9`."""
    head, _, tail = trial.rpartition("_")
    return (head, int(tail)) if tail.isdigit() else (trial, 0)
