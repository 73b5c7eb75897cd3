"""The conditions of `--where`: they mean what they say, whatever the values are, and what is none is one line."""

from __future__ import annotations

import math
import operator
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.errors import UserError, printable
from training.experiments.store.conditions import parse_condition
from training.experiments.store.database import Database
from training.experiments.store.identity import id_of_relative
from training.experiments.store.index import put_run
from training.experiments.store.names import Names
from training.experiments.store.rows import IndexedRun, Pace, RunRow


def run_of(name: str, settings: Mapping[str, Any], figures: Mapping[str, float], tags: tuple[str, ...]) -> IndexedRun:
    """Return a run as the index keeps it."""
    row = RunRow(
        id=id_of_relative(name), name=name, run_id=name, state="finished", reason="", backend="playground", task="text",
        model="apt", device="cpu", step=int(figures.get("step", 0)), total_steps=None, progress=None, epoch=None,
        loss=None, val_loss=None, best_loss=None, best_step=None, metrics={}, unit=None, speed=None, eta_seconds=None,
        started_at=1_760_000_000.0, updated_at=None, ended_at=None, training_seconds=0.0, tags=tags, note="",
        archived=False, alerts=(), sparkline=(), num_checkpoints=0,
    )  # fmt: skip
    return IndexedRun(name, row, Pace(None, None, 60.0), settings, figures, 0)


NAN = math.nan
RUNS: dict[str, tuple[dict[str, Any], dict[str, float], tuple[str, ...]]] = {
    "a": ({"run.seed": 1, "schedule.lr": 1e-3, "data.truncate": True, "text.size": 7}, {"loss": 1.5, "step": 10}, ()),
    "b": (
        {"run.seed": 2, "schedule.lr": NAN, "data.truncate": False, "model.size": "big"},
        {"loss": math.nan},
        (),
    ),
    "c": ({"run.seed": None, "schedule.lr": "auto", "data.files": ["x", "y"]}, {"loss": -0.5, "step": 3}, ("best",)),
    "d": ({"run.seed": True, "schedule.lr": 2, "run.name": "it's"}, {"step": 10, "lr": 5.0}, ("best", "中文")),
    "e": ({}, {}, ()),
}


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """Return a connection to an index of `RUNS`."""
    database = Database(tmp_path_factory.mktemp("runs"))
    with database.writing() as writing:
        for name, (settings, figures, tags) in RUNS.items():
            put_run(writing, run_of(name, settings, figures, tags), None)
    with database.reading() as reading:
        yield reading
    database.close()


def matching(condition: str, connection: sqlite3.Connection) -> str:
    """Return the names of the runs that fulfil a condition: `ad`."""
    found = parse_condition(condition, Names(connection))
    rows = connection.execute(f"SELECT name FROM runs WHERE {found.sql} ORDER BY name", found.parameters)
    return "".join(name for (name,) in rows)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("seed = 1", "ad"),  # true is a 1, unless it is asked for
        ("seed = true", "d"),
        ("run.seed = 1 and setting.seed = 1", "ad"),
        ("seed != 1", "b"),  # the others have none that is a number
        ("not seed = 1", "bce"),
        ("seed is null", "ce"),
        ("seed is not null", "abd"),
        ("lr < 1", "a"),  # not 'auto', which SQLite puts behind all numbers, and not NaN
        ("lr >= 1", "d"),
        ("lr = 'auto'", "c"),
        ("lr is nan", "b"),
        ("not (lr is nan)", "acde"),
        ("figure.lr = 5", "d"),
        ("setting.lr = 5", ""),
        ("0 < lr <= 1e-3 < step", "a"),
        ("loss < 2", "ac"),
        ("2 > loss", "ac"),
        ("loss is nan", "b"),
        ("loss is null", "de"),
        ("loss<2 and step=10 or name='e'", "ae"),
        ("loss<2 and (step=10 or name='e')", "a"),
        ("truncate", "a"),
        ("not truncate", "bcde"),
        ("truncate = false", "b"),
        ("tag = 'best'", "cd"),
        ("tag != 'best'", "abe"),
        ("tag in ('中文', 'x')", "d"),
        ("tag not in ('中文')", "abce"),
        ("tag is null", "abe"),
        ("tag ~ 'BES'", "cd"),
        ("name in ('a', \"b\")", "ab"),
        ("name ~ 'A'", "a"),
        ("run.name = 'it''s'", "d"),
        ("files ~ 'x'", "c"),
        ("lr > loss", ""),
        ("step > loss", "ac"),
        ("seed < step", "ad"),
        ("started_at > '2020-01-01' and started_at < '2030-01-01 10:00'", "abcde"),
        ("state = 'finished' AND NOT archived", "abcde"),
        ("step in (3, 4, 5)", "c"),
    ],
)
def test_a_condition_means_what_it_says(condition: str, expected: str, connection: sqlite3.Connection) -> None:
    assert matching(condition, connection) == expected


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("", "expected a name, a number or a text in quotes at character 1, got the end"),
        ("seed <", "expected a name, a number or a text in quotes at character 7, got the end"),
        ("seed = 1 loss = 2", "expected and, or, or the end at character 10, got 'loss'"),
        ("(seed = 1", "expected ')' at character 10, got the end"),
        ("sed = 1", "unknown name 'sed' at character 1; did you mean 'seed'?"),
        ("name = finished", "unknown name 'finished' at character 8; a text stands in quotes: 'finished'"),
        ("size = 1", "name 'size' at character 1 may be any of model.size, text.size; write the one that you mean"),
        ("loss < 'a'", "loss is a number, and 'a' at character 8 is a text"),
        ("name < 3", "name is a text, and 3 at character 8 is a number"),
        ("archived = 1", "archived is a boolean, and 1 at character 12 is a number"),
        ("started_at > 'soon'", "'soon' at character 14 is no time such as '2026-11-30 14:05'"),
        ("tag < 'a'", "tag is compared by = or != with a text, got 'a'"),
        ("tag = name", "tag is compared with texts only: tag = 'baseline'"),
        ("1 < 2", "1 < 2 compares no name of a run"),
        ("name ~ 3", "~ looks for a text in quotes, got 3 at character 8"),
        ("loss", "expected a comparison at character 5, got the end"),
        ("1 in (1)", "expected a name at character 1, got 1"),
        ("seed not 1", "expected 'in' at character 10, got '1'"),
        ("seed is 1", "expected null or nan at character 9, got '1'"),
        ("seed in 1", "expected '(' at character 9, got '1'"),
        ("seed = 1; drop table runs", "';' is no number, name, text or sign at character 9"),
        ("seed = 'a", "a text without its closing quote at character 8"),
        ("seed = 1e", "'1e' is no number, name, text or sign at character 8"),
        ("(" * 60 + "seed=1", "more than 50 levels deep at character 51"),
        (" or ".join(["seed=1"] * 300), "more than 200 comparisons"),
    ],
)
def test_what_is_no_condition_is_one_line(condition: str, said: str, connection: sqlite3.Connection) -> None:
    with pytest.raises(UserError) as caught:
        parse_condition(condition, Names(connection))
    assert str(caught.value).startswith('--where "')
    assert str(caught.value).endswith(f'": {said}')


