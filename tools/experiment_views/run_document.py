"""Runs as plain data with a versioned schema (docs/EXPERIMENTS.md)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.experiments.store.index import Group
from training.experiments.store.rows import RunRow

FORMAT = "apt-experiments"
SCHEMA_VERSION = 1

Values = Mapping[str, Mapping[str, Any]]
"""Values of the columns that were asked for, by name and by run."""


def list_document(
    root: Path,
    rows: Sequence[RunRow],
    total: int,
    values: Values,
    group_by: str | None = None,
    groups: Sequence[Group] | None = None,
) -> str:
    """Return one document. Times are Unix seconds; a figure that is not known or not finite is null.

    Args:
        root: directory of the runs.
        rows: the runs.
        total: number of runs that fulfil the conditions.
        values: see `Values`.
        group_by: name of what they are grouped by.
        groups: the same runs in groups; None: they are not grouped.
    """
    document = {"root": str(root.absolute()), "total": total, "runs": [_run(row, values) for row in rows]}
    if groups is not None:
        document["group_by"] = group_by
        document["groups"] = [{"value": _plain(g.value), "runs": [row.id for row in g.runs]} for g in groups]
    return to_json(document)


def run_document(root: Path, row: RunRow, parts: Mapping[str, Any]) -> str:
    """Return one run as a document.

    Args:
        root: directory of the runs.
        row: the run.
        parts: more about it: settings, figures, artefacts.
    """
    return to_json({"root": str(root.absolute()), "run": {**_run(row, {}), **parts}})


def to_json(document: Mapping[str, Any]) -> str:
    """Return a document with the head that all of them have."""
    head = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "time": round(time.time(), 3)}
    return json.dumps({**head, **_plain(document)}, ensure_ascii=False, indent=1, allow_nan=False)


def _run(row: RunRow, values: Values) -> dict[str, Any]:
    document = row.to_dict()
    del document["metric_forms"]
    return {**document, "values": {name: of_runs.get(row.id) for name, of_runs in values.items()}}


def _plain(value: Any) -> Any:
    """Return data that JSON can hold: what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
