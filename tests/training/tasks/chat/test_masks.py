"""Loss masks: two readings that agree, on templates in the form of known ones; and the silent faults of others."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.tasks.chat import known_templates
from tests.training.tasks.chat.known_templates import (
    ASKED_OTHERWISE,
    CHATML_TAGGED,
    GEMMA,
    GPT_OSS,
    LLAMA3,
    MISTRAL,
    MISTRAL_LATE_SYSTEM,
    PHI3,
    PLAIN_NEWLINES,
    QWEN2,
    QWEN3,
    SMOLLM2,
    small_tokenizer,
)
from training.errors import DataError
from training.tasks.chat.formats import Conversation
from training.tasks.chat.masks import EncodedConversation, LossOn, Note, encode
from training.tasks.chat.template import find_template

pytestmark = pytest.mark.slow  # imports transformers

WHERE = "chats.jsonl, line 7"
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 2}}}
TOOLS = [{"type": "function", "function": {"name": "add", "description": "Adds."}}]


def turns(*texts: str, system: str | None = None) -> list[dict[str, Any]]:
    """Return messages of the user and the assistant in turn."""
    roles = ("user", "assistant")
    found: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    return found + [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]


CHAT = turns("2 + 2?", "4", "Sure?", "Yes, two and two is four.")


@functools.cache
def tokenizer_of(source: str | None, trim_offsets: bool = True) -> Any:
    return small_tokenizer(trim_offsets, chat_template=source)


def encoded(
    source: str,
    messages: list[dict[str, Any]],
    loss_on: LossOn = "assistant",
    tools: list[dict[str, Any]] | None = None,
    prompt_messages: int = 1,
    tokenizer: Any = None,
) -> EncodedConversation:
    """Encode messages by a template's name or source."""
    tokenizer = tokenizer or tokenizer_of(source if "{" in source else None)
    template = find_template(None if "{" in source else source, tokenizer)
    return encode(tokenizer, template, Conversation(messages, tools, prompt_messages), loss_on, WHERE)


def trained_text(found: EncodedConversation) -> str:
    return str(tokenizer_of(None).decode(found.tokens[found.trained]))


def refusal(*arguments: Any, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        encoded(*arguments, **settings)
    line = str(caught.value)
    assert line.startswith(f"{WHERE}: ")
    assert "\n" not in line
    return line


# -- masks of known templates --------------------------------------------------------------------------------------

STOPS = {
    SMOLLM2: "<|im_end|>",
    QWEN2: "<|im_end|>",
    QWEN3: "<|im_end|>",
    CHATML_TAGGED: "<|im_end|>",
    LLAMA3: "<|eot_id|>",
    GEMMA: "<end_of_turn>",
    MISTRAL: "<|im_end|>",
    PHI3: "<|im_end|>",
    MISTRAL_LATE_SYSTEM: "<|im_end|>",
    "chatml": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "gemma": "<end_of_turn>",
    "zephyr": "<|im_end|>",
    "plain": "<|im_end|>",
}
"""End-of-turn token by template."""
SPACED = {MISTRAL, MISTRAL_LATE_SYSTEM, "plain"}
"""Templates that write a space before an answer."""
TRIMMED = {LLAMA3, GEMMA, "llama3", "gemma"}
"""Templates that trim contents."""
NAMES = {source: name for name, source in vars(known_templates).items() if isinstance(source, str)}


def learned(source: str, answer: str) -> str:
    """Return what of a turn should be trained."""
    return (" " if source in SPACED else "") + (answer.strip() if source in TRIMMED else answer) + STOPS[source]


@pytest.mark.parametrize("source", [s for s in STOPS if s != QWEN3], ids=lambda s: NAMES.get(s, s))
def test_the_assistants_turns_are_trained_with_their_end_and_nothing_else(source: str) -> None:
    first, second = learned(source, "4"), learned(source, "Yes, two and two is four.")
    found = encoded(source, CHAT)
    assert trained_text(found) == first + second
    assert found.turns == len(found.stops) == 2
    assert found.straddling == 0
    assert found.tokens.dtype == np.int32
    assert found.notes == ({Note.REWRITTEN} if source == PHI3 else set())
    assert trained_text(encoded(source, CHAT, "last")) == second
    assert trained_text(encoded(source, CHAT, "completion", prompt_messages=3)) == second
    assert trained_text(encoded(source, CHAT, "completion", prompt_messages=1)) == first + second


@pytest.mark.parametrize("source", STOPS, ids=lambda s: NAMES.get(s, s))
def test_loss_on_all_leaves_out_the_first_token_only(source: str) -> None:
    found = encoded(source, CHAT, "all")
    assert not found.trained[0]
    assert found.trained[1:].all()


@pytest.mark.parametrize(
    "source", [SMOLLM2, QWEN2, LLAMA3, CHATML_TAGGED, "chatml", "llama3", "gemma", "zephyr", "plain"]
)
def test_system_prompts_are_not_trained(source: str) -> None:
    found = encoded(source, turns("2 + 2?", "4", system="Be brief."))
    assert trained_text(found) == learned(source, "4")


@pytest.mark.parametrize("source", [QWEN2, "chatml"])
def test_calls_of_tools_are_trained_and_their_answers_are_not(source: str) -> None:
    messages = [
        CHAT[0],
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "four"},
        {"role": "assistant", "content": "Again:", "tool_calls": [CALL, CALL]},
        {"role": "tool", "content": "four"},
        {"role": "tool", "content": "five"},
        {"role": "assistant", "content": "It is 4."},
    ]
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 2}}\n</tool_call>'
    expected = f"{call}<|im_end|>Again:\n{call}\n{call}<|im_end|>It is 4.<|im_end|>"
    assert trained_text(encoded(source, messages, tools=TOOLS)) == expected
    assert trained_text(encoded(source, messages[:2], tools=TOOLS)) == f"{call}<|im_end|>"


