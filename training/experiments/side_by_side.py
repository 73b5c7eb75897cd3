"""Runs side by side: the settings in which they differ, their figures and curves, and whether a difference is more than
chance. No torch; scipy is imported where there are pairs.

Runs that differ in a seed too are pairs, as those of `--compare`: the difference of two runs of one seed is what the
setting does, and how much it varies over the seeds says whether that is more than chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.errors import ConfigError, UserError
from training.experiments.comparison import LEAST_SEEDS, Difference, declared
from training.experiments.store.index import ExperimentStore
from training.experiments.store.rows import RunRow
from training.language.messages import Message
from training.record.follower import ProgressFollower
from training.record.run_state import State
from training.record.trace import Trace, curve_of

MOST_RUNS = 20
FIGURES = ("step", "loss", "val_loss", "best_loss", "best_step", "training_seconds")
"""Figures that are compared, next to the metrics of the runs."""
_NEVER_SHOWN = ("run.run_dir",)
_CHANGES_NO_CURVE = ("report.", "launch.", "checkpoint.", "track.", "hub.")
"""Sections whose settings make no other variant of a run."""


@dataclass(frozen=True)
class Curve:
    """A run's loss by step."""

    step: Sequence[int]
    loss: Sequence[float]
    """Of the updates; those whose loss is not finite are left out."""
    validation_step: Sequence[int]
    validation_loss: Sequence[float]


@dataclass(frozen=True)
class Paired:
    """A variant compared with the reference, over the seeds that both were trained with."""

    reference: Mapping[str, Any]
    """The settings of the first run in which the variants differ."""
    variant: Mapping[str, Any]
    seeds: tuple[Any, ...]
    measure: str
    """`val_loss`, or `loss` of the last epoch or update."""
    difference: Difference


@dataclass(frozen=True)
class SideBySide:
    """Some runs, compared."""

    runs: tuple[RunRow, ...]
    settings: Mapping[str, Mapping[str, Any]]
    """Value by run id of each setting in which the runs differ; a run that does not have it is left out."""
    figures: Mapping[str, Mapping[str, float | None]]
    """Value by run id of each figure; None: not known."""
    curves: Mapping[str, Curve]
    """By run id."""
    statistics: tuple[Paired, ...]
    no_statistics: str
    """Why there are none; empty: there are."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; a figure that is not finite is None."""

        def finite(value: Any) -> Any:
            return None if isinstance(value, float) and not math.isfinite(value) else value

        return {
            "runs": [{"id": run.id, "name": run.name, "state": run.state} for run in self.runs],
            "settings": {key: {run: finite(v) for run, v in values.items()} for key, values in self.settings.items()},
            "figures": {key: {run: finite(v) for run, v in values.items()} for key, values in self.figures.items()},
            "curves": {run: asdict(curve) for run, curve in self.curves.items()},
            "statistics": [
                {
                    "reference": dict(paired.reference),
                    "variant": dict(paired.variant),
                    "seeds": list(paired.seeds),
                    "measure": paired.measure,
                    "deltas": list(paired.difference.deltas),
                    "mean": paired.difference.mean,
                    "interval": list(paired.difference.interval),
                    "p": paired.difference.p,
                    "more_than_the_spread": paired.difference.is_more_than_the_spread,
                }
                for paired in self.statistics
            ],
            "no_statistics": self.no_statistics,
        }


def side_by_side(store: ExperimentStore, run_ids: Sequence[str], *, with_curves: bool = True) -> SideBySide:
    """Compare runs.

    Args:
        store: up to date.
        run_ids: ids or names, the reference first; each counts once.
        with_curves: the curves are wanted; without them only the records that statistics need are read.

    Raises:
        UserError: there is no such run, or they are fewer than two or more than `MOST_RUNS`.
    """
    runs = list({row.id: row for row in map(store.run, run_ids)}.values())
    if not 2 <= len(runs) <= MOST_RUNS:
        raise UserError(f"compare: from 2 to {MOST_RUNS} runs are compared, got {len(runs)}")
    settings = store.settings_of([run.id for run in runs])
    traces = _Traces(store)
    differing = _differing(runs, settings)
    statistics: tuple[Paired, ...] = ()
    try:
        statistics = tuple(_paired(runs, differing, settings, traces))
        why_not = "" if statistics else _TOO_FEW
    except _NotComparableError as error:
        why_not = error.reason
    return SideBySide(
        tuple(runs),
        differing,
        _figures(runs),
        {run.id: _curve(traces[run.id]) for run in runs} if with_curves else {},
        statistics,
        why_not,
    )


_TOO_FEW = Message("no two settings were trained with the same {seeds} seeds or more", seeds=LEAST_SEEDS)


