"""Text in columns: what a terminal gives to a text, and tables that line up with any text."""

from __future__ import annotations

import pytest

from tools.figures.wording import aligned, columns_of, in_lines, size_text, told_apart


@pytest.mark.parametrize(("text", "width"), [("abc", 3), ("加法", 4), ("ǐ", 1), ("i\u030c", 1), ("🌧️", 2), ("한국", 4)])
def test_wide_characters_count_as_two_columns(text: str, width: int) -> None:
    assert columns_of(text) == width


def test_columns_of_a_table_line_up() -> None:
    lines = list(aligned([["模块", "答案"], ["sums", "1"], ["🌧️", "12345"]]))
    assert {columns_of(line) for line in lines} == {2 + 4 + 2 + 5}


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 KiB"), (12_288, "12 KiB"), (300 << 20, "300.0 MiB"), (3 << 29, "1.5 GiB")]
)
def test_sizes_are_in_binary_units(count: int, text: str) -> None:
    assert size_text(count) == text


@pytest.mark.parametrize(
    "names",
    [
        ["a/one", "a/two"],
        [f"run_{n}/with_a_long_end_that_all_have" for n in range(12)],
        [f"a_long_beginning_that_all_have/{n}" for n in range(12)],
        [f"a_long_beginning_{n}_and_a_long_end_too" for n in range(12)],
        [f"训练_{n}_很长的名字很长的名字" for n in range(12)],
        ["the_same_name_twice_over", "the_same_name_twice_over", "another"],
    ],
)
def test_shortened_names_still_differ(names: list[str]) -> None:
    short = told_apart(names, 14)
    assert len(set(short)) == len(set(names))
    assert max(map(columns_of, short)) <= 14


def test_parts_are_whole_or_counted() -> None:
    assert in_lines(["a=1", "b=2"], 20, 2) == "a=1, b=2"
    assert in_lines(["attention=standard", "seed=1", "lr=0.1"], 20, 2) == "attention=standard\nseed=1, lr=0.1"
    assert in_lines(["attention=standard", "schedule=cosine", "lr=0.1", "seed=1"], 20, 2) == (
        "attention=standard\nschedule=cosine, +2"
    )
    assert in_lines([], 20, 2) == ""
