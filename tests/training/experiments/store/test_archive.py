"""Runs that leave in a zip file and arrive elsewhere: the same files and rows, or one line and nothing changed."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.recorded_runs import RecordedRun
from training.checkpoints.run_lock import RunLock
from training.errors import UserError
from training.experiments.store.archive import (
    FORMAT,
    MANIFEST_NAME,
    VERSION,
    RunToExport,
    read_archive,
    write_archive,
)
from training.experiments.store.index import ExperimentStore
from training.experiments.store.query import Query
from training.experiments.tracker import ExperimentConfig, ExperimentTracker
from training.storage.checksums import sealed

Files = dict[str, bytes]


def files_below(directory: Path) -> Files:
    found = (path for path in directory.rglob("*") if path.is_file())
    files = {path.relative_to(directory).as_posix(): path.read_bytes() for path in found}
    return {name: content for name, content in files.items() if not name.startswith(".server/")}


def rows_of(root: Path) -> list[dict[str, Any]]:
    with ExperimentStore(root) as store:
        store.refresh()
        rows = store.runs(Query(archived=None, sort="name"))
        return [
            {**row.to_dict(), "settings": store.settings(row.id), "figures": repr(store.figures(row.id))}
            for row in rows
        ]


def recorded(path: Path) -> Path:
    RecordedRun(path, start=1e9, validation=lambda epoch: 2.0 / epoch).train(30).finish()
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with two runs, one of them with what a run may leave besides its record."""
    root = tmp_path_factory.mktemp("source")
    recorded(root / "sweep" / "a")
    extended = recorded(root / "sweep" / "b")
    for name in ("checkpoint_step_20/model.safetensors", "snapshots/step_000000001.safetensors", "名/curve.png"):
        (extended / name).parent.mkdir(exist_ok=True)
        (extended / name).write_bytes(name.encode() * 50)
    (extended / ".cache").mkdir()
    (extended / ".cache" / "hidden").write_bytes(b"hidden")
    return root


def to_export(root: Path, *names: str) -> list[RunToExport]:
    return [RunToExport(name, root / name) for name in names]


@pytest.fixture(scope="module")
def archive(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "runs.zip"
    assert write_archive(to_export(source, "sweep/a", "sweep/b"), path) == []
    return path


# -- there and back ------------------------------------------------------------------------------------------------


def test_what_arrives_is_what_left(source: Path, archive: Path, tmp_path: Path) -> None:
    imported = read_archive(archive, tmp_path / "elsewhere")
    wanted = {name: content for name, content in files_below(source).items() if "/." not in name}
    assert files_below(tmp_path / "elsewhere") == wanted
    rows = rows_of(tmp_path / "elsewhere")
    assert rows == rows_of(source)
    assert [one.id for one in imported] == [row["id"] for row in rows]
    assert list((tmp_path / "elsewhere" / ".server").glob("import")) == []


def test_a_folder_below_the_root_takes_them_a_second_time(archive: Path, tmp_path: Path) -> None:
    read_archive(archive, tmp_path)
    read_archive(archive, tmp_path, "again/once more")
    assert files_below(tmp_path / "again" / "once more" / "sweep") == files_below(tmp_path / "sweep")


def test_without_checkpoints_the_record_and_the_model_remain(source: Path, tmp_path: Path) -> None:
    write_archive(to_export(source, "sweep/b"), tmp_path / "light.zip", with_checkpoints=False)
    read_archive(tmp_path / "light.zip", tmp_path / "root")
    names = sorted(files_below(tmp_path / "root" / "sweep" / "b"))
    assert names == ["config.yaml", "experiment_report.json", "progress.jsonl", "名/curve.png"]


def test_a_run_inside_a_run_stays_one_of_its_own(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source / "sweep" / "a", tmp_path / "root" / "outer")
    shutil.copytree(source / "sweep" / "b", tmp_path / "root" / "outer" / "inner")
    write_archive(to_export(tmp_path / "root", "outer"), tmp_path / "one.zip")
    write_archive(to_export(tmp_path / "root", "outer/inner", "outer"), tmp_path / "both.zip")
    read_archive(tmp_path / "one.zip", tmp_path / "first")
    read_archive(tmp_path / "both.zip", tmp_path / "second")
    assert not (tmp_path / "first" / "outer" / "inner").exists()
    assert len(rows_of(tmp_path / "second")) == 2
    assert (tmp_path / "second" / "outer" / "inner" / "progress.jsonl").is_file()


NAMES = st.text("aB0é 名-_", min_size=1, max_size=6).filter(lambda name: name == name.strip())
CONTENT = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=300), max_size=6
).filter(lambda files: not any(a != b and b.startswith(f"{a}/") for a in files for b in files))
METRICS = st.dictionaries(st.sampled_from(["loss", "val_loss", "reward"]), st.floats(), min_size=1)


