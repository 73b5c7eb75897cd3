"""The Azure ML backend: the same run as a job in an Azure ML workspace, trained there by an inner backend.

python train.py --backend azure --azure-subscription-id ID --azure-resource-group RG --azure-workspace-name WS \
    --vm-size Standard_NC24ads_A100_v4 --epochs 100
python training/train_azure_ml.py --subscription-id ID --resource-group RG --workspace-name WS \
    --dataset HLBD_Hardcore_Full.json --epochs 100 --compute-name gpu-cluster --vm-size Standard_NC24ads_A100_v4
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[:] = [str(ROOT), *(p for p in sys.path if p and Path(p).resolve() != Path(__file__).parent)]

from training.azure.options import AzureOptions
from training.azure.validation import validate_azure
from training.backends.protocol import Availability, Feature, LaunchPlan, RunRequest, RunResult
from training.checkpoints.manifest import existing_form
from training.settings.section import Section
from training.settings.tree import TrainingConfig

if TYPE_CHECKING:
    from training.azure.going_on import EndedJob

PACKAGES = {"azure-ai-ml": ("azure", "ai", "ml"), "azure-identity": ("azure", "identity")}
"""Distribution -> its module's path."""


class AzureBackend:
    """Sends the run to Azure ML: checks it, uploads code and data, follows the job and brings the model back."""

    name: ClassVar[str] = "azure"
    Options: ClassVar[type[Section]] = AzureOptions
    unsupported: ClassVar[Mapping[Feature, str]] = {}
    preset: ClassVar[str | None] = None
    trains_elsewhere: ClassVar[bool] = True

    def __init__(self) -> None:
        self._resumed: EndedJob | None = None

    @classmethod
    def check(cls) -> Availability:
        """The SDK and its login."""
        for package, parts in PACKAGES.items():
            if not _is_installed(*parts):
                return Availability(
                    False, f"{package} is not installed", "pip install -e '.[azure]' -c constraints.txt"
                )
        return Availability(True)

    def validate(self, config: TrainingConfig) -> None:
        """See `Backend.validate`. What only the service knows is looked up by `run`, before anything is uploaded."""
        validate_azure(config)

    def plan(self, config: TrainingConfig) -> LaunchPlan | None:
        """Nothing is started on this machine; Azure starts the ranks."""
        return None

    def dry_run(self, request: RunRequest) -> Iterator[str]:
        """The job as `az ml job create` takes it, then as comments what goes along and what costs money."""
        from training.azure.departure import dry_run_lines

        return dry_run_lines(request)

    def settings_of_run(self, run: str, config: TrainingConfig) -> dict[str, Any]:
        """The config.yaml in the run directory of a job. See `RemoteBackend.settings_of_run`.

        The job is kept for `run`, which goes on with it.
        """
        from training.azure.going_on import job_named, settings_of_job

        if existing_form(config.run.run_dir / run).exists():
            return {}  # a checkpoint of the run directory by its bare name, which brings no settings, as at home
        self._resumed = job_named(run, config)
        return settings_of_job(self._resumed)

    def run(self, request: RunRequest) -> RunResult:
        """Submit the job and follow it. See `Backend.run`."""
        from training.azure.departure import depart

        return depart(request, self._resumed)


def _is_installed(top: str, *below: str) -> bool:
    """Whether a module is there. `azure` is shared by many packages, and finding what is in it would import it."""
    found = importlib.util.find_spec(top)
    places = found.submodule_search_locations if found is not None else None
    return any(Path(place, *below).is_dir() for place in places or ())


if __name__ == "__main__":
    from training.launch.worker import leave
    from training.train import main

    leave(main(backend_name="azure"))
