"""The machines of the workspace's computes, which are this one: a job's command is really run here."""

from __future__ import annotations

import re
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.azure.stand_in.command import Command, fill_in, variables
from tests.azure.stand_in.job import Job
from tests.azure.stand_in.mount import Mount
from tests.azure.stand_in.storage import Storage
from tests.azure.stand_in.world import ARTIFACTS

SYNC_SECONDS = 0.3
"""How often what a job has written is carried to the datastore."""


class Machine:
    """Runs command jobs, each in a thread and a fresh directory."""

    def __init__(self, directory: Path, storage: Storage, surroundings: Mapping[str, str]) -> None:
        """
        Args:
            directory: everything happens in it.
            storage: where snapshots come from and outputs go.
            surroundings: environment by which a process here reaches the stand-in.
        """
        self.queue_seconds = 0.0
        """How long a job is Queued before it is prepared."""
        self.open = threading.Event()
        """While it is not set, jobs stay Queued."""
        self.open.set()
        self._directory, self._storage = directory, storage
        self._bin = directory / "bin"
        self._bin.mkdir(parents=True)
        for name in ("python", "python3"):
            program = self._bin / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
            program.chmod(0o755)
        self.surroundings = {**surroundings, "PATH": f"{self._bin}:{surroundings['PATH']}"}
        """The environment of a job's processes, before what the service and the job add."""

    def run(self, job: Job) -> None:
        """From the queue to the end, again from the queue whenever the machine is taken back."""
        while not self._attempt(job):
            job.preempted.clear()
            job.status = "Queued"

    def _attempt(self, job: Job) -> bool:
        """One start of a job's command; False: it was preempted."""
        job.status = "Queued"
        end = time.monotonic() + self.queue_seconds
        while time.monotonic() < end or not self.open.is_set():
            if job.cancelled.wait(0.02):
                job.status = "Canceled"
                return True
        job.status = "Preparing"
        place = self._directory / f"{job.name}_{job.starts + 1}"
        place.mkdir(parents=True)
        try:
            return self._work(job, place)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _work(self, job: Job, place: Path) -> bool:
        code = place / "wd"
        self._bring(job.asked.get("codeId"), job, code)
        mounts = []
        outputs = {}
        for name in job.asked.get("outputs") or {}:
            datastore, path = job.place_of(name)
            container = self._storage.container(job.workspace.container_of(datastore))
            mounts.append(Mount(container, path, place / "outputs" / name))
            mounts[-1].fill()
            outputs[name] = str(mounts[-1].directory)
        artifacts = self._storage.container(ARTIFACTS)
        logs = Mount(artifacts, f"{job.artifacts}/user_logs", place / "user_logs")
        logs.fill()  # a job that starts again goes on with its log
        mounts += [logs, Mount(artifacts, f"{job.artifacts}/outputs", code / "outputs")]
        inputs = self._inputs(job, place)
        text = fill_in(job.asked["command"], job, inputs, outputs)
        environment = variables(job, self.surroundings)
        environment |= {f"AZURE_ML_OUTPUT_{name}": path for name, path in outputs.items()}
        environment |= {f"AZURE_ML_INPUT_{name}": value for name, value in inputs.items()}
        asked = {k: str(v) for k, v in (job.asked.get("environmentVariables") or {}).items()}
        environment |= {k: fill_in(v, job, inputs, outputs) for k, v in asked.items()}
        if job.cancelled.is_set():
            job.status = "Canceled"
            return True
        job.starts += 1
        job.status = "Running"
        command = Command(job, text, code, logs.directory, environment, job.asked.get("distribution") or {})
        try:
            return self._watch(job, command, mounts, seconds_of((job.asked.get("limits") or {}).get("timeout")))
        finally:
            command.kill()

    def _watch(self, job: Job, command: Command, mounts: list[Mount], timeout: float | None) -> bool:
        end = time.monotonic() + timeout if timeout else None
        synced = 0.0
        while command.poll() is None:
            if job.preempted.is_set():
                command.kill()
                return False
            if job.cancelled.is_set() or (end is not None and time.monotonic() > end):
                command.end()
                job.cancelled.set()
                break
            if time.monotonic() - synced > SYNC_SECONDS:
                for mount in mounts:
                    mount.sync()
                synced = time.monotonic()
            time.sleep(0.02)
        job.exit_code = command.poll()
        log = command.failed_log
        command.kill()
        job.status = "CancelRequested" if job.cancelled.is_set() else "Finalizing"
        for mount in mounts:
            mount.sync()
        if job.cancelled.is_set():
            job.status = "Canceled"
        elif job.exit_code:
            job.error = (
                f"Execution failed. User process '{command.program}' exited with status code {job.exit_code}. "
                f"Please check log file 'user_logs/{log}' for error details."
            )
            job.status = "Failed"
        else:
            job.status = "Completed"
        return True

    def _bring(self, code_id: str | None, job: Job, directory: Path) -> None:
        """The snapshot that was uploaded."""
        directory.mkdir(parents=True)
        if not code_id:
            return
        name, version = code_id.split("/codes/")[1].split("/versions/")
        uri = job.workspace.codes[name][version]["properties"]["codeUri"]
        container, _, path = uri.split(".net/", 1)[1].partition("/")
        self._download(container, path, directory)

    def _inputs(self, job: Job, place: Path) -> dict[str, str]:
        """Values, and paths of what was brought for the job to read."""
        found = {}
        for name, given in (job.asked.get("inputs") or {}).items():
            if given["jobInputType"] == "literal":
                found[name] = str(given["value"])
                continue
            datastore, _, path = given["uri"].partition("datastores/")[2].partition("/paths/")
            target = place / "inputs" / name
            self._download(job.workspace.container_of(datastore), path, target)
            found[name] = str(target / Path(path).name if given["jobInputType"] == "uri_file" else target)
        return found

    def _download(self, container: str, path: str, directory: Path) -> None:
        client = self._storage.container(container)
        for blob in client.list_blobs(name_starts_with=path):
            name = blob.name.removeprefix(path).strip("/") or Path(path).name
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(client.download_blob(blob.name).readall())


def seconds_of(duration: Any) -> float | None:
    """Seconds of an ISO 8601 duration such as `PT1H30M`."""
    found = re.fullmatch(r"P(?:([\d.]+)D)?(?:T(?:([\d.]+)H)?(?:([\d.]+)M)?(?:([\d.]+)S)?)?", duration or "")
    if not found:
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
