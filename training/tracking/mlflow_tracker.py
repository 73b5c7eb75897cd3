"""MLflow: a run in a SQLite file without a server, in a server, in an Azure ML workspace, or in a job there."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from training.checkpoints.run_directory import MODEL_DIRECTORY
from training.record.curve_figure import FIGURE_NAME, curve_figure
from training.record.log import REPORT_NAME, read_report
from training.settings.tracking import DEFAULT_PROJECT, TrackConfig
from training.tracking.mlflow_services import service_of
from training.tracking.tensorboard_tracker import LOGS_NAME
from training.tracking.tracker import Held, Point, RunStart
from training.tracking.tracker_file import TrackerFile

DATABASE_NAME = "mlflow.db"
ARTIFACTS_NAME = "mlflow_artifacts"
MAX_METRICS = 1000
"""In one call; MLflow's own limit. A call is stored whole or not at all."""
MAX_PARAMS = 100
"""In one call."""

_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


def store_of(settings: TrackConfig, run_dir: Path) -> str:
    """The tracking URI: the setting, else MLFLOW_TRACKING_URI, else a SQLite file next to the run directory.

    In a job, where MLFLOW_TRACKING_URI is the job's own store, a setting that means its workspace means that store.
    """
    given, own = settings.mlflow_tracking_uri, os.environ.get("MLFLOW_TRACKING_URI")
    if own and (given is None or joins_job(settings)):
        return own
    return given or f"sqlite:///{(run_dir.absolute().parent / DATABASE_NAME).as_posix()}"


def joins_job(settings: TrackConfig) -> bool:
    """Return whether the run joins the one that a service, such as Azure ML, has made for this job.

    A setting that names another store than the job's asks for a run of its own there.
    """
    given, own = settings.mlflow_tracking_uri, os.environ.get("MLFLOW_TRACKING_URI")
    is_same = given in (None, own) or (service_of(given) is not None and service_of(given) is service_of(own))
    return is_same and bool(os.environ.get("MLFLOW_RUN_ID"))


