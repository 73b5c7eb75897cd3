"""Submission of a job's YAML: upload what it needs, and create the job exactly once."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from training.azure.service.errors import ServiceError, service_refusals
from training.azure.service.interrupts import raise_stop
from training.azure.settings.inner_run import CHECKOUT
from training.errors import printable
from training.machine.units import as_duration, as_size

if TYPE_CHECKING:
    from azure.ai.ml.entities import Job
    from azure.storage.blob import ContainerClient

    from training.azure.service.workspace import Workspace


SUBMISSION = "apt_trainer.submission"
"""Property of a job by which a submission recognizes the job that it created."""


def _print_line(line: str) -> None:
    print(printable(line), flush=True)


def submit(workspace: Workspace, document_yaml: str, base: Path, say: Callable[[str], None] = _print_line) -> Job:
    """Upload what the job needs and create it. Files that Azure has from an earlier job are not sent again.

    Args:
        workspace: that gets the job.
        document_yaml: the job as `az ml job create` takes it, with a name; paths in it are relative to `base`.
        base: the staged directory.
        say: prints a line.

    Returns:
        The job as the service describes it.

    Raises:
        ServiceError: nothing was created, or (the line says so) it is not known whether.
        KeyboardInterrupt: Ctrl-C or SIGTERM; it is not known whether.
    """
    from azure.ai.ml import load_job

    with service_refusals("the job's description"):
        job: Any = load_job(io.StringIO(document_yaml), relative_origin=str(base / "job.yml"))
        # An input that is used and not given would show only after the upload.
        (job._to_job() if hasattr(job, "_to_job") else job)._to_rest_object()
    where = f"job {job.name!r}"
    mark = uuid.uuid4().hex
    job.properties = {**(job.properties or {}), **git_properties(CHECKOUT), SUBMISSION: mark}
    with watched_upload(base, say) as upload, git_hidden_from_sdk():
        created = _create(workspace, job, where, mark, upload)
    upload.ended()
    return created


def _create(workspace: Workspace, job: Any, where: str, mark: str, upload: Upload) -> Job:
    """Create the job; where the answer was lost, find the one that was created nevertheless."""
    try:
        with service_refusals(where):
            return workspace.client.jobs.create_or_update(job)
    except ServiceError as refused:
        if upload.failure is not None:
            with service_refusals(f"{where} was not created: the upload failed"):
                raise upload.failure from refused
        if refused.status is not None and refused.status not in (400, 409) and refused.status < 500:
            raise
        if (created := _find_own(workspace, job.name, where, mark)) is not None:
            return created
        raise


def _find_own(workspace: Workspace, name: str, where: str, mark: str) -> Job | None:
    """Look for the job that this submission has created although the answer did not say so; None: it has not.

    The name is fixed, so a second attempt never makes a second job; but the service may refuse it as a name that is
    taken, by the first.
    """
    try:
        with service_refusals(where):
            found: Any = workspace.client.jobs.get(name)
    except ServiceError as error:
        if error.status == 404:
            return None
        raise ServiceError(
            f"it is not known whether {where} was created: {error}; once Azure answers again, "
            f"`python tools/azure_jobs.py show {name}` shows it"
        ) from error
    return found if (found.properties or {}).get(SUBMISSION) == mark else None


# -- the upload --------------------------------------------------------------------------------------------------------

REPORT_EVERY = 5.0
"""Seconds between two lines about an upload."""
ATTEMPTS = 4
"""Further attempts for a file whose connection breaks, after 1, 3, 5 and 9 seconds. The SDK's own begin with 15."""
LOOK_SECONDS = 0.1
"""Between two looks whether the upload is given up, while a file is sent."""


class Upload:
    """Sends the files of the SDK's upload, one call for each file, from the SDK's threads."""

    def __init__(self, send: Callable[..., None], directory: Path, say: Callable[[str], None]) -> None:
        self._send, self._say = send, say
        sizes = [path.stat().st_size for path in directory.rglob("*") if path.is_file()]
        self._total = f"{len(sizes)} file{'s' if len(sizes) != 1 else ''} ({as_size(sum(sizes))})"
        self._files = self._bytes = 0
        self._began = self._reported = 0.0
        self._lock = threading.Lock()
        self.failure: BaseException | None = None
        """Error of the first file that failed."""

    def __call__(self, storage_client: Any, source: str, **kwargs: Any) -> None:
        """Send one file, unless another has failed: the SDK would try each of them for minutes before it says so."""
        with self._lock:
            if self.failure is not None:
                raise self.failure
            if not self._began:
                self._began = self._reported = time.monotonic()
                storage_client.container_client = _impatient(storage_client.container_client)
                self._say(f"uploading {self._total}")
        try:
            self._send_or_leave(storage_client=storage_client, source=source, **kwargs)
        except BaseException as error:
            with self._lock:
                self.failure = self.failure or error
            raise
        with self._lock:
            self._files += 1
            self._bytes += Path(source).stat().st_size
            if time.monotonic() - self._reported > REPORT_EVERY:
                self._reported = time.monotonic()
                self._say(f"uploaded {self._files} files ({as_size(self._bytes)}) of {self._total}")

    def _send_or_leave(self, **kwargs: Any) -> None:
        """Send one file in a thread that is abandoned when the upload is given up.

        The SDK waits for its own threads, also at the end of the process, and for minutes on a silent connection.
        """
        faults: list[BaseException] = []
        over = threading.Event()

        def send() -> None:
            try:
                self._send(**kwargs)
            except BaseException as error:
                faults.append(error)
            finally:
                over.set()

        threading.Thread(target=send, name=f"upload of {kwargs['source']}", daemon=True).start()
        while not over.wait(LOOK_SECONDS):
            if self.failure is not None:
                raise self.failure
        if faults:
            raise faults[0]

    def ended(self) -> None:
        """Report the upload, once the SDK has finished it."""
        if self._began:
            self._say(f"uploaded {self._total} in {as_duration(time.monotonic() - self._began)}")
        else:
            self._say(f"nothing to upload: Azure has these {self._total} from an earlier job")

    def give_up(self, number: int, frame: FrameType | None) -> None:
        """Stop at Ctrl-C or SIGTERM: begin no other file, as the SDK waits for every file begun or planned."""
        self.failure = self.failure or KeyboardInterrupt()
        raise_stop(number, frame)


