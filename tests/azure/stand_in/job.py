"""A job as the service knows it: what was asked for, and how far it has come."""

from __future__ import annotations

import datetime
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.azure.stand_in.world import Workspace

ENDED = ("Completed", "Failed", "Canceled")
STUDIO = "https://ml.azure.com/runs/{name}?wsid={workspace}"


def now() -> str:
    """The time as the service writes it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


@dataclass
class Job:
    """One job, sweep or trial."""

    workspace: Workspace
    name: str
    asked: dict[str, Any]
    """`properties` of the document that was sent."""
    parent: Job | None = None
    number: int | None = None
    """Of a trial within its sweep."""
    values: dict[str, Any] = field(default_factory=dict)
    """What a trial tries, by name."""
    children: list[Job] = field(default_factory=list)
    statuses: list[str] = field(default_factory=lambda: ["NotStarted"])
    """All it has been in, in order; a preempted job is Queued twice."""
    error: str | None = None
    exit_code: int | None = None
    starts: int = 0
    """How often its command was started."""
    created: str = field(default_factory=now)
    started: str | None = None
    ended: str | None = None
    properties: dict[str, str] = field(default_factory=dict)
    """What the service adds, such as `best_child_run_id`."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    preempted: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    """It has ended, and nothing of it runs any more."""

    @property
    def status(self) -> str:
        """Where it is now."""
        return self.statuses[-1]

    @status.setter
    def status(self, status: str) -> None:
        if status == self.status or self.status in ENDED:
            return
        if self.status == "CancelRequested" and status not in ENDED:
            return
        self.statuses.append(status)
        if status == "Running":
            self.started = self.started or now()
        if status in ENDED:
            self.ended = now()

    @property
    def is_sweep(self) -> bool:
        """It has trials instead of a command."""
        return bool(self.asked["jobType"] == "Sweep")

    @property
    def experiment(self) -> str:
        """Under which it is listed."""
        return str(self.asked.get("experimentName") or "Default")

    @property
    def tags(self) -> dict[str, str]:
        """Its tags."""
        return dict(self.asked.get("tags") or {})

    @property
    def artifacts(self) -> str:
        """Where in the artifact store its logs are."""
        return f"ExperimentRun/dcid.{self.name}"

    def place_of(self, output: str) -> tuple[str, str]:
        """Datastore and path of a named output.

        Raises:
            KeyError: it has no such output.
        """
        uri = (self.asked["outputs"][output] or {}).get("uri") or (
            "azureml://datastores/workspaceblobstore/paths/azureml/${{name}}/${{output_name}}/"
        )
        uri = uri.replace("${{name}}", self.name).replace("${{output_name}}", output)
        uri = uri.replace("${{default_datastore}}", "workspaceblobstore")
        datastore, _, path = uri.partition("datastores/")[2].partition("/paths/")
        return datastore, path.strip("/")
