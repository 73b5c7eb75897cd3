"""From a job's YAML to a job, by the real SDK: uploaded once, created once, and what fails ends."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import MethodType

import pytest

from tests.azure.stand_in.exchange import Reply
from tests.azure.stand_in.faults import Cut
from tests.azure.stand_in.stand_in import AzureStandIn
from tests.support.meanwhile import Meanwhile
from training.azure.service.address import WorkspaceAddress
from training.azure.service.errors import ServiceError
from training.azure.service.interrupts import Terminated
from training.azure.service.workspace import Workspace
from training.azure.submit import submission
from training.azure.submit import submission as upload
from training.azure.submit.submission import (
    COMMIT,
    DIRTY,
    REPOSITORY,
    SUBMISSION,
    git_properties,
    submit,
    without_secrets,
)

DOCUMENT = """\
$schema: https://azuremlschemas.azureedge.net/latest/commandJob.schema.json
type: command
name: {name}
experiment_name: apt-tests
command: {command}
code: {code}
environment:
  image: mcr.microsoft.com/azureml/openmpi5.0-cuda12.6-ubuntu24.04:latest
resources:
  instance_type: Standard_DS3_v2
outputs:
  run:
    type: uri_folder
    mode: rw_mount
    path: azureml://datastores/workspaceblobstore/paths/apt-runs/{name}/