@settings(max_examples=8)
@given(CONTENT, st.lists(METRICS, max_size=4), st.dictionaries(NAMES, st.integers() | NAMES, max_size=3))
def test_any_run_arrives_as_it_was(files: Files, logged: list[dict[str, float]], chosen: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder) / "source"
        tracker = ExperimentTracker(root)
        with tracker.run(
            tracker.create_experiment(ExperimentConfig("any", "of any kind", ["x"])), settings=chosen
        ) as run:
            for metrics in logged:
                run.log_metrics(metrics)
            for name, content in files.items():
                path = run.path / "files" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        tracker.export(Path(folder) / "runs.zip")
        read_archive(Path(folder) / "runs.zip", Path(folder) / "elsewhere")
        arrived = files_below(Path(folder) / "elsewhere" / "any" / "run_0001")
        assert arrived == files_below(run.path)
        assert rows_of(Path(folder) / "elsewhere") == rows_of(root)


# -- refused on the way out ----------------------------------------------------------------------------------------


def test_a_run_at_work_is_refused(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source / "sweep" / "a", tmp_path / "a")
    lock = RunLock.take(tmp_path / "a")
    assert lock is not None
    with pytest.raises(UserError, match=r"a: the run is at work \(pid \d+\), .* stop it, or wait"):
        write_archive(to_export(tmp_path, "a"), tmp_path / "a.zip")
    lock.release()
    assert not (tmp_path / "a.zip").exists()
    write_archive(to_export(tmp_path, "a"), tmp_path / "a.zip")