class _NotComparableError(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Traces(dict[str, Trace]):
    """Records of runs by id, each read when it is first asked for."""

    def __init__(self, store: ExperimentStore) -> None:
        super().__init__()
        self._store = store

    def __missing__(self, run_id: str) -> Trace:
        found = self[run_id] = _trace(self._store.run_path(run_id))
        return found


def _trace(run_dir: Path) -> Trace:
    """Return a run's record; an empty one where it cannot be used, which the run's row says."""
    try:
        reading = ProgressFollower(run_dir).look()
    except (UserError, OSError):
        return Trace()
    trace = Trace(reading.report, reading.earlier)
    for event in reading.events:
        trace.apply(event)
    return trace


def _curve(trace: Trace) -> Curve:
    return Curve(*curve_of(trace.updates, "loss"), *curve_of(trace.evaluations, "loss"))


def _differing(runs: Sequence[RunRow], settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    keys = sorted({key for run in runs for key in settings.get(run.id, {})})
    absent = object()
    found = {}
    for key in keys:
        values = [settings.get(run.id, {}).get(key, absent) for run in runs]
        if key not in _NEVER_SHOWN and len({repr(value) for value in values}) > 1:
            found[key] = {run.id: value for run, value in zip(runs, values, strict=True) if value is not absent}
    return found


def _figures(runs: Sequence[RunRow]) -> dict[str, dict[str, float | None]]:
    found: dict[str, dict[str, float | None]] = {name: {run.id: getattr(run, name) for run in runs} for name in FIGURES}
    for name in dict.fromkeys(name for run in runs for name in run.metrics):
        found[name] = {run.id: run.metrics.get(name) for run in runs}
    return {name: values for name, values in found.items() if any(value is not None for value in values.values())}


# -- statistics ----------------------------------------------------------------------------------------------------


def _is_seed(key: str) -> bool:
    return key.rpartition(".")[2] == "seed"


def _paired(
    runs: Sequence[RunRow],
    differing: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Mapping[str, Any]],
    traces: Mapping[str, Trace],
) -> Iterator[Paired]:
    """Yield each variant's difference from the first run's, where three seeds or more were trained with both.

    Raises:
        _NotComparableError: losses of these runs are not of the same thing.
    """
    seeds = {run.id: next((v for k, v in settings.get(run.id, {}).items() if _is_seed(k)), None) for run in runs}
    varied = [key for key in differing if not _is_seed(key) and not key.startswith(_CHANGES_NO_CURVE)]
    variants: dict[str, dict[Any, RunRow]] = {}
    values: dict[str, dict[str, Any]] = {}
    for run in runs:
        own = {key: differing[key].get(run.id) for key in varied}
        of_seed = variants.setdefault(repr(own), {})
        values[repr(own)] = own
        if not isinstance(seed := seeds[run.id], int | str):
            continue
        if (other := of_seed.get(seed)) is not None:
            raise _NotComparableError(
                Message(
                    "{first} and {second} have the same settings and the same seed {seed}",
                    first=other.name, second=run.name, seed=seed,
                )
            )  # fmt: skip
        of_seed[seed] = run
    (first, reference), *others = variants.items()
    pairs = {name: sorted(reference.keys() & other.keys(), key=repr) for name, other in others}
    wanted = {name: common for name, common in pairs.items() if len(common) >= LEAST_SEEDS}
    if not wanted:
        return
    taking_part = {
        run.id: run for name, common in wanted.items() for s in common for run in (reference[s], variants[name][s])
    }
    measure = _measure(list(taking_part.values()), varied, traces)
    for name, common in wanted.items():
        deltas = [
            _loss(variants[name][seed], measure, traces) - _loss(reference[seed], measure, traces) for seed in common
        ]
        yield Paired(values[first], values[name], tuple(common), measure, Difference.of(text_of(values[name]), deltas))


def _measure(runs: Sequence[RunRow], varied: Sequence[str], traces: Mapping[str, Trace]) -> str:
    """Return the loss by which runs are compared.

    Raises:
        _NotComparableError: they are not over, or their losses are of other data or other targets.
    """
    if open_runs := [run for run in runs if run.state != State.FINISHED]:
        raise _NotComparableError(
            Message("{name} is not finished ({state})", name=open_runs[0].name, state=open_runs[0].state)
        )
    data = {run.id: traces[run.id].facts.get("data_fingerprint") for run in runs}
    if others := [run for run in runs if data[run.id] != data[runs[0].id]]:
        raise _NotComparableError(
            Message("{first} and {second} were trained on other data", first=runs[0].name, second=others[0].name)
        )
    is_validated = all(_last_loss(run, "val_loss", traces) is not None for run in runs)
    deciding = _deciding(runs[0], is_validated)
    if found := [key for key in varied if key in deciding]:
        raise _NotComparableError(
            Message("another {setting} makes the loss one of other tokens", setting=found[0].rpartition(".")[2])
        )
    if bad := [run for run in runs if not is_validated and _last_loss(run, "loss", traces) is None]:
        raise _NotComparableError(Message("the last loss of {name} is not finite", name=bad[0].name))
    return "val_loss" if is_validated else "loss"


def _deciding(run: RunRow, is_validated: bool) -> frozenset[str]:
    """Return the settings that decide what a loss of this run is measured on; a foreign loop declares none."""
    if run.task is None or run.model is None:
        return frozenset()
    from training.backends.prepare import config_class

    try:
        tree = config_class(task=run.task, model=run.model)
    except ConfigError as error:
        raise _NotComparableError(str(error)) from error
    return declared(tree, "decides_loss") | (frozenset() if is_validated else declared(tree, "in_training_loss"))


def _loss(run: RunRow, measure: str, traces: Mapping[str, Trace]) -> float:
    loss = _last_loss(run, measure, traces)
    assert loss is not None  # `_measure` has looked
    return loss


def _last_loss(run: RunRow, measure: str, traces: Mapping[str, Trace]) -> float | None:
    """Return the loss at the end of a run: of the last validation, or of its last epoch, or of its last update."""
    trace = traces[run.id]
    if measure == "val_loss":
        return trace.evaluations[-1].loss if trace.evaluations else None
    return trace.epochs[-1].loss if trace.epochs else trace.latest.loss


def text_of(values: Mapping[str, Any]) -> str:
    """Return a variant's settings in one line: `learning_rate=0.001`."""
    return ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in values.items())
