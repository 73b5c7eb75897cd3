"""All that is known of one job: lines for a terminal, a document for programs."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

from tools.cloud_jobs.listing import stored_report
from tools.cloud_jobs.named_job import NamedJob
from training.azure.follow.job_outcome import log_lines
from training.azure.follow.sweep import look_at_sweep
from training.azure.service.errors import service_refusals
from training.azure.service.jobs import RunHistory, history_of
from training.experiments.sweep.trials import Sweep, table_lines
from training.machine.units import as_duration


def document_of(job: NamedJob) -> dict[str, Any]:
    """Collect all that is known of a job, as plain data.

    Raises:
        UserError: the service refuses.
    """
    state = job.state
    with service_refusals(f"looking at job {state.job}"):
        history = history_of(job.workspace, state.job)
    is_ours = job.handle is not None
    sweep = look_at_sweep(job.workspace, job.own_handle(), state) if state.is_sweep and is_ours else None
    has_log = state.status == "Failed" and not state.is_sweep
    report = {} if sweep is not None else stored_report(job.workspace, state)
    return {
        "job": state.job,
        "kind": state.kind,
        "status": state.status,
        "experiment": state.experiment,
        "created": state.created,
        "started": history.started,
        "ended": history.ended,
        "error": history.error,
        "studio": state.studio_url,
        "run": None if state.run is None else {"datastore": state.run[0], "path": state.run[1]},
        "run_dir": str(job.run_dir) if job.run_dir.is_dir() else None,
        "tags": dict(state.tags),
        "logs": sorted(history.log_urls),
        "step": report.get("step"),
        "total_steps": report.get("total_steps"),
        "loss": (report.get("latest") or {}).get("loss"),
        "eval_loss": (report.get("evaluations") or [{}])[-1].get("loss"),
        "sweep": None if sweep is None else _sweep_document(sweep),
        "last_of_log": log_lines(job.workspace, state, history) if has_log else [],
    }


def lines_of(document: dict[str, Any]) -> list[str]:
    """Format the document as lines."""
    history = RunHistory(document["started"], document["ended"], document["error"], {})
    ran = history.seconds
    if ran is None and history.started is not None and history.ended is None:
        ran = max(0.0, time.time() - history.started)
    facts = {
        "job": document["job"],
        "state": document["status"] + (f", ran for {as_duration(ran)}" if ran is not None else ""),
        "created": None if document["created"] is None else _ago(document["created"]),
        "experiment": document["experiment"],
        "Studio": document["studio"],
        "backend": document["tags"].get("inner_backend"),
        "run": _place(document),
        "here": document["run_dir"],
        "step": None if document["step"] is None else f"{document['step']} of {document['total_steps']}",
        "loss": None if document["loss"] is None else f"{document['loss']:.4f}",
        "eval loss": None if document["eval_loss"] is None else f"{document['eval_loss']:.4f}",
        "error": document["error"],
        "logs": ", ".join(document["logs"]) or None,
    }
    lines = [f"{name:11}{value}" for name, value in facts.items() if value]
    below = document["last_of_log"] if document["sweep"] is None else document["sweep"]["table"]
    return [*lines, *(["", *below] if below else [])]


def to_json(document: dict[str, Any]) -> str:
    """Format the document as JSON, without the lines that only a terminal shows."""
    sweep = document["sweep"]
    plain = None if sweep is None else {key: value for key, value in sweep.items() if key != "table"}
    kept = {key: value for key, value in document.items() if key != "last_of_log"}
    return json.dumps({**kept, "sweep": plain}, ensure_ascii=False, indent=1)


def _sweep_document(sweep: Sweep) -> dict[str, Any]:
    best = sweep.best
    return {
        "metric": sweep.metric,
        "goal": sweep.goal,
        "best": best.job if best is not None else None,
        "trials": [asdict(trial) for trial in sweep.trials],
        "table": table_lines(sweep),
    }


def _place(document: dict[str, Any]) -> str | None:
    if document["run"] is None:
        return None
    place = "{datastore}: {path}".format(**document["run"])
    # Azure fills in the name when a trial begins.
    return place.replace("${{name}}", "TRIAL") + (", one for each trial" if document["kind"] == "sweep" else "")


def _ago(moment: float) -> str:
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
    return f"{shown} ({as_duration(max(0.0, time.time() - moment))} ago)"