def test_a_run_that_changes_meanwhile_is_refused(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "a"
    shutil.copytree(source / "sweep" / "a", run)
    whole = zipfile.ZipFile.writestr

    def write_and_change(self: zipfile.ZipFile, *args: Any, **options: Any) -> None:
        whole(self, *args, **options)  # the manifest, when all files have been read
        (run / "progress.jsonl").write_bytes((run / "progress.jsonl").read_bytes() + b"\n")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", write_and_change)
    with pytest.raises(UserError, match="was changed while it was read"):
        write_archive(to_export(tmp_path, "a"), tmp_path / "a.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_a_file_that_is_there_is_not_replaced(source: Path, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"mine")
    with pytest.raises(UserError, match="it is there already, and nothing is replaced"):
        write_archive(to_export(source, "sweep/a"), tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == b"mine"


def test_links_are_named_and_left_out(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source / "sweep" / "a", tmp_path / "a")
    (tmp_path / "a" / "secret.txt").symlink_to("/etc/hostname")
    (tmp_path / "a" / "home").symlink_to(Path.home())
    assert write_archive(to_export(tmp_path, "a"), tmp_path / "a.zip") == ["home", "secret.txt"]
    with zipfile.ZipFile(tmp_path / "a.zip") as made:
        assert not [name for name in made.namelist() if "secret" in name or "home" in name]


# -- hostile archives ----------------------------------------------------------------------------------------------

LOG = b'{"event": "run_started", "time": 1.0}\n'


def made(
    path: Path,
    files: Mapping[str, bytes],
    *,
    runs: Any = ("a",),
    listed: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Write an archive that our exporter would not write: the manifest is right, unless it is said otherwise."""
    entries = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    document = {
        "format": FORMAT, "version": VERSION, "created_at": 1.0,
        "runs": [{"id": "0" * 12, "path": name} for name in runs] if isinstance(runs, list | tuple) else runs,
        "files": {**entries, **(listed or {})}, **changes,
    }  # fmt: skip
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr(MANIFEST_NAME, sealed(document))
    return path


def with_log(*names: str) -> dict[str, bytes]:
    return {"runs/a/progress.jsonl": LOG, **dict.fromkeys(names, b"evil")}


TRAVERSAL = (
    "../evil", "runs/../../evil", "runs/a/../../../evil", "/etc/evil", "//evil", "runs/a/./evil", "runs//a/evil",
    "C:/evil", "C:evil", "runs\\a\\evil", "runs/a/..\\evil", "runs/a/.lock", ".server/token", "runs/a/.server/token",
    "runs/a/e\nvil",
    "runs/a/e\x1b[31mvil", "runs/a/\u202eevil", "runs/a/" + "x" * 300, "runs/a/" + "x/" * 600 + "evil", "runs/a/",
    "evil", "runs/b/evil", "runs/a2/evil", "~/evil/",
)  # fmt: skip


@pytest.mark.parametrize("name", TRAVERSAL)
def test_a_name_that_leads_elsewhere_is_refused_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = made(tmp_path / "evil.zip", with_log(name))
    refused(path, tmp_path)


def refused(path: Path, tmp_path: Path, message: str = ".") -> None:
    """Check that an archive is refused in one line, and that nothing but it is there afterwards."""
    before = sorted(p for p in tmp_path.rglob("*") if ".server" not in p.parts)
    with pytest.raises(UserError, match=message) as caught:
        read_archive(path, tmp_path / "root")
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()
    after = sorted(p for p in tmp_path.rglob("*") if ".server" not in p.parts and p != tmp_path / "root")
    assert after == before
    assert not list(tmp_path.rglob("import"))


def link(target: bytes) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        info = zipfile.ZipInfo("runs/a/model")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        made(path, {**with_log(), "runs/a/model": target})
        with zipfile.ZipFile(path) as first, zipfile.ZipFile(path.with_suffix(".2"), "w") as second:
            for name in first.namelist():
                second.writestr(info if name == "runs/a/model" else name, first.read(name))
        return path.with_suffix(".2")

    return make


def twice(path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made(path, with_log())
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("runs/a/progress.jsonl", LOG)
    return path


def bomb(path: Path) -> Path:
    return made(path, {**with_log(), "runs/a/zeros": bytes(80 * 2**20)})


def overlapping(path: Path) -> Path:
    """Let two entries of the list of files lead to the same bytes."""
    made(path, {**with_log(), "runs/a/one": b"x" * 1000, "runs/a/two": b"x" * 1000})
    content = bytearray(path.read_bytes())
    starts = [found.start() for found in re.finditer(b"PK\x01\x02", bytes(content))]
    one, two = (
        next(s for s in starts if content[s + 46 :].startswith(name)) for name in (b"runs/a/one", b"runs/a/two")
    )
    content[two + 42 : two + 46] = content[one + 42 : one + 46]
    path.write_bytes(bytes(content))
    return path


def encrypted(path: Path) -> Path:
    made(path, with_log())
    content = bytearray(path.read_bytes())
    for found in re.finditer(b"PK\x01\x02", bytes(content)):
        content[found.start() + 8] |= 1
    path.write_bytes(bytes(content))
    return path


def lying_about_size(path: Path) -> Path:
    """Say in the list of files that a packed file is longer than it unpacks to."""
    made(path, {**with_log(), "runs/a/model": b"x" * 1000}, listed={
        "runs/a/model": {"bytes": 2000, "sha256": hashlib.sha256(b"x" * 1000).hexdigest()}
    })  # fmt: skip
    content = bytearray(path.read_bytes())
    for found in re.finditer(b"PK\x01\x02", bytes(content)):
        if content[found.start() + 46 :].startswith(b"runs/a/model"):
            content[found.start() + 24 : found.start() + 28] = struct.pack("<I", 2000)
    path.write_bytes(bytes(content))
    return path


def altered(path: Path) -> Path:
    made(path, {**with_log(), "runs/a/model": b"x" * 50}, listed={"runs/a/model": {"bytes": 50, "sha256": "0" * 64}})
    return path


def cut(path: Path) -> Path:
    made(path, {**with_log(), "runs/a/model": bytes(range(256)) * 100})
    path.write_bytes(path.read_bytes()[:-200])
    return path


def unsealed(path: Path) -> Path:
    made(path, with_log())
    with zipfile.ZipFile(path) as archive:
        document = json.loads(archive.read(MANIFEST_NAME))
    document["created_at"] = 2.0
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("runs/a/progress.jsonl", LOG)
        archive.writestr(MANIFEST_NAME, json.dumps(document))
    return path


def text(path: Path) -> Path:
    path.write_text("no zip")
    return path


def plain_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("runs/a/progress.jsonl", LOG)
    return path


HOSTILE: Mapping[str, tuple[Callable[[Path], Path], str]] = {
    "link": (link(b"/etc/passwd"), "runs/a/model is a link"),
    "name twice": (twice, "stands there twice"),
    "bomb": (bomb, "a zip bomb"),
    "overlapping": (overlapping, "lies over"),
    "encrypted": (encrypted, "is encrypted"),
    "lying about size": (lying_about_size, "damaged"),
    "altered": (altered, "runs/a/model does not match its checksum"),
    "cut": (cut, "no zip file, or a damaged one"),
    "unsealed": (unsealed, "does not match its own checksum"),
    "text": (text, "no zip file"),
    "without manifest": (plain_zip, "there is no manifest.json in it"),
    "missing file": (
        lambda p: made(p, with_log(), listed={"runs/a/x": {"bytes": 1, "sha256": ""}}), "runs/a/x is missing"
    ),
    "other format": (lambda p: made(p, with_log(), format="other"), "has no format 'apt-runs'"),
    "newer": (lambda p: made(p, with_log(), version=2), "archive version 2 cannot be read"),
    "runs no list": (lambda p: made(p, with_log(), runs=7), "should be a list"),
    "no run": (lambda p: made(p, with_log(), runs=[]), "there is no run in it"),
    "no record": (lambda p: made(p, {"runs/a/x": b""}), "the run a has no record"),
    "run twice": (lambda p: made(p, with_log(), runs=["a", "a"]), "a run stands there twice"),
    "run elsewhere": (lambda p: made(p, with_log(), runs=["../a"]), "it leads elsewhere"),
    "run in a checkpoint": (lambda p: made(p, with_log(), runs=["checkpoint_best"]), "the name of a checkpoint"),
    "file and folder": (
        lambda p: made(p, {**with_log(), "runs/a/x": b"1", "runs/a/x/y": b"2"}), "is a file and a folder"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_or_damaged_archive_is_refused_and_nothing_is_written(kind: str, tmp_path: Path) -> None:
    make, message = HOSTILE[kind]
    refused(make(tmp_path / "evil.zip"), tmp_path, message)


@settings(max_examples=60)
@given(st.data())
def test_any_flipped_byte_is_noticed_or_harmless(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = made(Path(folder) / "a.zip", {**with_log(), "runs/a/model": b"weights" * 20})
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(bytes(content))
        try:
            read_archive(path, Path(folder) / "root")
        except UserError:
            assert files_below(Path(folder) / "root") == {}
        else:
            assert files_below(Path(folder) / "root") == {"a/progress.jsonl": LOG, "a/model": b"weights" * 20}


@pytest.fixture
def lightweight(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return made(tmp_path / "in" / "two.zip", {**with_log(), "runs/sub/b/progress.jsonl": LOG}, runs=["a", "sub/b"])


def test_nothing_that_is_there_is_replaced_and_none_of_the_others_appears(lightweight: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub" / "b").mkdir(parents=True)
    with pytest.raises(UserError, match=r"sub/b is there already.*--into"):
        read_archive(lightweight, root)
    assert files_below(root) == {}
    assert not (root / "a").exists()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_no_run_is_put_behind_a_link_or_a_file(kind: str, lightweight: Path, tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    if kind == "link":
        (root / "sub").symlink_to(outside)
    else:
        (root / "sub").write_text("mine")
    with pytest.raises(UserError, match="which is a link or a file"):
        read_archive(lightweight, root)
    assert list(outside.iterdir()) == []
    assert not (root / "a").exists()


def test_a_failure_in_the_midst_of_it_takes_all_of_it_back(
    lightweight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if target.name == "b":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(UserError, match="No space left on device"):
        read_archive(lightweight, tmp_path / "root")
    assert [path.name for path in (tmp_path / "root").iterdir()] == [".server"]


def test_what_a_killed_import_left_is_cleared_by_the_next(lightweight: Path, tmp_path: Path) -> None:
    leftover = tmp_path / "root" / ".server" / "import" / "0"
    leftover.mkdir(parents=True)
    (leftover / "half").write_bytes(b"half")
    read_archive(lightweight, tmp_path / "root")
    assert not leftover.exists()
    assert sorted(files_below(tmp_path / "root")) == ["a/progress.jsonl", "sub/b/progress.jsonl"]


@pytest.mark.parametrize("into", ["../x", "/x", ".server", "a/../../b", "x\n"])
def test_a_folder_elsewhere_is_refused(into: str, lightweight: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--into"):
        read_archive(lightweight, tmp_path / "root", into)
    assert not (tmp_path / "root").exists()