def _impatient(container: ContainerClient) -> ContainerClient:
    """Return the same container with a client that tries again sooner."""
    from azure.storage.blob import ContainerClient, ExponentialRetry

    again = ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=ATTEMPTS, random_jitter_range=1)
    return ContainerClient.from_container_url(container.url, retry_policy=again)  # its address holds the signature


@contextlib.contextmanager
def watched_upload(directory: Path, say: Callable[[str], None]) -> Iterator[Upload]:
    """Let the SDK send files through an `Upload` within the block, and hide its own progress bars.

    Without this, a failed upload (SDK 1.35) is known only after every file has been tried for about a minute.

    Args:
        directory: that is sent, for its size.
        say: prints a line.
    """
    from azure.ai.ml._utils import _asset_utils

    send = _asset_utils.upload_file  # upload_directory looks it up by this name for each file
    upload = Upload(send, directory, say)
    stdout = sys.stdout
    in_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if in_main else ()
    before = {number: signal.signal(number, upload.give_up) for number in numbers}
    _asset_utils.upload_file = upload
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars and a blank line; failures are raised
            yield upload
    finally:
        _asset_utils.upload_file = send
        sys.stdout = stdout  # an invalid job makes the SDK call colorama.init(), which replaces it
        for number, handler in before.items():
            signal.signal(number, handler)


# -- the commit that the code is of ------------------------------------------------------------------------------------

REPOSITORY = "mlflow.source.git.repoURL"
BRANCH = "mlflow.source.git.branch"
COMMIT = "mlflow.source.git.commit"
DIRTY = "azureml.git.dirty"
"""Properties under which Studio shows the commit."""
GIT_TIMEOUT = 10.0


def git_properties(checkout: Path) -> dict[str, str]:
    """Return repository, branch and commit of a checkout as properties of a job; empty: no checkout, or no git."""
    if _git(checkout, "rev-parse", "--is-inside-work-tree") != "true":
        return {}
    remote = _git(checkout, "remote", "get-url", "origin")
    found = {
        REPOSITORY: without_secrets(remote) if remote else None,
        BRANCH: _git(checkout, "symbolic-ref", "--short", "HEAD"),
        COMMIT: _git(checkout, "rev-parse", "HEAD"),
        DIRTY: str(bool(_git(checkout, "status", "--porcelain", "."))),
    }
    return {name: value for name, value in found.items() if value}


def without_secrets(remote: str) -> str | None:
    """Return a remote's address without user, password, token and query; None: its form is unknown.

    `git@host:owner/name.git` holds none and stays.
    """
    if "://" not in remote:
        user, at, rest = remote.rpartition("@")
        return remote if not at else f"git@{rest}" if user else rest
    try:
        parts = urlsplit(remote)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    if not parts.hostname or "@" in parts.path:  # such as https://dev.azure.com/TOKEN@owner/name
        return None
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


@contextlib.contextmanager
def git_hidden_from_sdk() -> Iterator[None]:
    """Keep the SDK from adding what it finds in the working directory: another repository, and secrets of its remote.

    The SDK (1.35) looks with `git` and in the variables AZUREML_GIT_*; it knows a token in one form of address only.
    """
    before = dict(os.environ)
    os.environ["GIT_DIR"] = os.devnull
    for name in [name for name in os.environ if name.startswith("AZUREML_GIT_")]:
        del os.environ[name]
    try:
        yield
    finally:
        for name in before:
            if os.environ.get(name) is None:
                os.environ[name] = before[name]
        if "GIT_DIR" in before:
            os.environ["GIT_DIR"] = before["GIT_DIR"]
        else:
            del os.environ["GIT_DIR"]


def _git(checkout: Path, *words: str) -> str | None:
    """Return what git prints; None: it failed, or is not installed."""
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), *words],
            capture_output=True, text=True, errors="replace",  # a branch's name may be in any encoding
            timeout=GIT_TIMEOUT, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
