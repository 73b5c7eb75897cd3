"""The best of runs that can be compared: the same rows, the same tokens, the same loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tools.runs.summary import RunSummary
from training.language.messages import Message

LIKE = ("pairs", "loss_on", "truncate", "validation_split", "max_seq_len")
"""Settings, in whatever section, without whose equality two losses are not of the same thing."""
_SAYS_NOTHING = ("run.run_dir", "launch.", "report.", "checkpoint.", "backend", "task", "model.vocab_size")
"""Settings that decide no curve, or that are said otherwise."""


@dataclass(frozen=True)
class Entry:
    """One run's place."""

    place: int
    run: RunSummary
    loss: float
    differs: dict[str, Any]
    """The settings in which the runs of this board are not all alike, as this run has them."""


@dataclass(frozen=True)
class Board:
    """Runs that can be compared with each other, best first."""

    measure: Message
    """Figure that is compared."""
    basis: Message
    """Data and settings that the runs have in common."""
    caveat: str
    """A difference that weakens the comparison; empty: none."""
    entries: tuple[Entry, ...]


def leaderboards(runs: Sequence[RunSummary]) -> list[Board]:
    """Return the boards of two runs and more, the largest first."""
    groups: dict[tuple[object, ...], list[RunSummary]] = {}
    for run in runs:
        if run.best_loss is not None and run.facts.get("data_fingerprint") and run.settings:
            facts = (run.facts["data_fingerprint"], run.facts.get("vocab_size"), run.metrics, bool(run.evaluations))
            groups.setdefault((*facts, *_like(run)), []).append(run)
    boards = [_board(group) for group in groups.values() if len(group) > 1]
    return sorted(boards, key=lambda board: -len(board.entries))


def _like(run: RunSummary) -> tuple[str, ...]:
    """Return the settings that runs of one board have in common: those of `LIKE`, and the run's task with its own."""
    task = run.facts.get("task")
    own = [f"{key}={value}" for key, value in sorted(run.settings.items()) if task and _section(key) == task]
    return (*(str(_setting(run, name)) for name in LIKE), str(task), *own)


def _setting(run: RunSummary, name: str) -> Any:
    return next((value for key, value in run.settings.items() if key.rpartition(".")[2] == name), None)


def _board(group: list[RunSummary]) -> Board:
    ranked = sorted(group, key=lambda run: (run.best_loss or 0.0, run.best_step or 0))
    first = ranked[0]
    is_validated = bool(first.evaluations)
    sections = set.intersection(*({_section(key) for key in run.settings} for run in ranked))  # a backend's own is its
    names = {key for run in ranked for key in run.settings if _section(key) in sections}
    names = {key for key in names if not key.startswith(_SAYS_NOTHING)}
    varied = [key for key in sorted(names) if len({repr(run.settings.get(key)) for run in ranked}) > 1]
    basis = [Message("data {fingerprint}", fingerprint=str(first.facts["data_fingerprint"])[:8])]
    if (pairs := _setting(first, "pairs")) is not None:
        basis.append(Message("pairs {pairs}", pairs=pairs))
    if (loss_on := _setting(first, "loss_on")) is not None:
        basis.append(Message("loss on {part}", part=loss_on))
    share = _setting(first, "validation_split")
    if is_validated and isinstance(share, float):
        basis.append(Message("{share:.0%} held back", share=share))
    has_other_rows = is_validated and "run.seed" in varied
    caveat = Message("the seeds differ, so the rows held back do too") if has_other_rows else ""
    entries = tuple(
        Entry(place, run, run.best_loss or 0.0, {key: run.settings.get(key) for key in varied})
        for place, run in enumerate(ranked, start=1)
    )
    measure = Message("lowest validation loss") if is_validated else Message("lowest training loss of an epoch")
    return Board(measure, Message.joined(", ", basis), caveat, entries)


def _section(key: str) -> str:
    return key.partition(".")[0]
