"""`tools/export_model.py`: any form of a model becomes a directory that others can use, or a page on the Hub."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import torch

from apt_model.generation import answer_prompts
from apt_model.model import APT
from apt_model.portable import load_portable
from apt_model.tokenizer import DynamicTagTokenizer
from tests.conftest import ROOT, FrontDoor, TinyDataset
from tests.support.hub_stand_in import HubStandIn, environment, hub_stand_in, pretend
from tests.support.small_apts import same_weights
from tools import export_model
from training.checkpoints.finished_model import load_trained_model
from training.errors import UserError
from training.publish import export as model_export
from training.publish.export import push_final_model
from training.publish.onnx_export import ONNX_NAME, greatest_difference
from training.settings.hub import HubConfig

REPO = "ada/apt-sums"
COMMAND = ROOT / "tools" / "export_model.py"
QUESTION = "12 + 34 = ?"


def export(*words: object) -> int:
    return export_model.run([str(word) for word in words])


def files(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


# huggingface_hub 2.4 gives large files to its HTTP library in a way that the latter has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")


# -- any form of a model ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["", "final_model.pt", "final_model", "checkpoint_epoch_1", "checkpoint_epoch_1.pt"])
def test_any_form_of_a_model_becomes_the_same_kind_of_directory(
    form: str, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(finished_run / form, "--output", tmp_path / "out" / "apt") == 0
    model, tokenizer = load_portable(tmp_path / "out" / "apt")
    trained = load_trained_model(finished_run / form)
    assert same_weights(model, trained.model)
    assert isinstance(tokenizer, DynamicTagTokenizer)
    assert tokenizer.to_dict() == trained.artefacts["tokenizer"]
    made = files(tmp_path / "out" / "apt")
    assert set(files(finished_run / "final_model")) | {"README.md", "training_curve.png"} == set(made)
    assert made["README.md"].decode().count("\n# apt\n") == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["apt"], "nothing is left beside it"
    assert "exported" in capsys.readouterr().out


def test_the_same_model_gives_the_same_bytes(finished_run: Path, tmp_path: Path) -> None:
    export(finished_run, "--output", tmp_path / "a")
    first = files(tmp_path / "a")
    export(finished_run, "--output", tmp_path / "a", "--overwrite")
    assert files(tmp_path / "a") == first


# -- what cannot be done ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "nothing to do"),
        (["--output", "OUT", "--format", "gguf"], "llama.cpp"),
        (["--output", "OUT", "--format", "onx"], "did you mean 'onnx'"),
        (["--output", "OUT", "--private"], "--push-to-hub OWNER/NAME"),
        (["--push-to-hub", "ada/my model"], "not a repository of the Hub"),
        (["--output", "FULL"], "other files in it"),
        (["--output", "FULL", "--overwrite"], "other files in it"),
        (["--output", "MODEL"], "--overwrite"),
        (["--output", "FILE"], "not a directory"),
        (["--output", "."], "the working directory"),
        (["--output", "FILE/deeper"], "could not be written"),
        (["--output", "OUT", "--verification", "FILE"], "it is not JSON at line 1, column 1"),
        (["--outptu", "OUT"], "unrecognized arguments"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_nothing_is_written(
    words: list[str], told: str, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FULL").mkdir()
    (tmp_path / "FULL" / "thesis.tex").write_text("years of work")
    (tmp_path / "FILE").write_text("x")
    shutil.copytree(finished_run / "final_model", tmp_path / "MODEL")
    before = files(tmp_path)
    with pytest.raises(UserError, match=re.escape(told)) as caught:
        export(finished_run, *words)
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == before


def test_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such model"):
        export(tmp_path / "nothing", "--output", tmp_path / "out")


# -- the Hub ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStandIn]:
    with hub_stand_in() as running:
        pretend(monkeypatch, running, tmp_path / "no-login")
        yield running


def run(command: list[object], env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env=env, cwd=cwd, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip


ALONE = """
import sys
sys.modules.update(dict.fromkeys(("apt_model", "training", "tools")))  # this process has never heard of us
"""


@pytest.mark.slow
def test_from_a_run_to_the_hub_and_back_with_transformers_alone(
    finished_run: Path, stand_in: HubStandIn, tmp_path: Path
) -> None:
    env = environment(stand_in, tmp_path / "home")
    done = run([COMMAND, finished_run, "--push-to-hub", REPO, "--private"], env, tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{stand_in.endpoint}/{REPO}" in done.stdout
    published = stand_in.repositories[REPO]
    assert published.private
    assert published.files["model.safetensors"] == (finished_run / "final_model" / "model.safetensors").read_bytes()
    left = [p for p in [*files(tmp_path).values(), *published.files.values()] if stand_in.token.encode() in p]
    assert left == [], "the token is nowhere"
    assert stand_in.token not in done.stdout + done.stderr

    [code] = re.findall(r"```python\n(from transformers.*?)```", published.files["README.md"].decode(), re.DOTALL)
    assert QUESTION in code
    used = run(["-c", ALONE + code], env, tmp_path)
    assert used.returncode == 0, used.stderr
    trained = load_trained_model(finished_run)
    model = cast(APT, trained.model)
    tokenizer = DynamicTagTokenizer.from_dict(trained.artefacts["tokenizer"])
    [(_, answer)] = answer_prompts(model, tokenizer, [QUESTION], max_new_tokens=20)
    assert used.stdout.rstrip("\n") == answer.rstrip("\n")


def test_a_hub_that_refuses_costs_one_line_and_exit_code_2(
    finished_run: Path,
    stand_in: HubStandIn,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [str(COMMAND), str(finished_run), "--push-to-hub", REPO])
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert export_model.main() == 2
    told = capsys.readouterr()
    assert told.err.startswith(f"export_model: --push-to-hub {REPO}: the Hub does not accept the token (401")
    assert told.err.count("\n") == 1
    assert "hf_wrong" not in told.out + told.err
    monkeypatch.delenv("HF_TOKEN")
    assert export_model.main() == 2
    assert "there is no token" in capsys.readouterr().err
    assert not stand_in.repositories


def test_a_finished_run_is_published_with_its_card(
    finished_run: Path, stand_in: HubStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = load_trained_model(finished_run / "final_model")
    assert push_final_model(trained, HubConfig()) is None
    assert not stand_in.requests
    assert push_final_model(trained, HubConfig(push_to_hub=REPO, private=True)) is None
    published = stand_in.repositories[REPO]
    assert {name: c for name, c in published.files.items() if name != ".gitattributes"} == files(trained.origin)
    assert f"place = {REPO!r}" in published.files["README.md"].decode()
    assert published.private
    assert f"pushed  {stand_in.endpoint}/{REPO}" in capsys.readouterr().out


def test_a_push_that_fails_takes_nothing_from_the_run_and_says_how_to_repeat_it(
    finished_run: Path, stand_in: HubStandIn
) -> None:
    trained = load_trained_model(finished_run / "final_model")
    stand_in.fail("commit", 500, message="out of order")
    line = push_final_model(trained, HubConfig(push_to_hub=REPO, private=True))
    assert line is not None
    assert line.startswith(f"the run is finished, but the push to {REPO} failed: the Hub has a fault")
    _, _, command = line.partition("push again with: python tools/export_model.py ")
    assert command == f"{finished_run} --push-to-hub {REPO} --private"
    assert export(*command.split()) == 0
    assert stand_in.repositories[REPO].files["model.safetensors"]


def test_a_push_that_is_interrupted_takes_nothing_either(
    finished_run: Path, stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(model_export, "push", interrupt)
    line = push_final_model(load_trained_model(finished_run / "final_model"), HubConfig(push_to_hub=REPO))
    assert line is not None
    assert "failed: interrupted; push again" in line


# -- ONNX -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_onnx_runtime_computes_what_pytorch_computes(
    front_door: FrontDoor, tiny_flags: list[str], tiny_dataset: TinyDataset, tmp_path: Path
) -> None:
    # Two blocks and an odd length, and weights that have moved: untrained temperatures and gates are all 1.
    words: list[str | Path] = [*tiny_flags, "--datasets", tiny_dataset(), "--run-dir", tmp_path / "run"]
    words += ["--epochs", "2", "--learning-rate", "0.05", "--num-layers", "2", "--max-seq-len", "41"]
    assert front_door(words).exit_code == 0
    assert export(tmp_path / "run", "--output", tmp_path / "out", "--format", "onnx") == 0
    model, tokenizer = load_portable(tmp_path / "out")
    moved = [p.detach().abs().max() for name, p in model.named_parameters() if "self_control" in name]
    assert min(moved) > 0.01
    shape = model.config.max_seq_len, tokenizer.vocab_size
    assert greatest_difference(model, *shape, tmp_path / "out" / ONNX_NAME) < 1e-5
    assert "onnx/model.onnx" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    with torch.no_grad():
        model.norm.weight.mul_(1.01)
    assert greatest_difference(model, *shape, tmp_path / "out" / ONNX_NAME) > 1e-3, "another model would be noticed"
