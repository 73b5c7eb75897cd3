"""The model registry: numbers are unique and never change their bytes, aliases remember, damage is found and named."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.finished_runs import finished, write_model
from tests.test_architecture import ROOT
from training.checkpoints.run_lock import RunLock
from training.checkpoints.run_search import VERSION_NAME, find_runs
from training.errors import UserError
from training.experiments.model_versions.local_registry import INDEX_NAME, LocalRegistry
from training.experiments.model_versions.registry import DamagedVersionError
from training.experiments.model_versions.version import Damage, read_version
from training.storage.checksums import sealed

PROGRAM = ROOT / "tests" / "support" / "programs" / "killed_registrations.py"
NOW = 1_764_550_000.0


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with two versions of `digits`, of two runs; `prod` has pointed to both, and points to the second."""
    folder = tmp_path_factory.mktemp("registry")
    registry = LocalRegistry(folder / "models", clock=lambda: NOW)
    registry.register("digits", finished(folder / "runs" / "a", b"one"), note="first")
    other = {"schedule": {"learning_rate": 3e-4}}
    registry.register("digits", finished(folder / "runs" / "b", b"other", settings=other))
    registry.point("digits", "prod", "1")
    registry.point("digits", "prod", "2")
    return folder


@pytest.fixture
def folder(first: Path, tmp_path: Path) -> Path:
    """The same, as a copy that a test may change."""
    shutil.copytree(first, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def registry(folder: Path) -> LocalRegistry:
    return LocalRegistry(folder / "models", clock=lambda: NOW)


# -- registering ---------------------------------------------------------------------------------------------------


def test_a_version_says_what_it_is_and_outlives_its_run(first: Path, folder: Path, registry: LocalRegistry) -> None:
    run, model = first / "runs" / "b", registry.find("digits:2")
    shutil.rmtree(folder / "runs")
    directory = registry.directory(model)
    assert sorted(model.files) == sorted(
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_file() and path.name != VERSION_NAME
    )
    for name in model.files:
        assert (directory / name).read_bytes() == (run / name).read_bytes()
    assert (model.family, model.note, model.registered_at) == ("apt", "", NOW)
    assert model.settings is not None
    assert model.settings["schedule.learning_rate"] == 3e-4
    assert (model.data_fingerprint, model.figures["val_loss"], model.figures["step"]) == ("0123456789abcdef", 1.0, 20.0)
    assert model.run is not None
    assert (model.run.directory, model.run.state, model.run.model_step) == (str(run), "finished", 20)
    assert registry.find("digits:1").note == "first"


def test_the_same_bytes_are_the_version_that_they_were(registry: LocalRegistry, folder: Path) -> None:
    again = registry.register("digits", finished(folder / "runs" / "again", b"one"), note="once more")
    assert (again.is_new, again.version.number, again.version.note) == (False, 1, "first")
    assert registry.numbers("digits") == [1, 2]
    under_another_name = registry.register("others", folder / "runs" / "a")
    assert (under_another_name.is_new, under_another_name.version.number) == (True, 1)


def test_a_number_is_never_given_twice_even_when_its_version_is_gone(registry: LocalRegistry, folder: Path) -> None:
    shutil.rmtree(registry.root / "digits" / "2")
    assert registry.register("digits", finished(folder / "runs" / "c", b"c")).version.number == 3
    assert registry.numbers("digits") == [1, 3]
    with pytest.raises(UserError, match=r"^digits has no version 2; it has 1, 3$"):
        registry.find("digits@prod")


def test_any_finished_model_can_be_registered_and_keeps_what_is_known_of_it(
    registry: LocalRegistry, folder: Path
) -> None:
    alone = registry.register("plain", write_model(folder / "somewhere", b"plain")).version
    assert (alone.run, alone.settings, alone.figures, alone.data_fingerprint) == (None, None, {}, None)
    assert sorted(alone.files) == [f"final_model/{n}" for n in ("checksums.json", "config.json", "model.safetensors")]
    registry.pull("digits:2", folder / "pulled")
    elsewhere = LocalRegistry(folder / "elsewhere").register("digits", folder / "pulled").version
    original = registry.find("digits:2")
    for name in ("digest", "settings", "figures", "data_fingerprint", "run", "files", "family", "task"):
        assert getattr(elsewhere, name) == getattr(original, name), name


def test_files_that_are_links_are_copied_as_files_and_hidden_ones_are_left_out(tmp_path: Path) -> None:
    model = write_model(tmp_path / "cache" / "snapshot", b"weights")
    (model / "model.safetensors").rename(tmp_path / "blob")
    (model / "model.safetensors").symlink_to(tmp_path / "blob")
    (model / ".gitattributes").write_text("hidden")
    registry = LocalRegistry(tmp_path / "models")
    version = registry.register("m", model).version
    assert "final_model/.gitattributes" not in version.files
    (tmp_path / "blob").write_bytes(b"another")
    assert [checked.faults for checked in registry.verify()] == [[]]


# -- what a version was trained on from ----------------------------------------------------------------------------


def base(path: object) -> dict[str, dict[str, object]]:
    return {"model": {"base_model": str(path)}}


def test_the_parent_is_the_version_that_the_run_was_started_from(registry: LocalRegistry, folder: Path) -> None:
    from_version = finished(folder / "runs" / "c", b"c", settings=base(registry.model_path(registry.find("digits:1"))))
    from_run = finished(folder / "runs" / "d", b"d", settings=base(folder / "runs" / "b" / "final_model"))
    from_elsewhere = finished(folder / "runs" / "e", b"e", settings=base("some/model-of-the-hub"))
    parents = [registry.register("digits", run).version.parent for run in (from_version, from_run, from_elsewhere)]
    assert [str(parent) for parent in parents] == ["digits:1", "digits:2", "None"]
    assert registry.find("digits:5").started_from == "some/model-of-the-hub"


def test_a_run_that_went_on_has_its_own_earlier_version_as_parent(registry: LocalRegistry, folder: Path) -> None:
    later = finished(folder / "more" / "a", b"later", model_step=30)  # its run has the id of the first version's
    assert str(registry.register("digits", later).version.parent) == "digits:1"


# -- figures are those of the weights ------------------------------------------------------------------------------


@pytest.mark.parametrize(("model_step", "val_loss"), [(20, 1.0), (10, 2.0), (15, None)])
def test_validation_figures_are_those_of_the_weights_or_are_not_there(
    model_step: int, val_loss: float | None, tmp_path: Path
) -> None:
    run = finished(tmp_path / "run", model_step=model_step)
    figures = LocalRegistry(tmp_path / "models").register("m", run).version.figures
    assert figures.get("val_loss") == val_loss
    assert ("val_accuracy" in figures) == (val_loss is not None)
    assert figures["best_loss"] == 1.0


def test_a_figure_that_is_not_finite_stays_one(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", validation=lambda epoch: 2.0 if epoch == 1 else float("nan"))
    figures = LocalRegistry(tmp_path / "models").register("m", run).version.figures
    assert "val_loss" in figures
    assert figures["val_loss"] is None


def test_a_run_that_is_not_where_its_model_was_saved_is_refused(folder: Path, registry: LocalRegistry) -> None:
    run = folder / "runs" / "a"
    lock = RunLock.take(run)
    assert lock is not None
    with pytest.raises(UserError, match="the run is at work"):
        registry.register("digits", run)
    lock.release()
    with (run / "progress.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps({"event": "run_resumed", "time": 2e9, "step": 20}) + "\n")
    with pytest.raises(UserError, match=r"the run went on after it had saved final_model/"):
        registry.register("digits", run)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder / "nothing", "there is no such run or model"),
        (lambda folder: folder, "there is no model in this directory"),
        (lambda folder: folder / "runs" / "a" / "final_model" / "config.json", "a model is a directory"),
    ],
)
def test_what_is_no_finished_model_is_refused(
    make: Callable[[Path], Path], said: str, registry: LocalRegistry, folder: Path
) -> None:
    with pytest.raises(UserError, match=said):
        registry.register("new", make(folder))
    assert registry.names() == ["digits"]


