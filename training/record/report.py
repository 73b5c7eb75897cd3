"""The bounded snapshot of a run: what `experiment_report.json` holds, folded from the events one by one. No torch.

The fold is a pure function of the events, so the file on disk and a fold of the log always agree. A resumed run rewinds
its record: `without_superseded` takes out what was done again before the events are folded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

SCHEMA_VERSION = 1
MAX_POINTS_PER_EPOCH = 100
MAX_POINTS = 1000
MAX_EPOCHS = 500
MAX_REMEMBERED = 50
"""Checkpoints and warnings that are listed; all are counted."""
MAX_RANKS = 64
"""Ranks whose memory is listed."""

CURVE_KEYS = (
    "step", "epoch", "loss", "perplexity", "accuracy", "grad_norm", "learning_rate",
    "tokens_per_second", "forward_ms", "backward_ms", "skipped",
)  # fmt: skip


def perplexity(loss: float | None) -> float | None:
    """exp(loss), or None where it would overflow or the loss is not a number."""
    return math.exp(loss) if loss is not None and loss < 700.0 else None


def without_superseded(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events that count: those behind the step from which the run was later resumed are dropped."""
    kept: list[dict[str, Any]] = []
    for event in events:
        if event["event"] == "run_resumed":
            kept = [e for e in kept if e.get("step", 0) <= event["step"] or e["event"] == "run_resumed"]
        kept.append(event)
    return kept


class EpochSums:
    """Token-weighted sums of an epoch's updates."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.loss_sum = self.accuracy_sum = 0.0
        self.weight = self.tokens = self.last_step = 0

    def add(self, event: dict[str, Any]) -> None:
        """Count one update; one whose loss is not finite has no weight."""
        self.last_step = event["step"]
        self.tokens += event.get("tokens", 0)
        if event.get("loss") is not None:
            weight = event.get("loss_tokens", 1)
            self.loss_sum += event["loss"] * weight
            self.accuracy_sum += (event.get("accuracy") or 0.0) * weight
            self.weight += weight

    def to_dict(self) -> dict[str, Any]:
        """The epoch's means."""
        loss = self.loss_sum / self.weight if self.weight else None
        return {
            "epoch": self.epoch,
            "step": self.last_step,
            "loss": loss,
            "perplexity": perplexity(loss),
            "accuracy": self.accuracy_sum / self.weight if self.weight else None,
            "tokens": self.tokens,
        }


