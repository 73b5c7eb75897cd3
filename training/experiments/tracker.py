"""Experiments from Python, for a loop that is not ours: it logs figures, and gets a run like any other.

    tracker = ExperimentTracker("./experiments")
    experiment = tracker.create_experiment(ExperimentConfig(name="baseline", description="first try", tags=["small"]))
    run_id = tracker.start_run(experiment)
    tracker.log_metrics({"loss": 0.7, "val_loss": 0.9}, run_id)
    tracker.complete_run(run_id, {"accuracy": 0.93})

A run is an ordinary run directory, `experiments/baseline/run_0001`, with the record that our own loop writes
(`progress.jsonl`, `experiment_report.json`), its settings (`config.yaml`) and its lock: the monitor, the dashboard, the
server's page and the index see no difference. Each call appends its events to the log before it returns, so a kill of
the process loses nothing; such a run is shown as lost, and `start_run(resume=run_id)` goes on with it. No torch, and no
database: the index is opened only where runs are compared or exported.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from enum import Enum
from pathlib import Path, PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from training.checkpoints.branches import is_branch_name
from training.checkpoints.manifest import is_checkpoint_name
from training.checkpoints.run_directory import CONFIG_NAME, RunDirectory
from training.checkpoints.run_search import find_runs, is_entered
from training.errors import UserError, did_you_mean, kind_of
from training.experiments.store.annotations import Annotations, checked_note, checked_tags, write_annotations
from training.experiments.store.artefacts import LOGGED, RunArtefact, log_artefact
from training.experiments.store.identity import SERVER_DIRECTORY, run_id_of
from training.record.log import LOG_NAME, CountedEvents
from training.record.report import Report
from training.record.reporter import ProgressReporter
from training.record.schema import EVENTS, LARGEST_INTEGER, is_count
from training.settings.plain_yaml import MOST_BYTES, parse_yaml
from training.settings.yaml_files import yaml_text
from training.storage.atomic import delete, write_atomically
from training.storage.json_files import open_regular, read_as
from training.storage.user_paths import path_of
from training.tasks.metrics import Metric

if TYPE_CHECKING:
    from training.experiments.side_by_side import SideBySide

EXPERIMENT_NAME = "experiment.json"
SCHEMA_VERSION = 1
LONGEST_NAME = 100
"""Characters of the name of an experiment, a run or a figure."""
MOST_RESULT_BYTES = 2**20
SECONDS_BETWEEN_REPORTS = 1.0
"""The log has every figure at once; the report, which readers start from, follows at this pace."""
_RUN_FOLDER = re.compile(r"run_(\d+)")
_VALIDATION = ("validation/", "validation_", "valid/", "valid_", "val/", "val_", "eval/", "eval_")
_TRAINING = ("training/", "training_", "train/", "train_")
_ALIASES = {"lr": "learning_rate"}
_STEP_KEYS = frozenset(EVENTS["step"].optional) - {"batch_hash", "weights_fingerprint", "nonfinite", "epoch"}
"""Figures of an update that every reader knows without a declaration."""
_RESERVED = frozenset({"event", "time", "nonfinite", "batch_hash", "weights_fingerprint"})
_LOWER_IS_BETTER = re.compile(
    r"(loss|error|perplexity|ppl|nll|mae|mse|rmse|cer|wer|fid|seconds|_ms|time|memory)", re.IGNORECASE
)


@dataclass(frozen=True)
class ExperimentConfig:
    """Runs that belong together.

    Example:
        >>> ExperimentConfig(name="baseline", description="no dropout", tags=["small"]).name
        'baseline'
    """

    name: str
    """Name of the folder of its runs."""
    description: str = ""
    tags: Sequence[str] = ()
    """Given to each of its runs."""


@dataclass(frozen=True)
class _ExperimentFile:
    name: str
    description: str
    tags: tuple[str, ...]
    schema_version: int = SCHEMA_VERSION
    created_at: float | None = None


class TrackedRun:
    """A run that this process writes. Its methods may be called from several threads.

    Made by `ExperimentTracker.start_run` and `ExperimentTracker.run`.
    """

    def __init__(self, run_id: str, directory: RunDirectory, reporter: ProgressReporter) -> None:
        self.run_id = run_id
        self.path = directory.path
        """The run directory."""
        self._directory, self._reporter = directory, reporter
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._reported_at = time.monotonic()
        self._is_over = False

    @property
    def step(self) -> int:
        """The last step for which anything was logged."""
        evaluations = self._reporter.report.evaluations
        return max(self._reporter.report.step, evaluations[-1].step if evaluations else 0)

    @property
    def is_over(self) -> bool:
        """True once the run was completed, has failed or was stopped."""
        return self._is_over

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None, epoch: int | None = None) -> int:
        """Record the figures of one update, of one evaluation, or of both. See `ExperimentTracker.log_metrics`."""
        training, validation, given_step, given_epoch = _sorted_out(metrics)
        with self._writing("log_metrics"):
            report = self._reporter.report
            asked = _one_of("step", step, given_step)
            at_epoch = _one_of("epoch", epoch, given_epoch)
            last_evaluation = report.evaluations[-1] if report.evaluations else None
            evaluated = (
                last_evaluation.step if last_evaluation is not None else -1
            )  # before the first update is one, too
            if asked is None:
                asked = max(report.step + bool(training), max(evaluated, 0) + bool(validation))
            if (training and asked <= report.step) or (validation and asked <= evaluated):
                raise UserError(
                    f"log_metrics: step {asked} of run {self.run_id}: "
                    + (
                        "steps count the updates that are done, so the first one is 1"
                        if asked == 0
                        else f"it is at step {self.step} already; give all figures of a step in one call, and go back "
                        "with start_run(resume=…, step=…)"
                    )
                )
            self._declare(training, validation)
            if training:
                facts = {} if at_epoch is None else {"epoch": at_epoch}
                self._reporter.emit("step", {"step": asked, **facts, **training})
            if validation:
                if at_epoch is None:
                    before = (last_evaluation.epoch or 0) if last_evaluation is not None else 0
                    at_epoch = report.latest.epoch if report.latest.epoch is not None else before + 1
                self._reporter.emit("eval", {"step": asked, "epoch": at_epoch, **validation})
                loss = validation.get("loss")
                if loss is not None and math.isfinite(loss) and (report.best is None or loss < report.best["loss"]):
                    self._reporter.emit("best", {"step": asked, "epoch": at_epoch, "loss": loss})
            self._to_disk()
            return asked

    def log_artifact(self, path: str | Path, name: str | None = None, kind: str = LOGGED) -> RunArtefact:
        """Write down a file or a directory that the run has made. See `ExperimentTracker.log_artifact`."""
        where = path_of("log_artifact", path)
        with self._writing("log_artifact"):
            return log_artefact(self.path, where, _checked_name("name", name or where.name), kind, time.time())

    def log_warning(self, message: str) -> None:
        """Record something that the user should know and that does not stop the run."""
        with self._writing("log_warning"):
            self._reporter.warning(str(message), step=self.step)
            self._to_disk()

    def complete(self, result: Any = None) -> None:
        """End the run in order. See `ExperimentTracker.complete_run`."""
        figures = _result(result)
        with self._writing("complete_run"):
            if figures:
                self._reporter.conclusion({"result": figures})
            self._end(lambda: self._reporter.run_finished(reason="completed"))

    def fail(self, error: BaseException | str) -> None:
        """End the run by an error. See `ExperimentTracker.fail_run`."""
        with self._writing("fail_run"):
            if isinstance(error, BaseException):
                self._end(lambda: self._reporter.run_failed(error))
            else:
                self._end(lambda: self._reporter.emit("run_failed", {"error": str(error)}, durable=True))

    def stop(self, reason: str = "stopped") -> None:
        """End the run before its end; `start_run(resume=…)` goes on with it."""
        with self._writing("stop_run"):
            self._end(lambda: self._reporter.run_stopped(reason=reason))

    # -- inner ---------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _writing(self, call: str) -> Iterator[None]:
        """Let one thread at a time write, and only the process that holds the run's lock."""
        if os.getpid() != self._process:
            raise UserError(
                f"{call}: run {self.run_id} belongs to process {self._process}, and this is a copy of it (fork), whose "
                "events would be mixed into the record; log from the process that started the run"
            )
        with self._lock:
            if self._is_over:
                raise UserError(
                    f"{call}: run {self.run_id} is over ({self._reporter.report.state}); go on with "
                    f"start_run(resume={self.run_id!r})"
                )
            yield

    def _declare(self, *figures: Mapping[str, Any]) -> None:
        """Declare figures that come for the first time as the run's metrics: readers show what is declared."""
        known = {metric.name for metric in self._reporter.report.metrics} | _STEP_KEYS | {"loss"}
        names = dict.fromkeys(name for group in figures for name in group if name not in known)
        if names:
            self._reporter.metrics_declared([metric_of(name) for name in names])

    def _to_disk(self) -> None:
        now = time.monotonic()
        if now - self._reported_at >= SECONDS_BETWEEN_REPORTS:
            self._reported_at = now
            self._reporter.flush()
        else:
            self._reporter.append()

    def _end(self, record: Any) -> None:
        try:
            record()
        finally:
            self._is_over = True
            self._reporter.close()
            self._directory.release()