def test_a_damaged_model_is_not_registered(registry: LocalRegistry, folder: Path) -> None:
    (folder / "runs" / "a" / "final_model" / "model.safetensors").write_bytes(b"eno")
    with pytest.raises(UserError, match=r"model\.safetensors: damaged"):
        registry.register("new", folder / "runs" / "a")
    (folder / "runs" / "b" / "final_model" / "more").mkdir()
    (folder / "runs" / "b" / "final_model" / "link").symlink_to(folder)
    with pytest.raises(UserError, match="a link to a directory"):
        registry.register("new", folder / "runs" / "b")
    assert not (registry.root / "new").exists()


# -- names ---------------------------------------------------------------------------------------------------------


HOSTILE_NAMES = (
    *("", ".", "..", "../up", "a/b", "a\\b", "/abs", ".hidden", "-dash", "a b", "a:1", "a@b", "red\x1b[31m"),
    *("two\nlines", "模型", "x" * 65, "con", "NUL.txt", "com1", "dot.", "\ud800", "a\0b"),
)


def test_a_name_that_is_no_directory_everywhere_is_refused_in_one_line(registry: LocalRegistry) -> None:
    before = sorted(registry.root.rglob("*"))
    model = registry.root / "digits" / "1"
    for name in HOSTILE_NAMES:
        with pytest.raises(UserError) as as_model:
            registry.register(name, model)
        with pytest.raises(UserError) as as_alias:
            registry.point("digits", name, "1")
        for said in (str(as_model.value), str(as_alias.value)):
            assert said.isprintable()
            assert len(said) < 250
    assert sorted(registry.root.rglob("*")) == before


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda r: r.find("digts:1"), "there is no model 'digts' in .*did you mean 'digits'"),
        (lambda r: r.find("digits:3"), "digits has no version 3; it has 1, 2"),
        (lambda r: r.find("digits:0"), "a version is a whole number from 1, such as digits:3"),
        (lambda r: r.find("digits:²"), "a version is a whole number"),
        (lambda r: r.find("digits@prd"), "digits has no alias 'prd'; did you mean 'prod'"),
        (lambda r: r.find("digits@"), "an alias ''"),
        (lambda r: r.point("digits", "latest", "1"), "@latest always means the newest version"),
        (lambda r: r.point("digits", "17", "1"), "it would read as the number of a version"),
        (lambda r: r.point("digits", "best", "9"), "digits has no version 9"),
        (lambda r: r.rollback("digits", "best"), "digits has no alias 'best'"),
        (
            lambda r: r.register("Digits", r.root / "digits" / "1"),
            "there is 'digits', which some disks take for the same",
        ),
        (lambda r: LocalRegistry(r.root / "none").names(), "there is no such directory; `register` makes the registry"),
    ],
)
def test_what_is_not_there_is_named_in_one_line(
    call: Callable[[LocalRegistry], Any], said: str, registry: LocalRegistry
) -> None:
    with pytest.raises(UserError, match=said):
        call(registry)


