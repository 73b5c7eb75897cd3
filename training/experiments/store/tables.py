"""Runs as a table in a file: CSV, JSON Lines, Parquet, LaTeX. No torch; pyarrow is imported when Parquet is written.

A row is a run, its columns are what a list shows of it, `settings.…` and `figures.…`. A figure that was measured and
is not finite is `nan` in CSV and LaTeX, NaN in Parquet, and null in JSON, whose `nonfinite` names it. One that is not
known is empty in CSV, `--` in LaTeX and null elsewhere.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.errors import ConfigError, UserError, did_you_mean, printable
from training.experiments.store.archive import RunToExport, write_archive
from training.experiments.store.identity import relative_path
from training.experiments.store.index import ExperimentStore
from training.experiments.store.query import Query
from training.experiments.store.rows import RunRow
from training.storage.atomic import creating

ZIP = ".zip"
FIELDS = (
    "id", "name", "run_id", "state", "reason", "backend", "task", "model", "device", "step", "total_steps", "epoch",
    "loss", "val_loss", "best_loss", "best_step", "training_seconds", "started_at", "updated_at", "ended_at",
    "num_checkpoints", "tags", "note", "archived",
)  # fmt: skip
"""Columns of what a list shows of a run."""
SETTING, FIGURE = "settings.", "figures."
_DANGEROUS = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of a text that a spreadsheet would take for a formula."""
_LATEX_FIELDS = ("name", "step", "loss", "val_loss", "best_loss")

Table = list[dict[str, Any]]
"""One mapping a run; all have the same keys."""


def export_runs(
    store: ExperimentStore,
    run_ids: Sequence[str] | None,
    path: Path,
    *,
    columns: Sequence[str] | None = None,
    with_checkpoints: bool = True,
) -> Path:
    """Write runs to a file that is not there yet, in the form that its ending says.

    Args:
        store: up to date.
        run_ids: ids or names, in the order of the rows; None: all runs that are not archived.
        path: ends in one of `FORMATS`, or in `.zip` for whole runs.
        columns: of a table, in their order; a setting's or a figure's last part is enough. None: all, in LaTeX the
            settings in which the runs differ and the usual figures.
        with_checkpoints: as for `write_archive`.

    Returns:
        The path.

    Raises:
        UserError: another ending, no such run or column, the file is there, a run is at work (zip only), or the disk
            refuses.
    """
    ending = path.suffix.lower()
    if ending != ZIP and ending not in FORMATS:
        raise UserError(f"{path}: give a name that ends in {', '.join(FORMATS)} or {ZIP}")
    rows = runs_named(store, run_ids)
    if ending == ZIP:
        if columns is not None:
            raise UserError(f"{path}: an archive holds whole runs; columns are for tables")
        runs = [_to_export(store, row) for row in rows]
        write_archive(runs, path, with_checkpoints=with_checkpoints)
        return path
    table = table_of(store, rows)
    if ending == ".tex":
        table = selected(table, columns if columns is not None else _telling(table))
    elif columns is not None:
        table = selected(table, columns)
    write_table(table, path)
    return path


def runs_named(store: ExperimentStore, run_ids: Sequence[str] | None) -> list[RunRow]:
    """Return runs by id or name, each once; None: all that are not archived, by name.

    Raises:
        UserError: there is no such run, or none at all.
    """
    if run_ids is None:
        rows = store.runs(Query(sort=""))
    else:
        rows = list({row.id: row for row in map(store.run, run_ids)}.values())
    if not rows:
        raise UserError(f"{store.root}: there is no run to export")
    return rows


def _to_export(store: ExperimentStore, row: RunRow) -> RunToExport:
    directory = store.run_path(row.id)
    relative = relative_path(store.root, directory)
    return RunToExport(relative if relative != "." else store.root.resolve().name, directory)


def table_of(store: ExperimentStore, rows: Sequence[RunRow]) -> Table:
    """Return a table of runs with all that the index knows of them."""
    ids = [row.id for row in rows]
    settings, figures = store.settings_of(ids), store.figures_of(ids)
    setting_names = sorted({name for run in ids for name in settings.get(run, {})})
    figure_names = sorted({name for run in ids for name in figures.get(run, {}) if name not in FIELDS})
    table: Table = []
    for row in rows:
        line = {field: getattr(row, field) for field in FIELDS}
        line |= {SETTING + name: settings.get(row.id, {}).get(name) for name in setting_names}
        line |= {FIGURE + name: figures.get(row.id, {}).get(name) for name in figure_names}
        table.append(line)
    return table


def selected(table: Table, columns: Sequence[str]) -> Table:
    """Return a table with these columns alone.

    Args:
        table: the whole one.
        columns: names; the last part of a setting's or figure's is enough where only one column has it.

    Raises:
        UserError: no column has this name, or several have.
    """
    names = [_column_named(wanted, list(table[0])) for wanted in columns]
    return [{name: line[name] for name in names} for line in table]


def _column_named(wanted: str, columns: Sequence[str]) -> str:
    if wanted in columns:
        return wanted
    for prefix in (SETTING, FIGURE):  # as in a condition, a setting goes before a figure of the same name
        own = [name for name in columns if name.startswith(prefix)]
        if f"{prefix}{wanted}" in own:
            return f"{prefix}{wanted}"
        found = [name for name in own if name.rpartition(".")[2] == wanted]
        if len(found) > 1:
            raise UserError(f"--columns {wanted}: several columns end so; write one of {', '.join(found)}")
        if found:
            return found[0]
    near = did_you_mean(wanted, [*columns, *(name.rpartition(".")[2] for name in columns)])
    raise UserError(f"--columns {wanted}: there is no such column{near}")


