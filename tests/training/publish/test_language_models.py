"""Models that were trained on texts are exported whole: the card is true, its code runs, ONNX computes the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.conftest import FrontDoor
from tests.support.language_data import chats_file, tiny_model, topics_file
from tests.training.publish.test_model_card import cells, section
from tools import export_model
from training.checkpoints.finished_model import load_trained_model
from training.models.apt.family import APTFamily
from training.models.huggingface.card import license_of
from training.models.protocol import BaseFamily
from training.publish.model_card import model_card
from training.publish.model_facts import facts_of
from training.publish.onnx_export import ONNX_NAME

pytestmark = pytest.mark.slow

APT = ["--model", "apt", "--d-model", "16", "--num-layers", "1", "--num-heads", "2", "--d-ff", "24"]
KINDS: dict[str, Sequence[str]] = {
    "apt_bpe": [*APT, "--vocab-size", "300"],
    "apt_characters": [*APT, "--tokenizer", "characters"],
    "whole": [],
    "adapter": ["--lora", "--merge"],
    "chat": ["--lora", "--task", "chat", "--datasets", str(chats_file()), "--max-seq-len", "128"],
}
TEXTS = [kind for kind in KINDS if kind != "chat"]
LICENSE = "---\nlicense: apache-2.0\ntags: [x]\n---\n# A model\n"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers model that says whose license it has."""
    directory = tmp_path_factory.mktemp("private") / "tiny-llama"
    shutil.copytree(tiny_model(), directory)
    (directory / "README.md").write_text(LICENSE, encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, front_door: FrontDoor, base: Path) -> Path:
    """A directory with a finished run of each kind, two updates long."""
    folder = tmp_path_factory.mktemp("runs")
    for kind, words in KINDS.items():
        text: list[str | Path] = ["--task", "text", "--datasets", topics_file(), "--max-seq-len", "64"]
        text = [] if "--task" in words else text
        model: list[str | Path] = [] if "--model" in words else ["--model", base]
        done = front_door([
            *text, *model, *words, "--max-steps", "2", "--save-steps", "1", "--batch-size", "4",
            "--validation-split", "0.2", "--answer-samples", "2", "--device", "cpu", "--run-dir", folder / kind,
        ])  # fmt: skip
        assert done.exit_code == 0, done
    return folder


def export(*words: object) -> int:
    return export_model.run([str(word) for word in words])


def card_of(path: Path) -> str:
    return model_card(facts_of(load_trained_model(path)), f"ada/{path.name}", has_curve=True)


ALONE = """
import re, sys
from pathlib import Path
sys.modules.update(dict.fromkeys(("apt_model", "training", "tools")))  # this process has never heard of us
for name in sys.argv[1:]:
    [code] = re.findall(r"```python\\n(.*?)```", Path(name, "README.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(code, {})
"""


def test_the_code_of_every_card_runs_where_this_project_is_not_installed(runs: Path, tmp_path: Path) -> None:
    names = [*KINDS, "from_a_checkpoint"]
    for name in names:
        source = runs / name if name in KINDS else runs / "adapter" / "checkpoint_step_1"
        assert export(source, "--output", tmp_path / name) == 0
    used = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ALONE, *names],
        cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=200, check=False,
    )  # fmt: skip
    assert used.returncode == 0, used.stderr
    assert used.stdout.count("Once upon a time") == len(names) - 1
    assert (tmp_path / "adapter" / "merged" / "config.json").is_file()
    assert (tmp_path / "from_a_checkpoint" / "merged" / "config.json").is_file()


@pytest.mark.parametrize("kind", TEXTS)
def test_figures_and_data_of_the_card_are_the_records(kind: str, runs: Path) -> None:
    card, report = card_of(runs / kind), json.loads((runs / kind / "experiment_report.json").read_text())
    measured = cells(section(card, "What was measured"))
    assert measured["loss"] == [f"{report['evaluations'][-1]['loss']:.4f}"]
    assert measured["bits per byte"] == [f"{report['bits_per_byte']:.4f} over {report['bytes_measured']:,} bytes"]
    data = section(card, "Training data")
    assert cells(data)[topics_file().name][0] == "JSON Lines"
    assert f"{report['documents']:,} documents and {report['tokens']:,} tokens" in data
    assert "first_pieces" not in report, "one number for each document is too long for a report"
    assert "HLBD" not in card