def test_a_version_is_found_by_number_alias_and_name(registry: LocalRegistry) -> None:
    found = {text: registry.find(text).number for text in ("digits", "digits:1", "digits@prod", "digits@latest")}
    assert found == {"digits": 2, "digits:1": 1, "digits@prod": 2, "digits@latest": 2}


# -- aliases -------------------------------------------------------------------------------------------------------


def test_an_alias_goes_back_the_way_that_it_came(registry: LocalRegistry, folder: Path) -> None:
    registry.register("digits", finished(folder / "runs" / "c", b"c"))
    registry.point("digits", "prod", "3")
    registry.point("digits", "prod", "latest")
    assert [registry.rollback("digits", "prod") for _ in range(2)] == [(3, 2), (2, 1)]
    with pytest.raises(UserError, match="has only pointed to version 1: there is nothing to go back to"):
        registry.rollback("digits", "prod")
    moves = [(move.number, move.how) for move in registry.history("digits", "prod")]
    assert moves == [(1, "set"), (2, "set"), (3, "set"), (2, "rollback"), (1, "rollback")]


def test_a_rollback_to_a_version_that_is_gone_changes_nothing(registry: LocalRegistry) -> None:
    shutil.rmtree(registry.root / "digits" / "1")
    with pytest.raises(UserError, match="digits has no version 1"):
        registry.rollback("digits", "prod")
    assert registry.aliases("digits") == {"prod": 2}


