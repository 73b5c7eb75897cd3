"""The packages that a job is given: every version that this project is tested with, for Linux and Python 3.11.

`conda.yaml` beside this file is computed from pyproject.toml, constraints.txt and what the installed packages say that
they need. After a change of those:

    python -m training.azure.environment
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml

from training.azure.provenance import CHECKOUT

CONDA_FILE = Path(__file__).with_name("conda.yaml")
PYTHON = "3.11"
EXTRAS = ("deepspeed", "huggingface", "tensorboard", "mlflow", "wandb")
"""Of pyproject.toml: all backends and trackers."""
JOINS_THE_RUN = "azureml-mlflow"
"""Of the extra `azure`, the one package that is needed inside a job."""
_MACHINE = {
    "implementation_name": "cpython",
    "implementation_version": "3.11.9",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_release": "",
    "platform_system": "Linux",
    "platform_version": "",
    "python_full_version": "3.11.9",
    "python_version": PYTHON,
    "sys_platform": "linux",
}
_LEFT_TO_PIP = ("nvidia-", "cuda-", "triton", "setuptools")
"""torch names the exact CUDA packages that it was built with; conda's Python brings setuptools."""
_HEAD = "# Written by `python -m training.azure.environment`; a test keeps it up to date.\n"


def conda_environment() -> dict[str, Any]:
    """The committed environment, as conda and Azure ML read it."""
    document: dict[str, Any] = yaml.safe_load(CONDA_FILE.read_text(encoding="utf-8"))
    return document


def computed_environment(checkout: Path = CHECKOUT) -> dict[str, Any]:
    """The environment as it follows from pyproject.toml, constraints.txt and the installed packages.

    Raises:
        KeyError: a package that is needed has no pin in constraints.txt.
        PackageNotFoundError: a package that is needed is not installed, so it is unknown what it needs.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(text for extra in EXTRAS for text in extras[extra])]
    wanted += [text for text in extras["azure"] if Requirement(text).name == JOINS_THE_RUN]
    pins: dict[str, tuple[str, str]] = {}
    for line in (checkout / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if found := re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)", line.partition("#")[0].strip()):
            pins[canonicalize_name(found[1])] = (found[1], found[2])

    closure: set[str] = set()
    waiting = [Requirement(text) for text in wanted]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen or name.startswith(_LEFT_TO_PIP):
            continue
        seen.add((name, frozenset(requirement.extras)))
        closure.add(name)
        for text in importlib.metadata.requires(name) or ():
            needed = Requirement(text)
            extras_of = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({**_MACHINE, "extra": e}) for e in extras_of):
                waiting.append(needed)
    lines = ["==".join(pins[name]) for name in sorted(closure)]
    return {
        "name": "apt-trainer",
        "channels": ["conda-forge", "nodefaults"],
        "dependencies": [f"python={PYTHON}", "pip", {"pip": lines}],
    }


def main() -> int:
    """Write the file anew."""
    text = yaml.safe_dump(computed_environment(), sort_keys=False)
    CONDA_FILE.write_text(_HEAD + text, encoding="utf-8")
    print(f"wrote {CONDA_FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
