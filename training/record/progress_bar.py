"""The terminal's view of a run: one tqdm bar with six live figures, or plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

from training.machine.terminal import terminal_size
from training.record.report import perplexity

SECONDS_BETWEEN_LINES = 10.0
BAR = "{desc} {percentage:3.0f}%|{bar:12}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"


def six_figures(event: dict[str, Any]) -> str:
    """`Loss 0.512 PPL 1.67 Acc 83.1% LR 3.0e-03 FW 21ms BW 43ms` of one step event."""
    loss = event.get("loss")
    ppl = perplexity(loss)
    accuracy = event.get("accuracy")
    parts = [
        f"Loss {loss:.4f}" if loss is not None else "Loss nan",
        f"PPL {ppl:.4g}" if ppl is not None else "PPL inf",
        f"Acc {accuracy:.1%}" if accuracy is not None else "Acc nan",
        f"LR {event['learning_rate']:.2e}",
        f"FW {event['forward_ms']:.0f}ms",
        f"BW {event['backward_ms']:.0f}ms",
    ]
    return " ".join(parts)


def _columns_behind(*_: object) -> tuple[int, int]:
    size = terminal_size()
    return (size.columns - 1, size.lines - 1) if size else (79, 23)


class ProgressBar:
    """Reads the progress events. On a terminal it draws a bar; elsewhere it prints a line every ten seconds."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._total = self._epochs = 0
        self._last_line = 0.0
        self._last: dict[str, Any] | None = None
        self._is_terminal = sys.stderr.isatty() or terminal_size() is not None

    def event(self, event: dict[str, Any]) -> None:
        """Show one event."""
        match event["event"]:
            case "run_started" | "run_resumed":
                self._total, self._epochs = event["total_steps"], event["num_epochs"]
            case "step":
                self._step(event)
            case "eval":
                self.say(
                    f"epoch {event['epoch']}: validation loss {event['loss']:.4f}, accuracy {event['accuracy']:.1%}"
                    if event["loss"] is not None else f"epoch {event['epoch']}: validation loss is not finite"
                )  # fmt: skip
            case "checkpoint":
                self.say(f"saved {event['path']} (step {event['step']})")
            case "introduced" | "said" | "conclusion":
                for line in event["lines"]:
                    self.say(line)
            case "resumed_from":
                self.say(f"resumed from {event['path']} at step {event['step']} of {event['total_steps']}")
                if event["differences"]:
                    self.say(f"not bit for bit as it would have gone on: {'; '.join(event['differences'])}")
            case "warning":
                self.say(f"warning: {event['message']}")

    def _step(self, event: dict[str, Any]) -> None:
        if self._is_terminal:
            is_new = self._bar is None
            bar = self._bar = self._bar or self._open(event["step"])
            bar.set_description_str(f"epoch {event['epoch']}/{self._epochs}", refresh=False)
            bar.set_postfix_str(six_figures(event), refresh=is_new)
            if not is_new:
                bar.update(event["step"] - bar.n)  # a run that is followed from afar is told of in leaps
            return
        self._last = event
        now = time.monotonic()
        if now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._print_line(event)
            self._last_line = now

    def _open(self, step: int) -> tqdm[Any]:
        """The bar, once the first update is done: what is said before it stands above it."""
        bar = tqdm(total=self._total, initial=step, unit="step", dynamic_ncols=True, bar_format=BAR)
        if terminal_size() is not None:
            # tqdm asks its own stream, which is a file here; the terminal is behind the front door.
            bar.dynamic_ncols = _columns_behind  # type: ignore[assignment]  # as tqdm's own is
            bar.ncols = _columns_behind()[0]
        return bar

    def _print_line(self, event: dict[str, Any]) -> None:
        self._last = None
        self.say(f"epoch {event['epoch']}/{self._epochs} step {event['step']}/{self._total} {six_figures(event)}")

    def say(self, message: str) -> None:
        """Print a line without tearing the bar."""
        if self._bar is not None:
            self._bar.write(message)
        else:
            print(message, flush=True)

    def close(self) -> None:
        """Leave the last state of the bar on the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        elif self._last is not None:
            self._print_line(self._last)
