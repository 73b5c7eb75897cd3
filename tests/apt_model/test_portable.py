"""The portable model directory: what was saved is what is loaded, and what cannot be loaded says why."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from apt_model.config import ModelConfig
from apt_model.errors import ModelError
from apt_model.generation import answer_prompts
from apt_model.model import APT
from apt_model.portable import build_from_weights, load_portable, save_portable
from apt_model.remote_code import CODE
from apt_model.tokenizer import DynamicTagTokenizer

TOKENIZER = DynamicTagTokenizer.from_texts(["下雨 rain 🌧️\n"], ["[FR]"])
LARGER_TOKENIZER = DynamicTagTokenizer.from_texts(["一二三四五六七八九十", "abcdefghijkl"])
FILES = ["config.json", "model.safetensors", "tokenizer.json"]
"""All that our own programs read."""
ALL_FILES = sorted([*FILES, "generation_config.json", "tokenizer_config.json", *CODE])


def new_model(seed: int = 0, **changes: Any) -> APT:
    torch.manual_seed(seed)
    shape = {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_ff": 24, "max_seq_len": 16}
    return APT(ModelConfig.model_validate({**shape, "vocab_size": TOKENIZER.vocab_size, **changes}))


def same_weights(one: APT, other: APT) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    directory = tmp_path / "final_model"
    save_portable(directory, new_model(), TOKENIZER)
    return directory


@pytest.mark.parametrize(
    "changes",
    [{}, {"tie_embeddings": False}, {"attention": "standard"}, {"num_heads": 4, "dropout": 0.1, "rope_theta": 500.0}],
)
def test_a_loaded_model_is_the_saved_one(changes: dict[str, Any], tmp_path: Path) -> None:
    model = new_model(**changes)
    save_portable(tmp_path / "model", model, TOKENIZER)
    loaded, tokenizer = load_portable(tmp_path / "model")
    assert loaded.config == model.config
    assert same_weights(loaded, model)
    assert isinstance(tokenizer, DynamicTagTokenizer)
    assert tokenizer == TOKENIZER
    assert not loaded.training
    assert (loaded.head.weight is loaded.embedding.weight) == model.config.tie_embeddings
    questions = ["下雨", "rain"]
    assert list(answer_prompts(loaded, tokenizer, questions, max_new_tokens=5)) == list(
        answer_prompts(model, TOKENIZER, questions, max_new_tokens=5)
    )


def test_a_model_is_these_files_and_nothing_is_left_beside_them(saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == ALL_FILES
    assert [path.name for path in saved.parent.iterdir()] == ["final_model"]


def test_three_files_are_all_that_we_need(saved: Path) -> None:
    for path in saved.iterdir():
        if path.name not in FILES:
            path.unlink()
    assert same_weights(load_portable(saved)[0], new_model())


@pytest.mark.slow
def test_no_transformers_is_needed_to_write_or_read_a_model(tmp_path: Path) -> None:
    save_portable(tmp_path / "model", new_model(), TOKENIZER)
    program = "import sys; sys.modules['transformers'] = None\n"
    program += "from pathlib import Path; from apt_model.portable import load_portable, save_portable\n"
    program += "save_portable(Path(sys.argv[2]), *load_portable(Path(sys.argv[1])))"
    arguments = [sys.executable, "-c", program, str(tmp_path / "model"), str(tmp_path / "again")]
    subprocess.run(arguments, cwd=Path(__file__).parents[2], check=True, timeout=60)
    for name in ALL_FILES:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


@pytest.mark.parametrize(("tie_embeddings", "stored"), [(True, False), (False, True)])
def test_a_tied_head_is_stored_once(tie_embeddings: bool, stored: bool, tmp_path: Path) -> None:
    save_portable(tmp_path / "model", new_model(tie_embeddings=tie_embeddings), TOKENIZER)
    weights = load_file(tmp_path / "model" / "model.safetensors")
    assert ("head.weight" in weights) == stored
    assert "embedding.weight" in weights


def test_the_same_model_is_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    save_portable(tmp_path / "again", new_model(), TOKENIZER)
    for name in ALL_FILES:
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_an_older_model_is_replaced_whole(saved: Path) -> None:
    (saved / "stray.txt").write_text("of the older model", encoding="utf-8")
    (saved.parent / ".final_model.tmp").mkdir()  # a save that was killed
    (saved.parent / ".final_model.tmp" / "half.safetensors").write_bytes(b"half")
    newer = new_model(seed=1)
    save_portable(saved, newer, TOKENIZER)
    assert same_weights(load_portable(saved)[0], newer)
    assert sorted(path.name for path in saved.iterdir()) == ALL_FILES
    assert [path.name for path in saved.parent.iterdir()] == ["final_model"]


def test_saving_leaves_the_model_as_it_is(tmp_path: Path) -> None:
    model = new_model().train()
    save_portable(tmp_path / "model", model, TOKENIZER)
    assert model.training
    assert model.head.weight is model.embedding.weight
    assert same_weights(model, new_model())


# -- what cannot be loaded -----------------------------------------------------------------------------------------


def edit_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def drop_weight(directory: Path) -> None:
    weights = load_file(directory / "model.safetensors")
    del weights["norm.weight"]
    save_file(weights, directory / "model.safetensors")


def cut(name: str) -> Callable[[Path], None]:
    def halve(directory: Path) -> None:
        content = (directory / name).read_bytes()
        (directory / name).write_bytes(content[: len(content) // 2])

    return halve


DAMAGE: dict[str, Callable[[Path], object]] = {
    "no directory": shutil.rmtree,
    **{f"no {name}": lambda d, name=name: (d / name).unlink() for name in FILES},  # type: ignore[misc]
    **{f"{name} is cut short": cut(name) for name in FILES},
    **{f"{name} is empty": lambda d, name=name: (d / name).write_bytes(b"") for name in FILES},  # type: ignore[misc]
    "the config is not UTF-8": lambda d: (d / "config.json").write_bytes(b"\xff\xfe{}"),
    "the config is a list": lambda d: (d / "config.json").write_text("[]", encoding="utf-8"),
    "the config is somebody else's": lambda d: (d / "config.json").write_text('{"model_type": "gpt2"}'),
    "the config is of a later version": lambda d: edit_config(d, version=2),
    "the config is of a quantised model": lambda d: edit_config(d, quantization_config={"bits": 4}),
    "the weights are in several files": lambda d: (d / "model.safetensors").rename(d / "model.safetensors.index.json"),
    "the config has an unknown key": lambda d: edit_config(d, rotary=True),
    "the config has no vocabulary": lambda d: edit_config(d, vocab_size=None),
    "the heads do not divide": lambda d: edit_config(d, num_heads=3),
    "the weights are wider": lambda d: edit_config(d, d_model=8),
    "the weights are deeper": lambda d: edit_config(d, num_layers=1),
    "the weights lack a layer": lambda d: edit_config(d, num_layers=3),
    "the weights have controls": lambda d: edit_config(d, attention="standard"),
    "the weights lack a head": lambda d: edit_config(d, tie_embeddings=False),
    "a weight is missing": drop_weight,
    "the tokenizer has more tokens": lambda d: LARGER_TOKENIZER.save(d / "tokenizer.json"),
    "the tokenizer is not one": lambda d: (d / "tokenizer.json").write_text("{}", encoding="utf-8"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_model_is_one_line_that_names_it(damage: Callable[[Path], object], saved: Path) -> None:
    damage(saved)
    with pytest.raises(ModelError) as refused:
        load_portable(saved)
    told = str(refused.value)
    assert "\n" not in told
    assert told.startswith(str(saved))


def test_weights_that_do_not_fit_name_where_they_came_from() -> None:
    with pytest.raises(ModelError, match=r"^here\.pt: the weights do not fit") as refused:
        build_from_weights(new_model().config, new_model(d_ff=12).state_dict(), "here.pt")
    assert "\n" not in str(refused.value)
