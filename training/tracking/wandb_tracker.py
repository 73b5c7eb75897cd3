"""Weights & Biases: a run at wandb.ai (or a server of one's own), or a directory that `wandb sync` uploads later."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from training.errors import ConfigError
from training.settings.tracking import DEFAULT_PROJECT, TrackConfig
from training.storage.run_files import RunFile
from training.tracking.secrets import without_secrets
from training.tracking.tracker import Held, Point, RunStart
from training.tracking.tracker_file import TrackerFile
from training.tracking.wandb_log import is_whole, last_step

RUN_FILES = (RunFile("wandb"),)  # the name is W&B's own

SECONDS_TO_UPLOAD = 8
"""Time for uploads at the end; W&B keeps what it has not sent by then for `wandb sync`."""

SECONDS_TO_OPEN = 10

SECONDS_TO_WRITE = 5
"""Time for an offline run's last rows after wandb-core has said that it is finished: usually milliseconds."""

_EXIT_CODES = {"finished": 0, "stopped": 255, "failed": 1}
"""255 is what W&B itself gives a run that was interrupted."""


def import_wandb() -> ModuleType:
    """Import the package silently: it would print into the progress bar and report its own faults to its makers."""
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # both are read when it is imported
    import wandb

    module: ModuleType = wandb
    return module


def check_login() -> None:
    """Check that W&B finds credentials: in the environment, in its settings files or in ~/.netrc.

    None is read out, sent, verified or printed. `wandb.login(prompt=False, verify=False)` would ask the server all the
    same: ten seconds where it does not answer.

    Raises:
        ConfigError: there are none for the server, or they cannot be credentials.
    """
    wandb = import_wandb()
    from wandb.sdk.lib.wbauth import authenticate_session

    host = wandb.setup().settings.base_url
    try:
        found = authenticate_session(host=host, source="--track wandb", prompt=False, update_session=False)
    except wandb.errors.AuthenticationError as error:
        raise ConfigError(f"--track wandb: {without_secrets(str(error))}; run: wandb login --relogin") from error
    if found is None:
        raise ConfigError(f"--track wandb: not logged in at {host}; run: wandb login (or give --wandb-mode offline)")


class WandbTracker:
    """Logs one run by wandb's own process (wandb-core), which survives a kill of the training and a lost network.

    W&B keeps the rows of a run in the order in which they come, and takes none for an earlier step. So a step that was
    sent stays, and what a resumed run does again is not sent again.
    """

    name: ClassVar[str] = "wandb"
    seconds_between_calls: ClassVar[float] = 1.0

    def __init__(self, settings: TrackConfig, mode: str, run_dir: Path, file: TrackerFile) -> None:
        self._settings = settings
        self._mode = mode
        self._run_dir = run_dir.absolute()
        self._file = file
        self._last_step: int | None = None

    def start(self, run: RunStart) -> Held:
        """Open the run in W&B, or go on with it. See `Tracker.start`."""
        wandb = import_wandb()

        kept = self._file.recall(self.name, run).get("id")
        name = kept or uuid.uuid4().hex[:12]
        # Before the run is opened: a kill in between must not lose the name.
        self._file.keep(self.name, run, id=name)
        held = last_step(self._run_dir, name) if kept else 0
        self._run: Any = wandb.init(
            project=self._settings.wandb_project or os.environ.get("WANDB_PROJECT") or DEFAULT_PROJECT,
            entity=self._settings.wandb_entity,
            id=name,
            name=self._run_dir.name,
            dir=self._run_dir,
            mode=self._mode,
            config=dict(run.params),
            allow_val_change=True,
            tags=[
                f"{key}:{value}"[:64] for key, value in run.tags.items() if key in ("backend", "run_id", "curve_hash")
            ],
            resume="allow" if self._mode == "online" else None,
            reinit="create_new",  # a run of the calling program's own stays as it is
            settings=wandb.Settings(
                console="off",  # our output goes through files already; wandb would put itself in between
                disable_code=True,
                disable_job_creation=True,
                init_timeout=SECONDS_TO_OPEN,
                finish_timeout=SECONDS_TO_UPLOAD,
                finish_timeout_raises=True,
            ),
        )
        # Online the server says which rows it has: those in our files may never have reached it.
        return Held(max(0, self._run.starting_step - 1) if self._mode == "online" else held)

    def whereabouts(self) -> str:
        """See `Tracker.whereabouts`."""
        if self._mode == "online":
            return str(self._run.url)
        return f"offline; wandb sync {self._directory}"

    @property
    def _directory(self) -> str:
        """All parts of the run, as a shell pattern: `wandb sync` takes them in the order of their beginnings."""
        return f"{Path(self._run.dir).parent.parent}/*-{self._run.id}*"

    def log(self, points: Sequence[Point]) -> None:
        """Hand rows to wandb-core; figures of one step become one row. See `Tracker.log`."""
        for point in points:
            self._run.log({**point.figures, "_timestamp": point.time}, step=point.step)
            self._last_step = point.step

    def finish(self, state: str, report: Path) -> None:
        """Upload the report and end the run. See `Tracker.finish`."""
        if report.exists():
            # A copy: W&B would keep a link, and another machine that syncs the directory would find nothing behind it.
            copy = shutil.copy(report, self._run.dir)
            self._run.save(copy, base_path=self._run.dir, policy="now")
        try:
            self._run.finish(exit_code=_EXIT_CODES[state])
        except TimeoutError as error:
            raise TimeoutError(
                f"the upload was not done after {SECONDS_TO_UPLOAD} s; `wandb sync {self._directory}` sends the rest"
            ) from error
        if self._mode == "offline" and self._last_step is not None:
            # A resume, which may come at once, asks the file what it holds.
            file, until = Path(self._run.dir).parent / f"run-{self._run.id}.wandb", time.monotonic() + SECONDS_TO_WRITE
            while not is_whole(file, self._last_step) and time.monotonic() < until:
                time.sleep(0.02)
