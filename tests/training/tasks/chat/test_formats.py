"""Forms of chats: found from their keys, read into one form, and refused in one line that names the place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from training.errors import DataError
from training.tasks.chat.formats import (
    CHAT_FORMATS,
    DEEPEST,
    ChatFormat,
    Conversation,
    conversation_of,
    find_format,
)

WHERE = "chats.jsonl, line 7"
QUESTION, ANSWER = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}
ROWS: dict[ChatFormat, dict[str, Any]] = {
    "messages": {"messages": [QUESTION, ANSWER]},
    "sharegpt": {"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]},
    "alpaca": {"instruction": "2 + 2?", "input": "", "output": "4"},
    "prompt_completion": {"prompt": "2 + 2?", "completion": "4"},
    "question_answer": {"question": "2 + 2?", "answer": "4"},
}


def read(row: dict[str, Any], format: ChatFormat | None = None) -> Conversation:
    return conversation_of(row, format or find_format([row]), WHERE)


def refusal(row: dict[str, Any], format: ChatFormat) -> str:
    with pytest.raises(DataError) as caught:
        conversation_of(row, format, WHERE)
    line = str(caught.value)
    assert line.startswith(f"{WHERE}: ")
    assert "\n" not in line
    return line.removeprefix(f"{WHERE}: ")


# -- the format is found -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHAT_FORMATS)
def test_a_format_is_found_from_its_keys_and_reads_the_same_chat(name: ChatFormat) -> None:
    row = ROWS[name]
    assert find_format([row, {**row, "id": 7}]) == name
    assert read(row) == Conversation([QUESTION, ANSWER], None, 1)


@pytest.mark.parametrize("column", ["conversations", "conversation"])
def test_the_keys_of_the_turns_decide_not_the_columns_name(column: str) -> None:
    assert find_format([{column: [QUESTION, ANSWER]}]) == "messages"
    assert find_format([{column: ROWS["sharegpt"]["conversations"]}]) == "sharegpt"
    assert read({column: [QUESTION, ANSWER]}).messages == [QUESTION, ANSWER]


def test_two_formats_are_asked_about() -> None:
    row = {**ROWS["messages"], **ROWS["question_answer"]}
    with pytest.raises(DataError, match=r"messages and question_answer .*--chat-format messages\|question_answer"):
        find_format([row])
    assert conversation_of(row, "question_answer", WHERE) == read(ROWS["question_answer"])


def test_one_row_of_one_format_only_decides_between_two() -> None:
    assert find_format([{**ROWS["messages"], **ROWS["question_answer"]}, ROWS["messages"]]) == "messages"


def test_a_column_of_nulls_is_no_column() -> None:
    assert find_format([{**ROWS["alpaca"], "prompt": None, "completion": None, "messages": None}]) == "alpaca"


def test_no_format_lists_the_keys_and_the_formats() -> None:
    with pytest.raises(DataError) as caught:
        find_format([{"instruction": "a", "context": "b", "response": "c"}])
    assert "instruction, context, response" in str(caught.value)
    assert all(name in str(caught.value) for name in CHAT_FORMATS)


def test_rows_of_different_formats_are_refused() -> None:
    with pytest.raises(DataError, match="different chat formats: messages and, in row 2, alpaca"):
        find_format([ROWS["messages"], ROWS["alpaca"]])


def test_no_rows_have_no_format() -> None:
    with pytest.raises(DataError, match="no rows"):
        find_format([])


@pytest.mark.parametrize(("column", "name"), [("messages", "messages"), ("conversations", "sharegpt")])
def test_empty_conversations_say_nothing_of_the_format(column: str, name: ChatFormat) -> None:
    assert find_format([{column: []}]) == name
    assert find_format([{column: []}, {column: [QUESTION, ANSWER]}]) == "messages"


# -- what the forms have -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHAT_FORMATS)
def test_system_and_tools_are_columns_of_every_format(name: ChatFormat) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    found = read({**ROWS[name], "system": "Be brief.", "tools": json.dumps([tool])})
    assert found == Conversation([{"role": "system", "content": "Be brief."}, QUESTION, ANSWER], [tool], 2)


@pytest.mark.parametrize("tools", [None, "", "[]", []])
def test_no_tools_are_none(tools: Any) -> None:
    assert read({**ROWS["alpaca"], "tools": tools, "system": ""}) == read(ROWS["alpaca"])


def test_each_tool_may_be_a_text_of_json() -> None:
    assert read({**ROWS["alpaca"], "tools": ['{"name": "add"}', {"name": "mul"}]}).tools == [
        {"name": "add"},
        {"name": "mul"},
    ]


def test_other_names_of_roles() -> None:
    turns = [("system", "S"), ("human", "a"), ("gpt", "b"), ("user", "c"), ("assistant", "d")]
    found = read({"conversations": [{"from": name, "value": text} for name, text in turns]})
    assert [m["role"] for m in found.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert found.prompt_messages == 2
    assert read({"messages": [{"role": "developer", "content": "S"}, QUESTION, ANSWER]}).messages[0]["role"] == "system"


def test_sharegpts_calls_of_functions() -> None:
    found = read(
        {
            "conversations": [
                {"from": "human", "value": "2 + 2?"},
                {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 2, "b": 2}}'},
                {"from": "observation", "value": "4"},
                {"from": "gpt", "value": "It is 4."},
            ]
        }
    )
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 2}}}
    assert found.messages[1] == {"role": "assistant", "content": "", "tool_calls": [call]}
    assert found.messages[2] == {"role": "tool", "content": "4"}


def test_openais_calls_of_functions_have_their_arguments_as_a_mapping() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    asked = {"role": "assistant", "content": None, "tool_calls": [call], "audio": None}
    answer = {"role": "tool", "tool_call_id": "c1", "content": ""}
    found = read({"messages": [QUESTION, asked, answer, ANSWER]})
    assert found.messages[1] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{**call, "function": {"name": "add", "arguments": {"a": 2}}}],
    }
    assert found.messages[2] == answer
    assert read({"messages": [QUESTION, {**ANSWER, "tool_calls": []}]}).messages == [QUESTION, ANSWER]


def test_parts_of_text_are_joined() -> None:
    parts = [{"type": "text", "text": "2 "}, {"type": "text", "text": "+ 2?"}]
    assert read({"messages": [{"role": "user", "content": parts}, ANSWER]}).messages == [QUESTION, ANSWER]


def test_what_else_a_message_has_is_kept_and_nulls_are_not() -> None:
    thinking = {**ANSWER, "reasoning_content": "two and two", "weight": 0}
    assert read({"messages": [QUESTION, {**thinking, "name": None}]}).messages == [QUESTION, thinking]


def test_messages_in_a_csv_file_are_texts_of_json() -> None:
    row = {"messages": json.dumps([QUESTION, ANSWER])}
    assert find_format([row]) == "messages"
    assert read(row) == read(ROWS["messages"])


def test_alpacas_input_and_history() -> None:
    row = {"instruction": "Add.", "input": "2, 2", "output": "4", "history": [["Hello", "Hi"], ["Ready?", "Yes"]]}
    found = read(row)
    assert [m["content"] for m in found.messages] == ["Hello", "Hi", "Ready?", "Yes", "Add.\n2, 2", "4"]
    assert found.prompt_messages == 5
    assert read({**row, "instruction": "", "history": []}).messages[0]["content"] == "2, 2"


def test_a_prompt_and_a_completion_of_messages() -> None:
    prompt = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}, QUESTION]
    found = read({"prompt": prompt, "completion": [ANSWER]})
    assert found == Conversation([*prompt, ANSWER], None, 3)


def test_a_prompt_that_begins_like_json_is_a_text() -> None:
    found = read({"prompt": "[1, 2]", "completion": '{"sum": 3}'})
    assert [m["content"] for m in found.messages] == ["[1, 2]", '{"sum": 3}']


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], "messages is empty; remove the row"),
        ("hello", "messages should be a list of messages, not 'hello' (a str)"),
        (float("nan"), "messages should be a list of messages, not nan (a float)"),
        ([QUESTION], "no message of the assistant"),
        (["hello"], "messages[0] should be a mapping with 'role' and 'content', not 'hello' (a str)"),
        ([{"content": "hello"}], "messages[0]: 'role' is missing (it has content)"),
        (
            [{"role": "asistant", "content": "a"}],
            "messages[0].role: unknown role 'asistant' (a str); did you mean 'assistant'?; known: system, ",
        ),
        ([{"role": 7, "content": "a"}], "messages[0].role: unknown role 7 (a int)"),
        ([QUESTION, QUESTION, ANSWER], "messages 1 and 2 are both of the user"),
        ([QUESTION, ANSWER, ANSWER], "messages 2 and 3 are both of the assistant"),
        ([QUESTION, {"role": "assistant", "content": ""}], "messages[1].content: the assistant's text is empty"),
        ([QUESTION, {"role": "assistant"}], "messages[1].content: the assistant's text is empty"),
        ([{"role": "user", "content": " \n"}, ANSWER], "messages[0].content: the user's text is blank"),
        ([QUESTION, {"role": "assistant", "content": 4}], "messages[1].content should be a text, not 4 (a int)"),
        ([QUESTION, {"role": "assistant", "content": float("nan")}], "messages[1].content is NaN"),
        ([{"role": "user", "content": "\ud800"}, ANSWER], "messages[0].content has half of a character"),
        (
            [{"role": "user", "content": [{"type": "image", "url": "cat.png"}]}, ANSWER],
            'messages[0].content[0] should be {"type": "text", "text": "…"}, not a part of type \'image\'; text only',
        ),
        ([QUESTION, {**ANSWER, "score": float("inf")}], "messages[1].score is inf, which is not JSON"),
        ([QUESTION, {**ANSWER, "blob": b"x"}], "messages[1].blob is a bytes, which is not JSON"),
        ([QUESTION, {**ANSWER, "weight": 0.5}], "messages[1].weight = 0.5 (a float) should be 0 (not trained) or 1"),
        ([{**QUESTION, "tool_calls": [{"name": "f"}]}, ANSWER], "messages[0]: tool_calls in a message of 'user'"),
        ([QUESTION, {**ANSWER, "tool_calls": "f()"}], "messages[1].tool_calls should be JSON such as"),
        ([QUESTION, {**ANSWER, "tool_calls": [{"id": 1}]}], "messages[1].tool_calls[0] should be a call of a function"),
        (
            [QUESTION, {**ANSWER, "tool_calls": [{"name": "f", "arguments": "{"}]}],
            "messages[1].tool_calls[0].arguments should be a JSON object, not '{' (a str)",
        ),
    ],
)
def test_messages_are_refused_with_their_place(messages: Any, expected: str) -> None:
    assert refusal({"messages": messages}, "messages").startswith(expected)


def test_sharegpt_with_an_unknown_role_lists_the_known_ones() -> None:
    line = refusal({"conversations": [{"from": "bot", "value": "a"}]}, "sharegpt")
    assert line.startswith("conversations[0].from: unknown role 'bot' (a str)")
    assert line.endswith(
        "known: system, human, user, gpt, assistant, function_call, tool_call, tool, observation, function_response"
    )


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("messages", {"messages": None}, "'messages' is null; every row needs"),
        ("messages", {"conversations": [QUESTION, ANSWER]}, "messages and conversations both hold a conversation"),
        (
            "messages",
            {"messages": [{"role": "system", "content": "a"}, QUESTION, ANSWER], "system": "b"},
            "a system prompt stands in the column 'system' and in the first message",
        ),
        ("messages", {"system": 7}, "system should be a text, not 7 (a int)"),
        ("sharegpt", {"conversations": [{"value": "a"}]}, "conversations[0]: 'from' is missing"),
        ("alpaca", {"output": None}, "'output' is null"),
        ("alpaca", {"output": ""}, "output is empty"),
        ("alpaca", {"instruction": None}, "instruction is missing"),
        ("alpaca", {"input": float("nan")}, "input is NaN (an empty cell?)"),
        ("alpaca", {"history": "x"}, "history should be a list of [question, answer]"),
        ("alpaca", {"history": [["x"]]}, "history[0] should be [question, answer], not ['x'] (a list)"),
        ("alpaca", {"history": [["x", ""]]}, "history[0][1] is empty"),
        ("alpaca", {"tools": "add"}, "tools should be a list of JSON schemas"),
        ("alpaca", {"tools": ["add"]}, "tools[0] should be a JSON schema (a mapping), not 'add' (a str)"),
        ("alpaca", {"tools": float("nan")}, "tools is NaN"),
        ("prompt_completion", {"completion": [ANSWER]}, "prompt and completion should both be texts or both be lists"),
        ("prompt_completion", {"completion": " "}, "completion is blank"),
        (
            "prompt_completion",
            {"prompt": [QUESTION, ANSWER], "completion": [QUESTION]},
            "no message of the assistant in completion",
        ),
        ("question_answer", {"answer": 4}, "answer should be a text, not 4 (a int)"),
        ("question_answer", {"answer": float("nan")}, "answer is NaN (an empty cell?)"),
    ],
)
def test_rows_are_refused_with_their_place(name: ChatFormat, change: dict[str, Any], expected: str) -> None:
    assert refusal({**ROWS[name], **change}, name).startswith(expected)


def test_a_column_that_is_missing_in_a_late_row_is_named() -> None:
    assert (
        refusal({"question": "a", "reply": "b"}, "question_answer")
        == "'answer' is missing (the row has question, reply)"
    )


def test_what_is_deep_or_endless_is_refused_in_one_line() -> None:
    deep: Any = []
    for _ in range(DEEPEST + 1):
        deep = [deep]
    assert "nested more than" in refusal({"messages": [QUESTION, {**ANSWER, "extra": deep}]}, "messages")
    assert "a int" in refusal({"messages": [QUESTION, {"role": "assistant", "content": 10**5000}]}, "messages")
    assert "should be a list" in refusal({"messages": "[" * 100_000}, "messages")
