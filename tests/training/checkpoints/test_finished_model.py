"""A finished model is written whole or not at all, and no loader takes one of which a byte was changed."""

from __future__ import annotations

import contextlib
import os
import random
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from apt_model.errors import ModelError
from apt_model.portable import load_portable
from tools import export_model, loss_landscape, verify_hlbd_model
from tools.diagnosis import runs
from training.checkpoints.finished_model import load_model_directory, load_trained_model
from training.checkpoints.single_file import digest
from training.errors import CheckpointError, UserError
from training.storage.checksums import NAME, check_checksums, write_checksums


def flip(path: Path, byte: int, bit: int) -> Callable[[], None]:
    """Change one bit of a file; the function that is returned changes it back."""
    with path.open("r+b") as file:
        file.seek(byte)
        value = file.read(1)[0]
        file.seek(byte)
        file.write(bytes([value ^ (1 << bit)]))

    def undo() -> None:
        flip(path, byte, bit)

    return undo


def flips(directory: Path, per_file: int) -> Iterator[tuple[Path, int, int]]:
    """Yield (file, byte, bit) spread over every file of a directory, its first and last bytes among them."""
    draw = random.Random(0)
    for path in sorted(directory.iterdir()):
        size = path.stat().st_size
        for byte in [0, size - 1, *(draw.randrange(size) for _ in range(per_file))]:
            yield path, byte, draw.randrange(8)


@pytest.mark.parametrize(
    ("load", "error"),
    [
        (lambda path: load_model_directory(path).model, CheckpointError),
        (lambda path: load_portable(path)[0], ModelError),
    ],
    ids=["training", "apt_model"],
)
def test_no_changed_bit_loads_other_weights(
    load: Callable[[Path], torch.nn.Module], error: type[Exception], finished_run: Path
) -> None:
    directory = finished_run / "final_model"
    whole, refused = digest(load(directory).state_dict()), 0
    for path, byte, bit in flips(directory, per_file=12):
        undo = flip(path, byte, bit)
        found = outcome(load, error, directory)
        undo()
        if found == whole:
            assert path.name == NAME, f"of any other file every byte counts: {path.name}, byte {byte}, bit {bit}"
            continue
        assert str(path) in found, (byte, bit)
        assert "\n" not in found
        refused += 1
    assert refused > 12 * len(list(directory.iterdir()))
    assert outcome(load, error, directory) == whole


def outcome(load: Callable[[Path], torch.nn.Module], error: type[Exception], directory: Path) -> str:
    """Return the digest of the weights that are loaded, or the refusal."""
    try:
        return digest(load(directory).state_dict())
    except error as refusal:
        return str(refusal)


LOADERS: dict[str, Callable[[Path], Any]] = {
    "Python": lambda run: load_trained_model(run / "final_model"),
    "a run directory": load_trained_model,
    "verify": lambda run: verify_hlbd_model.run(["--model", str(run)]),
    "export": lambda run: export_model.run([str(run), "--output", str(run.parent / "out")]),
    "landscape": lambda run: loss_landscape.run([str(run), "--checkpoint", str(run / "final_model")]),
}


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS.keys())
def test_every_loader_compares_the_checksums(load: Callable[[Path], Any], finished_run: Path) -> None:
    (finished_run / "final_model.pt").unlink()
    flip(finished_run / "final_model" / "model.safetensors", -1 + 900, 3)
    with pytest.raises(UserError, match=r"final_model/model\.safetensors: damaged"):
        load(finished_run)
    assert not (finished_run.parent / "out").exists()


def test_the_diagnosis_compares_them_too(finished_run: Path) -> None:
    flip(finished_run / "final_model" / "modeling_apt.py", 100, 0)
    found = [f for f in runs.diagnose_run(finished_run) if f.subject == "final model"]
    assert ["final_model/modeling_apt.py: damaged" in f.message for f in found] == [True, False]


def test_a_lost_file_is_named_and_one_that_was_added_is_not_looked_at(finished_run: Path) -> None:
    directory = finished_run / "final_model"
    (directory / "README.md").write_text("a user's own", encoding="utf-8")
    load_model_directory(directory)
    (directory / "tokenizer_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json is missing"):
        load_model_directory(directory)


def test_a_model_that_another_program_saved_has_none_and_is_read(finished_run: Path) -> None:
    (finished_run / "final_model" / NAME).unlink()
    load_model_directory(finished_run / "final_model")
    load_portable(finished_run / "final_model")


def test_one_that_was_changed_on_purpose_is_refused_with_the_remedy(finished_run: Path) -> None:
    directory = finished_run / "final_model"
    weights = load_portable(directory)[0].state_dict()
    (directory / "generation_config.json").write_text('{"do_sample": true}', encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"if you changed the model on purpose, delete {NAME}$"):
        load_model_directory(directory)
    (directory / NAME).unlink()
    assert digest(load_portable(directory)[0].state_dict()) == digest(weights)


def test_checksums_are_of_any_directory_with_names_of_any_kind(tmp_path: Path) -> None:
    for name in ("a", "深/b c", "empty"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"" if name == "empty" else name.encode())
    write_checksums(tmp_path)
    write_checksums(tmp_path)  # it does not describe itself
    check_checksums(tmp_path)
    (tmp_path / "深" / "b c").write_bytes(b"b")
    with pytest.raises(CheckpointError, match="cut short"):
        check_checksums(tmp_path)


# -- full disks --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the kernel refuse, as a full disk does, to write beyond a size; Python ignores the signal for it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(os.name == "nt", reason="file size limits are POSIX's")
@pytest.mark.parametrize("size", [0, 100, 3000])
def test_a_disk_that_is_full_is_one_line_and_the_model_before_it_stays(size: int, finished_run: Path) -> None:
    trained = load_trained_model(finished_run)
    before = {path.name: path.read_bytes() for path in (finished_run / "final_model").iterdir()}
    with largest_file(size), pytest.raises(UserError, match="the finished model could not be written") as refused:
        trained.save(finished_run / "final_model")
    assert "File too large; " in str(refused.value)
    assert "--resume" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert {path.name: path.read_bytes() for path in (finished_run / "final_model").iterdir()} == before
    assert not list(finished_run.glob(".*"))
