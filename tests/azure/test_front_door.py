"""`--backend azure` at the front door: which backend trains, what a dry run shows, where a run goes on. All offline."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from training.azure.service.address import WorkspaceAddress
from training.azure.service.job_file import JOB_NAME, JobHandle
from training.azure.submit.resume_source import ResumeSource, as_submitted, find_resume_source
from training.backends.protocol import RunRequest
from training.errors import UserError
from training.settings.tree import TrainingConfig

if TYPE_CHECKING:
    from tests.conftest import FrontDoor, TinyDataset

ROOT = Path(__file__).resolve().parents[2]
AZURE = ["--backend", "azure", "--vm-size", "Standard_NC4as_T4_v3"]


def job_of(shown: str) -> dict[str, Any]:
    job = yaml.safe_load(shown)
    assert isinstance(job, dict)
    return job


# -- the backend inside --------------------------------------------------------------------------------------------


def test_the_flags_of_the_inner_backend_are_there_beside_azures_own(front_door: FrontDoor) -> None:
    shown = front_door([*AZURE, "--inner-backend", "deepspeed", "--help"]).stdout
    assert "\nazure options:\n" in shown
    assert "\ndeepspeed options:\n" in shown
    assert "\nplayground options:\n" not in shown


def test_the_inner_backends_preset_lies_under_the_settings_as_it_does_at_home(front_door: FrontDoor) -> None:
    for inner in ("playground", "deepspeed", "huggingface"):
        here = front_door(["--backend", inner, "--explain", "run_dir"]).stdout
        there = front_door([*AZURE, "--inner-backend", inner, "--explain", "run_dir"]).stdout
        assert here == there


def test_a_config_file_may_name_the_inner_backend_too(front_door: FrontDoor, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(
        "backend: azure\nazure: {inner_backend: deepspeed, vm_size: Standard_NC64as_T4_v3}\n"
        "deepspeed: {zero_stage: 3}\nnum_gpus: 4\nnnodes: 2\n"
    )
    shown = front_door(["--config", path, "--dry-run"])
    assert (shown.exit_code, shown.stderr) == (0, "")
    job = job_of(shown.stdout)
    assert job["distribution"] == {"type": "pytorch", "process_count_per_instance": 4}
    assert job["resources"] == {"instance_count": 2, "instance_type": "Standard_NC64as_T4_v3"}
    assert job["tags"]["inner_backend"] == "deepspeed"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([*AZURE, "--inner-backend", "azure"], "--inner-backend azure: it trains nothing itself"),
        ([*AZURE, "--inner-backend", "deepsped"], "--inner-backend deepsped: unknown backend; choose from"),
        (["--inner-backend", "deepspeed"], "--inner-backend deepspeed: --backend playground trains by itself"),
        (
            [*AZURE, "--inner-backend", "deepspeed", "--optimizer", "muon"],
            "--backend deepspeed cannot do optimizer muon",
        ),
        ([*AZURE, "--estimate"], "--estimate trains on this machine, and this backend trains elsewhere"),
        ([*AZURE, "--compare", "attention=standard,autopoietic"], "--compare trains on this machine"),
        (
            [*AZURE, "--sweep", "--resume", "apt-1"],
            "--sweep and --resume do not go together: every trial starts from",
        ),
        (
            [*AZURE, "--resume", "--start-from", "x"],
            "--start-from x: this backend sends a run along with --resume PATH",
        ),
        (
            [*AZURE, "--num-threads", "2", "--zero-stage", "2"],
            "--zero-stage belongs to --backend deepspeed (with --backend azure: --inner-backend)",
        ),
        (["--vm-size", "x"], "--vm-size belongs to --backend azure, not to this one"),
        (
            [*AZURE, "--azure-subscription-id", "not-an-id"],
            "--subscription-id: subscription_id = 'not-an-id' should be the subscription's id",
        ),
        ([*AZURE, "--workspace-name", "x"], "--workspace-name: workspace_name = 'x' is not a name of a workspace"),
    ],
)
def test_what_does_not_go_together_is_one_line(words: list[str], told: str, front_door: FrontDoor) -> None:
    refusal = front_door([*words, "--dry-run"] if "--estimate" not in words else words)
    assert (refusal.exit_code, refusal.stdout) == (2, "")
    assert refusal.stderr.startswith(f"error: {told}"), refusal.stderr
    assert refusal.stderr.count("\n") == 1


# -- a dry run -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_dry_run_by_the_documents_command_needs_no_sdk_no_login_and_no_torch(tmp_path: Path) -> None:
    """As in the documents: `python training/train_azure_ml.py --subscription-id … --compute-name gpu-cluster …`."""
    script = ROOT / "training" / "train_azure_ml.py"
    words = (
        "--subscription-id 12345678-1234-1234-1234-123456789abc --resource-group rg --workspace-name team-ml "
        "--dataset HLBD_Hardcore_Full.json --epochs 100 --compute-name gpu-cluster --vm-size Standard_NC24ads_A100_v4 "
        "--create-compute --dry-run"
    )
    program = (
        "import runpy, sys\n"
        f"sys.argv = [{str(script)!r}, *{words.split()!r}]\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = [m for m in ('azure', 'torch', 'mlflow', 'msal') if m in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert job_of(done.stdout)["compute"] == "azureml:gpu-cluster"
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_shows_what_goes_along_and_what_costs_money(front_door: FrontDoor) -> None:
    shown = front_door([*AZURE, "--low-priority", "--timeout-hours", "3", "--dry-run"]).stdout
    comments = "\n".join(line for line in shown.splitlines() if line.startswith("# "))
    for part in ("goes along: ", "job/data/", "serverless, Standard_NC4as_T4_v3, low priority", "at most 3 hours"):
        assert part in comments
    assert job_of(shown)["queue_settings"] == {"job_tier": "spot"}


def test_the_files_of_a_dry_run_can_be_kept_for_azures_own_command(
    front_door: FrontDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = front_door([*AZURE, "--snapshot-dir", "code", "--dry-run"])
    assert job_of(shown.stdout)["code"] == "code"
    assert (tmp_path / "code" / "training" / "train.py").is_file()
    again = front_door([*AZURE, "--snapshot-dir", "code", "--dry-run"])
    assert again.exit_code == 2
    assert "--snapshot-dir code: there is something already" in again.stderr


# -- where a run goes on -------------------------------------------------------------------------------------------


def asked(run_dir: Path, resume_from: str | None = None) -> ResumeSource:
    config = TrainingConfig.from_dict({"run": {"run_dir": run_dir}})
    return find_resume_source(RunRequest(config, resume=True, resume_from=Path(resume_from) if resume_from else None))


def handle(path: str | None) -> JobHandle:
    return JobHandle("apt-1", WorkspaceAddress("s", "g", "w"), "workspaceblobstore", path, 0.0)


def test_a_run_that_is_a_jobs_goes_on_where_the_job_kept_it(tmp_path: Path) -> None:
    handle("apt-runs/apt-0").write(tmp_path)
    assert asked(tmp_path) == ResumeSource(job="apt-1", path="apt-runs/apt-0")


def test_a_run_of_this_machine_goes_along(finished_run: Path) -> None:
    assert asked(finished_run) == ResumeSource(start=finished_run)
    one = finished_run / "checkpoint_epoch_1"
    assert asked(finished_run, "checkpoint_epoch_1") == ResumeSource(start=one)
    assert asked(finished_run, str(one)) == ResumeSource(start=one)


def test_a_name_that_is_no_path_is_a_job(tmp_path: Path) -> None:
    assert asked(tmp_path, "apt-20261121-191500-3f2a") == ResumeSource(job="apt-20261121-191500-3f2a")


def test_the_settings_of_a_job_are_those_that_it_was_submitted_with() -> None:
    inside = {
        "backend": "deepspeed",
        "deepspeed": {"deepspeed_config": "job/files/mine.json", "zero_stage": 2},
        "data": {"datasets": ["job/data/a.json"], "pairs": "full"},
        "launch": {"num_gpus": 4, "nnodes": 1},
        "track": {"track": ["mlflow"]},
    }
    assert as_submitted(inside, nodes=2) == {
        "backend": "deepspeed",
        "deepspeed": {"deepspeed_config": "mine.json", "zero_stage": 2},
        "data": {"datasets": ["a.json"], "pairs": "full"},
        "launch": {"num_gpus": 4, "nnodes": 2},
    }


def test_a_path_that_is_not_there_is_not_taken_for_a_job(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="--resume runs/mien: there is no such checkpoint or run here, and a job cannot have"
    ):
        asked(tmp_path, "runs/mien")


def test_nothing_to_go_on_from_is_said_and_the_run_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(tmp_path) == ResumeSource()
    assert "no checkpoint yet, training starts from the beginning" in capsys.readouterr().out


def test_a_sweep_has_no_one_run_to_go_on_with(tmp_path: Path) -> None:
    handle(None).write(tmp_path)
    with pytest.raises(UserError, match="holds the sweep apt-1, which is many runs"):
        asked(tmp_path)


@pytest.mark.parametrize("damage", ["", "{}", '{"format": "other"}', '{"format": "apt-azure-job", "job": "x"}'])
def test_a_damaged_handle_is_named(tmp_path: Path, damage: str) -> None:
    (tmp_path / JOB_NAME).write_text(damage)
    with pytest.raises(UserError, match=f"{JOB_NAME}: damaged, it does not name a job"):
        asked(tmp_path)


# -- before anything leaves this machine ---------------------------------------------------------------------------


def test_faulty_data_are_refused_before_anybody_logs_in(
    front_door: FrontDoor, tiny_dataset: TinyDataset, tmp_path: Path, tree: Callable[[], dict[str, bytes | None]]
) -> None:
    data = tiny_dataset()
    before = tree()
    address = ["--subscription-id", "12345678-1234-1234-1234-123456789abc", "--resource-group", "g"]
    settings = ["--workspace-name", "wks", "--datasets", str(data), "--run-dir", str(tmp_path / "run")]
    refusal = front_door([*AZURE, *address, *settings, "--max-seq-len", "4"])
    assert refusal.exit_code == 2
    assert "samples are longer than max_seq_len=4 tokens" in refusal.stderr
    assert tree() == before
