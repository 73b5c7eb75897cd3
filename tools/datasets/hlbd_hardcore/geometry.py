"""Geometry: perimeter, area, volume, angles and polygons with whole-number answers and their unit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tools.datasets.hlbd_hardcore.fact import Axes, Fact, Kind, Operand

MODULE = "geometry"
_UNITS = ("厘米", "分米", "米")
_UNIT_AXIS = range(len(_UNITS))
_NUMERALS = {5: "五", 6: "六", 7: "七", 8: "八", 9: "九", 10: "十", 12: "十二"}


def _figure(shape: str, given: str, wanted: str, prefix: str = "") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the phrasings for training and the held-out ones: a shape, its known sizes, the wanted one."""
    train = (
        f"{given}的{shape}，{wanted}是多少？",
        f"{shape}{given}，求{wanted}。",
        f"一个{shape}{given}，{wanted}是多少？",
        f"求{given}的{shape}的{wanted}。",
        f"{given}的{shape}{wanted}是多少？",
        f"有一个{shape}，{given}，求{wanted}。",
        f"{shape}{given}，{wanted}等于多少？",
    )
    held_out = (
        f"{shape}{given}，它的{wanted}是多少？",
        f"计算{given}的{shape}的{wanted}。",
        f"有一个{shape}，{given}，{wanted}是多少？",
    )
    return tuple(prefix + t for t in train), tuple(prefix + t for t in held_out)


def _fact(kind: str, numbers: dict[str, Operand], answer: int, dimension: str, unit: int) -> Fact:
    """Return a fact about lengths; `dimension` is "", "平方" or "立方". The unit is no part of the identity."""
    length = _UNITS[unit]
    identity = f"{MODULE}/{kind}/{','.join(map(str, numbers.values()))}"
    return Fact(MODULE, kind, {**numbers, "u": length}, f"{answer}{dimension}{length}", identity)


def _rectangle_area(w: int, extra: int, unit: int) -> Fact:
    return _fact("rectangle_area", {"l": w + extra, "w": w}, (w + extra) * w, "平方", unit)


def _rectangle_perimeter(w: int, extra: int, unit: int) -> Fact:
    return _fact("rectangle_perimeter", {"l": w + extra, "w": w}, 2 * (w + extra + w), "", unit)


def _rectangle_width(w: int, extra: int, unit: int) -> Fact:
    return _fact("rectangle_width", {"s": w * (w + extra), "l": w + extra}, w, "", unit)


def _square_area(a: int, unit: int) -> Fact:
    return _fact("square_area", {"a": a}, a * a, "平方", unit)


def _square_perimeter(a: int, unit: int) -> Fact:
    return _fact("square_perimeter", {"a": a}, 4 * a, "", unit)


def _square_side(a: int, unit: int) -> Fact:
    return _fact("square_side", {"p": 4 * a}, a, "", unit)


def _triangle_area(half_base: int, h: int, unit: int) -> Fact:
    return _fact("triangle_area", {"b": 2 * half_base, "h": h}, half_base * h, "平方", unit)


def _parallelogram_area(b: int, h: int, unit: int) -> Fact:
    return _fact("parallelogram_area", {"b": b, "h": h}, b * h, "平方", unit)


def _trapezoid_area(top: int, half_extra: int, h: int, unit: int) -> Fact:
    numbers: dict[str, Operand] = {"a": top, "b": top + 2 * half_extra, "h": h}
    return _fact("trapezoid_area", numbers, (top + half_extra) * h, "平方", unit)


def _polygon_perimeter(n: int, a: int, unit: int) -> Fact:
    return _fact("polygon_perimeter", {"n": _NUMERALS[n], "a": a}, n * a, "", unit)


def _diameter(r: int, unit: int) -> Fact:
    return _fact("diameter", {"r": r}, 2 * r, "", unit)


def _radius(r: int, unit: int) -> Fact:
    return _fact("radius", {"d": 2 * r}, r, "", unit)


def _circumference(d: int, unit: int) -> Fact:
    return _fact("circumference", {"d": d}, 3 * d, "", unit)


def _cube_volume(a: int, unit: int) -> Fact:
    return _fact("cube_volume", {"a": a}, a**3, "立方", unit)


def _cuboid_volume(w: int, extra: int, h: int, unit: int) -> Fact:
    return _fact("cuboid_volume", {"l": w + extra, "w": w, "h": h}, (w + extra) * w * h, "立方", unit)


def _prism_volume(s: int, h: int, unit: int) -> Fact:
    return _fact("prism_volume", {"s": s, "h": h}, s * h, "立方", unit)


def _third_angle(a: int, b: int) -> Fact:
    identity = f"{MODULE}/third_angle/{min(a, b)},{max(a, b)}"
    return Fact(MODULE, "third_angle", {"a": a, "b": b}, f"{180 - a - b}度", identity)


