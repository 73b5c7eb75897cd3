"""The task chat: what is learned of a row, what is refused, and what is said before the first step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.language_data import chats, chats_file, tiny_model
from training.backends.prepare import config_class
from training.errors import ConfigError, DataError, UserError
from training.models.tokenizers import from_artefacts, stop_tokens
from training.tasks.chat.task import ChatTask
from training.tasks.protocol import Prepared

if TYPE_CHECKING:
    from tests.conftest import FrontDoor

SMALL = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16, "max_seq_len": 160}
CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello there."}]}


def prepare(
    *datasets: Path, model: str = "huggingface", data: dict[str, Any] | None = None, **options: Any
) -> Prepared:
    network = SMALL if model == "apt" else {"base_model": str(tiny_model())}
    config = config_class(task="chat", model=model).from_dict({
        "model": {**network, **options},
        "data": {"datasets": [str(path) for path in datasets], **(data or {})},
    })  # fmt: skip
    return ChatTask().prepare(config)


def rows_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def trained(prepared: Prepared, number: int = 0) -> str:
    """Return the text of a sample's trained tokens."""
    tokenizer = from_artefacts(prepared.artefacts, "here")
    sample = prepared.train[number]
    return str(tokenizer.decode(sample.tokens[sample.trained].tolist()))


def test_the_answers_and_the_tokens_that_end_them_are_learned() -> None:
    prepared = prepare(chats_file())
    assert len(prepared.train) == len(chats())
    for number, row in enumerate(chats()):
        answers = [message["content"] for message in row["messages"] if message["role"] == "assistant"]
        assert trained(prepared, number) == "".join(f"{answer}<|im_end|>" for answer in answers)


@pytest.mark.parametrize(
    ("loss_on", "expected"),
    [
        ("assistant", "The capital of France is Paris.<|im_end|>About France.<|im_end|>"),
        ("last", "About France.<|im_end|>"),
        ("completion", "The capital of France is Paris.<|im_end|>About France.<|im_end|>"),
    ],
)
def test_what_the_loss_is_on_can_be_chosen(loss_on: str, expected: str) -> None:
    assert trained(prepare(chats_file(), data={"loss_on": loss_on})) == expected


def test_a_mask_has_a_fingerprint_of_its_own() -> None:
    prints = {prepare(chats_file(), data={"loss_on": on}).fingerprint for on in ("assistant", "last", "all")}
    assert len(prints) == 3


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("messages", CHAT),
        ("sharegpt", {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello there."}]}),
        ("alpaca", {"instruction": "Hi", "input": "", "output": "Hello there."}),
        ("prompt_completion", {"prompt": "Hi", "completion": "Hello there."}),
        ("question_answer", {"question": "Hi", "answer": "Hello there."}),
    ],
)
def test_each_form_of_rows_is_found_and_said_and_learned_alike(name: str, row: dict[str, Any], tmp_path: Path) -> None:
    prepared = prepare(rows_file(tmp_path / "rows.jsonl", [row] * 3))
    assert trained(prepared) == "Hello there.<|im_end|>"
    assert any(line.endswith(f"rows.jsonl: {name}") for line in prepared.introduction)
    assert prepared.facts["formats"] == [name]


def test_two_forms_in_one_row_are_asked_about_with_their_file(tmp_path: Path) -> None:
    both = {"prompt": "a", "completion": "b", "question": "a", "answer": "b"}
    path = rows_file(tmp_path / "both.jsonl", [both])
    with pytest.raises(UserError, match=r"both.jsonl: the rows have the keys of more than one.*--chat-format"):
        prepare(path)
    assert trained(prepare(path, data={"chat_format": "question_answer"})) == "b<|im_end|>"


def test_the_certificate_is_printed_and_kept() -> None:
    prepared = prepare(chats_file())
    kept = prepared.facts["certificate"]
    assert kept["rows"] == len(chats())
    assert kept["stops"] == {"<|im_end|>": kept["turns"]}
    lines = list(prepared.introduction)
    assert "mask    read by two methods, which agree in every row:" in lines
    assert any(line.startswith("turns whose stop token is trained") for line in lines)
    assert [line for line in lines if len(line) > 80 and str(chats_file()) not in line] == []


