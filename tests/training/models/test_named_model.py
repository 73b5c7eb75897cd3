"""Models by name: a family, a directory, a finished run or OWNER/NAME on the Hub, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contracts.task_contract import HEAVY
from training.errors import CheckpointError, ConfigError
from training.models.named_model import NamedModel, family_of_directory, named_model, with_named_model

ROOT = Path(__file__).resolve().parents[3]

Make = Callable[[str, object], Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a JSON file in `tmp_path`, with the directories above it, and return its directory."""

    def write(name: str, content: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        return path.parent

    return write


DESCRIBED = {"format": "apt-trainer-model", "version": 1, "family": "apt", "options": {}, "vocabulary": 9}


def test_a_family_and_a_class_are_taken_as_they_are() -> None:
    assert named_model("apt") == NamedModel("apt")
    assert named_model("my.package:Family") == NamedModel("my.package:Family")


@pytest.mark.parametrize(("file", "content", "family"), [
    ("config.json", {"model_type": "llama"}, "huggingface"),
    ("config.json", {"model_type": "apt"}, "apt"),
    ("config.json", {"model_type": ["of", "no", "kind"]}, "huggingface"),
    ("adapter_config.json", {}, "huggingface"),
    ("model.json", DESCRIBED, "apt"),
])  # fmt: skip
def test_a_directory_tells_the_family_of_its_model(make: Make, file: str, content: object, family: str) -> None:
    directory = make(file, content)
    assert named_model(str(directory)) == NamedModel(family, str(directory))
    assert family_of_directory(directory) == family


def test_a_run_stands_for_its_finished_model(make: Make, tmp_path: Path) -> None:
    directory = make("run/final_model/config.json", {"model_type": "llama"})
    assert named_model(str(tmp_path / "run")) == NamedModel("huggingface", str(directory))


def test_a_checkpoint_is_no_model_to_start_from(make: Make) -> None:
    make("checkpoint_step_2/config.json", {"model_type": "llama"})
    directory = make("checkpoint_step_2/manifest.json", {})
    with pytest.raises(ConfigError, match="a checkpoint of a run; go on with it by --resume"):
        named_model(str(directory))


def test_a_name_of_two_parts_is_one_of_the_hub_unless_a_directory_begins_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert named_model("owner/name") == NamedModel("huggingface", "owner/name")
    (tmp_path / "owner" / "nam").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"--model owner/name: there is no such directory; did you mean 'nam'\?"):
        named_model("owner/name")


@pytest.mark.parametrize(("text", "line"), [
    ("atp", "unknown model family.*did you mean 'apt'"),
    ("/no/such/place", "no such directory"),
    ("~nobody-here/x", "there is no user 'nobody-here'"),
    ("", "is empty"),
    ("a\0b", "null byte"),
    ("x" * 5000, "too long"),
])  # fmt: skip
def test_all_else_is_refused_in_one_line(text: str, line: str) -> None:
    with pytest.raises(ConfigError, match=f"^--model .*{line}") as refused:
        named_model(text)
    assert "\n" not in str(refused.value)


def test_a_file_is_refused_with_the_directory_that_is_meant(tmp_path: Path) -> None:
    (tmp_path / "final_model.pt").touch()
    with pytest.raises(ConfigError, match=rf"this is a file; give {tmp_path}/final_model$"):
        named_model(str(tmp_path / "final_model.pt"))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ConfigError, match="give the directory that it lies in"):
        named_model(str(tmp_path / "model.safetensors"))


def test_a_damaged_description_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: damaged, not JSON"):
        named_model(str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="there is no model in this directory"):
        family_of_directory(tmp_path / "empty")


def test_settings_with_a_place_name_the_family_and_the_base(make: Make) -> None:
    directory = make("config.json", {"model_type": "llama"})
    expected = {"model.model": "huggingface", "model.base_model": str(directory), "run.epochs": 2}
    assert with_named_model({"model.model": str(directory), "run.epochs": 2}) == expected
    assert with_named_model({"model.model": "apt"}) == {"model.model": "apt"}
    assert with_named_model({"run.epochs": 2}) == {"run.epochs": 2}


@pytest.mark.slow
def test_the_help_of_a_model_in_a_directory_imports_nothing_heavy(make: Make) -> None:
    directory = make("config.json", {"model_type": "llama"})
    program = (
        "import sys; from training.train import main\n"
        f"main(['--model', {str(directory)!r}, '--task', 'text', '--help'])\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    path = os.pathsep.join([str(ROOT), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr.strip() == "[]"
    assert "--lora-rank" in done.stdout
