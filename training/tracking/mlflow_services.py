"""Services that keep MLflow runs by rules of their own, such as Azure ML. Each registers itself; none is imported here.

    register_service("azure", is_workspace, AzureStore())

The MLflow tracker asks `service_of` for the service behind a tracking URI, and works without one for every other store.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Protocol


class MLflowService(Protocol):
    """The rules of a service. Times, names and values that MLflow itself limits are not repeated here."""

    max_metrics: int
    """Greatest number of metrics in one call."""
    max_tags: int
    """Greatest number of tags of one run."""
    max_param_length: int
    """Greatest length of a param's value in characters."""

    def check(self, uri: str, is_guest: bool) -> None:
        """Refuse what cannot work, offline.

        Args:
            uri: the tracking URI.
            is_guest: True if the service itself made the run, for the job in which this process is.

        Raises:
            ConfigError: a package is missing, or the URI does not name a store.
        """
        ...

    def quieten(self) -> None:
        """Silence the service's packages, whose lines would tear the progress bar."""
        ...

    def log_in(self, uri: str) -> str:
        """Log in and return the store's full tracking URI.

        Raises:
            UserError: the login or the store is missing.
        """
        ...

    def sending_files(self, uri: str) -> contextlib.AbstractContextManager[None]:
        """Return a context within which files can be sent."""
        ...

    def free_folder(self, taken: Iterable[str], wanted: Iterable[str]) -> str:
        """Return the folder for this part of the run's files, whose names can be taken once; empty: the top."""
        ...

    def page(self, uri: str, run_id: str) -> str:
        """Return the address of the page that shows a run."""
        ...


_SERVICES: dict[str, tuple[Callable[[str], bool], MLflowService]] = {}


def register_service(name: str, owns: Callable[[str], bool], service: MLflowService) -> None:
    """Make a service known to the MLflow tracker. A second registration of the same name replaces the first.

    Args:
        name: of the service.
        owns: says whether a tracking URI belongs to it.
        service: its rules.
    """
    _SERVICES[name] = owns, service


def service_of(uri: str | None) -> MLflowService | None:
    """Return the service behind a tracking URI; None: an ordinary MLflow store."""
    return next((service for owns, service in _SERVICES.values() if uri is not None and owns(uri)), None)
