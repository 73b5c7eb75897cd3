"""Chat templates: found by name, file or tokenizer, and each failure in one line that says where."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from tests.training.tasks.chat import known_templates
from tests.training.tasks.chat.known_templates import CHATML_TAGGED, QWEN2, small_tokenizer
from training.errors import ConfigError, DataError, UserError
from training.tasks.chat.built_in_templates import BUILT_IN
from training.tasks.chat.template import DATE, LARGEST_FILE, ChatTemplate, find_template

pytestmark = pytest.mark.slow  # imports transformers

CHAT = [
    {"role": "user", "content": "2 + 2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "Yes."},
]


@pytest.mark.parametrize("source", [QWEN2, CHATML_TAGGED])
def test_the_tokenizers_own_renders_as_transformers_does(source: str) -> None:
    tokenizer = small_tokenizer(chat_template=source)
    template = find_template(None, tokenizer)
    assert template.render(CHAT, None, "row") == tokenizer.apply_chat_template(CHAT, tokenize=False)
    asked = tokenizer.apply_chat_template(CHAT[:1], tokenize=False, add_generation_prompt=True)
    assert template.render(CHAT[:1], None, "row", add_generation_prompt=True) == asked
    assert template.needs == ()


def test_of_several_the_default_is_taken_and_another_one_for_tools() -> None:
    tokenizer = small_tokenizer(chat_template={"default": CHATML_TAGGED, "tool_use": QWEN2, "rag": "{{ 1 }}"})
    template, tools = find_template(None, tokenizer), [{"name": "add"}]
    assert template.render(CHAT, None, "row") == tokenizer.apply_chat_template(CHAT, tokenize=False)
    assert template.render(CHAT, tools, "row") == tokenizer.apply_chat_template(CHAT, tools=tools, tokenize=False)
    assert not template.has_generation_tags  # the one for tools has none


@pytest.mark.parametrize("own", [None, {"rag": "{{ 1 }}"}])
def test_a_tokenizer_without_a_template_is_offered_others(own: Any) -> None:
    with pytest.raises(UserError, match=r"--chat-template \(chatml, llama3, gemma, zephyr, plain, or a file .jinja\)"):
        find_template(None, small_tokenizer(chat_template=own))


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_has_tags_that_hold_answers_and_their_end(name: str) -> None:
    tokenizer = small_tokenizer()
    template = find_template(name, tokenizer)
    text, spans = template.render_tagged(CHAT, None, "row")
    assert template.has_generation_tags
    assert [text[start:end].strip().rpartition("<")[0] for start, end in spans] == ["4", "Yes."]
    assert all(text[start:end].endswith(known_templates.CONTROL_TOKENS) for start, end in spans)
    assert text.startswith(template.render(CHAT[:1], None, "row", add_generation_prompt=True))
    assert template.generation_prompt


def test_tokens_that_the_tokenizer_lacks_are_named() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), eos_token="<e>")
    assert find_template("chatml", bare).needs == ("<|im_start|>", "<|im_end|>")
    assert find_template("llama3", bare).needs == ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    assert find_template("plain", bare).needs == ()
    bare.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    assert find_template("chatml", bare).needs == ()


def test_a_file_is_read_and_its_tokens_are_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("\ufeff{% for m in messages %}<|turn|>{{ m.content }}<|im_end|>{% endfor %}", encoding="utf-8")
    template = find_template(str(path), small_tokenizer())
    assert template.needs == ("<|turn|>",)
    assert template.render(CHAT[:1], None, "row") == "<|turn|>2 + 2?<|im_end|>"


@pytest.mark.parametrize(
    ("asked", "content", "expected"),
    [
        ("chatm", None, "there is no such name or file; did you mean 'chatml'?; known names: chatml, llama3"),
        (".", None, "it is a directory"),
        ("a\0b", None, "there is no such name or file"),
        ("a" * 5000, None, "it cannot be read"),
        ("t.jinja", b"\xff{{ 1 }}", "not UTF-8 at byte 0"),
        ("t.jinja", b" \n", "the file is empty"),
        ("t.jinja", b"a" * (LARGEST_FILE + 1), "larger than 1,000,000 bytes"),
    ],
)
def test_no_such_template_is_one_line(
    asked: str, content: bytes | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / asked).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        find_template(asked, small_tokenizer())
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a\n{% if %}", "line 2: Expected an expression"),
        ("a\n\n{% for m in messages %}", "line 3: Unexpected end of template"),
        ("{% generation %}a", "line 1: Unexpected end of template"),
        ("{% nonsense %}", "line 1: Encountered unknown tag 'nonsense'"),
    ],
)
def test_a_broken_template_is_refused_with_its_line(source: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"the tokenizer's chat template, {expected}"):
        find_template(None, small_tokenizer(chat_template=source))
    (tmp_path / "t.jinja").write_text(source)
    with pytest.raises(UserError, match=rf"t\.jinja, {expected}"):
        find_template(str(tmp_path / "t.jinja"), small_tokenizer())


@pytest.mark.parametrize("name", ["zephyr", "plain"])
def test_a_tokenizer_without_eos_is_refused_where_it_ends_the_turns(name: str) -> None:
    tokenizer = small_tokenizer(eos_token=None)
    with pytest.raises(UserError, match=r"this tokenizer has none, so no answer would end; .*--chat-template chatml"):
        find_template(name, tokenizer)
    assert find_template("chatml", tokenizer).needs == ()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a\n{{ raise_exception('no system') }}", r"T refuses the conversation \(its line 2\): no system"),
        ("{{ messages[9].content.x }}", r"T refuses the conversation \(its line 1\): .*has no element 9"),
        ("{{ messages[0].content + 1 }}", r"T fails \(its line 1\): TypeError: can only concatenate str"),
        ("{{ ''.__class__.__mro__ }}", r"T refuses the conversation \(its line 1\): access to attribute '__class__'"),
        ("{{ messages.append(1) }}", r"T refuses the conversation \(its line 1\): "),
        ("{% for i in range(10**9) %}{% endfor %}", r"T fails \(its line 1\): OverflowError: Range too big"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", r"T fails \(its line 1\): RecursionError"),
    ],
)
def test_a_template_that_fails_names_the_row_and_its_line(source: str, expected: str) -> None:
    with pytest.raises(DataError, match=rf"^chats\.jsonl, line 7: {expected}") as caught:
        ChatTemplate("T", source).render(CHAT, None, "chats.jsonl, line 7")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["%d %b %Y", "%Y-%m-%d", "%B %-d, %Y (%A)", "%d/%m/%y %H:%M", "no date"])
def test_a_template_that_writes_the_date_writes_the_same_on_every_day(form: str) -> None:
    template = ChatTemplate("T", f"{{% set day = strftime_now('{form}') %}}{{{{ 'Today is ' + day }}}}")
    assert template.reads_the_clock
    assert template.render(CHAT, None, "row") == f"Today is {DATE.strftime(form)}"
    assert not ChatTemplate("T", CHATML_TAGGED).reads_the_clock


@pytest.mark.parametrize(
    "beginning", ["", "\n", "\n\n", " \n", "  {% if true %}a{% endif %}", "  b", "{%- if true %} c{% endif %}"]
)
def test_the_fixed_clock_changes_nothing_else(beginning: str) -> None:
    source = beginning + "{% generation %}x{% endgeneration %}\n"
    clock = "{% if strftime_now is defined %}{% endif %}"
    assert ChatTemplate("T", source + clock).render_tagged(CHAT, None, "row") == ChatTemplate(
        "T", source + "{% if true %}{% endif %}"
    ).render_tagged(CHAT, None, "row")
    with pytest.raises(DataError, match=rf"its line {beginning.count(chr(10)) + 2}\): no"):
        ChatTemplate("T", source + clock + "{{ raise_exception('no') }}").render(CHAT, None, "row")


def test_a_template_goes_to_another_process() -> None:
    template = find_template("chatml", small_tokenizer())
    assert pickle.loads(pickle.dumps(template)) == template


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != "chatml"])
def test_tools_are_refused_by_a_built_in_without_a_form_for_them(name: str) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {}}}
    template = find_template(name, small_tokenizer())
    with pytest.raises(DataError, match="it has no form for tools"):
        template.render(CHAT, [{"name": "add"}], "row")
    with pytest.raises(DataError, match="it has no form for calls of tools"):
        template.render([CHAT[0], {**CHAT[1], "tool_calls": [call]}], None, "row")
