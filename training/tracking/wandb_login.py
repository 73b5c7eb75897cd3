"""Whether this machine has credentials for W&B. None is read out, sent, verified or printed.

`wandb.login(prompt=False, verify=False)` would ask the server all the same: ten seconds where it does not answer.
"""

from __future__ import annotations

import netrc
import os
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from apt_model.errors import ConfigError


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
        ConfigError: there are none for the server, or the file cannot be read.
    """
    settings = import_wandb().setup().settings
    if settings.api_key or settings.identity_token_file or _is_in_netrc(settings.base_url):
        return
    raise ConfigError(
        f"--track wandb: not logged in at {settings.base_url}; run: wandb login (or give --wandb-mode offline)"
    )


def _is_in_netrc(url: str) -> bool:
    names = [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]
    path = next((path for path in (Path(name).expanduser() for name in names) if path.exists()), None)
    if path is None:
        return False
    try:
        return netrc.netrc(path).authenticators(urlsplit(url).netloc) is not None
    except (netrc.NetrcParseError, OSError) as error:
        raise ConfigError(f"--track wandb: {path} cannot be read ({error}); mend it, or set WANDB_API_KEY") from error
