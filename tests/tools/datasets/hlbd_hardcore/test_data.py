"""The committed HLBD Hardcore files: every answer recomputed from the text, nothing twice, nothing leaked.

The solvers below read the Chinese question and share no code with the generator. Each gives the answer
and a signature: the question's operands without its wording, the unit of length or the order of summands.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import cache
from itertools import combinations, count
from pathlib import Path

import pytest

from tools.datasets.hlbd_hardcore.dataset import SEED, module_sizes, training_rows
from tools.datasets.hlbd_hardcore.fact import Row

DATA = Path(__file__).resolve().parents[4] / "data"
MODULES = ("geometry", "arithmetic", "zodiac", "physics", "reverse_english")
TRAINING = {"HLBD_Hardcore_Full": 575, "HLBD_Hardcore_Full_V2": 5042}
FILES = (*TRAINING, *(f"{name}_Heldout" for name in TRAINING))

Cells = dict[str, str]
Signature = tuple[str | int, ...]


@cache
def load(name: str) -> dict[str, list[Cells]]:
    data: dict[str, list[Cells]] = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))["data"]
    return data


# --- solvers ---------------------------------------------------------------------------------------------


def solve_arithmetic(question: str) -> tuple[Signature, str]:
    a, b = map(int, re.findall(r"\d+", question))
    words = question.replace("多少", "")
    if re.search("÷|除以|商|几倍|几个|平均分", words):
        assert a % b == 0, question
        return ("divide", a, b), str(a // b)
    if re.search("×|乘|积|倍|个", words):
        return ("times", *sorted((a, b))), str(a * b)
    if re.search("-|减|差|少", words):
        return ("minus", a, b), str(a - b)
    assert re.search("[+加和多]", words), question
    return ("plus", *sorted((a, b))), str(a + b)


PLANE_AND_SOLID: dict[tuple[str, str], Callable[[dict[str, int]], int]] = {
    ("长方形", "面积"): lambda x: x["长"] * x["宽"],
    ("长方形", "周长"): lambda x: x["长"] + x["宽"] + x["长"] + x["宽"],
    ("长方形", "宽"): lambda x: x["面积"] // x["长"],
    ("正方形", "面积"): lambda x: x["边长"] ** 2,
    ("正方形", "周长"): lambda x: sum([x["边长"]] * 4),
    ("正方形", "边长"): lambda x: x["周长"] // 4,
    ("三角形", "面积"): lambda x: x["底"] * x["高"] // 2,
    ("平行四边形", "面积"): lambda x: x["底"] * x["高"],
    ("梯形", "面积"): lambda x: (x["上底"] + x["下底"]) * x["高"] // 2,
    ("圆", "直径"): lambda x: x["半径"] + x["半径"],
    ("圆", "半径"): lambda x: x["直径"] // 2,
    ("圆", "周长"): lambda x: x["直径"] * x["π取"],
    ("正方体", "体积"): lambda x: x["棱长"] ** 3,
    ("长方体", "体积"): lambda x: x["底面积"] * x["高"] if "底面积" in x else x["长"] * x["宽"] * x["高"],
}
SIDES = {"五": 5, "六": 6, "七": 7, "八": 8, "九": 9, "十": 10, "十二": 12}
LENGTH = "厘米|分米|米"
LABEL = "π取|[上下]底|底面积|面积|[周边棱]长|[直半]径|[长宽高底]"
MEASURE = re.compile(rf"({LABEL})(\d+)(?:(?:平方)?({LENGTH}))?")
DIMENSION = {"面积": "平方", "体积": "立方"}


def solve_geometry(question: str) -> tuple[Signature, str]:
    numbers = list(map(int, re.findall(r"\d+", question)))
    if "对角线" in question:
        (n,) = numbers
        every = [pair for pair in combinations(range(n), 2) if (pair[1] - pair[0]) % n not in (1, n - 1)]
        if "顶点" in question:
            return ("diagonals from one vertex", n), f"{sum(0 in pair for pair in every)}条"
        return ("diagonals", n), f"{len(every)}条"
    if "度" in question or "内角" in question:
        if "边形" in question:
            return ("interior sum", *numbers), f"{180 * (numbers[0] - 2)}度"
        full = 90 if "余" in question or "直角三角形" in question else 180
        angles = numbers * 2 if "等腰" in question else numbers
        name = re.search("余|补|直角|等腰|三角形", question)
        assert name, question
        return (f"angle {name[0]}", *sorted(numbers)), f"{full - sum(angles)}度"
    given = {label: int(number) for label, number, _ in MEASURE.findall(question)}
    (unit,) = {unit for _, _, unit in MEASURE.findall(question)} - {""}
    rest = MEASURE.sub("", question)
    polygon = re.search("正(十?[二五六七八九]|十)边形", rest)
    if polygon:
        return ("polygon", SIDES[polygon[1]], given["边长"]), f"{SIDES[polygon[1]] * given['边长']}{unit}"
    shape = next(shape for shape, _ in PLANE_AND_SOLID if shape in rest)
    wanted = next(wanted for name, wanted in PLANE_AND_SOLID if name == shape and wanted in rest)
    size = PLANE_AND_SOLID[shape, wanted](given)
    operands = [part for label in sorted(given) for part in (label, given[label])]
    return (shape, wanted, *operands), f"{size}{DIMENSION.get(wanted, '')}{unit}"


ANIMALS = "鼠牛虎兔龙蛇马羊猴鸡狗猪"
OPERAND = rf"\d+|[{ANIMALS}]|(?<=正)[五六七八九十二]+(?=边形)"


def animal_of(year: int) -> str:
    return ANIMALS[(year - 4) % 12]  # the year 4 began the sexagenary cycle: 甲子, a year of the rat


def solve_zodiac(question: str) -> tuple[Signature, str]:
    words = question.replace("十二生肖", "生肖")
    animals = [ANIMALS.index(char) for char in words if char in ANIMALS]
    numbers = list(map(int, re.findall(r"\d+", words)))
    if len(animals) == 2:
        start, end = animals
        return ("gap", start, end), f"{next(n for n in count(1) if (start + n) % 12 == end)}年"
    if not animals and "年" not in words:
        return ("ranked", *numbers), ANIMALS[numbers[0] - 1]
    if not animals:
        year = numbers[0]
        born = re.search("出生|生的|生在", words)
        return ("year", year), animal_of(year) + ("" if born else "年")
    (animal,) = animals
    if re.search("第几", words):
        return ("rank", animal), f"第{animal + 1}"
    if "属" in words:
        older = bool(re.search(r"大\d+岁", words)) != ("比我" in words)
        steps = -numbers[0] if older else numbers[0]
        return ("shift", animal, steps), ANIMALS[(animal + steps) % 12]
    earlier = bool(re.search("前|不到|上一|去年", words))
    if numbers and numbers[0] >= 1000:
        year = numbers[0]
        found = year + (-1 if earlier else 1)
        while animal_of(found) != ANIMALS[animal]:
            found += -1 if earlier else 1
        return ("nearest before" if earlier else "nearest after", animal, year), f"{found}年"
    steps = (numbers[0] if numbers else 1) * (-1 if earlier else 1)
    return ("shift", animal, steps), f"{ANIMALS[(animal + steps) % 12]}年"


PHYSICS: dict[tuple[str, tuple[str, ...]], tuple[Callable[..., float], str]] = {
    ("合力", ("kg", "m/s²")): (lambda m, a: m * a, "N"),
    ("加速度", ("N", "kg")): (lambda f, m: f / m, "m/s²"),
    ("速度", ("m", "s")): (lambda s, t: s / t, "m/s"),
    ("路程", ("m/s", "s")): (lambda v, t: v * t, "m"),
    ("时间", ("m", "m/s")): (lambda s, v: s / v, "s"),
    ("密度", ("cm³", "g")): (lambda v, m: m / v, "g/cm³"),
    ("质量", ("cm³", "g/cm³")): (lambda v, d: v * d, "g"),
    ("力做的功", ("N", "m")): (lambda f, s: f * s, "J"),
    ("功率", ("J", "s")): (lambda w, t: w / t, "W"),
    ("做的功", ("W", "s")): (lambda p, t: p * t, "J"),
    ("电压", ("A", "Ω")): (lambda i, r: i * r, "V"),
    ("电流", ("V", "Ω")): (lambda u, r: u / r, "A"),
    ("电阻", ("A", "V")): (lambda i, u: u / i, "Ω"),
    ("电功率", ("A", "V")): (lambda i, u: i * u, "W"),
    ("压强", ("N", "m²")): (lambda f, s: f / s, "Pa"),
    ("末速度", ("m/s²", "s")): (lambda a, t: a * t, "m/s"),
    ("波速", ("Hz", "m")): (lambda f, length: f * length, "m/s"),
    ("总电阻", ("Ω", "Ω")): (lambda a, b: a + b, "Ω"),
    ("重力", ("N/kg", "kg")): (lambda g, m: g * m, "N"),
    ("质量", ("N", "N/kg")): (lambda f, g: f / g, "kg"),
    ("动能", ("kg", "m/s")): (lambda m, v: m * v**2 / 2, "J"),
    ("同向合力", ("N", "N")): (lambda a, b: a + b, "N"),
    ("反向合力", ("N", "N")): (lambda a, b: abs(a - b), "N"),
}


def solve_physics(question: str) -> tuple[Signature, str]:
    situation, _, asked = question.rpartition("，")
    match = re.fullmatch("求(.+)。|(.+?)(?:是多少|等于多少|多大|多长|多远)？", asked)
    assert match, question
    wanted = match[1] or match[2]
    given = sorted((unit, int(n)) for n, unit in re.findall(r"(\d+)([A-Za-zΩ²³/]+)", situation))
    units = tuple(unit for unit, _ in given)
    if units == ("N", "N"):
        wanted = ("反向" if "反" in situation else "同向") + wanted
    law, unit = PHYSICS[wanted, units]
    result = law(*(n for _, n in given))
    assert result == int(result), question
    return (wanted, *(part for pair in given for part in pair)), f"{int(result)}{unit}"


def solve_reverse_english(question: str) -> tuple[Signature, str]:
    (text,) = re.findall(r"[a-z]+(?: [a-z]+)*", question)
    return (text,), "".join(reversed(text))


SOLVERS: dict[str, Callable[[str], tuple[Signature, str]]] = {
    "geometry": solve_geometry,
    "arithmetic": solve_arithmetic,
    "zodiac": solve_zodiac,
    "physics": solve_physics,
    "reverse_english": solve_reverse_english,
}


def template(module: str, question: str) -> str:
    """Return the question with its operands masked."""
    if module == "reverse_english":
        return re.sub(r"[a-z]+(?: [a-z]+)*", "W", question)
    if module == "zodiac":
        question = re.sub(f"[{ANIMALS}]", "A", question)
    if module == "geometry":
        question = re.sub(LENGTH, "U", re.sub("正(?:十二|[五六七八九十])边形", "正N边形", question))
    return re.sub(r"\d+", "#", question)


def signatures(module: str, rows: Iterable[Cells]) -> set[Signature]:
    """Return the facts that a reader of these rows knows: those asked for and those that the answers reveal."""
    known: set[Signature] = set()
    for row in rows:
        signature, answer = SOLVERS[module](row["input"])
        known.add(signature)
        if module == "zodiac" and str(signature[0]).startswith("nearest"):
            known.add(("year", int(answer.removesuffix("年"))))
    return known


@cache
def generated(module: str, size: int, seed: int = SEED) -> tuple[Row, ...]:
    return tuple(training_rows(module, module_sizes(size)[module], seed))


def cells(rows: Iterable[Row]) -> list[Cells]:
    return [{"input": row.input, "output": row.output} for row in rows]


def held_out(name: str, module: str, *kinds: str) -> list[Cells]:
    return [row for row in load(f"{name}_Heldout")[module] if row["kind"] in kinds]


def all_rows(name: str) -> list[Cells]:
    return [row for rows in load(name).values() for row in rows]


# --- the files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("module", MODULES)
def test_every_answer_is_right(name: str, module: str) -> None:
    for row in load(name)[module]:
        assert SOLVERS[module](row["input"])[1] == row["output"], row


@pytest.mark.parametrize("module", MODULES)
def test_every_answer_is_right_in_a_file_that_needs_wider_operands(module: str) -> None:
    for row in generated(module, 200_000)[::10]:
        assert SOLVERS[module](row.input)[1] == row.output, row


@pytest.mark.parametrize(("name", "size"), TRAINING.items())
def test_training_files_have_the_promised_rows_spread_evenly(name: str, size: int) -> None:
    raw = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    assert raw["metadata"].keys() >= {"name", "version", "description", "total_samples", "modules"}
    assert raw["metadata"]["total_samples"] == size
    assert raw["metadata"]["modules"] == list(raw["data"]) == list(MODULES)
    counts = [len(rows) for rows in raw["data"].values()]
    assert sum(counts) == size
    assert max(counts) - min(counts) <= 1
    assert all(row.keys() == {"input", "output"} for rows in raw["data"].values() for row in rows)


@pytest.mark.parametrize(("name", "expected"), [("HLBD_Hardcore_Full", 50), ("HLBD_Hardcore_Full_V2", 200)])
def test_held_out_files_are_even_over_modules_and_kinds(name: str, expected: int) -> None:
    data = load(f"{name}_Heldout")
    assert list(data) == list(MODULES)
    for rows in data.values():
        kinds = Counter(row["kind"] for row in rows)
        shares = {"paraphrase": 0.4, "new_fact": 0.4, "contrast": 0.2}
        assert kinds == {kind: round(share * expected) for kind, share in shares.items()}
        assert all(("group" in row) == (row["kind"] == "contrast") for row in rows)


@pytest.mark.parametrize("name", TRAINING)
def test_no_question_is_asked_twice_not_even_in_the_held_out_file(name: str) -> None:
    asked = Counter(row["input"] for file in (name, f"{name}_Heldout") for row in all_rows(file))
    assert [question for question, times in asked.items() if times > 1] == []


@pytest.mark.parametrize("name", FILES)
def test_rows_are_short_and_clean(name: str) -> None:
    for row in all_rows(name):
        assert 5 <= len(row["input"]) <= 30, row
        assert 1 <= len(row["output"]) <= 12, row
        assert row["input"] == row["input"].strip(), row
        assert "{" not in row["input"] + row["output"], row


@pytest.mark.parametrize("module", MODULES)
def test_no_answer_is_a_safe_guess(module: str) -> None:
    answers = [row["output"] for row in load("HLBD_Hardcore_Full_V2")[module]]
    assert max(Counter(answers).values()) < 0.1 * len(answers)


# --- held out: disjoint by fact --------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRAINING)
@pytest.mark.parametrize("module", MODULES)
def test_paraphrases_ask_a_known_fact_in_a_phrasing_that_training_never_uses(name: str, module: str) -> None:
    known = signatures(module, load(name)[module])
    phrasings = {template(module, row["input"]) for row in load(name)[module]}
    for row in held_out(name, module, "paraphrase"):
        assert SOLVERS[module](row["input"])[0] in known, row
        assert template(module, row["input"]) not in phrasings, row


@pytest.mark.parametrize("name", TRAINING)
@pytest.mark.parametrize("module", MODULES)
def test_new_facts_and_contrasts_ask_an_unknown_fact_in_known_words(name: str, module: str) -> None:
    known = signatures(module, load(name)[module])
    phrasings = {template(module, row["input"]) for row in load(name)[module]}
    for row in held_out(name, module, "new_fact", "contrast"):
        assert SOLVERS[module](row["input"])[0] not in known, row
        assert template(module, row["input"]) in phrasings, row


@pytest.mark.parametrize(("size", "seed"), [(200_000, SEED), (20_000, 7)])
@pytest.mark.parametrize("module", MODULES)
def test_held_out_facts_and_phrasings_stay_out_of_files_of_other_sizes_and_seeds(
    module: str, size: int, seed: int
) -> None:
    rows = generated(module, size, seed)
    known = signatures(module, cells(rows))
    phrasings = {template(module, row.input) for row in rows}
    for name in TRAINING:
        for row in held_out(name, module, "new_fact", "contrast"):
            assert SOLVERS[module](row["input"])[0] not in known, row
        for row in held_out(name, module, "paraphrase"):
            assert template(module, row["input"]) not in phrasings, row


def numbers_by_question(module: str, rows: Iterable[Cells]) -> dict[str, list[int]]:
    """Return question (the words of the signature) -> the numbers with which it is asked."""
    found: dict[str, list[int]] = defaultdict(list)
    for signature in signatures(module, rows):
        words = " ".join(part for part in signature if isinstance(part, str))
        found[words] += [part for part in signature if isinstance(part, int)]
    return found


@pytest.mark.parametrize("name", TRAINING)
@pytest.mark.parametrize("module", [module for module in MODULES if module != "reverse_english"])
def test_new_facts_need_no_larger_numbers_than_training_shows(name: str, module: str) -> None:
    seen = numbers_by_question(module, load(name)[module])
    for question, asked in numbers_by_question(module, held_out(name, module, "new_fact")).items():
        assert min(seen[question]) <= min(asked), question
        assert max(asked) <= max(seen[question]), question


@pytest.mark.parametrize("name", TRAINING)
def test_the_members_of_a_contrast_group_differ_in_one_operand_and_in_the_answer(name: str) -> None:
    groups = defaultdict(list)
    for module in MODULES:
        for row in held_out(name, module, "contrast"):
            groups[module, row["group"]].append(row)
    for (module, _), rows in groups.items():
        assert len(rows) in (3, 4)
        assert len({row["output"] for row in rows}) == len(rows)
        assert len({template(module, row["input"]) for row in rows}) == 1
        # A word has two operands: its first letter and the others. In 正五边形 the numeral is one.
        operand = r"(?<![a-z])[a-z]|[a-z]+" if module == "reverse_english" else OPERAND
        slots = zip(*(re.findall(operand, row["input"]) for row in rows), strict=True)
        assert [len(set(slot)) for slot in slots if len(set(slot)) > 1] == [len(rows)], rows


@pytest.mark.parametrize("name", TRAINING)
def test_held_out_rows_use_no_character_that_training_lacks(name: str) -> None:
    known = {char for row in all_rows(name) for char in row["input"] + row["output"]}
    asked = {char for row in all_rows(f"{name}_Heldout") for char in row["input"] + row["output"]}
    assert asked - known == set()
