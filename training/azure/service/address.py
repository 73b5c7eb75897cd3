"""The address of a workspace: from options, the environment or its config.json, as the SDK's `from_config` finds it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from training.errors import ConfigError
from training.storage.json_files import DamagedFileError, read_json

VARIABLES = {
    "subscription_id": "AZUREML_ARM_SUBSCRIPTION",
    "resource_group": "AZUREML_ARM_RESOURCEGROUP",
    "workspace_name": "AZUREML_ARM_WORKSPACE_NAME",
}
"""Key of config.json -> environment variable, as the SDK and every Azure ML compute instance have them."""
DIRECTORIES = (".azureml", "aml_config", "")
FILES = ("config.json", "project.json")
BACKEND = "--backend azure"
LEVELS = 20
"""Directories above the first in which the SDK looks."""
_SCOPE = re.compile(
    r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/[^/]+/workspaces/([^/]+)/?", re.IGNORECASE
)
_FORMS = {
    "subscription_id": (
        re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE),
        "should be the subscription's id, such as 1b2c3d4e-0000-0000-0000-000000000000; `az account list -o table` "
        "shows it",
    ),
    "resource_group": (
        re.compile(r"[-\w.()]{0,89}[-\w()]"),
        "is not a name of a resource group: letters, digits, '-', '_', '.' and brackets, at most 90, no '.' at the end",
    ),
    "workspace_name": (
        re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{2,32}"),
        "is not a name of a workspace: 3 to 33 letters, digits, '-' and '_', a letter or digit first",
    ),
}


@dataclass(frozen=True)
class WorkspaceAddress:
    """The three names by which Azure knows a workspace."""

    subscription_id: str
    resource_group: str
    workspace_name: str


class AddressOptions(Protocol):
    """Options that may name a workspace, or parts of its address; None: not given."""

    @property
    def subscription_id(self) -> str | None: ...

    @property
    def resource_group(self) -> str | None: ...

    @property
    def workspace_name(self) -> str | None: ...

    @property
    def workspace_config(self) -> Path | None: ...


@dataclass(frozen=True)
class _Given:
    """A value and its source, for the error message that names both."""

    value: str
    origin: str


def find_address(options: AddressOptions | None, asker: str = BACKEND) -> WorkspaceAddress:
    """Find the address without asking Azure. Each of its three parts may come from another source.

    An option wins over a config.json that an option names (`workspace_config`), that over the environment, and that
    over a config.json that is found in the working directory or above it.

    Args:
        options: of the backend or of a tool; None: there are no flags for it.
        asker: what needs the address; the error message begins with it.

    Raises:
        ConfigError: a part is missing or cannot be a name of that kind, or a file is damaged.
    """
    found, passed_over = _known_parts(options)
    missing = [key for key in VARIABLES if key not in found]
    if missing:
        raise ConfigError(_missing(missing, passed_over, asker))
    return WorkspaceAddress(**{key: given.value for key, given in found.items()})


def check_address(options: AddressOptions) -> None:
    """Refuse parts of an address that no workspace has, so that a dry run refuses what a submission would.

    A part that is not known yet is no fault: the submission asks for it.

    Raises:
        ConfigError: a part cannot be a name of its kind, or a file is damaged.
    """
    _known_parts(options)


def _known_parts(options: AddressOptions | None) -> tuple[dict[str, _Given], list[str]]:
    """Return the parts of an address that are known, in their right form, and the files that are about other things."""
    found: dict[str, _Given] = {}
    passed_over: list[str] = []

    def take(values: dict[str, _Given]) -> None:
        for key, given in values.items():
            found.setdefault(key, given)

    if options is not None:
        take({k: _Given(value, f"--{k.replace('_', '-')}") for k in VARIABLES if (value := getattr(options, k))})
        if options.workspace_config is not None:
            take(_named_file(options.workspace_config))
    take({key: _Given(value, name) for key, name in VARIABLES.items() if (value := os.environ.get(name))})
    if len(found) < len(VARIABLES):
        take(_discovered(Path.cwd(), passed_over))
    for key, given in found.items():
        form, fault = _FORMS[key]
        if not form.fullmatch(given.value):
            raise ConfigError(f"{given.origin}: {key} = {given.value!r} {fault}")
    return found, passed_over


def _named_file(path: Path) -> dict[str, _Given]:
    """Read the file that the user named, or the one found from the directory that was named."""
    if not path.exists():
        raise ConfigError(f"--workspace-config {path}: there is no such file or directory")
    if path.is_dir():
        file = next(_candidates(path), None)
        if file is None:
            raise ConfigError(
                f"--workspace-config {path}: there is no config.json in it, in its .azureml/, or above it; download it "
                "from the workspace's page in Studio"
            )
        path = file
    given = _read(path)
    if not given:
        raise ConfigError(f"{path}: has none of the keys {', '.join(VARIABLES)}; it is not a workspace's config.json")
    return given


def _discovered(start: Path, passed_over: list[str]) -> dict[str, _Given]:
    """Read the first file from `start` upwards that names a workspace; others of that name belong to other programs."""
    for file in _candidates(start):
        given = _read(file)
        if given:
            return given
        passed_over.append(str(file))
    return {}


def _candidates(start: Path) -> Iterator[Path]:
    """Yield files in the SDK's order: .azureml/ here and above, then aml_config/, then the directories themselves."""
    levels = [start.resolve(), *start.resolve().parents][: LEVELS + 1]
    for directory in DIRECTORIES:
        for name in FILES:
            for level in levels:
                if _is_file(file := level / directory / name):
                    yield file


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:  # in a directory that is closed to this user
        return False


def _read(path: Path) -> dict[str, _Given]:
    """Return the parts of an address in a file; empty: the file is about something else."""
    try:
        document = read_json(path)
    except (OSError, DamagedFileError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.reason
        raise ConfigError(
            f"{path}: cannot be read as JSON ({reason}); download it again from the workspace's page in Studio, or "
            "name another with --workspace-config"
        ) from error
    if not isinstance(document, dict):
        return {}
    if "Scope" in document:  # the form of the SDK's first version
        scope = document["Scope"]
        match = _SCOPE.fullmatch(scope) if isinstance(scope, str) else None
        if match is None:
            raise ConfigError(f"{path}: Scope = {scope!r} is not /subscriptions/…/resourceGroups/…/workspaces/…")
        return {key: _Given(value, str(path)) for key, value in zip(VARIABLES, match.groups(), strict=True)}
    given = {}
    for key in VARIABLES:
        value = document.get(key)
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise ConfigError(f"{path}: {key} = {value!r} should be a name in quotes")
        if value is not None:
            given[key] = _Given(value.strip(), str(path))
    return given


def _missing(keys: list[str], passed_over: list[str], asker: str) -> str:
    flags = " ".join(f"--azure-{key.replace('_', '-')} …" for key in keys)
    give = f"give {flags}, or " if asker == BACKEND else ""
    variables = ", ".join(VARIABLES[key] for key in keys)
    *others, last = (key.replace("_", " ") for key in keys)
    names = f"{', '.join(others)} and {last}" if others else last
    seen = f" ({', '.join(passed_over)} is not a workspace's)" if passed_over else ""
    verb = "is" if len(keys) == 1 else "are"
    return (
        f"{asker}: the {names} of the workspace {verb} not known; {give}set {variables}, or put the "
        "workspace's config.json (Studio: the workspace's menu, Download config file) into "
        f"{Path.cwd()} or its .azureml/{seen}"
    )
