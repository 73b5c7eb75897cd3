"""A stand-in for the W&B service on the loopback interface: what wandb-core asks, and what a run's page would show.

It answers the real wandb package (GraphQL, file stream, uploads) and keeps rows as the service does: a row replaces
what its offset held, so rows that are sent twice or out of place are seen.
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "tester"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that leaves is no fault."""


class WandbStandIn:
    """The service. `with WandbStandIn() as service:` … `service.url`, `service.rows(run_id)`."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.uploads: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.talks = threading.Event()
        """While it is not set, the service takes what comes and answers nothing."""
        self.talks.set()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                service.talks.wait(60)
                if self.path == "/graphql":
                    self._answer(service.graphql(json.loads(body)))
                elif self.path.endswith("/file_stream"):
                    self._answer(service.file_stream(self.path.split("/")[-2], json.loads(body)))
                else:
                    self._answer({})

            def do_PUT(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                service.uploads[self.path.removeprefix("/upload/")] = self.rfile.read(size)
                self._answer({})

            def do_GET(self) -> None:
                self._answer({})

            def _answer(self, document: Any) -> None:
                service.talks.wait(60)
                data = json.dumps(document).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> WandbStandIn:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    # -- what the service would show -------------------------------------------------------------------------------

    def rows(self, run_id: str) -> list[dict[str, Any]]:
        """The history of a run, in the order of its offsets."""
        return [json.loads(line) for _, line in sorted(self.runs[run_id]["history"].items())]

    # -- what wandb-core asks --------------------------------------------------------------------------------------

    def file_stream(self, run_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """Rows of the history, the summary, and the end of a run."""
        run = self.runs[run_id]
        for name, chunk in (body.get("files") or {}).items():
            if name == "wandb-history.jsonl":
                for number, line in enumerate(chunk["content"]):
                    run["history"][chunk["offset"] + number] = line
            elif name == "wandb-summary.json":
                run["summary"] = json.loads(chunk["content"][-1])
        if body.get("complete"):
            run["exit_code"] = body.get("exitcode")
        return {"limits": {}}

    def graphql(self, body: dict[str, Any]) -> dict[str, Any]:
        """The few operations of a run's life."""
        found = re.search(r"(?:query|mutation)\s+(\w+)", body["query"])
        operation = found.group(1) if found else ""
        self.asked.append(operation)
        variables = body.get("variables") or {}
        answers = {
            "UpsertBucket": self._open,
            "RunResumeStatus": self._resume_status,
            "CreateRunFiles": self._places_for_files,
        }
        return {"data": answers[operation](variables) if operation in answers else {}}

    def _open(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["name"]
        is_new = name not in self.runs
        run = self.runs.setdefault(name, {"history": {}, "summary": {}, "config": {}, "tags": [], "exit_code": None})
        run["project"] = variables.get("project") or run.get("project")
        if variables.get("config"):
            run["config"] = json.loads(variables["config"])
        run["tags"] = variables.get("tags") or run["tags"]
        run["display_name"] = variables.get("displayName") or run.get("display_name")
        return {"upsertBucket": {"bucket": self._bucket(name), "inserted": is_new}}

    def _bucket(self, name: str) -> dict[str, Any]:
        run = self.runs[name]
        return {
            "id": name,
            "name": name,
            "displayName": run["display_name"],
            "description": None,
            "config": json.dumps(run["config"]),
            "sweepName": None,
            "project": {"id": "p", "name": run["project"], "entity": {"id": "e", "name": ENTITY}},
            "historyLineCount": len(run["history"]),
        }

    def _resume_status(self, variables: dict[str, Any]) -> dict[str, Any]:
        model = {"id": "p", "name": variables["project"], "entity": {"id": "e", "name": ENTITY}}
        run = self.runs.get(variables["name"])
        if run is None:
            return {"model": model | {"bucket": None}}
        history = [line for _, line in sorted(run["history"].items())]
        bucket = self._bucket(variables["name"]) | {
            "summaryMetrics": json.dumps(run["summary"]),
            "logLineCount": 0,
            "eventsLineCount": 0,
            "historyTail": json.dumps(history[-1:]),
            "eventsTail": "[]",
            "tags": run["tags"],
            "wandbConfig": json.dumps(run["config"]["_wandb"]["value"]),  # by `t` in it, a run has really begun
        }
        return {"model": model | {"bucket": bucket}}

    def _places_for_files(self, variables: dict[str, Any]) -> dict[str, Any]:
        run, names = variables["run"], variables["files"]
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/{run}/{name}"} for name in names]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}
