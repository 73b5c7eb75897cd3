"""Physics: one formula a question, whole numbers, answers with their unit (SI symbols; g is 10 N/kg)."""

from __future__ import annotations

from tools.datasets.hlbd_hardcore.fact import Axes, Fact, Kind

MODULE = "physics"

_TENS = (20, 30, 40, 50, 60, 70, 80, 90, 100)


def _factors(reach: int) -> Axes:
    """Return the axes of two factors from the multiplication table, the second also a round number.

    The second quantity is chosen so that the question stays credible: 60 s rather than 60 m/s².
    """
    table = range(2, 12 * reach + 1)
    return (table, (*table, *(ten for ten in _TENS if ten > table[-1])))


def _summands(reach: int) -> Axes:
    return (range(2, 50 * reach + 1), range(2, 50 * reach + 1))


def _masses(reach: int) -> Axes:
    return (range(2, 100 * reach + 1),)


def _phrasings(
    givens: tuple[str, str, str], held_out_given: str, wanted: str, size: str = "大"
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return every situation with every way to ask; one situation and one way to ask are held out."""
    asks = (f"{wanted}是多少？", f"求{wanted}。", f"{wanted}多{size}？")
    train = tuple(f"{given}，{ask}" for given in givens for ask in asks)
    held_out = tuple(f"{held_out_given}，{ask}" for ask in asks[:2])
    return train, (*held_out, *(f"{given}，{wanted}等于多少？" for given in givens[:2]))


def _product(
    name: str,
    first: str,
    second: str,
    unit: str,
    givens: tuple[str, str, str],
    held_out_given: str,
    wanted: str,
    size: str = "大",
) -> Kind:
    """Return a kind of question that asks a law like F = m·a for its product: operands `first` and `second`."""

    def solve(a: int, b: int) -> Fact:
        operands = {first: a, second: b}
        return Fact(MODULE, name, operands, f"{a * b}{unit}", f"{MODULE}/{name}/{a},{b}")

    train, held_out = _phrasings(givens, held_out_given, wanted, size)
    return Kind(name, _factors, solve, train, held_out, contrast=(first, second))


def _quotient(
    name: str,
    whole: str,
    part: str,
    unit: str,
    givens: tuple[str, str, str],
    held_out_given: str,
    wanted: str,
    size: str = "大",
    round_answer: bool = False,
) -> Kind:
    """Return the kind that asks the same law for a factor: operand `whole` is divisible by operand `part`.

    `round_answer` says that the answer may be a round number, not the divisor.
    """

    def solve(first: int, second: int) -> Fact:
        divisor, answer = (first, second) if round_answer else (second, first)
        total = divisor * answer
        operands = {whole: total, part: divisor}
        return Fact(MODULE, name, operands, f"{answer}{unit}", f"{MODULE}/{name}/{total},{divisor}")

    train, held_out = _phrasings(givens, held_out_given, wanted, size)
    return Kind(name, _factors, solve, train, held_out, contrast=(whole, part))


def _sum(name: str, unit: str, givens: tuple[str, str, str], held_out_given: str, wanted: str) -> Kind:
    """Return a kind that adds two quantities `a` and `b`; their order is no part of the fact."""

    def solve(a: int, b: int) -> Fact:
        identity = f"{MODULE}/{name}/{min(a, b)},{max(a, b)}"
        return Fact(MODULE, name, {"a": a, "b": b}, f"{a + b}{unit}", identity)

    train, held_out = _phrasings(givens, held_out_given, wanted)
    return Kind(name, _summands, solve, train, held_out, contrast=("a", "b"))


def _opposite(b: int, difference: int) -> Fact:
    a = b + difference
    name = "opposite_forces"
    return Fact(MODULE, name, {"a": a, "b": b}, f"{difference}N", f"{MODULE}/{name}/{a},{b}")


def _weight(mass: int) -> Fact:
    return Fact(MODULE, "weight", {"m": mass}, f"{10 * mass}N", f"{MODULE}/weight/{mass}")


def _mass_of_weight(mass: int) -> Fact:
    weight = 10 * mass
    return Fact(MODULE, "mass_of_weight", {"G": weight}, f"{mass}kg", f"{MODULE}/mass_of_weight/{weight}")


def _kinetic(half_mass: int, speed: int) -> Fact:
    mass = 2 * half_mass
    energy = half_mass * speed * speed
    identity = f"{MODULE}/kinetic_energy/{mass},{speed}"
    return Fact(MODULE, "kinetic_energy", {"m": mass, "v": speed}, f"{energy}J", identity)


_OPPOSITE = _phrasings(
    ("{a}N和{b}N的力方向相反", "方向相反的两个力为{a}N和{b}N", "两力反向，大小是{a}N和{b}N"),
    "两个反向的力{a}N和{b}N",
    "合力",
)
_WEIGHT = _phrasings(
    ("g取10N/kg，物体质量{m}kg", "{m}kg的物体，g取10N/kg", "物体质量{m}kg，g取10N/kg"),
    "g取10N/kg，{m}kg的物体",
    "重力",
)
_MASS = _phrasings(
    ("g取10N/kg，物体重{G}N", "重{G}N的物体，g取10N/kg", "物体重力{G}N，g取10N/kg"),
    "g取10N/kg，物体重力{G}N",
    "质量",
)
_KINETIC = _phrasings(
    ("质量{m}kg的物体速度{v}m/s", "{m}kg的小车以{v}m/s行驶", "物体质量{m}kg，速度{v}m/s"),
    "物体速度{v}m/s，质量{m}kg",
    "动能",
)

KINDS = (
    _product(
        "force", "a", "m", "N",
        ("质量{m}kg的物体加速度{a}m/s²", "{m}kg的小车以{a}m/s²加速", "物体质量{m}kg，加速度{a}m/s²"),
        "物体加速度{a}m/s²，质量{m}kg", "合力",
    ),
    _quotient(
        "acceleration", "F", "m", "m/s²",
        ("{m}kg的物体受{F}N合力", "合力{F}N，物体质量{m}kg", "{F}N的合力作用于{m}kg的物体"),
        "物体质量{m}kg，合力{F}N", "加速度",
    ),
    _quotient(
        "speed", "s", "t", "m/s",
        ("小明{t}s骑了{s}m", "小车{t}s行驶{s}m", "路程{s}m，用时{t}s"),
        "小车用时{t}s，路程{s}m", "速度",
    ),
    _product(
        "distance", "v", "t", "m",
        ("小明以{v}m/s骑了{t}s", "小车以{v}m/s行驶{t}s", "速度{v}m/s，用时{t}s"),
        "小车用时{t}s，速度{v}m/s", "路程", "远",
    ),
    _quotient(
        "duration", "s", "v", "s",
        ("小明以{v}m/s骑行{s}m", "小车以{v}m/s行驶{s}m", "路程{s}m，速度{v}m/s"),
        "小车速度{v}m/s，路程{s}m", "时间", "长", round_answer=True,
    ),
    _quotient(
        "density", "m", "V", "g/cm³",
        ("物体质量{m}g，体积{V}cm³", "{m}g的石块体积{V}cm³", "体积{V}cm³的物体质量{m}g"),
        "物体体积{V}cm³，质量{m}g", "密度",
    ),
    _product(
        "mass", "d", "V", "g",
        ("物体密度{d}g/cm³，体积{V}cm³", "体积{V}cm³的物体密度{d}g/cm³", "密度{d}g/cm³的石块体积{V}cm³"),
        "物体体积{V}cm³，密度{d}g/cm³", "质量",
    ),
    _product(
        "work", "F", "s", "J",
        ("{F}N的力推车前进{s}m", "用{F}N的力拉物体前进{s}m", "物体受{F}N的力，沿力移动{s}m"),
        "用{F}N的力推物体移动{s}m", "力做的功",
    ),
    _quotient(
        "power", "W", "t", "W",
        ("机器{t}s做了{W}J的功", "{t}s做功{W}J", "做功{W}J，用时{t}s"),
        "机器用时{t}s，做功{W}J", "功率",
    ),
    _product(
        "energy", "t", "P", "J",
        ("机器功率{P}W，工作{t}s", "功率{P}W的机器工作{t}s", "{P}W的机器工作了{t}s"),
        "机器工作了{t}s，功率{P}W", "做的功",
    ),
    _product(
        "voltage", "I", "R", "V",
        ("电阻{R}Ω，电流{I}A", "{R}Ω的电阻通过{I}A电流", "{I}A的电流通过{R}Ω的电阻"),
        "电流{I}A，电阻{R}Ω", "电压",
    ),
    _quotient(
        "current", "U", "R", "A",
        ("电压{U}V，电阻{R}Ω", "{R}Ω的电阻两端加{U}V电压", "{R}Ω的电阻接在{U}V电源上"),
        "电阻{R}Ω，电压{U}V", "电流",
    ),
    _quotient(
        "resistance", "U", "I", "Ω",
        ("电压{U}V，电流{I}A", "导体两端电压{U}V，电流{I}A", "{U}V电压下，导体电流{I}A"),
        "电流{I}A，电压{U}V", "电阻", round_answer=True,
    ),
    _product(
        "electric_power", "I", "U", "W",
        ("电器电压{U}V，电流{I}A", "{U}V的电器通过{I}A电流", "电器两端电压{U}V，电流{I}A"),
        "电器电流{I}A，电压{U}V", "电功率",
    ),
    _quotient(
        "pressure", "F", "S", "Pa",
        ("{F}N的压力作用在{S}m²上", "压力{F}N，受力面积{S}m²", "受力面积{S}m²，压力{F}N"),
        "物体受压力{F}N，面积{S}m²", "压强",
    ),
    _product(
        "final_speed", "a", "t", "m/s",
        ("物体从静止以{a}m/s²加速{t}s", "小车从静止加速{t}s，加速度{a}m/s²", "静止的物体以{a}m/s²加速{t}s"),
        "小车从静止以{a}m/s²加速{t}s", "末速度",
    ),
    _product(
        "wave_speed", "l", "f", "m/s",
        ("波的频率{f}Hz，波长{l}m", "频率{f}Hz的波波长{l}m", "波长{l}m的波频率{f}Hz"),
        "波长{l}m，频率{f}Hz", "波速",
    ),
    _sum(
        "series_resistance", "Ω",
        ("{a}Ω和{b}Ω的电阻串联", "两个电阻{a}Ω、{b}Ω串联", "把{a}Ω与{b}Ω的电阻串联"),
        "串联的电阻为{a}Ω和{b}Ω", "总电阻",
    ),
    _sum(
        "same_forces", "N",
        ("{a}N和{b}N的力方向相同", "方向相同的两个力为{a}N和{b}N", "两力同向，大小是{a}N和{b}N"),
        "两个同向的力{a}N和{b}N", "合力",
    ),
    Kind("opposite_forces", _summands, _opposite, *_OPPOSITE, contrast=("a", "b")),
    Kind("weight", _masses, _weight, *_WEIGHT, contrast=("m",)),
    Kind("mass_of_weight", _masses, _mass_of_weight, *_MASS, contrast=("G",)),
    Kind(
        "kinetic_energy",
        lambda reach: (range(1, 5 * reach + 1), range(2, 10 * reach + 1)),
        _kinetic,
        *_KINETIC,
        contrast=("m", "v"),
    ),
)  # fmt: skip
