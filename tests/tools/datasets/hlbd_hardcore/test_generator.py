"""The HLBD Hardcore generator: reproducible, diluted, nested, in constant memory, polite about bad input."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools import generate_hlbd_hardcore
from tools.datasets.hlbd_hardcore.dataset import SEED, module_sizes, training_rows, write_rows, write_training_file
from tools.datasets.hlbd_hardcore.fact import Kind, Row
from tools.datasets.hlbd_hardcore.held_out import held_out_rows
from tools.datasets.hlbd_hardcore.lane import Lane, shares
from tools.datasets.hlbd_hardcore.modules import MODULES
from tools.datasets.hlbd_hardcore.permutation import Permutation
from tools.datasets.hlbd_hardcore.reverse_english import words
from tools.datasets.hlbd_hardcore.weights import apportion, read_weights
from tools.datasets.outputs import BEGINNING

ROOT = Path(__file__).resolve().parents[4]
COMMITTED = {
    "1": ("HLBD_Hardcore_Full.json", "HLBD_Hardcore_Full_Heldout.json"),
    "2": ("HLBD_Hardcore_Full_V2.json", "HLBD_Hardcore_Full_V2_Heldout.json"),
}
KINDS = [(module, kind) for module, kinds in MODULES.items() for kind in kinds]
EACH_KIND = pytest.mark.parametrize(("module", "kind"), KINDS, ids=[f"{m}-{k.name}" for m, k in KINDS])


@cache
def generated(module: str, size: int) -> tuple[Row, ...]:
    return tuple(training_rows(module, module_sizes(size)[module], SEED))


# --- the same bytes, every time --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("version", COMMITTED)
def test_committed_files_are_what_the_command_writes_in_any_folder(version: str, tmp_path: Path) -> None:
    name, held_out = COMMITTED[version]
    script = str(ROOT / "tools" / "generate_hlbd_hardcore.py")
    command = [sys.executable, script, "--version", version, "--output", name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((name, held_out))
    for file in (name, held_out):
        assert (tmp_path / file).read_bytes() == (ROOT / "data" / file).read_bytes()


def test_another_seed_draws_other_rows_of_the_same_kind(tmp_path: Path) -> None:
    write_training_file(tmp_path / "other.json", version=1, size=575, seed=7)
    other = json.loads((tmp_path / "other.json").read_text(encoding="utf-8"))
    committed = json.loads((ROOT / "data" / COMMITTED["1"][0]).read_text(encoding="utf-8"))
    assert other["metadata"]["seed"] == 7
    assert other["data"] != committed["data"]
    assert {m: len(rows) for m, rows in other["data"].items()} == dict.fromkeys(committed["data"], 115)


# --- facts, kinds, permutation -----------------------------------------------------------------------------


@settings(deadline=None)
@given(size=st.integers(1, 3000), key=st.text(max_size=8))
def test_a_permutation_reaches_every_index_once(size: int, key: str) -> None:
    permutation = Permutation(size, key)
    assert sorted(map(permutation, range(size))) == list(range(size))


def test_a_permutation_refuses_what_is_outside() -> None:
    with pytest.raises(IndexError, match="outside"):
        Permutation(5, "key")(5)
    with pytest.raises(ValueError, match="at least one point"):
        Permutation(0, "key")


@EACH_KIND
def test_a_kind_names_its_facts_and_never_makes_one_question_from_two(module: str, kind: Kind) -> None:
    facts = list(kind.facts(reach=1 if kind.fact_count(1) else 2))
    assert {(fact.module, fact.kind) for fact in facts} == {(module, kind.name)}
    for phrasing in (kind.phrasings[0], kind.held_out_phrasings[0]):
        assert len({Row(fact, phrasing).input for fact in facts}) == len(facts)
    assert set(kind.contrast) <= facts[0].operands.keys()


@EACH_KIND
def test_a_wider_reach_contains_the_smaller_one(module: str, kind: Kind) -> None:
    for reach in range(1, 6):
        for narrow, wide in zip(kind.axes(reach), kind.axes(reach + 1), strict=True):
            assert set(narrow) <= set(wide), module


@EACH_KIND
def test_no_phrasing_is_both_for_training_and_held_out(module: str, kind: Kind) -> None:
    every = [*kind.phrasings, *kind.held_out_phrasings]
    assert len(set(every)) == len(every), module
    assert len(kind.phrasings) >= 5
    assert len(kind.held_out_phrasings) >= 2


def test_the_lexicon_is_sorted_lower_case_and_free_of_palindromes() -> None:
    assert list(words()) == sorted(set(words()))
    assert len(words()) > 3000
    assert all(word.isascii() and word.isalpha() and word.islower() and 3 <= len(word) <= 8 for word in words())
    assert all(word != word[::-1] for word in words())


@EACH_KIND
def test_a_kind_holds_at_least_the_rows_that_it_promises(module: str, kind: Kind) -> None:
    free = [sum(not kind.reserves(fact) for fact in kind.facts(reach)) for reach in (1, 2)]
    assert Lane(kind, 1).room() <= free[0] * len(kind.phrasings), module
    assert Lane(kind, 2).room() <= (free[1] - free[0]) * len(kind.phrasings), module


@settings(deadline=None)
@given(size=st.integers(5, 1_000_000))
def test_shares_add_up_at_every_size(size: int) -> None:
    for module, rows in module_sizes(size).items():
        lanes = shares(MODULES[module], rows)
        assert sum(share for _, share in lanes) == rows
        assert all(0 < share <= lane.room() for lane, share in lanes)
    assert sum(module_sizes(size).values()) == size


# --- larger files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_a_larger_file_holds_every_row_of_a_smaller_one(module: str) -> None:
    small, middle, large = (
        {(row.input, row.output) for row in generated(module, size)} for size in (575, 5042, 200_000)
    )
    assert small < middle < large


@pytest.mark.parametrize("module", MODULES)
def test_no_question_comes_twice_when_operands_have_to_widen(module: str) -> None:
    rows = generated(module, 200_000)
    assert len({row.input for row in rows}) == len(rows) == 40_000


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path) -> None:
    def peak(size: int) -> int:
        tracemalloc.start()
        try:
            write_training_file(tmp_path / "rows.json", version=2, size=size, seed=SEED)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(3_000)  # fills the caches of room per kind, which are as large for every size
    small, large = peak(3_000), peak(30_000)
    assert large < small + 100_000, f"{small} bytes for 3,000 rows, {large} for 30,000"


# --- weights -----------------------------------------------------------------------------------------------

WEIGHTS = st.lists(st.integers(1, 10_000).map(lambda n: Fraction(n, 100)), min_size=5, max_size=5)


@given(rows=st.integers(5, 1_000_000), more=st.integers(0, 50), weights=WEIGHTS)
def test_rows_are_dealt_out_by_weight_and_no_share_shrinks_in_a_larger_file(
    rows: int, more: int, weights: list[Fraction]
) -> None:
    small, large = apportion(rows, weights), apportion(rows + more, weights)
    assert sum(small) == rows
    assert all(a <= b for a, b in zip(small, large, strict=True))
    quotas = [rows * weight / sum(weights) for weight in weights]
    assert all(abs(share - quota) <= 3 for share, quota in zip(small, quotas, strict=True))


@given(rows=st.integers(0, 1_000_000), weight=st.integers(1, 10_000), modules=st.integers(1, 7))
def test_equal_weights_are_no_weights(rows: int, weight: int, modules: int) -> None:
    each, rest = divmod(rows, modules)
    even = [each + (position < rest) for position in range(modules)]
    assert apportion(rows, [Fraction(weight, 100)] * modules) == even


@settings(deadline=None)
@given(size=st.integers(100, 20_000), weights=WEIGHTS)
def test_every_module_of_a_weighted_file_has_its_rows(size: int, weights: list[Fraction]) -> None:
    given_weights = dict(zip(MODULES, weights, strict=True))
    if 0 in apportion(size, weights):
        with pytest.raises(ValueError, match="would get none of"):
            module_sizes(size, given_weights)
        return
    sizes = module_sizes(size, given_weights)
    assert sum(sizes.values()) == size
    for module, rows in sizes.items():
        assert sum(share for _, share in shares(MODULES[module], rows)) == rows


def test_a_weighted_file_holds_unique_questions_and_its_held_out_file_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["generate", "--size", "4000", "--weights", "zodiac=2.5, reverse_english=0.1", "--output", "w.json"]
    monkeypatch.setattr(sys, "argv", words)
    assert generate_hlbd_hardcore.main() == 0, capsys.readouterr().err
    first = Path("w.json").read_bytes(), Path("w_Heldout.json").read_bytes()
    assert generate_hlbd_hardcore.main() == 0
    assert (Path("w.json").read_bytes(), Path("w_Heldout.json").read_bytes()) == first
    file, held_out = json.loads(first[0]), json.loads(first[1])["data"]
    sizes = {"geometry": 715, "arithmetic": 714, "zodiac": 1786, "physics": 714, "reverse_english": 71}
    assert {module: len(rows) for module, rows in file["data"].items()} == sizes
    assert file["metadata"]["samples_per_module"] == sizes
    assert file["metadata"]["weights"] == {**dict.fromkeys(MODULES, 1), "zodiac": 2.5, "reverse_english": 0.1}
    asked = [row["input"] for rows in file["data"].values() for row in rows]
    assert len(set(asked)) == len(asked) == 4000
    assert set(asked).isdisjoint(row["input"] for rows in held_out.values() for row in rows)


def test_what_a_weighted_file_is_asked_about_rests_on_its_own_rows() -> None:
    weights = read_weights("zodiac=3,reverse_english=0.2", MODULES)
    for module, asked in held_out_rows(3000, SEED, weights).items():
        rows = list(training_rows(module, module_sizes(3000, weights)[module], SEED))
        seen, known = {row.fact.identity for row in rows}, {row.input for row in rows}
        assert asked
        for held_out in asked:
            assert (held_out.row.fact.identity in seen) == (held_out.kind == "paraphrase")
            assert held_out.row.input not in known


@pytest.mark.parametrize("size", [5042, 64_000])
def test_modules_with_rows_enough_are_held_out_alike_whatever_the_weights(size: int) -> None:
    weights = read_weights("arithmetic=2", MODULES)
    weighted, plain = held_out_rows(size, SEED, weights), held_out_rows(max(size, 5042), SEED)
    enough = [m for m, rows in module_sizes(size, weights).items() if rows >= module_sizes(5042)[m]]
    assert enough == (["arithmetic"] if size == 5042 else list(MODULES))
    assert all(weighted[module] == plain[module] for module in enough)


# --- dilution: neither wording nor place says anything ----------------------------------------------------


def mutual_information(pairs: Sequence[tuple[str, str]]) -> float:
    """Return the plug-in estimate in nats."""
    joint, total = Counter(pairs), len(pairs)
    left, right = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    return sum(n / total * math.log(n * total / (left[a] * right[b])) for (a, b), n in joint.items())


def permutation_p_value(groups: Sequence[Sequence[tuple[str, str]]], rounds: int = 200) -> float:
    """Return how often answers shuffled within their group say as much about the phrasing as the real ones."""

    def measure(parts: Sequence[Sequence[tuple[str, str]]]) -> float:
        return sum(len(part) * mutual_information(part) for part in parts)

    chance, observed, reached = random.Random(0), measure(groups), 1
    for _ in range(rounds):
        shuffled = []
        for group in groups:
            answers = [answer for _, answer in group]
            chance.shuffle(answers)
            shuffled.append([(phrasing, answer) for (phrasing, _), answer in zip(group, answers, strict=True)])
        reached += measure(shuffled) >= observed
    return reached / (rounds + 1)


def phrasings_and_answers(module: str) -> list[list[tuple[str, str]]]:
    """By kind of question: asking for an area must of course tell that the answer is one."""
    groups = defaultdict(list)
    for row in generated(module, 5042):
        groups[row.fact.kind].append((row.phrasing, row.output))
    return list(groups.values())


@pytest.mark.parametrize("module", MODULES)
def test_phrasing_says_nothing_about_the_answer(module: str) -> None:
    assert permutation_p_value(phrasings_and_answers(module)) > 0.01


def test_the_measure_sees_a_phrasing_that_gives_the_answer_away() -> None:
    planted = [
        [(phrasing if int(answer) % 2 else "偶数问法", answer) for phrasing, answer in group]
        for group in phrasings_and_answers("arithmetic")
    ]
    assert permutation_p_value(planted) < 0.01


@pytest.mark.parametrize("module", MODULES)
def test_no_part_of_a_module_has_its_own_mixture(module: str) -> None:
    rows = generated(module, 5042)
    quarters = [str(4 * place // len(rows)) for place in range(len(rows))]
    kinds = [row.fact.kind for row in rows]
    lengths = [str(len(row.output)) for row in rows]
    assert permutation_p_value([list(zip(quarters, kinds, strict=True))]) > 0.01
    assert permutation_p_value([list(zip(quarters, lengths, strict=True))]) > 0.01


# --- bad input: one line, exit code 2, nothing written ----------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--version", "3"], "--version must be a whole number from 1 to 2, got '3'"),
        (["--version", "zwei"], "--version must be a whole number from 1 to 2, got 'zwei'"),
        (["--size", "0"], "--size must be a whole number from 5 to 1000000, got '0'"),
        (["--size", "1000001"], "--size must be a whole number from 5 to 1000000, got '1000001'"),
        (["--size", "1e3"], "--size must be a whole number from 5 to 1000000, got '1e3'"),
        (["--seed", "-1"], "--seed must be a whole number from 0"),
        (["--weights", "zodiak=2"], "--weights: there is no module 'zodiak'; did you mean zodiac?"),
        (["--weights", "zodiac=0"], "the weight of zodiac must be a number from 0.01 to 100, got '0'"),
        (["--weights", "zodiac=nan"], "must be a number from 0.01 to 100, got 'nan'"),
        (["--weights", "zodiac"], "'zodiac' is no MODULE=NUMBER, such as arithmetic=2"),
        (["--weights", "zodiac=2,zodiac=2"], "zodiac is weighted twice"),
        (["--weights", "zodiac=0.01", "--size", "100"], "zodiac would get none of 100 rows; give it more weight"),
        (["--weights", "zodiac=100", "--size", "1000000"], "give it less weight or lower --size"),
        (["--sise", "7"], "unrecognized arguments: --sise 7"),
        (["--output"], "expected one argument"),
        (["--output", "nowhere/file.json"], "there is no folder nowhere; create it first"),
        (["--output", "."], "is a directory"),
        (["--output", "n" * 300], "choose another name"),
        (["--output", "n" * 250], "choose another name"),
        (["--output", "a.json", "--held-out-output", "a.json"], "is the training file"),
        (["--output", "a.json", "--held-out-output", "nowhere/b.json"], "there is no folder nowhere"),
        (["--size", "50", "--output", "a.json", "--held-out-output", "b.json"], "--size of at least 575, got 50"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["generate_hlbd_hardcore.py", *arguments])
    assert generate_hlbd_hardcore.main() == 2
    streams = capsys.readouterr()
    assert said in streams.err
    assert streams.err.count("\n") == 1
    assert streams.out == ""
    assert list(tmp_path.iterdir()) == []


def test_an_output_path_through_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["generate", "--output", str(tmp_path / "file" / "data.json")])
    assert generate_hlbd_hardcore.main() == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("folder", ["/proc", "/dev/null"])
def test_a_folder_that_takes_no_file_is_one_line(
    folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["generate", "--output", f"{folder}/data.json"])
    assert generate_hlbd_hardcore.main() == 2
    streams = capsys.readouterr()
    assert folder in streams.err
    assert streams.err.count("\n") == 1
    assert streams.out == ""


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    def broken() -> Iterator[Mapping[str, str]]:
        yield {"input": "1 + 1 = ?", "output": "2"}
        raise KeyboardInterrupt

    path = tmp_path / "data.json"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        write_rows(path, {}, {"arithmetic": broken()})
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_small_file_replaces_an_existing_one_and_has_no_held_out_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(BEGINNING + b" of an earlier size")
    monkeypatch.setattr(sys, "argv", ["generate", "--size", "5", "--output", str(path)])
    assert generate_hlbd_hardcore.main() == 0
    data = json.loads(path.read_text(encoding="utf-8"))["data"]
    assert [len(rows) for rows in data.values()] == [1] * 5
    assert list(tmp_path.iterdir()) == [path]
