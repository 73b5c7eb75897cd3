"""A launcher's variables count all together or not at all; what is left of another shell is one line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

from training.launch import worker
from training.settings.rank_identity import VARIABLES, RankIdentity, as_set, is_worker

if TYPE_CHECKING:
    from tests.conftest import FrontDoor

WHOLE = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}

SLURM = {"SLURM_PROCID": "7", "SLURM_NTASKS": "8", "SLURM_LOCALID": "x", "SLURM_JOB_NODELIST": "gone[1-4]"}


def test_the_variables_of_a_launcher_are_read_together() -> None:
    assert RankIdentity.of_environment(WHOLE) == RankIdentity(1, 1, 4, 1, "10.0.0.1:29500")
    assert RankIdentity.of_environment({**WHOLE, "LOCAL_WORLD_SIZE": "2"}).local_world_size == 2  # type: ignore[union-attr]
    assert RankIdentity.of_environment({**WHOLE, "LOCAL_SIZE": "3"}).local_world_size == 3  # type: ignore[union-attr]
    assert RankIdentity.of_environment({}) is None
    assert RankIdentity.of_environment(SLURM) is None, "no library of ours finds other ranks by them"


@pytest.mark.parametrize(
    ("left_over", "fault"),
    [
        ({"RANK": "7"}, "RANK=7: set in the environment, and LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT are not"),
        ({"RANK": "abc"}, "RANK=abc: set in the environment, and "),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0: set in the environment, and "),
        ({"LOCAL_RANK": "0"}, "LOCAL_RANK=0: set in the environment, and "),
        ({"RANK": "7", "WORLD_SIZE": "1"}, "RANK=7, WORLD_SIZE=1: set in the environment, and "),
        ({**WHOLE, "RANK": "7"}, "RANK=7 in the environment: should be a whole number from 0 to 3. "),
        ({**WHOLE, "RANK": "-1"}, "RANK=-1 in the environment: should be a whole number from 0 to 3. "),
        ({**WHOLE, "LOCAL_RANK": "4"}, "LOCAL_RANK=4 in the environment: should be a whole number from 0 to 3. "),
        ({**WHOLE, "WORLD_SIZE": "0"}, "WORLD_SIZE=0 in the environment: should be a whole number of at least 1. "),
        ({**WHOLE, "WORLD_SIZE": "-1"}, "WORLD_SIZE=-1 in the environment: should be a whole number of at least 1. "),
        ({**WHOLE, "WORLD_SIZE": "９"}, "WORLD_SIZE=９ in the environment: should be a whole number of at least 1. "),
        ({**WHOLE, "MASTER_PORT": "xyz"}, "MASTER_PORT=xyz in the environment: should be a whole number from 1 "),
        ({**WHOLE, "MASTER_PORT": "99999"}, "MASTER_PORT=99999 in the environment: should be a whole number from 1 "),
        ({**WHOLE, "MASTER_PORT": ""}, "MASTER_PORT='' in the environment: should be a whole number from 1 to 65535. "),
        ({**WHOLE, "MASTER_ADDR": ""}, "MASTER_ADDR='' in the environment: should be a host's name. "),
        ({**WHOLE, "LOCAL_SIZE": "9"}, "LOCAL_SIZE=9 in the environment: should be a whole number from 1 to 4. "),
    ],
)
def test_leftovers_of_another_shell_are_one_line_with_the_remedy(
    left_over: Mapping[str, str], fault: str, front_door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in left_over.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(worker, "SECONDS_TO_BE_ENDED", 0.0)
    exit_code, stdout, stderr = front_door(["--epochs", "1"])
    assert (exit_code, stdout) == (2, "")
    assert stderr.startswith(f"error: {fault}")
    unset = " ".join(f"-u {name}" for name in VARIABLES if name in left_over)
    assert f"If that is left over from another launcher's shell: env {unset} " in stderr
    assert stderr.count("\n") == 1


def test_a_value_from_outside_is_shown_on_one_line_and_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1\x1b[31m\n" + "9" * 500)
    assert as_set("RANK") == "RANK='1\\x1b[31m\\n" + "9" * 53 + "'…"


def test_a_process_is_a_rank_only_with_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any(name in os.environ for name in VARIABLES)
    for name, value in WHOLE.items():
        assert not is_worker()
        monkeypatch.setenv(name, value)
    assert is_worker()
