"""End a job before its time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.azure.job_state import JobState, look_at
from training.azure.refusals import service_refusals

if TYPE_CHECKING:
    from training.azure.workspace import Workspace


def cancel(workspace: Workspace, state: JobState) -> str:
    """Ask for the end of a job; a second time, or after its end, nothing happens. A line for the user.

    Raises:
        UserError: the service refuses.
    """
    from azure.core.exceptions import HttpResponseError

    if state.has_ended:
        return f"job {state.job} has ended already ({state.status})"
    if state.status == "CancelRequested":
        return f"job {state.job} is being cancelled already"
    with service_refusals(f"cancelling job {state.job}"):
        try:
            workspace.client.jobs.begin_cancel(state.job, polling=False)
        except HttpResponseError:
            now = look_at(workspace, state.job)
            if not now.has_ended:
                raise
            return f"job {state.job} has ended meanwhile ({now.status})"
    return f"job {state.job} is being cancelled; its checkpoints stay where they are"
