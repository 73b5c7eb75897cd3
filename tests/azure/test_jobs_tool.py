"""tools/azure_jobs.py: jobs that are really run, listed, shown, followed, cancelled and brought home."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.azure.stand_in.stand_in import AzureStandIn
from tests.azure.submitted_jobs import PACE, ROOT, address_of, recorded, submit, submit_sweep
from tools.azure_jobs import run
from training.azure.follow.watch import follow
from training.azure.service.job_file import JobHandle
from training.azure.service.workspace import Workspace
from training.errors import UserError
from training.record.reporter import read_report

TOOL = [sys.executable, str(ROOT / "tools" / "azure_jobs.py")]


@pytest.fixture
def workspace(azure: AzureStandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Workspace:
    """A workspace that the environment names, as on an Azure ML compute instance."""
    found = azure.workspace
    monkeypatch.setenv("AZUREML_ARM_SUBSCRIPTION", found.subscription)
    monkeypatch.setenv("AZUREML_ARM_RESOURCEGROUP", found.group)
    monkeypatch.setenv("AZUREML_ARM_WORKSPACE_NAME", found.name)
    monkeypatch.chdir(tmp_path)
    return Workspace.connect(address_of(azure))


class TestLooking:
    def test_list_and_show_tell_of_each_job_where_it_is(
        self,
        azure: AzureStandIn,
        workspace: Workspace,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert run(["list"]) == 0
        assert capsys.readouterr().out == "no jobs in workspace apt-workspace yet\n"
        submit(workspace, recorded(10), "job-1")
        azure.wait_for_end("job-1")
        submit(workspace, recorded(10, exit_code=3), "job-2")
        azure.wait_for_end("job-2")
        azure.machine.open.clear()
        submit(workspace, recorded(10), "job-3")
        azure.wait(lambda: azure.job("job-3").status == "Queued")

        run(["list"])
        lines = capsys.readouterr().out.splitlines()
        assert lines[1].split() == ["job", "state", "age", "experiment", "backend", "step", "loss"]
        rows = [line.split() for line in lines if "job-" in line]
        assert [row[:2] for row in rows] == [["job-3", "Queued"], ["job-2", "Failed"], ["job-1", "Completed"]]
        assert rows[2][-4:] == ["apt-tests", "playground", "10/10", "4.9000"]
        run(["list", "--json", "--last", "1"])
        document = json.loads(capsys.readouterr().out)
        assert [job["job"] for job in document["jobs"]] == ["job-3"]

        run(["show", "job-2"])
        page = capsys.readouterr().out
        assert re.search(r"^state +Failed, ran for \d", page, re.MULTILINE)
        assert "error      Execution failed. User process 'python' exited with status code 3." in page
        assert page.endswith(":\n  training from step 0\n  error: the data ended in the middle\n"), "its log"
        assert "run        workspaceblobstore: apt-runs/job-2" in page
        run(["show", "job-1", "--json"])
        document = json.loads(capsys.readouterr().out)
        assert (document["status"], document["step"], document["sweep"]) == ("Completed", 10, None)

    def test_cancel_asks_nothing_and_a_second_time_does_nothing(
        self,
        azure: AzureStandIn,
        workspace: Workspace,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        submit(workspace, recorded(gate=tmp_path / "never"))
        assert run(["cancel", "job-1"]) == 0
        assert capsys.readouterr().out.startswith("job job-1 is being cancelled")
        azure.wait_for_end()
        assert run(["cancel", "job-1"]) == 0
        assert capsys.readouterr().out == "job job-1 has ended already (Canceled)\n"

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["cancle", "job-1"], "unknown action; did you mean 'cancel'"),
            (["show"], "which job? Give its name, or --run-dir"),
            (["show", "--run-dir", "nowhere"], "--run-dir nowhere: there is no such directory; give the job's name"),
            (["list", "job-1"], "list takes no job (got job-1); it belongs to: show, stream"),
            (["list", "--name", "x"], "list takes no --name (got x); it belongs to: register"),
            (["list", "--last", "0"], "--last must be a whole number from 1 to 1000, got '0'"),
            (["download", "job-1", "--what", "none"], "--what none: unknown part"),
            (["show", "nothing"], "looking for job nothing: there is no such thing"),
            (["show", "a/b"], "job_name='a/b': Azure takes letters"),
            (["show", "--run-dir", "file/run"], "--run-dir file/run: there is no such directory"),
            (["stream", "job-1", "--run-dir", "file"], "looking for job job-1: there is no such thing"),
        ],
    )
    def test_what_cannot_be_used_is_one_line(
        self, workspace: Workspace, tmp_path: Path, words: list[str], told: str
    ) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match=re.escape(told)) as refused:
            run(words)
        assert "\n" not in str(refused.value)

    def test_a_job_that_is_not_ours_is_shown_and_not_followed(
        self, workspace: Workspace, capsys: pytest.CaptureFixture[str]
    ) -> None:
        submit(workspace, "true", outputs={})
        run(["show", "job-1"])
        assert "job-1" in capsys.readouterr().out
        with pytest.raises(UserError, match="job job-1 has no output 'run': it was not submitted by"):
            run(["stream", "job-1"])


class TestHome:
    def test_stream_ends_with_the_run_at_home_and_its_model_registered(
        self,
        azure: AzureStandIn,
        workspace: Workspace,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        submit(workspace, recorded(20))
        assert run(["stream", "job-1"]) == 0
        run_dir = tmp_path / "runs" / "job-1"
        said = capsys.readouterr().out
        assert said.startswith("Studio: https://ml.azure.com/")
        assert "job job-1: completed" in said
        assert (run_dir / "final_model" / "config.json").exists()
        assert run(["register", "--run-dir", str(run_dir), "--name", "apt-model"]) == 0
        assert list(azure.workspace.models["apt-model"]) == ["1"]
        assert run(["download", "--run-dir", str(run_dir), "--what", "all"]) == 0
        with pytest.raises(UserError, match="was given no name for its model; give --name MODEL"):
            run(["register", "job-1"])

    @pytest.mark.slow
    def test_a_sweep_is_followed_trial_by_trial_and_its_best_comes_home(
        self, workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = recorded(20, first_loss="${{search_space.learning_rate}}")
        handle = submit_sweep(workspace, command, {"learning_rate": [5.0, 3.0, 4.0, "high"]})
        home = tmp_path / "home"
        assert follow(workspace, handle, home, PACE) == 0
        said = capsys.readouterr().out
        assert "trial sweep-1_1: Completed, eval/loss 1.8 (learning_rate=3)" in said
        table = [line.split() for line in said.splitlines() if "sweep-1_" in line and "20/20" in line]
        assert table == [
            ["sweep-1_0", "Completed", "20/20", "3.8", "5"],
            ["*", "sweep-1_1", "Completed", "20/20", "1.8", "3"],
            ["sweep-1_2", "Completed", "20/20", "2.8", "4"],
        ]
        reason = said.partition("trial sweep-1_3: failed\n")[2].splitlines()
        assert reason[0].startswith("the service says: Execution failed. User process 'python' exited with status code")
        assert reason[-2:] == ["  ValueError: could not convert string to float: 'high'", "job sweep-1: completed"]
        assert {path.name for path in home.iterdir() if path.is_dir()} == {f"sweep-1_{n}" for n in range(4)}
        report = read_report(home / "sweep-1_0")
        assert report is not None
        assert report["state"] == "finished"

        handle.write(home)
        run(["show", "--run-dir", str(home)])
        assert re.search(r"^\* +sweep-1_1 +Completed", capsys.readouterr().out, re.MULTILINE)
        run(["show", "--run-dir", str(home), "--json"])
        assert json.loads(capsys.readouterr().out)["sweep"]["best"] == "sweep-1_1"
        assert run(["download", "--run-dir", str(home)]) == 0
        assert (home / "sweep-1_1" / "final_model" / "config.json").exists()
        assert not (home / "sweep-1_0" / "final_model").exists()
        assert run(["download", "--run-dir", str(home), "--trial", "sweep-1_2"]) == 0
        assert (home / "sweep-1_2" / "final_model").exists()
        with pytest.raises(UserError, match="--trial sweep-1_9: the sweep sweep-1 has no such trial, but sweep-1_0"):
            run(["download", "--run-dir", str(home), "--trial", "sweep-1_9"])


def _wait_for(path: Path, what: str, seconds: float = 60.0) -> str:
    end = time.monotonic() + seconds
    while what not in (text := path.read_text(errors="replace")):
        assert time.monotonic() < end, f"no {what!r} in {text!r}"
        time.sleep(0.05)
    return text


@pytest.mark.slow
class TestLeaving:
    def test_ctrl_c_on_a_terminal_leaves_the_job_running_and_says_how_to_come_back(
        self,
        azure: AzureStandIn,
        workspace: Workspace,
        tmp_path: Path,
    ) -> None:
        handle = submit(workspace, recorded(gate=tmp_path / "never"))
        home = tmp_path / "a run"
        home.mkdir()
        handle.write(home)
        terminal, end_of_process = pty.openpty()
        termios.tcsetwinsize(terminal, (40, 160))
        with subprocess.Popen(
            [*TOOL, "stream", "--run-dir", str(home)],
            stdin=end_of_process,
            stdout=end_of_process,
            stderr=end_of_process,
            env=azure.environment() | {"COLUMNS": "200", "TERM": "xterm"},
            start_new_session=True,
        ) as process:
            os.close(end_of_process)
            shown = b""
            while b"PPL" not in shown:  # our own bar
                shown += os.read(terminal, 65536)
            process.send_signal(signal.SIGINT)
            try:
                while chunk := os.read(terminal, 65536):
                    shown += chunk
            except OSError:  # the other end is closed
                os.close(terminal)
            code = process.wait(60)
        text = shown.decode(errors="replace")
        assert code == 130, text
        where = f"--run-dir '{home}'"
        assert "Ctrl-C: job job-1 goes on in Azure. To follow it again:" in text
        assert f"python tools/azure_jobs.py stream {where}" in text
        assert f"To cancel it: python tools/azure_jobs.py cancel {where}" in text
        assert "Traceback" not in text
        assert azure.job().status == "Running"
        assert not [r for r in azure.requests if r.path.endswith("/cancel")]

    def test_sigterm_leaves_it_too_and_help_needs_no_sdk(
        self,
        azure: AzureStandIn,
        workspace: Workspace,
        tmp_path: Path,
    ) -> None:
        azure.machine.open.clear()
        handle = submit(workspace, recorded(40))
        home = tmp_path / "run"
        home.mkdir()
        handle.write(home)
        said = tmp_path / "said"
        with (
            said.open("wb") as out,
            subprocess.Popen(
                [*TOOL, "stream", "--run-dir", str(home)], stdout=out, stderr=out, env=azure.environment()
            ) as process,
        ):
            _wait_for(said, "job job-1: Queued")
            with pytest.raises(UserError, match="another process"):  # two must not write one record
                run(["stream", "--run-dir", str(home)])
            process.terminate()
            assert process.wait(60) == 143
        assert "SIGTERM: job job-1 goes on in Azure." in said.read_text()
        assert azure.job().status == "Queued"
        code = "import sys; from tools.azure_jobs import run\n"
        code += "try: run(['--help'])\nexcept SystemExit as end: assert not end.code\n"
        code += "print([m for m in sys.modules if m.partition('.')[0] in ('azure', 'torch', 'rich')])"
        listed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert listed.stdout.splitlines()[-1] == "[]"


def test_the_handle_is_found_from_a_run_directory_alone(
    azure: AzureStandIn,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    workspace = Workspace.connect(address_of(azure))
    handle: JobHandle = submit(workspace, recorded(10))
    handle.write(tmp_path)
    run(["show", "--run-dir", str(tmp_path)])
    assert f"here       {tmp_path}" in capsys.readouterr().out
