"""Whether this machine has credentials for W&B. None is read out, sent, verified or printed.

`wandb.login(prompt=False, verify=False)` would ask the server all the same: ten seconds where it does not answer.
"""

from __future__ import annotations

import os
from types import ModuleType

from training.errors import ConfigError
from training.tracking.secrets import without_secrets


def import_wandb() -> ModuleType:
    """The package, told to keep to itself: it would print beside the progress bar, and send its own faults home."""
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # both are read when it is imported
    import wandb

    module: ModuleType = wandb
    return module


def check_login() -> None:
    """W&B finds credentials in the environment, in its settings files and in ~/.netrc.

    Raises:
        ConfigError: there are none for the server, or they cannot be credentials.
    """
    wandb = import_wandb()
    from wandb.sdk.lib.wbauth import authenticate_session

    host = wandb.setup().settings.base_url
    try:
        found = authenticate_session(host=host, source="--track wandb", prompt=False, update_session=False)
    except wandb.errors.AuthenticationError as error:
        raise ConfigError(f"--track wandb: {without_secrets(str(error))}; run: wandb login --relogin") from error
    if found is None:
        raise ConfigError(f"--track wandb: not logged in at {host}; run: wandb login (or give --wandb-mode offline)")
