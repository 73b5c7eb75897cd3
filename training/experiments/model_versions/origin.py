"""Everything that is known of a model that becomes a version: gathered from its run, and from the verifier's report.

The figures have the names that the experiment store gives them, so that a gate reads like a `--where`. Those of the
validation (`val_…`) are kept only if they were measured on the very weights that the model holds. No torch, unless
there is a verifier's report: only with the weights can be said whether it is about them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from training.checkpoints.run_directory import CONFIG_NAME, MODEL_DIRECTORY, run_directory_of
from training.checkpoints.run_lock import is_locked
from training.checkpoints.run_search import VERSION_NAME
from training.errors import UserError, printable
from training.experiments.model_versions.version import (
    FileHash,
    Parent,
    SourceRun,
    Version,
    file_faults,
    hash_of,
    model_files,
    read_version,
)
from training.experiments.store.rows import read_run
from training.models.named_model import named_model
from training.record.log import LOG_NAME, REPORT_NAME, complete_lines, read_report
from training.record.schema import Event, is_number, parse_event, text
from training.storage.checksums import check_checksums
from training.storage.json_files import as_declared, open_regular
from training.tasks.card import VERIFICATION_NAME, VerifiedShare, VerifierReport

VERIFIER = "verifier"
"""First part of the names of the verifier's figures."""
OVERALL = "overall"
"""Label of the verifier's figures over all modules; of data with one module there is only that."""
_SHARES = ("train", "validation", "paraphrase", "new_fact", "contrast_groups")
_BASE_MODEL = "model.base_model"


@dataclass(frozen=True)
class Origin:
    """A model that is to be registered, with what is known of it."""

    model: Path
    """Directory with the model's files."""
    files: Mapping[str, FileHash]
    """The model's files, by path within it."""
    beside: Mapping[str, tuple[Path, FileHash]]
    """Further files that the version keeps, by their name in it."""
    family: str
    task: str | None
    settings: Mapping[str, Any] | None
    config_hash: str | None
    data_fingerprint: str | None
    figures: Mapping[str, float | None]
    run: SourceRun | None
    started_from: str | None
    notes: tuple[str, ...]
    """Things that were found and not used, with the reason; one line each."""

    @property
    def copied(self) -> dict[str, tuple[Path, FileHash]]:
        """The files of a version that is made of it, by path within the version."""
        inside = {f"{MODEL_DIRECTORY}/{name}": (self.model / name, found) for name, found in self.files.items()}
        return {**inside, **self.beside}

    def version(self, name: str, number: int, now: float, note: str, digest: str, parent: Parent | None) -> Version:
        """Return the document of a version that is made of it.

        Args:
            name: of the model.
            number: of the version.
            now: Unix seconds.
            note: what a person says of it.
            digest: of the model's files.
            parent: the version that it was trained on from.
        """
        files = {name: found for name, (_, found) in sorted(self.copied.items())}
        return Version(
            name=name, number=number, registered_at=round(now, 3), note=note, family=self.family, task=self.task,
            digest=digest, files=files, settings=self.settings, config_hash=self.config_hash,
            data_fingerprint=self.data_fingerprint, figures=self.figures, run=self.run, parent=parent,
            started_from=self.started_from,
        )  # fmt: skip


def origin_of(path: Path, verification: Path | None = None) -> Origin:
    """Gather what is known of a finished model.

    Args:
        path: a run directory, a directory with a model, or a version that was pulled.
        verification: a verifier's report on the model; None: the run's own, where it is about these weights.

    Raises:
        UserError: there is no finished model, it is damaged or its run goes on, or `verification` is about another one.
    """
    model, family = _model_in(path)
    check_checksums(model)
    files = {name: _hash_of(file) for name, file in model_files(model).items()}
    directory = model.parent
    if model.name == MODEL_DIRECTORY and (directory / VERSION_NAME).is_file():
        return _of_version(model, files, directory, verification)
    run_dir = run_directory_of(model)
    if model.name != MODEL_DIRECTORY or not any((run_dir / name).is_file() for name in (LOG_NAME, REPORT_NAME)):
        report, figures, notes = _verified(model, verification, None)
        beside = _hashed({VERIFICATION_NAME: report} if report is not None else {})
        return Origin(model, files, beside, family, None, None, None, None, figures, None, None, notes)
    return _of_run(model, files, family, run_dir, verification)


