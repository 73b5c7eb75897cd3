"""Everything known of a trained model that is about to be published: gathered from what its run left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.checkpoints.finished_model import TrainedModel, with_its_run
from training.checkpoints.manifest import is_checkpoint
from training.checkpoints.run_directory import FINAL_NAME, MODEL_DIRECTORY, run_directory_of
from training.checkpoints.run_settings import with_names
from training.checkpoints.single_file import digest
from training.errors import ConfigError, UserError
from training.models.protocol import ModelFamily
from training.record.log import REPORT_NAME, read_report
from training.settings.tree import DEFAULT_TASK
from training.storage.json_files import DamagedFileError, as_declared, read_json
from training.tasks.card import VERIFICATION_NAME, CardFacts, VerifierReport
from training.tasks.protocol import BaseTask, Task
from training.tasks.registry import TASKS

VERIFICATION_FORMAT, VERIFICATION_VERSION = "apt-verification", 1
_DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64"}


@dataclass(frozen=True)
class ModelFacts(CardFacts):
    """The facts for the card, and who turns them into text."""

    family: ModelFamily
    described_by: Task | BaseTask
    """The task that it was trained on; a `BaseTask` where that is not known or not installed."""
    dtype: str
    """Arithmetic of the parameters: "fp32"."""
    notes: tuple[str, ...] = ()
    """Things that were found and not used, with the reason; for the user, not for the card."""


@dataclass(frozen=True)
class QuotedCurve:
    """What a card needs of a record's curve."""

    step: Sequence[int]
    loss: Sequence[float | None]


@dataclass(frozen=True)
class QuotedReport:
    """What a card needs of a run's report."""

    step: int
    total_steps: int
    training_seconds: float
    backend: str
    world_size: int
    device: str
    curve: QuotedCurve
    num_train_samples: int | None = None
    latest: Mapping[str, Any] = field(default_factory=dict)


def facts_of(trained: TrainedModel, verification: Path | None = None) -> ModelFacts:
    """Gather the facts from the surroundings of the place that a model was read from.

    Args:
        trained: the model.
        verification: a verifier's report; None: the run's `verification.json` if there is one.

    Raises:
        UserError: `verification` is not a verifier's report, or is about another model.
    """
    trained = with_its_run(trained)
    origin, step, settings = trained.origin, trained.step, trained.settings
    run_dir = run_directory_of(origin)
    faults: list[str] = []
    report = read_report(run_dir, faults)
    if report is not None and report.get("num_parameters") != trained.num_parameters():
        report = None  # the model was copied into another run's directory
    elif report is not None and not faults:
        try:
            as_declared(report, QuotedReport, REPORT_NAME)
        except DamagedFileError as error:
            faults.append(str(error))
    if faults:  # a card quotes a whole record or none
        report = None
    is_final = origin.name in (FINAL_NAME, MODEL_DIRECTORY) and not is_checkpoint(origin)
    if step is None and report is not None and is_final:
        step = report["step"]
    is_best = is_final and bool((settings or {}).get("checkpoint", {}).get("load_best_model_at_end"))
    if is_best:
        step = ((report or {}).get("best") or {}).get("step")
    found, notes = verification_of(trained, verification, run_dir)
    name = _task_name(settings, found)
    task, reason = _task(name)
    return ModelFacts(
        task=name,
        options=trained.options,
        num_parameters=trained.num_parameters(),
        artefacts=trained.artefacts,
        is_final=is_final,
        is_best=is_best,
        step=step,
        settings=settings,
        report=report,
        verification=found,
        family=trained.family,
        described_by=task,
        dtype=_dtype(trained),
        notes=(*(f"{run_dir}: nothing of the record is in the card: {fault}" for fault in faults[:1]), *notes, *reason),
    )


def _task_name(settings: Mapping[str, Any] | None, verification: dict[str, Any] | None) -> str | None:
    """Return the name of the task that a model was trained on; None: not known."""
    if settings is not None:
        name: str = with_names(settings)["task"]
        return name
    # Far from its run, a model is known by its verifier, which asks the questions of one task.
    return verification.get("task", DEFAULT_TASK) if verification is not None else None


def _task(name: str | None) -> tuple[Task | BaseTask, tuple[str, ...]]:
    """Return the task of this name, or one that knows nothing of the data with the reason why."""
    if name is None:
        return BaseTask(), ()
    try:
        return TASKS.load(name)(), ()
    except ConfigError as error:
        return BaseTask(), (f"the card says only what is true of any task: {error}",)


def _dtype(trained: TrainedModel) -> str:
    names = sorted({str(parameter.dtype).removeprefix("torch.") for parameter in trained.model.parameters()})
    return ", ".join(_DTYPES.get(name, name) for name in names)


def verification_of(
    trained: TrainedModel, given: Path | None, run_dir: Path
) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """Return the verifier's report on this very model, and notes for the user.

    Args:
        trained: the model.
        given: a report that must be about it; None: the one of `run_dir`, if there is one and it is.
        run_dir: directory of the model's run.

    Raises:
        UserError: `given` is not a verifier's report, or is about another model.
    """
    path = given or run_dir / VERIFICATION_NAME
    if given is None and not path.is_file():
        return None, ()
    document, fault = _read_verification(path)
    if document is not None:
        weights = document.get("weights")
        if document.get("num_parameters") != trained.num_parameters():
            fault = "it is about a model of another size"
        elif weights is not None and weights != digest(dict(trained.model.named_parameters())):
            fault = "it is about other weights"
    if fault is None:
        return document, ()
    advice = "make it with the verifier and its flag --json"
    if given is not None:
        raise UserError(f"--verification {given}: {fault}; {advice}")
    return None, (f"{path} is left out: {fault}; {advice}",)


def _read_verification(path: Path) -> tuple[dict[str, Any] | None, str | None]:
    """Return the report, or the reason why it cannot be used."""
    try:
        document = read_json(path)
    except OSError as error:
        return None, f"it cannot be read ({error.strerror})"
    except DamagedFileError as error:
        return None, f"it is {error.reason}"
    if not isinstance(document, dict) or document.get("format") != VERIFICATION_FORMAT:
        return None, "it is not a verifier's report"
    if document.get("schema_version") != VERIFICATION_VERSION:
        return None, f"its schema version is {document.get('schema_version')!r}, this program reads 1"
    try:
        as_declared(document, VerifierReport, path)
    except DamagedFileError as error:
        return None, f"it is damaged, {error.reason}"
    return document, None