def test_rows_that_are_too_long_are_refused_or_cut(tmp_path: Path) -> None:
    long = {"messages": [*CHAT["messages"][:1], {"role": "assistant", "content": "word " * 80}]}
    hopeless = {"messages": [{"role": "user", "content": "word " * 200}, *CHAT["messages"][1:]]}
    path = rows_file(tmp_path / "long.jsonl", [CHAT, long, hopeless])
    with pytest.raises(DataError) as refused:
        prepare(path, max_seq_len=64)
    assert "2 rows are longer than max_seq_len=64 tokens, the first is " in str(refused.value)
    assert "long.jsonl, line 2 with " in str(refused.value)
    prepared = prepare(path, max_seq_len=64, data={"truncate": True})
    assert len(prepared.train) == 2
    assert int(prepared.train.lengths.max()) == 64
    certificate = prepared.facts["certificate"]
    assert (certificate["cut_rows"], certificate["cut_answers"], certificate["untrained_rows"]) == (2, 2, 1)
    assert prepared.facts["left_out"] == 1
    assert "warning: 1 rows without a trained token are left out" in prepared.introduction


def test_data_of_which_nothing_would_be_learned_is_refused(tmp_path: Path) -> None:
    hopeless = {"messages": [{"role": "user", "content": "word " * 200}, *CHAT["messages"][1:]]}
    with pytest.raises(DataError, match="no token of the 2 rows is trained"):
        prepare(rows_file(tmp_path / "x.jsonl", [hopeless, hopeless]), max_seq_len=64, data={"truncate": True})


def test_a_tokenizer_without_the_templates_tokens_needs_new_rows(tmp_path: Path) -> None:
    how: dict[str, Any] = {"data": {"chat_template": "llama3"}}
    with pytest.raises(ConfigError, match="400 rows; give the model's own tokenizer, or add --resize-embeddings"):
        prepare(chats_file(), **how)
    prepared = prepare(chats_file(), resize_embeddings=True, **how)
    assert prepared.vocabulary is not None
    assert prepared.vocabulary > 400
    assert prepared.config.model.vocab_size == prepared.vocabulary
    assert prepared.objective.build_model().get_input_embeddings().num_embeddings == prepared.vocabulary  # type: ignore[operator]
    assert trained(prepared).endswith("<|eot_id|>")


def test_a_model_from_scratch_learns_chats_with_a_tokenizer_of_their_texts() -> None:
    prepared = prepare(chats_file(), model="apt", vocab_size=300)
    assert trained(prepared, 1) == "The capital of Japan is Tokyo.<|im_end|>"
    by_character = prepare(chats_file(), model="apt", data={"tokenizer": "characters"})
    assert trained(by_character, 1) == "The capital of Japan is Tokyo.<|im_end|>"
    assert by_character.facts["certificate"]["unknown"] == 0, "it knows the template's own words"


def test_other_programs_are_told_where_an_answer_ends() -> None:
    prepared = prepare(chats_file())
    tokenizer = from_artefacts(prepared.artefacts, "here")
    assert stop_tokens(prepared.artefacts) == tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert tokenizer.chat_template


def test_a_bad_row_is_one_line_and_exit_code_2(tmp_path: Path, front_door: FrontDoor) -> None:
    path = rows_file(tmp_path / "bad.jsonl", [CHAT, {"messages": [{"role": "wizard", "content": "x"}]}])
    words = ["--task", "chat", "--model", tiny_model(), "--datasets", path, "--run-dir", tmp_path / "run"]
    told = front_door([*map(str, words)])
    assert told.exit_code == 2
    [line] = told.stderr.strip().splitlines()
    assert "bad.jsonl, line 2" in line
    assert "'wizard'" in line
    assert not (tmp_path / "run").exists()


def test_the_finished_model_is_asked_and_must_stop_by_itself() -> None:
    prepared = prepare(chats_file(), data={"packing": True})
    model = prepared.objective.build_model()
    figures, lines = ChatTask().conclude(model, prepared)
    assert figures["stop"]["asked"] == len(figures["stop"]["lengths"]) == 20
    assert figures["stop"]["ended"] < 20, "an untrained model stops by chance only"
    assert lines[0].startswith("stop    ")
    assert len(lines) == 4
    assert "What is the capital of" in lines[1]


def test_the_certificate_of_the_same_rows_names_the_file_of_today(tmp_path: Path) -> None:
    long = {"messages": [*CHAT["messages"][:1], {"role": "assistant", "content": "word " * 80}]}
    how: dict[str, Any] = {"max_seq_len": 64, "data": {"truncate": True}}
    one, other = (prepare(rows_file(tmp_path / name, [CHAT, long]), **how) for name in ("then.jsonl", "now.jsonl"))
    assert one.fingerprint == other.fingerprint, "the data is the same, and a run goes on with it"
    assert "now.jsonl" in other.facts["certificate"]["first"]["cut_rows"]
    assert not any("then.jsonl" in line for line in other.introduction)
