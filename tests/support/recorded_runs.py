"""Records of runs, written by the reporter itself: of any length, pace and end, without a model."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from training.record.reporter import ProgressReporter
from training.record.sample_pictures import SAMPLES_NAME, file_name
from training.tasks.metrics import Metric

SETTINGS: dict[str, Any] = {
    "model": {"attention": "autopoietic", "max_seq_len": 256, "vocab_size": 50},
    "data": {"pairs": "levels", "loss_on": "answer", "truncate": False, "validation_split": 0.1},
    "run": {"seed": 42},
    "report": {"report_batches": 10},
}


class RecordedRun:
    """A run that goes as far as it is told to, by a clock of its own.

    Args:
        path: its directory, made here.
        start: Unix seconds of its first event.
        seconds: per update.
        loss: loss of an update; by default a noisy decay.
        validation: loss of an epoch's validation; None: no validation.
        settings: by section, over `SETTINGS`.
        metrics: figures of a task that counts samples, with the value of each; None: a language model's run.
    """

    def __init__(
        self,
        path: Path,
        *,
        start: float,
        seconds: float = 1.0,
        total_steps: int = 100,
        steps_per_epoch: int = 10,
        loss: Callable[[int], float] | None = None,
        validation: Callable[[int], float] | None = None,
        backend: str = "playground",
        data: str = "0123456789abcdef",
        report_batches: int = 10,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        metrics: Mapping[Metric, float] | None = None,
    ) -> None:
        path.mkdir(parents=True, exist_ok=True)
        noise = random.Random(str(path.name))
        self.path, self.now, self.step = path, start, 0
        self.total_steps, self.steps_per_epoch, self._seconds = total_steps, steps_per_epoch, seconds
        self._loss = loss or (lambda step: 4.0 * math.exp(-3.0 * step / total_steps) * noise.uniform(0.9, 1.1) + 0.1)
        self._validation = validation
        self.facts = {
            "run_id": path.name, "backend": backend, "device": "cpu", "total_steps": total_steps,
            "num_epochs": math.ceil(total_steps / steps_per_epoch), "steps_per_epoch": steps_per_epoch,
            "data_fingerprint": data, "vocab_size": 50,
        }  # fmt: skip
        self._figures: dict[str, float] = {"accuracy": 0.5}
        self._measured: dict[str, float] = {"accuracy": 0.4}
        self._counts: dict[str, float] = {"tokens": 1000, "tokens_per_second": round(1000 / seconds, 1)}
        if metrics is not None:
            self._figures = self._measured = {metric.name: value for metric, value in metrics.items()}
            self._counts = {"samples": 8, "samples_per_second": round(8 / seconds, 1)}
            self.facts |= {"task": "regression", "metrics": [metric.to_dict() for metric in metrics]}
        own = settings or {}
        document = {name: {**SETTINGS.get(name, {}), **own.get(name, {})} for name in {**SETTINGS, **own}}
        (path / "config.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
        self.reporter = ProgressReporter(path, report_batches)
        self.reporter._clock = lambda: self.now
        self.reporter.run_started(**self.facts)

    def train(self, steps: int | None = None, **facts: Any) -> RecordedRun:
        """So many more updates, or all that are left."""
        for _ in range(steps if steps is not None else self.total_steps - self.step):
            self.now += self._seconds
            self.step += 1
            epoch = math.ceil(self.step / self.steps_per_epoch)
            self.reporter.step(
                step=self.step, epoch=epoch, batch=self.step, loss=self._loss(self.step), grad_norm=1.0,
                learning_rate=1e-3, loss_tokens=300, forward_ms=1.0, backward_ms=2.0, **self._figures, **self._counts,
                **facts,
            )  # fmt: skip
            if self.step % self.steps_per_epoch == 0 and self._validation is not None:
                loss = self._validation(epoch)
                self.reporter.evaluation(step=self.step, epoch=epoch, loss=loss, **self._measured)
                best = self.reporter.report.to_dict()["best"]
                if best is None or loss < best["loss"]:
                    self.reporter.emit("best", {"step": self.step, "epoch": epoch, "loss": loss})
        return self

    def draw(self, content: bytes) -> RecordedRun:
        """A picture of samples after the last update."""
        file = file_name(self.step)
        (self.path / SAMPLES_NAME).mkdir(exist_ok=True)
        (self.path / SAMPLES_NAME / file).write_bytes(content)
        self.reporter.samples(self.step, [f"{SAMPLES_NAME}/{file}"])
        return self

    def resume(self, step: int) -> RecordedRun:
        """Go on after an earlier update, as a new process does."""
        self.reporter = ProgressReporter(self.path, self.reporter.report_batches)
        self.reporter._clock = lambda: self.now
        self.step = step
        self.reporter.run_resumed(step, **self.facts)
        return self

    def wait(self, seconds: float) -> RecordedRun:
        """Nothing happens."""
        self.now += seconds
        return self

    def finish(self) -> RecordedRun:
        """It is done."""
        self.reporter.run_finished(reason="all steps done")
        return self

    def flush(self) -> RecordedRun:
        """Everything so far is on disk."""
        self.reporter.flush()
        return self
