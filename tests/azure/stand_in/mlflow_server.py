"""A real MLflow server on SQLite, started when somebody first asks it something.

It is the application that `mlflow server` starts, by the command and the variables by which it does so: that command
itself would import all of MLflow twice, which takes five seconds more.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode


class MlflowServer:
    """`ask(…)` speaks to it; `close()` ends it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def ask(
        self, method: str, call: str, query: dict[str, str] | None = None, body: Any = None
    ) -> tuple[int, dict[str, Any]]:
        """One REST call below `/api/2.0/mlflow/`; status and answer."""
        with self._lock:
            if self._process is None:
                self._start()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            target = f"/api/2.0/mlflow/{call}" + (f"?{urlencode(query)}" if query else "")
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, target, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        return answer.status, json.loads(text) if text.startswith(b"{") else {"message": text.decode()}

    def _start(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "AZURE"))}
        log = self._directory / "mlflow_server.log"
        store = f"sqlite:///{self._directory}/mlflow.db"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(self._port)),
                    *("--workers", "1", "mlflow.server.fastapi_app:app"),
                ],
                env={
                    **environment,
                    "_MLFLOW_SERVER_FILE_STORE": store,
                    "_MLFLOW_SERVER_REGISTRY_STORE": store,
                    "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
                    "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(self._directory / "artifacts"),
                    "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
                    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                    "MLFLOW_DISABLE_TELEMETRY": "true",
                    "OMP_NUM_THREADS": "1",
                },
                cwd=self._directory,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        end = time.monotonic() + 120
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the MLflow server did not start: {log.read_text()[-2000:]}")
            time.sleep(0.1)

    def _is_up(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def close(self) -> None:
        """End it with its workers."""
        if self._process is not None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return  # it has ended
            self._process.wait(30)
