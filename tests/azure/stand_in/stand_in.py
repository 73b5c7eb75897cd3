"""The whole stand-in: what a test is given."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.azure.stand_in import (
    assets,
    clients,
    computes,
    history,
    jobs,
    login,
    regions,
    registries,
    run_artifacts,
    tracking,
    workspaces,
)
from tests.azure.stand_in.azurite import Azurite
from tests.azure.stand_in.certificates import Certificates, make_certificates
from tests.azure.stand_in.command import variables
from tests.azure.stand_in.exchange import RefusalError, Reply, Request
from tests.azure.stand_in.faults import Faults
from tests.azure.stand_in.gateway import Gateway
from tests.azure.stand_in.job import ENDED, Job
from tests.azure.stand_in.machine import Machine
from tests.azure.stand_in.mlflow_server import MlflowServer
from tests.azure.stand_in.routes import Routes
from tests.azure.stand_in.storage import Storage
from tests.azure.stand_in.sweep import run_sweep
from tests.azure.stand_in.tracking import Tracking
from tests.azure.stand_in.world import GROUP, SUBSCRIPTION, WORKSPACE, Document, Workspace, World

_CONTROL = (workspaces.ROUTES, regions.ROUTES, computes.ROUTES, assets.ROUTES, jobs.ROUTES)
_DATA = (history.ROUTES, registries.ROUTES, run_artifacts.ROUTES, tracking.ROUTES, workspaces.ROUTES)
_ACCOUNT = "apttests"
_OPEN = ("/discovery", "/metadata/endpoints")
"""Paths that need no token."""


class AzureStandIn:
    """Azure, as far as the tests need it. `azure_stand_in(…)` makes one, `reset()` makes it as new."""

    def __init__(self, directory: Path, certificates: Certificates, azurite: Azurite) -> None:
        self.storage = Storage(azurite, certificates)
        self.world = World(self.storage)
        self.faults = Faults()
        self.gateway = Gateway(
            certificates.server_context(), self._answer, self.faults, azurite.port, certificates.client_context()
        )
        self._directory = directory
        self._surroundings = clients.surroundings(self.gateway.url, certificates)
        self._mlflow_server = MlflowServer(directory / "mlflow")
        self.tracking = self.world.tracking = Tracking(self._mlflow_server)
        self.machine = Machine(directory / "machine", self.storage, self._surroundings)
        self.world.start = self._start
        self._threads: list[threading.Thread] = []
        self.failures: list[BaseException] = []
        """What went wrong in the stand-in itself; a test in which something did fails."""
        self.workspace: Workspace
        self.reset()

    # -- how clients reach it --------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """The whole environment of a process that takes this for Azure and can log in by a client's secret."""
        return self._surroundings | clients.by_secret()

    def fake_az(self, logged_in: bool = True) -> Path:
        """A directory with an `az` for PATH, whose user is logged in or is not."""
        directory = self._directory / ("az_logged_in" if logged_in else "az_logged_out")
        clients.write_az(directory, logged_in)
        return directory

    @property
    def address(self) -> dict[str, str]:
        """Keyword arguments `subscription_id`, `resource_group_name`, `workspace_name` of the SDK's client."""
        found = self.workspace
        return {
            "subscription_id": found.subscription,
            "resource_group_name": found.group,
            "workspace_name": found.name,
        }

    # -- what happened ---------------------------------------------------------------------------------------------

    @property
    def requests(self) -> list[Request]:
        """All that came since the last `reset` or `forget`."""
        return self.gateway.requests

    def forget(self) -> None:
        """Begin anew to keep requests."""
        self.gateway.requests.clear()

    def uploads(self) -> list[str]:
        """Addresses of the blobs that clients have written, without those of jobs: those never pass the proxy."""
        return [r.host + r.path for r in self.requests if ".blob." in r.host and r.method == "PUT"]

    def job(self, name: str | None = None) -> Job:
        """A job of the workspace by name; the newest that is no trial."""
        found = self.workspace.jobs
        return found[name] if name is not None else [job for job in found.values() if job.parent is None][-1]

    def blobs(self, path: str = "", datastore: str = "workspaceblobstore") -> dict[str, bytes]:
        """What is in a datastore below a path, by name."""
        container = self.storage.container(self.workspace.container_of(datastore))
        names = [blob.name for blob in container.list_blobs(name_starts_with=path)]
        return {name: container.download_blob(name).readall() for name in names}

    def names(self, path: str = "", datastore: str = "workspaceblobstore") -> list[str]:
        """Names of what is in a datastore below a path."""
        container = self.storage.container(self.workspace.container_of(datastore))
        return [blob.name for blob in container.list_blobs(name_starts_with=path)]

    def log(self, name: str | None = None) -> str:
        """What a job's first process has printed, as far as it is in the artifact store."""
        logs = self.blobs(f"{self.job(name).artifacts}/user_logs/", "workspaceartifactstore")
        return logs[min(logs)].decode() if logs else ""

    # -- what a test makes happen ----------------------------------------------------------------------------------

    def add_compute(
        self, name: str, vm_size: str = "Standard_DS3_v2", *, nodes: int = 2, tier: str = "Dedicated"
    ) -> Document:
        """A cluster that is there already; its document may be changed."""
        made = computes.cluster(self.workspace, name, vm_size, nodes=nodes, tier=tier)
        self.workspace.computes[name] = made
        return made

    def make_run(self, experiment: str, name: str) -> dict[str, str]:
        """A job that is Running without a command; what Azure would put into the environment of its processes."""
        made = Job(self.workspace, name, {"jobType": "Command", "experimentName": experiment, "command": ""})
        made.status = "Running"
        made.done.set()
        self.workspace.jobs[name] = made
        return variables(made, self._surroundings)

    def wait(self, until: Callable[[], object], seconds: float = 60, what: str = "") -> None:
        """Until something is so.

        Raises:
            TimeoutError: it is not, after so many seconds; tells where all jobs are.
        """
        end = time.monotonic() + seconds
        while not until():
            if time.monotonic() > end:
                states = {job.name: (job.statuses, job.error) for job in self.workspace.jobs.values()}
                raise TimeoutError(f"{what or 'it'} did not happen in {seconds:g} s; jobs: {states}")
            time.sleep(0.02)

    def start_when_streamed(self, name: str) -> None:
        """Let the queue move once the SDK's `jobs.stream` looks at a job: it shows nothing of one that has ended."""
        self.wait(lambda: any(r.path.endswith(f"/runs/{name}/details") for r in self.requests), what="the streaming")
        self.machine.open.set()

    def wait_for_end(self, name: str | None = None, seconds: float = 60) -> Job:
        """Until a job has ended and nothing of it runs."""
        job = self.job(name)
        self.wait(job.done.is_set, seconds, f"the end of {job.name}")
        return job

    def preempt(self, name: str | None = None, seconds: float = 60) -> None:
        """Take the machine of a running job back, at once and without a word; it is started again under its name."""
        job = self.job(name)
        self.wait(lambda: job.status == "Running" or job.status in ENDED, seconds, f"the start of {job.name}")
        starts = job.starts
        job.preempted.set()
        self.wait(lambda: job.starts > starts or job.status in ENDED, seconds, f"the restart of {job.name}")

    def reset(self) -> None:
        """End all that runs and forget all that was; the workspace is empty and all is well."""
        self.settle()
        self.world.groups.clear()
        self.world.workspaces.clear()
        self.storage.delete_containers()
        self.workspace = self.world.add_workspace(SUBSCRIPTION, GROUP, WORKSPACE)
        self.world.sizes = {known["name"].lower(): dict(known) for known in regions.SIZES}
        self.world.quota = dict(regions.QUOTA)
        self.world.low_priority_cores, self.world.used, self.world.secrets = 100, {}, "AccountKey"
        self.world.cluster_failure = None
        self.world.curated = {name: list(versions) for name, versions in registries.CURATED.items()}
        self.tracking.forget()
        self.machine.queue_seconds = 0.0
        self.machine.open.set()
        self.forget()

    def settle(self) -> None:
        """End all that runs, and all faults.

        Raises:
            RuntimeError: something went wrong in the stand-in itself since the last time.
        """
        self.faults.clear()
        for found in self.world.workspaces:
            for job in list(found.jobs.values()):
                job.cancelled.set()
        for thread in self._threads:
            thread.join(30)
        self._threads.clear()
        failures, self.failures = self.failures, []
        if failures:
            raise RuntimeError(f"the stand-in itself failed: {failures}") from failures[0]

    # -- inside ----------------------------------------------------------------------------------------------------

    def _answer(self, request: Request) -> Reply:
        try:
            if request.host == "login.microsoftonline.com":
                return self._find(request, (login.ROUTES,))
            if request.path.lower() not in _OPEN:
                login.check_token(request)
            return self._find(request, _CONTROL if request.host == "management.azure.com" else _DATA)
        except RefusalError as refusal:
            return refusal.reply()
        except Exception as error:
            self.failures.append(error)
            print(f"{request.method} {request.host}{request.path}: {error!r}", file=sys.stderr)
            return RefusalError(500, "StandInFailed", repr(error)).reply()

    def _find(self, request: Request, tables: tuple[Routes, ...]) -> Reply:
        for table in tables:
            found = table.find(request)
            if found:
                answer, groups = found
                return answer(self.world, request, **groups)
        raise RefusalError(404, "NotPlayed", f"{request.method} {request.host}{request.path} is not played here")

    def _start(self, job: Job) -> None:
        thread = threading.Thread(target=self._run, args=(job,), name=job.name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, job: Job) -> None:
        try:
            if job.is_sweep:
                run_sweep(job, self.machine, self.tracking, self._run)
            else:
                self.machine.run(job)
            self.tracking.end(job)
        except Exception as error:
            self.failures.append(error)
            job.error = f"{type(error).__name__}: {error}"
            job.status = "Failed"
        finally:
            job.done.set()

    def close(self) -> None:
        """End all that runs."""
        try:
            self.settle()
        finally:
            self._mlflow_server.close()


@contextlib.contextmanager
def azure_stand_in(directory: Path) -> Iterator[AzureStandIn]:
    """Azure at a free port while a block runs; all files are below `directory`."""
    certificates = make_certificates(directory)
    with Azurite(directory, _ACCOUNT, certificates) as azurite:
        stand_in = AzureStandIn(directory, certificates, azurite)
        with stand_in.gateway:
            try:
                yield stand_in
            finally:
                stand_in.close()
