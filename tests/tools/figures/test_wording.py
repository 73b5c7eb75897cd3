"""Text in columns: what a terminal gives to a text, and tables that line up with any text."""

from __future__ import annotations

import pytest

from tools.figures.wording import aligned, columns_of, size_text


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
