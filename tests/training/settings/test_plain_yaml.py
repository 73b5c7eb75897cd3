"""YAML of unknown origin: plain data, or one short line that says where."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.settings.plain_yaml import MOST_LEVELS, MOST_VALUES, parse_with_templates, parse_yaml
from training.settings.yaml_files import yaml_text

ROOT = Path(__file__).resolve().parents[3]
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
REFUSED = {
    "!!int abc": "line 1, column 1: 'abc' is no int",
    "a: !!int": "'' is no int",
    "a: !!float": "'' is no number",
    "a: !!float x": "'x' is no number",
    "a: !!bool maybe": "'maybe' is no bool",
    "a: !!null x": "'x' is no null",
    "a: !!timestamp x": "the tag 'timestamp'",
    "a: !!map x": "the tag 'map'",
    "a: !!seq {b: 1}": "the tag 'seq'",
    "a: !!binary aGk=": "the tag 'binary'",
    "a: !!set {b}": "the tag 'set'",
    "a: !!python/object/apply:os.getpid []": "the tag 'python/object/apply:os.getpid'",
    "a: !mine 1": "the tag '!mine'",
    f"a: {'9' * 5000}": "line 1, column 4: '9999999999999999999999999999999999999999'… (5,000 characters) is no number",
    "a: 0x_": "'0x_' is no number",
    "[" * 100_000: f"line 1, column {MOST_LEVELS + 1}: nested more than {MOST_LEVELS} levels deep",
    "{a: " * 5_000: f"nested more than {MOST_LEVELS} levels deep",
    "\n".join("  " * n + "a:" for n in range(40)): f"nested more than {MOST_LEVELS} levels deep",
    BOMB: f"line 5, column 20: more than {MOST_VALUES:,} values",
    f"[{'1,' * 30_000}]": f"more than {MOST_VALUES:,} values",
    "- &a [*a]": "*a stands within itself",
    "&a {b: {c: *a}}": "*a stands within itself",
    "a: *b": "undefined alias",
    "<<: 3": "expected a mapping",
    "? [1]\n: 2": "unhashable key",
    "a: 1\na: 2": "line 2, column 1: key 'a' is given twice",
    "1: 1\n1: 2": "key '1' is given twice",
    "a: [1": "line",
    "\0": "control characters",
    "a: 1\n---\nb: 2": "another document",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_what_is_not_plain_data_is_one_short_line_with_its_place(text: str) -> None:
    with pytest.raises(ValueError, match="not valid YAML") as refused:
        parse_yaml(text)
    assert REFUSED[text] in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# nothing", None),
        ("[1, 2.5, true, null, word, '3']", [1, 2.5, True, None, "word", "3"]),
        ("a: !!str 12\nb: !!float 3\nc: !!int 0x1F\nd: !!bool yes", {"a": "12", "b": 3.0, "c": 31, "d": True}),
        ("a: 2026-13-45\nb: 2026-11-30", {"a": "2026-13-45", "b": "2026-11-30"}),
        ("a: =", {"a": "="}),
        ("a: &x [1]\nb: *x\nc: [*x, *x]", {"a": [1], "b": [1], "c": [[1], [1]]}),
        ("a: {<<: {b: 1, c: 2}, c: 3}", {"a": {"b": 1, "c": 3}}),
        ("a: &x {b: 1}\nc: &y {d: 2}\ne: {<<: [*x, *y]}", {"a": {"b": 1}, "c": {"d": 2}, "e": {"b": 1, "d": 2}}),
        ("'<<': 1", {"<<": 1}),
    ],
)
def test_plain_data_is_read(text: str, value: Any) -> None:
    assert parse_yaml(text) == value


def test_a_mapping_that_others_repeat_is_known_by_its_key() -> None:
    text = "base: &base {epochs: 3}\nother: &o {seed: 1}\nplain: {a: 1}\nrun: {<<: *base}\ndeep: {in: [{<<: [*o]}]}\n"
    assert parse_with_templates(text)[1] == {"base", "other"}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_what_we_write_is_read_back(document: dict[str, Any]) -> None:
    assert parse_yaml(yaml_text(document)) == document


@given(st.text(alphabet="ab0:-[]{}&*!<>,'\"\\\n #?|%@=.~_"))
def test_any_text_is_a_value_or_one_line(text: str) -> None:
    message = ""
    try:
        parse_yaml(text)
    except ValueError as refused:
        message = str(refused)
    assert message.startswith("not valid YAML") or not message
    assert "\n" not in message


def test_a_python_without_libyaml_reads_the_same() -> None:
    """As PyYAML is built where there is no wheel of it."""
    program = (
        "import yaml; yaml.__with_libyaml__ = False\n"
        "from training.settings import plain_yaml as it\n"
        "assert it._Parser is it._PythonParser\n"
        "assert it.parse_yaml('a: &x [1, 2]\\nb: *x') == {'a': [1, 2], 'b': [1, 2]}\n"
        "for text in ('a: !!int x', '[' * 50, 'a: [1'):\n"
        "    try: it.parse_yaml(text)\n"
        "    except ValueError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout.count("not valid YAML at line 1")) == ("", 3)


def test_no_other_reader_of_yaml_is_in_the_project() -> None:
    readers = ("yaml.load", "yaml.safe_load", "yaml.full_load", "yaml.unsafe_load")
    for folder in ("training", "tools", "apt_model"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert not any(reader in text for reader in readers), f"{path}: read YAML by settings/plain_yaml.py"
