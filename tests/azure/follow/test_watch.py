"""Following a job to its end: real SDK, a job that is really run and really writes its record, faults on the way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.azure.stand_in.exchange import Reply
from tests.azure.stand_in.stand_in import AzureStandIn
from tests.azure.submitted_jobs import User, recorded, submit_sweep
from tools import azure_jobs
from training.azure.follow.job_outcome import exit_status, is_timeout, primary_log, storage_error
from training.azure.service.job_file import JobHandle
from training.azure.service.jobs import JobState, RunHistory
from training.errors import UserError
from training.record.reporter import LOG_NAME, REPORT_NAME, read_report

JOB = r"management\.azure\.com/.*/jobs/job-1$"


@pytest.fixture
def user(azure: AzureStandIn, tmp_path: Path) -> User:
    return User(azure, tmp_path)


def _has_a_copy(user: User, handle: JobHandle) -> bool:
    blobs = user.azure.blobs(f"{handle.path}/")
    return all((user.run_dir / name).read_bytes() == blobs[f"{handle.path}/{name}"] for name in (LOG_NAME, REPORT_NAME))


class TestToItsEnd:
    def test_a_job_that_completes_is_told_from_the_queue_to_the_last_step(self, user: User) -> None:
        user.azure.machine.open.clear()
        handle = user.submits(recorded(40, gate=user.gate))
        user.azure.wait(lambda: user.azure.job().status == "Queued")

        def let_it_run() -> None:
            user.waits_to_hear("s so far\n")
            user.azure.machine.open.set()
            user.waits_for_the_gate()
            user.opens_the_gate()

        assert user.follows(handle, let_it_run) == 0
        said = user.heard.splitlines()
        assert said[0].startswith("Studio: https://ml.azure.com/runs/job-1?wsid=")
        assert said[1] == "job job-1: Queued"
        assert re.fullmatch(r"job job-1: Queued, .* s so far", said[2]), "no heartbeat"
        assert any(re.match(r"job job-1: Running \(after .* s \w+\)", line) for line in said)
        assert any("step 40/40 Loss 4.6000" in line for line in said)
        assert any("epoch 4: validation loss 3.6000" in line for line in said)
        assert said[-1] == "job job-1: completed"
        assert _has_a_copy(user, handle)
        report = read_report(user.run_dir)
        assert report is not None
        assert report["state"] == "finished"

    def test_the_exit_code_is_the_jobs_and_the_reason_and_the_log_are_shown(self, user: User) -> None:
        assert user.follows(user.submits(recorded(10, exit_code=7))) == 7
        assert "job job-1: failed" in user.heard
        assert "the service says: Execution failed. User process 'python' exited with status code 7." in user.heard
        assert "the training says: UserError: the data ended in the middle" in user.heard
        assert "the last lines of user_logs/std_log.txt (all of it: https://ml.azure.com/runs/job-1" in user.heard
        assert "  training from step 0\n  error: the data ended in the middle" in user.heard

    def test_a_job_that_fails_before_it_begins_shows_the_end_of_its_log_alone(self, user: User) -> None:
        assert user.follows(user.submits("for n in $(seq 100); do echo line $n; done; exit 3")) == 3
        assert "  line 81\n" in user.heard
        assert "line 80\n" not in user.heard
        assert list(user.run_dir.iterdir()) == []

    def test_a_log_that_the_storage_refuses_is_not_shown_as_if_it_were_the_log(self, user: User) -> None:
        handle = user.submits("echo hello; exit 3")
        user.azure.wait_for_end()
        user.azure.faults.log_unreadable(times=100)
        assert user.follows(handle) == 3
        assert "the job's log cannot be read (AuthenticationFailed); see https://ml.azure.com/runs/job-1" in user.heard
        assert "<?xml" not in user.heard

    def test_a_store_of_logs_that_is_closed_does_not_cost_the_exit_code(self, user: User) -> None:
        """The run history names no log, as of a job that never came to its command."""
        handle = user.submits("echo hello; exit 3")
        user.azure.wait_for_end()
        error = {"error": {"code": "UserError", "message": "User process 'bash' exited with status code 3."}}
        user.azure.faults.add(Reply(200, {"runId": "job-1", "error": error, "logFiles": {}}), "runs/job-1/details")
        user.azure.faults.forbidden("datastores/workspaceartifactstore", times=9)
        assert user.follows(handle) == 3
        assert "the job's log cannot be read (AuthorizationFailed); see https://ml.azure.com/" in user.heard

    def test_a_sweep_whose_trials_all_fail_shows_the_log_of_one_and_how_to_see_the_others(
        self, user: User, capsys: pytest.CaptureFixture[str]
    ) -> None:
        handle = submit_sweep(user.workspace, "echo trying ${{search_space.seed}}; exit 3", {"seed": [1, 2]})
        assert user.follows(handle) == 3
        told = user.heard.partition("trial sweep-1_0: failed\n")[2].splitlines()
        assert told[0].startswith("the service says: Execution failed. User process 'echo' exited with status code 3.")
        assert told[1].startswith("the last lines of user_logs/std_log.txt (all of it: https://ml.azure.com/runs/swee")
        other = user.run_dir / "sweep-1_1"
        assert told[2:5] == [
            "  trying 1",
            "1 other trial failed too (sweep-1_1); to see the log of one: "
            f"python tools/azure_jobs.py show --run-dir {other}",
            "job sweep-1: failed",
        ]
        assert told[5].startswith("the service says: All 2 trials failed")
        assert len(told) == 6
        assert azure_jobs.run(["show", "--run-dir", str(other)]) == 0
        assert capsys.readouterr().out.endswith(":\n  trying 2\n")

    def test_a_job_that_somebody_cancels_ends_with_130(self, user: User) -> None:
        handle = user.submits(recorded(gate=user.gate))

        def cancel() -> None:
            user.waits_for_the_gate()
            user.workspace.client.jobs.begin_cancel("job-1", polling=False)

        assert user.follows(handle, cancel) == 130
        assert user.heard.splitlines()[-1] == "job job-1: cancelled"

    def test_a_job_that_its_time_limit_ends_says_so(self, user: User) -> None:
        assert user.follows(user.submits(recorded(gate=user.gate), limits={"timeout": 1})) == 1
        assert "job job-1: ended by its time limit of 1.0 s; go on with --resume job-1" in user.heard

    def test_a_job_that_is_not_there_is_one_line(self, user: User) -> None:
        handle = JobHandle("nothing", user.workspace.address, "workspaceblobstore", "apt-runs/nothing", 0.0)
        with pytest.raises(UserError, match="looking at job nothing: there is no such thing"):
            user.follows(handle)


class TestWhatHappensOnTheWay:
    def test_a_preempted_job_is_said_to_be_queued_again_and_to_go_on(self, user: User) -> None:
        handle = user.submits(recorded(40, gate=user.gate))

        def preempt() -> None:
            user.waits_for_the_gate()
            user.azure.machine.open.clear()
            user.azure.job().preempted.set()
            user.waits_to_hear("its machine was taken away")
            user.opens_the_gate()
            user.azure.machine.open.set()

        assert user.follows(handle, preempt) == 0
        said = user.heard
        assert re.search(r"Queued \(after .* s Running\); its machine was taken away, it goes on from its last", said)
        assert said.count("its machine was taken away") == 1
        assert "the training goes on from step 10\n" in said
        assert said.count("epoch 4: validation loss") == 1
        assert _has_a_copy(user, handle)

    @pytest.mark.slow
    def test_a_service_that_is_out_of_order_is_waited_for_with_one_line(self, user: User) -> None:
        handle = user.submits(recorded(gate=user.gate))

        def break_down() -> None:
            user.waits_for_the_gate()
            user.azure.faults.add(Reply(429, {"error": {"code": "TooManyRequests", "message": ""}}), JOB, times=4)
            user.waits_to_hear("Azure ML answers again (after ")
            user.opens_the_gate()

        assert user.follows(handle, break_down) == 0
        told = "Azure ML does not answer: it has had too many requests (429); waiting for it"
        assert user.heard.count(told) == 1
        assert user.heard.count("answers again") == 1

    def test_a_login_that_has_ended_is_waited_for_also_at_the_first_look(self, user: User) -> None:
        handle = user.submits(recorded())
        user.azure.faults.unauthorized(JOB, times=2)
        assert user.follows(handle) == 0
        assert user.heard.startswith(
            "Azure ML does not answer: the login is no longer accepted; run `az login` in another terminal"
        )
        assert user.heard.count("Azure ML answers again (after ") == 1

    def test_a_storage_that_refuses_does_not_end_the_following(self, user: User) -> None:
        fault = Reply(403, headers={"x-ms-error-code": "AuthorizationFailure"}, body=b"")
        user.azure.faults.add(fault, r"blob\.core\.windows\.net/.*experiment_report\.json", method="GET", times=3)
        handle = user.submits(recorded())
        assert user.follows(handle) == 0
        assert user.heard.count("the job's storage does not answer: ") == 1
        assert user.heard.count("the job's storage answers again") == 1
        assert _has_a_copy(user, handle)

    def test_a_disk_that_refuses_does_not_end_the_following(self, user: User) -> None:
        in_the_way = user.run_dir / LOG_NAME
        in_the_way.mkdir()
        handle = user.submits(recorded(gate=user.gate))

        def clear_the_way() -> None:
            user.waits_to_hear(f"{user.run_dir} cannot be written: Is a directory; waiting for it")
            in_the_way.rmdir()
            user.waits_to_hear(f"{user.run_dir} can be written again")
            user.opens_the_gate()

        assert user.follows(handle, clear_the_way) == 0
        assert user.heard.count("cannot be written") == 1
        assert _has_a_copy(user, handle)

    def test_who_comes_back_finds_the_present_step(self, user: User) -> None:
        handle = user.submits(recorded(60))
        user.azure.wait_for_end()
        assert user.follows(handle) == 0
        assert "the training is at step 60 of 60" in user.heard
        assert "validation loss" not in user.heard


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
