"""Which run is best, among runs that can be compared: the same rows, the same tokens, the same loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tools.runs.summary import RunSummary

LIKE = ("data.pairs", "data.loss_on", "data.truncate", "data.validation_split", "model.max_seq_len")
"""Settings without whose equality two losses are not of the same thing."""
_SAYS_NOTHING = ("run.run_dir", "launch.", "report.", "checkpoint.", "backend", "model.vocab_size")
"""Settings that decide no curve, or that are told otherwise."""


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

    measure: str
    """What is compared."""
    basis: str
    """What the runs have in common."""
    caveat: str
    """What they do not have in common and what weakens the comparison; empty: nothing."""
    entries: tuple[Entry, ...]


def leaderboards(runs: Sequence[RunSummary]) -> list[Board]:
    """The boards of two runs and more, the largest first."""
    groups: dict[tuple[object, ...], list[RunSummary]] = {}
    for run in runs:
        if run.best_loss is not None and run.facts.get("data_fingerprint") and run.settings:
            like = tuple(str(run.settings.get(key)) for key in LIKE)
            key = (run.facts["data_fingerprint"], run.facts.get("vocab_size"), bool(run.evaluations), *like)
            groups.setdefault(key, []).append(run)
    boards = [_board(group) for group in groups.values() if len(group) > 1]
    return sorted(boards, key=lambda board: -len(board.entries))


def _board(group: list[RunSummary]) -> Board:
    ranked = sorted(group, key=lambda run: (run.best_loss or 0.0, run.best_step or 0))
    settings = ranked[0].settings
    is_validated = bool(ranked[0].evaluations)
    sections = set.intersection(*({_section(key) for key in run.settings} for run in ranked))  # a backend's own is its
    names = {key for run in ranked for key in run.settings if _section(key) in sections}
    names = {key for key in names if not key.startswith(_SAYS_NOTHING)}
    varied = [key for key in sorted(names) if len({repr(run.settings.get(key)) for run in ranked}) > 1]
    share = settings.get("data.validation_split")
    basis = [f"data {str(ranked[0].facts['data_fingerprint'])[:8]}", f"pairs {settings.get('data.pairs')}",
             f"loss on {settings.get('data.loss_on')}"]  # fmt: skip
    if is_validated and isinstance(share, float):
        basis.append(f"{share:.0%} held back")
    caveat = "the seeds differ, so the rows held back do too" if is_validated and "run.seed" in varied else ""
    entries = tuple(
        Entry(place, run, run.best_loss or 0.0, {key: run.settings.get(key) for key in varied})
        for place, run in enumerate(ranked, start=1)
    )
    measure = "lowest validation loss" if is_validated else "lowest training loss of an epoch"
    return Board(measure, ", ".join(basis), caveat, entries)


def _section(key: str) -> str:
    return key.partition(".")[0]
