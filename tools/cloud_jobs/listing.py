"""The latest jobs of a workspace: a table for a terminal, rows for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from training.azure.service.errors import service_refusals
from training.azure.service.jobs import JobState, jobs_of
from training.machine.units import as_duration
from training.record.log import REPORT_NAME, parse_report

if TYPE_CHECKING:
    from training.azure.service.workspace import Workspace

STYLES = {
    "Running": "bold cyan",
    "Completed": "green",
    "Failed": "bold red",
    "Canceled": "magenta",
    "CancelRequested": "magenta",
}


@dataclass(frozen=True)
class Row:
    """A job in the list."""

    job: str
    kind: str
    status: str
    created: float | None
    """Time of its creation in Unix seconds."""
    experiment: str
    backend: str | None
    """Backend that trains inside the job; None: the job is not one of this project."""
    step: int | None
    total_steps: int | None
    loss: float | None
    studio: str | None


def rows_of(workspace: Workspace, at_most: int) -> list[Row]:
    """List the latest jobs, newest first. Steps and losses come from the jobs' records.

    Raises:
        UserError: the service refuses.
    """
    with service_refusals("listing jobs"):
        return [_row(workspace, state) for state in jobs_of(workspace, at_most)]


def table_of(rows: list[Row], now: float) -> Table:
    """Format the rows as a table; `now` in Unix seconds."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("job", no_wrap=True, overflow="ellipsis")
    for name in ("state", "age"):
        table.add_column(name, no_wrap=True)
    for name in ("experiment", "backend"):  # these are folded on a narrow terminal
        table.add_column(name, overflow="fold")
    for name in ("step", "loss"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            Text(row.job),
            Text(row.status, STYLES.get(row.status, "yellow")),
            Text("-" if row.created is None else as_duration(max(0.0, now - row.created))),
            Text(row.experiment),
            Text(f"{row.backend or '-'}{' (sweep)' if row.kind == 'sweep' else ''}"),
            Text("-" if row.step is None else f"{row.step}/{row.total_steps}"),
            Text("-" if row.loss is None else f"{row.loss:.4f}"),
        )
    return table


def to_json(rows: list[Row]) -> str:
    """Format the rows as one JSON document."""
    return json.dumps({"jobs": [asdict(row) for row in rows]}, ensure_ascii=False, indent=1)


def _row(workspace: Workspace, state: JobState) -> Row:
    report = {} if state.is_waiting or state.is_sweep else stored_report(workspace, state)
    return Row(
        job=state.job,
        kind=state.kind,
        status=state.status,
        created=state.created,
        experiment=state.experiment,
        backend=state.tags.get("inner_backend"),
        step=report.get("step"),
        total_steps=report.get("total_steps"),
        loss=(report.get("latest") or {}).get("loss"),
        studio=state.studio_url,
    )


def stored_report(workspace: Workspace, state: JobState) -> dict[str, Any]:
    """Read the report in a job's run directory; empty: there is none (yet), or this login cannot read it."""
    from azure.core.exceptions import AzureError

    from training.azure.service.errors import ServiceError

    if state.run is None:
        return {}
    datastore, path = state.run
    try:
        content = workspace.container(datastore).download_blob(f"{path}/{REPORT_NAME}").readall()
    except (AzureError, ServiceError):
        return {}
    return parse_report(content) or {}
