"""The Python environment of a job: its packages, and references to environments and images.

`training/azure/conda.yaml` has every version that this project is tested with, for Linux and Python 3.11. It is
computed from pyproject.toml, constraints.txt and the requirements of the installed packages. After a change of those:

    python -m training.azure.settings.environment
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml

from training.azure.settings.inner_run import CHECKOUT
from training.azure.settings.options import DEFAULT_IMAGE
from training.errors import ConfigError
from training.settings.yaml_files import read_yaml

# -- the packages that a job is given ----------------------------------------------------------------------------------

CONDA_FILE = Path(__file__).resolve().parents[1] / "conda.yaml"
PYTHON = "3.11"
EXTRAS = ("deepspeed", "huggingface", "tensorboard", "mlflow", "wandb")
"""Extras of pyproject.toml that a job has: all backends and trackers."""
JOINS_THE_RUN = "azureml-mlflow"
"""The one package of the extra `azure` that is needed inside a job."""
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
"""Packages without a pin: torch names the exact CUDA packages that it was built with; conda's Python has setuptools."""
_HEAD = "# Written by `python -m training.azure.settings.environment`; a test keeps it up to date.\n"


def conda_environment() -> dict[str, Any]:
    """Read the committed environment, as conda and Azure ML do."""
    return read_yaml(CONDA_FILE)


def computed_environment(checkout: Path = CHECKOUT) -> dict[str, Any]:
    """Compute the environment from pyproject.toml, constraints.txt and the installed packages.

    Raises:
        KeyError: a package that is needed has no pin in constraints.txt.
        PackageNotFoundError: a package that is needed is not installed, so its requirements are unknown.
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


# -- references to environments and images -----------------------------------------------------------------------------

LEAST_TORCH = (2, 13)
"""Oldest torch that pyproject.toml allows; a test compares them."""
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_FORMS = (
    rf"(azureml:)?{_NAME}[@:]{_NAME}",
    rf"azureml://registries/{_NAME}/environments/{_NAME}/(versions|labels)/{_NAME}",
    rf"azureml://locations/{_NAME}/workspaces/{_NAME}/environments/{_NAME}/(versions|labels)/{_NAME}",
    rf"(azureml:)?/subscriptions/\S+/environments/{_NAME}/versions/{_NAME}",
)
_CURATED_TORCH = re.compile(r"pytorch-?(\d+)\.(\d+)", re.IGNORECASE)
_PART = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:[A-Za-z0-9.-]+(?::\d+)?/)?{_PART}(?:/{_PART})*(?::[\w][\w.-]*)?(?:@sha256:[0-9a-f]{{64}})?", re.ASCII
)
_DEPRECATED_IMAGE = re.compile(r"^mcr\.microsoft\.com/azureml/(openmpi[34]\.|intelmpi|base)", re.IGNORECASE)


def check_environment(name: str) -> None:
    """Refuse what does not name an environment with a version, and curated ones whose torch is too old.

    Raises:
        ConfigError: with the right form, or what to use instead.
    """
    given = f"environment={name}"
    if re.fullmatch(rf"(azureml:)?{_NAME}", name):
        raise ConfigError(f"{given}: which version? Give {name}@latest, or {name}:3")
    if not any(re.fullmatch(form, name) for form in _FORMS):
        if "/" in name and not name.startswith("azureml:") and _IMAGE.fullmatch(name):
            raise ConfigError(f"{given}: this is an image; give it as --docker-image {name}")
        raise ConfigError(
            f"{given}: should be NAME@latest, NAME:VERSION or azureml://registries/REGISTRY/environments/NAME/labels/latest"
        )
    plain, at, label = name.partition("@")
    if at and label != "latest":  # the SDK resolves no other, and says so only after the upload
        raise ConfigError(f"{given}: the only label is latest; give {plain}@latest, or a version, as {plain}:3")
    if (found := _CURATED_TORCH.search(name)) and (int(found[1]), int(found[2])) < LEAST_TORCH:
        least = ".".join(map(str, LEAST_TORCH))
        raise ConfigError(
            f"{given}: it has torch {found[1]}.{found[2]}, and this project needs {least} or newer; leave "
            "--environment out, then one is built from our pins"
        )


def check_image(image: str) -> None:
    """Refuse what is not the name of an image, and Azure's images that are no longer kept up to date.

    Raises:
        ConfigError: with the image to use instead.
    """
    if _IMAGE.fullmatch(image) is None:
        raise ConfigError(f"docker_image={image!r}: should be the name of an image, such as {DEFAULT_IMAGE}")
    if _DEPRECATED_IMAGE.match(image):
        raise ConfigError(f"docker_image={image}: Azure no longer keeps this image up to date; use {DEFAULT_IMAGE}")


def main() -> int:
    """Write the file."""
    text = yaml.safe_dump(computed_environment(), sort_keys=False)
    CONDA_FILE.write_text(_HEAD + text, encoding="utf-8")
    print(f"wrote {CONDA_FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
