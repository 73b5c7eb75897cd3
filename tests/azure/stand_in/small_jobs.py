"""Small jobs for tests: a program of a few lines, submitted by the real SDK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.azure.stand_in.stand_in import AzureStandIn

IMAGE = "mcr.microsoft.com/azureml/openmpi5.0-cuda12.6-ubuntu24.04:latest"
RUN = "azureml://datastores/workspaceblobstore/paths/apt-runs/${{name}}/"


def client_of(azure: AzureStandIn) -> Any:
    """The real SDK, logged in as the environment says; the cluster `cpu` of two nodes is there."""
    from azure.ai.ml import MLClient
    from azure.identity import DefaultAzureCredential

    azure.add_compute("cpu", nodes=2)
    return MLClient(DefaultAzureCredential(), **azure.address)


class Submit:
    """`submit("print(1)", name="a")`: a program becomes the snapshot of a job, which is submitted."""

    def __init__(self, client: Any, directory: Path) -> None:
        self.client, self.directory = client, directory

    def __call__(self, program: str, arguments: str = "${{outputs.run}}", **changes: Any) -> Any:
        from azure.ai.ml import load_job

        code = self.directory / "code"
        code.mkdir(exist_ok=True)
        (code / "program.py").write_text(program)
        part = {"code": "code", "command": f"python program.py {arguments}", "environment": {"image": IMAGE}}
        output = {"type": "uri_folder", "mode": "rw_mount", "path": RUN}
        document = {"compute": "azureml:cpu", "experiment_name": "lines", "outputs": {"run": output}, **changes}
        if "search_space" in changes:
            document |= {"trial": part, "type": "sweep"}
        else:
            document = {**part, **document, "type": "command"}
        path = self.directory / "job.yml"
        path.write_text(yaml.safe_dump(document))
        return self.client.jobs.create_or_update(load_job(path))
