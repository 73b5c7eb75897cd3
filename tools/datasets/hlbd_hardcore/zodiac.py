"""Zodiac: the twelve-animal cycle. Years are lunar years (农历年); 1900 is a year of the rat (鼠)."""

from __future__ import annotations

from tools.datasets.hlbd_hardcore.fact import Axes, Fact, Kind

MODULE = "zodiac"
ANIMALS = "鼠牛虎兔龙蛇马羊猴鸡狗猪"
_CYCLE = range(len(ANIMALS))
_FIRST_RAT_YEAR = 1900


def _year_identity(year: int) -> str:
    return f"{MODULE}/year/{year}"


def _animal_of(year: int) -> str:
    return ANIMALS[(year - _FIRST_RAT_YEAR) % 12]


def _year(year: int) -> Fact:
    return Fact(MODULE, "year", {"y": year}, f"{_animal_of(year)}年", _year_identity(year))


def _birth(year: int) -> Fact:
    return Fact(MODULE, "birth", {"y": year}, _animal_of(year), _year_identity(year))


def _shift(kind: str, animal: int, years: int, ending: str) -> Fact:
    """Return the animal `years` later (earlier if negative); for years and for people it is the same fact."""
    start = ANIMALS[animal]
    answer = ANIMALS[(animal + years) % 12]
    return Fact(MODULE, kind, {"x": start, "k": abs(years)}, answer + ending, f"{MODULE}/shift/{start},{years:+d}")


def _following(animal: int, year: int) -> Fact:
    found = year + 1 + (animal - (year + 1 - _FIRST_RAT_YEAR)) % 12
    return _nearest("following", animal, year, found)


def _preceding(animal: int, year: int) -> Fact:
    found = year - 1 - (year - 1 - _FIRST_RAT_YEAR - animal) % 12
    return _nearest("preceding", animal, year, found)


def _nearest(kind: str, animal: int, year: int, found: int) -> Fact:
    name = ANIMALS[animal]
    return Fact(
        MODULE,
        kind,
        {"x": name, "y": year},
        f"{found}年",
        f"{MODULE}/{kind}/{name},{year}",
        reveals=(_year_identity(found),),
    )


def _gap(start: int, steps: int) -> Fact:
    first, last = ANIMALS[start], ANIMALS[(start + steps) % 12]
    return Fact(MODULE, "gap", {"x": first, "z": last}, f"{steps}年", f"{MODULE}/gap/{first},{last}")


def _rank(animal: int) -> Fact:
    name = ANIMALS[animal]
    return Fact(MODULE, "rank", {"x": name}, f"第{animal + 1}", f"{MODULE}/rank/{name}")


def _ranked(animal: int) -> Fact:
    return Fact(MODULE, "ranked", {"n": animal + 1}, ANIMALS[animal], f"{MODULE}/ranked/{animal + 1}")


def _years(reach: int) -> range:
    """Return the years 1900–2100, and 200 years more at both ends for each further reach."""
    return range(max(100, 1900 - 200 * (reach - 1)), 2100 + 200 * (reach - 1) + 1)


def _steps(reach: int) -> Axes:
    # One step is asked by the rote kinds below; a reserved single step would be given away there.
    return (_CYCLE, range(2, 24 * reach + 1))


