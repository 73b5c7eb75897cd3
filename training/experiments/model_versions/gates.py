"""Gates: conditions on a version's figures and settings, in the language of `--where`, that must hold for a promotion.

    verifier.new_fact >= 0.6 and val_loss < 2 and verifier.shortcuts_found = 0

In a list of runs a comparison with a value that is not known is false, and so `not val_loss > 2` holds for a run that
was never validated. No gate opens by that: each name must have a value, or the gate is an error. A value that was
measured and is not finite keeps the gate shut, whatever the condition says of it. No torch.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from training.errors import UserError
from training.experiments.model_versions.version import Version
from training.experiments.store.conditions import parse_condition
from training.experiments.store.database import in_memory
from training.experiments.store.index import put_run
from training.experiments.store.names import Name, Names
from training.experiments.store.rows import IndexedRun, Pace, RunRow

FLAG = "--gate"
NOT_OF_A_VERSION = frozenset({"archived", "eta_seconds", "id", "note", "progress", "reason", "speed", "tag", "tags"})
"""Columns of a list of runs that say nothing of a model."""


@dataclass(frozen=True)
class GateResult:
    """The answer of a gate."""

    gate: str
    """The condition as the user wrote it."""
    is_open: bool
    values: Mapping[str, Any]
    """Value of each name in the condition; None: measured, and not finite."""


def ask_gate(gate: str, version: Version, figures: Mapping[str, float | None]) -> GateResult:
    """Say whether a version fulfils a condition.

    Args:
        gate: the condition.
        version: its settings can be named, and what is known of its run.
        figures: the figures that can be named; None: not finite.

    Raises:
        UserError: it is no condition, or names something that is not known of this version.

    Example:
        >>> ask_gate("val_loss < 2", version, version.figures).is_open
        True
    """
    with closing(in_memory()) as connection:
        put_run(connection, _as_run(version, figures), None)
        names = _KnownNames(connection, str(version))
        condition = parse_condition(gate, names, FLAG)
        (holds,) = connection.execute(f"SELECT {condition.sql} FROM runs", condition.parameters).fetchone()
    is_finite = all(value is not None for value in names.values.values())
    return GateResult(gate, bool(holds) and is_finite, names.values)


class _KnownNames(Names):
    """The names of one version, each with a value. Those that were asked for are remembered.

    Args:
        connection: to an index that holds the version alone.
        version: how the version is called, for errors.
    """

    def __init__(self, connection: sqlite3.Connection, version: str) -> None:
        super().__init__(connection)
        self._one = connection
        self._version = version
        self.values: dict[str, Any] = {}

    def find(self, text: str, where: str) -> Name:
        """Return what a name stands for.

        Raises:
            UserError: nothing of the version bears it, or its value is not known.
        """
        name = super().find(text, where)
        if text in NOT_OF_A_VERSION:
            raise UserError(f"name {text!r} {where} is about runs in a list, and says nothing of a model")
        if self._value(name, name.is_null) or (text == "state" and not self._value(name, name.sql)):
            raise UserError(f"name {text!r} {where} has no value for {self._version}: nobody measured or set it")
        value = None if self._value(name, name.is_nan) else self._value(name, name.sql)
        is_truth = bool(name.is_boolean) and bool(self._value(name, name.is_boolean))
        self.values[text] = bool(value) if is_truth else value
        return name

    def _value(self, name: Name, sql: str) -> Any:
        """Return the value of an expression of a name."""
        parameters = name.parameters if "?" in sql else ()
        return self._one.execute(f"SELECT {sql} FROM runs", parameters).fetchone()[0]


def _as_run(version: Version, figures: Mapping[str, float | None]) -> IndexedRun:
    """Return a version as the index keeps a run."""
    run, settings = version.run, version.settings or {}
    backend, device = settings.get("backend"), settings.get("run.device")
    row = RunRow(
        id="version", name=version.name, run_id=run.run_id if run is not None else None,
        state=run.state if run is not None else "", reason="", backend=backend if isinstance(backend, str) else None,
        task=version.task, model=version.family, device=device if isinstance(device, str) else None, step=0,
        total_steps=None, progress=None, epoch=None, loss=None, val_loss=None, best_loss=None, best_step=None,
        metrics={}, unit=None, speed=None, eta_seconds=None, started_at=run.started_at if run is not None else None,
        updated_at=None, ended_at=run.ended_at if run is not None else None, training_seconds=0.0, tags=(),
        note="", archived=False, alerts=(), sparkline=(), num_checkpoints=0,
    )  # fmt: skip
    numbers = {name: math.nan if value is None else value for name, value in figures.items()}
    return IndexedRun(version.name, row, Pace(None, None, 0.0), settings, numbers, 0)