def _one_angle(kind: str, rule: Callable[[int], int], a: int) -> Fact:
    return Fact(MODULE, kind, {"a": a}, f"{rule(a)}度", f"{MODULE}/{kind}/{a}")


def _polygon(kind: str, rule: Callable[[int], int], unit: str, n: int) -> Fact:
    return Fact(MODULE, kind, {"n": n}, f"{rule(n)}{unit}", f"{MODULE}/{kind}/{n}")


def _sides(reach: int) -> Axes:
    """Return the axes: width, by how much the length exceeds it, unit."""
    return (range(2, 12 * reach + 1), range(1, 8 * reach + 1), _UNIT_AXIS)


def _table(reach: int) -> Axes:
    return (range(2, 12 * reach + 1), range(2, 12 * reach + 1), _UNIT_AXIS)


def _lengths(reach: int) -> Axes:
    return (range(2, 60 * reach + 1), _UNIT_AXIS)


def _trapezoid_sides(reach: int) -> Axes:
    """Return the axes: upper side, half of what the lower side is longer, height, unit."""
    return (range(2, 8 * reach + 1), range(1, 4 * reach + 1), range(2, 10 * reach + 1), _UNIT_AXIS)


def _cuboid_sides(reach: int) -> Axes:
    """Return the axes: width, by how much the length exceeds it, height, unit."""
    return (range(2, 5 * reach + 1), range(1, 3 * reach + 1), range(2, 5 * reach + 1), _UNIT_AXIS)


def _regular_sides(reach: int) -> Axes:
    """Return the axes: number of sides, their length, unit."""
    return (tuple(_NUMERALS), range(2, 20 * reach + 1), _UNIT_AXIS)


def _angles_of_triangle(reach: int) -> Axes:
    """Return the axes: multiples of five degrees; from reach 2, every whole degree."""
    degrees = range(20, 86, 5) if reach == 1 else range(20, 86)
    return (degrees, degrees)


