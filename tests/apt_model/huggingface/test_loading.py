"""A model directory is one thing in two worlds: what either saves, the other opens, to the last bit."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from apt_model.errors import ModelError
from apt_model.generation import answer_prompts
from apt_model.huggingface.modeling_apt import APTForCausalLM
from apt_model.huggingface.registration import register_auto_classes
from apt_model.huggingface.tokenization_apt import APTTokenizer
from apt_model.portable import load_portable, save_portable
from apt_model.remote_code import CODE, write_code
from tests.support.small_apts import TOKENIZER, same_weights, small_apt
from training.checkpoints.finished_model import load_trained_model

pytestmark = pytest.mark.slow  # transformers takes seconds to import
TOKENS_BT = torch.tensor([TOKENIZER.prompt_ids("20 + 37")])


def save(directory: Path, **changes: Any) -> Path:
    save_portable(directory, small_apt(**changes), TOKENIZER)
    return directory


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save(tmp_path / "final_model")


@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": False}, {"attention": "standard"}, {"rope_theta": 500.0}])
def test_what_we_save_transformers_opens_and_what_it_saves_we_open(changes: dict[str, Any], tmp_path: Path) -> None:
    network = small_apt(**changes)
    loaded = APTForCausalLM.from_pretrained(save(tmp_path / "ours", **changes))
    assert not loaded.training
    assert same_weights(loaded, network)
    assert (loaded.head.weight is loaded.embedding.weight) == network.config.tie_embeddings
    for buffer in ("cos", "sin"):  # in no file: built without memory by from_pretrained, then filled
        assert torch.equal(getattr(loaded, buffer), getattr(network, buffer))
    assert torch.equal(loaded(TOKENS_BT).logits, network(TOKENS_BT))

    loaded.save_pretrained(tmp_path / "theirs")
    APTTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    again, tokenizer = load_portable(tmp_path / "theirs")
    assert again.config == network.config
    assert same_weights(again, network)
    assert tokenizer == TOKENIZER
    assert same_weights(load_trained_model(tmp_path / "theirs").model, network)
    for name in ("model.safetensors", "tokenizer.json", *CODE):
        assert (tmp_path / "theirs" / name).read_bytes() == (tmp_path / "ours" / name).read_bytes(), name
    assert same_weights(APTForCausalLM.from_pretrained(tmp_path / "theirs"), loaded)


def test_a_model_of_transformers_own_making_is_opened_by_us(tmp_path: Path) -> None:
    wrapped = APTForCausalLM.from_apt(small_apt())
    wrapped.resize_token_embeddings(TOKENIZER.vocab_size + 3, mean_resizing=False)
    wrapped.config.use_cache = False  # what a Trainer with gradient checkpointing sets
    wrapped.save_pretrained(tmp_path)
    TOKENIZER.save(tmp_path / "tokenizer.json")
    network, _ = load_portable(tmp_path)
    assert network.config.vocab_size == TOKENIZER.vocab_size + 3
    assert same_weights(network, wrapped)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_from_pretrained_in_another_dtype(dtype: str, saved: Path, tmp_path: Path) -> None:
    loaded = APTForCausalLM.from_pretrained(saved, dtype=dtype)
    network = small_apt()
    assert {p.dtype for p in loaded.parameters()} == {getattr(torch, dtype)}
    assert torch.equal(loaded.cos, network.cos), "positions keep their precision"
    assert torch.equal(loaded.embedding.weight, network.embedding.weight.to(loaded.dtype))
    answer = loaded.generate(TOKENS_BT, max_new_tokens=4, do_sample=False)
    assert answer.shape[1] <= TOKENS_BT.shape[1] + 4
    loaded.save_pretrained(tmp_path / "half")
    TOKENIZER.save(tmp_path / "half" / "tokenizer.json")
    ours, _ = load_portable(tmp_path / "half")
    assert torch.equal(ours.embedding.weight, loaded.embedding.weight.float())
    assert APTForCausalLM.from_pretrained(tmp_path / "half").dtype == loaded.dtype


def test_missing_keys_are_initialised_as_an_apt_is_and_the_others_are_left_alone(saved: Path) -> None:
    weights = load_file(saved / "model.safetensors")
    missing = {"norm.weight": 1.0, "blocks.1.attention.self_control.weight": 0.0}
    drawn = {"blocks.0.attention.qkv.weight": 16**-0.5, "blocks.0.feed_forward.down.weight": 0.5 * 24**-0.5}
    kept = {name: weight for name, weight in weights.items() if name not in {*missing, *drawn}}
    save_file(kept, saved / "model.safetensors", {"format": "pt"})
    torch.manual_seed(0)
    loaded, told = APTForCausalLM.from_pretrained(saved, output_loading_info=True)
    assert set(told["missing_keys"]) == {*missing, *drawn}
    have = dict(loaded.named_parameters())
    for name, value in missing.items():
        assert torch.equal(have[name], torch.full_like(have[name], value)), name
    for name, std in drawn.items():
        assert have[name].std().item() == pytest.approx(std, rel=0.15), name
    assert all(torch.equal(have[name], weight) for name, weight in kept.items())


def test_weights_in_several_files_are_refused_in_one_line_that_says_what_to_do(saved: Path, tmp_path: Path) -> None:
    loaded = APTForCausalLM.from_pretrained(saved)
    loaded.save_pretrained(tmp_path / "sharded", max_shard_size="4KB")
    assert same_weights(APTForCausalLM.from_pretrained(tmp_path / "sharded"), loaded)
    with pytest.raises(ModelError, match=r"sharded: its weights are in several files; save it with a larger"):
        load_portable(tmp_path / "sharded")


def test_registered_with_the_auto_classes_no_code_need_be_trusted(saved: Path) -> None:
    register_auto_classes()
    register_auto_classes()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(saved), AutoTokenizer.from_pretrained(saved)
    assert type(model) is APTForCausalLM
    assert type(tokenizer) is APTTokenizer
    ask = pipeline("text-generation", model=model, tokenizer=tokenizer)
    ours = dict(answer_prompts(small_apt(), TOKENIZER, ["rain", "下雨 1"], max_new_tokens=6))
    said = ask(["rain", "下雨 1"], max_new_tokens=6, return_full_text=False)
    assert [row[0]["generated_text"] for row in said] == [ours[0], ours[1]]
    chat = ask([{"role": "user", "content": "rain"}], max_new_tokens=6)
    assert chat[0]["generated_text"][-1] == {"role": "assistant", "content": ours[0]}


# -- the code beside the weights -----------------------------------------------------------------------------------


def test_the_code_asks_for_nothing_of_ours_and_nothing_rare(saved: Path) -> None:
    asked: set[str] = set()
    for name in CODE:
        for node in ast.walk(ast.parse((saved / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                asked.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                if node.level:
                    assert f"{node.module}.py" in CODE
                else:
                    asked.add(str(node.module).partition(".")[0])
    assert asked - sys.stdlib_module_names == {"torch", "transformers"}


def test_the_code_writes_itself_again(saved: Path, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("remote_code_of_a_model", saved / "remote_code.py")
    assert spec is not None
    assert spec.loader is not None
    copied = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copied)
    for directory, write in ((tmp_path / "copied", copied.write_code), (tmp_path / "first", write_code)):
        directory.mkdir()
        write(directory)
    for name in CODE:
        assert (tmp_path / "copied" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()


STRANGER = """
import sys
for name in ("apt_model", "pydantic", "deepspeed"):  # as where none of them is installed (deepspeed needs pydantic)
    sys.modules[name] = None
