"""How a process takes the stand-in for Azure: its environment, and an `az` on its PATH."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from tests.azure.stand_in import login
from tests.azure.stand_in.certificates import Certificates
from tests.azure.stand_in.world import SUBSCRIPTION

_DROPPED = ("AZURE", "ARM_", "MLFLOW", "PYTEST", "IDENTITY_", "MSI_", "HTTP_PROXY", "http_proxy", "https_proxy")


def surroundings(proxy: str, certificates: Certificates) -> dict[str, str]:
    """This process's environment with the way to the stand-in, and without anybody's credentials."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(_DROPPED)}
    authority = str(certificates.authority)
    return others | {
        "HTTPS_PROXY": proxy,
        "NO_PROXY": "",
        "no_proxy": "",
        "REQUESTS_CA_BUNDLE": authority,
        "SSL_CERT_FILE": authority,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": "1",
        "AZUREML_RUN_POLLING_INTERVAL_MIN": "1",  # seconds; the SDK's own stream() would wait longer and longer
        "AZUREML_RUN_POLLING_INTERVAL_MAX": "1",
    }


def by_secret() -> dict[str, str]:
    """Variables by which azure-identity logs in as an application."""
    return {"AZURE_TENANT_ID": login.TENANT, "AZURE_CLIENT_ID": login.CLIENT, "AZURE_CLIENT_SECRET": login.SECRET}


def write_az(directory: Path, logged_in: bool) -> None:
    """An `az` whose user is logged in, or is not."""
    directory.mkdir(exist_ok=True)
    answer = {
        "accessToken": login.make_token("https://management.azure.com"),
        "expires_on": int(time.time()) + 3600,
        "expiresOn": "2099-01-01 00:00:00.000000",
        "subscription": SUBSCRIPTION,
        "tenant": login.TENANT,
        "tokenType": "Bearer",
    }
    says = f"echo '{json.dumps(answer)}'"
    if not logged_in:
        says = "echo \"ERROR: Please run 'az login' to setup account.\" >&2; exit 1"
    program = directory / "az"
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(0o755)
