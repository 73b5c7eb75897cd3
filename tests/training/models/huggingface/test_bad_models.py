"""A model that cannot be trained is refused in one line that names the place, and nothing is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from tests.conftest import Outcome, enter_front_door
from tests.support.language_data import tiny_model, topics_file

pytestmark = pytest.mark.slow

Damage = Callable[[Path], object]


def ask(model: object, run_dir: Path, *flags: object) -> Outcome:
    return enter_front_door([
        "--task", "text", "--datasets", topics_file(), "--model", str(model), "--run-dir", run_dir, "--device", "cpu",
        "--max-steps", "1", "--max-seq-len", "64", "--batch-size", "2", *map(str, flags),
    ])  # fmt: skip


def refused(model: object, run_dir: Path, *parts: str, flags: tuple[object, ...] = ()) -> None:
    before = sorted(run_dir.parent.rglob("*"))
    refusal = ask(model, run_dir, *flags)
    assert refusal.exit_code == 2, refusal
    assert refusal.stderr.startswith("error: ")
    assert refusal.stderr.count("\n") == 1, refusal.stderr
    assert [part for part in parts if part not in refusal.stderr] == [], refusal.stderr
    assert sorted(run_dir.parent.rglob("*")) == before, "something was written"


def changed(name: str, **values: Any) -> Damage:
    """Change entries of a JSON file of the model; None: take it out."""

    def change(model: Path) -> None:
        document = {**json.loads((model / name).read_text()), **values}
        (model / name).write_text(json.dumps({key: value for key, value in document.items() if value is not None}))

    return change


def replaced(name: str, content: bytes | None) -> Damage:
    """Replace a file of the model; None: delete it."""
    return lambda model: (model / name).unlink() if content is None else (model / name).write_bytes(content)


def cut(name: str) -> Damage:
    return lambda model: (model / name).write_bytes((model / name).read_bytes()[:300])


def with_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    from safetensors.torch import load_file, save_file

    def write(model: Path) -> None:
        weights = load_file(model / "model.safetensors")
        change(weights)
        save_file(weights, model / "model.safetensors", {"format": "pt"})

    return write


def without_tokenizer(model: Path) -> None:
    for path in model.glob("token*"):
        path.unlink()


def sharded(model: Path) -> None:
    replaced("model.safetensors", None)(model)
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


def own_code(model: Path) -> None:
    code = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    changed("config.json", auto_map=code, model_type="own_model")(model)
    (model / "own.py").write_text("raise SystemExit('the code of a stranger ran')\n")


ADAPTER = {"base_model_name_or_path": "somewhere", "peft_type": "LORA", "r": 4, "target_modules": ["q_proj"]}


def adapter(**values: Any) -> Damage:
    def make(model: Path) -> None:
        for path in model.iterdir():
            path.unlink()
        (model / "adapter_config.json").write_text(json.dumps({**ADAPTER, **values}))

    return make


DAMAGED: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "no config": (replaced("config.json", None), ("no model in this directory",)),
    "config cut": (cut("config.json"), ("config.json: damaged, not JSON",)),
    "config is a list": (replaced("config.json", b"[1]"), ("config.json: damaged", "holds a list")),
    "config in bytes": (replaced("config.json", b"\xff\xfe\0"), ("config.json: damaged, not UTF-8",)),
    "no type": (changed("config.json", model_type=None), ("no model can be read there", "model_type")),
    "unknown type": (changed("config.json", model_type="frobnicator"), ("model type `frobnicator`",)),
    "t5": (changed("config.json", model_type="t5"), ("t5 is no causal language model",)),
    "sizes that do not divide": (changed("config.json", num_attention_heads=5), ("no model can be read there", "(5)")),
    "layers in words": (changed("config.json", num_hidden_layers="two"), ("num_hidden_layers", "'two'")),
    "more layers than weights": (changed("config.json", num_hidden_layers=3), ("9 tensors", "model.layers.2.")),
    "another width": (changed("config.json", hidden_size=64), ("(400, 32) in its files and (400, 64)",)),
    "fewer rows than tokens": (changed("config.json", vocab_size=300), ("400 tokens", "300 rows", "--resize-emb")),
    "weights that are quantised": (
        changed("config.json", quantization_config={"quant_method": "fp8"}), ("quantised", "--lora"),
    ),
    "no weights": (replaced("model.safetensors", None), ("no file named model.safetensors",)),
    "weights cut": (cut("model.safetensors"), ("the model cannot be built", "header")),
    "empty weights": (replaced("model.safetensors", b""), ("the model cannot be built", "header too small")),
    "a tensor missing": (
        with_weights(lambda weights: weights.pop("model.norm.weight")), ("1 tensors", "'model.norm.weight'"),
    ),
    "not a number": (
        with_weights(lambda weights: weights["model.norm.weight"].fill_(torch.nan)), ("output is not finite", "NaN"),
    ),
    "a shard missing": (sharded, ("model-00001-of-00002.safetensors",)),
    "no tokenizer": (
        without_tokenizer, ("no tokenizer beside", "--tokenizer DIR"),
    ),
    "tokenizer cut": (cut("tokenizer.json"), ("no tokenizer can be read there",)),
    "no end token": (changed("tokenizer_config.json", eos_token=None), ("no end token (eos_token)",)),
    "code of its own": (own_code, ("Python code in its own directory", "--trust-remote-code")),
    "adapter in bytes": (replaced("adapter_config.json", b"\xff"), ("adapter_config.json: damaged",)),
    "adapter without weights": (adapter(), ("an adapter without its weights",)),
    "adapter of nothing": (adapter(base_model_name_or_path=None), ("does not say which model",)),
    "adapter of another kind": (adapter(peft_type="PREFIX_TUNING"), ("kind PREFIX_TUNING",)),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "parts"), DAMAGED.values(), ids=list(DAMAGED))
def test_a_damaged_or_unfit_model_is_refused_where_it_lies(
    damage: Damage, parts: tuple[str, ...], tmp_path: Path
) -> None:
    model = shutil.copytree(tiny_model(), tmp_path / "model")
    damage(model)
    refused(model, tmp_path / "run", str(model), *parts)


PLACES = {
    "a file": ("{model}/model.safetensors", ("a model is a directory", "{model}")),
    "a mistyped run": ("{here}/runs/min", ("there is no such directory", "did you mean 'mine'")),
    "a run without a model": ("{here}/runs/mine", ("no model in this directory",)),
    "a name of one part": ("gpt2", ("unknown model family", "OWNER/NAME")),
    "a name that the Hub would not have": ("模型/甲", ("no such directory", "may hold letters")),
    "an absent directory": ("/no/such/model", ("there is no such directory",)),
    "escapes": ("\x1b[31m/x", ("\\x1b[31m/x",)),
    "no kind of model": ("huggingface", ("which model?", "--architecture")),
}


@pytest.mark.parametrize(("place", "parts"), PLACES.values(), ids=list(PLACES))
def test_a_place_without_a_model_is_refused(place: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    names = {"here": str(tmp_path), "model": str(tiny_model())}
    refused(place.format(**names), tmp_path / "run", *(part.format(**names) for part in parts))


def test_a_name_of_the_hub_that_is_not_in_the_cache_is_refused_at_once_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("owner/absent", tmp_path / "run", "--model owner/absent", "HF_HUB_OFFLINE")
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    refused("run/mine", tmp_path / "run", "--model run/mine: no such directory")


FLAGS: dict[str, tuple[tuple[object, ...], tuple[str, ...]]] = {
    "longer than the model": (("--max-seq-len", 1000), ("max_seq_len=1000", "(256 tokens)")),
    "another vocabulary": (("--vocab-size", 500), ("vocab_size=500", "400 rows", "--resize-embeddings")),
    "kernels without their package": (("--attn-implementation", "flash_attention_2"), ("cannot be built", "lash")),
    "4 bits without their package": (("--qlora",), ("--qlora needs bitsandbytes", ".[qlora]")),
    "settings of no adapter": (("--lora-rank", 4), ("lora_rank needs lora",)),
    "frozen under adapters": (("--lora", "--freeze", "*"), ("freeze has no effect with lora",)),
    "nothing left to train": (("--freeze", "*"), ("--freeze *: nothing is left to train",)),
    "base and architecture": (("--architecture", "x.json"), ("exclude each other",)),
    "targets that match nothing": (("--lora", "--lora-targets", "c_attn"), ("there are down_proj",)),
}


@pytest.mark.parametrize(("flags", "parts"), FLAGS.values(), ids=list(FLAGS))
def test_settings_that_do_not_fit_the_model_are_refused(
    flags: tuple[object, ...], parts: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.models.huggingface import quantization

    monkeypatch.setattr(quantization, "PACKAGE", "no_such_package")
    refused(tiny_model(), tmp_path / "run", *parts, flags=flags)
