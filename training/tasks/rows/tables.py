"""Rows of tables: CSV, TSV and Parquet. No torch; pyarrow is imported when a Parquet file is read."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from training.errors import ConfigError, DataError, without_middle
from training.tasks.rows.data_file import LONGEST_LINE, DataFile
from training.tasks.rows.source import Row

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_BYTES, BATCH_ROWS = 4 * 2**20, 1024
"""Size of what is read of a Parquet file at a time, as far as its rows are alike: bytes, and rows at most."""
_SHOWN = 200
"""Characters of a header, or of a library's words, that an error shows."""


def read_csv(file: DataFile, before: int = 0) -> Generator[Row, None, int]:
    """Yield the rows of a CSV file, whose first line names the columns; every value is a text, empty lines are none.

    Raises:
        DataError: the file cannot be read, is not UTF-8, has no row, two columns of one name, a row of more or fewer
            cells than columns, or quotes that do not match.
    """
    return _read_table(file, before, ",")


def read_tsv(file: DataFile, before: int = 0) -> Generator[Row, None, int]:
    """Yield the rows of a table with tabs, otherwise as `read_csv`."""
    return _read_table(file, before, "\t")


def _read_table(file: DataFile, before: int, delimiter: str) -> Generator[Row, None, int]:
    # The limit is the module's own and guards against a quote that never closes; it is never made smaller for others.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
    table = csv.reader(_text_lines(file), delimiter=delimiter, strict=True)
    columns: list[str] = []
    number = 0
    last = 0
    while True:
        last = table.line_num
        try:
            cells = next(table, None)
        except csv.Error as error:
            raise DataError(
                f"{file.path}, line {last + 1:,}: no row of a table ({error}); put cells with quotes or line ends into "
                'quotes, and double the quotes in them: "say ""hi"" twice"'
            ) from error
        if cells is None:
            break
        if not cells:
            continue
        if not columns:
            columns = _columns(file, cells, delimiter)
            continue
        number += 1
        if len(cells) != len(columns):
            raise DataError(
                f"{file.place(number)} (line {last + 1:,}): {_counted(len(cells), 'cell')}, and the header has "
                f"{_counted(len(columns), 'column')} ({_shown(columns)}); give each column a cell, and put a cell with "
                f"{'tabs' if delimiter != ',' else 'commas'} into quotes"
            )
        yield Row(dict(zip(columns, cells, strict=True)), before + number)
    if not number:
        raise file.empty()
    return number


def _text_lines(file: DataFile) -> Iterator[str]:
    for number, line in enumerate(file.lines(), start=1):
        if "\0" in line:
            raise file.not_text(number, f"character {line.index(chr(0)) + 1:,} is a zero byte, which no text has")
        yield line


def _columns(file: DataFile, header: list[str], delimiter: str) -> list[str]:
    """Return the names of the columns, which the header holds."""
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise DataError(f"{file.path}: two columns of the header are called {twice[0]!r}; give each its own name")
    others = [other for other in ",;\t|" if other != delimiter and other in header[0]]
    if len(header) == 1 and others:
        wanted = "tabs" if delimiter == "\t" else "commas"
        raise DataError(
            f"{file.path}: the header {_shown(header)} is one column, for {wanted} separate the columns of this format "
            f"and not {others[0]!r}; save the table with {wanted}"
        )
    return header


def read_parquet(file: DataFile, before: int = 0) -> Generator[Row, None, int]:
    """Yield the rows of a Parquet file, some thousands at a time at most.

    Raises:
        DataError: the file cannot be read, is no Parquet, damaged or without rows, or a value is no text of UTF-8 or
            nothing that Python has.
        ConfigError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError("pyarrow is not installed, which reads Parquet; run: pip install pyarrow") from error
    number = 0
    with file.opened():
        pass
    try:
        with parquet.ParquetFile(file.path, buffer_size=1 << 20, pre_buffer=False) as table:
            names = table.schema_arrow.names
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise DataError(f"{file.path}: two columns are called {twice[0]!r}; give each its own name")
            groups = [table.metadata.row_group(at) for at in range(table.metadata.num_row_groups)]
            rows, size = sum(group.num_rows for group in groups), sum(group.total_byte_size for group in groups)
            most = max(1, min(BATCH_ROWS, BATCH_BYTES * rows // max(1, size)))
            for batch in table.iter_batches(batch_size=most, use_threads=False):
                columns = [_values(file, number, name, batch.column(at)) for at, name in enumerate(names)]
                for values in zip(*columns, strict=True):
                    number += 1
                    yield Row(dict(zip(names, values, strict=True)), before + number)
    except (pa.ArrowException, OSError) as error:
        if number == 0 and (found := file.other_format()) is not None and found.name != file.kind:
            raise file.wrong_format(found) from error
        raise DataError(
            f"{file.path}: it cannot be read as Parquet after row {number:,} ({one_line(error)}); it is damaged or cut "
            "short: fetch it again"
        ) from error
    if not number:
        raise file.empty()
    return number


def _values(file: DataFile, before: int, name: str, column: pa.Array) -> Sequence[Any]:
    """Return the values of a column of a batch, whose first row follows row `before` of the file."""
    decode = _json_inside(column.type)
    try:
        found = column.to_pylist()
        return found if decode is None else list(map(decode, found))
    except (ValueError, OverflowError):  # bytes that are no text, a date before the year 1: it is found one by one
        for at in range(len(column)):
            try:
                value = column[at].as_py()
                _ = value if decode is None else decode(value)
            except (ValueError, OverflowError) as error:
                raise DataError(
                    f"{file.place(before + at + 1)}: {name!r} holds what cannot be read ({one_line(error)}); write the "
                    "column again, as texts"
                ) from error
        raise


def _json_inside(kind: pa.DataType) -> Callable[[Any], Any] | None:
    """Return what decodes values of a type in which `datasets` keeps JSON as text; None: there is no JSON in it."""
    import pyarrow as pa

    if isinstance(kind, pa.JsonType):
        return lambda value: None if value is None else json.loads(value)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        if (inner := _json_inside(kind.value_type)) is None:
            return None
        return lambda value: None if value is None else [inner(one) for one in value]
    if pa.types.is_struct(kind):
        found = {field.name: decode for field in kind if (decode := _json_inside(field.type)) is not None}
        if not found:
            return None
        return lambda value: value and {key: found[key](v) if key in found else v for key, v in value.items()}
    return None


def one_line(error: Exception) -> str:
    """Return a library's words about a fault, shortened, in one line."""
    return without_middle(" ".join(str(error).split()), _SHOWN).rstrip(".") or type(error).__name__


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _shown(columns: list[str]) -> str:
    return without_middle(", ".join(map(repr, columns)), _SHOWN)