def verifier_figures(model: Path, verification: Path) -> dict[str, float]:
    """Return the figures of a verifier's report on a model, by name: `verifier.new_fact`.

    Args:
        model: directory with the model's files; it is loaded.
        verification: the report.

    Raises:
        UserError: it is no such report, or is about other weights.
    """
    return _verified(model, verification, None)[1]


# -- places --------------------------------------------------------------------------------------------------------


def _model_in(path: Path) -> tuple[Path, str]:
    """Return the directory of the model that a path names, and its family.

    Raises:
        UserError: there is none.
    """
    if not path.exists():
        raise UserError(f"{path}: there is no such run or model")
    found = named_model(str(path.absolute()), "a version is made of a finished model;")
    assert found.base is not None  # a path that is there names no family
    return Path(found.base), found.family


def _hash_of(path: Path) -> FileHash:
    try:
        return hash_of(path)
    except OSError as error:
        raise UserError(f"{path}: it cannot be read ({error.strerror})") from error


def _hashed(paths: Mapping[str, Path]) -> dict[str, tuple[Path, FileHash]]:
    return {name: (path, _hash_of(path)) for name, path in paths.items()}


def _of_version(model: Path, files: Mapping[str, FileHash], directory: Path, verification: Path | None) -> Origin:
    """Return the origin of a model that lies in a version, pulled or of another registry: it keeps what is known of it.

    Raises:
        UserError: a file of it is not as its document says.
    """
    known = read_version(directory)
    if (fault := next(file_faults(directory, known), None)) is not None:
        raise UserError(f"{directory}: {fault.path} is {fault.damage.value}, {fault.detail}; pull the version again")
    report, more, notes = _verified(model, verification, directory)
    names = [CONFIG_NAME, REPORT_NAME]
    paths = {name: directory / name for name in names if name in known.files}
    figures = {name: value for name, value in known.figures.items() if not (more and name.startswith(f"{VERIFIER}."))}
    return Origin(
        model, files, _hashed(paths | ({VERIFICATION_NAME: report} if report is not None else {})), known.family,
        known.task, known.settings, known.config_hash, known.data_fingerprint, {**figures, **more}, known.run,
        known.started_from, notes,
    )  # fmt: skip


# -- the run -------------------------------------------------------------------------------------------------------


def _of_run(
    model: Path, files: Mapping[str, FileHash], family: str, run_dir: Path, verification: Path | None
) -> Origin:
    if is_locked(run_dir):
        raise UserError(f"{run_dir}: the run is at work, and may write another model any time; wait for its end")
    step = _model_step(run_dir)
    try:
        run = read_run(run_dir, ".")
    except OSError as error:
        raise UserError(f"{run_dir}: its record cannot be read ({error.strerror or error})") from error
    faults: list[str] = []
    report = read_report(run_dir, faults) or {}
    verified, more, notes = _verified(model, verification, run_dir)
    paths = {name: run_dir / name for name in (CONFIG_NAME, REPORT_NAME) if (run_dir / name).is_file()}
    source = SourceRun(
        run.row.run_id, printable(run_dir.resolve()), run.row.state, run.row.started_at, run.row.ended_at, step
    )
    figures = {name: _finite(value) for name, value in _of_weights(run.figures, report, step).items()}
    base = run.settings.get(_BASE_MODEL)
    return Origin(
        model, files, _hashed(paths | ({VERIFICATION_NAME: verified} if verified is not None else {})), family,
        run.row.task, {key: _plain(value) for key, value in run.settings.items()} or None,
        text(report.get("curve_hash")), text(report.get("data_fingerprint")), {**figures, **more}, source,
        printable(base) if isinstance(base, str) else None, (*faults, *notes),
    )  # fmt: skip


