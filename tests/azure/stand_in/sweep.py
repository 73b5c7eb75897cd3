"""A sweep: trials with values of their own, so many at a time, and which of them was best."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.azure.stand_in.early_termination import doomed
from tests.azure.stand_in.job import Job
from tests.azure.stand_in.machine import Machine, seconds_of
from tests.azure.stand_in.search_space import samples
from tests.azure.stand_in.tracking import Tracking

_LOOK_SECONDS = 0.2


def run_sweep(sweep: Job, machine: Machine, tracking: Tracking, run: Callable[[Job], None]) -> None:
    """From the queue to the end.

    Args:
        sweep: the job.
        machine: it tells whether jobs are kept in the queue.
        tracking: what trials have logged.
        run: carries a trial out, and returns when it has ended.
    """
    sweep.status = "Queued"
    while not machine.open.is_set() and not sweep.cancelled.is_set():
        time.sleep(0.02)
    sweep.status = "Running"
    limits = sweep.asked.get("limits") or {}
    end = time.monotonic() + (seconds_of(limits.get("timeout")) or 1e9)
    trials = int(limits.get("maxTotalTrials") or 1000)
    at_once = int(limits.get("maxConcurrentTrials") or trials)
    waiting = samples(sweep.asked["searchSpace"], sweep.asked["samplingAlgorithm"], trials)
    threads: dict[str, threading.Thread] = {}
    try:
        while True:
            running = [name for name, thread in threads.items() if thread.is_alive()]
            if sweep.cancelled.is_set() or time.monotonic() > end:
                sweep.cancelled.set()
                break
            if len(running) < at_once:
                values = next(waiting, None)
                if values is not None:
                    trial = _trial(sweep, len(sweep.children), values)
                    threads[trial.name] = threading.Thread(target=run, args=(trial,), name=trial.name, daemon=True)
                    threads[trial.name].start()
                    continue
            if not running:
                break
            _end_the_worst(sweep, running, tracking)
            time.sleep(_LOOK_SECONDS if sweep.asked.get("earlyTermination") else 0.02)
    finally:
        if sweep.cancelled.is_set():
            for child in sweep.children:
                child.cancelled.set()
        for thread in threads.values():
            thread.join()
    _note_the_best(sweep, tracking)
    failed = [child for child in sweep.children if child.status == "Failed"]
    if sweep.cancelled.is_set():
        sweep.status = "Canceled"
    elif sweep.children and len(failed) == len(sweep.children):
        sweep.error = f"All {len(failed)} trials failed; of {failed[0].name}: {failed[0].error}"
        sweep.status = "Failed"
    else:
        sweep.status = "Completed"


def _trial(sweep: Job, number: int, values: Mapping[str, Any]) -> Job:
    asked = sweep.asked
    part = asked["trial"]
    name = f"{sweep.name}_{number}"
    written = json.dumps(dict(values))
    limit = (asked.get("limits") or {}).get("trialTimeout")
    child = Job(
        sweep.workspace,
        name,
        {
            **part,
            "jobType": "Command",
            "displayName": name,
            "experimentName": sweep.experiment,
            "computeId": asked.get("computeId"),
            "inputs": asked.get("inputs") or {},
            "outputs": asked.get("outputs") or {},
            "queueSettings": asked.get("queueSettings"),
            "resources": {**(asked.get("resources") or {}), **(part.get("resources") or {})},
            "limits": {"jobLimitsType": "Command", "timeout": limit} if limit else None,
            "tags": {**sweep.tags, "_aml_system_hyperparameters": written, "hyperparameters": written},
            "properties": {"azureml.runsource": "hyperdrive", "runTemplate": "automl_child"},
        },
        parent=sweep,
        number=number,
        values=dict(values),
    )
    sweep.children.append(child)
    sweep.workspace.jobs[name] = child
    return child


def _end_the_worst(sweep: Job, running: list[str], tracking: Tracking) -> None:
    policy = sweep.asked.get("earlyTermination")
    if not policy:
        return
    metric = sweep.asked["objective"]["primaryMetric"]
    histories = {child.name: tracking.history(child, metric) for child in sweep.children}
    for name in doomed(policy, sweep.asked["objective"]["goal"], running, histories):
        sweep.workspace.jobs[name].cancelled.set()


def _note_the_best(sweep: Job, tracking: Tracking) -> None:
    """The trial that has reported the best value of all, as properties of the sweep."""
    goal, metric = sweep.asked["objective"]["goal"], sweep.asked["objective"]["primaryMetric"]
    best = min if goal.lower() == "minimize" else max
    scores = {child.name: best(h) for child in sweep.children if (h := tracking.history(child, metric))}
    sweep.properties["primary_metric_config"] = json.dumps({"name": metric, "goal": goal.lower()})
    if scores:
        winner = best(scores, key=lambda name: scores[name])
        sweep.properties |= {
            "best_child_run_id": winner,
            "score": str(scores[winner]),
            "best_metric_status": "Succeeded",
            "best_data_container_id": f"dcid.{winner}",
        }
