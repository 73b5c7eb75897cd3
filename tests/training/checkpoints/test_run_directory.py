"""A run takes only a directory that it may have, and writes and deletes only files of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import FrontDoor, TinyDataset
from training.checkpoints import run_lock
from training.checkpoints.manifest import checkpoint_directories
from training.checkpoints.run_directory import RunDirectory, leftovers_of_kills, run_directory_of
from training.checkpoints.run_lock import is_locked
from training.errors import UserError
from training.record.log import read_events
from training.storage.file_locks import try_lock

posix = pytest.mark.skipif(os.name == "nt", reason="links and names of bytes are POSIX's")


def more_of(run_dir: Path) -> list[str | Path]:
    """Flags that train an epoch more of a run."""
    return ["--resume", run_dir, "--epochs", "3"]


# -- directories that no run may have ---------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("name", ["/", "/..", "//"])
def test_the_root_of_the_file_system_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="this is the root of the file system"):
        RunDirectory(Path(name))


@posix
def test_a_name_that_is_no_text_is_refused_before_anything_is_made(
    front_door: FrontDoor, tiny_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = front_door([*tiny_flags, "--run-dir", os.fsdecode(b"run\xff")])
    assert done.exit_code == 2
    assert "should be a path in UTF-8" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", [[], ["--overwrite"], ["--resume"]])
def test_a_config_of_the_users_own_is_not_replaced(
    more: list[str],
    front_door: FrontDoor,
    tiny_flags: list[str],
    tiny_dataset: TinyDataset,
    tmp_path: Path,
    tree: Callable[[], dict[str, bytes | None]],
) -> None:
    (tmp_path / "exp1").mkdir()
    own = tmp_path / "exp1" / "config.yaml"
    own.write_text("# years of work\nepochs: 1\n", encoding="utf-8")
    words: list[str | Path] = [
        *tiny_flags,
        "--datasets",
        tiny_dataset(),
        "--config",
        own,
        "--run-dir",
        own.parent,
        *more,
    ]
    before = tree()
    done = front_door(words)
    assert done.exit_code == 2
    assert "it holds config.yaml and no run, so that is your own" in done.stderr
    assert tree() == before


def test_a_run_that_came_and_went_before_the_lock_was_taken_is_not_replaced(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, run_dir = try_lock, tmp_path / "other"

    def slow(descriptor: int, *, shared: bool = False) -> bool:
        if not (run_dir / "progress.jsonl").exists():  # another process trains meanwhile, from its begin to its end
            shutil.copytree(finished_run, run_dir, dirs_exist_ok=True)
        return real(descriptor, shared=shared)

    monkeypatch.setattr(run_lock, "try_lock", slow)
    with pytest.raises(UserError, match="it holds a run already"):
        RunDirectory(run_dir)
    assert (run_dir / "final_model.pt").read_bytes() == (finished_run / "final_model.pt").read_bytes()
    assert not is_locked(run_dir)


def test_a_dry_run_says_that_the_directory_is_taken(
    finished_run: Path, front_door: FrontDoor, tiny_flags: list[str], tmp_path: Path
) -> None:
    where: list[str | Path] = ["--datasets", tmp_path / "tiny.json", "--run-dir", finished_run]
    words = [*tiny_flags, *where, "--dry-run"]
    done = front_door(words)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: --run-dir {finished_run}: it holds a run already")
    assert "# plan: " in done.stdout, "the plan is shown all the same"
    assert front_door([*words, "--overwrite"]).exit_code == 0
    assert front_door([*words, "--resume"]).exit_code == 0
    holder = RunDirectory(finished_run, resume=True)
    try:
        assert "another process" in front_door([*words, "--resume"]).stderr
    finally:
        holder.release()
    assert (finished_run / "final_model.pt").is_file()


# -- files that are not the run's -------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("make_link", [os.symlink, os.link], ids=["symbolic", "hard"])
@pytest.mark.parametrize("name", ["config.yaml", "progress.jsonl", "experiment_report.json", "final_model.pt"])
def test_what_a_link_leads_to_stays_as_it_is(
    name: str, make_link: Callable[[Path, Path], None], finished_run: Path, front_door: FrontDoor, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    shutil.move(finished_run / name, mine)
    before = mine.read_bytes()
    make_link(mine, finished_run / name)
    done = front_door(more_of(finished_run))
    assert done.exit_code == 0, done
    assert mine.read_bytes() == before
    written = finished_run / name
    assert not written.is_symlink()
    assert written.read_bytes() != before
    assert [event["step"] for event in read_events(finished_run / "progress.jsonl") if event["event"] == "step"] == [
        1, 2, 3, 4, 5, 6,
    ], "nothing of the record is lost"  # fmt: skip


@posix
def test_a_link_that_bears_a_temporary_name_is_not_followed(
    finished_run: Path, front_door: FrontDoor, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.write_bytes(b"years of work")
    names = ["config.yaml", "experiment_report.json", "final_model.pt", "final_model", "checkpoint_epoch_3"]
    for name in names:
        (finished_run / f".{name}.tmp").symlink_to(mine)
    (finished_run / "snapshots" / ".step_000000005.safetensors.tmp").symlink_to(mine)
    assert front_door(more_of(finished_run)).exit_code == 0
    assert mine.read_bytes() == b"years of work"
    assert not list(finished_run.rglob(".*.tmp"))


@pytest.mark.parametrize("how", ["resume", "overwrite"])
def test_temporary_names_of_the_users_own_stay_and_those_of_a_kill_go(how: str, finished_run: Path) -> None:
    own = [".mine.tmp", ".checkpoint_notes.old", ".config.json.tmp", ".checkpoint_epoch_1x.tmp"]
    for name in own:
        (finished_run / name).mkdir()
        (finished_run / name / "thesis.tex").write_text("years of work", encoding="utf-8")
    of_a_kill = [".checkpoint_epoch_3.tmp", ".config.yaml.tmp", ".final_model.tmp", ".progress.jsonl.tmp"]
    for name in of_a_kill:
        (finished_run / name).mkdir()
    (finished_run / ".final_model.old").mkdir()
    assert [path.name for path in leftovers_of_kills(finished_run)] == sorted(of_a_kill)
    RunDirectory(finished_run, resume=how == "resume", overwrite=how == "overwrite").release()
    assert sorted(path.name for path in finished_run.iterdir() if path.name.startswith(".")) == sorted(own)
    assert all((finished_run / name / "thesis.tex").is_file() for name in own)


def test_a_finished_model_that_a_kill_left_moved_aside_is_put_back(finished_run: Path) -> None:
    (finished_run / "final_model").rename(finished_run / ".final_model.old")
    RunDirectory(finished_run, resume=True).release()
    assert (finished_run / "final_model" / "model.safetensors").is_file()


# -- the run that something belongs to --------------------------------------------------------------------------------


@posix
def test_a_link_to_a_checkpoint_resumes_the_run_in_which_that_lies(
    finished_run: Path, front_door: FrontDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    (work / "latest").symlink_to(finished_run / "checkpoint_epoch_2")
    (work / "config.yaml").write_text("d_model: 64\nrun_dir: elsewhere\n", encoding="utf-8")
    done = front_door(more_of(Path("latest")))
    assert done.exit_code == 0, done
    assert (work / "config.yaml").read_text(encoding="utf-8") == "d_model: 64\nrun_dir: elsewhere\n"
    assert sorted(path.name for path in work.iterdir()) == ["config.yaml", "latest"]
    saved = yaml.safe_load((finished_run / "config.yaml").read_text(encoding="utf-8"))
    assert (saved["run"]["epochs"], saved["model"]["d_model"]) == (3, 16)


@posix
def test_a_checkpoint_that_was_moved_to_another_disk_belongs_to_the_run_that_links_to_it(
    finished_run: Path, tmp_path: Path
) -> None:
    checkpoint, disk = finished_run / "checkpoint_epoch_2", tmp_path / "disk"
    disk.mkdir()
    shutil.move(checkpoint, disk / "big")
    checkpoint.symlink_to(disk / "big")
    assert run_directory_of(checkpoint) == finished_run
    assert run_directory_of(disk / "big") == disk, "nothing says of which run it is"
    assert run_directory_of(finished_run / "checkpoint_epoch_9") == finished_run


@posix
def test_a_run_goes_on_elsewhere_from_a_link_to_its_checkpoint(
    finished_run: Path, front_door: FrontDoor, tiny_flags: list[str], tmp_path: Path
) -> None:
    (tmp_path / "latest").symlink_to(finished_run / "checkpoint_epoch_1")
    words: list[str | Path] = ["--datasets", tmp_path / "tiny.json", "--epochs", "2", "--run-dir", tmp_path / "copy"]
    done = front_door([*tiny_flags, *words, "--resume", "--start-from", tmp_path / "latest"])
    assert done.exit_code == 0, done
    assert "at step 2 of 4" in done.stdout
    assert "checkpoint_epoch_1" in [path.name for path in checkpoint_directories(tmp_path / "copy")]
