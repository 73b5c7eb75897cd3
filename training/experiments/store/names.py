"""Names by which runs are filtered, sorted and grouped: columns, settings and figures. No torch.

A name is looked for among the columns first, then among the settings by dotted name (`run.seed`) and by its last part
(`seed`), then among the figures. `setting.NAME` and `figure.NAME` say which is meant.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from training.errors import UserError, did_you_mean
from training.record.run_state import State

Kind = Literal["number", "text", "boolean", "time", "set", "any"]

_STATE = "COALESCE((SELECT live.state FROM temp.live WHERE live.run = runs.id), runs.recorded)"
_AT_WORK = f"{_STATE} IN ('{State.RUNNING.value}', '{State.STARTING.value}')"


def _figure(name: str) -> str:
    return f"(SELECT value FROM figures WHERE run = runs.id AND name = '{name}')"


_FIGURE_COLUMNS = (
    *("step", "total_steps", "epoch", "loss", "val_loss", "best_loss", "best_step"),
    *("training_seconds", "num_checkpoints"),
)
_COLUMNS: Mapping[str, tuple[Kind, str]] = {
    **{name: ("text", f"runs.{name}") for name in ("id", "name", "run_id", "reason", "note")},
    **{name: ("text", f"runs.{name}") for name in ("backend", "task", "model", "device")},
    "state": ("text", _STATE),
    "archived": ("boolean", "runs.archived"),
    **{name: ("time", f"runs.{name}") for name in ("started_at", "updated_at", "ended_at")},
    **{name: ("number", _figure(name)) for name in _FIGURE_COLUMNS},
    "progress": ("number", f"MIN(1.0, {_figure('step')} / NULLIF({_figure('total_steps')}, 0))"),
    "speed": ("number", f"CASE WHEN {_AT_WORK} THEN runs.units_per_second END"),
    "eta_seconds": (
        "number",
        f"CASE WHEN {_AT_WORK} THEN MAX(0, {_figure('total_steps')} - {_figure('step')}) * runs.seconds_per_step END",
    ),
    "tag": ("set", ""),
    "tags": ("set", ""),
}
"""Column -> its kind, and the SQL expression for it. All of it is fixed text of this file."""


@dataclass(frozen=True)
class Name:
    """A name that was found, as SQL with parameters."""

    text: str
    kind: Kind
    sql: str
    parameters: tuple[str, ...] = ()
    is_nan: str = "0"
    """SQL condition with the same parameters: there is a value, and it is not a number."""
    is_null: str = ""
    """SQL condition with the same parameters: there is no value."""
    exact: str = ""
    """SQL expression with the same parameters: the value as JSON, for a setting."""
    is_boolean: str = ""
    """SQL condition with the same parameters: the value of a setting is true or false."""


class Names:
    """The names that the runs of an index have.

    Args:
        connection: to the index, in a transaction.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    # Asked for when they are needed: of thousands of runs that takes milliseconds, and most queries name columns only.
    @cached_property
    def _settings(self) -> list[str]:
        return [key for (key,) in self._connection.execute("SELECT DISTINCT key FROM settings ORDER BY key")]

    @cached_property
    def _figures(self) -> list[str]:
        return [name for (name,) in self._connection.execute("SELECT DISTINCT name FROM figures ORDER BY name")]

    @cached_property
    def _by_last_part(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for key in self._settings:
            found.setdefault(key.rpartition(".")[2], []).append(key)
        return found

    def find(self, text: str, where: str) -> Name:
        """Return what a name stands for.

        Args:
            text: the name.
            where: ends the first half of an error line: `at character 5`.

        Raises:
            UserError: nothing bears this name, or several settings do.
        """
        if text in _COLUMNS:
            kind, sql = _COLUMNS[text]
            if text in _FIGURE_COLUMNS:
                return self._figure(text)
            return Name(text, kind, sql, is_null=f"({sql}) IS NULL")
        for prefix, find in (("setting.", self._find_setting), ("figure.", self._find_figure)):
            if text.startswith(prefix) and (found := find(text.removeprefix(prefix), where)) is not None:
                return found
        if (found := self._find_setting(text, where) or self._find_figure(text, where)) is not None:
            return found
        known = [*_COLUMNS, *self._by_last_part, *self._settings, *self._figures]
        raise UserError(f"unknown name {text!r} {where}{did_you_mean(text, known) or self._hint(text)}")

    def _hint(self, text: str) -> str:
        return f"; a text stands in quotes: '{text}'"

    def _find_setting(self, text: str, where: str) -> Name | None:
        keys = [text] if text in self._settings else self._by_last_part.get(text, [])
        if len(keys) > 1:
            raise UserError(f"name {text!r} {where} may be any of {', '.join(keys)}; write the one that you mean")
        return self._setting(text, keys[0]) if keys else None

    def _find_figure(self, text: str, where: str) -> Name | None:
        return self._figure(text) if text in self._figures else None

    def _setting(self, text: str, key: str) -> Name:
        def part(column: str) -> str:
            return f"(SELECT {column} FROM settings WHERE run = runs.id AND key = ?)"

        return Name(
            text,
            "any",
            part("value"),
            (key,),
            is_nan=f"{part('kind')} = 'nan'",
            is_null=f"IFNULL({part('kind')}, 'null') = 'null'",
            exact=part("json"),
            is_boolean=f"{part('kind')} = 'boolean'",
        )

    def _figure(self, text: str) -> Name:
        def part(column: str) -> str:
            return f"(SELECT {column} FROM figures WHERE run = runs.id AND name = ?)"

        return Name(
            text,
            "number",
            part("value"),
            (text,),
            is_nan=f"{part('is_nan')} = 1",
            is_null=f"{part('is_nan')} IS NULL",
        )
