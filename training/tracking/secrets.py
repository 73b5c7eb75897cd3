"""Secrets that must never be printed: passwords and tokens in a library's error message. No torch."""

from __future__ import annotations

import os
import re

_SECRET_VARIABLES = (
    "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "DATABRICKS_TOKEN",
    "AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_CLIENT_SECRET", "AZUREML_RUN_TOKEN",
)  # fmt: skip
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")
_SIGNATURE = re.compile(r"(?<=[?&]sig=)[^&\s'\"]+")  # of a link to a blob that opens it for whoever has it


def without_secrets(text: str) -> str:
    """Return `text` without the values of known secret variables, user parts of addresses and signatures of links."""
    for name in _SECRET_VARIABLES:
        if secret := os.environ.get(name):
            text = text.replace(secret, f"<{name}>")
    return _SIGNATURE.sub("…", _USER_INFO.sub("", text))