def test_a_message_of_weight_zero_is_not_trained() -> None:
    messages = [CHAT[0], {**CHAT[1], "weight": 0}, *CHAT[2:]]
    assert trained_text(encoded(SMOLLM2, messages)) == learned(SMOLLM2, "Yes, two and two is four.")
    assert trained_text(encoded(CHATML_TAGGED, messages)) == learned(CHATML_TAGGED, "Yes, two and two is four.")


# -- templates that rewrite ----------------------------------------------------------------------------------------

THOUGHT = turns("2 + 2?", "<think>\nEasy.\n</think>\n\n4", "Sure?", "<think>\nAgain.\n</think>\n\nYes.")


def test_an_earlier_turn_without_its_thinking_is_learned_as_it_stands_and_noted() -> None:
    found = encoded(QWEN3, THOUGHT)
    assert trained_text(found) == "4<|im_end|><think>\nAgain.\n</think>\n\nYes.<|im_end|>"
    assert found.notes == {Note.REWRITTEN}
    assert len(found.stops) == 2


def test_the_last_turn_is_learned_with_its_thinking_be_it_empty() -> None:
    found = encoded(QWEN3, THOUGHT, "last")
    assert trained_text(found) == "<think>\nAgain.\n</think>\n\nYes.<|im_end|>"
    assert found.notes == frozenset()
    assert trained_text(encoded(QWEN3, CHAT[:2])) == "<think>\n\n</think>\n\n4<|im_end|>"


def test_thinking_in_a_key_of_its_own() -> None:
    messages = [CHAT[0], {**CHAT[1], "reasoning_content": "Easy."}, *CHAT[2:3], {**CHAT[3], "reasoning_content": "Hm."}]
    expected = "4<|im_end|><think>\nHm.\n</think>\n\nYes, two and two is four.<|im_end|>"
    assert trained_text(encoded(QWEN3, messages)) == expected


def test_a_last_turn_that_another_token_ends() -> None:
    found = encoded(GPT_OSS, CHAT)
    assert trained_text(found) == " final\n4<|im_end|> final\nYes, two and two is four.</s>"
    assert found.notes == {Note.REWRITTEN}
    assert trained_text(encoded(GPT_OSS, CHAT, "last")) == " final\nYes, two and two is four.</s>"


