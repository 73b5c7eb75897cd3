"""Runs as tables in files: each form read back by another program's reader says what the index says."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.recorded_runs import RecordedRun
from training.errors import ConfigError, UserError
from training.experiments.store.index import ExperimentStore
from training.experiments.store.tables import (
    FIELDS,
    FORMATS,
    Table,
    csv_of,
    export_runs,
    jsonl_of,
    latex_of,
    latex_text,
    parquet_of,
)

Record = Callable[..., RecordedRun]


@pytest.fixture
def two(store: ExperimentStore, record: Record) -> ExperimentStore:
    """Return a store of two runs that differ in a rate; the loss of the second one's end is not finite."""
    for name, rate in (("sweep/a", 1e-3), ("sweep/b_2", 1e-2)):
        run = record(
            name, settings={"optimizer": {"learning_rate": rate}, "run": {"notes": "=HYPERLINK(1), 50% & more"}}
        )
        run.train(30)
        if name != "sweep/a":
            run.step += 1
            run.reporter.step(step=run.step, epoch=4, loss=math.nan)
        run.finish()
    store.refresh()
    store.annotate(store.run("a").id, tags=["best"], note="-1 is fine")
    return store


def exported(store: ExperimentStore, path: Path, *columns: str) -> bytes:
    export_runs(store, None, path, columns=columns or None)
    return path.read_bytes()


def test_csv_is_read_back_by_pythons_own_reader(two: ExperimentStore, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(exported(two, tmp_path / "runs.csv").decode())))
    assert [row["name"] for row in rows] == ["sweep/a", "sweep/b_2"]
    assert [row["settings.optimizer.learning_rate"] for row in rows] == ["0.001", "0.01"]
    assert [row["loss"] for row in rows] == [repr(two.run("a").loss), "nan"]
    assert float(rows[0]["figures.learning_rate"]) == two.figures(two.run("a").id)["learning_rate"]
    assert [row["val_loss"] for row in rows] == ["", ""]
    assert [json.loads(row["tags"]) for row in rows] == [["best"], []]
    # What a spreadsheet would run is harmless, and negative numbers stay numbers.
    assert rows[0]["settings.run.notes"] == "'=HYPERLINK(1), 50% & more"
    assert rows[0]["note"] == "'-1 is fine"


def test_json_lines_keep_types_and_name_what_is_not_finite(two: ExperimentStore, tmp_path: Path) -> None:
    lines = exported(two, tmp_path / "runs.jsonl").decode().splitlines()
    first, second = (json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON")) for line in lines)
    assert first["settings"]["optimizer.learning_rate"] == 1e-3
    assert (first["tags"], first["archived"], first["step"]) == (["best"], False, 30)
    assert "nonfinite" not in first
    assert (second["loss"], second["nonfinite"]) == (None, ["loss"])


def test_parquet_has_columns_of_one_type(two: ExperimentStore, tmp_path: Path) -> None:
    from pyarrow import parquet

    exported(two, tmp_path / "runs.parquet")
    read = parquet.read_table(tmp_path / "runs.parquet")
    assert read.column("step").to_pylist() == [30, 31]
    assert str(read.schema.field("step").type) == "int64"
    assert math.isnan(read.column("loss").to_pylist()[1])
    assert read.column("archived").to_pylist() == [False, False]
    assert read.column("settings.optimizer.learning_rate").to_pylist() == [1e-3, 1e-2]
    assert read.column("tags").to_pylist() == ['["best"]', "[]"]


def test_latex_shows_what_differs_and_is_escaped(two: ExperimentStore, tmp_path: Path) -> None:
    lines = exported(two, tmp_path / "runs.tex").decode().splitlines()
    assert lines[1:5] == [r"\begin{tabular}{lrrr}", r"\toprule", r"name & learning\_rate & step & loss \\", r"\midrule"]
    assert lines[5].startswith(r"sweep/a & 0.001 & 30 & ")
    assert lines[6] == r"sweep/b\_2 & 0.01 & 31 & nan \\"
    assert lines[7:] == [r"\bottomrule", r"\end{tabular}"]
    chosen = exported(two, tmp_path / "chosen.tex", "name", "notes", "tags").decode()
    assert r"=HYPERLINK(1), 50\% \& more & best \\" in chosen


def test_columns_are_chosen_by_their_last_part(two: ExperimentStore, tmp_path: Path) -> None:
    rows = exported(two, tmp_path / "a.csv", "name", "learning_rate", "seed").decode().splitlines()
    assert rows == [
        "name,settings.optimizer.learning_rate,settings.run.seed", "sweep/a,0.001,42", "sweep/b_2,0.01,42",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        ("runs.xlsx", None, "give a name that ends in .csv"),
        ("runs", None, "give a name that ends in .csv"),
        ("runs.csv", ["learnin_rate"], "there is no such column"),
        ("runs.zip", ["name"], "columns are for tables"),
        ("folder/runs.csv", None, "cannot be written"),
        ("there.csv", None, "nothing is replaced"),
    ],
)
def test_what_cannot_be_written_is_refused(
    two: ExperimentStore, tmp_path: Path, name: str, columns: list[str] | None, message: str
) -> None:
    (tmp_path / "there.csv").write_text("mine")
    with pytest.raises(UserError, match=message) as caught:
        export_runs(two, None, tmp_path / name, columns=columns)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "there.csv"]
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_without_pyarrow_it_says_how_to_get_it(
    two: ExperimentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="pip install pyarrow"):
        export_runs(two, None, tmp_path / "runs.parquet")


VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers(), max_size=2)
)
TABLES = st.lists(st.fixed_dictionaries({"name": st.text(max_size=5), "a": VALUES, "settings.x.y": VALUES}), min_size=1)


@settings(max_examples=40)
@given(TABLES)
def test_any_table_can_be_written_in_any_form(table: Table) -> None:
    assert len(list(csv.reader(io.StringIO(csv_of(table).decode())))) == len(table) + 1
    lines = jsonl_of(table).decode().split("\n")
    assert len(lines) == len(table) + 1
    for line, row in zip(lines, table, strict=False):
        found = json.loads(line)
        value: Any = row["a"]
        if not isinstance(value, float) or math.isfinite(value):
            assert found["a"] == value
    assert latex_of(table).decode().count("\\\\\n") == len(table) + 1
    from pyarrow import parquet

    assert parquet.read_table(io.BytesIO(parquet_of(table))).num_rows == len(table)


def test_latex_prints_every_character_as_it_is() -> None:
    assert latex_text("a_b&c%d$e#f{g}h~i^j\\k<l") == (
        r"a\_b\&c\%d\$e\#f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k\textless{}l"
    )


def test_every_form_has_the_same_rows(two: ExperimentStore, tmp_path: Path) -> None:
    assert set(FORMATS) == {".csv", ".jsonl", ".parquet", ".tex"}
    header = exported(two, tmp_path / "x.csv").decode().splitlines()[0].split(",")
    assert header[: len(FIELDS)] == list(FIELDS)
