"""The directory of a launch goes with its front door, also when that was killed."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from training.launch.launch_directory import LaunchDirectory, RankProcess

pytestmark = pytest.mark.skipif(os.name == "nt", reason="processes are forked")


def killed_front_door(parent: Path, act: Callable[[LaunchDirectory], None] = lambda directory: None) -> Path:
    """Make the directory of a launch in a process that is killed after it; return the directory."""
    before = set(parent.iterdir())
    child = os.fork()
    if child == 0:
        try:
            act(LaunchDirectory.create(str(parent)))
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (made,) = set(parent.iterdir()) - before
    return made


def launch_again(parent: Path) -> None:
    LaunchDirectory.create(str(parent)).delete()


def test_the_directory_of_a_killed_front_door_goes_with_the_next_launch(tmp_path: Path) -> None:
    made = killed_front_door(tmp_path)
    assert made.is_dir()
    launch_again(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_at_work_one_kept_for_its_logs_and_one_that_a_worker_writes_into_stay(tmp_path: Path) -> None:
    at_work = LaunchDirectory.create(str(tmp_path))
    kept = killed_front_door(tmp_path, lambda directory: directory.keep())
    rank = RankProcess(0, os.getpid(), socket.gethostname(), 1)  # it still saves
    in_use = killed_front_door(tmp_path, lambda directory: directory.write_rank(rank))
    mine = tmp_path / "apt-launch-notes"
    mine.mkdir()
    launch_again(tmp_path)
    assert set(tmp_path.iterdir()) == {at_work.path, kept, in_use, mine}
    at_work.delete()
    assert not at_work.path.exists()