def test_a_system_prompt_that_moves_is_refused_but_for_the_last_turn() -> None:
    messages = turns("2 + 2?", "4", "Sure?", "Yes.", system="Be brief.")
    line = refusal(MISTRAL_LATE_SYSTEM, messages)
    assert "the loss mask of turn 1 (message 3) cannot be confirmed" in line
    assert "what it asks the model with is not what it writes before the answer" in line
    assert "--loss-on last" in line
    assert trained_text(encoded(MISTRAL_LATE_SYSTEM, messages, "last")) == " Yes.<|im_end|>"


def test_a_generation_prompt_that_answers_do_not_follow_is_refused() -> None:
    line = refusal(ASKED_OTHERWISE, CHAT[:2])
    assert (
        r"what it asks the model with is not what it writes before the answer ('<think>\n', then '4<|im_end|>\n')"
        in line
    )
    assert line.endswith("choose another template with --chat-template")


# -- the two readings ----------------------------------------------------------------------------------------------

TAGGED = "{%- generation %}{{- message['content'] + '<|im_end|>' }}{% endgeneration %}"


@pytest.mark.parametrize(
    ("tags", "token"),
    [
        ("{{- message['content'] }}{% generation %}{{ '<|im_end|>' }}{% endgeneration %}", "'4'"),
        (
            "{%- generation %}{{ message['content'][:-1] }}{% endgeneration %}"
            "{{ message['content'][-1:] + '<|im_end|>' }}",
            "'4'",
        ),
        ("{{- message['content'] + '<|im_end|>' }}{% generation %}{% endgeneration %}", "'4'"),
        ("{%- generation %}{{ '\\n' }}{% endgeneration %}{{ message['content'] + '<|im_end|>' }}", "'4'"),
        ("{% set shown %}" + TAGGED + "{% endset %}{{ ' ' }}{{ shown }}", "'<|im_end|>'"),
    ],
    ids=["end-only", "one-short", "empty", "another-line", "written-late"],
)
def test_a_template_that_mistags_is_caught_by_the_prefixes(tags: str, token: str) -> None:
    line = refusal(CHATML_TAGGED.replace(TAGGED, tags), turns("2 + 2?", "4"))
    assert "the two readings of the loss mask differ in turn 1 (message 2) at token " in line
    assert token in line
    assert "by the generation tags" in line
    assert "by the prefixes" in line


def test_tags_around_the_users_turn_are_caught() -> None:
    source = CHATML_TAGGED.replace("== 'assistant'", "!= 'system'")
    line = refusal(source, CHAT)
    assert r"'2' after '<|im_start|>user\n': trained by the generation tags, not trained by the prefixes" in line


def test_the_stop_token_outside_the_tags_is_trained_and_noted() -> None:
    # trl PR #5988: a mask that ends before the end-of-turn token trains a model that never stops.
    tags = "{% generation %}{{- message['content'] }}{% endgeneration %}{{ '<|im_end|>' }}"
    found = encoded(CHATML_TAGGED.replace(TAGGED, tags), CHAT)
    assert trained_text(found) == "4<|im_end|>Yes, two and two is four.<|im_end|>"
    assert found.notes == {Note.STOP_OUTSIDE_TAGS}


def test_the_generation_prompt_and_the_line_end_inside_the_tags_are_not_trained() -> None:
    source = """\
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{%- generation %}{{- '<|im_start|>assistant\n' + message.content + '<|im_end|>\n' }}{% endgeneration %}
{%- else %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}"""
    found = encoded(source, CHAT)
    assert trained_text(found) == "4<|im_end|>Yes, two and two is four.<|im_end|>"
    assert found.notes == {Note.PROMPT_IN_TAGS}


def test_tags_that_begin_within_the_generation_prompt() -> None:
    # TRL's training template of Qwen2.5 tags the line end before an answer, which the prompt already has.
    source = CHATML_TAGGED.replace("+ message['role'] + '\n' }}", "+ message['role'] }}")
    source = source.replace(
        "{{- message['content'] + '<|im_end|>' }}", "{{- '\n' + message['content'] + '<|im_end|>' }}"
    )
    source = source.replace(
        "{{- message['content'] + '<|im_end|>\n' }}", "{{- '\n' + message['content'] + '<|im_end|>\n' }}"
    )
    found = encoded(source, CHAT)
    assert trained_text(found) == "4<|im_end|>Yes, two and two is four.<|im_end|>"
    assert found.notes == {Note.PROMPT_IN_TAGS}


