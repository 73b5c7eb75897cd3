"""A job's run on its way home, and its model into the workspace: real blobs, real SDK."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.azure.stand_in.exchange import Reply
from tests.azure.stand_in.faults import Cut
from tests.azure.stand_in.stand_in import AzureStandIn
from tests.azure.submitted_jobs import DATASTORE, ROOT, address_of
from tests.support.meanwhile import Meanwhile
from training.azure.fetch.collect_results import register_model
from training.azure.fetch.download import What, download_run
from training.azure.service.job_file import JOB_NAME, JobHandle
from training.azure.service.workspace import Workspace
from training.checkpoints.run_directory import RunDirectory
from training.errors import UserError
from training.storage.checksums import FORMAT, VERSION, sealed

OWN = (JOB_NAME, ".azure_download.json")
"""What the download itself leaves in a run directory."""


class Stored:
    """A run directory of this machine as if a job had written it, in the datastore of a workspace."""

    def __init__(self, azure: AzureStandIn, run_dir: Path) -> None:
        self.azure, self.run_dir = azure, run_dir
        self.workspace = Workspace.connect(address_of(azure))
        self.handle = JobHandle("job-1", self.workspace.address, DATASTORE, "apt-runs/job-1", time.time())
        self.container: Any = azure.storage.container(azure.workspace.container_of(DATASTORE))
        for path in run_dir.rglob("*"):
            if path.is_file():
                self.put(path.relative_to(run_dir).as_posix(), path.read_bytes())

    def put(self, name: str, content: bytes, **options: Any) -> Any:
        blob = self.container.get_blob_client(f"apt-runs/job-1/{name}")
        blob.upload_blob(content, overwrite=True, **options)
        return blob

    def fetched(self) -> list[str]:
        """Files that were read since the last time."""
        reads = [r for r in self.azure.requests if ".blob." in r.host and r.method == "GET" and "apt-runs" in r.path]
        self.azure.forget()
        return [r.path.partition("/apt-runs/job-1/")[2] for r in reads]


@pytest.fixture
def stored(azure: AzureStandIn, finished_run: Path) -> Stored:
    return Stored(azure, finished_run)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def _files(run_dir: Path) -> dict[str, bytes]:
    found = {p.relative_to(run_dir).as_posix(): p.read_bytes() for p in run_dir.rglob("*") if p.is_file()}
    return {name: content for name, content in found.items() if name not in OWN}


class TestDownload:
    def test_the_record_and_the_final_model_come_byte_for_byte(self, stored: Stored, home: Path) -> None:
        from training.checkpoints.finished_model import load_trained_model

        assert download_run(stored.workspace, stored.handle, home) == home
        expected = _files(stored.run_dir)
        brought = _files(home)
        assert {"progress.jsonl", "experiment_report.json", "config.yaml", "final_model.pt"} < set(brought)
        assert any(name.startswith("final_model/") for name in brought)
        assert not any(name.startswith("checkpoint") for name in brought)
        assert brought == {name: expected[name] for name in brought}
        assert JobHandle.read(home) == stored.handle
        load_trained_model(home)

    def test_all_of_a_run_comes_without_what_is_hidden_and_without_marks_of_directories(
        self, stored: Stored, home: Path
    ) -> None:
        stored.put(".checkpoint_epoch_9.tmp/manifest.json", b"half")
        stored.put(JOB_NAME, b"of another machine")
        stored.put("final_model", b"", metadata={"hdi_isfolder": "true"})
        download_run(stored.workspace, stored.handle, home, "all")
        assert _files(home) == _files(stored.run_dir)

    def test_what_is_here_is_not_fetched_again(
        self, stored: Stored, home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        # In blocks, as a mount uploads large files: the storage then has no MD5.
        for name in ("checkpoint_epoch_1/extra.bin", "final_model.pt"):
            (stored.run_dir / name).write_bytes(b"w" * 3_000_000)
            big = stored.container.get_blob_client(f"apt-runs/job-1/{name}")
            for number in range(3):
                big.stage_block(f"{number:04}", b"w" * 1_000_000)
            big.commit_block_list([f"{number:04}" for number in range(3)])
            assert not big.get_blob_properties().content_settings.content_md5
        download_run(stored.workspace, stored.handle, home, "all")
        assert _files(home) == _files(stored.run_dir)
        assert stored.fetched()
        capsys.readouterr()
        download_run(stored.workspace, stored.handle, home, "all")
        assert stored.fetched() == []
        count = len(_files(home))
        assert f"{count} files of the run here, {count} were already" in capsys.readouterr().out
        stored.put("progress.jsonl", (stored.run_dir / "progress.jsonl").read_bytes() + b'{"event": "x"}\n')
        download_run(stored.workspace, stored.handle, home, "all")
        assert stored.fetched() == ["progress.jsonl"]

    def test_a_download_that_breaks_off_goes_on_and_leaves_no_half_model(self, stored: Stored, home: Path) -> None:
        refused = Reply(403, headers={"x-ms-error-code": "AuthorizationFailure"}, body=b"")
        stored.azure.faults.add(refused, r"final_model/model\.safetensors", method="GET")
        with pytest.raises(UserError, match="downloading job job-1: the storage account refuses"):
            download_run(stored.workspace, stored.handle, home)
        assert not (home / "final_model").exists()
        assert (home / "config.yaml").exists()
        first = stored.fetched()
        download_run(stored.workspace, stored.handle, home)
        second = stored.fetched()
        assert set(first) & set(second) == {"final_model/model.safetensors"}
        assert _files(home / "final_model") == _files(stored.run_dir / "final_model")
        assert not list(home.rglob("*.download"))

    def test_whenever_a_download_is_killed_the_next_one_ends_with_the_run_and_nothing_else(
        self, azure: AzureStandIn, tmp_path: Path
    ) -> None:
        """Killed before each change of the disk, on a machine that has an older state of the run and a file of the
        user's. Before the next download the job has left a checkpoint behind."""
        (tmp_path / "stored").mkdir()
        stored = Stored(azure, tmp_path / "stored")
        stored.handle.write(tmp_path)
        run = {"progress.jsonl": b"{}\n", "final_model/model.safetensors": b"1"}
        for name, content in run.items():
            stored.put(name, content)
        before, homes = tmp_path / "before", tmp_path / "homes"
        before.mkdir()
        (before / "mine.txt").write_bytes(b"mine")
        download_run(stored.workspace, stored.handle, before, "all")
        newer = {"progress.jsonl": b"{}\n{}\n", "final_model/model.safetensors": b"2"}
        passing = {"checkpoint_step_2/manifest.json": b"{}"}
        for name, content in (newer | passing).items():
            stored.put(name, content)
        words = [sys.executable, str(ROOT / "tests" / "support" / "programs" / "killed_downloads.py")]
        subprocess.run(
            [*words, tmp_path, before, homes], env=azure.environment() | {"PYTHONPATH": str(ROOT)}, check=True
        )
        for name in passing:
            stored.container.delete_blob(f"apt-runs/job-1/{name}")

        killed = sorted(homes.iterdir())
        assert len(killed) >= 20
        expected = run | newer | {"mine.txt": b"mine"}
        for home in killed:
            directory = RunDirectory(home, resume=True)  # as whoever calls a download holds it
            download_run(stored.workspace, stored.handle, home, "all")
            directory.release()
            assert _files(home) in (expected, expected | passing), home.name
            assert {path.name for path in home.iterdir() if path.name.startswith(".")} == {".azure_download.json"}

    def test_a_directory_that_the_job_replaces_meanwhile_is_of_one_state(self, stored: Stored, home: Path) -> None:
        silence = stored.azure.faults.add(Cut.SILENCE, r"final_model/model\.safetensors", method="GET")
        replaced = {
            "final_model/checksums.json": sealed({"format": FORMAT, "version": VERSION, "files": {}}),
            "final_model/config.json": b"{}",
            "final_model/model.safetensors": b"another model",
        }

        def replace() -> None:
            stored.azure.wait(lambda: silence.met, what="the reading of the model")
            for name, content in replaced.items():
                stored.put(name, content)
            stored.azure.faults.clear()  # the connection breaks off, and the model is asked for again

        with Meanwhile(replace):
            download_run(stored.workspace, stored.handle, home)
        brought = _files(home)
        assert {name: brought[name] for name in replaced} == replaced

    def test_a_file_that_is_not_what_was_stored_is_refused(self, stored: Stored, home: Path) -> None:
        from azure.storage.blob import ContentSettings

        blob = stored.put("final_model.pt", b"a model")
        blob.set_http_headers(content_settings=ContentSettings(content_md5=bytearray(16)))
        with pytest.raises(UserError, match=r"final_model\.pt: it did not come through whole in 3 attempts"):
            download_run(stored.workspace, stored.handle, home)
        assert not (home / "final_model.pt").exists()

    def test_what_is_damaged_in_the_datastore_is_named_and_a_model_not_brought(
        self, stored: Stored, home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("final_model/model.safetensors", "checkpoint_epoch_1/state.json"):
            content = bytearray((stored.run_dir / name).read_bytes())
            content[-5] ^= 1
            stored.put(name, bytes(content))
        with pytest.raises(UserError, match="final_model/ is damaged in the datastore and was not brought here"):
            download_run(stored.workspace, stored.handle, home, "all")
        said = capsys.readouterr().out
        assert "warning: as the datastore has it, checkpoint_epoch_1/state.json: damaged" in said
        assert "warning: as the datastore has it, final_model/model.safetensors: damaged" in said
        assert not (home / "final_model").exists()
        assert (home / "final_model.pt").is_file(), "all else is here"
        assert (home / "checkpoint_epoch_1").is_dir()

    def test_another_run_is_never_touched(self, stored: Stored, tmp_path: Path, finished_run: Path) -> None:
        before = _files(finished_run)
        with pytest.raises(UserError, match=r"it holds another run \(progress\.jsonl"):
            download_run(stored.workspace, stored.handle, finished_run)
        assert _files(finished_run) == before
        other = tmp_path / "other"
        other.mkdir()
        JobHandle("job-2", stored.workspace.address, DATASTORE, "apt-runs/job-2", 0.0).write(other)
        with pytest.raises(UserError, match=r"it holds another run \(the job job-2\)"):
            download_run(stored.workspace, stored.handle, other)

    def test_a_job_that_went_on_with_anothers_run_is_the_same_run(self, stored: Stored, home: Path) -> None:
        home.mkdir()
        JobHandle("job-2", stored.workspace.address, DATASTORE, "apt-runs/job-1", 0.0).write(home)
        download_run(stored.workspace, stored.handle, home)
        assert (home / "final_model.pt").exists()

    def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_written(
        self, stored: Stored, home: Path
    ) -> None:
        stored.put("C:evil", b"x")
        with pytest.raises(UserError, match="'C:evil' there, which is not a name of a file of a run"):
            download_run(stored.workspace, stored.handle, home, "all")
        assert not home.exists()

    def test_a_name_that_a_terminal_would_obey_is_refused(self, stored: Stored, home: Path) -> None:
        stored.put("a\nb", b"x")
        with pytest.raises(UserError, match=r"'a\\nb' there, which is not a name of a file of a run"):
            download_run(stored.workspace, stored.handle, home, "all")

    def test_a_name_that_is_file_and_directory_is_refused_unless_it_only_marks_the_directory(
        self, stored: Stored, home: Path
    ) -> None:
        stored.put("checkpoint_epoch_1", b"")
        assert (download_run(stored.workspace, stored.handle, home, "all") / "checkpoint_epoch_1").is_dir()
        stored.put("checkpoint_epoch_1", b"x")
        with pytest.raises(UserError, match="holds 'checkpoint_epoch_1' there as file and as directory; nothing done"):
            download_run(stored.workspace, stored.handle, home.with_name("other"), "all")
        assert not home.with_name("other").exists()

    @pytest.mark.parametrize(("what", "name"), [("all", "notes.txt"), ("final", "config.yaml"), ("all", "logs")])
    def test_files_of_somebody_else_are_never_replaced(self, what: What, name: str, stored: Stored, home: Path) -> None:
        stored.put("notes.txt", b"of the job")
        stored.put("logs/a.txt", b"of the job")
        home.mkdir()
        (home / name).write_text("mine")
        with pytest.raises(UserError, match=rf"holds .*{name}.*, which .*stays as it is"):
            download_run(stored.workspace, stored.handle, home, what)
        assert {path.name: path.read_text() for path in home.iterdir()} == {name: "mine"}

    def test_a_name_that_the_disk_does_not_take_is_one_line(self, stored: Stored, home: Path) -> None:
        stored.put("n" * 300, b"x")
        with pytest.raises(UserError, match=r"the disk refuses \(n+: File name too long\); what came through stays"):
            download_run(stored.workspace, stored.handle, home, "all")

    def test_of_two_faults_of_the_disk_the_first_is_told(self, stored: Stored, home: Path) -> None:
        """A full disk does not take the file that notes what came, either."""
        for name in (".final_model.pt.download", ".azure_download.json"):
            (home / name).mkdir(parents=True)
        with pytest.raises(UserError, match=r"the disk refuses \(\.final_model\.pt\.download: Is a directory\)"):
            download_run(stored.workspace, stored.handle, home)

    def test_a_job_that_has_written_nothing_is_one_line(self, stored: Stored, home: Path) -> None:
        nothing = JobHandle("job-9", stored.workspace.address, DATASTORE, "apt-runs/job-9", 0.0)
        with pytest.raises(UserError, match="job job-9 has written nothing yet"):
            download_run(stored.workspace, nothing, home)
        assert not home.exists()


class TestRegister:
    def test_the_final_model_is_registered_where_it_lies_and_once(
        self, stored: Stored, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert register_model(stored.workspace, stored.handle, "apt-model") == "1"
        asked = stored.azure.workspace.models["apt-model"]["1"]["properties"]
        assert asked["modelUri"] == "azureml://jobs/job-1/outputs/run/paths/final_model"
        assert asked["modelType"] == "custom_model"
        assert asked["tags"]["job"] == "job-1"
        assert {"run_id", "curve_hash", "step", "train_loss"} <= set(asked["tags"])
        assert stored.azure.uploads() == []
        stored.azure.forget()
        assert register_model(stored.workspace, stored.handle, "apt-model") == "1"
        assert "the model of job job-1 is registered already: apt-model, version 1" in capsys.readouterr().out
        assert not [r for r in stored.azure.requests if r.method == "PUT"]

    def test_a_job_without_a_final_model_and_a_name_that_is_none_are_refused(self, stored: Stored) -> None:
        nothing = JobHandle("job-9", stored.workspace.address, DATASTORE, "apt-runs/job-9", 0.0)
        with pytest.raises(UserError, match=r"there is no final_model/ in its run \(apt-runs/job-9\)"):
            register_model(stored.workspace, nothing, "apt-model")
        with pytest.raises(UserError, match="register_model='apt model': Azure takes letters"):
            register_model(stored.workspace, stored.handle, "apt model")
