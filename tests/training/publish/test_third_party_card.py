"""A task and a model family of somebody else are published as ours are: a true card, and code that loads the model."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from tests.conftest import ROOT, FrontDoor, write_tiny_dataset
from tests.support.small_apts import same_weights
from tests.third_party.model.apt_averaging_model import AveragingFamily, AveragingOptions
from tests.training.publish.test_model_card import cells, section
from tools import export_model
from training.checkpoints.finished_model import TrainedModel, load_trained_model
from training.errors import ConfigError, UserError
from training.models.protocol import ARTEFACTS_NAME, DESCRIPTION_NAME, WEIGHTS_NAME
from training.models.registry import MODELS
from training.publish.model_card import model_card
from training.publish.model_facts import facts_of
from training.publish.onnx_export import write_onnx
from training.settings.registry import Entry
from training.storage.checksums import NAME as CHECKSUMS_NAME
from training.tasks.registry import TASKS

THIRD_PARTY = ROOT / "tests" / "third_party"
TASK = Entry("apt_reversal_task:ReversalTask", "from package apt-reversal-task")
MODEL = Entry("apt_averaging_model:AveragingFamily", "from package apt-averaging-model")
SMALL = ["--model", "averaging", "--features", "8"]
APT = ["--d-model", "16", "--num-layers", "1", "--num-heads", "2", "--d-ff", "16", "--max-seq-len", "32"]


@pytest.fixture(scope="module", autouse=True)
def _installed() -> Iterator[None]:
    """Let the registries see the two packages as if they were installed."""
    with pytest.MonkeyPatch.context() as patch:
        for folder in ("task", "model"):
            patch.syspath_prepend(str(THIRD_PARTY / folder))
        patch.setattr(TASKS, "third_party", {"reversal": TASK})
        patch.setattr(MODELS, "third_party", {"averaging": MODEL})
        yield


def trained(front_door: FrontDoor, run_dir: Path, *flags: str | Path) -> Path:
    done = front_door([
        *flags, "--run-dir", run_dir, "--epochs", "2", "--batch-size", "16", "--device", "cpu", "--num-threads", "1",
        "--save-interval", "1",
    ])  # fmt: skip
    assert done.exit_code == 0, done
    return run_dir


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, front_door: FrontDoor) -> Path:
    """A finished run of the third parties' pair, with validation."""
    where = tmp_path_factory.mktemp("third") / "run"
    return trained(front_door, where, "--task", "reversal", *SMALL, "--validation-split", "0.25")


def card_of(path: Path) -> str:
    return model_card(facts_of(load_trained_model(path)), "reverser", has_curve=True)


def export(*words: object) -> int:
    return export_model.run([str(word) for word in words])


class WithALongestText(AveragingOptions):
    """Options that say how long a text may be."""

    max_seq_len: int = 8


def test_a_network_that_pytorch_cannot_export_to_onnx_is_refused_in_one_line(tmp_path: Path) -> None:
    family, options = AveragingFamily(), WithALongestText(model="averaging", features=8)
    model = TrainedModel(family.build(options, 12), family, options, 12, tmp_path)
    with pytest.raises(UserError, match="PyTorch cannot export a model of the family averaging") as refused:
        write_onnx(model, tmp_path / "onnx" / "model.onnx")
    assert "missing a required argument: 'positions_N'" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


# -- the pair ---------------------------------------------------------------------------------------------------------


def test_every_sentence_of_the_card_is_about_this_pair(run_dir: Path) -> None:
    card = card_of(run_dir)
    report = json.loads((run_dir / "experiment_report.json").read_text(encoding="utf-8"))
    head = yaml.safe_load(card.split("---\n")[1])
    assert head == {"library_name": "apt-trainer", "tags": ["averaging", "reversal"]}
    number = f"{report['num_parameters']:,}"
    told = f"A model of the family `averaging` with {number} parameters that was trained on the task `reversal`."
    assert told in card
    assert cells(card)["features"] == ["8"]
    assert cells(card)["weights"] == ["fp32"]
    measured = section(card, "What was measured")
    assert cells(measured)["loss"] == [f"{report['evaluations'][-1]['loss']:.4f}"]
    assert cells(measured)["accuracy"] == [f"{report['evaluations'][-1]['accuracy']:.1%}"]
    assert "perplexity" not in card, "the task does not measure it"
    data = section(card, "Training data")
    assert cells(data)["digits"] == ["4"]
    assert "48 samples were trained on, 25.0 % of the data were held back for validation." in data
    course = cells(section(card, "Training"))
    assert course["updates"] == [str(report["step"])]
    assert course["last training loss"] == [f"{report['latest']['loss']:.4f}"]
    assert "from package apt-averaging-model" in section(card, "How to use it")
    for word in ("APT language", "HLBD", "hlbd", "character", "tokenizer", "question", "transformers", "12 + 34"):
        assert word not in card, f"{word!r} is another family's or another task's"