import json, torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, pipeline

directory, again, questions = sys.argv[1], sys.argv[2], sys.argv[3:]
config = AutoConfig.from_pretrained(directory, trust_remote_code=True)
model = AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=True)
batch = tokenizer(questions, padding=True, return_tensors="pt")
new = model.generate(**batch, max_new_tokens=6)[:, batch["input_ids"].shape[1]:]
ask = pipeline("text-generation", model=directory, trust_remote_code=True)
told = {
    "classes": [type(thing).__name__ for thing in (config, model, tokenizer)],
    "modules": sorted({type(thing).__module__.split(".")[0] for thing in (config, model, tokenizer)}),
    "ids": [tokenizer(q)["input_ids"] for q in questions],
    "generated": tokenizer.batch_decode(new, skip_special_tokens=True),
    "piped": [row[0]["generated_text"] for row in ask(questions, max_new_tokens=6, return_full_text=False)],
}
with torch.no_grad():
    torch.save(model(torch.tensor([tokenizer(questions[0])["input_ids"]])).logits, again + ".logits")
model.save_pretrained(again)
tokenizer.save_pretrained(again)
once_more = AutoModelForCausalLM.from_pretrained(again, trust_remote_code=True).state_dict()
told["same again"] = all(torch.equal(once_more[name], weight) for name, weight in model.state_dict().items())
told["tokens again"] = AutoTokenizer.from_pretrained(again, trust_remote_code=True).get_vocab() == tokenizer.get_vocab()
print(json.dumps(told))
"""


def test_a_process_that_has_never_heard_of_us_opens_uses_and_saves_the_model(saved: Path, tmp_path: Path) -> None:
    questions, again = ["20 + 37", "rain [EOS]", "下"], tmp_path / "again"
    caches = {"HF_HOME": str(tmp_path / "home"), "HF_MODULES_CACHE": str(tmp_path / "code"), "HF_HUB_OFFLINE": "1"}
    process = subprocess.run(
        [sys.executable, "-c", STRANGER, str(saved), str(again), *questions],
        cwd=tmp_path,
        env={**os.environ, **caches, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    told = json.loads(process.stdout.splitlines()[-1])
    ours = dict(answer_prompts(small_apt(), TOKENIZER, questions, max_new_tokens=6))
    assert told == {
        "classes": ["APTConfig", "APTForCausalLM", "APTTokenizer"],
        "modules": ["transformers_modules"],
        "ids": [TOKENIZER.prompt_ids(q) for q in questions],
        "generated": [ours[i] for i in range(3)],
        "piped": [ours[i] for i in range(3)],
        "same again": True,
        "tokens again": True,
    }
    assert torch.equal(torch.load(f"{again}.logits"), small_apt()(TOKENS_BT))
    network, tokenizer = load_portable(again)
    assert same_weights(network, small_apt())
    assert tokenizer == TOKENIZER
    assert {path.name for path in saved.iterdir()} <= {path.name for path in again.iterdir()}