"""
FILES = 24


@dataclass
class Submitter:
    """A user who submits what is in a directory."""

    azure: AzureStandIn
    workspace: Workspace
    base: Path
    told: list[str] = field(default_factory=list)

    def __call__(self, name: str, command: str = "python sub/f1.py") -> object:
        self.azure.forget()
        self.told.clear()
        document = DOCUMENT.format(name=name, command=command, code=self.base)
        return submit(self.workspace, document, self.base, self.told.append)

    def refused(self, name: str, command: str = "python sub/f1.py") -> ServiceError:
        with pytest.raises(ServiceError) as error:
            self(name, command)
        assert "\n" not in str(error.value)
        return error.value

    @property
    def puts(self) -> list[str]:
        """What was created in the workspace, by kind and name."""
        return [
            request.path.rpartition("/workspaces/")[2].partition("/")[2]
            for request in self.azure.requests
            if request.method == "PUT" and request.host == "management.azure.com"
        ]


@pytest.fixture
def user(azure: AzureStandIn, tmp_path: Path) -> Submitter:
    azure.machine.open.clear()  # jobs wait in the queue
    base = tmp_path / "snapshot"
    (base / "sub").mkdir(parents=True)
    for number in range(FILES):
        (base / "sub" / f"f{number}.py").write_text(f"# {tmp_path}\nprint({number})\n" * 20)
    (base / "data.json").write_text("x" * 200_000)
    found = azure.workspace
    workspace = Workspace.connect(WorkspaceAddress(found.subscription, found.group, found.name))
    return Submitter(azure, workspace, base)


def test_a_job_is_uploaded_and_created(user: Submitter, capfd: pytest.CaptureFixture[str]) -> None:
    job = user("job-1")
    assert user.puts[-1] == "jobs/job-1"
    asked = user.azure.job("job-1").asked
    assert asked["experimentName"] == "apt-tests"
    assert asked["outputs"]["run"]["uri"].endswith("paths/apt-runs/job-1/")
    assert job.studio_url.startswith("https://ml.azure.com/runs/job-1?")  # type: ignore[attr-defined]
    sent = {blob.rpartition("/")[2] for blob in user.azure.uploads()}
    assert sent == {"data.json", *(f"f{number}.py" for number in range(FILES))}
    assert user.told[0].startswith("uploading 25 files (")
    assert user.told[-1].startswith("uploaded 25 files (")
    out, err = capfd.readouterr()
    assert (out, err) == ("", ""), (
        "the SDK's progress bars and its talk of experimental classes are not the user's matter"
    )


def test_unchanged_files_are_not_sent_again(user: Submitter) -> None:
    user("job-1")
    assert user.azure.uploads()
    user("job-2")
    assert user.azure.uploads() == []
    assert user.told[-1].startswith("nothing to upload: Azure has these 25 files (")
    assert list(user.azure.workspace.jobs) == ["job-1", "job-2"]


def test_a_refused_upload_ends_with_one_line_and_no_job(user: Submitter) -> None:
    """The SDK with show_progress=False would wait for ever."""
    user.azure.faults.upload_forbidden(times=10_000)
    error = user.refused("job-1")
    assert str(error).startswith("job 'job-1' was not created: the upload failed: the storage account refuses (403")
    assert "Storage Blob Data Contributor" in str(error)
    assert user.azure.workspace.jobs == {}
    assert len(user.azure.uploads()) < FILES, "what would fail too is not tried"


@pytest.mark.slow
def test_an_upload_goes_on_after_a_dropped_connection(user: Submitter) -> None:
    user.azure.faults.upload_cut(times=2, after=5)
    user("job-1")
    blobs = user.azure.uploads()
    assert len(blobs) >= FILES + 3
    assert list(user.azure.workspace.jobs) == ["job-1"]


@pytest.mark.slow
def test_an_upload_whose_connection_always_drops_is_given_up(user: Submitter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "ATTEMPTS", 1)
    user.azure.faults.upload_cut(times=10_000, after=5)
    error = user.refused("job-1")
    assert "the upload failed: " in str(error)
    assert "broke the connection off" in str(error)
    assert user.azure.workspace.jobs == {}


def test_ctrl_c_ends_an_upload_at_once(user: Submitter) -> None:
    def interrupt(line: str) -> None:
        if line.startswith("uploading"):
            handler = signal.getsignal(signal.SIGINT)
            assert isinstance(handler, MethodType)
            at_work = handler.__self__
            assert isinstance(at_work, upload.Upload)
            os.kill(os.getpid(), signal.SIGINT)
            user.azure.wait(lambda: at_work.failure is not None, what="the main thread hearing of it")

    document = DOCUMENT.format(name="job-1", command="python sub/f1.py", code=user.base)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        submit(user.workspace, document, user.base, interrupt)
    assert signal.getsignal(signal.SIGINT) is before
    assert len(user.azure.uploads()) < FILES
    assert user.azure.workspace.jobs == {}


@pytest.mark.parametrize(("number", "stop"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_connection_that_has_fallen_silent_does_not_hold_up_whoever_leaves(
    number: signal.Signals, stop: type[BaseException], user: Submitter
) -> None:
    """The SDK waits for its threads, and they for minutes for an answer."""
    silence = user.azure.faults.add(Cut.SILENCE, r"\.blob\.", method="PUT", times=100, after=3)

    def leave() -> None:
        user.azure.wait(lambda: silence.met, what="the silence")
        os.kill(os.getpid(), number)

    began = time.monotonic()
    with Meanwhile(leave), pytest.raises(stop):
        user("job-1")
    assert time.monotonic() - began < 150, "the silence lasts for 300 seconds"
    assert user.azure.workspace.jobs == {}
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name], (
        "nothing to wait for at exit"
    )


@pytest.mark.parametrize("second", ["is taken as an update", "is refused as a name that is taken"])
def test_a_lost_answer_makes_no_second_job(second: str, user: Submitter) -> None:
    user.azure.faults.add(Cut.AFTER_THE_WORK, "jobs/job-1$", method="PUT")
    if "refused" in second:
        user.azure.faults.conflict("jobs/job-1$", times=9, method="PUT")
    job = user("job-1")
    assert job.name == "job-1"  # type: ignore[attr-defined]
    assert list(user.azure.workspace.jobs) == ["job-1"]
    assert user.azure.job("job-1").asked["properties"][SUBMISSION] == job.properties[SUBMISSION]  # type: ignore[attr-defined]


def test_a_job_of_somebody_else_is_not_taken_for_ones_own(user: Submitter) -> None:
    user("job-1")
    user.azure.faults.conflict("jobs/job-1$", times=9, method="PUT")
    error = user.refused("job-1")
    assert error.status == 409
    assert "job 'job-1': it exists already" in str(error)


@pytest.mark.slow
def test_a_service_that_falls_silent_leaves_no_doubt_unsaid(user: Submitter) -> None:
    user.azure.faults.add(Cut.AFTER_THE_WORK, "jobs/job-1$", times=1, method="PUT")
    user.azure.faults.add(Reply(503, {"error": {"code": "Unavailable", "message": "later"}}), "jobs/job-1$", times=99)
    told = str(user.refused("job-1"))
    assert told.startswith("it is not known whether job 'job-1' was created")
    assert "`python tools/azure_jobs.py show job-1`" in told


def test_an_input_that_nobody_gives_is_seen_before_the_upload(user: Submitter) -> None:
    error = user.refused("job-1", "python sub/f1.py --rate ${{inputs.rate}}")
    assert "Inputs to job does not contain 'rate'" in str(error)
    assert user.azure.requests == []


TOKENS = [
    ("https://{secret}@github.com/owner/name.git", "https://github.com/owner/name.git"),
    ("https://user:{secret}@github.com/owner/name.git", "https://github.com/owner/name.git"),
    ("http://x-access-token:{secret}@host:8080/owner/name", "http://host:8080/owner/name"),
    ("https://dev.azure.com/{secret}@owner/project/_git/name", None),
    ("https://github.com/owner/name.git?access_token={secret}", "https://github.com/owner/name.git"),
    ("ssh://user:{secret}@host/owner/name.git", "ssh://host/owner/name.git"),
    ("{secret}@host:owner/name.git", "git@host:owner/name.git"),
    ("git@github.com:owner/name.git", "git@github.com:owner/name.git"),
    ("https://host:notaport/{secret}", None),
]
SECRET = "ghp_0123456789abcdefSECRET"


@pytest.mark.parametrize(("remote", "told"), TOKENS)
def test_a_remotes_address_loses_what_is_secret(remote: str, told: str | None) -> None:
    assert without_secrets(remote.format(secret=SECRET)) == told


def git(directory: Path, *words: str) -> None:
    identity = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    subprocess.run(
        ["git", "-C", str(directory), *words], check=True, capture_output=True, env={**os.environ, **identity}
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout whose remote's address holds a token."""
    directory = tmp_path / "checkout"
    directory.mkdir()
    git(directory, "init", "-q", "-b", "main")
    git(directory, "remote", "add", "origin", f"https://user:{SECRET}@github.com/owner/name.git")
    (directory / "file").write_text("1")
    git(directory, "add", "file")
    git(directory, "commit", "-q", "-m", "first")
    return directory