def _telling(table: Table) -> list[str]:
    """Return the columns that distinguish the runs of a LaTeX table, and their figures."""
    differing = [
        name
        for name in table[0]
        if name.startswith(SETTING)
        and not name.startswith(f"{SETTING}run.run_dir")
        and len({repr(line[name]) for line in table}) > 1
    ]
    figures = [name for name in _LATEX_FIELDS[1:] if any(line[name] is not None for line in table)]
    return ["name", *differing, *figures]


def write_table(table: Table, path: Path) -> None:
    """Write a table in the form that the file's ending says.

    Raises:
        UserError: the file is there already, or the disk refuses.
        ConfigError: pyarrow is not installed, and Parquet is asked for.
    """
    content = FORMATS[path.suffix.lower()](table)
    try:
        with creating(path) as file:
            file.write(content)
    except FileExistsError as error:
        raise UserError(f"{path}: it is there already, and nothing is replaced; give another name") from error
    except OSError as error:
        raise UserError(f"{path}: it cannot be written ({error.strerror}); choose another place") from error


# -- the forms -----------------------------------------------------------------------------------------------------


def csv_of(table: Table) -> bytes:
    """Return a table as CSV in UTF-8: a line for each run, the first one names the columns.

    A text that a spreadsheet would take for a formula (it begins with =, +, -, @, a tab) gets an apostrophe in front.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow([_harmless(name) for name in table[0]])
    writer.writerows([_cell(value) for value in line.values()] for line in table)
    return buffer.getvalue().encode("utf-8", "backslashreplace")


def _cell(value: Any) -> str | float | int:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return value
    return _harmless(value if isinstance(value, str) else _json(value))


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_DANGEROUS) else text


def jsonl_of(table: Table) -> bytes:
    """Return a table as JSON Lines: an object for each run, its settings and figures in objects of their own."""
    return "".join(f"{_json(_nested(line))}\n" for line in table).encode("utf-8", "backslashreplace")


def _nested(line: Mapping[str, Any]) -> dict[str, Any]:
    bad = [name for name, value in line.items() if isinstance(value, float) and not math.isfinite(value)]
    document: dict[str, Any] = {}
    for name, value in line.items():
        place = document
        for prefix in (SETTING, FIGURE):
            if name.startswith(prefix):
                place, name = document.setdefault(prefix.removesuffix("."), {}), name.removeprefix(prefix)
        place[name] = None if isinstance(value, float) and not math.isfinite(value) else value
    return {**document, "nonfinite": bad} if bad else document


def parquet_of(table: Table) -> bytes:
    """Return a table as Parquet. A column is of whole numbers, numbers, truth values or texts; anything else is JSON.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError("pyarrow is not installed, which writes Parquet; run: pip install pyarrow") from error
    columns = {name: _column(pa, [line[name] for line in table]) for name in table[0]}
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def _column(pa: Any, values: Sequence[Any]) -> Any:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool}:
        return pa.array(values, pa.bool_() if kinds else pa.string())
    if kinds == {int} and all(abs(value) < 2**63 for value in values if value is not None):
        return pa.array(values, pa.int64())
    if kinds <= {int, float}:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    texts = (None if v is None else v if isinstance(v, str) else _json(v) for v in values)
    return pa.array([None if t is None else t.encode("utf-8", "backslashreplace").decode() for t in texts], pa.string())


def latex_of(table: Table) -> bytes:
    r"""Return a table as a `tabular` of LaTeX's package booktabs, for `\input`; names and texts are escaped."""
    columns = list(table[0])
    numeric = [
        all(
            line[name] is None or (isinstance(line[name], int | float) and not isinstance(line[name], bool))
            for line in table
        )
        for name in columns
    ]
    heads = [latex_text(_short(name, columns)) for name in columns]
    lines = [
        "% \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{{''.join('r' if is_number else 'l' for is_number in numeric)}}}",
        "\\toprule",
        f"{' & '.join(heads)} \\\\",
        "\\midrule",
        *(f"{' & '.join(_latex_cell(line[name]) for name in columns)} \\\\" for line in table),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")


def _short(name: str, columns: Iterable[str]) -> str:
    last = name.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in columns) == 1 else name


def _latex_cell(value: Any) -> str:
    if value is None:
        return "--"
    if isinstance(value, float):
        return _latex_number(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    return latex_text(value if isinstance(value, str) else ", ".join(map(str, value)) if value else "--")


def _latex_number(value: float) -> str:
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else f"${'-' if value < 0 else ''}\\infty$"
    text = f"{value:.4g}"
    mantissa, exponent, power = text.partition("e")
    if exponent:
        return f"${mantissa} \\cdot 10^{{{int(power)}}}$" if mantissa != "1" else f"$10^{{{int(power)}}}$"
    return f"${text}$" if text.startswith("-") else text


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": r"\textquotesingle{}", "`": r"\textasciigrave{}", "-": r"{-}",
    "[": r"{[}", "]": r"{]}",
}  # fmt: skip
"""Characters that LaTeX would take for its own, or that fonts join; a bracket behind `\\\\` would be its argument."""


def latex_text(text: str) -> str:
    r"""Return a text that LaTeX prints as it is.

    Example:
        >>> latex_text("50% of a_b")
        '50\\% of a\\_b'
    """
    return "".join(_LATEX.get(character, character) for character in printable(text))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


FORMATS: Mapping[str, Callable[[Table], bytes]] = {
    ".csv": csv_of, ".jsonl": jsonl_of, ".parquet": parquet_of, ".tex": latex_of,
}  # fmt: skip
"""Endings of tables."""
