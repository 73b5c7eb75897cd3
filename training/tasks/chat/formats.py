"""Forms in which people keep chats, and the one form that chat templates take. No torch.

A row becomes a `Conversation`: messages as transformers' templates read them, with the roles system, user, assistant
and tool. The form is found from the keys of the first rows:

    messages            {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}
    sharegpt            {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}
    alpaca              {"instruction": "…", "input": "…", "output": "…", "history": [["…", "…"]]}
    prompt_completion   {"prompt": "…", "completion": "…"}, or both as lists of messages
    question_answer     {"question": "…", "answer": "…"}

`system` (a text) and `tools` (JSON schemas) are optional columns of each of them.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, get_args

from training.errors import DataError, did_you_mean, kind_of

ChatFormat = Literal["messages", "sharegpt", "alpaca", "prompt_completion", "question_answer"]
CHAT_FORMATS: tuple[ChatFormat, ...] = get_args(ChatFormat)

CONVERSATION_COLUMNS = ("messages", "conversations", "conversation")
"""Columns that hold a whole conversation, in either form of messages."""
TURN_KEYS: Mapping[str, tuple[str, str]] = {"messages": ("role", "content"), "sharegpt": ("from", "value")}
"""Keys of a turn's speaker and of its text, by form."""
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "alpaca": ("instruction", "output"),
    "prompt_completion": ("prompt", "completion"),
    "question_answer": ("question", "answer"),
}
"""Columns that a form without a list of messages must have."""
SHAPES = (
    "messages (messages: [{role, content}]), sharegpt (conversations: [{from, value}]), alpaca (instruction, output), "
    "prompt_completion (prompt, completion), question_answer (question, answer)"
)
ROLES: Mapping[str, Mapping[str, str]] = {
    "messages": {
        "system": "system",
        "developer": "system",
        "user": "user",
        "assistant": "assistant",
        "tool": "tool",
        "function": "tool",
    },
    "sharegpt": {
        "system": "system",
        "human": "user",
        "user": "user",
        "gpt": "assistant",
        "assistant": "assistant",
        "function_call": "assistant",
        "tool_call": "assistant",
        "tool": "tool",
        "observation": "tool",
        "function_response": "tool",
    },
}
"""Role of a message by the name that a row gives its speaker."""
_CALLS = frozenset({"function_call", "tool_call"})
DEEPEST = 64
"""Levels of lists and mappings in a row; the schema of a tool has about ten."""


@dataclass(frozen=True)
class Conversation:
    """One row as a chat template takes it."""

    messages: list[dict[str, Any]]
    """Mappings with `role` (system, user, assistant or tool), `content` (a text, empty only where there are tool calls,
    in an answer of a tool or in a system message), and what else the row had: `tool_calls`, `reasoning_content`, …"""
    tools: list[dict[str, Any]] | None
    """JSON schemas of the functions that the assistant may call."""
    prompt_messages: int
    """Number of leading messages that `--loss-on completion` takes for the prompt: as the row divides them, otherwise
    those before the assistant's first one."""


def find_format(rows: Sequence[Mapping[str, Any]]) -> ChatFormat:
    """Find the form of a file's rows from the keys of the first ones.

    Raises:
        DataError: there are no rows; none of the forms has these keys, or more than one has.
    """
    if not rows:
        raise DataError("there are no rows, so there is no chat format to find; check --datasets")
    # A row that fits no form is refused when its turn comes, with its place, if others say what it should be.
    decided = {number: formats for number, row in enumerate(rows, 1) if (formats := _formats_of(row))}
    if not decided and any(column in row for row in rows for column in CONVERSATION_COLUMNS):
        decided = {1: {"messages"} if any("messages" in row for row in rows) else {"sharegpt"}}
    keys = ", ".join(dict.fromkeys(str(key) for row in rows for key in row)) or "none"
    if not decided:
        raise DataError(f"no chat format has these keys: {keys}; rename columns to one of {SHAPES}")
    common = set(CHAT_FORMATS)
    for number, formats in decided.items():
        if not common & formats:
            raise DataError(
                f"the rows have different chat formats: {_first_of(common)} and, in row {number}, "
                f"{_first_of(formats)}; give each its own file of one format"
            )
        common &= formats
    if len(common) > 1:
        names = [name for name in CHAT_FORMATS if name in common]
        raise DataError(
            f"the rows have the keys of more than one chat format: {' and '.join(names)} (keys: {keys}); "
            f"choose one with --chat-format {'|'.join(names)}"
        )
    return common.pop()


