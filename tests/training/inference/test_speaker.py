"""Finished models that answer: the form of their task, their stop tokens, and conversations within what they read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.support.language_data import tiny_model
from tests.support.talking_models import chat_directory
from training.errors import CheckpointError, UserError
from training.inference.conversation import Conversation
from training.inference.speaker import Speaker, load_speaker
from training.tasks.answers.answer import Answer
from training.tasks.answers.prompt_format import ContinuationFormat
from training.tasks.answers.sampling import Chooser, Sampling
from training.tasks.chat.prompt import ChatPrompt
from training.tasks.hlbd.prompt import QuestionPrompt

pytestmark = pytest.mark.slow
GREEDY = Chooser(Sampling())


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return load_speaker(chat_directory(), torch.device("cpu"))


def written(answer: Answer) -> str:
    return "".join(answer)


# -- the form ------------------------------------------------------------------------------------------------------


def test_a_run_knows_its_task_and_a_plain_directory_has_a_template_or_not(finished_run: Path, speaker: Speaker) -> None:
    assert isinstance(load_speaker(finished_run, torch.device("cpu")).format, QuestionPrompt)
    assert isinstance(load_speaker(finished_run / "final_model", torch.device("cpu")).format, QuestionPrompt)
    assert isinstance(load_speaker(tiny_model("gpt2"), torch.device("cpu")).format, ContinuationFormat)
    assert isinstance(speaker.format, ChatPrompt)
    assert (speaker.context_length, load_speaker(tiny_model("gpt2"), torch.device("cpu")).context_length) == (256, 256)


def test_answers_stop_at_the_end_of_the_text_of_the_turn_and_where_the_models_file_says(
    tmp_path: Path, speaker: Speaker
) -> None:
    tokens = dict(speaker.format.tokenizer.get_vocab()) if isinstance(speaker.format, ChatPrompt) else {}
    end, turn, pad = tokens["<|endoftext|>"], tokens["<|im_end|>"], tokens["<|pad|>"]
    assert speaker.stops == {end, turn}
    shutil.copytree(tiny_model("llama"), tmp_path / "model")
    listed = {"eos_token_id": [end, pad, tokens["a"]]}  # the last one is of another tokenizer: a letter in this one
    (tmp_path / "model/generation_config.json").write_text(json.dumps(listed), encoding="utf-8")
    assert load_speaker(tmp_path / "model", torch.device("cpu")).stops == {end, pad}


def test_a_chat_is_asked_as_its_template_has_it(speaker: Speaker) -> None:
    assert isinstance(speaker.format, ChatPrompt)
    turns = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}]
    tokenizer = speaker.format.tokenizer
    expected = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert speaker.format.encode(turns) == expected


def test_a_template_that_refuses_a_system_message_says_so(tmp_path: Path) -> None:
    shutil.copytree(chat_directory(), tmp_path / "model")
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system role') }}{% endif %}x"
    (tmp_path / "model/chat_template.jinja").write_text(template, encoding="utf-8")
    conversation = Conversation(load_speaker(tmp_path / "model", torch.device("cpu")), "Be short.")
    with pytest.raises(UserError, match=r"refuses the conversation \(it may know no system message.*No system role"):
        conversation.ask("Hi", GREEDY, 4)


def test_a_model_without_a_tokenizer_or_with_broken_weights_is_one_line(tmp_path: Path) -> None:
    shutil.copytree(tiny_model("llama"), tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "model" / name).unlink()
    with pytest.raises(CheckpointError, match="tokenizer"):
        load_speaker(tmp_path / "model", torch.device("cpu"))

    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_model("llama"), tmp_path / "broken")
    weights = load_file(tmp_path / "broken/model.safetensors")
    weights["model.norm.weight"][0] = torch.nan
    save_file(weights, tmp_path / "broken/model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="not finite"):
        load_speaker(tmp_path / "broken", torch.device("cpu"))


# -- conversations -------------------------------------------------------------------------------------------------


def test_a_conversation_is_asked_with_its_earlier_turns(speaker: Speaker) -> None:
    conversation = Conversation(speaker, "Be short.")
    first = written(conversation.ask("Hello", GREEDY, 8))
    second = written(conversation.ask("More", GREEDY, 8))
    whole = [
        {"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": first}, {"role": "user", "content": "More"},
    ]  # fmt: skip
    assert written(speaker.answer(whole, GREEDY, 8)) == second
    conversation.restart()
    assert written(conversation.ask("Hello", GREEDY, 8)) == first, "the system message stays"


def test_the_oldest_turns_are_left_out_and_an_answer_keeps_half_of_the_room(speaker: Speaker) -> None:
    conversation = Conversation(speaker)
    left_out = []
    for number in range(6):
        answer = conversation.ask(f"Question number {number} is a long one", GREEDY, 20)
        assert written(answer)
        left_out.append(conversation.num_left_out)
    assert left_out[0] == 0
    assert sum(left_out) > 0
    with pytest.raises(UserError, match="tokens, and the model reads 256"):
        conversation.ask("x " * 300, GREEDY, 20)
    assert conversation.ask("y " * 90, GREEDY, 20), "alone it fits, and all earlier turns are left out"
    assert conversation.num_left_out > 0


def test_an_answer_that_was_stopped_before_its_first_word_leaves_no_turn(speaker: Speaker) -> None:
    conversation = Conversation(speaker)
    conversation.ask("Never heard", GREEDY, 8)
    assert written(conversation.ask("Hello", GREEDY, 8)) == written(Conversation(speaker).ask("Hello", GREEDY, 8))


def test_a_model_without_a_template_reads_no_system_message() -> None:
    speaker = load_speaker(tiny_model("gpt2"), torch.device("cpu"))
    with pytest.raises(UserError, match="no chat template"):
        Conversation(speaker, "Be short.")
    conversation = Conversation(speaker)
    first = written(conversation.ask("Hello", GREEDY, 8))
    assert written(conversation.ask("Hello", GREEDY, 8)) == first, "nothing is remembered"
