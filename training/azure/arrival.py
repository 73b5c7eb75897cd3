"""What becomes of a job that completed: its run is brought here, its model registered, and the user told what next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from training.azure.handle import JobHandle
from training.checkpoints.run_directory import MODEL_DIRECTORY
from training.record.reporter import read_report
from training.tasks.hlbd.training_answers import score_lines

if TYPE_CHECKING:
    from training.azure.workspace import Workspace


def arrive(workspace: Workspace, handle: JobHandle, run_dir: Path, what: Literal["final", "all", "none"]) -> None:
    """Download and register as the job was told to. The caller holds the run directory.

    Args:
        workspace: of the job.
        handle: of a job that completed; of a sweep its best trial counts.
        run_dir: where the record was mirrored.
        what: see `AzureOptions.download`.

    Raises:
        UserError: storage or service refuse; what was fetched stays, and the same call goes on with the rest.
    """
    from training.azure.download import download_run
    from training.azure.registration import register_model

    place = run_dir if what == "none" else download_run(workspace, handle, run_dir, what)
    if handle.register_model is not None:
        register_model(workspace, handle, handle.register_model)
    if what != "none":
        for line in recitation_lines(place):
            print(line)
        if (place / MODEL_DIRECTORY).is_dir():
            model = shlex.quote(str(place / MODEL_DIRECTORY))
            print(f"to look at it: python tools/verify_hlbd_model.py --model {model}", flush=True)


def recitation_lines(run_dir: Path) -> Iterator[str]:
    """What the trained model answered to its own training questions, as it is told at the end of a run here."""
    report = read_report(run_dir) or {}
    counts = {name: (one["right"], one["asked"]) for name, one in (report.get("recitation") or {}).items()}
    if counts:
        asked = sum(number for _, number in counts.values())
        yield f"answers to {asked} training questions, generated freely in the job:"
        yield from score_lines(counts)