def test_the_code_on_the_card_loads_the_model_in_a_new_process(run_dir: Path, tmp_path: Path) -> None:
    assert export(run_dir, "--output", tmp_path / "reverser") == 0
    card = (tmp_path / "reverser" / "README.md").read_text(encoding="utf-8")
    assert {p.name for p in (tmp_path / "reverser").iterdir()} == {
        DESCRIPTION_NAME, WEIGHTS_NAME, ARTEFACTS_NAME, CHECKSUMS_NAME, "README.md", "training_curve.png",
    }  # fmt: skip
    [code] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    installed = (
        f"import sys; sys.path[:0] = {[str(ROOT), str(THIRD_PARTY / 'model')]!r}\n"
        "from training.models.registry import MODELS\nfrom training.settings.registry import Entry\n"
        f"MODELS.third_party = {{'averaging': Entry({MODEL.target!r}, '')}}\n"
    )
    show = "print(vocabulary, artefacts, sum(p.numel() for p in model.parameters()), model.training)"
    done = subprocess.run(
        [sys.executable, "-c", f"{installed}{code}\n{show}"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    parameters = load_trained_model(run_dir).num_parameters()
    assert done.stdout == f"12 {{}} {parameters} False\n"


@pytest.mark.parametrize("form", ["final_model.pt", "final_model", "checkpoint_epoch_2", ""])
def test_any_form_of_the_model_is_exported(form: str, run_dir: Path, tmp_path: Path) -> None:
    assert export(run_dir / form, "--output", tmp_path / "out") == 0
    again = load_trained_model(tmp_path / "out")
    assert (again.family.name, again.vocabulary) == ("averaging", 12)
    assert same_weights(again.model, load_trained_model(run_dir / "final_model").model)


def test_a_model_directory_of_another_family_is_replaced_only_when_asked(run_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir / "final_model", tmp_path / "out")
    with pytest.raises(UserError, match="there is a model in it already; replace it"):
        export(run_dir, "--output", tmp_path / "out")
    assert export(run_dir, "--output", tmp_path / "out", "--overwrite") == 0
    (tmp_path / "out" / WEIGHTS_NAME).write_bytes(b"damaged")
    with pytest.raises(UserError, match="there are other files in it"):
        export(run_dir, "--output", tmp_path / "out", "--overwrite")


def test_a_checkpoint_gets_the_figures_of_its_own_update(run_dir: Path) -> None:
    card = card_of(run_dir / "checkpoint_epoch_1")
    report = json.loads((run_dir / "experiment_report.json").read_text(encoding="utf-8"))
    first = report["evaluations"][0]
    assert cells(section(card, "What was measured"))["loss"] == [f"{first['loss']:.4f}"]
    assert f"These are the weights after update {first['step']} of {report['total_steps']}" in card


def test_a_hub_page_fetches_the_model_first(run_dir: Path) -> None:
    card = model_card(facts_of(load_trained_model(run_dir)), "ada/reverser", has_curve=False)
    assert "load_trained_model(Path(snapshot_download('ada/reverser')))" in card


def test_without_validation_the_card_says_that_nothing_was_measured(front_door: FrontDoor, tmp_path: Path) -> None:
    card = card_of(trained(front_door, tmp_path / "run", "--task", "reversal", *SMALL))
    assert "Nothing was measured on data that the model was not trained on." in card
    assert "data that it has not seen is unknown" in section(card, "Limits")
    assert "held back" not in section(card, "Training data")


def test_far_from_its_run_no_task_is_guessed(run_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir / "final_model", tmp_path / "alone")
    card = card_of(tmp_path / "alone")
    assert "What it was trained on is not recorded" in card
    assert "Nothing was measured." in card
    assert "reversal" not in card
    assert "parameters.\n" in card, "the sentence ends where nothing is known"


def test_a_task_that_is_not_installed_costs_its_own_words_alone(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(TASKS, "third_party", {})
    assert export(run_dir, "--output", tmp_path / "out") == 0
    assert "note     the card says only what is true of any task: --task reversal" in capsys.readouterr().out
    assert "trained on the task `reversal`" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_a_family_that_is_not_installed_is_one_line(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODELS, "third_party", {})
    with pytest.raises(ConfigError, match="--model averaging: unknown model family"):
        load_trained_model(run_dir)


def test_onnx_is_refused_where_the_family_names_no_longest_text(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="family averaging has no max_seq_len"):
        export(run_dir, "--output", tmp_path / "out", "--format", "onnx")


# -- one of theirs with one of ours -----------------------------------------------------------------------------------


def test_hlbd_with_their_model_keeps_hlbds_words_and_loses_apts(front_door: FrontDoor, tmp_path: Path) -> None:
    data = write_tiny_dataset(tmp_path / "tiny.json")
    card = card_of(trained(front_door, tmp_path / "run", "--datasets", data, *SMALL, "--answer-samples", "4"))
    assert "A model of the family `averaging` with" in card
    assert "that answers short questions in the form of its training data (HLBD). It reads and writes single" in card
    assert yaml.safe_load(card.split("---\n")[1])["tags"][:2] == ["averaging", "hlbd"]
    assert "overall" in cells(section(card, "What it answers"))
    assert "load_trained_model" in section(card, "How to use it")
    assert "AutoModelForCausalLM" not in card
    assert "tokens." not in section(card, "Limits"), "the family has no longest text"


def test_their_task_with_apt_is_loaded_by_this_project(front_door: FrontDoor, tmp_path: Path) -> None:
    where = trained(front_door, tmp_path / "run", "--task", "reversal", *APT)
    card = card_of(where)
    assert "An APT language model of" in card
    assert "that was trained on the task `reversal`. It is a causal decoder with autopoietic attention" in card
    head = yaml.safe_load(card.split("---\n")[1])
    assert head == {"library_name": "apt-trainer", "tags": ["apt", "reversal"]}
    assert "AutoModelForCausalLM" not in card
    tokens = torch.tensor([[1, 2, 3]])
    assert load_trained_model(where / "final_model").model(tokens).shape == (1, 3, 12)
