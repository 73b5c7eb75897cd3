"""The file in a run directory that names the job which fills it: `azure_job.json`."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from training.azure.service.address import WorkspaceAddress
from training.errors import UserError
from training.storage.atomic import write_atomically
from training.storage.json_files import DamagedFileError, as_declared, read_json
from training.storage.run_files import RunFile

FORMAT = "apt-azure-job"
JOB_NAME = "azure_job.json"
RUN_FILES = (
    RunFile(
        JOB_NAME,
        shows_run=True,
        trained_elsewhere="the record of a job, whose checkpoints are in Azure; bring them here first: "
        "python tools/azure_jobs.py download --what all --run-dir {run_dir}",
    ),
)


@dataclass(frozen=True)
class _Format:
    format: Literal["apt-azure-job"]


@dataclass(frozen=True)
class JobHandle:
    """A submitted job, with all that is needed to find it again."""

    job: str
    """Its name, unique in the workspace."""
    workspace: WorkspaceAddress
    datastore: str
    path: str | None
    """Run directory of the job within the datastore, such as `apt-runs/apt-20261121-191500-3f2a`. None: a sweep, whose
    trials have one each (`apt-runs/TRIAL`)."""
    submitted: float
    """Time of the submission in Unix seconds."""
    register_model: str | None = None
    """Name under which the final model is to be registered once it is there."""

    def write(self, run_dir: Path) -> None:
        """Write the file into a run directory, which exists."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False, indent=1)
        write_atomically(run_dir / JOB_NAME, text.encode(), durable=True)

    @classmethod
    def read(cls, run_dir: Path) -> JobHandle | None:
        """Read the file in a run directory; None: its run was not a job.

        Raises:
            UserError: the file is damaged.
        """
        path = run_dir / JOB_NAME
        try:
            document = read_json(path)
            as_declared(document, _Format, path)
            return as_declared(document, cls, path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UserError(f"{path}: it cannot be read ({error.strerror}); give the job's name") from error
        except DamagedFileError as error:
            raise UserError(
                f"{path}: damaged, it does not name a job ({error.reason}); delete it, or give the job's name"
            ) from error


def command(action: str, run_dir: Path) -> str:
    """Return a command line about the job of a run directory, to be copied."""
    return f"python tools/azure_jobs.py {action} --run-dir {shlex.quote(str(run_dir))}"
