"""A tokenizer of the common form is plain data: its tokens are counted, and its files go through unchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from apt_model.errors import ModelError
from apt_model.tokenizer_files import TokenizerFiles

ADDED = [{"id": 3, "content": "<end>"}, {"id": 4, "content": "<pad>"}]


def tokenizer(vocab: Any, **config: Any) -> TokenizerFiles:
    document = {"model": {"vocab": vocab}, "added_tokens": ADDED}
    return TokenizerFiles(document, {"tokenizer_config.json": json.dumps(config)}, "here")


@pytest.mark.parametrize("vocab", [{"a": 0, "b": 1, "c": 2}, [["a", -1.0], ["b", -2.0], ["c", -3.0]]])
def test_tokens_of_both_forms_of_a_vocabulary_are_counted(vocab: Any) -> None:
    made = tokenizer(vocab, eos_token="<end>", pad_token={"content": "<pad>"}, bos_token="<no such token>")
    assert made.vocab_size == 5
    assert made.control_ids() == {"eos": 3, "pad": 4}


def test_files_are_read_as_they_were_written(tmp_path: Path) -> None:
    made = tokenizer({"a": 0, "是": 1}, eos_token="<end>")
    made.save(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    document = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert TokenizerFiles.load(tmp_path, document) == made


@pytest.mark.parametrize("document", [{}, {"model": {}}, {"model": {"vocab": {}}}, {"model": {"vocab": {"a": "1"}}}])
def test_a_damaged_document_is_one_line(document: Any) -> None:
    with pytest.raises(ModelError, match=r"^here: damaged tokenizer\.json"):
        print(TokenizerFiles(document, {}, "here").vocab_size)


@pytest.mark.parametrize("config", ["", "[]", '{"eos_token": {}}'])
def test_a_damaged_config_is_one_line(config: str) -> None:
    made = TokenizerFiles({"model": {"vocab": {"a": 0}}}, {"tokenizer_config.json": config}, "here")
    with pytest.raises(ModelError, match=r"^here: damaged tokenizer_config\.json"):
        made.control_ids()