def test_an_answer_that_the_template_changes_is_read_all_the_same() -> None:
    source = SMOLLM2.replace(
        "message['content'] +", "message['content'] + ('!' if message.role == 'assistant' else '') +"
    )
    assert trained_text(encoded(source, turns("a", "yes", "b", "no"))) == "yes!<|im_end|>no!<|im_end|>"


def test_an_answer_that_the_template_drops_is_refused() -> None:
    source = SMOLLM2.replace("message['content'] +", "(message['content'] if message.role != 'assistant' else 'x') +")
    assert "its text is not found in the rendered conversation" in refusal(source, CHAT)


# -- faults of others ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [SMOLLM2, "chatml"])
def test_pad_that_is_eos_leaves_the_stop_token_trained(source: str) -> None:
    # transformers #23530: a mask by token id takes every pad, and with it every eos, out of the loss.
    tokenizer = tokenizer_of(None if source == "chatml" else source)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    found = encoded(source, CHAT)
    assert [found.tokens[place] for place in found.stops] == [tokenizer.eos_token_id] * 2
    assert found.trained[found.tokens == tokenizer.eos_token_id].sum() == 2


@pytest.mark.parametrize("source", STOPS, ids=lambda s: NAMES.get(s, s))
def test_no_mask_is_empty_or_full(source: str) -> None:
    # trl #6668: a template without tags gave a mask of zeros; unsloth #1128: markers that are not found, one of ones.
    found = encoded(source, CHAT)
    assert 0 < found.trained.sum() < len(found.tokens) - 1


@pytest.mark.parametrize("source", [LLAMA3, GEMMA, MISTRAL, "llama3", "gemma", "plain"], ids=lambda s: NAMES.get(s, s))
def test_there_is_one_bos(source: str) -> None:
    # open-r1 PR #462: the template writes one, and the tokenizer adds another.
    from tokenizers.processors import TemplateProcessing

    tokenizer = small_tokenizer(chat_template=source if "{" in source else None)
    bos = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    assert tokenizer("a")["input_ids"][0] == bos
    found = encoded(source, CHAT, tokenizer=tokenizer)
    assert (found.tokens == bos).sum() == 1
    assert found.tokens[0] == bos


@pytest.mark.parametrize("role", ["user", "tool"])
def test_a_last_message_that_nothing_answers_is_refused(role: str) -> None:
    messages = [*CHAT, {"role": role, "content": "Thanks!"}]
    line = refusal(SMOLLM2, messages)
    assert f"the conversation ends with a message of the {role}, which no answer follows" in line
    assert "--loss-on all" in line
    assert encoded(SMOLLM2, messages, "all").trained[1:].all()


def test_tools_that_the_template_leaves_out_are_refused() -> None:
    assert "leaves out the tools" in refusal(SMOLLM2, CHAT, tools=TOOLS)
    messages = [CHAT[0], {**CHAT[1], "tool_calls": [CALL]}]
    assert "leaves out the calls of tools (message 2)" in refusal(SMOLLM2, messages)
    source = QWEN2.replace(
        "message.tool_calls %}\n            {%- if tool_call.f", "[] %}\n            {%- if tool_call.f"
    )
    assert source != QWEN2
    assert "leaves out the calls of tools (message 2)" in refusal(source, messages, tools=TOOLS)


def test_an_empty_text_is_refused() -> None:
    assert "makes an empty text" in refusal("{{ '' }}", CHAT)


# -- tokens and characters -----------------------------------------------------------------------------------------


def test_a_token_on_the_beginning_of_a_turn_is_left_out_and_counted() -> None:
    found = encoded(PLAIN_NEWLINES, turns("a", "four"))  # `assistant: ` and `four` share the token ` four`
    assert found.straddling == 1
    assert "four".endswith(trained_text(found).strip())
    assert found.turns == 1
    assert found.stops == ()


