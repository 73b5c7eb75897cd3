"""The transformers tokenizer is ours: the same ids, the same text, and text never becomes a control token."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apt_model.errors import ModelError
from apt_model.huggingface.tokenization_apt import APTTokenizer
from apt_model.tokenizer import SPECIALS, DynamicTagTokenizer

OURS = DynamicTagTokenizer.from_texts(["下雨 rain 🌧️\n\t[]BOSE"], ["[FR]", "[FRX]"])
PIECES = st.sampled_from([*OURS.characters, *OURS.tags, *SPECIALS, "é", "\U0001f9d0", "]]", "[ [", "\r\n"])
TEXTS = st.lists(PIECES, max_size=12).map("".join)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    OURS.save(file)
    return file


@pytest.fixture(scope="module")
def tokenizer(path: Path) -> APTTokenizer:
    return APTTokenizer(path)


@given(text=TEXTS)
def test_ids_and_text_are_ours_for_every_text(tokenizer: APTTokenizer, text: str) -> None:
    ids = OURS.encode(text)
    assert tokenizer.encode(text, add_special_tokens=False) == ids
    assert tokenizer(text)["input_ids"] == OURS.prompt_ids(text)
    assert tokenizer.decode(ids) == OURS.decode(ids, keep_control=True)
    assert tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text)) == ids
    assert not {0, 2, 3, 4} & set(ids), "no control token comes from text"


@given(ids=st.lists(st.integers(0, OURS.vocab_size + 3), max_size=12))
def test_any_ids_decode_as_ours_do(tokenizer: APTTokenizer, ids: list[int]) -> None:
    assert tokenizer.decode(ids, skip_special_tokens=True) == OURS.decode(ids)
    assert tokenizer.decode(ids) == OURS.decode(ids, keep_control=True)


def test_a_question_is_a_prompt_and_a_pair_is_a_training_sequence(tokenizer: APTTokenizer) -> None:
    question, answer = OURS.encode("下雨"), OURS.encode("rain")
    assert tokenizer("下雨")["input_ids"] == [2, *question, 3]
    pair = tokenizer("下雨", "rain", return_special_tokens_mask=True)
    assert pair["input_ids"] == [2, *question, 3, *answer, 4]
    assert pair["special_tokens_mask"] == [1, 0, 0, 1, 0, 0, 0, 0, 1]
    assert tokenizer.get_special_tokens_mask(pair["input_ids"], already_has_special_tokens=True)[0] == 1
    assert "token_type_ids" not in pair
    assert tokenizer.num_special_tokens_to_add() == 2
    assert tokenizer.num_special_tokens_to_add(pair=True) == 3


def test_batches_are_padded_on_the_left(tokenizer: APTTokenizer) -> None:
    batch = tokenizer(["下", "rain"], padding=True, return_tensors="pt")
    assert batch["input_ids"].tolist() == [[0, 0, 0, *OURS.prompt_ids("下")], OURS.prompt_ids("rain")]
    assert batch["attention_mask"].tolist() == [[0, 0, 0, 1, 1, 1], [1] * 6]


def test_control_tokens_are_read_from_text_only_where_that_is_asked_for(path: Path, tokenizer: APTTokenizer) -> None:
    assert tokenizer.encode("[EOS]", add_special_tokens=False) == [*map(OURS.id_of, "[EOS]")]
    reader = APTTokenizer(path, split_special_tokens=False)
    assert reader.encode("[BOS]下[SEP]", add_special_tokens=False) == OURS.prompt_ids("下")
    assert tokenizer.encode("[BOS]", add_special_tokens=False, split_special_tokens=False) == [2]


def test_a_chat_of_one_turn_is_a_training_sequence(tokenizer: APTTokenizer) -> None:
    chat = [{"role": "user", "content": "下[EOS]雨"}, {"role": "assistant", "content": "rain"}]
    question = OURS.prompt_ids("下[EOS]雨")
    ids = tokenizer.apply_chat_template(chat[:1], add_generation_prompt=True)["input_ids"]
    assert ids == question, "what a user writes stays text"
    whole = tokenizer.apply_chat_template(chat, return_dict=False)
    assert whole == [*question, *OURS.encode("rain"), 4]
    open_ended = tokenizer.apply_chat_template(chat, continue_final_message=True, return_dict=False)
    assert open_ended == [*question, *OURS.encode("rain")]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == "[BOS]下[EOS]雨[SEP]rain[EOS]"
    assert tokenizer.split_special_tokens, "as it was"


@pytest.mark.parametrize("roles", [["system", "user"], ["assistant"], ["user", "assistant", "user"], ["user", "user"]])
def test_other_chats_are_refused(tokenizer: APTTokenizer, roles: list[str]) -> None:
    with pytest.raises(jinja2.TemplateError, match="APT answers one question"):
        tokenizer.apply_chat_template([{"role": role, "content": "下"} for role in roles])
    assert tokenizer.split_special_tokens


def test_the_vocabulary_is_ours(tokenizer: APTTokenizer) -> None:
    assert tokenizer.get_vocab() == {token: i for i, token in enumerate(OURS.tokens)}
    assert len(tokenizer) == tokenizer.vocab_size == OURS.vocab_size
    special = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.sep_token_id)
    assert (*special, tokenizer.eos_token_id) == (0, 1, 2, 3, 4)


def test_saved_and_loaded_it_is_the_same_and_ours_reads_it(tokenizer: APTTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    assert DynamicTagTokenizer.load(tmp_path / "tokenizer.json") == OURS
    loaded = APTTokenizer.from_pretrained(tmp_path)
    assert loaded.tokenizer == OURS
    assert loaded.padding_side == "left"
    assert loaded.split_special_tokens
    assert loaded("下[SEP]")["input_ids"] == OURS.prompt_ids("下[SEP]")
    reader = APTTokenizer.from_pretrained(tmp_path, split_special_tokens=False)
    reader.save_pretrained(tmp_path / "reader")
    again = APTTokenizer.from_pretrained(tmp_path / "reader")
    assert again.encode("[SEP]", add_special_tokens=False) == [3]


def test_tokens_added_by_the_user_have_ids_behind_ours(path: Path, tmp_path: Path) -> None:
    tokenizer = APTTokenizer(path)
    assert tokenizer.add_tokens(["rain", "rainy"]) == 2
    added = OURS.vocab_size
    assert tokenizer.encode("a rain rainy", add_special_tokens=False) == [
        *OURS.encode("a "),
        added,
        *OURS.encode(" "),
        added + 1,
    ]
    assert tokenizer.decode([added, OURS.id_of(" "), added + 1], skip_special_tokens=True) == "rain rainy"
    tokenizer.save_pretrained(tmp_path)
    assert APTTokenizer.from_pretrained(tmp_path).encode("rain", add_special_tokens=False) == [added]


def test_a_file_of_another_format_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "BPE"}}', encoding="utf-8")
    with pytest.raises(ModelError, match=r"tokenizer\.json: this is not an APT tokenizer"):
        APTTokenizer(tmp_path / "tokenizer.json")