class Use(RuleBasedStateMachine):
    """Any sequence of calls, beside the simplest account of what they must lead to."""

    models: list[Path]

    def __init__(self) -> None:
        super().__init__()
        self.place = tempfile.TemporaryDirectory()
        self.registry = LocalRegistry(Path(self.place.name) / "models")
        self.bytes: dict[str, list[int]] = {}
        self.trails: dict[tuple[str, str], list[int]] = {}
        self.moves: dict[tuple[str, str], list[int]] = {}

    def teardown(self) -> None:
        self.place.cleanup()

    @rule(name=st.sampled_from(["a", "b"]), model=st.integers(0, 4))
    def register(self, name: str, model: int) -> None:
        known = self.bytes.setdefault(name, [])
        done = self.registry.register(name, self.models[model])
        assert done.is_new == (model not in known)
        if done.is_new:
            known.append(model)
        assert done.version.number == known.index(model) + 1

    @precondition(lambda self: self.bytes)
    @rule(alias=st.sampled_from(["prod", "best"]), data=st.data())
    def point(self, alias: str, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.bytes)))
        number = data.draw(st.integers(1, len(self.bytes[name])))
        trail = self.trails.setdefault((name, alias), [])
        done = self.registry.point(name, alias, str(number))
        assert (done.is_done, done.before) == (True, trail[-1] if trail else None)
        if trail[-1:] != [number]:
            trail.append(number)
            self.moves.setdefault((name, alias), []).append(number)

    @precondition(lambda self: self.trails)
    @rule(data=st.data())
    def rollback(self, data: st.DataObject) -> None:
        name, alias = data.draw(st.sampled_from(sorted(self.trails)))
        trail = self.trails[name, alias]
        if len(trail) < 2:
            with pytest.raises(UserError, match="nothing to go back to"):
                self.registry.rollback(name, alias)
            return
        assert self.registry.rollback(name, alias) == (trail.pop(), trail[-1])
        self.moves[name, alias].append(trail[-1])

    @invariant()
    def numbers_and_history_are_right(self) -> None:
        for name, models in self.bytes.items():
            assert self.registry.numbers(name) == list(range(1, len(models) + 1))
            own = {alias: trail[-1] for (of, alias), trail in self.trails.items() if of == name}
            assert self.registry.aliases(name) == own
        for (name, alias), moves in self.moves.items():
            assert [move.number for move in self.registry.history(name, alias)] == moves


def test_any_sequence_of_calls_keeps_numbers_unique_and_history_right(tmp_path: Path) -> None:
    Use.models = [write_model(tmp_path / str(n), bytes([n])) for n in range(5)]
    case = Use.TestCase
    case.settings = settings(max_examples=8, stateful_step_count=12)
    case("runTest").runTest()


# -- verifying and fetching ----------------------------------------------------------------------------------------


def faults(registry: LocalRegistry, reference: str | None = None) -> dict[str, Damage]:
    return {
        f"{checked.number}/{fault.path}": fault.damage
        for checked in registry.verify(reference)
        for fault in checked.faults
    }


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_every_damaged_missing_or_added_file_is_named(registry: LocalRegistry) -> None:
    assert faults(registry) == {}
    one, two = registry.root / "digits" / "1", registry.root / "digits" / "2"
    flip(one / "final_model" / "model.safetensors", 1)
    (one / "config.yaml").unlink()
    (one / "final_model" / "added.bin").write_bytes(b"added")
    (two / "final_model" / "config.json").unlink()
    (two / "final_model" / "config.json").symlink_to(one / "final_model" / "config.json")
    with (two / "experiment_report.json").open("a") as file:
        file.write(" ")
    assert faults(registry) == {
        "1/final_model/model.safetensors": Damage.DAMAGED,
        "1/config.yaml": Damage.MISSING,
        "1/final_model/added.bin": Damage.ADDED,
        "2/final_model/config.json": Damage.DAMAGED,
        "2/experiment_report.json": Damage.DAMAGED,
    }
    assert set(faults(registry, "digits@prod")) == {"2/final_model/config.json", "2/experiment_report.json"}


def test_damaged_documents_and_versions_that_are_gone_are_named(registry: LocalRegistry) -> None:
    flip(registry.root / "digits" / "1" / VERSION_NAME, 100)
    shutil.rmtree(registry.root / "digits" / "2")
    assert faults(registry) == {f"1/{VERSION_NAME}": Damage.DAMAGED, "2/.": Damage.MISSING}
    flip(registry.root / "digits" / INDEX_NAME, 100)
    assert faults(registry) == {f"1/{VERSION_NAME}": Damage.DAMAGED, f"None/{INDEX_NAME}": Damage.DAMAGED}
    with pytest.raises(UserError, match=r"registry\.json: damaged, .*; restore it, or delete it: the aliases are lost"):
        registry.aliases("digits")


