"""The route that compares runs: settings in which they differ, figures, curves, and paired statistics."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from training.experiments.store.side_by_side import MOST_RUNS, side_by_side

from tools.server.history import DEFAULT_POINTS, MOST_POINTS, HistoryCache
from tools.server.problems import Problem
from tools.server.run_paths import found_run
from tools.server.run_routes import history_of, json_response
from tools.server.state import ServerState
from training.experiments.store.identity import ID_LENGTH

LONGEST_IDS = (ID_LENGTH + 1) * 4 * MOST_RUNS
"""Characters of the list of runs."""
CURVES = ("loss",)
"""Figures whose curves are compared, unless others are asked for."""


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
        keys: Annotated[str, Query(max_length=4000)] = ",".join(CURVES),
        points: Annotated[int, Query(ge=2, le=MOST_POINTS)] = DEFAULT_POINTS,
    ) -> Response:
        """Answer {runs, settings, figures, curves, statistics, no_statistics} of 2 to 20 runs.

        `settings` has those that differ, `curves` a history for each run; `statistics` compares variants with the first
        run's where both were trained with three seeds or more, else `no_statistics` says why not.
        """
        found = [found_run(state, run_id.strip()) for run_id in dict.fromkeys(ids.split(",")) if run_id.strip()]
        if not 2 <= len(found) <= MOST_RUNS:
            raise Problem(422, "", f"from 2 to {MOST_RUNS} runs are compared, got {len(found)}", key="ids")
        waiting = [run for run in found if state.index.row(run.id) is not None and not run.path.is_dir()]
        if waiting:
            raise Problem(409, "No record yet", f"the run {waiting[0].name!r} has not begun; leave it out", key="ids")
        document: dict[str, Any] = side_by_side(state.store, [run.id for run in found]).to_dict()
        wanted = [key.strip() for key in keys.split(",") if key.strip()]
        document["curves"] = {run.id: history_of(state, histories, run.id, points, wanted) for run in found}
        return json_response(document)

    return router
