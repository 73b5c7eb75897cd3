"""The route that compares runs: settings in which they differ, figures, curves, and paired statistics."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from tools.server.gate.problems import Problem
from tools.server.gate.run_paths import FoundRun, found_run
from tools.server.gate.state import ServerState
from tools.server.reading.history import DEFAULT_POINTS, MOST_POINTS, HistoryCache
from tools.server.routes.runs import history_of, json_response, names_in
from training.experiments.side_by_side import MOST_RUNS, side_by_side
from training.experiments.store.identity import ID_LENGTH
from training.language.messages import Message

LONGEST_IDS = (ID_LENGTH + 1) * 4 * MOST_RUNS
"""Characters of the list of runs."""


def make_router(state: ServerState, histories: HistoryCache) -> APIRouter:
    """Return the route.

    Args:
        state: what all routes share.
        histories: curves of the runs that were asked for last.
    """
    router = APIRouter(tags=["comparison"])

    @router.get("/api/training/compare", summary="Compare runs", response_class=Response)
    def compare(
        ids: Annotated[str, Query(max_length=LONGEST_IDS)],
        keys: Annotated[str | None, Query(max_length=4000)] = None,
        points: Annotated[int, Query(ge=2, le=MOST_POINTS)] = DEFAULT_POINTS,
        bands: bool = False,
    ) -> Response:
        """Answer {runs, settings, figures, curves, statistics, no_statistics} of up to 20 runs.

        `settings` has those in which they differ, `curves` a history for each run (with the extremes of each point if
        `bands` is true); `statistics` compares variants with the first run's where both were trained with three seeds
        or more, else `no_statistics` says why not.
        """
        found = [found_run(state, run_id.strip()) for run_id in dict.fromkeys(ids.split(",")) if run_id.strip()]
        if not 1 <= len(found) <= MOST_RUNS:
            line = Message("from 1 to {most} runs are compared, got {count}", most=MOST_RUNS, count=len(found))
            raise Problem(422, "", line, key="ids")
        document = _compared(state, found)
        document["curves"] = {
            run.id: history_of(state, histories, run.id, points, names_in(keys), with_bands=bands) for run in found
        }
        return json_response(document)

    return router


def _compared(state: ServerState, runs: list[FoundRun]) -> dict[str, Any]:
    """Return the comparison without its curves. Runs that have not begun have nothing to compare."""
    rows = {row.id: row for row in state.index.rows_of([run.id for run in runs])}
    begun = [run.id for run in runs if run.id in state.index.recorded]
    document: dict[str, Any] = {"settings": {}, "figures": {}, "statistics": [], "no_statistics": ""}
    if len(begun) > 1:
        document |= side_by_side(state.store, begun, with_curves=False).to_dict()
    document["runs"] = [{"id": run.id, "name": run.name, "state": rows[run.id].state} for run in runs if run.id in rows]
    return document
