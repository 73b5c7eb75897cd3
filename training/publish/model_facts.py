"""What is known of a trained model that is about to be published: gathered from what its run left behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.checkpoints.checkpoint import load_checkpoint
from training.checkpoints.finished_model import TrainedModel
from training.checkpoints.manifest import is_checkpoint
from training.checkpoints.run_directory import CONFIG_NAME, FINAL_NAME, MODEL_DIRECTORY
from training.checkpoints.single_file import digest
from training.errors import UserError
from training.record.reporter import read_report
from training.settings.tree import ModelOptions
from training.settings.yaml_files import read_yaml

VERIFICATION_NAME = "verification.json"
"""Where a run's directory is searched for a report of tools/verify_hlbd_model.py --json."""
VERIFICATION_FORMAT, VERIFICATION_VERSION = "apt-verification", 1


@dataclass(frozen=True)
class ModelFacts:
    """A model and its past, as far as it is known. None: it is not."""

    config: ModelOptions
    num_parameters: int
    num_characters: int
    tags: tuple[str, ...]
    source: str
    """Name of the file or directory that the model was read from."""
    is_final: bool
    """Whether it is a finished run's model, and not a checkpoint of it."""
    is_best: bool
    """Whether a finished run chose its best weights for its model, and not its last."""
    step: int | None
    """Updates that the model has had."""
    settings: dict[str, Any] | None
    """`TrainingConfig.to_dict()` of its run."""
    report: dict[str, Any] | None
    """`experiment_report.json` of its run."""
    verification: dict[str, Any] | None
    """What the verifier found."""
    notes: tuple[str, ...] = ()
    """What was found and not used, and why; for the user, not for the card."""


def facts_of(trained: TrainedModel, verification: Path | None = None) -> ModelFacts:
    """Gather the facts from around the place that a model was read from.

    Args:
        trained: the model.
        verification: a verifier's report; None: the run's `verification.json` if there is one.

    Raises:
        UserError: `verification` is no verifier's report, or another model's.
    """
    origin = trained.origin
    tokenizer: Mapping[str, Any] = trained.artefacts.get("tokenizer", {})
    run_dir = origin.resolve().parent
    report = read_report(run_dir)
    if report is not None and report.get("num_parameters") != trained.num_parameters():
        report = None  # the model was copied into another run's directory
    step, settings = _of_payload(origin) if origin.is_file() or is_checkpoint(origin) else (None, None)
    is_final = origin.name in (FINAL_NAME, MODEL_DIRECTORY) and not is_checkpoint(origin)
    if step is None and report is not None and is_final:
        step = report["step"]
        if (run_dir / CONFIG_NAME).is_file():
            settings = read_yaml(run_dir / CONFIG_NAME)
    is_best = is_final and bool((settings or {}).get("checkpoint", {}).get("load_best_model_at_end"))
    if is_best:
        step = ((report or {}).get("best") or {}).get("step")
    found, notes = _verification(trained, verification, run_dir)
    return ModelFacts(
        config=trained.options,
        num_parameters=trained.num_parameters(),
        num_characters=len(tokenizer.get("characters", ())),
        tags=tuple(tokenizer.get("tags", ())),
        source=origin.name,
        is_final=is_final,
        is_best=is_best,
        step=step,
        settings=settings,
        report=report,
        verification=found,
        notes=notes,
    )


def _of_payload(origin: Path) -> tuple[int | None, dict[str, Any] | None]:
    payload = load_checkpoint(origin)
    return payload.get("step"), payload.get("config")


def _verification(
    trained: TrainedModel, given: Path | None, run_dir: Path
) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """(the verifier's report on this very model, notes)."""
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
    advice = "make it with tools/verify_hlbd_model.py --json"
    if given is not None:
        raise UserError(f"--verification {given}: {fault}; {advice}")
    return None, (f"{path} is left out of the card: {fault}; {advice}",)


def _read_verification(path: Path) -> tuple[dict[str, Any] | None, str | None]:
    """(the report, what is wrong with it)."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        return None, f"it cannot be read ({error.strerror})"
    except ValueError:
        return None, "it is not JSON"
    if not isinstance(document, dict) or document.get("format") != VERIFICATION_FORMAT:
        return None, "it is not a verifier's report"
    if document.get("schema_version") != VERIFICATION_VERSION:
        return None, f"its schema version is {document.get('schema_version')!r}, this program reads 1"
    return document, None