def _model_step(run_dir: Path) -> int | None:
    """Return the number of updates of the finished model that a run's log speaks of; None: it does not say.

    Raises:
        UserError: the run went on after it had saved the model: its record is that of later weights.
    """
    step: int | None = None
    try:
        with open_regular(run_dir / LOG_NAME) as file:
            for event in _endings(file):
                if event["event"] == "final_model":
                    step = event["step"]
                elif step is not None:
                    step = -1
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{run_dir / LOG_NAME}: it cannot be read ({error.strerror})") from error
    if step == -1:
        raise UserError(
            f"{run_dir}: the run went on after it had saved {MODEL_DIRECTORY}/, so its figures are those of later "
            "weights; let it come to its end (--resume), which saves the model again"
        )
    return step


def _endings(file: IO[bytes]) -> Iterator[Event]:
    """Yield the events of a log that save a finished model, or go on after one. The others are not parsed."""
    for line in complete_lines(file):
        if b'"final_model"' in line or b'"run_resumed"' in line:
            event = parse_event(line)
            if event is not None and event["event"] in ("final_model", "run_resumed"):
                yield event


def _of_weights(figures: Mapping[str, float], report: Mapping[str, Any], step: int | None) -> dict[str, float]:
    """Return a run's figures with the validation of these weights in place of the last one.

    Args:
        figures: as the store has them.
        report: of the run.
        step: updates that the model has had; None: not known, and so is its validation.
    """
    found = {name: value for name, value in figures.items() if not name.startswith("val_")}
    rows = [row for row in report.get("evaluations", ()) if isinstance(row, dict) and row.get("step") == step]
    if not rows or step is None:
        return found
    bad = rows[-1].get("nonfinite") or ()
    for name, value in rows[-1].items():
        if is_number(value):
            found[f"val_{name}"] = float(value)
        elif name in bad:
            found[f"val_{name}"] = math.nan
    return found


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(value: Any) -> Any:
    """Return a setting's value as JSON can hold it."""
    if isinstance(value, dict):
        return {printable(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int) else printable(value)


# -- the verifier's report -----------------------------------------------------------------------------------------


def _verified(
    model: Path, given: Path | None, place: Path | None
) -> tuple[Path | None, dict[str, float], tuple[str, ...]]:
    """Return the verifier's report on this model, its figures, and notes for the user.

    Args:
        model: directory with the model's files.
        given: a report that must be about it.
        place: a directory in which a report may lie, which is left out if it is about another model.
    """
    path = given if given is not None else place / VERIFICATION_NAME if place is not None else None
    if path is None or (given is None and not path.is_file()):
        return None, {}, ()
    from training.checkpoints.finished_model import load_trained_model
    from training.publish.model_facts import verification_of

    try:
        trained = load_trained_model(model)
    except UserError as error:
        if given is not None:
            raise
        return None, {}, (f"{path} is left out: the model cannot be loaded ({error})",)
    document, notes = verification_of(trained, given, path.parent)
    if document is not None and document.get("weights") is None:
        fault = f"{path}: it does not say which weights it is about; make it with the verifier and its flag --json"
        if given is not None:
            raise UserError(f"--verification {fault}")
        return None, {}, (fault,)
    if document is None:
        return None, {}, notes
    return path, dict(_figures_of_verifier(as_declared(document, VerifierReport, path))), notes


def _figures_of_verifier(report: VerifierReport) -> Iterator[tuple[str, float]]:
    yield f"{VERIFIER}.shortcuts_found", float(sum(shortcut.verdict == "found" for shortcut in report.shortcuts))
    rows = {module.label: module for module in report.modules}  # the last one of a label: `overall` comes after modules
    overall = rows.pop(OVERALL, None) or next(iter(rows.values()), None)
    named = [(VERIFIER, overall)] if overall is not None else []
    for prefix, module in [*named, *((f"{VERIFIER}.{printable(label)}", module) for label, module in rows.items())]:
        for name in _SHARES:
            share: VerifiedShare | None = getattr(module, name)
            if share is not None:
                yield f"{prefix}.{name}", share.rate
                yield f"{prefix}.{name}.low", share.low
                yield f"{prefix}.{name}.high", share.high