class MLflowTracker:
    """Logs one run by MLflow's client, without its global state.

    The times of the points are those of the record, so a point that is sent twice is one point to MLflow.
    """

    name: ClassVar[str] = "mlflow"
    seconds_between_calls: ClassVar[float] = 5.0

    def __init__(self, settings: TrackConfig, run_dir: Path, file: TrackerFile) -> None:
        self._uri = store_of(settings, run_dir)
        self._experiment = settings.mlflow_experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_PROJECT
        self._run_dir = run_dir
        self._file = file
        self._id = ""
        self._folder = ""
        self._is_guest = joins_job(settings)
        self._service = service_of(self._uri)

    def start(self, run: RunStart) -> Held:
        """Make the run, or go on with it. See `Tracker.start`."""
        _quieten()
        if self._service is not None:
            self._service.quieten()
            if not self._is_guest:  # a job brings a token of its own
                self._uri = self._service.log_in(self._uri)
        self._client = open_client(self._uri)
        found = self._find(run)
        if found is None:
            found = self._client.create_run(
                experiment_id(self._client, self._uri, self._experiment),
                start_time=round(run.time * 1000),
                tags=run.tags,
                run_name=self._run_dir.absolute().name,
            )
        else:
            if not self._is_guest:
                self._client.update_run(found.info.run_id, status="RUNNING")
            for key, value in run.tags.items():
                self._client.set_tag(found.info.run_id, key, value)
        self._id, self._experiment_of_run = found.info.run_id, found.info.experiment_id
        self._file.keep(self.name, run, run=self._id, experiment=self._experiment_of_run)
        self._log_params(run, found.data.params, found.data.tags)
        # Of each metric MLflow gives the latest value with the run itself: no history is read.
        return Held(by_figure={metric.key: metric.step for metric in found.data._metric_objs or []})

    def _find(self, run: RunStart) -> Any:
        """The run to go on with, or None."""
        from mlflow.exceptions import MlflowException

        if self._is_guest:
            return self._client.get_run(os.environ["MLFLOW_RUN_ID"])
        if not (known := self._file.recall(self.name, run).get("run")):
            return None
        try:
            found = self._client.get_run(known)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # another store, or purged from this one
                return None
            raise
        return found if found.info.lifecycle_stage == "active" else None

    def _log_params(self, run: RunStart, known: dict[str, str], tags: dict[str, str]) -> None:
        """Params can be written once; a resumed run's new values (more epochs, another machine) become tags."""
        from mlflow.entities import Param, RunTag

        length = self._service.max_param_length if self._service is not None else None
        params = {key: str(value)[:length] for key, value in run.params.items()}
        new = [Param(key, value) for key, value in params.items() if key not in known]
        changed = [
            RunTag(f"{key} from step {run.step}", value)
            for key, value in params.items()
            if key in known and known[key] != value[: len(known[key])]  # MLflow cuts long values
        ]
        for first in range(0, len(new), MAX_PARAMS):
            self._client.log_batch(self._id, params=new[first : first + MAX_PARAMS])
        if changed:
            most = MAX_PARAMS if self._service is None else self._service.max_tags - len({*tags, *run.tags})
            self._client.log_batch(self._id, tags=changed[: max(0, most)])

    def whereabouts(self) -> str:
        """See `Tracker.whereabouts`."""
        if _sqlite_file(self._uri):
            return f"run {self._id}; mlflow ui --backend-store-uri {self._uri}"
        if self._service is not None:
            return self._service.page(self._uri, self._id)
        if self._uri.startswith("http"):
            return f"{self._uri.rstrip('/')}/#/experiments/{self._experiment_of_run}/runs/{self._id}"
        return f"run {self._id}"

    def log(self, points: Sequence[Point]) -> None:
        """Store points, whole steps in each call. See `Tracker.log`."""
        from mlflow.entities import Metric

        for batch in _batches(points, MAX_METRICS if self._service is None else self._service.max_metrics):
            self._client.log_batch(
                self._id,
                metrics=[
                    Metric(name, value, round(point.time * 1000), point.step)
                    for point in batch
                    for name, value in point.figures.items()
                ],
            )

    def finish(self, state: str, report: Path) -> None:
        """Send the report and its figure, and end the run. See `Tracker.finish`."""
        try:
            if report.exists():
                self._folder = self._free_folder()
                self.keep_file(report, REPORT_NAME)
                self._keep_figure(read_report(report.parent) or {})
        finally:
            if not self._is_guest:  # Azure ends the runs that it made
                self._client.set_terminated(self._id, _STATUS[state])

    def _keep_figure(self, report: dict[str, Any]) -> None:
        """The training curve, as a model card has it."""
        if figure := curve_figure(report, None):
            with tempfile.TemporaryDirectory(prefix="apt-figure-") as directory:
                (file := Path(directory) / FIGURE_NAME).write_bytes(figure)
                self.keep_file(file, FIGURE_NAME)

    def keep_file(self, file: Path, name: str) -> None:
        """Send one file. See `FileKeeper.keep_file`.

        Not a directory at once: some stores would send its files by threads that outlive a run which leaves them
        behind, and azureml-mlflow's would hide a fault.
        """
        folder = PurePosixPath(self._folder, name).parent.as_posix()
        with self._sending():
            self._client.log_artifact(self._id, str(file), None if folder == "." else folder)

    def _free_folder(self) -> str:
        """Elsewhere a file replaces that of an earlier part of the run; in a workspace its name is taken."""
        if self._service is None:
            return ""
        with self._sending():
            taken = [file.path for file in self._client.list_artifacts(self._id)]
        return self._service.free_folder(taken, (REPORT_NAME, FIGURE_NAME, LOGS_NAME, MODEL_DIRECTORY))

    def _sending(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self._service is None else self._service.sending_files(self._uri)


def open_client(uri: str) -> Any:
    """Return MLflow's client of a tracking URI, quiet and without telemetry. The directory of a SQLite file is made."""
    _quieten()
    from mlflow.tracking import MlflowClient

    for told in ("mlflow.store.db", "alembic"):  # each of forty migrations, when a SQLite file is made
        logging.getLogger(told).setLevel(logging.WARNING)
    _make_room(uri)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _quieten() -> None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # `whereabouts` does it


def experiment_id(client: Any, uri: str, name: str) -> str:
    """Return the id of an experiment, which is made if it is not there.

    Args:
        client: of the store.
        uri: its tracking URI.
        name: of the experiment.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name, artifact_location=_artifacts(uri)))
    except MlflowException as error:
        # Another run of the same minute has made it.
        found = client.get_experiment_by_name(name)
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
            raise
        return str(found.experiment_id)


def _artifacts(uri: str) -> str | None:
    """Return where files go: next to a SQLite file, not MLflow's working directory; None: a server decides."""
    database = _sqlite_file(uri)
    return (database.parent / ARTIFACTS_NAME).as_uri() if database else None


def _batches(points: Sequence[Point], most: int) -> Iterator[list[Point]]:
    """Points cut where a call would be too large."""
    batch: list[Point] = []
    size = 0
    for point in points:
        if batch and size + len(point.figures) > most:
            yield batch
            batch, size = [], 0
        batch.append(point)
        size += len(point.figures)
    if batch:
        yield batch


def _sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store, as an absolute path; None: another kind of store."""
    scheme, _, path = uri.partition(":///")
    if scheme.partition("+")[0] != "sqlite" or not path:
        return None
    return Path(path.partition("?")[0]).absolute()


def _make_room(uri: str) -> None:
    if database := _sqlite_file(uri):
        database.parent.mkdir(parents=True, exist_ok=True)
