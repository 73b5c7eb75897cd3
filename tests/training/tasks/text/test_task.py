"""The task text: every token of every document is learned exactly once, and unusable data is refused in one line."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.language_data import tiny_model, topics_file
from training.backends.prepare import config_class
from training.errors import ConfigError, DataError, UserError
from training.models.tokenizers import END_OF_TEXT, from_artefacts
from training.settings.tree import TrainingConfig
from training.tasks.protocol import Prepared
from training.tasks.text.task import TextTask, bytes_of

SMALL = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16}


def config(*datasets: Path, model: str = "apt", data: dict[str, Any] | None = None, **options: Any) -> TrainingConfig:
    network = {**SMALL, "max_seq_len": 32} if model == "apt" else {"base_model": str(tiny_model())}
    return config_class(task="text", model=model).from_dict({
        "model": {**network, **options},
        "data": {"datasets": [str(path) for path in datasets], **(data or {})},
    })  # fmt: skip


def prepare(*datasets: Path, **how: Any) -> Prepared:
    return TextTask().prepare(config(*datasets, **how))


def documents(prepared: Prepared) -> list[str]:
    """Return the documents that the trained tokens spell, split at the end tokens."""
    tokenizer = from_artefacts(prepared.artefacts, "here")
    trained = [sample.tokens[sample.trained] for sample in (prepared.train[i] for i in range(len(prepared.train)))]
    ids = np.concatenate(trained).tolist()
    return str(tokenizer.decode(ids)).split(END_OF_TEXT)[:-1]


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@given(
    texts=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=90), min_size=1)
)
def test_every_token_of_every_document_is_learned_once_and_in_order(
    texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = lines(tmp_path_factory.mktemp("texts") / "texts.jsonl", [{"text": text} for text in texts])
    prepared = prepare(path, data={"tokenizer": "characters"})
    assert documents(prepared) == texts


def test_a_long_document_is_cut_into_pieces_that_overlap_by_one_token(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("abcdefghij" * 20, encoding="utf-8")
    prepared = prepare(path, data={"tokenizer": "characters"})
    samples = [prepared.train[i] for i in range(len(prepared.train))]
    assert max(len(sample.tokens) for sample in samples) == 32
    for one, other in itertools.pairwise(samples):
        assert one.tokens[-1] == other.tokens[0]
        assert not other.trained[0]
    assert sum(int(sample.trained.sum()) for sample in samples) == prepared.facts["tokens"] + 1  # and its end


def test_a_text_file_read_in_pieces_is_one_document(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("A line of a book.\n" * 80_000, encoding="utf-8")  # more than one piece of the reader
    prepared = prepare(path, data={"tokenizer": "characters"}, max_seq_len=4096)
    assert prepared.facts["documents"] == 1
    assert prepared.facts["bytes"] == path.stat().st_size


def test_the_models_own_tokenizer_is_used_and_kept() -> None:
    prepared = prepare(topics_file(), model="huggingface")
    assert prepared.artefacts["tokenizer"] == json.loads((tiny_model() / "tokenizer.json").read_text(encoding="utf-8"))
    assert prepared.vocabulary == 400


def test_a_trained_tokenizer_has_the_size_that_was_asked_for_and_is_the_same_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepare(topics_file(), vocab_size=350)
    monkeypatch.setenv("APT_TRAINER_CACHE", str(tmp_path))  # nothing is there: it is trained again
    other = prepare(topics_file(), vocab_size=350)
    assert one.vocabulary == other.vocabulary == 350
    assert one.artefacts == other.artefacts
    assert one.fingerprint == other.fingerprint


def test_a_tokenizer_that_was_saved_to_cut_texts_cuts_none(tmp_path: Path) -> None:
    tokenizer = from_artefacts(prepare(topics_file()).artefacts, "here")
    tokenizer.backend_tokenizer.enable_truncation(8)
    tokenizer.backend_tokenizer.enable_padding(length=8)
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": END_OF_TEXT, "bos_token": END_OF_TEXT}))
    prepared = prepare(topics_file(), data={"tokenizer": str(tmp_path)})
    assert len("".join(documents(prepared))) == sum(
        len(json.loads(line)["text"]) for line in topics_file().read_text(encoding="utf-8").splitlines()
    )


def test_texts_of_several_files_and_columns(tmp_path: Path) -> None:
    one = lines(tmp_path / "one.jsonl", [{"text": "aaa"}])
    other = tmp_path / "other.csv"
    other.write_text("text,label\nbbb,1\n", encoding="utf-8")
    assert documents(prepare(one, other, data={"tokenizer": "characters"})) == ["aaa", "bbb"]
    named = lines(tmp_path / "named.jsonl", [{"body": "ccc", "title": "x"}])
    assert documents(prepare(named, data={"tokenizer": "characters", "text_column": "body"})) == ["ccc"]


def test_data_that_is_tokenized_already_is_taken_as_it_is(tmp_path: Path) -> None:
    rows = [
        {"input_ids": [5, 6, 7], "labels": [-100, 6, 7]},
        {"input_ids": [8, 9, 10, 11], "labels": [-100, -100, 10, 11]},
    ]
    prepared = prepare(lines(tmp_path / "ids.jsonl", rows), model="huggingface")
    samples = [prepared.train[i] for i in range(2)]
    assert [sample.tokens.tolist() for sample in samples] == [[5, 6, 7], [8, 9, 10, 11]]
    assert [sample.trained.tolist() for sample in samples] == [[False, True, True], [False, False, True, True]]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"input_ids": [5, 6000]}, "token 6000 is not in the vocabulary (0 to 399)"),
        ({"input_ids": [5, -1]}, "token -1 is not in the vocabulary"),
        ({"input_ids": [5]}, "should be a list of two or more whole numbers"),
        ({"input_ids": "text"}, "should be a list of two or more whole numbers"),
        ({"input_ids": [5, 6], "labels": [5]}, "'labels' should be a list of 2 numbers"),
        ({"input_ids": [5, 6], "labels": [-100, 9]}, "label 1 is 9, and should be 6"),
        ({"input_ids": [5] * 300}, "300 tokens, more than max_seq_len=256"),
    ],
)
def test_wrong_tokens_are_refused_with_their_line(row: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = lines(tmp_path / "ids.jsonl", [{"input_ids": [5, 6, 7]}, row])
    with pytest.raises(DataError) as refused:
        prepare(path, model="huggingface", data={})
    assert told in str(refused.value)
    assert "ids.jsonl, line 2: " in str(refused.value)
    assert "\n" not in str(refused.value)


def test_tokens_without_a_tokenizer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tokenized already; say by which tokenizer"):
        prepare(lines(tmp_path / "ids.jsonl", [{"input_ids": [5, 6, 7]}]))


def test_a_run_without_data_and_data_without_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--task text needs data: give --datasets FILE"):
        prepare()
    with pytest.raises(UserError, match="every text in it is empty"):
        prepare(lines(tmp_path / "empty.jsonl", [{"text": ""}, {"text": ""}]), data={"tokenizer": "characters"})
    with pytest.raises(UserError, match=r"mixed.jsonl, line 2: no 'text'; its keys are 'content'"):
        prepare(lines(tmp_path / "mixed.jsonl", [{"text": "a"}, {"content": "b"}]), data={"tokenizer": "characters"})


def test_empty_documents_are_left_out_and_counted(tmp_path: Path) -> None:
    prepared = prepare(
        lines(tmp_path / "some.jsonl", [{"text": "ab"}, {"text": ""}, {"text": "cd"}]), data={"tokenizer": "characters"}
    )
    assert prepared.facts["empty"] == 1
    assert prepared.facts["documents"] == 2
    assert any("1 documents are empty and left out" in line for line in prepared.introduction)


def test_unknown_characters_are_counted(tmp_path: Path) -> None:
    known = prepare(lines(tmp_path / "known.jsonl", [{"text": "abc"}]), data={"tokenizer": "characters"})
    from_artefacts(known.artefacts, "here").save_pretrained(tmp_path / "tokenizer")
    other = lines(tmp_path / "other.jsonl", [{"text": "abz"}])
    prepared = prepare(other, data={"tokenizer": str(tmp_path / "tokenizer")})
    assert prepared.facts["unknown"] == 1
    assert any("1 tokens are unknown to the tokenizer (33.33%)" in line for line in prepared.introduction)


def test_documents_stay_on_one_side_of_the_split() -> None:
    prepared = prepare(topics_file(), data={"validation_split": 0.2, "tokenizer": "characters"})
    assert prepared.validation is not None
    tokenizer = from_artefacts(prepared.artefacts, "here")
    rows = [json.loads(line)["text"] for line in topics_file().read_text(encoding="utf-8").splitlines()]

    def texts(part: Any) -> str:
        return "".join(tokenizer.decode(part[i].tokens[part[i].trained].tolist()) for i in range(len(part)))

    held = [text for text in rows if text in texts(prepared.validation)]
    assert len(held) == round(0.2 * len(rows))
    assert not any(text in texts(prepared.train) for text in held)


def test_of_one_document_the_end_is_held_back(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("".join(chr(97 + n % 26) * 31 for n in range(40)), encoding="utf-8")
    whole = prepare(path, data={"tokenizer": "characters"})
    split = prepare(path, data={"tokenizer": "characters", "validation_split": 0.25})
    assert len(split.validation) == round(len(whole.train) * 0.25)  # type: ignore[arg-type]
    assert split.train[0].tokens.tolist() == whole.train[0].tokens.tolist()
    last = len(whole.train) - 1
    assert split.validation[len(split.validation) - 1].tokens.tolist() == whole.train[last].tokens.tolist()  # type: ignore[index,arg-type]


def test_bits_per_byte_are_those_of_the_loss_over_the_texts_bytes() -> None:
    prepared = prepare(topics_file(), data={"validation_split": 0.2}, vocab_size=300)
    torch.manual_seed(0)
    model = prepared.objective.build_model()
    figures, shown = TextTask().conclude(model, prepared)
    data = prepared.validation
    assert data is not None
    samples = [data[i] for i in range(len(data))]
    with torch.no_grad():
        nats = sum(float(prepared.objective.loss(model.eval(), prepared.objective.collate([s])).loss) for s in samples)
    tokenizer = from_artefacts(prepared.artefacts, "here")
    size = sum(bytes_of(tokenizer, sample.tokens[sample.trained]) for sample in samples)
    assert figures["bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-4)
    assert figures["bytes_measured"] == size
    assert "bits per byte" in shown[0]


@given(st.text(max_size=60))
def test_the_bytes_of_tokens_are_those_of_their_text(text: str) -> None:
    tokenizer = from_artefacts(prepare(topics_file()).artefacts, "here")
    ids = np.array(tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int32)
    if "<|" not in text:
        assert bytes_of(tokenizer, ids) == len(text.encode("utf-8", "surrogatepass"))


def test_settings_of_another_task_are_refused_in_python_too() -> None:
    config = config_class(task="chat", model="huggingface").from_dict({})
    with pytest.raises(ConfigError, match=r"the task text got the settings of the task chat; .*config_class\(task='te"):
        TextTask().prepare(config)
    for wrong in (3, None, ["chat"]):
        with pytest.raises(ConfigError, match="and no task's name"):
            config_class(task=wrong, model="apt")  # type: ignore[arg-type]
    for wrong in (3, ["chat"]):  # None is the task's default
        with pytest.raises(ConfigError, match="and no model's name or directory"):
            config_class(task="chat", model=wrong)  # type: ignore[arg-type]


def test_a_vocabulary_with_a_hole_has_room_for_its_last_token(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model(), model)
    document = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    document["model"]["merges"].pop(100)
    hole = sorted(document["model"]["vocab"], key=document["model"]["vocab"].get)[100 + 260]
    document["model"]["vocab"].pop(hole)
    document["model"]["merges"] = [pair for pair in document["model"]["merges"] if hole not in ("".join(pair), *pair)]
    (model / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    made = prepare(topics_file(), model="huggingface", base_model=str(model))
    assert made.vocabulary == 400