KINDS = (
    Kind(
        name="year",
        axes=lambda reach: (_years(reach),),
        solve=_year,
        phrasings=(
            "{y}年是什么年？",
            "农历{y}年是什么年？",
            "{y}年是哪个生肖年？",
            "按生肖算，{y}年是什么年？",
            "{y}年春节后是什么年？",
            "请问农历{y}年是什么年？",
            "{y}年按农历是什么生肖年？",
            "十二生肖里，{y}年是什么年？",
        ),
        held_out_phrasings=(
            "农历{y}年是哪个生肖年？",
            "按农历算，{y}年是什么年？",
            "请问{y}年是什么生肖年？",
        ),
        contrast=("y",),
    ),
    Kind(
        name="birth",
        axes=lambda reach: (_years(reach),),
        solve=_birth,
        phrasings=(
            "农历{y}年出生的人属什么？",
            "农历{y}年生的孩子属什么？",
            "农历{y}年出生，生肖是什么？",
            "农历{y}年出生的人生肖是什么？",
            "生在农历{y}年的人属什么？",
            "请问农历{y}年出生属什么？",
            "他在农历{y}年出生，他属什么？",
        ),
        held_out_phrasings=(
            "农历{y}年生的人属什么？",
            "我生在农历{y}年，我属什么？",
            "农历{y}年出生的孩子属哪个生肖？",
        ),
        contrast=("y",),
    ),
    Kind(
        name="after",
        axes=_steps,
        solve=lambda animal, years: _shift("after", animal, years, "年"),
        phrasings=(
            "{x}年过{k}年是什么年？",
            "今年是{x}年，{k}年后是什么年？",
            "从{x}年起再过{k}年是什么年？",
            "{x}年以后第{k}年是什么年？",
            "{x}年再过{k}年是哪个生肖年？",
            "如果今年是{x}年，过{k}年是什么年？",
            "某年是{x}年，{k}年后是什么年？",
        ),
        held_out_phrasings=("今年{x}年，再过{k}年是什么年？", "从{x}年往后数{k}年是什么年？"),
        contrast=("x", "k"),
    ),
    Kind(
        name="before",
        axes=_steps,
        solve=lambda animal, years: _shift("before", animal, -years, "年"),
        phrasings=(
            "{x}年往前{k}年是什么年？",
            "今年是{x}年，{k}年前是什么年？",
            "从{x}年往前数{k}年是什么年？",
            "{x}年以前第{k}年是什么年？",
            "{x}年的{k}年前是哪个生肖年？",
            "如果今年是{x}年，{k}年前是什么年？",
            "某年是{x}年，{k}年前是什么年？",
        ),
        held_out_phrasings=("今年{x}年，往前{k}年是什么年？", "{x}年再往前数{k}年是什么年？"),
        contrast=("x", "k"),
    ),
    Kind(
        name="younger",
        axes=_steps,
        solve=lambda animal, years: _shift("younger", animal, years, ""),
        phrasings=(
            "他属{x}，我比他小{k}岁，我属什么？",
            "比属{x}的人小{k}岁的人属什么？",
            "属{x}的人比我大{k}岁，我属什么？",
            "老师属{x}，比他小{k}岁的人属什么？",
            "小明比属{x}的人小{k}岁，小明属什么？",
            "小明属{x}，小红比他小{k}岁，小红属什么？",
        ),
        held_out_phrasings=("老师属{x}，我比老师小{k}岁，我属什么？", "我比属{x}的人小{k}岁，我属什么？"),
        contrast=("x", "k"),
    ),
    Kind(
        name="older",
        axes=_steps,
        solve=lambda animal, years: _shift("older", animal, -years, ""),
        phrasings=(
            "他属{x}，我比他大{k}岁，我属什么？",
            "比属{x}的人大{k}岁的人属什么？",
            "属{x}的人比我小{k}岁，我属什么？",
            "老师属{x}，比他大{k}岁的人属什么？",
            "小明比属{x}的人大{k}岁，小明属什么？",
            "小明属{x}，小红比他大{k}岁，小红属什么？",
        ),
        held_out_phrasings=("老师属{x}，我比老师大{k}岁，我属什么？", "我比属{x}的人大{k}岁，我属什么？"),
        contrast=("x", "k"),
    ),
    Kind(
        name="following",
        axes=lambda reach: (_CYCLE, _years(reach)),
        solve=_following,
        phrasings=(
            "{y}年之后第一个{x}年是哪一年？",
            "{y}年以后最近的{x}年是哪年？",
            "过了{y}年，下一个{x}年是哪年？",
            "{y}年后的第一个{x}年是哪一年？",
            "{y}年以后，最早的{x}年是哪一年？",
            "{y}年过后，哪一年最先是{x}年？",
        ),
        held_out_phrasings=("{y}年之后最早的{x}年是哪年？", "过了{y}年，第一个{x}年是哪一年？"),
        contrast=("x", "y"),
    ),
    Kind(
        name="preceding",
        axes=lambda reach: (_CYCLE, _years(reach)),
        solve=_preceding,
        phrasings=(
            "{y}年之前最近的{x}年是哪一年？",
            "{y}年以前最近的{x}年是哪年？",
            "{y}年之前，上一个{x}年是哪年？",
            "{y}年前的最后一个{x}年是哪一年？",
            "{y}年以前，最后一个{x}年是哪年？",
            "不到{y}年，上一个{x}年是哪一年？",
        ),
        held_out_phrasings=("{y}年之前最后一个{x}年是哪年？", "在{y}年以前，上一个{x}年是哪一年？"),
        contrast=("x", "y"),
    ),
    Kind(
        name="gap",
        axes=lambda reach: (_CYCLE, range(1, 12)),
        solve=_gap,
        phrasings=(
            "从{x}年到下一个{z}年要几年？",
            "{x}年至少过几年是{z}年？",
            "{x}年最少过几年才是{z}年？",
            "今年是{x}年，下一个{z}年在几年后？",
            "{x}年之后几年才到{z}年？",
            "今年{x}年，最少几年后是{z}年？",
        ),
        held_out_phrasings=("从{x}年到{z}年最少要几年？", "今年是{x}年，至少几年后是{z}年？"),
        contrast=("x", "z"),
    ),
    Kind(
        name="next",
        axes=lambda reach: (_CYCLE,),
        solve=lambda animal: _shift("next", animal, 1, "年"),
        phrasings=(
            "{x}年的下一年是什么年？",
            "{x}年之后是什么年？",
            "今年是{x}年，明年是什么年？",
            "{x}年过完是什么年？",
            "{x}年后面是什么年？",
        ),
        held_out_phrasings=("今年{x}年，下一年是什么年？", "过完{x}年是什么年？"),
        rote=True,
    ),
    Kind(
        name="previous",
        axes=lambda reach: (_CYCLE,),
        solve=lambda animal: _shift("previous", animal, -1, "年"),
        phrasings=(
            "{x}年的上一年是什么年？",
            "{x}年之前是什么年？",
            "今年是{x}年，去年是什么年？",
            "{x}年前面是什么年？",
            "{x}年的前一年是什么年？",
        ),
        held_out_phrasings=("今年{x}年，上一年是什么年？", "{x}年的前面是什么年？"),
        rote=True,
    ),
    Kind(
        name="rank",
        axes=lambda reach: (_CYCLE,),
        solve=_rank,
        phrasings=(
            "十二生肖中{x}排第几？",
            "{x}在十二生肖里排第几？",
            "{x}是十二生肖的第几个？",
            "生肖{x}排在第几位？",
            "十二生肖里，{x}是第几位？",
        ),
        held_out_phrasings=("在十二生肖中，{x}排第几位？", "十二生肖里{x}是第几个？"),
        rote=True,
    ),
    Kind(
        name="ranked",
        axes=lambda reach: (_CYCLE,),
        solve=_ranked,
        phrasings=(
            "十二生肖中排第{n}的是什么？",
            "十二生肖的第{n}个是什么？",
            "排在第{n}位的生肖是什么？",
            "十二生肖里第{n}位是什么？",
            "第{n}个生肖是什么？",
        ),
        held_out_phrasings=("十二生肖中，第{n}个是什么？", "在十二生肖里排第{n}位的是什么？"),
        rote=True,
    ),
)
