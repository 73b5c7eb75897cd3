"""Route of a run's report: one HTML document that a browser shows or saves."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response

from tools.server.gate.problems import Problem
from tools.server.gate.run_paths import found_run
from tools.server.gate.state import ServerState
from tools.server.report.page import POLICY, report_html
from training.language.messages import Message
from training.record.log import LOG_NAME, REPORT_NAME


def make_router(state: ServerState) -> APIRouter:
    """Return the route.

    Args:
        state: what all routes share.
    """
    router = APIRouter(tags=["runs"])

    @router.get("/api/training/jobs/{run_id}/report.html", summary="Write a run's report", response_class=Response)
    def report(run_id: str, lang: Literal["en", "zh", "both"] = "en") -> Response:
        """Answer one HTML document, without scripts and without anything from elsewhere."""
        run = found_run(state, run_id)
        if not any((run.path / name).exists() for name in (LOG_NAME, REPORT_NAME)):
            raise Problem(
                409, "No record yet", Message("the run '{name}' has not begun; wait until it has", name=run.name)
            )
        document = report_html(run.path, lang, run.name)
        # The page's own policy would take the document's style away.
        return Response(document, media_type="text/html", headers={"Content-Security-Policy": POLICY})

    return router