def _first_of(formats: Set[str]) -> str:
    return next(name for name in CHAT_FORMATS if name in formats)


def conversation_of(row: Mapping[str, Any], format: ChatFormat, where: str) -> Conversation:
    """Return a row as a conversation.

    Args:
        row: a row as its file has it.
        format: the form that the row is in.
        where: the row's place, such as `chats.jsonl, line 7`, which each error begins with.

    Raises:
        DataError: a key is missing or has a value of another type; a role is unknown; a text is empty; nobody answers,
            or somebody speaks twice in a row.
    """
    system = _text_or_none(row, "system", where)
    if format in TURN_KEYS:
        column = _conversation_column(row, format, where)
        messages = _messages(row[column], format, f"{where}: {column}")
        prompt_messages = None
    elif format == "alpaca":
        messages, prompt_messages = _alpaca(row, where)
    elif format == "prompt_completion":
        messages, prompt_messages = _prompt_completion(row, where)
    elif format == "question_answer":
        messages = [_turn("user", _text(row, "question", where)), _turn("assistant", _text(row, "answer", where))]
        prompt_messages = 1
    else:
        raise DataError(f"{where}: {format!r} is no chat format; choose one of {', '.join(CHAT_FORMATS)}")
    if system:
        if messages and messages[0]["role"] == "system":
            raise DataError(
                f"{where}: a system prompt stands in the column 'system' and in the first message; remove one of them"
            )
        messages.insert(0, _turn("system", system))
        prompt_messages = None if prompt_messages is None else prompt_messages + 1
    _check_turns(messages, where)
    if prompt_messages is None:
        prompt_messages = next(n for n, message in enumerate(messages) if message["role"] == "assistant")
    return Conversation(messages, _tools(row, where), prompt_messages)


# -- the keys ------------------------------------------------------------------------------------------------------


def _formats_of(row: Mapping[str, Any]) -> set[str]:
    """Return the forms whose keys a row has; an empty conversation says nothing of its form."""
    formats: set[str] = {
        name for name, columns in COLUMNS.items() if all(row.get(column) is not None for column in columns)
    }
    for column in CONVERSATION_COLUMNS:
        turns = _parsed(row.get(column))
        if not isinstance(turns, Sequence) or isinstance(turns, str):
            continue
        first = turns[0] if turns else None
        formats |= {name for name, keys in TURN_KEYS.items() if isinstance(first, Mapping) and keys[0] in first}
    return formats


def _conversation_column(row: Mapping[str, Any], format: str, where: str) -> str:
    there = [column for column in CONVERSATION_COLUMNS if row.get(column) is not None]
    if len(there) > 1:
        fitting = [column for column in there if format in _formats_of({column: row[column]})]
        if len(fitting) > 1:
            raise DataError(f"{where}: {' and '.join(fitting)} both hold a conversation; remove one of the columns")
        there = fitting or there[:1]
    if not there:
        wanted = "messages" if format == "messages" else "conversations"
        what = "null" if wanted in row else f"missing (the row has {_keys(row)})"
        raise DataError(f"{where}: {wanted!r} is {what}; every row needs its conversation")
    return there[0]


def _keys(row: Mapping[str, Any]) -> str:
    return ", ".join(map(str, row)) or "no keys"


