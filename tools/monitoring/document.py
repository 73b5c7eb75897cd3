"""Everything that the monitor knows, as plain data with a versioned schema (docs/MONITORING.md)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.monitoring.leaderboard import Board
from tools.runs.summary import RunSummary
from training.record.alerts import Alert

SCHEMA_VERSION = 1
FORMAT = "apt-monitor"
_BEFORE_METRICS = (
    "name", "run_id", "state", "silent_seconds", "reason", "backend", "device", "step", "total_steps", "progress",
    "epoch", "loss", "best_loss", "best_step",
)  # fmt: skip
_AFTER_METRICS = ("eta_seconds", "started_at", "updated_at", "ended_at", "age_seconds")


def to_json(
    roots: Sequence[Path],
    now: float,
    runs: Sequence[RunSummary],
    alerts: Sequence[tuple[RunSummary, Alert]],
    boards: Sequence[Board],
    unreadable: Sequence[str],
) -> str:
    """Return one document. Times are Unix seconds; a figure that is not known is null."""
    document = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "time": round(now, 3),
        "directories": [str(root.absolute()) for root in roots],
        "unreadable": list(unreadable),
        "runs": [_run(run) for run in runs],
        "alerts": [{"run": str(run.path.absolute()), "kind": a.kind, "message": a.message} for run, a in alerts],
        "leaderboards": [_board(board) for board in boards],
    }
    return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False, default=str)


def _run(run: RunSummary) -> dict[str, Any]:
    before, after = ({key: getattr(run, key) for key in keys} for keys in (_BEFORE_METRICS, _AFTER_METRICS))
    before = {"path": str(run.path.absolute()), **before}
    speed = {f"{run.unit or 'tokens'}_per_second": run.speed}
    # The document's own keys win over a metric of the same name.
    return {**before, **run.figures, **speed, **after, **before}


def _board(board: Board) -> dict[str, Any]:
    entries = [
        {"place": e.place, "run": str(e.run.path.absolute()), "loss": e.loss, "differs": e.differs}
        for e in board.entries
    ]
    return {"measure": board.measure, "basis": board.basis, "caveat": board.caveat, "entries": entries}
