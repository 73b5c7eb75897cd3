"""MLflow as Azure ML offers it: the calls of a workspace, carried to a real server under names that differ.

A job is a run whose id is the job's name. A real server makes up ids, so they are translated on the way; so are ids of
experiments and the places of artifacts. Experiments of a workspace are invisible in all others.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from tests.azure.stand_in.exchange import Reply, Request
from tests.azure.stand_in.mlflow_server import MlflowServer
from tests.azure.stand_in.routes import WORKSPACE, Routes

if TYPE_CHECKING:
    from tests.azure.stand_in.job import Job
    from tests.azure.stand_in.world import Workspace, World

ROUTES = Routes()
_NOT_OFFERED = ("logged-models", "traces", "gateway")
_LIMITS = {"metrics": ("MetricV2Dto.Value", 250), "params": ("Parameters", 200), "tags": ("Tags", 50)}
_ENDS = {"Completed": "FINISHED", "Failed": "FAILED", "Canceled": "KILLED"}


class Tracking:
    """The runs of all workspaces in one server."""

    def __init__(self, server: MlflowServer) -> None:
        self._server = server
        self._runs: dict[str, str] = {}
        """Id in the server by job name."""
        self._experiments: dict[str, str] = {}
        """Id in the server by id in Azure."""
        self._lock = threading.RLock()

    def forget(self) -> None:
        """Jobs of these names have been; new ones get new runs."""
        with self._lock:
            self._runs.clear()
            self._experiments.clear()

    # -- what the service itself does with runs --------------------------------------------------------------------

    def run_of(self, job: Job) -> str:
        """The run of a job, made when it is first asked for."""
        with self._lock:
            if job.name not in self._runs:
                name = str(job.asked.get("displayName") or job.name)
                tags = {"mlflow.runName": name, "mlflow.rootRunId": (job.parent or job).name, "mlflow.user": "tests"}
                if job.parent is not None:
                    tags["mlflow.parentRunId"] = job.parent.name
                body = {
                    "experiment_id": self._experiment(job.workspace, job.experiment),
                    "run_name": name,
                    "start_time": int(time.time() * 1000),
                    "tags": [{"key": key, "value": value} for key, value in tags.items()],
                }
                self._runs[job.name] = self._call("POST", "runs/create", body=body)["run"]["info"]["run_id"]
            return self._runs[job.name]

    def end(self, job: Job) -> None:
        """The run of a job that has ended, if anybody wrote into it, ends as the job did."""
        if job.name in self._runs:
            body = {"run_id": self._runs[job.name], "status": _ENDS[job.status], "end_time": int(time.time() * 1000)}
            self._call("POST", "runs/update", body=body)

    def history(self, job: Job, metric: str) -> list[float]:
        """What a job has logged under a name, in its order; empty: nothing."""
        if job.name not in self._runs:
            return []
        query = {"run_id": self._runs[job.name], "metric_key": metric}
        found = self._call("GET", "metrics/get-history", query).get("metrics", [])
        return [float(point["value"]) for point in sorted(found, key=lambda p: (int(p["step"]), int(p["timestamp"])))]

    def data(self, job: Job) -> dict[str, Any]:
        """A job's run as the server shows it: `info`, and `data` with `metrics` and `params`."""
        run: dict[str, Any] = self._call("GET", "runs/get", {"run_id": self.run_of(job)})["run"]
        return run

    def _experiment(self, workspace: Workspace, name: str) -> str:
        """Id in the server; made where there is none."""
        hidden = f"{workspace.guid}/{name}"
        status, found = self._server.ask("GET", "experiments/get-by-name", {"experiment_name": hidden})
        if status == 200:
            identity = str(found["experiment"]["experiment_id"])
        else:
            identity = str(self._call("POST", "experiments/create", body={"name": hidden})["experiment_id"])
        self._experiments[experiment_id(workspace, name)] = identity
        return identity

    def _call(self, method: str, call: str, query: dict[str, str] | None = None, body: Any = None) -> dict[str, Any]:
        status, answer = self._server.ask(method, call, query, body)
        if status != 200:
            raise RuntimeError(f"mlflow server: {method} {call}: {status} {answer}")
        return answer

    # -- what clients ask ------------------------------------------------------------------------------------------

    def carry(self, workspace: Workspace, request: Request, call: str) -> Reply:
        """One call of a client."""
        body = request.document if request.body else None
        refused = _over_the_limits(call, body or {})
        if refused:
            return refused
        if call == "runs/log-batch-async":
            status, answer = self._server.ask("POST", "runs/log-batch", None, self._inward(workspace, body))
            return Reply(status, answer or {"batch_tracking_id": ""})
        query = self._inward(workspace, request.query)
        status, answer = self._server.ask(request.method, call, query, self._inward(workspace, body))
        if call == "experiments/search":
            own = f"{workspace.guid}/"
            answer["experiments"] = [e for e in answer.get("experiments", []) if e["name"].startswith(own)]
        return Reply(status, self._outward(workspace, answer))

    def _inward(self, workspace: Workspace, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: self._inward(workspace, each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [self._inward(workspace, each, key) for each in value]
        if key in ("run_id", "run_uuid", "run_ids") and value in workspace.jobs:
            return self.run_of(workspace.jobs[value])
        if key in ("experiment_id", "experiment_ids"):
            for job in workspace.jobs.values():  # a job's experiment is there before its first run is
                if value not in self._experiments and value == experiment_id(workspace, job.experiment):
                    self._experiment(workspace, job.experiment)
            return self._experiments.get(value, value)
        if key == "experiment_name":
            return f"{workspace.guid}/{value}"
        return value

    def _outward(self, workspace: Workspace, value: Any, key: str = "", above: Any = None) -> Any:
        if isinstance(value, dict):
            return {name: self._outward(workspace, each, name, value) for name, each in value.items()}
        if isinstance(value, list):
            return [self._outward(workspace, each, key, above) for each in value]
        if key in ("run_id", "run_uuid"):
            return next((name for name, run in self._runs.items() if run == value), value)
        if key == "experiment_id":
            return next((known for known, inside in self._experiments.items() if inside == value), value)
        if key == "name":
            return str(value).removeprefix(f"{workspace.guid}/")
        if key == "artifact_uri":
            run = self._outward(workspace, above["run_id"], "run_id")
            experiment = self._outward(workspace, above["experiment_id"], "experiment_id")
            host = workspace.api.removeprefix("https://")
            return f"azureml://{host}/mlflow/v2.0{workspace.id}/experiments/{experiment}/runs/{run}/artifacts"
        if key == "artifact_location":
            return ""
        return value

    def create_experiment(self, workspace: Workspace, name: str) -> Reply:
        """A new experiment, in the words of MLflow if there is one of that name."""
        hidden = f"{workspace.guid}/{name}"
        status, answer = self._server.ask("POST", "experiments/create", None, {"name": hidden})
        if status == 200:
            self._experiments[experiment_id(workspace, name)] = str(answer["experiment_id"])
        return Reply(status, self._outward(workspace, answer))

    def find_experiment(self, workspace: Workspace, name: str) -> Reply:
        """By name; from here on its id is known."""
        status, answer = self._server.ask(
            "GET", "experiments/get-by-name", {"experiment_name": f"{workspace.guid}/{name}"}
        )
        if status == 200:
            self._experiments[experiment_id(workspace, name)] = str(answer["experiment"]["experiment_id"])
        return Reply(status, self._outward(workspace, answer))


def experiment_id(workspace: Workspace, name: str) -> str:
    """The id of an experiment in Azure."""
    return str(uuid.uuid5(uuid.UUID(workspace.guid), name))


def _over_the_limits(call: str, body: dict[str, Any]) -> Reply | None:
    """The service takes less at once than MLflow does."""
    for name, (field, limit) in _LIMITS.items():
        size = len(body.get(name) or [])
        if call.startswith("runs/log-batch") and size > limit:
            message = f"A field of the entity is over the size limit. FieldName={field}, Limit={limit}, Size={size}."
            return Reply(400, {"error_code": "INVALID_PARAMETER_VALUE", "message": message})
    return None


@ROUTES.on("GET|POST|PATCH|DELETE", r"/mlflow/v[12]\.0" + WORKSPACE + r"/api/2\.0/mlflow/(?P<call>.+)")
def call(world: World, request: Request, call: str, **address: str) -> Reply:
    """One call of an MLflow client."""
    workspace = world.workspace(**address)
    if call.startswith(_NOT_OFFERED):
        message = json.dumps({"error": {"code": "NotFound", "message": f"no such call: {call}"}})
        return Reply(404, body=message.encode(), headers={"Content-Type": "application/json"})
    if call == "experiments/create":
        return world.tracking.create_experiment(workspace, request.document["name"])
    if call == "experiments/get-by-name":
        return world.tracking.find_experiment(workspace, request.query["experiment_name"])
    return world.tracking.carry(workspace, request, call)
