"""The processes of a command job: what each is told, and how they end together."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.azure.stand_in.job import Job
from tests.azure.stand_in.login import make_token
from tests.azure.stand_in.tracking import experiment_id

_GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL of a job that is cancelled. Azure gives more."""


def fill_in(text: str, job: Job, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> str:
    """Azure's `${{…}}` expressions with what they stand for.

    Raises:
        ValueError: one of them stands for nothing.
    """
    known = {f"inputs.{name}": value for name, value in inputs.items()}
    known |= {f"outputs.{name}": value for name, value in outputs.items()}
    known |= {f"search_space.{name}": str(value) for name, value in job.values.items()}
    known["name"] = job.name

    def value(found: re.Match[str]) -> str:
        if found[1].strip() not in known:
            raise ValueError(f"{found[0]} stands for nothing; known are {sorted(known)}")
        return known[found[1].strip()]

    return re.sub(r"\$\{\{(.+?)\}\}", value, text)


def variables(job: Job, surroundings: Mapping[str, str]) -> dict[str, str]:
    """What Azure sets for a job's processes, on top of what this machine needs to reach the stand-in."""
    workspace = job.workspace
    token = make_token("https://ml.azure.com")
    sweep = {f"AZUREML_SWEEP_{name}": str(value) for name, value in job.values.items()}
    return {
        **surroundings,
        "AZUREML_RUN_ID": job.name,
        "AZUREML_ROOT_RUN_ID": (job.parent or job).name,
        "AZUREML_RUN_TOKEN": token,
        "AZUREML_RUN_TOKEN_EXPIRY": str(int(time.time()) + 3600),
        "AZUREML_ARM_SUBSCRIPTION": workspace.subscription,
        "AZUREML_ARM_RESOURCEGROUP": workspace.group,
        "AZUREML_ARM_WORKSPACE_NAME": workspace.name,
        "AZUREML_ARM_PROJECT_NAME": job.experiment,
        "AZUREML_WORKSPACE_ID": workspace.guid,
        "AZUREML_WORKSPACE_SCOPE": workspace.id,
        "AZUREML_SERVICE_ENDPOINT": workspace.api,
        "AZUREML_DISCOVERY_SERVICE_ENDPOINT": f"{workspace.api}/discovery",
        "AZUREML_EXPERIMENT_SCOPE": f"{workspace.id}/experiments/{job.experiment}",
        "MLFLOW_TRACKING_URI": f"azureml://{workspace.region}.api.azureml.ms/mlflow/v1.0{workspace.id}?",
        "MLFLOW_TRACKING_TOKEN": token,
        "MLFLOW_RUN_ID": job.name,
        "MLFLOW_EXPERIMENT_NAME": job.experiment,
        "MLFLOW_EXPERIMENT_ID": experiment_id(workspace, job.experiment),
        "AZUREML_EXPERIMENT_ID": experiment_id(workspace, job.experiment),
        **sweep,
    }


class Command:
    """A job's processes, one for each rank, each in a process group of its own."""

    def __init__(
        self, job: Job, text: str, code: Path, logs: Path, environment: Mapping[str, str], distribution: dict[str, Any]
    ) -> None:
        """Start them.

        Args:
            job: whose they are.
            text: what a shell is given.
            code: the snapshot; each node works in a copy of its own beside it.
            logs: directory of what they print.
            environment: of all of them.
            distribution: `distributionType` and `processCountPerInstance`; {} for one process.
        """
        nodes = int((job.asked.get("resources") or {}).get("instanceCount") or 1)
        each = int(distribution.get("processCountPerInstance") or 1)
        self.program = shlex.split(text)[0] if text.strip() else "bash"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._names: list[str] = []
        port = _free_port()
        for node in range(nodes):
            here = code if node == 0 else code.with_name(f"{code.name}_{node}")
            if node:
                shutil.copytree(code, here, symlinks=True)
            for local in range(each):
                rank = node * each + local
                own = {"AZUREML_NODE_COUNT": str(nodes), "PWD": str(here)}
                if distribution:
                    own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(nodes * each)}
                    own |= {"NODE_RANK": str(node), "RANK": str(rank), "LOCAL_RANK": str(local)}
                self._names.append(f"std_log_process_{rank}.txt" if nodes * each > 1 else "std_log.txt")
                with (logs / self._names[-1]).open("ab") as log:
                    self._processes.append(
                        subprocess.Popen(
                            ["/bin/bash", "-c", text],
                            cwd=here,
                            env={**environment, **own},
                            stdin=subprocess.DEVNULL,
                            stdout=log,
                            stderr=subprocess.STDOUT,
                            start_new_session=True,
                        )
                    )

    def poll(self) -> int | None:
        """The exit status once all have ended well or one has not; None: they are at work."""
        codes = [process.poll() for process in self._processes]
        failed = [code for code in codes if code]
        if failed:
            return failed[0] if failed[0] > 0 else 128 - failed[0]
        return None if None in codes else 0

    @property
    def failed_log(self) -> str:
        """Name of the log of the process that failed first."""
        return next((name for name, p in zip(self._names, self._processes, strict=True) if p.poll()), self._names[0])

    def end(self) -> None:
        """SIGTERM, and after a while SIGKILL."""
        self._signal(signal.SIGTERM)
        end = time.monotonic() + _GRACE
        while time.monotonic() < end and any(process.poll() is None for process in self._processes):
            time.sleep(0.02)
        self.kill()

    def kill(self) -> None:
        """SIGKILL for all that they have started, and wait for them."""
        self._signal(signal.SIGKILL)
        for process in self._processes:
            process.wait(30)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes:
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                continue  # the whole group has ended


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
