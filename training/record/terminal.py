"""The terminal's view of a run: a progress bar with live figures, or plain lines where there is no terminal, and
everything that the run says.

Lines go to stdout and the bar to stderr; no line tears the bar.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tqdm import tqdm
from tqdm.utils import disp_len

from training.errors import printable
from training.language.messages import Message, say, translated, translated_lines
from training.machine.terminal import terminal_size
from training.machine.units import as_duration
from training.record.schema import Event, declared_metrics
from training.tasks.metrics import LANGUAGE_METRICS, Metric

SECONDS_BETWEEN_LINES = 10.0
BAR = "{desc} {percentage:3.0f}%|{bar:12}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"
SHORT_BARS = (
    "{desc} {percentage:3.0f}%|{bar:6}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}",
    "{desc} {percentage:3.0f}% {n_fmt}/{total_fmt}",
    "{percentage:3.0f}%",
)
"""Forms for narrow terminals, the longest first; only the first one has room for figures."""

if TYPE_CHECKING:
    AnyBar = tqdm[Any]
else:
    AnyBar = tqdm

_OTHER_FIGURES = (
    ("learning_rate", Message("LR"), ".2e", ""),
    ("forward_ms", Message("FW"), ".0f", "ms"),
    ("backward_ms", Message("BW"), ".0f", "ms"),
)
"""Key in the event, name, format and unit."""


def live_figures(event: Mapping[str, Any], metrics: Iterable[Metric] = LANGUAGE_METRICS) -> list[str]:
    """Format the figures of one step event: `Loss 0.512`, `PPL 1.67`, `Acc 83.1%`, `LR 3.0e-03`, `FW 21ms`, `BW 43ms`.

    A measured metric that the event lacks is left out; `nan` and `inf` stand for what was not finite.
    """
    loss = event.get("loss")
    name = translated(Message("Loss"))
    parts = [f"{name} {loss:.4f}" if loss is not None else f"{name} nan"]
    for metric in metrics:
        if metric.derived == "exp_loss":
            value = metric.of_loss(loss)
            parts.append(f"{_label(metric)} {metric.text(value) if value is not None else 'inf'}")
        elif metric.name in event:
            value = event[metric.name]
            parts.append(f"{_label(metric)} {metric.text(value) if value is not None else 'nan'}")
    for key, name, form, unit in _OTHER_FIGURES:
        if event.get(key) is not None:
            parts.append(f"{translated(name)} {event[key]:{form}}{unit}")
    return parts


class FiguresBar(AnyBar):
    """Progress bar with as many figures as the terminal has columns for, from the first on, each of them whole."""

    figures: Sequence[str] = ()

    def __str__(self) -> str:
        facts = self.format_dict
        columns = facts["ncols"] or 80
        forms = [(BAR, len(self.figures)), *((SHORT_BARS[0], n) for n in range(len(self.figures), -1, -1))]
        for form, count in (*forms, *((form, 0) for form in SHORT_BARS[1:])):
            whole = {**facts, "bar_format": form, "postfix": " ".join(self.figures[:count]), "ncols": None}
            text: str = self.format_meter(**whole)
            if disp_len(text) <= columns:
                return text
        return ""


def _label(metric: Metric) -> str:
    return printable(translated(Message(metric.label)))


def _columns_of_terminal(*_: object) -> tuple[int, int]:
    size = terminal_size()
    return (size.columns - 1, size.lines - 1) if size else (79, 23)


class Terminal:
    """Prints a run's events. On a terminal it draws a bar; elsewhere it prints a line every ten seconds.

    Args:
        hints: function that returns lines for the person who started the run here; printed below its introduction.
    """

    def __init__(self, hints: Callable[[], Sequence[str]] = tuple) -> None:
        self._hints = hints
        self._bar: FiguresBar | None = None
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
            case "estimate" if event.get("update_ms") is not None:
                self.say(self._time_left(event))
            case "eval":
                self.say(self._evaluation(event))
            case "checkpoint":
                self.say(Message("saved {path} (step {step})", path=event["path"], step=event["step"]))
            case "warning":
                self.say(Message("warning: {message}", message=event["message"]))
            case "run_finished" | "run_stopped" | "run_failed":
                self.close()  # what is said from here on stands below the bar
        self._say_lines(event.get("lines", ()))
        if event["event"] == "introduced":
            self._say_lines(self._hints())

    def _resumed_from(self, event: Event) -> None:
        path, step, total = event["path"], event["step"], event.get("total_steps")
        self.say(Message("resumed from {path} at step {step} of {total}", path=path, step=step, total=total))
        if differences := event.get("differences"):
            parts = Message.joined("; ", differences)
            self.say(Message("not bit for bit as it would have gone on: {differences}", differences=parts))

    def _evaluation(self, event: Event) -> str:
        epoch, loss = event.get("epoch"), event.get("loss")
        if loss is None:
            return Message("epoch {epoch}: validation loss is not finite", epoch=epoch)
        figures = [
            Message(
                "{name} {value}", name=Message(metric.name.replace("_", " ")), value=metric.text(event[metric.name])
            )
            for metric in self._metrics
            if metric.derived == "measured" and event.get(metric.name) is not None
        ]
        first = Message("epoch {epoch}: validation loss {loss:.4f}", epoch=epoch, loss=loss)
        return Message.joined(", ", [first, *figures])

    def _time_left(self, event: Event) -> Message:
        left, milliseconds = max(0, self._total - event["step"]), event["update_ms"]
        return Message(
            "time    about {time} more: {left:,} steps of {each}, plus validation, checkpoints",
            time=as_duration(left * milliseconds / 1e3),
            left=left,
            each=f"{milliseconds:.3g} ms" if milliseconds < 999.5 else as_duration(milliseconds / 1e3),
        )

    def _step(self, event: Event) -> None:
        if self._is_terminal:
            is_new = self._bar is None
            bar = self._bar = self._bar or self._open(event["step"])
            bar.set_description_str(f"epoch {event.get('epoch')}/{self._epochs}", refresh=False)
            bar.figures = live_figures(event, self._metrics)
            if is_new:
                bar.refresh()
            else:
                bar.update(event["step"] - bar.n)  # a run that is followed from afar arrives in leaps
            return
        self._last = event
        now = time.monotonic()
        if now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._print_step(event)
            self._last_line = now

    def _open(self, step: int) -> FiguresBar:
        """Open the bar at the first update: what is said before it stands above it."""
        bar = FiguresBar(total=self._total, initial=step, unit="step", dynamic_ncols=True, bar_format=BAR)
        if terminal_size() is not None:
            # tqdm asks its own stream, which is a file here; the terminal is that of the front door.
            bar.dynamic_ncols = _columns_of_terminal  # type: ignore[assignment]  # as tqdm's own is
            bar.ncols = _columns_of_terminal()[0]
        return bar

    def _print_step(self, event: Event) -> None:
        self._last = None
        words = f"epoch {event.get('epoch')}/{self._epochs} {translated(Message('step'))} {event['step']}/{self._total}"
        self.say(f"{words} {' '.join(live_figures(event, self._metrics))}")

    def _say_lines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.say(line if isinstance(line, Message) else printable(line))

    def say(self, message: str) -> None:
        """Print a message in the chosen language, without tearing the bar."""
        if self._bar is not None:
            self._bar.write("\n".join(translated_lines(message)))
            sys.stdout.flush()
        else:
            say(message)

    def close(self) -> None:
        """Leave the last state of the bar on the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        elif self._last is not None:
            self._print_step(self._last)
