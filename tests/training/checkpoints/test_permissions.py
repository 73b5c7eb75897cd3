"""A run's files can be read by whom the umask lets in; a file that may not be read is not called damaged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import FrontDoor
from tests.support.another_user import as_another_user, let_in
from tests.support.findings import do
from tests.support.language_data import tiny_model
from tools.diagnosis import runs
from tools.diagnosis.findings import Status
from training.checkpoints.checkpoint import newest_good
from training.checkpoints.finished_model import load_trained_model
from training.errors import UserError
from training.models.huggingface.family import HuggingFaceFamily
from training.models.huggingface.options import HuggingFaceOptions

pytestmark = pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX's")
WEIGHTS = ("final_model.pt", "final_model/model.safetensors", "checkpoint_epoch_2/model.safetensors")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_every_file_of_a_run_has_the_mode_that_the_umask_gives(
    mask: int, finished_run: Path, front_door: FrontDoor
) -> None:
    with umask(mask):
        done = front_door(["--resume", finished_run, "--epochs", "3", "--run-dir", finished_run])
    assert done.exit_code == 0, done
    names = ("config.yaml", "experiment_report.json", *WEIGHTS[:2], "final_model/checksums.json")
    written = [
        *(finished_run / name for name in names),
        *(finished_run / "checkpoint_epoch_3").iterdir(),
        finished_run / "snapshots" / "step_000000006.safetensors",
    ]
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in written} == {
        path.name: oct(0o666 & ~mask) for path in written
    }


@pytest.mark.slow
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_model_of_transformers_and_an_adapter_have_it_too(mask: int, tmp_path: Path) -> None:
    family = HuggingFaceFamily()
    for name, settings in {"whole": {}, "adapter": {"lora": True, "merge": True}}.items():
        options = HuggingFaceOptions(model="huggingface", base_model=str(tiny_model()), **settings)
        with umask(mask):
            family.save(tmp_path / name, family.build(options, None), options, None, {})
    weights = sorted(tmp_path.rglob("*.safetensors"))
    assert [path.parent.name for path in weights] == ["adapter", "merged", "whole"]
    assert {oct(path.stat().st_mode & 0o777) for path in weights} == {oct(0o666 & ~mask)}


def refusal_of(path: Path) -> str:
    try:
        load_trained_model(path)
    except UserError as error:
        return str(error)
    return ""


def test_another_user_reads_a_run(finished_run: Path) -> None:
    let_in(finished_run)
    assert as_another_user(lambda: [refusal_of(finished_run / name.partition("/")[0]) for name in WEIGHTS]) == [""] * 3


@pytest.mark.parametrize("name", WEIGHTS)
def test_what_may_not_be_read_is_not_called_damaged(name: str, finished_run: Path, front_door: FrontDoor) -> None:
    let_in(finished_run)
    (finished_run / name).chmod(0o000)
    place = finished_run / name.partition("/")[0]
    refusal = as_another_user(lambda: refusal_of(place))
    assert refusal.startswith(f"{finished_run / name}: it cannot be read (Permission denied)")
    assert "damaged" not in refusal
    assert "No such file" not in refusal
    found = as_another_user(lambda: list(runs.diagnose_run(finished_run)))
    subject = "checkpoints" if name.startswith("checkpoint") else "final model"
    finding = next(finding for finding in found if finding.subject == subject and finding.status is not Status.OK)
    assert "cannot be read (Permission denied)" in finding.message
    assert "damaged" not in finding.message
    do(finding.fix, front_door)
    assert (finished_run / name).stat().st_mode & 0o400


def test_a_newest_checkpoint_that_may_not_be_read_is_not_passed_over(finished_run: Path, front_door: FrontDoor) -> None:
    let_in(finished_run)
    for path in (finished_run, *finished_run.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    (finished_run / "checkpoint_epoch_2" / "model.safetensors").chmod(0o000)
    words: list[str | Path] = [
        "--resume",
        finished_run,
        "--epochs",
        "3",
        "--datasets",
        finished_run.parent / "tiny.json",
    ]
    done = as_another_user(lambda: front_door(words))
    assert done.exit_code == 2
    assert "cannot be read (Permission denied)" in done.stderr
    assert "--resume CHECKPOINT" in done.stderr
    assert done.stderr.count("\n") == 1
    assert newest_good(finished_run)[0] is not None, "nothing was deleted"
    assert (finished_run / "checkpoint_epoch_2").is_dir()