class Report:
    """State of a run after the events so far."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.facts: dict[str, Any] = {}
        self.state = "unknown"
        self.batch = 0
        self.step = 0
        self.seconds = 0.0
        self.updated_at: float | None = None
        self.outcome: dict[str, Any] = {}
        self._last_time: float | None = None
        self._latest: dict[str, Any] = {}
        self._points: list[dict[str, Any]] = []
        self._stride = 1
        self._epochs: list[dict[str, Any]] = []
        self._epoch_stride = 1
        self._evals: list[dict[str, Any]] = []
        self._eval_stride = 1
        self._open_epoch: EpochSums | None = None
        self._best: dict[str, Any] | None = None
        self._checkpoints: list[dict[str, Any]] = []
        self._estimate: dict[str, Any] = {}
        self._memory: dict[str, Any] | None = None
        self._warnings: list[dict[str, Any]] = []
        self._num_warnings = 0
        self._num_skipped = 0

    @classmethod
    def of(cls, events: Iterable[dict[str, Any]]) -> Report:
        """The fold of a whole log."""
        snapshot = cls()
        for event in without_superseded(events):
            snapshot.apply(event)
        return snapshot

    def apply(self, event: dict[str, Any]) -> None:
        """Fold one event in. Unknown events change nothing but the time."""
        self.updated_at = event.get("time")
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is not None:
            handler(event)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, bounded in size whatever the length of the run."""
        epochs = list(self._epochs)
        if self._open_epoch is not None:
            epochs.append({**self._open_epoch.to_dict(), "unfinished": True})
        return {
            "schema_version": SCHEMA_VERSION,
            **self.facts,
            "state": self.state,
            "updated_at": self.updated_at,
            "step": self.step,
            "batch": self.batch,
            "training_seconds": round(self.seconds, 3),
            "latest": self._latest,
            "best": self._best,
            "curve": {key: [point.get(key) for point in self._points] for key in CURVE_KEYS},
            "curve_stride": self._stride,
            "epochs": epochs,
            "evaluations": list(self._evals),
            "checkpoints": list(self._checkpoints),
            "estimate": self._estimate_beside_fact(),
            "memory": self._memory,
            "warnings": list(self._warnings),
            "num_warnings": self._num_warnings,
            "num_skipped_updates": self._num_skipped,
            **self.outcome,
        }

    def _estimate_beside_fact(self) -> dict[str, dict[str, float | None]]:
        """What was expected, and what came true; None: not yet known."""
        ended = self.state == "finished" and self.step == self.facts.get("total_steps")
        facts = {
            "peak_memory_bytes": max(self._memory["peak_bytes"]) if self._memory else None,
            "checkpoint_bytes": self._checkpoints[-1].get("bytes") if self._checkpoints else None,
            "training_seconds": round(self.seconds, 3) if ended else None,
        }
        return {key: {"expected": self._estimate[key], "actual": facts[key]} for key in facts if key in self._estimate}

    # -- one method an event ---------------------------------------------------------------------------------------

    def _on_run_started(self, event: dict[str, Any]) -> None:
        self._reset()  # a run that starts has no past
        self.facts = _without(event, "event", "time")
        self.facts["started_at"] = event["time"]
        self.state, self.updated_at, self._last_time = "running", event["time"], event["time"]
        per_epoch = event.get("steps_per_epoch") or 1
        self._stride = max(1, math.ceil(per_epoch / MAX_POINTS_PER_EPOCH))

    def _on_run_resumed(self, event: dict[str, Any]) -> None:
        # What came after the step was taken out before the fold (`without_superseded`).
        self.state, self.outcome, self._last_time = "running", {}, event["time"]
        self.facts.update(_without(event, "event", "time", "step"))
        self.facts["resumed_at_steps"] = [*self.facts.get("resumed_at_steps", []), event["step"]][-MAX_REMEMBERED:]

    def _on_step(self, event: dict[str, Any]) -> None:
        epoch = event["epoch"]
        if self._open_epoch is None or self._open_epoch.epoch != epoch:
            self.close_epoch()
            self._open_epoch = EpochSums(epoch)
        self._open_epoch.add(event)
        point = {**_without(event, "event", "time"), "perplexity": perplexity(event.get("loss"))}
        self._latest = point
        self.step, self.batch = event["step"], event.get("batch", event["step"])
        self._num_skipped += bool(event.get("skipped"))
        if self._last_time is not None:
            self.seconds += max(0.0, event["time"] - self._last_time)
        self._last_time = event["time"]
        if self.step % self._stride == 0:
            self._points.append({key: point.get(key) for key in CURVE_KEYS})
            while len(self._points) > MAX_POINTS:
                self._stride *= 2
                self._points = [p for p in self._points if p["step"] % self._stride == 0]

    def close_epoch(self) -> None:
        """The present epoch has all its updates."""
        if self._open_epoch is None:
            return
        self._epochs.append(self._open_epoch.to_dict())
        self._open_epoch = None
        while len(self._epochs) > MAX_EPOCHS:
            self._epoch_stride *= 2
            self._epochs = [e for e in self._epochs if e["epoch"] % self._epoch_stride == 0]

    def _on_eval(self, event: dict[str, Any]) -> None:
        self._evals.append({**_without(event, "event", "time"), "perplexity": perplexity(event.get("loss"))})
        self._last_time = event["time"]
        while len(self._evals) > MAX_EPOCHS:
            self._eval_stride *= 2
            self._evals = [e for e in self._evals if e["epoch"] % self._eval_stride == 0]

    def _on_best(self, event: dict[str, Any]) -> None:
        self._best = _without(event, "event", "time")

    def _on_checkpoint(self, event: dict[str, Any]) -> None:
        self._checkpoints = [*self._checkpoints, _without(event, "event", "time")][-MAX_REMEMBERED:]
        self._last_time = event["time"]

    def _on_estimate(self, event: dict[str, Any]) -> None:
        self._estimate.update(_without(event, "event", "time", "step"))

    def _on_memory(self, event: dict[str, Any]) -> None:
        peaks, before = event["peak_bytes"][:MAX_RANKS], self._memory
        if not peaks:
            return  # not rank 0
        if before is not None and before["kind"] == event["kind"] and len(before["peak_bytes"]) == len(peaks):
            # A resumed run's processes begin anew; the run's peak is the highest of all.
            peaks = [max(pair) for pair in zip(before["peak_bytes"], peaks, strict=True)]
        self._memory = {"kind": event["kind"], "peak_bytes": peaks}

    def _on_recitation(self, event: dict[str, Any]) -> None:
        self.outcome["recitation"] = event["modules"]

    def _on_conclusion(self, event: dict[str, Any]) -> None:
        self.outcome.update(event["figures"])

    def _on_warning(self, event: dict[str, Any]) -> None:
        self._num_warnings += 1
        self._warnings = [*self._warnings, _without(event, "event")][-MAX_REMEMBERED:]

    def _on_run_finished(self, event: dict[str, Any]) -> None:
        self._end("finished", event)

    def _on_run_stopped(self, event: dict[str, Any]) -> None:
        self._end("stopped", event)

    def _on_run_failed(self, event: dict[str, Any]) -> None:
        self._end("failed", event)

    def _end(self, state: str, event: dict[str, Any]) -> None:
        if state == "finished":
            self.close_epoch()
        self.state = state
        self.outcome = {"ended_at": event["time"], **_without(event, "event", "time")}


def _without(event: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in keys}