KINDS = (
    Kind("rectangle_area", _sides, _rectangle_area,
         *_figure("长方形", "长{l}{u}、宽{w}{u}", "面积"), contrast=("l", "w")),
    Kind("rectangle_perimeter", _sides, _rectangle_perimeter,
         *_figure("长方形", "长{l}{u}、宽{w}{u}", "周长"), contrast=("l", "w")),
    Kind("rectangle_width", _sides, _rectangle_width,
         *_figure("长方形", "面积{s}平方{u}、长{l}{u}", "宽"), contrast=("s", "l")),
    Kind("square_area", lambda reach: (range(2, 20 * reach + 1), _UNIT_AXIS), _square_area,
         *_figure("正方形", "边长{a}{u}", "面积"), contrast=("a",)),
    Kind("square_perimeter", _lengths, _square_perimeter,
         *_figure("正方形", "边长{a}{u}", "周长"), contrast=("a",)),
    Kind("square_side", _lengths, _square_side,
         *_figure("正方形", "周长{p}{u}", "边长"), contrast=("p",)),
    Kind("triangle_area", _table, _triangle_area,
         *_figure("三角形", "底{b}{u}、高{h}{u}", "面积"), contrast=("b", "h")),
    Kind("parallelogram_area", _table, _parallelogram_area,
         *_figure("平行四边形", "底{b}{u}、高{h}{u}", "面积"), contrast=("b", "h")),
    Kind("trapezoid_area", _trapezoid_sides, _trapezoid_area,
         *_figure("梯形", "上底{a}{u}、下底{b}{u}、高{h}{u}", "面积"), contrast=("a", "b", "h")),
    Kind("polygon_perimeter", _regular_sides, _polygon_perimeter,
         *_figure("正{n}边形", "边长{a}{u}", "周长"), contrast=("n", "a")),
    Kind("diameter", _lengths, _diameter, *_figure("圆", "半径{r}{u}", "直径"), contrast=("r",)),
    Kind("radius", _lengths, _radius, *_figure("圆", "直径{d}{u}", "半径"), contrast=("d",)),
    Kind("circumference", _lengths, _circumference,
         *_figure("圆", "直径{d}{u}", "周长", prefix="π取3，"), contrast=("d",)),
    Kind("cube_volume", lambda reach: (range(2, 12), _UNIT_AXIS), _cube_volume,
         *_figure("正方体", "棱长{a}{u}", "体积"), rote=True),
    Kind("cuboid_volume", _cuboid_sides, _cuboid_volume,
         *_figure("长方体", "长{l}{u}、宽{w}{u}、高{h}{u}", "体积"), contrast=("l", "w", "h")),
    Kind("prism_volume", _table, _prism_volume,
         *_figure("长方体", "底面积{s}平方{u}、高{h}{u}", "体积"), contrast=("s", "h")),
    Kind(
        "third_angle",
        _angles_of_triangle,
        _third_angle,
        (
            "三角形两个角是{a}度和{b}度，第三个角多少度？",
            "三角形有两个角{a}度、{b}度，求第三个角。",
            "三角形中两个角为{a}度和{b}度，另一个角多少度？",
            "一个三角形两个内角是{a}度、{b}度，求另一个角。",
            "已知三角形两个角{a}度和{b}度，求第三个角。",
            "三角形的两个内角是{a}度和{b}度，第三个角几度？",
        ),
        (
            "三角形中两个内角为{a}度、{b}度，第三个角多少度？",
            "已知三角形两个角是{a}度和{b}度，另一个角几度？",
        ),
        contrast=("a", "b"),
    ),
    Kind(
        "acute_angle",
        lambda reach: (range(5, 86),),
        partial(_one_angle, "acute_angle", lambda a: 90 - a),
        (
            "直角三角形一个锐角{a}度，另一个锐角多少度？",
            "直角三角形有一个锐角是{a}度，求另一个锐角。",
            "直角三角形的一个锐角为{a}度，另一个锐角几度？",
            "已知直角三角形一个锐角{a}度，求另一个锐角。",
            "一个直角三角形有{a}度的锐角，另一个锐角几度？",
        ),
        ("直角三角形中一个锐角是{a}度，另一个锐角多少度？", "已知直角三角形有{a}度的锐角，求另一个锐角。"),
        contrast=("a",),
    ),
    Kind(
        "complement",
        lambda reach: (range(5, 86),),
        partial(_one_angle, "complement", lambda a: 90 - a),
        (
            "{a}度角的余角是多少度？",
            "{a}度的角，余角多少度？",
            "求{a}度角的余角。",
            "一个角是{a}度，它的余角是多少度？",
            "{a}度与多少度互余？",
            "与{a}度角互余的角是几度？",
        ),
        ("已知一个角{a}度，求它的余角。", "{a}度角的余角等于多少度？"),
        contrast=("a",),
    ),
    Kind(
        "supplement",
        lambda reach: (range(5, 176),),
        partial(_one_angle, "supplement", lambda a: 180 - a),
        (
            "{a}度角的补角是多少度？",
            "{a}度的角，补角多少度？",
            "求{a}度角的补角。",
            "一个角是{a}度，它的补角是多少度？",
            "{a}度与多少度互补？",
            "与{a}度角互补的角是几度？",
        ),
        ("已知一个角{a}度，求它的补角。", "{a}度角的补角等于多少度？"),
        contrast=("a",),
    ),
    Kind(
        "apex_angle",
        lambda reach: (range(10, 86),),
        partial(_one_angle, "apex_angle", lambda a: 180 - 2 * a),
        (
            "等腰三角形底角{a}度，顶角多少度？",
            "等腰三角形的底角是{a}度，求顶角。",
            "一个等腰三角形底角为{a}度，顶角几度？",
            "底角{a}度的等腰三角形，顶角多少度？",
            "已知等腰三角形底角{a}度，求它的顶角。",
        ),
        ("等腰三角形的底角为{a}度，顶角等于多少度？", "求底角{a}度的等腰三角形的顶角。"),
        contrast=("a",),
    ),
    Kind(
        "interior_sum",
        lambda reach: (range(5, 36),),
        partial(_polygon, "interior_sum", lambda n: 180 * (n - 2), "度"),
        (
            "{n}边形的内角和是多少度？",
            "求{n}边形的内角和。",
            "{n}边形内角和等于多少度？",
            "一个{n}边形，内角和是几度？",
            "{n}边形的内角加起来多少度？",
            "{n}边形所有内角的和是多少度？",
        ),
        ("一个{n}边形的内角和等于几度？", "{n}边形所有内角加起来多少度？"),
        contrast=("n",),
    ),
    Kind(
        "vertex_diagonals",
        lambda reach: (range(5, 41),),
        partial(_polygon, "vertex_diagonals", lambda n: n - 3, "条"),
        (
            "从{n}边形一个顶点能画几条对角线？",
            "{n}边形从一个顶点出发有几条对角线？",
            "过{n}边形的一个顶点能画多少条对角线？",
            "{n}边形一个顶点上有几条对角线？",
            "从{n}边形的一个顶点出发，能画几条对角线？",
        ),
        ("过{n}边形一个顶点有几条对角线？", "从{n}边形的一个顶点能画多少条对角线？"),
        contrast=("n",),
    ),
    Kind(
        "diagonals",
        lambda reach: (range(5, 13),),
        partial(_polygon, "diagonals", lambda n: n * (n - 3) // 2, "条"),
        (
            "{n}边形一共有几条对角线？",
            "{n}边形共有多少条对角线？",
            "一个{n}边形的对角线共几条？",
            "{n}边形能画多少条对角线？",
            "求{n}边形对角线的条数。",
        ),
        ("一个{n}边形一共有多少条对角线？", "{n}边形的对角线一共几条？"),
        rote=True,
    ),
)  # fmt: skip
