"""Arithmetic: the four operations within 100 and around the multiplication table, answers as bare numbers."""

from __future__ import annotations

from tools.datasets.hlbd_hardcore.fact import Axes, Fact, Kind

MODULE = "arithmetic"


def _unordered(kind: str, a: int, b: int) -> str:
    """Return the identity of an unordered pair: 12 + 34 and 34 + 12 are one fact."""
    return f"{MODULE}/{kind}/{min(a, b)},{max(a, b)}"


def _add(a: int, b: int) -> Fact:
    return Fact(MODULE, "add", {"a": a, "b": b}, str(a + b), _unordered("add", a, b))


def _subtract(b: int, difference: int) -> Fact:
    a = b + difference
    return Fact(MODULE, "subtract", {"a": a, "b": b}, str(difference), f"{MODULE}/subtract/{a},{b}")


def _product(kind: str, a: int, b: int) -> Fact:
    return Fact(MODULE, kind, {"a": a, "b": b}, str(a * b), _unordered("product", a, b))


def _table(a: int, b: int) -> Fact:
    return _product("table", a, b)


def _multiply(digit: int, number: int, number_first: int) -> Fact:
    return _product("multiply", *((number, digit) if number_first else (digit, number)))


def _divide(b: int, quotient: int) -> Fact:
    a = b * quotient
    return Fact(MODULE, "divide", {"a": a, "b": b}, str(quotient), f"{MODULE}/divide/{a},{b}")


def _within_hundreds(reach: int) -> Axes:
    return (range(2, 50 * reach + 1), range(2, 50 * reach + 1))


_PRODUCT = (
    "{a} × {b} = ?",
    "{a}×{b}等于多少？",
    "{a}乘{b}得多少？",
    "计算：{a} × {b}",
    "{a}与{b}的积是多少？",
    "求{a}和{b}的积。",
    "{a}的{b}倍是多少？",
    "{b}个{a}相加得多少？",
)
_PRODUCT_HELD_OUT = ("{a}乘以{b}，结果是多少？", "{a}和{b}相乘得多少？", "算一算，{a}×{b}得几？")

KINDS = (
    Kind(
        name="add",
        axes=_within_hundreds,
        solve=_add,
        phrasings=(
            "{a} + {b} = ?",
            "{a}+{b}等于多少？",
            "{a}加{b}得多少？",
            "计算：{a} + {b}",
            "{a}与{b}的和是多少？",
            "求{a}和{b}的和。",
            "比{a}多{b}的数是多少？",
            "{a}增加{b}后是多少？",
        ),
        held_out_phrasings=("{a}加上{b}，结果是多少？", "{a}和{b}相加得多少？", "算一算，{a}+{b}得几？"),
        contrast=("a", "b"),
    ),
    Kind(
        name="subtract",
        axes=_within_hundreds,
        solve=_subtract,
        phrasings=(
            "{a} - {b} = ?",
            "{a}-{b}等于多少？",
            "{a}减{b}得多少？",
            "计算：{a} - {b}",
            "{a}与{b}的差是多少？",
            "求{a}减去{b}的差。",
            "比{a}少{b}的数是多少？",
            "{a}减少{b}后是多少？",
        ),
        held_out_phrasings=("{a}减去{b}，结果是多少？", "从{a}中减去{b}得多少？", "算一算，{a}-{b}得几？"),
        contrast=("a", "b"),
    ),
    Kind(
        name="table",
        axes=lambda reach: (range(2, 13), range(2, 13)),
        solve=_table,
        phrasings=_PRODUCT,
        held_out_phrasings=_PRODUCT_HELD_OUT,
        contrast=("a", "b"),
    ),
    Kind(
        # Starts where the table ends, so that no question belongs to both kinds.
        name="multiply",
        axes=lambda reach: (range(2, 10), range(13, 30 * reach + 1), (0, 1)),
        solve=_multiply,
        phrasings=_PRODUCT,
        held_out_phrasings=_PRODUCT_HELD_OUT,
        contrast=("a", "b"),
    ),
    Kind(
        name="divide",
        axes=lambda reach: (range(2, 13), range(2, 20 * reach + 1)),
        solve=_divide,
        phrasings=(
            "{a} ÷ {b} = ?",
            "{a}÷{b}等于多少？",
            "{a}除以{b}得多少？",
            "计算：{a} ÷ {b}",
            "{a}与{b}的商是多少？",
            "求{a}除以{b}的商。",
            "{a}里面有几个{b}？",
            "{a}平均分成{b}份，每份是多少？",
        ),
        held_out_phrasings=("{a}除以{b}，结果是多少？", "{a}是{b}的几倍？", "算一算，{a}÷{b}得几？"),
        contrast=("a", "b"),
    ),
)