def test_the_card_of_chats_says_what_was_learned_and_whether_answers_end(runs: Path) -> None:
    card, report = card_of(runs / "chat"), json.loads((runs / "chat" / "experiment_report.json").read_text())
    stop, learned = report["stop"], report["certificate"]
    measured = cells(section(card, "What was measured"))
    assert measured["answers that end by themselves"] == [f"{stop['ended']} of {stop['asked']}"]
    assert f"{learned['trained']:,} of {learned['tokens']:,} tokens" in section(card, "Training data")
    assert "apply_chat_template" in section(card, "How to use it")
    assert {"chat", "lora"} < set(head_of(card)["tags"])


def head_of(card: str) -> dict[str, Any]:
    head: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return head


def test_the_head_names_library_and_license_and_no_path_of_this_machine(runs: Path, base: Path) -> None:
    heads = {kind: head_of(card_of(runs / kind)) for kind in TEXTS}
    assert [head["library_name"] for head in heads.values()] == ["transformers", "transformers", "transformers", "peft"]
    assert {head["pipeline_tag"] for head in heads.values()} == {"text-generation"}
    assert [head.get("license") for head in heads.values()] == [None, None, "apache-2.0", "apache-2.0"]
    assert all("base_model" not in head for head in heads.values()), "a directory is no repository"
    cards = [card_of(runs / kind) for kind in ("whole", "adapter")]
    assert all(str(base.parent) not in card and "tiny-llama" in card for card in cards)


def test_a_base_on_the_hub_is_named_with_its_page(runs: Path) -> None:
    facts = facts_of(load_trained_model(runs / "adapter"))
    settings = json.loads(json.dumps(facts.settings))
    settings["model"]["base_model"] = "meta/llama-9"
    card = model_card(type(facts)(**{**vars(facts), "settings": settings}), "ada/x", has_curve=False)
    assert head_of(card)["base_model"] == "meta/llama-9"
    assert head_of(card)["base_model_relation"] == "adapter"
    assert "<https://huggingface.co/meta/llama-9>" in section(card, "Limits")


NO_LICENSE = ["", "# no head", "---\n", "---\n- a\n---\n", "---\nlicense: [a]\n---\n", "---\n: {\n---\n"]


@pytest.mark.parametrize("text", NO_LICENSE)
def test_a_base_whose_card_says_nothing_has_no_license(text: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert license_of(str(tmp_path)) == {}


def test_an_apt_with_a_tokenizer_of_the_common_form_goes_on_from_its_directory(
    runs: Path, front_door: FrontDoor, tmp_path: Path
) -> None:
    done = front_door([
        "--task", "text", "--datasets", topics_file(), "--model", runs / "apt_bpe", "--max-steps", "1",
        "--device", "cpu", "--answer-samples", "0", "--run-dir", tmp_path / "next",
    ])  # fmt: skip
    assert done.exit_code == 0, done
    before, after = load_trained_model(runs / "apt_bpe" / "final_model"), load_trained_model(tmp_path / "next")
    assert before.artefacts == after.artefacts
    assert "generation_config.json" in after.artefacts["tokenizer_files"]
    assert before.options.model_dump()["max_seq_len"] == after.options.model_dump()["max_seq_len"] == 64


def test_a_directory_of_the_older_form_is_still_read(runs: Path, tmp_path: Path) -> None:
    trained = load_trained_model(runs / "apt_bpe" / "final_model")
    family: BaseFamily = APTFamily()
    BaseFamily.save(family, tmp_path / "older", trained.model, trained.options, trained.vocabulary, trained.artefacts)
    older = load_trained_model(tmp_path / "older")
    assert older.artefacts == trained.artefacts
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(tensor, older.model.state_dict()[name])


# -- ONNX -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["apt_bpe", "whole", "adapter/checkpoint_step_1"])
def test_onnx_runtime_computes_what_the_model_computes(source: str, runs: Path, tmp_path: Path) -> None:
    import onnxruntime

    assert export(runs / source, "--output", tmp_path / "out", "--format", "onnx") == 0
    trained = load_trained_model(runs / source)
    tokens_BT = torch.randint(trained.vocabulary or 0, (2, 19), generator=torch.Generator().manual_seed(1))
    tensors = {"tokens": tokens_BT, "positions": torch.arange(38)}
    expected_NV = trained.family.logits(trained.model, tensors)
    session = onnxruntime.InferenceSession(tmp_path / "out" / ONNX_NAME, providers=["CPUExecutionProvider"])
    [found_BTV] = session.run(None, {"input_ids": tokens_BT.numpy()})
    torch.testing.assert_close(torch.from_numpy(found_BTV).flatten(0, 1), expected_NV.detach(), rtol=1e-4, atol=1e-4)