def test_no_token_of_a_git_remote_goes_with_a_job(
    user: Submitter, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "CHECKOUT", checkout)
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("AZUREML_GIT_REPOSITORY_URI", f"http://{SECRET}@host/name")
    user("job-1")
    sent = b"".join(request.body for request in user.azure.requests)
    assert SECRET.encode() not in sent
    properties = user.azure.job("job-1").asked["properties"]
    assert properties[REPOSITORY] == "https://github.com/owner/name.git"
    assert len(properties[COMMIT]) == 40
    assert properties[DIRTY] == "False"
    assert os.environ["AZUREML_GIT_REPOSITORY_URI"], "the user's environment is as before"
    assert "GIT_DIR" not in os.environ


def test_the_working_directorys_repository_is_not_taken_for_the_codes(
    user: Submitter, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages"
    installed.mkdir()
    assert git_properties(installed) == {}
    monkeypatch.setattr(submission, "CHECKOUT", installed)
    monkeypatch.chdir(checkout)
    user("job-1")
    assert set(user.azure.job("job-1").asked["properties"]) == {SUBMISSION}


def test_the_sdk_says_nothing_and_sends_no_telemetry(user: Submitter) -> None:
    user("job-1")
    assert logging.getLogger("azure.ai.ml").level == logging.CRITICAL
    hosts = {request.host for request in user.azure.requests}
    assert hosts <= {
        "management.azure.com",
        "login.microsoftonline.com",
        f"{user.azure.storage.account}.blob.core.windows.net",
    }