def test_a_long_condition_is_one_line(connection: sqlite3.Connection) -> None:
    with pytest.raises(UserError, match=r"^--where: a condition has up to 4,000 characters, got 5,000$"):
        parse_condition("x" * 5000, Names(connection))


PIECES = [
    *(
        "seed",
        "loss",
        "name",
        "tag",
        "lr",
        "run.seed",
        "figure.",
        "nan",
        "null",
        "true",
        "in",
        "is",
        "not",
        "and",
        "or",
    ),
    *("(", ")", ",", "<", "<=", "=", "~", "1", "-2e3", "'a'", '"b"', "''", "-"),
]


@given(text=st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join))
def test_any_text_is_a_condition_or_one_line(text: str, connection: sqlite3.Connection) -> None:
    try:
        matching(text, connection)
    except UserError as error:
        line = str(error)
    else:
        line = ""
    assert printable(line) == line


# -- against Python ------------------------------------------------------------------------------------------------

_OPERATORS = {
    "<": operator.lt, "<=": operator.le, "=": operator.eq, "!=": operator.ne, ">=": operator.ge, ">": operator.gt,
}  # fmt: skip


@dataclass(frozen=True)
class Written:
    """A condition as text, with the runs that fulfil it."""

    text: str
    runs: frozenset[str]


def value_of(name: str, run: str) -> Any:
    """Return a figure or a setting of a run; None: it has none."""
    settings, figures, _ = RUNS[run]
    return figures.get(name) if name == "loss" or name == "step" else settings.get(name)


@st.composite
def comparisons(draw: st.DrawFn) -> Written:
    name = draw(st.sampled_from(["run.seed", "schedule.lr", "loss", "step", "model.size"]))
    sign = draw(st.sampled_from(sorted(_OPERATORS)))
    numbers = st.sampled_from([1.0, 0.001, 2.0, 10.0, -0.5])
    literal = draw(numbers if name in ("loss", "step") else numbers | st.sampled_from(["auto", "big", ""]))

    def fulfils(run: str) -> bool:
        value = value_of(name, run)
        if isinstance(literal, str):
            return isinstance(value, str) and bool(_OPERATORS[sign](value, literal))
        is_number = isinstance(value, int | float) and not math.isnan(value)
        return is_number and bool(_OPERATORS[sign](value, literal))

    shown = f"'{literal}'" if isinstance(literal, str) else repr(literal)
    return Written(f"{name} {sign} {shown}", frozenset(filter(fulfils, RUNS)))


def joined(pair: tuple[Written, Written]) -> st.SearchStrategy[Written]:
    a, b = pair
    return st.sampled_from(
        [
            Written(f"({a.text} and {b.text})", a.runs & b.runs),
            Written(f"({a.text} OR {b.text})", a.runs | b.runs),
            Written(f"not ({a.text})", frozenset(RUNS) - a.runs),
        ]
    )


@given(written=st.recursive(comparisons(), lambda inner: st.tuples(inner, inner).flatmap(joined), max_leaves=8))
def test_conditions_mean_what_python_makes_of_them(written: Written, connection: sqlite3.Connection) -> None:
    assert set(matching(written.text, connection)) == written.runs
