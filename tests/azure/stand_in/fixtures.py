"""Fixtures: one stand-in for a session, as new for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.azure.stand_in.stand_in import AzureStandIn, azure_stand_in


@pytest.fixture(scope="session")
def azure_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureStandIn]:
    """The processes behind `azure`. A module's own fixture may use it directly, and then calls `reset()` itself."""
    with azure_stand_in(tmp_path_factory.mktemp("azure")) as stand_in:
        yield stand_in


@pytest.fixture
def azure(azure_session: AzureStandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureStandIn]:
    """Azure with an empty workspace, which this process takes for the real one and can log in to."""
    azure_session.reset()
    take_for_azure(azure_session, monkeypatch)
    yield azure_session
    azure_session.settle()


def take_for_azure(stand_in: AzureStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process's environment becomes that of a user of `stand_in`."""
    wanted = stand_in.environment()
    for name in set(os.environ) - set(wanted) - {"PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER"}:
        if not name.startswith("PYTEST"):
            monkeypatch.delenv(name)
    for name, value in wanted.items():
        if os.environ.get(name) != value:
            monkeypatch.setenv(name, value)
