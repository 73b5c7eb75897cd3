"""Of which commit a job's code is, without the secrets that a remote's address may hold."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

CHECKOUT = Path(__file__).resolve().parents[2]
"""Where the code is: a git checkout, or what was made of one."""
REPOSITORY = "mlflow.source.git.repoURL"
BRANCH = "mlflow.source.git.branch"
COMMIT = "mlflow.source.git.commit"
DIRTY = "azureml.git.dirty"
"""Properties under which Studio shows them."""
GIT_TIMEOUT = 10.0


def git_properties(checkout: Path) -> dict[str, str]:
    """Repository, branch and commit of a checkout as properties of a job; empty: it is none, or git is not there."""
    if _git(checkout, "rev-parse", "--is-inside-work-tree") != "true":
        return {}
    remote = _git(checkout, "remote", "get-url", "origin")
    found = {
        REPOSITORY: without_secrets(remote) if remote else None,
        BRANCH: _git(checkout, "symbolic-ref", "--short", "HEAD"),
        COMMIT: _git(checkout, "rev-parse", "HEAD"),
        DIRTY: str(bool(_git(checkout, "status", "--porcelain", "."))),
    }
    return {name: value for name, value in found.items() if value}


def without_secrets(remote: str) -> str | None:
    """A remote's address without user, password, token and query; None: it has no form in which these are known.

    `git@host:owner/name.git` holds none and stays.
    """
    if "://" not in remote:
        user, at, rest = remote.rpartition("@")
        return remote if not at else f"git@{rest}" if user else rest
    try:
        parts = urlsplit(remote)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    if not parts.hostname or "@" in parts.path:  # such as https://dev.azure.com/TOKEN@owner/name
        return None
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


@contextlib.contextmanager
def git_hidden_from_sdk() -> Iterator[None]:
    """Keep the SDK from adding what it finds in the working directory: another repository, and its remote unwashed.

    The SDK (1.35) looks with `git` and in the variables AZUREML_GIT_*; it knows a token in one form of address only.
    """
    before = dict(os.environ)
    os.environ["GIT_DIR"] = os.devnull
    for name in [name for name in os.environ if name.startswith("AZUREML_GIT_")]:
        del os.environ[name]
    try:
        yield
    finally:
        for name in before:
            if os.environ.get(name) is None:
                os.environ[name] = before[name]
        if "GIT_DIR" in before:
            os.environ["GIT_DIR"] = before["GIT_DIR"]
        else:
            del os.environ["GIT_DIR"]


def _git(checkout: Path, *words: str) -> str | None:
    """What git prints; None: it failed, or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), *words],
            capture_output=True, text=True, errors="replace",  # a branch's name may be in any encoding
            timeout=GIT_TIMEOUT, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
