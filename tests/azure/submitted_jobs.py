"""Jobs for the tests of what comes after the submission: submitted by the SDK, really run by the stand-in."""

from __future__ import annotations

import contextlib
import io
import shlex
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.azure.stand_in.stand_in import AzureStandIn
from tests.support.meanwhile import Meanwhile
from training.azure.follow.watch import Pace, follow
from training.azure.service.address import WorkspaceAddress
from training.azure.service.job_file import JobHandle
from training.azure.service.workspace import Workspace
from training.record.reporter import read_report

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "tests" / "support" / "programs" / "recorded_job.py"
DATASTORE = "workspaceblobstore"
PACE = Pace(state=0.1, record=0.1, heartbeat=0.3, tick=0.05)


def address_of(azure: AzureStandIn) -> WorkspaceAddress:
    """The workspace of a stand-in."""
    found = azure.workspace
    return WorkspaceAddress(found.subscription, found.group, found.name)


def recorded(steps: int = 40, *, exit_code: int = 0, first_loss: float | str = 5.0, gate: Path | None = None) -> str:
    """The command of a job that keeps a record; with `gate` it stays at step 10 until that file is there."""
    words = f"python {PROGRAM} ${{{{outputs.run}}}} {steps} {exit_code} {first_loss}"
    return words if gate is None else f"{words} {shlex.quote(str(gate))}"


class User:
    """Somebody who submits jobs of ours and follows one.

    Args:
        azure: Azure.
        directory: where the run directory is made, and the file for which a job may wait.
    """

    def __init__(self, azure: AzureStandIn, directory: Path) -> None:
        self.azure, self.workspace = azure, Workspace.connect(address_of(azure))
        self.gate, self.run_dir = directory / "gate", directory / "run"
        self.run_dir.mkdir()
        self._heard = io.StringIO()

    def submits(self, command: str, name: str = "job-1", **more: Any) -> JobHandle:
        """See `submit`."""
        return submit(self.workspace, command, name, **more)

    def follows(self, handle: JobHandle, meanwhile: Callable[[], object] = bool) -> int:
        """To its end, while something else happens; the exit code."""
        with contextlib.redirect_stdout(self._heard), Meanwhile(meanwhile):
            return follow(self.workspace, handle, self.run_dir, PACE)

    @property
    def heard(self) -> str:
        """All that was printed so far."""
        return self._heard.getvalue()

    def waits_to_hear(self, text: str) -> None:
        """Until it was printed."""
        self.azure.wait(lambda: text in self.heard, what=f"{text!r} after {self.heard!r}")

    def waits_for_the_gate(self) -> None:
        """Until the record is here up to the step at which a job stays."""
        self.azure.wait(lambda: (read_report(self.run_dir) or {}).get("step") == 10, what="step 10")

    def opens_the_gate(self) -> None:
        """The job goes on."""
        self.gate.touch()


def submit(workspace: Workspace, command: str, name: str = "job-1", **more: Any) -> JobHandle:
    """Submit a job of ours, without a snapshot: its program is this checkout's."""
    _create(workspace, {"type": "command", **_words(name, name), **_part(command), **more})
    return JobHandle(name, workspace.address, DATASTORE, f"apt-runs/{name}", time.time())


def submit_sweep(workspace: Workspace, command: str, space: dict[str, Any], name: str = "sweep-1") -> JobHandle:
    """Submit a sweep of ours over every combination of choices, two trials at a time."""
    more = {
        "search_space": {key: {"type": "choice", "values": values} for key, values in space.items()},
        "objective": {"primary_metric": "eval/loss", "goal": "minimize"},
        "sampling_algorithm": {"type": "grid"},
        "limits": {"max_total_trials": 20, "max_concurrent_trials": 2},
    }
    _create(workspace, {"type": "sweep", **_words(name, "${{name}}"), "trial": _part(command), **more})
    return JobHandle(name, workspace.address, DATASTORE, None, time.time())


def _words(name: str, run: str) -> dict[str, Any]:
    place = f"azureml://datastores/{DATASTORE}/paths/apt-runs/{run}/"
    return {
        "name": name,
        "experiment_name": "apt-tests",
        "outputs": {"run": {"type": "uri_folder", "mode": "rw_mount", "path": place}},
        "tags": {"inner_backend": "playground"},
    }


def _part(command: str) -> dict[str, Any]:
    return {
        "command": command,
        "environment": {"image": "mcr.microsoft.com/azureml/openmpi5.0-cuda12.6-ubuntu24.04"},
        "environment_variables": {"PYTHONPATH": str(ROOT)},
        "resources": {"instance_count": 1, "instance_type": "Standard_DS3_v2"},
    }


def _create(workspace: Workspace, document: dict[str, Any]) -> None:
    import yaml
    from azure.ai.ml import load_job

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the SDK's own use of marshmallow
        workspace.client.jobs.create_or_update(load_job(io.StringIO(yaml.safe_dump(document))))
