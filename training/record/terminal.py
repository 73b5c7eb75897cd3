"""The terminal's view of a run: a progress bar with live figures, or plain lines where there is no terminal, and
everything that the run says.

Lines go to stdout and the bar to stderr; no line tears the bar.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from training.machine.terminal import terminal_size
from training.record.schema import Event, declared_metrics
from training.tasks.metrics import LANGUAGE_METRICS, Metric

SECONDS_BETWEEN_LINES = 10.0
BAR = "{desc} {percentage:3.0f}%|{bar:12}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"


def live_figures(event: Mapping[str, Any], metrics: Iterable[Metric] = LANGUAGE_METRICS) -> str:
    """Format one step event: `Loss 0.512 PPL 1.67 Acc 83.1% LR 3.0e-03 FW 21ms BW 43ms`.

    A measured metric that the event lacks is left out; `nan` and `inf` stand for what was not finite.
    """
    loss = event.get("loss")
    parts = [f"Loss {loss:.4f}" if loss is not None else "Loss nan"]
    for metric in metrics:
        if metric.derived == "exp_loss":
            value = metric.of_loss(loss)
            parts.append(f"{metric.label} {metric.text(value) if value is not None else 'inf'}")
        elif metric.name in event:
            value = event[metric.name]
            parts.append(f"{metric.label} {metric.text(value) if value is not None else 'nan'}")
    for key, form in (("learning_rate", "LR {:.2e}"), ("forward_ms", "FW {:.0f}ms"), ("backward_ms", "BW {:.0f}ms")):
        if event.get(key) is not None:
            parts.append(form.format(event[key]))
    return " ".join(parts)


def _columns_of_terminal(*_: object) -> tuple[int, int]:
    size = terminal_size()
    return (size.columns - 1, size.lines - 1) if size else (79, 23)


class Terminal:
    """Prints a run's events. On a terminal it draws a bar; elsewhere it prints a line every ten seconds."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._total = self._epochs = 0
        self._metrics: Sequence[Metric] = LANGUAGE_METRICS
        self._last_line = 0.0
        self._last: Event | None = None
        self._is_terminal = sys.stderr.isatty() or terminal_size() is not None

    def event(self, event: Event) -> None:
        """Show one event."""
        match event["event"]:
            case "run_started" | "run_resumed":
                self._total, self._epochs = event.get("total_steps") or 0, event.get("num_epochs") or 0
                self._metrics = declared_metrics(event)
            case "resumed_from":
                self._resumed_from(event)
            case "step":
                self._step(event)
            case "eval":
                self.say(self._evaluation(event))
            case "checkpoint":
                self.say(f"saved {event['path']} (step {event['step']})")
            case "warning":
                self.say(f"warning: {event['message']}")
            case "run_finished" | "run_stopped" | "run_failed":
                self.close()  # what is said from here on stands below the bar
        self._say_lines(event.get("lines", ()))

    def _resumed_from(self, event: Event) -> None:
        self.say(f"resumed from {event['path']} at step {event['step']} of {event.get('total_steps')}")
        if differences := event.get("differences"):
            self.say(f"not bit for bit as it would have gone on: {'; '.join(differences)}")

    def _evaluation(self, event: Event) -> str:
        epoch, loss = event.get("epoch"), event.get("loss")
        if loss is None:
            return f"epoch {epoch}: validation loss is not finite"
        figures = [
            f"{metric.name.replace('_', ' ')} {metric.text(event[metric.name])}"
            for metric in self._metrics
            if metric.derived == "measured" and event.get(metric.name) is not None
        ]
        return ", ".join([f"epoch {epoch}: validation loss {loss:.4f}", *figures])

    def _step(self, event: Event) -> None:
        if self._is_terminal:
            is_new = self._bar is None
            bar = self._bar = self._bar or self._open(event["step"])
            bar.set_description_str(f"epoch {event.get('epoch')}/{self._epochs}", refresh=False)
            bar.set_postfix_str(live_figures(event, self._metrics), refresh=is_new)
            if not is_new:
                bar.update(event["step"] - bar.n)  # a run that is followed from afar arrives in leaps
            return
        self._last = event
        now = time.monotonic()
        if now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._print_step(event)
            self._last_line = now

    def _open(self, step: int) -> tqdm[Any]:
        """Open the bar at the first update: what is said before it stands above it."""
        bar = tqdm(total=self._total, initial=step, unit="step", dynamic_ncols=True, bar_format=BAR)
        if terminal_size() is not None:
            # tqdm asks its own stream, which is a file here; the terminal is that of the front door.
            bar.dynamic_ncols = _columns_of_terminal  # type: ignore[assignment]  # as tqdm's own is
            bar.ncols = _columns_of_terminal()[0]
        return bar

    def _print_step(self, event: Event) -> None:
        self._last = None
        figures = live_figures(event, self._metrics)
        self.say(f"epoch {event.get('epoch')}/{self._epochs} step {event['step']}/{self._total} {figures}")

    def _say_lines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.say(line)

    def say(self, message: str) -> None:
        """Print a line without tearing the bar."""
        if self._bar is not None:
            self._bar.write(message)
            sys.stdout.flush()
        else:
            print(message, flush=True)

    def close(self) -> None:
        """Leave the last state of the bar on the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        elif self._last is not None:
            self._print_step(self._last)