@pytest.mark.parametrize("trim_offsets", [True, False])
def test_white_space_that_a_tokenizer_leaves_out_of_its_offsets_is_counted(trim_offsets: bool) -> None:
    tokenizer = tokenizer_of("{}" + PLAIN_NEWLINES, trim_offsets)
    found = encode(
        tokenizer, find_template(None, tokenizer), Conversation(turns("a", "four"), None, 1), "assistant", WHERE
    )
    assert found.straddling == 1


def test_tokens_that_are_added_later_are_known() -> None:
    tokenizer = small_tokenizer(chat_template=SMOLLM2.replace("<|im_end|>", "<|over|>"))
    assert encoded("{", turns("a", "b"), tokenizer=tokenizer).stops == ()
    tokenizer.add_tokens(["<|over|>"], special_tokens=True)
    found = encoded("{", turns("a", "b"), tokenizer=tokenizer)
    assert [found.tokens[place] for place in found.stops] == [tokenizer.convert_tokens_to_ids("<|over|>")]


def test_unknown_characters_are_counted_and_the_token_written_out_is_not() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ("<unk>", "<s>", "</s>", "a", "b", "c", ":")
    letters = {word: number for number, word in enumerate(words)}
    backend = Tokenizer(models.WordLevel(letters, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}"
        "{{ m.content + (eos_token if m.role == 'assistant' else ':') }}{% endfor %}"
    )
    found = encoded("{", turns("abx<unk>", "cy"), tokenizer=tokenizer)
    assert found.unknown == 2
    assert list(found.trained) == [False] * 6 + [True] * 3


# -- any conversation ----------------------------------------------------------------------------------------------

_PIECES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.sampled_from([
        "\n", " ", "\n\n", "<think>", "</think>", "assistant\n", "[INST]", " [/INST]", "Assistant:", "User: ", "🌧️",
        "下雨", "\u200b", "\r\n", "\x00", "{{ messages }}", "{%", "\\n", "</tool_call>",
    ]),
)  # fmt: skip
_CONTENTS = st.lists(_PIECES, min_size=1, max_size=5).map("".join).filter(str.strip)
_CONTROLS = st.lists(st.one_of(_PIECES, st.sampled_from(known_templates.CONTROL_TOKENS)), min_size=1, max_size=5)
_CHATS = st.lists(st.tuples(_CONTENTS, _CONTENTS), min_size=1, max_size=4)


@pytest.mark.parametrize("source", [s for s in STOPS if s != QWEN3], ids=lambda s: NAMES.get(s, s))
@given(pairs=_CHATS)
def test_of_any_conversation_exactly_the_answers_are_trained(source: str, pairs: list[tuple[str, str]]) -> None:
    texts = [text for pair in pairs for text in pair]
    found = encoded(source, turns(*texts))
    expected = "".join(learned(source, answer) for answer in texts[1::2])
    if found.straddling:  # a line end before an answer and one in it are one token
        assert len(trained_text(found)) < len(expected)
    else:
        assert trained_text(found) == expected
    assert len(found.stops) == found.turns == len(pairs)


def test_an_answer_that_stands_in_the_next_head_too_is_found_where_it_is() -> None:
    assert trained_text(encoded(PHI3, turns("0", "r", "0", "0"))) == f"{learned(PHI3, 'r')}{learned(PHI3, '0')}"


@given(pairs=_CHATS)
def test_of_any_conversation_the_readings_of_a_rewriting_template_agree(pairs: list[tuple[str, str]]) -> None:
    texts = [text for question, answer in pairs for text in (f"{question}♘", answer)]
    found = encoded(QWEN3, turns(*texts))
    assert "♘" not in trained_text(found)
    assert len(found.stops) == found.turns == len(pairs)


@pytest.mark.parametrize("source", [SMOLLM2, LLAMA3, MISTRAL, CHATML_TAGGED], ids=lambda s: NAMES.get(s, s))
@given(pairs=st.lists(st.tuples(_CONTENTS, _CONTROLS.map("".join).filter(str.strip)), min_size=1, max_size=3))
def test_control_tokens_in_an_answer_never_train_the_user(source: str, pairs: list[tuple[str, str]]) -> None:
    texts = [text for question, answer in pairs for text in (f"{question}♘", answer)]
    try:
        found = encoded(source, turns(*texts))
    except DataError:
        return  # the readings differ: it is refused
    assert "♘" not in trained_text(found)