def test_what_is_pulled_is_the_version_and_a_damaged_one_writes_nothing(registry: LocalRegistry, folder: Path) -> None:
    output = folder / "out"
    version = registry.pull("digits@prod", output)
    assert read_version(output) == version
    assert {p.relative_to(output).as_posix() for p in output.rglob("*") if p.is_file()} == {
        *version.files,
        VERSION_NAME,
    }
    with pytest.raises(UserError, match="there is something already, and nothing is replaced"):
        registry.pull("digits:1", output)
    flip(registry.root / "digits" / "1" / "final_model" / "model.safetensors", 0)
    with pytest.raises(DamagedVersionError, match="damaged, it is not as it was registered; nothing was written"):
        registry.pull("digits:1", folder / "damaged")
    (registry.root / "digits" / "1" / "final_model" / "model.safetensors").unlink()
    with pytest.raises(DamagedVersionError, match="it is no longer there; nothing was written"):
        registry.pull("digits:1", folder / "damaged")
    assert sorted(path.name for path in folder.iterdir()) == ["models", "out", "runs"]


@pytest.mark.parametrize("path", ["../../evil", "/evil", "final_model/../../evil", "a\\b", "C:evil", ".hidden/x"])
def test_a_document_that_leads_out_of_its_directory_is_refused(path: str, registry: LocalRegistry) -> None:
    file = registry.root / "digits" / "1" / VERSION_NAME
    document = json.loads(file.read_text(encoding="utf-8"))
    del document["blake2b"]
    document["files"][path] = {"bytes": 4, "sha256": "0" * 64}
    file.write_bytes(sealed(document))
    with pytest.raises(UserError, match="it names the file"):
        registry.pull("digits:1", registry.root.parent / "out")


def test_a_version_that_was_moved_is_not_taken_for_another(registry: LocalRegistry) -> None:
    shutil.copytree(registry.root / "digits" / "1", registry.root / "digits" / "7")
    with pytest.raises(UserError, match="it is the document of digits:1"):
        registry.find("digits:7")


# -- several processes, and kills ----------------------------------------------------------------------------------


def program(folder: Path, what: str) -> list[Any]:
    for number in range(10):
        write_model(folder / f"model_{number}", bytes([number]))
    words = [sys.executable, str(PROGRAM), str(folder), what]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="processes are forked")
def test_a_kill_at_any_change_of_the_disk_leaves_a_whole_version_or_none(tmp_path: Path) -> None:
    lines = program(tmp_path, "kill")
    assert len(lines) > 12
    assert [was_killed for was_killed, *_ in lines] == [True] * (len(lines) - 1) + [False]
    seen = [numbers for _, numbers, *_ in lines]
    assert seen == sorted(seen)
    assert seen[0] == [1]
    assert seen[-2] == [1, 2], "after the last kills the version is there"
    for _, _, found, again, after, left in lines:
        assert (found, again, after, left) == ([], 2, [1, 2, 3], [])


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="processes are forked")
def test_two_processes_that_register_at_once_get_different_numbers(tmp_path: Path) -> None:
    [[codes, one, other]] = program(tmp_path, "race")
    assert codes == [0, 0]
    assert one == sorted(one)
    assert sorted([*one, *other]) == list(range(1, 11))
    assert faults(LocalRegistry(tmp_path / "race")) == {}


def test_no_search_for_runs_takes_a_version_for_one(registry: LocalRegistry, folder: Path) -> None:
    assert [path.name for path in find_runs([folder], [])] == ["a", "b"]


def test_a_full_disk_is_one_line_and_leaves_nothing(registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path, expected: object) -> bool:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("training.experiments.model_versions.local_registry.copy_file", full)
    with pytest.raises(
        UserError, match=r"the version could not be written \(No space left on device; .*nothing was reg"
    ):
        registry.register("new", registry.root.parent / "runs" / "a")
    assert [p.name for p in (registry.root / "new").iterdir()] == [".lock"]
    assert registry.names() == ["digits"]
    assert re.fullmatch(r"[0-9a-f]{64}", registry.find("digits:1").digest)
