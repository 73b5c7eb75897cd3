"""Azure ML backend: the same run as a job in an Azure ML workspace, where an inner backend trains it.

python train.py --backend azure --azure-subscription-id ID --azure-resource-group RG --azure-workspace-name WS \
    --vm-size Standard_NC24ads_A100_v4 --epochs 100
python training/train_azure_ml.py --subscription-id ID --resource-group RG --workspace-name WS \
    --dataset HLBD_Hardcore_Full.json --epochs 100 --compute-name gpu-cluster --vm-size Standard_NC24ads_A100_v4
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[:] = [str(ROOT), *(p for p in sys.path if p and Path(p).resolve() != Path(__file__).parent)]
    from training.machine.startup import begin

    begin()

from training.azure.settings.options import AzureOptions, options_of
from training.azure.settings.validation import validate_azure
from training.backends.protocol import Availability, Feature, LaunchPlan, RunRequest, RunResult
from training.backends.registry import BACKENDS
from training.checkpoints.manifest import existing_form
from training.checkpoints.run_directory import RunDirectory
from training.settings.section import Section
from training.settings.tree import TrainingConfig

if TYPE_CHECKING:
    from training.azure.submit.resume_source import EndedJob

PACKAGES = {"azure-ai-ml": ("azure", "ai", "ml"), "azure-identity": ("azure", "identity")}
"""Distribution -> path of its module."""


class AzureBackend:
    """Backend that sends a run to Azure ML: it uploads code and data, follows the job and downloads the model."""

    name: ClassVar[str] = "azure"
    Options: ClassVar[type[Section]] = AzureOptions
    unsupported: ClassVar[Mapping[Feature, str]] = {}
    preset: ClassVar[str | None] = None
    trains_elsewhere: ClassVar[bool] = True

    def __init__(self) -> None:
        self._resumed: EndedJob | None = None

    @classmethod
    def check(cls) -> Availability:
        """Check that the SDK is installed."""
        for package, parts in PACKAGES.items():
            if not _is_installed(*parts):
                return Availability(
                    False, f"{package} is not installed", "pip install -e '.[azure]' -c constraints.txt"
                )
        return Availability(True)

    def validate(self, config: TrainingConfig) -> None:
        """Check the settings offline. See `Backend.validate`; `run` asks the service before anything is uploaded."""
        validate_azure(config)

    def plan(self, config: TrainingConfig) -> LaunchPlan | None:
        """Return None: no ranks are started on this machine, Azure starts them."""
        return None

    def batch_sizes_in_file(self, config: TrainingConfig, ranks: int) -> tuple[Mapping[str, int], str] | None:
        """See `Backend`: those in a file of the inner backend's."""
        inner = BACKENDS.load(options_of(config).inner_backend)()
        in_file = getattr(inner, "batch_sizes_in_file", None)
        return None if in_file is None else in_file(config, ranks)

    def dry_run(self, request: RunRequest) -> Iterator[str]:
        """Yield the job in the form of `az ml job create`, then as comments what is uploaded and what costs money."""
        from training.azure.submit.submit_run import dry_run_lines

        return dry_run_lines(request)

    def settings_of_run(self, run: str, config: TrainingConfig) -> dict[str, Any]:
        """Read the config.yaml in the run directory of a job. See `RemoteBackend.settings_of_run`.

        The job is kept for `run`, which continues it.
        """
        from training.azure.submit.resume_source import job_named, settings_of_job

        if existing_form(config.run.run_dir / run).exists():
            return {}  # the bare name of a checkpoint in the run directory, which has no settings, as in a local run
        self._resumed = job_named(run, config)
        return settings_of_job(self._resumed)

    def run(self, request: RunRequest) -> RunResult:
        """Submit the run as a job, follow it and download its results. See `Backend.run`."""
        from training.azure.fetch.collect_results import collect_results
        from training.azure.follow.watch import follow
        from training.azure.service.interrupts import exit_code_of, name_of, sigterm_raises
        from training.azure.service.job_file import command
        from training.azure.submit.submit_run import report_interrupted_submission, submit_run

        options, run_dir = options_of(request.config), request.config.run.run_dir
        # An old run is deleted only when the new one is submitted.
        directory = RunDirectory(run_dir, resume=request.resume or request.overwrite)
        began = time.time()
        try:
            with sigterm_raises():
                try:
                    workspace, handle = submit_run(request, self._resumed)
                except KeyboardInterrupt as stop:
                    report_interrupted_submission(run_dir, began)
                    return RunResult("stopped", 0, exit_code_of(stop))
                if options.detach:
                    print(f"job {handle.job} is submitted. To follow it: {command('stream', run_dir)}")
                    print(f"To cancel it: {command('cancel', run_dir)}", flush=True)
                    return RunResult("submitted", 0)
                exit_code = follow(workspace, handle, run_dir)
                if exit_code != 0:
                    return RunResult("stopped", 0, exit_code)
                try:
                    collect_results(workspace, handle, run_dir, options.download)
                except KeyboardInterrupt as stop:
                    print(f"{name_of(stop)}: job {handle.job} has completed, and not all of it is done here. To go on:")
                    print(command("stream", run_dir), flush=True)
                    return RunResult("finished", 0, exit_code_of(stop))
                return RunResult("finished", 0)
        finally:
            directory.release()


def _is_installed(top: str, *below: str) -> bool:
    """Return True if a module is installed, without importing `azure`, which many packages share."""
    found = importlib.util.find_spec(top)
    places = found.submodule_search_locations if found is not None else None
    return any(Path(place, *below).is_dir() for place in places or ())


if __name__ == "__main__":
    from training.launch.worker import leave
    from training.train import main

    leave(main(backend_name="azure"))
