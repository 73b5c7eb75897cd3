"""Where a run goes on from: what a path given to --resume means, and what is said not to carry over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from training import TrainingConfig
from training.checkpoints.checkpoint import Checkpoint, DataIdentity, Origin, save_checkpoint
from training.checkpoints.resume import find_checkpoint, what_does_not_carry_over
from training.errors import CheckpointError
from training.machine.ranks import Ranks


def checkpoint_of(step: int = 25, engine: Mapping[str, Any] | None = None) -> Checkpoint:
    """A checkpoint of a run on playground, alone on a CPU."""
    return Checkpoint(
        step=step,
        total_steps=100,
        config=TrainingConfig().to_dict(),
        engine=engine or {},
        loop={
            "batch": step,
            "epoch_loss": [0.0, 0],
            "early_stopping": {"best": None, "epochs_without_gain": 0},
            "skipped_updates": {"in_a_row": 0},
            "callbacks": {},
        },
        artefacts={},
        data=DataIdentity(num_samples=10, fingerprint=None),
        origin=Origin(backend="playground", world_size=1, device="cpu", layout={}),
    )


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run directory `run` below the working directory, with two checkpoints."""
    monkeypatch.chdir(tmp_path)
    for epoch in (25, 50):
        save_checkpoint(Path("run") / f"checkpoint_epoch_{epoch}", checkpoint_of(epoch).to_payload())
    return Path("run")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("run", "run/checkpoint_epoch_50"),
        ("run/checkpoint_epoch_25", "run/checkpoint_epoch_25"),
        ("run/checkpoint_epoch_25.pt", "run/checkpoint_epoch_25"),
        ("checkpoint_epoch_25", "run/checkpoint_epoch_25"),
        ("checkpoint_epoch_25.pt", "run/checkpoint_epoch_25"),
    ],
)
def test_a_run_a_checkpoint_or_a_bare_name_is_found(asked: str, found: str, run: Path) -> None:
    checkpoint = find_checkpoint(run, True, Path(asked))
    assert checkpoint is not None
    assert checkpoint[0] == Path(found)
    assert f"checkpoint_epoch_{checkpoint[1].step}" == checkpoint[0].name


def test_a_checkpoint_that_was_copied_elsewhere_under_another_name_is_one_by_its_manifest(run: Path) -> None:
    (run / "checkpoint_epoch_25").rename("best of all")
    checkpoint = find_checkpoint(run, True, Path("best of all"))
    assert checkpoint is not None
    assert checkpoint[1].step == 25


def test_a_directory_that_is_neither_run_nor_checkpoint_says_what_to_give(run: Path) -> None:
    Path("notes").mkdir()
    with pytest.raises(CheckpointError, match=r"--resume notes: no checkpoint in this directory.*run directory"):
        find_checkpoint(run, True, Path("notes"))


def test_a_damaged_newest_is_passed_over_aloud_unless_it_was_asked_for(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "checkpoint_epoch_50" / "state.json").unlink()
    checkpoint = find_checkpoint(run, True, None)
    assert checkpoint is not None
    assert checkpoint[1].step == 25
    assert "checkpoint_epoch_50/state.json is missing; it is passed over" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match=r"checkpoint_epoch_50/state\.json is missing"):
        find_checkpoint(run, True, run / "checkpoint_epoch_50")


def ranks(device: str = "cpu", world_size: int = 1) -> Ranks:
    return Ranks(torch.device(device), world_size=world_size)


def test_the_same_place_and_processes_carry_everything_over() -> None:
    assert what_does_not_carry_over(checkpoint_of(), TrainingConfig(), ranks(), {}) == []


def test_another_backend_number_of_ranks_device_or_batch_size_is_named() -> None:
    config = TrainingConfig.from_dict({"backend": "deepspeed", "run": {"batch_size": 8}})
    assert what_does_not_carry_over(checkpoint_of(), config, ranks("cuda", 2), {"zero_stage": 2}) == [
        "backend playground -> deepspeed, world_size 1 -> 2, device cpu -> cuda, batch_size 32 -> 8 sums in another "
        "order: the curve goes on within the parity tolerance"
    ]
    told = what_does_not_carry_over(checkpoint_of(), TrainingConfig(), ranks(world_size=2), {}, {"dropout": 0.1})
    assert told[1:] == ["dropout may draw other numbers"]


def test_another_zero_stage_of_the_same_backend_is_named() -> None:
    config = TrainingConfig.from_dict({"backend": "deepspeed"})
    at_stage = Origin(backend="deepspeed", world_size=1, device="cpu", layout={"zero_stage": 0})
    checkpoint = replace(checkpoint_of(), origin=at_stage)
    assert what_does_not_carry_over(checkpoint, config, ranks(), {"zero_stage": 0}) == []
    (told,) = what_does_not_carry_over(checkpoint, config, ranks(), {"zero_stage": 2})
    assert told.startswith("zero_stage 0 -> 2 sums in another order")


def test_state_that_the_checkpoint_lacks_is_said_to_start_again() -> None:
    config = TrainingConfig.from_dict({"run": {"precision": "fp16"}, "optimizer": {"stabilizer": "dbc_dac"}})
    assert what_does_not_carry_over(checkpoint_of(), config, ranks(), {}) == [
        "the loss scale starts again", "the stabilizer (dbc_dac) starts again",
    ]  # fmt: skip
    whole = checkpoint_of(engine={"scaler": {}, "stabilizer": {}})
    assert what_does_not_carry_over(whole, config, ranks(), {}) == []