def _parsed(value: Any) -> Any:
    """Return a value; a text that is a JSON list or mapping is read, because a CSV file has texts only."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


# -- the forms -----------------------------------------------------------------------------------------------------


def _messages(turns: Any, format: str, place: str) -> list[dict[str, Any]]:
    turns = _parsed(turns)
    if _is_nan(turns) or not isinstance(turns, Sequence) or isinstance(turns, str):
        raise DataError(f"{place} should be a list of messages, not {_shown(turns)}")
    if not turns:
        raise DataError(f"{place} is empty; remove the row")
    return [_message(turn, format, f"{place}[{number}]") for number, turn in enumerate(turns)]


def _message(turn: Any, format: str, place: str) -> dict[str, Any]:
    speaker_key, text_key = TURN_KEYS[format]
    if not isinstance(turn, Mapping):
        raise DataError(f"{place} should be a mapping with {speaker_key!r} and {text_key!r}, not {_shown(turn)}")
    message = {str(key): value for key, value in turn.items() if value is not None}
    if speaker_key not in message:
        raise DataError(f"{place}: {speaker_key!r} is missing (it has {_keys(turn)})")
    speaker = message.pop(speaker_key)
    roles = ROLES[format]
    if not isinstance(speaker, str) or speaker not in roles:
        hint = did_you_mean(speaker, roles) if isinstance(speaker, str) else ""
        raise DataError(f"{place}.{speaker_key}: unknown role {_shown(speaker)}{hint}; known: {', '.join(roles)}")
    content = message.pop(text_key, None)
    role = roles[speaker]
    if speaker in _CALLS:
        message["tool_calls"], content = _calls(content, f"{place}.{text_key}"), ""
    elif "tool_calls" in message:
        message["tool_calls"] = _calls(message["tool_calls"], f"{place}.tool_calls")
        if not message["tool_calls"]:
            del message["tool_calls"]
    if "tool_calls" in message and role != "assistant":
        raise DataError(f"{place}: tool_calls in a message of {speaker!r}; only the assistant calls tools")
    if "weight" in message and message["weight"] not in (0, 1):
        raise DataError(f"{place}.weight = {_shown(message['weight'])} should be 0 (not trained) or 1")
    text = _content(content, f"{place}.{text_key}")
    if not text.strip() and role in ("user", "assistant") and "tool_calls" not in message:
        raise DataError(f"{place}.{text_key}: the {role}'s text is {'empty' if not text else 'blank'}; remove the row")
    _check_plain(message, place)
    return {"role": role, "content": text, **message}


def _content(content: Any, place: str) -> str:
    """Return a message's text; parts of text are joined."""
    if content is None:
        return ""
    if isinstance(content, str):
        return _unicode(content, place)
    if isinstance(content, Sequence) and not isinstance(content, bytes):
        texts = []
        for number, part in enumerate(content):
            kind = part.get("type") if isinstance(part, Mapping) else None
            if kind != "text" or not isinstance(part.get("text"), str):
                shown = f"a part of type {kind!r}" if isinstance(kind, str) and kind != "text" else _shown(part)
                raise DataError(f'{place}[{number}] should be {{"type": "text", "text": "…"}}, not {shown}; text only')
            texts.append(part["text"])
        return _unicode("".join(texts), place)
    _no_text(content, place)


def _calls(value: Any, place: str) -> list[dict[str, Any]]:
    """Return calls of tools as transformers has them: `{"type": "function", "function": {"name", "arguments"}}`."""
    calls = _parsed(value)
    if isinstance(calls, Mapping):
        calls = [calls]
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise DataError(f'{place} should be JSON such as {{"name": "…", "arguments": {{…}}}}, not {_shown(value)}')
    return [_call(call, f"{place}[{number}]") for number, call in enumerate(calls)]


def _call(value: Any, place: str) -> dict[str, Any]:
    call = _parsed(value)
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        raise DataError(f"{place} should be a call of a function with its 'name', not {_shown(value)}")
    arguments = function.get("arguments", function.get("parameters", {}))
    parsed = _parsed(arguments)  # OpenAI keeps them as a text; a template that writes JSON would write a text of JSON
    if not isinstance(parsed, Mapping):
        if arguments not in (None, ""):
            raise DataError(f"{place}.arguments should be a JSON object, not {_shown(arguments)}")
        parsed = {}
    rest = {} if function is call else {str(key): item for key, item in call.items() if item is not None}
    return {**rest, "type": "function", "function": {"name": function["name"], "arguments": dict(parsed)}}


def _alpaca(row: Mapping[str, Any], where: str) -> tuple[list[dict[str, Any]], int]:
    messages = []
    history = _parsed(row.get("history"))
    if history is not None and history != "":
        if not isinstance(history, Sequence) or isinstance(history, str):
            raise DataError(f"{where}: history should be a list of [question, answer], not {_shown(history)}")
        for number, pair in enumerate(history):
            place = f"{where}: history[{number}]"
            if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
                raise DataError(f"{place} should be [question, answer], not {_shown(pair)}")
            for role, side in zip(("user", "assistant"), (0, 1), strict=True):
                messages.append(_turn(role, _filled(pair[side], f"{place}[{side}]")))
    instruction, given = _text_or_none(row, "instruction", where), _text_or_none(row, "input", where)
    if not instruction and not given:
        raise DataError(f"{where}: instruction is {'missing' if instruction is None else 'empty'}; remove the row")
    messages.append(_turn("user", "\n".join(part for part in (instruction, given) if part)))
    return [*messages, _turn("assistant", _text(row, "output", where))], len(messages)


