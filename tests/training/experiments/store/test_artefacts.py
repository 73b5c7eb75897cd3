"""Artefacts of a run: found, known by its checksum, and asked whether it is still there and unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from training.errors import UserError
from training.experiments.store import artefacts
from training.experiments.store.artefacts import Condition, RunArtefact, artefact_of, artefacts_of, log_artefact
from training.experiments.store.index import ExperimentStore


@pytest.fixture
def store(finished_run: Path) -> ExperimentStore:
    """Return the store of the folder with a finished run, which is up to date."""
    opened = ExperimentStore(finished_run.parent)
    opened.refresh()
    return opened


@pytest.fixture
def run_id(store: ExperimentStore) -> str:
    return store.run("run").id


def by_name(found: list[RunArtefact]) -> dict[str, RunArtefact]:
    return {artefact.name: artefact for artefact in found}


def test_a_finished_run_lists_what_it_has_made(finished_run: Path) -> None:
    (finished_run / "dashboard.png").write_bytes(b"\x89PNG")
    (finished_run / "figures").mkdir()
    (finished_run / "figures" / "film.gif").write_bytes(b"GIF8")
    (finished_run / "notes.txt").write_text("mine")
    found = by_name(artefacts_of(finished_run))
    kinds = {name: artefact.kind for name, artefact in found.items() if not name.startswith("snapshots/")}
    assert kinds == {
        "checkpoint_epoch_1": "checkpoint", "checkpoint_epoch_2": "checkpoint", "final_model": "model",
        "final_model.pt": "model", "dashboard.png": "picture", "figures/film.gif": "picture",
    }  # fmt: skip
    assert len([name for name in found if name.startswith("snapshots/")]) == 5
    manifest = (finished_run / "checkpoint_epoch_1" / "manifest.json").read_bytes()
    assert found["checkpoint_epoch_1"].sha256 == hashlib.sha256(manifest).hexdigest()
    files = [path for path in (finished_run / "checkpoint_epoch_1").rglob("*") if path.is_file()]
    assert found["checkpoint_epoch_1"].bytes == sum(path.stat().st_size for path in files)
    assert found["final_model.pt"].condition is Condition.UNCHECKED
    assert str(finished_run) not in json.dumps([artefact.to_dict() for artefact in found.values()])


def test_what_was_read_once_is_known_by_size_and_time(
    store: ExperimentStore, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = store.checked_artefacts(run_id)
    assert {artefact.condition for artefact in checked} == {Condition.UNCHANGED}
    assert all(artefact.sha256 for artefact in checked)
    monkeypatch.setattr(artefacts, "verified", None)  # nothing is read again
    assert store.artefacts(run_id) == checked == store.checked_artefacts(run_id)


def test_a_run_whose_row_is_made_again_keeps_its_checksums(
    store: ExperimentStore, run_id: str, finished_run: Path
) -> None:
    checked = store.checked_artefacts(run_id)
    store.annotate(run_id, tags=["kept"])
    store.reindex()
    assert store.artefacts(run_id) == checked
    shutil.rmtree(finished_run)
    store.refresh()
    with store._database.reading() as connection:
        assert connection.execute("SELECT COUNT(*) FROM artefacts").fetchone() == (0,)


@pytest.mark.parametrize("name", ["checkpoint_epoch_1", "final_model"])
def test_a_changed_byte_of_a_directory_with_checksums_is_noticed(
    store: ExperimentStore, run_id: str, finished_run: Path, name: str
) -> None:
    store.checked_artefacts(run_id)
    weights = next((finished_run / name).glob("*.safetensors"))
    before = weights.stat()
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert by_name(store.artefacts(run_id))[name].condition is Condition.UNCHECKED
    found = by_name(store.checked_artefacts(run_id))[name]
    assert found.condition is Condition.CHANGED
    assert found.detail.startswith(f"{name}/{weights.name}: damaged")
    assert str(finished_run) not in found.detail

    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))  # as if nothing had happened
    assert by_name(store.checked_artefacts(run_id))[name].condition is Condition.UNCHANGED
    assert by_name(store.checked_artefacts(run_id, again=True))[name].condition is Condition.CHANGED


def test_a_file_that_changes_after_the_run_is_noticed_and_one_that_the_run_writes_is_not(
    store: ExperimentStore, run_id: str, finished_run: Path
) -> None:
    store.checked_artefacts(run_id)
    (finished_run / "final_model.pt").write_bytes(b"another")
    found = by_name(store.checked_artefacts(run_id))["final_model.pt"]
    assert found.condition is Condition.CHANGED
    assert "no longer that of the SHA-256" in found.detail

    report = finished_run / "experiment_report.json"
    later = json.loads(report.read_text()) | {"updated_at": 4e9}  # the run was at work after the checksum was taken
    report.write_text(json.dumps(later))
    assert by_name(store.checked_artefacts(run_id))["final_model.pt"].condition is Condition.UNCHANGED


def test_what_was_logged_is_looked_for_where_it_was(finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "table.csv").write_bytes(b"a,b\n")
    log_artefact(finished_run, tmp_path / "outside" / "table.csv", "table", "logged", 1.0)
    log_artefact(finished_run, tmp_path / "outside", "folder", "logged", 1.0)
    digest = hashlib.sha256(b"a,b\n").hexdigest()
    found = by_name(artefacts_of(finished_run))
    assert (found["table"].sha256, found["table"].condition) == (digest, Condition.UNCHANGED)
    assert found["folder"].sha256 == hashlib.sha256(f"{digest}  table.csv\n".encode()).hexdigest()

    (tmp_path / "outside" / "table.csv").write_bytes(b"a,b,c\n")
    found = by_name(artefacts_of(finished_run))
    assert (found["table"].condition, found["table"].detail) == (
        Condition.CHANGED, "it has 6 bytes, and had 4 when it was logged",
    )  # fmt: skip
    shutil.rmtree(tmp_path / "outside")
    found = by_name(artefacts_of(finished_run))
    assert [found[name].condition for name in ("table", "folder")] == [Condition.MISSING, Condition.MISSING]
    assert found["table"].sha256 == digest


def test_a_name_means_what_was_logged_last(finished_run: Path, tmp_path: Path) -> None:
    for text in ("one", "two"):
        (tmp_path / text).write_text(text)
        log_artefact(finished_run, tmp_path / text, "model", "model", 1.0)
    assert artefact_of(finished_run, "model").sha256 == hashlib.sha256(b"two").hexdigest()
    with pytest.raises(UserError, match="no artefact 'modle'; did you mean 'model'"):
        artefact_of(finished_run, "modle")


def test_a_damaged_list_is_named(finished_run: Path) -> None:
    (finished_run / "artifacts.json").write_text('{"artifacts": 7}')
    with pytest.raises(UserError, match=r"artifacts\.json: damaged"):
        artefacts_of(finished_run)
