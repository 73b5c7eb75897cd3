"""Going on with a run in Azure never costs one: neither another run that is here, nor the one that goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.azure.submitted_jobs import DATASTORE, address_of, submit, submit_sweep
from training.azure.service.address import WorkspaceAddress
from training.azure.service.job_file import JobHandle
from training.azure.service.workspace import Workspace
from training.azure.submit.resume_source import (
    EndedJob,
    ResumeSource,
    complete_source,
    find_ended_job,
    refuse_another_run_there,
    settings_of_job,
)
from training.checkpoints.run_directory import CONFIG_NAME
from training.errors import UserError

if TYPE_CHECKING:
    from tests.azure.stand_in.stand_in import AzureStandIn
    from tests.conftest import FrontDoor

ADDRESS = WorkspaceAddress("12345678-1234-1234-1234-123456789abc", "group", "workspace")
WRITES = "python -c \"open('${{outputs.run}}/config.yaml', 'w').write('{}')\""
"""The command of a job that ends at once."""


# -- the runs that are here ----------------------------------------------------------------------------------------


def handle_in(run_dir: Path, job: str) -> None:
    JobHandle(job, ADDRESS, DATASTORE, f"apt-runs/{job}", 0.0).write(run_dir)


@pytest.mark.parametrize("on", [ResumeSource(job="apt-2"), ResumeSource(start=Path("elsewhere"))])
def test_the_record_of_another_run_is_never_replaced(on: ResumeSource, finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds another run \(progress.jsonl, .*\), which stays as it is"):
        refuse_another_run_there(on, finished_run)
    handle_in(tmp_path, "apt-1")
    with pytest.raises(UserError, match=r"holds another run \(the job apt-1\), which stays as it is"):
        refuse_another_run_there(on, tmp_path)


def test_a_run_may_go_on_where_it_is(finished_run: Path, tmp_path: Path) -> None:
    for start in (finished_run, finished_run / "checkpoint_epoch_1"):
        refuse_another_run_there(ResumeSource(start=start), finished_run)
    refuse_another_run_there(ResumeSource(start=finished_run), tmp_path / "new")
    refuse_another_run_there(ResumeSource(job="apt-1"), tmp_path / "new")
    handle_in(tmp_path, "apt-1")
    refuse_another_run_there(ResumeSource(job="apt-1"), tmp_path)


def test_it_is_refused_offline(
    front_door: FrontDoor, finished_run: Path, tmp_path: Path, tree: Callable[[], dict[str, bytes | None]]
) -> None:
    before = tree()
    where = ["--backend", "azure", "--vm-size", "Standard_NC4as_T4_v3", "--dry-run"]
    for run in (tmp_path / "other", "apt-2"):
        if isinstance(run, Path):
            (run / "checkpoint_step_1").mkdir(parents=True)
            before = tree()
        refusal = front_door([*where, "--resume", run, "--run-dir", finished_run])
        assert (refusal.exit_code, refusal.stderr.count("\n")) == (2, 1)
        assert f"--run-dir {finished_run}: it holds another run" in refusal.stderr
        assert tree() == before


# -- the run that goes on ------------------------------------------------------------------------------------------


@pytest.fixture
def workspace(azure: AzureStandIn) -> Workspace:
    return Workspace.connect(address_of(azure))


@pytest.fixture
def ended(azure: AzureStandIn, workspace: Workspace) -> EndedJob:
    """A job that has ended and left no checkpoint."""
    submit(workspace, WRITES)
    azure.wait_for_end("job-1")
    return find_ended_job(workspace, "job-1", DATASTORE)


def put(azure: AzureStandIn, name: str, content: bytes = b"{}") -> None:
    container: Any = azure.storage.container(azure.workspace.container_of(DATASTORE))
    container.upload_blob(f"apt-runs/job-1/{name}", content, overwrite=True)


def test_a_job_that_left_no_checkpoint_goes_on_from_the_one_that_is_here(
    azure: AzureStandIn, ended: EndedJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was cancelled in the queue, say. Without the run that went along it would begin anew, over the record here."""
    on = ResumeSource("job-1", ended.path, start=tmp_path)
    assert complete_source(on, ended, tmp_path) == on
    assert "job-1 has left no checkpoint: the run continues from that of" in capsys.readouterr().out
    put(azure, "checkpoint_step_4/model.safetensors")
    assert complete_source(on, ended, tmp_path).start == tmp_path, "half a checkpoint is none"
    put(azure, "checkpoint_step_4/manifest.json")
    assert complete_source(on, ended, tmp_path) == ResumeSource("job-1", ended.path)
    assert "continues from its own checkpoints" in capsys.readouterr().out


def test_a_run_whose_checkpoints_are_gone_does_not_begin_anew_over_its_record(
    ended: EndedJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on = ResumeSource("job-1", ended.path)
    assert complete_source(on, ended, tmp_path) == on
    assert "training starts from the beginning" in capsys.readouterr().out
    (tmp_path / "experiment_report.json").write_text(
        json.dumps({"checkpoints": [{"step": 4, "path": "checkpoint_step_4"}]})
    )
    with pytest.raises(UserError, match="whose checkpoints are no longer in the datastore"):
        complete_source(on, ended, tmp_path)


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"a: [", b"words", b"launch: null", b"data: 3", b""])
def test_damaged_settings_of_a_job_are_one_line(damage: bytes, azure: AzureStandIn, ended: EndedJob) -> None:
    put(azure, CONFIG_NAME, damage)
    with pytest.raises(UserError, match=r"--resume job-1: its config.yaml \(.*\) is damaged"):
        settings_of_job(ended)


def test_a_sweep_is_no_run_to_go_on_with_and_its_trial_is(azure: AzureStandIn, workspace: Workspace) -> None:
    submit_sweep(workspace, WRITES, {"seed": [1]})
    azure.wait_for_end("sweep-1")
    with pytest.raises(UserError, match="--resume sweep-1: this is a sweep, which is many runs; continue one trial"):
        find_ended_job(workspace, "sweep-1", DATASTORE)
    assert find_ended_job(workspace, "sweep-1_0", DATASTORE).path == "apt-runs/sweep-1_0"