class ExperimentTracker:
    """Experiments and their runs below one directory.

    Args:
        directory: made when the first experiment is.

    Example:
        >>> with ExperimentTracker("./experiments") as tracker:  # doctest: +SKIP
        ...     experiment = tracker.create_experiment(ExperimentConfig(name="baseline"))
        ...     with tracker.run(experiment, settings={"learning_rate": 1e-3}) as run:
        ...         run.log_metrics({"loss": 0.5})
    """

    def __init__(self, directory: str | Path = "./experiments") -> None:
        self.directory = path_of("ExperimentTracker", directory)
        self._runs: dict[str, TrackedRun] = {}
        self._lock = threading.Lock()

    # -- experiments ---------------------------------------------------------------------------------------------------

    def create_experiment(self, config: ExperimentConfig) -> str:
        """Make an experiment, or find the one of the same content that is there. Return its name.

        Raises:
            UserError: the name cannot be a folder's, there is another experiment of this name, or the disk refuses.
        """
        name = _checked_name("ExperimentConfig.name", config.name)
        wanted = _ExperimentFile(name, checked_note(str(config.description)), _tags(config.tags))
        path = self.directory / name / EXPERIMENT_NAME
        if (there := self._experiment(name)) is not None:
            if (there.description, there.tags) != (wanted.description, wanted.tags):
                raise UserError(
                    f"create_experiment: there is an experiment {name!r} with another description or other tags "
                    f"({path}); give this one another name"
                )
            return name
        document = {**asdict(wanted), "created_at": round(time.time(), 3)}
        text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
        with _disk(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text.encode("utf-8", "backslashreplace"), durable=True)
        return name

    def experiments(self) -> list[ExperimentConfig]:
        """Return all experiments, by name."""
        found = (self._experiment(path.parent.name) for path in sorted(self.directory.glob(f"*/{EXPERIMENT_NAME}")))
        return [ExperimentConfig(one.name, one.description, one.tags) for one in found if one is not None]

    def _experiment(self, name: str) -> _ExperimentFile | None:
        path = self.directory / name / EXPERIMENT_NAME
        try:
            return read_as(path, _ExperimentFile)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"{path}: it cannot be read ({error.strerror})") from error

    # -- runs ----------------------------------------------------------------------------------------------------------

    def start_run(
        self,
        experiment: str | None = None,
        *,
        name: str | None = None,
        settings: Mapping[str, Any] | None = None,
        metrics: Sequence[Metric] = (),
        total_steps: int | None = None,
        num_epochs: int | None = None,
        device: object = None,
        resume: str | None = None,
        step: int | None = None,
    ) -> str:
        """Begin a run, or go on with one. Return its id, which every other call takes.

        Args:
            experiment: as `create_experiment` returned it.
            name: folder of the run; None: `run_0001` and so on.
            settings: plain data, kept in `config.yaml`: what runs are filtered, grouped and compared by.
            metrics: figures that the run will log, where their labels, forms or directions are to be said; the others
                are declared when they are first logged.
            total_steps: updates that the run will have; None: not known, so no progress is shown.
            num_epochs: passes over the data.
            device: where it trains, such as `cuda`; a torch.device too.
            resume: id of the run to go on with.
            step: with `resume`, the last step that counts: what was logged after it is done again. None: all count.

        Raises:
            UserError: no such experiment or run, another process writes it, or the disk refuses.
        """
        facts: dict[str, Any] = {
            "total_steps": _count_or_none("total_steps", total_steps),
            "num_epochs": _count_or_none("num_epochs", num_epochs),
            "device": None if device is None else str(device),
        }  # fmt: skip
        if resume is not None:
            for word, value in (("name", name), ("settings", settings), ("metrics", metrics or None)):
                if value is not None:
                    raise UserError(f"start_run: {word} belongs to a new run, and resume={resume!r} goes on with one")
            run = self._resumed(resume, _count_or_none("step", step), {k: v for k, v in facts.items() if v is not None})
        elif experiment is None:
            raise UserError("start_run: name the experiment, as create_experiment returned it")
        elif step is not None:
            raise UserError("start_run: step goes with resume; a new run begins at step 0")
        else:
            run = self._begun(experiment, name, settings or {}, facts, metrics)
        with self._lock:
            self._runs[run.run_id] = run
        return run.run_id

    @contextlib.contextmanager
    def run(self, experiment: str | None = None, **options: Any) -> Iterator[TrackedRun]:
        """Begin a run for a block: it is completed at its end, has failed if it raises, is stopped by Ctrl-C.

        Args:
            experiment: as `create_experiment` returned it.
            options: as for `start_run`.

        Raises:
            UserError: see `start_run`.
        """
        run = self._open(self.start_run(experiment, **options), "run")
        try:
            yield run
        except KeyboardInterrupt:
            if not run.is_over:
                run.stop("interrupted")
            raise
        except BaseException as error:
            if not run.is_over:
                run.fail(error)
            raise
        if not run.is_over:
            run.complete()

    def log_metrics(
        self, metrics: Mapping[str, Any], run_id: str, step: int | None = None, epoch: int | None = None
    ) -> int:
        """Record figures by name. They are on their way to the disk when this returns.

        A name that begins with `val_`, `val/`, `eval_`, `eval/` or `validation_` is a measurement on held-back data and
        stands in the record under the rest of its name, as `train_loss` stands there as `loss`, and `lr` as
        `learning_rate`. NaN and infinity are recorded as such.

        Args:
            metrics: numbers; anything with one value, such as NumPy's and torch's scalars. `step` and `epoch` among
                them mean the arguments.
            run_id: as `start_run` returned it.
            step: updates done; None: one more than before, or the last one where all figures are measurements.
            epoch: pass over the data; None: not recorded with an update; a measurement is numbered instead.

        Returns:
            The step.

        Raises:
            UserError: a figure is no number or has a name that the record needs itself, the step was logged before,
                the run is not open, or the disk refuses.
        """
        return self._open(run_id, "log_metrics").log_metrics(metrics, step, epoch)

    def log_artifact(self, path: str | Path, run_id: str, name: str | None = None, kind: str = LOGGED) -> RunArtefact:
        """Write down a file or a directory that the run has made, with its SHA-256. It is not copied.

        Args:
            path: where it is, and stays.
            run_id: as `start_run` returned it.
            name: what it is called in the run; None: its file name. Logged again, the name means the later one.
            kind: such as `model` or `picture`.

        Raises:
            UserError: it is not there or cannot be read, the run is not open, or the disk refuses.
        """
        return self._open(run_id, "log_artifact").log_artifact(path, name, kind)

    def complete_run(self, run_id: str, result: Any = None) -> None:
        """End a run in order.

        Args:
            run_id: as `start_run` returned it.
            result: what came out, as plain data or a dataclass: it stands in the report under `result`. None: nothing.

        Raises:
            UserError: the result is no plain data, the run is not open, or the disk refuses.
        """
        self._open(run_id, "complete_run").complete(result)

    def fail_run(self, run_id: str, error: BaseException | str) -> None:
        """End a run by an error, which its record then shows.

        Raises:
            UserError: the run is not open, or the disk refuses.
        """
        self._open(run_id, "fail_run").fail(error)

    def stop_run(self, run_id: str, reason: str = "stopped") -> None:
        """End a run before its end; `start_run(resume=run_id)` goes on with it.

        Raises:
            UserError: the run is not open, or the disk refuses.
        """
        self._open(run_id, "stop_run").stop(reason)

    def close(self) -> None:
        """Stop the runs that are still open: they can be resumed."""
        for run in list(self._runs.values()):
            if not run.is_over:
                run.stop("the tracker was closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, KeyboardInterrupt):
            for run in list(self._runs.values()):
                if not run.is_over:
                    run.fail(error)
        self.close()

    # -- readers -------------------------------------------------------------------------------------------------------

    def compare_runs(self, run_ids: Sequence[str]) -> SideBySide:
        """Return runs side by side: settings in which they differ, figures, and statistics where runs pair by seed.

        Args:
            run_ids: ids or names.

        Raises:
            UserError: there is no such run, or fewer than two are given.
        """
        from training.experiments.side_by_side import side_by_side
        from training.experiments.store.index import ExperimentStore

        self._flush()
        store = ExperimentStore(self.directory)
        try:
            store.refresh()
            return side_by_side(store, run_ids)
        finally:
            store.close()

    def export(self, path: str | Path, run_ids: Sequence[str] | None = None) -> Path:
        """Write runs to a file, by its ending: `.csv`, `.jsonl`, `.parquet`, `.tex` (tables), `.zip` (whole runs).

        Args:
            path: a file that is not there yet.
            run_ids: ids or names; None: all runs.

        Raises:
            UserError: another ending, the file is there, there is no such run, or the disk refuses.
        """
        from training.experiments.store.index import ExperimentStore
        from training.experiments.store.tables import export_runs

        self._flush()
        store = ExperimentStore(self.directory)
        try:
            store.refresh()
            return export_runs(store, run_ids, path_of("export", path))
        finally:
            store.close()

    # -- inner ---------------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        if not self.directory.is_dir():
            raise UserError(f"{self.directory}: there are no runs; start one first")
        for run in list(self._runs.values()):
            if not run.is_over:
                with run._writing("flush"):
                    run._reporter.flush()

    def _open(self, run_id: str, call: str) -> TrackedRun:
        with self._lock:
            run = self._runs.get(run_id)
        if run is None:
            raise UserError(
                f"{call}: run {run_id!r} was not started by this tracker{did_you_mean(str(run_id), self._runs)}; "
                "start_run returns the id, and start_run(resume=…) goes on with a run of another process"
            )
        return run

    def _begun(
        self,
        experiment: str,
        name: str | None,
        settings: Mapping[str, Any],
        facts: Mapping[str, Any],
        metrics: Sequence[Metric],
    ) -> TrackedRun:
        found = self._experiment(_checked_name("experiment", experiment))
        if found is None:
            names = [one.name for one in self.experiments()]
            raise UserError(
                f"start_run: there is no experiment {experiment!r} in {self.directory}"
                f"{did_you_mean(experiment, names)}; make it with create_experiment(ExperimentConfig(name=…))"
            )
        own = _plain(settings, "settings", finite=True)
        if not isinstance(own, dict) or "experiment" in own:
            what = (
                "holds 'experiment', which is the experiment's name"
                if isinstance(own, dict)
                else f"is {kind_of(settings)}"
            )
            raise UserError(f"start_run: settings {what}; give values by name: {{'learning_rate': 1e-3}}")
        if wrong := [metric for metric in metrics if not isinstance(metric, Metric)]:
            raise UserError(f"start_run: metrics holds {kind_of(wrong[0])}; give training.tasks.metrics.Metric")
        config = _config_text({"experiment": found.name, **own})
        folder = self._new_folder(self.directory / found.name, name)
        directory = RunDirectory(folder)
        try:
            with _disk(folder):
                write_atomically(folder / CONFIG_NAME, config, durable=True)
            if found.tags or found.description:
                write_annotations(folder, Annotations(checked_tags(found.tags), checked_note(found.description)))
            reporter = ProgressReporter(folder, check_directory=directory.refuse_if_gone)
            declared = [metric.to_dict() for metric in metrics]
            with _disk(folder):
                reporter.run_started(
                    run_id=uuid.uuid4().hex[:12], backend=None, experiment=found.name, world_size=1,
                    metrics=declared, **facts,
                )  # fmt: skip
        except BaseException:
            directory.release()
            with contextlib.suppress(OSError):
                delete(folder)  # it was made for this run alone
            raise
        return TrackedRun(run_id_of(self.directory, folder), directory, reporter)

    def _new_folder(self, experiment: Path, name: str | None) -> Path:
        """Make the folder of a new run: no two processes get the same one."""
        with _disk(experiment):
            if name is not None:
                folder = experiment / _checked_name("name", name)
                try:
                    folder.mkdir()
                except FileExistsError:
                    raise UserError(f"start_run: {folder} is there already; give the run another name") from None
                return folder
            numbers = (_RUN_FOLDER.fullmatch(path.name) for path in experiment.iterdir())
            number = max((int(found[1]) for found in numbers if found), default=0)
            while True:
                number += 1
                folder = experiment / f"run_{number:04d}"
                try:
                    folder.mkdir()
                except FileExistsError:  # another process was faster
                    continue
                return folder

    def _resumed(self, run_id: str, step: int | None, facts: Mapping[str, Any]) -> TrackedRun:
        folder = self._path_of(run_id)
        directory = RunDirectory(folder, resume=True)
        try:
            before = _folded(folder)
            if before.facts.get("experiment") is None:
                raise UserError(
                    f"start_run: {folder} is a run of a loop of this project, whose checkpoints tell where it goes on; "
                    f"resume it with train.py --resume --run-dir {folder}"
                )
            last = max(before.step, before.evaluations[-1].step if before.evaluations else 0)
            if step is not None and step > last:
                raise UserError(f"start_run: step={step}: run {run_id} was logged up to step {last}")
            reporter = ProgressReporter(folder, check_directory=directory.refuse_if_gone)
            reporter.run_resumed(last if step is None else step, **facts)
        except BaseException:
            directory.release()
            raise
        return TrackedRun(run_id_of(self.directory, folder), directory, reporter)

    def _path_of(self, run_id: str) -> Path:
        found = {run_id_of(self.directory, path): path for path in find_runs([self.directory], [])}
        if run_id not in found:
            raise UserError(
                f"start_run: resume={run_id!r}: there is no such run in {self.directory}{did_you_mean(run_id, found)}"
            )
        return found[run_id]


def metric_of(name: str) -> Metric:
    """Return the metric that a name which nobody declared is taken for.

    Lower is better where the name says so (`loss`, `error`, `perplexity`, `seconds`, …), else higher.
    """
    return Metric(name, name, "lower" if _LOWER_IS_BETTER.search(name) else "higher")


def _config_text(config: Mapping[str, Any]) -> bytes:
    """Return a run's settings as the YAML that every reader reads back as they are.

    Raises:
        UserError: they are beyond the limits of such a file.
    """
    text = yaml_text(config).encode()
    try:
        if len(text) > MOST_BYTES:
            raise ValueError(f"they have {len(text):,} bytes, and {MOST_BYTES:,} are read")
        is_same = parse_yaml(text.decode()) == config
    except ValueError as error:
        raise UserError(f"settings: {error}; write what is large to a file, and log_artifact it") from error
    if not is_same:
        raise UserError("settings: some of them read back otherwise from YAML; give plain texts and numbers")
    return text


def _folded(folder: Path) -> Report:
    try:
        with open_regular(folder / LOG_NAME) as file:
            return Report.of_counted(CountedEvents(file))
    except OSError as error:
        raise UserError(f"{folder / LOG_NAME}: the record cannot be read ({error.strerror})") from error


# -- what is logged ------------------------------------------------------------------------------------------------

_Figures = dict[str, float | int]


def _sorted_out(metrics: Mapping[str, Any]) -> tuple[_Figures, _Figures, int | None, int | None]:
    """Return the figures of an update, those of an evaluation, the step and the epoch that they hold."""
    if is_dataclass(metrics) and not isinstance(metrics, type):
        metrics = asdict(metrics)
    if not isinstance(metrics, Mapping):
        raise UserError(f"log_metrics: metrics is {kind_of(metrics)}; give figures by name: {{'loss': 0.5}}")
    groups: tuple[_Figures, _Figures] = ({}, {})
    places: dict[str, int | None] = {"step": None, "epoch": None}
    origin: dict[tuple[bool, str], str] = {}
    for name, value in metrics.items():
        if name in places:
            places[name] = _count_or_none(name, value)
            continue
        is_validation, key = _place_of(_checked_figure_name(name))
        if (first := origin.setdefault((is_validation, key), name)) != name:
            raise UserError(f"log_metrics: {first!r} and {name!r} are names of one figure; give one of them")
        groups[is_validation][key] = _checked_figure(name, key, value)
    if not any(groups):
        raise UserError("log_metrics: there is no figure in it; give at least one: {'loss': 0.5}")
    return *groups, places["step"], places["epoch"]


def _place_of(name: str) -> tuple[bool, str]:
    """Return (True for an evaluation, name in the record) of a figure."""
    for prefixes, is_validation in ((_VALIDATION, True), (_TRAINING, False)):
        for prefix in prefixes:
            rest = name[len(prefix) :]
            rest = _ALIASES.get(rest, rest)
            if name.startswith(prefix) and rest and rest not in _RESERVED and rest not in ("step", "epoch", "path"):
                is_count = rest in _STEP_KEYS and rest not in ("loss", "learning_rate", "grad_norm")
                if not is_count:
                    return is_validation, rest
    return False, _ALIASES.get(name, name)


def _checked_figure_name(name: object) -> str:
    if not isinstance(name, str) or not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise UserError(f"log_metrics: {name!r} is no name of a figure; give 1 to {LONGEST_NAME} printable characters")
    if name in _RESERVED:
        raise UserError(f"log_metrics: {name!r} is a word of the record's own; give the figure another name")
    return name


def _checked_figure(name: str, key: str, value: Any) -> float | int:
    """Return a number of any library as Python's own."""
    found = _number(value)
    if found is None:
        raise UserError(f"log_metrics: {name!r} is {kind_of(value)} ({value!r}); give one number")
    check = EVENTS["step"].optional.get(key)
    if check is None or check(found) or (isinstance(found, float) and not math.isfinite(found)):
        return found
    if isinstance(found, float) and found.is_integer() and check(int(found)):
        return int(found)
    if key in ("clipped", "skipped") and found in (0, 1):
        return bool(found)
    raise UserError(
        f"log_metrics: {name!r} is {value!r}, and the record keeps a count or a mark under this name; give the figure "
        "another name"
    )


def _number(value: Any) -> float | int | None:
    if isinstance(value, str | bytes | complex) or value is None:
        return None
    item = getattr(value, "item", None)  # NumPy's and torch's scalars, and arrays of one value
    try:
        value = item() if callable(item) else value
        if isinstance(value, int):  # a truth value counts as 0 or 1
            return int(value) if abs(value) < LARGEST_INTEGER else float(value)
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


def _one_of(word: str, given: int | None, inner: int | None) -> int | None:
    given = _count_or_none(word, given)
    if given is not None and inner is not None and given != inner:
        raise UserError(f"log_metrics: {word}={given}, and the figures say {word} {inner}; give it once")
    return inner if given is None else given


def _count_or_none(word: str, value: Any) -> int | None:
    if value is None:
        return None
    found = _number(value)
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if not is_count(found):
        raise UserError(f"{word} must be a whole number from 0 on, got {value!r}")
    return found  # type: ignore[return-value]  # is_count says so


def _result(result: Any) -> dict[str, Any]:
    """Return what came out of a run as plain data."""
    if result is None:
        return {}
    to_dict = getattr(result, "to_dict", None)
    data = _plain(to_dict() if callable(to_dict) else result, "result", finite=False)
    figures = data if isinstance(data, dict) else {"value": data}
    if (size := len(json.dumps(figures))) > MOST_RESULT_BYTES:
        raise UserError(
            f"complete_run: the result has {size:,} bytes, more than {MOST_RESULT_BYTES:,}; write it to a file, and "
            "log_artifact it"
        )
    return figures


def _plain(value: Any, where: str, finite: bool, level: int = 0) -> Any:
    """Return a value as plain data: mappings, lists, texts, numbers, truth values, None.

    Args:
        value: of the user's.
        where: names it in the error line.
        finite: NaN and infinity are refused; else they become None, named in `nonfinite`.
        level: mappings and lists around it.
    """
    if level > 20:
        raise UserError(f"{where}: nested more than 20 levels deep; give plain data")
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        bad: list[str] = []
        for key, inner in value.items():
            if not isinstance(key, str) or not key or not key.isprintable():
                raise UserError(f"{where}: {key!r} is no name; keys are texts of printable characters")
            found[key] = _plain(inner, f"{where}.{key}", finite, level + 1)
            if found[key] is None and inner is not None:
                bad.append(key)
        return {**found, "nonfinite": bad} if bad else found
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one, f"{where}[{n}]", finite, level + 1) for n, one in enumerate(value)]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, PurePath):
        value = str(value)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UserError(f"{where}: {value!r} is no text in UTF-8") from None
        return value
    number = _number(value)
    if number is None:
        raise UserError(f"{where} is {kind_of(value)}; give plain data: texts, numbers, lists and mappings of them")
    if isinstance(number, float) and not math.isfinite(number):
        if finite:
            raise UserError(f"{where} is {number}; give a finite number")
        return None
    return number


def _checked_name(word: str, name: object) -> str:
    """Return the name of a folder that a search for runs enters."""
    fault = ""
    if not isinstance(name, str) or not name:
        fault = "give a text"
    elif len(name) > LONGEST_NAME:
        fault = f"give {LONGEST_NAME} characters at most"
    elif not name.isprintable() or set(name) & set('/\\:*?"<>|') or name != name.strip() or name.endswith("."):
        fault = 'it names a folder: no line ends, no spaces around it, none of / \\ : * ? " < > |'
    elif is_checkpoint_name(name) or is_branch_name(name) or not is_entered(name) or name == SERVER_DIRECTORY:
        fault = "a search for runs passes over such a folder"
    if fault:
        raise UserError(f"{word} {name!r}: {fault}")
    assert isinstance(name, str)
    return name


def _tags(tags: object) -> tuple[str, ...]:
    if isinstance(tags, str) or not isinstance(tags, Sequence | set | frozenset):
        raise UserError(f"ExperimentConfig.tags is {kind_of(tags)} ({tags!r}); give a list of texts")
    return checked_tags(map(str, tags))


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: it cannot be written to ({error.strerror}); choose another directory") from error