def _prompt_completion(row: Mapping[str, Any], where: str) -> tuple[list[dict[str, Any]], int]:
    prompt, completion = (_parsed_messages(_required(row, key, where)) for key in ("prompt", "completion"))
    if isinstance(prompt, str) and isinstance(completion, str):
        return [_turn("user", _text(row, "prompt", where)), _turn("assistant", _text(row, "completion", where))], 1
    if isinstance(prompt, str) or isinstance(completion, str):
        raise DataError(f"{where}: prompt and completion should both be texts or both be lists of messages")
    before = _messages(prompt, "messages", f"{where}: prompt")
    after = _messages(completion, "messages", f"{where}: completion")
    if all(message["role"] != "assistant" for message in after):
        raise DataError(f"{where}: no message of the assistant in completion, so there is nothing to learn")
    return [*before, *after], len(before)


def _parsed_messages(value: Any) -> Any:
    """Return a value; a text that is a JSON list of messages is read, any other text is a text."""
    parsed = _parsed(value)
    is_list = isinstance(parsed, list) and parsed and all(isinstance(m, dict) and "role" in m for m in parsed)
    return parsed if is_list else value


def _tools(row: Mapping[str, Any], where: str) -> list[dict[str, Any]] | None:
    value = row.get("tools")
    if value is None or value == "":
        return None
    if _is_nan(value):
        raise DataError(f"{where}: tools is NaN; leave it out where there are none")
    tools = _parsed(value)
    if isinstance(tools, Mapping):
        tools = [tools]
    if not isinstance(tools, Sequence) or isinstance(tools, str):
        raise DataError(f"{where}: tools should be a list of JSON schemas, or that list as JSON, not {_shown(value)}")
    schemas = []
    for number, tool in enumerate(tools):
        schema = _parsed(tool)
        if not isinstance(schema, Mapping):
            raise DataError(f"{where}: tools[{number}] should be a JSON schema (a mapping), not {_shown(tool)}")
        _check_plain(schema, f"{where}: tools[{number}]")
        schemas.append(dict(schema))
    return schemas or None


# -- what holds for every form -------------------------------------------------------------------------------------


def _turn(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


def _check_turns(messages: Sequence[Mapping[str, Any]], where: str) -> None:
    for number, (before, after) in enumerate(itertools.pairwise(messages)):
        if before["role"] == after["role"] and after["role"] in ("user", "assistant"):
            raise DataError(
                f"{where}: messages {number + 1} and {number + 2} are both of the {after['role']}; "
                "join them into one, or remove one"
            )
    if all(message["role"] != "assistant" for message in messages):
        raise DataError(f"{where}: no message of the assistant, so there is nothing to learn; remove the row")


def _required(row: Mapping[str, Any], key: str, where: str) -> Any:
    value = row.get(key)
    if value is None:
        raise DataError(f"{where}: {key!r} is {'null' if key in row else f'missing (the row has {_keys(row)})'}")
    return value


def _text_or_none(row: Mapping[str, Any], key: str, where: str) -> str | None:
    value = row.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        _no_text(value, f"{where}: {key}")
    return _unicode(value, f"{where}: {key}")


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    return _filled(_required(row, key, where), f"{where}: {key}")


def _filled(value: Any, place: str) -> str:
    """Return a value that must be a text with something in it."""
    if not isinstance(value, str):
        _no_text(value, place)
    if not value.strip():
        raise DataError(f"{place} is {'blank' if value else 'empty'}; remove the row")
    return _unicode(value, place)


def _unicode(text: str, place: str) -> str:
    """Return a text that UTF-8 can hold; JSON may have half of a character, which no tokenizer reads."""
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                f"{place} has half of a character ({text[error.start]!r}) at character {error.start}"
            ) from error
    return text


def _no_text(value: Any, place: str) -> NoReturn:
    if _is_nan(value):
        raise DataError(f"{place} is NaN (an empty cell?); fill in the text, or remove the row")
    raise DataError(f"{place} should be a text, not {_shown(value)}")


def _check_plain(value: Any, place: str, depth: int = 0) -> None:
    """Refuse what JSON has not: a template would write it in a form that nobody has chosen."""
    if depth > DEEPEST:
        raise DataError(f"{place[:200]}: nested more than {DEEPEST} levels deep")
    if _is_nan(value) or (isinstance(value, float) and math.isinf(value)):
        raise DataError(f"{place} is {value}, which is not JSON; remove it")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_plain(inner, f"{place}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _check_plain(inner, f"{place}[{number}]", depth + 1)
    elif value is not None and not isinstance(value, str | int | float):
        raise DataError(f"{place} is {kind_of(value)}, which is not JSON; write it as a text")


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _shown(value: Any) -> str:
    """Return a value for an error line: short, with its kind."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, a list in a list in a list
        return kind_of(value)
    return f"{text if len(text) <= 60 else f'{text[:60]}…'} ({kind_of(value)})"
