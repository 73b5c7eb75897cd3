"""Following a job to its end: real SDK, a job that is really run and really writes its record, faults on the way."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from apt_model.errors import UserError
from tests.azure_jobs_submitted import address_of, recorded, submit
from tests.azure_stand_in.exchange import Reply
from tests.azure_stand_in.stand_in import AzureStandIn
from tests.meanwhile import Meanwhile
from training.azure_job.ending import exit_status, is_timeout, primary_log, storage_error
from training.azure_job.handle import JobHandle
from training.azure_job.job_state import JobState, RunHistory
from training.azure_job.watch import Pace, follow
from training.azure_job.workspace import Workspace
from training.progress import LOG_NAME, REPORT_NAME, read_report

PACE = Pace(state=0.1, record=0.1, heartbeat=0.3, tick=0.05)


@pytest.fixture
def workspace(azure: AzureStandIn) -> Workspace:
    return Workspace.connect(address_of(azure))


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


def _is_a_copy(run_dir: Path, azure: AzureStandIn, handle: JobHandle) -> bool:
    blobs = azure.blobs(f"{handle.path}/")
    return all((run_dir / name).read_bytes() == blobs[f"{handle.path}/{name}"] for name in (LOG_NAME, REPORT_NAME))


class TestToItsEnd:
    def test_a_job_that_completes_is_told_from_the_queue_to_the_last_step(
        self,
        azure: AzureStandIn,
        workspace: Workspace,
        run_dir: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        azure.machine.queue_seconds = 1.0
        handle = submit(workspace, recorded(40))
        assert follow(workspace, handle, run_dir, PACE) == 0
        said = capsys.readouterr().out.splitlines()
        assert said[0].startswith("Studio: https://ml.azure.com/runs/job-1?wsid=")
        assert "job job-1: Queued" in said
        assert any(re.fullmatch(r"job job-1: Queued, .* s so far", line) for line in said), "no heartbeat"
        assert any(re.match(r"job job-1: Running \(after .* s \w+\)", line) for line in said)
        assert any("step 40/40 Loss 4.6000" in line for line in said)
        assert any("epoch 4: validation loss 3.6000" in line for line in said)
        assert said[-1] == "job job-1: completed"
        assert _is_a_copy(run_dir, azure, handle)
        report = read_report(run_dir)
        assert report is not None
        assert report["state"] == "finished"

    def test_the_exit_code_is_the_jobs_and_the_reason_and_the_log_are_shown(
        self, workspace: Workspace, run_dir: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        handle = submit(workspace, recorded(10, exit_code=7))
        assert follow(workspace, handle, run_dir, PACE) == 7
        said = capsys.readouterr().out
        assert "job job-1: failed" in said
        assert "the service says: Execution failed. User process 'python' exited with status code 7." in said
        assert "the training says: UserError: the data ended in the middle" in said
        assert "the last lines of user_logs/std_log.txt (all of it: https://ml.azure.com/runs/job-1" in said
        assert "  training from step 0\n  error: the data ended in the middle" in said

    def test_a_job_that_fails_before_it_begins_shows_the_end_of_its_log_alone(
        self, workspace: Workspace, run_dir: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        handle = submit(workspace, "for n in $(seq 100); do echo line $n; done; exit 3")
        assert follow(workspace, handle, run_dir, PACE) == 3
        said = capsys.readouterr().out
        assert "  line 81\n" in said
        assert "line 80\n" not in said
        assert list(run_dir.iterdir()) == []

    def test_a_log_that_the_storage_refuses_is_not_shown_as_if_it_were_the_log(
        self,
        azure: AzureStandIn,
        workspace: Workspace,
        run_dir: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        handle = submit(workspace, "echo hello; exit 3")
        azure.wait_for_end()
        azure.faults.log_unreadable(times=100)
        assert follow(workspace, handle, run_dir, PACE) == 3
        said = capsys.readouterr().out
        assert "the job's log cannot be read (AuthenticationFailed); see https://ml.azure.com/runs/job-1" in said
        assert "<?xml" not in said

    def test_a_job_that_somebody_cancels_ends_with_130(
        self,
        azure: AzureStandIn,
        workspace: Workspace,
        run_dir: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        handle = submit(workspace, recorded(4000))
        with Meanwhile(lambda: _cancel_once_running(azure, workspace)):
            assert follow(workspace, handle, run_dir, PACE) == 130
        assert capsys.readouterr().out.splitlines()[-1] == "job job-1: cancelled"

    def test_a_job_that_its_time_limit_ends_says_so(
        self, workspace: Workspace, run_dir: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        handle = submit(workspace, recorded(4000), limits={"timeout": 1})
        assert follow(workspace, handle, run_dir, PACE) == 1
        assert "job job-1: ended by its time limit of 1.0 s; go on with --resume job-1" in capsys.readouterr().out

    def test_a_job_that_is_not_there_is_one_line(self, workspace: Workspace, run_dir: Path) -> None:
        handle = JobHandle("nothing", workspace.address, "workspaceblobstore", "apt-runs/nothing", 0.0)
        with pytest.raises(UserError, match="looking at job nothing: there is no such thing"):
            follow(workspace, handle, run_dir, PACE)


class TestWhatHappensOnTheWay:
    def test_a_preempted_job_is_said_to_be_queued_again_and_to_go_on(
        self,
        azure: AzureStandIn,
        workspace: Workspace,
        run_dir: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        handle = submit(workspace, recorded(40, seconds=0.05))
        azure.machine.queue_seconds = 0.5

        def preempt() -> None:
            azure.wait(lambda: (read_report(run_dir) or {}).get("step", 0) > 12, 30, "step 12")
            azure.preempt()

        with Meanwhile(preempt):
            assert follow(workspace, handle, run_dir, PACE) == 0
        said = capsys.readouterr().out
        assert re.search(r"Queued \(after .* s Running\); its machine was taken away, it goes on from its last", said)
        assert said.count("its machine was taken away") == 1
        assert re.search(r"the training goes on from step [123]0\n", said)
        assert said.count("epoch 4: validation loss") == 1
        assert _is_a_copy(run_dir, azure, handle)

    @pytest.mark.slow
    def test_a_service_that_is_out_of_order_is_waited_for_with_one_line(
        self,
        azure: AzureStandIn,
        workspace: Workspace,
        run_dir: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        handle = submit(workspace, recorded(200))
        jobs = r"management\.azure\.com/.*/jobs/job-1$"

        def break_down() -> None:
            azure.wait(lambda: (read_report(run_dir) or {}).get("step", 0) > 5, 30, "step 5")
            azure.faults.add(Reply(429, {"error": {"code": "TooManyRequests", "message": ""}}), jobs, times=4)

        with Meanwhile(break_down):
            assert follow(workspace, handle, run_dir, PACE) == 0
        said = capsys.readouterr().out
        assert said.count("Azure ML does not answer: it has had too many requests (429); waiting for it") == 1
        assert said.count("Azure ML answers again (after ") == 1

    def test_a_login_that_ends_is_waited_for(
        self,
        azure: AzureStandIn,
        workspace: Workspace,
        run_dir: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        handle = submit(workspace, recorded(100))

        def expire() -> None:
            azure.wait(lambda: (read_report(run_dir) or {}).get("step", 0) > 5, 30, "step 5")
            azure.faults.unauthorized(r"management\.azure\.com/.*/jobs/job-1$", times=2)

        with Meanwhile(expire):
            assert follow(workspace, handle, run_dir, PACE) == 0
        assert "the login is no longer accepted; run `az login` in another terminal" in capsys.readouterr().out

    def test_a_storage_that_refuses_does_not_end_the_following(
        self,
        azure: AzureStandIn,
        workspace: Workspace,
        run_dir: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        fault = Reply(403, headers={"x-ms-error-code": "AuthorizationFailure"}, body=b"")
        azure.faults.add(fault, r"blob\.core\.windows\.net/.*experiment_report\.json", method="GET", times=3)
        handle = submit(workspace, recorded(60))
        assert follow(workspace, handle, run_dir, PACE) == 0
        said = capsys.readouterr().out
        assert said.count("the job's storage does not answer: ") == 1
        assert said.count("the job's storage answers again") == 1
        assert _is_a_copy(run_dir, azure, handle)

    def test_who_comes_back_finds_the_present_step(
        self,
        azure: AzureStandIn,
        workspace: Workspace,
        run_dir: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        handle = submit(workspace, recorded(60))
        azure.wait_for_end()
        assert follow(workspace, handle, run_dir, PACE) == 0
        said = capsys.readouterr().out
        assert "the training is at step 60 of 60" in said
        assert "validation loss" not in said


class TestTheEndingsWords:
    @pytest.mark.parametrize(
        ("error", "status"),
        [
            ("User process 'python' exited with status code 3. Please check", 3),
            ("process(rank_0) exited with code 1", 1),
            ("User process '/bin/bash' exited with status code -9.", 137),
            ("exited with status code: 143", 143),
            ("exited with status code 3221225477", 1),
            ("The image could not be pulled", None),
        ],
    )
    def test_the_exit_status_is_a_shells(self, error: str, status: int | None) -> None:
        assert exit_status(error) == status

    def test_the_first_process_of_many_is_the_one_that_is_shown(self) -> None:
        logs = [f"user_logs/std_log_process_{n}.txt" for n in (10, 2, 1, 0)] + ["system_logs/lifecycler/x.log"]
        assert primary_log(logs) == "user_logs/std_log_process_0.txt"
        assert primary_log(["user_logs/std_log.txt"]) == "user_logs/std_log.txt"
        assert primary_log(["system_logs/a.log"]) is None

    def test_a_storage_error_is_told_from_a_log(self) -> None:
        assert storage_error('\ufeff<?xml version="1.0" encoding="utf-8"?><Error><Code>BlobNotFound</Code>') == (
            "BlobNotFound"
        )
        assert storage_error("a log about <?xml ?><Error><Code>X</Code>") is None

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            ("The job exceeded the maximum allowed running time and was cancelled", True),
            ("Job timed out after 3600 seconds", True),
            ("User process 'python' exited with status code 1: socket timed out", False),
            (None, False),
        ],
    )
    def test_a_time_limit_is_known_by_the_services_words(self, error: str | None, expected: bool) -> None:
        state = JobState("j", "Failed", "command", "e", None, None)
        assert is_timeout(state, RunHistory(0.0, 5.0, error, {})) is expected


def _cancel_once_running(azure: AzureStandIn, workspace: Workspace) -> None:
    azure.wait(lambda: azure.job().status == "Running", 30, "the start")
    time.sleep(0.5)
    workspace.client.jobs.begin_cancel("job-1", polling=False)
