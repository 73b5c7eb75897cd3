"""References to environments and images: their form, and those that are known to be too old. Offline."""

from __future__ import annotations

import re

from training.azure.options import DEFAULT_IMAGE
from training.errors import ConfigError

LEAST_TORCH = (2, 13)
"""As pyproject.toml says; a test compares them."""
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
    """Refuse what names no environment with a version, and curated ones whose torch is too old for this project.

    Raises:
        ConfigError: with the form that is right, or what to use instead.
    """
    told = f"environment={name}"
    if re.fullmatch(rf"(azureml:)?{_NAME}", name):
        raise ConfigError(f"{told}: which version? Give {name}@latest, or {name}:3")
    if not any(re.fullmatch(form, name) for form in _FORMS):
        if "/" in name and not name.startswith("azureml:") and _IMAGE.fullmatch(name):
            raise ConfigError(f"{told}: this is an image; give it as --docker-image {name}")
        raise ConfigError(
            f"{told}: should be NAME@latest, NAME:VERSION or azureml://registries/REGISTRY/environments/NAME/labels/latest"
        )
    plain, at, label = name.partition("@")
    if at and label != "latest":  # the SDK resolves no other, and says so only after the upload
        raise ConfigError(f"{told}: the only label is latest; give {plain}@latest, or a version, as {plain}:3")
    if (found := _CURATED_TORCH.search(name)) and (int(found[1]), int(found[2])) < LEAST_TORCH:
        least = ".".join(map(str, LEAST_TORCH))
        raise ConfigError(
            f"{told}: it has torch {found[1]}.{found[2]}, and this project needs {least} or newer; leave --environment "
            "out, then one is built from our pins"
        )


def check_image(image: str) -> None:
    """Refuse what is no image's name, and Azure's images that are no longer kept up to date.

    Raises:
        ConfigError: with the image to use instead.
    """
    if _IMAGE.fullmatch(image) is None:
        raise ConfigError(f"docker_image={image!r}: should be the name of an image, such as {DEFAULT_IMAGE}")
    if _DEPRECATED_IMAGE.match(image):
        raise ConfigError(f"docker_image={image}: Azure no longer keeps this image up to date; use {DEFAULT_IMAGE}")
