"""Services that keep MLflow runs register themselves; the tracker takes every other store for an ordinary one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.conftest import FrontDoor, TinyDataset
from training.errors import ConfigError
from training.settings.tree import TrainingConfig
from training.tracking import mlflow_services
from training.tracking.choice import check
from training.tracking.mlflow_services import MLflowService, register_service, service_of
from training.tracking.mlflow_tracker import joins_job


class Ledger:
    """A service of a third party, which refuses one address."""

    max_metrics, max_tags, max_param_length = 10, 5, 20

    def check(self, uri: str, is_guest: bool) -> None:
        if uri == "ledger://nowhere":
            raise ConfigError(f"{uri}: there is no such ledger (guest: {is_guest})")

    def quieten(self) -> None:
        raise AssertionError("nothing is sent here")

    def log_in(self, uri: str) -> str:
        return uri

    def sending_files(self, uri: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def free_folder(self, taken: Iterable[str], wanted: Iterable[str]) -> str:
        return ""

    def page(self, uri: str, run_id: str) -> str:
        return f"{uri}/{run_id}"


@pytest.fixture(autouse=True)
def services(monkeypatch: pytest.MonkeyPatch) -> None:
    """No service is known at first."""
    monkeypatch.setattr(mlflow_services, "_SERVICES", {})


def registered() -> MLflowService:
    ledger = Ledger()
    register_service("ledger", lambda uri: uri.startswith("ledger:"), ledger)
    return ledger


def config_of(uri: str | None) -> TrainingConfig:
    return TrainingConfig.from_dict({"track": {"track": "mlflow", "mlflow_tracking_uri": uri}})


def test_a_service_is_known_by_its_addresses_once_it_has_registered() -> None:
    assert service_of("ledger://one") is None
    ledger = registered()
    assert service_of("ledger://one") is ledger
    assert [service_of(uri) for uri in ("https://mlflow.example.org", "sqlite:///a.db", None)] == [None, None, None]
    assert service_of("ledger://one") is not registered(), "a second registration replaces the first"


def test_a_run_is_a_guest_where_both_addresses_mean_one_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "ledger://long/address")
    monkeypatch.setenv("MLFLOW_RUN_ID", "r")
    track = config_of("https://ledger.example.org").track.model_copy(update={"mlflow_tracking_uri": "ledger://one"})
    assert not joins_job(track)
    registered()
    assert joins_job(track)


def test_a_service_checks_its_addresses_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    registered()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "ledger://somewhere")
    monkeypatch.setattr("training.tracking.choice.fault_of_store", lambda uri: None)
    check(config_of(None))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "ledger://nowhere")
    with pytest.raises(ConfigError, match=r"ledger://nowhere: there is no such ledger \(guest: False\)"):
        check(config_of(None))


def test_the_front_door_makes_azures_store_known(
    front_door: FrontDoor, tiny_dataset: TinyDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where no workspace's config.json is
    for name in ("AZUREML_ARM_SUBSCRIPTION", "AZUREML_ARM_RESOURCEGROUP", "AZUREML_ARM_WORKSPACE_NAME"):
        monkeypatch.delenv(name, raising=False)
    words: list[str | Path] = ["--datasets", tiny_dataset(), "--track", "mlflow", "--mlflow-tracking-uri", "azureml"]
    refusal = front_door([*words, "--run-dir", tmp_path / "run"])
    assert refusal.exit_code == 2
    assert refusal.stderr.startswith("error: --mlflow-tracking-uri azureml: the subscription id, resource group and ")
    assert not (tmp_path / "run").exists()
