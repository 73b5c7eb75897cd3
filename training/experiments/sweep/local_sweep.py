"""A sweep on this machine: trials with settings from a search space, each a run like any other, and the best checked.

write sweep.json: what was asked for
for each trial, in order:
    it has ended, or its record says that it has diverged: it is done
    else train it with --resume: from the beginning, or from its checkpoint, exactly
show the trials, best first
train the best and the settings outside the sweep with new seeds, and compare them seed by seed

A trial's settings are a function of space, seed and number, and its state is in its own record. So a sweep that is
killed at any instant, and with it or without it the trial that it is at, goes on with `--resume DIRECTORY` and its
trials end bit for bit where they would have ended.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from training.backends.prepare import PreparedRun
from training.checkpoints.run_directory import RunDirectory
from training.checkpoints.run_lock import RunLock, is_locked, owner_of
from training.errors import ConfigError, UserError
from training.experiments.comparison import Comparison, Difference, declared, figures_of_run, table
from training.experiments.run_process import TrainRun, train_in_own_process
from training.experiments.search_space import short_name
from training.experiments.sweep.document import DOCUMENT_NAME, RESULT_NAME, SweepDocument, going_on, read_document
from training.experiments.sweep.halving import rungs, survivors
from training.experiments.sweep.metric import figure, refuse_unmeasured
from training.experiments.sweep.options import LocalSweepOptions
from training.experiments.sweep.samplers import samples
from training.experiments.sweep.trials import Sweep, Trial, best_of, ranked, short_value, table_lines
from training.language.messages import Message, say
from training.record.log import read_report
from training.record.report import Report
from training.settings.layers import Layer
from training.settings.tree import TrainingConfig
from training.storage.atomic import delete, write_atomically
from training.storage.file_locks import NO_LOCKS

SCHEMA_VERSION = 1
SECONDS_BETWEEN_LOOKS = 0.5
EXIT_UNFINISHED = 1
"""Exit code where a callback of the user's own stopped a run in order, and the sweep with it."""
DIVERGED = "diverged"
"""State of a trial that failed because its loss, gradient or weights were not finite: a result, not an obstacle."""

NOT_VARIED: Mapping[str, str] = {
    "task": "another task has other settings",
    "model.model": "another model has other settings",
    "model.base_model": "its weights decide the network",
    "run.seed": "the best trial is trained again with seeds of its own",
}
"""Setting -> why no sweep on this machine varies it, besides `training.experiments.search_space.FIXED`."""
_RUN_NAME = re.compile(r"(trial-\d{3,4}|default)(-seed\d+)?")


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep."""

    name: str
    """Name of its directory, within the sweep's."""
    settings: Mapping[str, Any]
    """Dotted key -> value of the settings that the sweep varies; empty: those outside the sweep."""
    config: TrainingConfig

    @property
    def directory(self) -> Path:
        """The run directory."""
        return self.config.run.run_dir

    def in_words(self) -> str:
        """Return the settings in one line: `learning_rate=0.001, d_model=128`."""
        return ", ".join(f"{short_name(key)}={short_value(value)}" for key, value in self.settings.items())


class LocalSweep:
    """A sweep whose trials are checked, and of which none has begun.

    Args:
        prepared: the run that is varied; its run directory is the sweep's.
        options: of the sweep.

    Raises:
        ConfigError: the space, the metric or a trial has a fault.
    """

    def __init__(self, prepared: PreparedRun, options: LocalSweepOptions) -> None:
        config = prepared.request.config
        self.prepared, self.options = prepared, options
        self.directory = config.run.run_dir
        self.metric, self.goal = options.objective(config)
        refuse_unmeasured(self.metric, config)
        if config.hub.push_to_hub is not None:
            raise ConfigError(
                f"push_to_hub={config.hub.push_to_hub}: each trial of a sweep would push its model; push the best one "
                "afterwards, with tools/export_model.py"
            )
        tree = type(config)
        fixed = dict.fromkeys(declared(tree, "decides_loss"), "with another one the loss is that of other tokens")
        if self.metric.startswith("train/"):
            reason = "training losses are measured with it; add --validation-split 0.1"
            fixed |= dict.fromkeys(declared(tree, "in_training_loss"), reason)
        if options.halving is not None:
            self._refuse_no_rungs(options.halving)
            fixed["run.epochs"] = "the rungs are epochs of all trials"
        self.space = options.space(tree, {**NOT_VARIED, **fixed})
        options.refuse_unfit(self.space)
        options.refuse_more_than_there_are(self.space)
        count = options.number_of_trials(self.space)
        chosen = itertools.islice(samples(self.space, options.sampling, config.run.seed), count)
        self.trials = [self._trial(number, settings) for number, settings in enumerate(chosen, 1)]
        self.document = SweepDocument.of(
            prepared,
            options,
            space=[f"{key}={found.text()}" for key, found in self.space.distributions.items()],
            metric=self.metric,
            goal=self.goal,
            trials=count,
        )

    def _refuse_no_rungs(self, halving: int) -> None:
        """Refuse successive halving where nothing can be compared at a rung."""
        run = self.prepared.request.config.run
        if not self.metric.startswith("eval/"):
            raise ConfigError(
                f"halving={halving} compares trials by their evaluations, and the metric is {self.metric}; give "
                "--validation-split 0.1 and a metric of eval/"
            )
        if run.max_steps is not None:
            raise ConfigError(
                f"halving={halving} counts in epochs, and max_steps={run.max_steps} may end a run inside one; give "
                "--epochs alone"
            )
        if run.epochs < halving:
            raise ConfigError(
                f"halving={halving}: a run of epochs={run.epochs} has no rung; give --epochs {halving} or more"
            )

    def _trial(self, number: int, settings: Mapping[str, Any]) -> SweepRun:
        name = f"trial-{number:03}"
        try:
            return self._run(name, settings)
        except ConfigError as error:
            values = ", ".join(f"{short_name(key)}={short_value(value)}" for key, value in settings.items())
            raise ConfigError(
                f"trial {number} of this sweep would have {values}, and would be refused: {error}; give --search "
                "values that fit"
            ) from error

    def _run(self, name: str, settings: Mapping[str, Any], seed: int | None = None) -> SweepRun:
        own = {**settings, "run.run_dir": self.directory / name} | ({} if seed is None else {"run.seed": seed})
        return SweepRun(name, settings, self.prepared.varied(Layer(name, own)).request.config)

    def lines(self) -> Iterator[str]:
        """Yield what a dry run says of the sweep."""
        yield f"sweep: {self.goal} {self.metric}, {len(self.trials)} trials, sampling {self.options.sampling}"
        yield from self.space.describe()
        yield from (f"{trial.name}: {trial.in_words()}" for trial in self.trials)

    def run(self, train: TrainRun = train_in_own_process) -> int:
        """Train what is left to be trained, print the table and the comparison, and return the exit code.

        Args:
            train: trains one run.

        Raises:
            UserError: the directory holds something else, another process is at work in it, or no trial has a value.
        """
        request = self.prepared.request
        with _claimed(self.directory):
            self._begin(resume=request.resume, overwrite=request.overwrite)
            alive: Sequence[SweepRun] = self.trials
            for rung, epoch in enumerate(self._rungs[:-1]):
                if code := self._climb(rung, epoch, alive, train):
                    return code
                alive = [trial for trial in alive if trial.name in self.document.survivors[rung]]
            for trial in alive:
                if code := self._train(trial, self._title(trial), train):
                    return code
            return self._conclude(train)

    @property
    def _rungs(self) -> list[int]:
        epochs = self.prepared.request.config.run.epochs
        return [epochs] if self.options.halving is None else rungs(epochs, len(self.trials), self.options.halving)

    def _title(self, trial: SweepRun) -> Message:
        return Message(
            "trial {number} of {all}: {settings}",
            number=self.trials.index(trial) + 1, all=len(self.trials), settings=trial.in_words(),
        )  # fmt: skip

    def _climb(self, rung: int, epoch: int, alive: Sequence[SweepRun], train: TrainRun) -> int:
        """Train trials up to a rung and decide which go on. Return 0, or the exit code with which the sweep ends."""
        if rung < len(self.document.survivors):
            return 0
        for trial in alive:
            if code := self._train(trial, self._title(trial), train, until=epoch):
                return code
        values = {trial.name: value_of(trial.directory, self.metric) for trial in alive}
        kept = survivors(values, self.goal, self.options.halving or 1)
        if not kept:
            raise self._nothing_measured()
        self._note(survivors=[*self.document.survivors, list(kept)])
        say(Message(
            "epoch {epoch}: {count} of {all} trials go on: {names}",
            epoch=epoch, count=len(kept), all=len(alive), names=", ".join(kept),
        ))  # fmt: skip
        return 0

    def _note(self, **changes: Any) -> None:
        """Write down what has been decided, or what has ended."""
        self.document = replace(self.document, **changes)
        self.document.write(self.directory)

    def _nothing_measured(self) -> UserError:
        return UserError(f"{self.directory}: no trial has a finite {self.metric}; give --search other values")

    def _begin(self, *, resume: bool, overwrite: bool) -> None:
        """Write the document, or make sure that this is the sweep which it describes.

        Raises:
            UserError: there is a sweep already and it is neither to go on nor to be deleted, or it is another one.
        """
        directory = self.directory
        if held := RunDirectory(directory, claim=False).holds_run():
            raise UserError(
                f"--run-dir {directory}: it holds a run ({held[0]}), and a sweep has its own; choose another"
            )
        if overwrite:
            delete_runs(directory)
        saved = read_document(directory)
        if saved is None:
            if found := [path for path in _runs_in(directory) if RunDirectory(path, claim=False).holds_run()]:
                raise UserError(
                    f"--run-dir {directory}: it holds {found[0].name} and no {DOCUMENT_NAME}, so these are no runs of "
                    "this sweep; choose another"
                )
            self.document.write(directory)
            return
        if not resume:
            raise UserError(
                f"--run-dir {directory}: it holds a sweep already; go on with it (--resume {directory}), delete it "
                "(--overwrite) or choose another --run-dir"
            )
        saved.refuse_other(self.document, directory)
        self.document = going_on(saved, self.document)
        if self.document != saved:
            self.document.write(directory)

    def _train(self, run: SweepRun, title: Message, train: TrainRun, until: int | None = None) -> int:
        """Train a run unless it has been trained. Return 0 where the sweep goes on, else its exit code.

        Args:
            run: of this sweep.
            title: printed where it is trained.
            train: trains it.
            until: epoch after which it is to stop; None: it is trained to its end.
        """
        _wait_for_end(run)
        state, epochs = state_of(run.directory)
        has_ended = state == "finished" and run.name in self.document.concluded
        if state == DIVERGED or has_ended or _has_stopped(state, epochs, until):
            return 0
        say(title)
        begun = ["--resume"] if run.directory.exists() else []  # a backend that cannot resume can begin
        code = train(run.config, [*begun, *([] if until is None else ["--stop-after", str(until)])])
        state, epochs = state_of(run.directory)
        if state == DIVERGED:
            say(Message("{name} has diverged; the sweep goes on", name=run.name))
            return 0
        if code or not (state == "finished" or _has_stopped(state, epochs, until)):
            say(Message(
                "the sweep ends here; go on with: python train.py --resume {directory}", directory=self.directory
            ))  # fmt: skip
            return code or EXIT_UNFINISHED
        if state == "finished":
            self._note(concluded=list(dict.fromkeys([*self.document.concluded, run.name])))
        if (value := value_of(run.directory, self.metric)) is not None:
            say(Message("{name}: {metric} {value:.6g}", name=run.name, metric=self.metric, value=value))
        return 0

    def _conclude(self, train: TrainRun) -> int:
        trials = [self._as_trial(trial) for trial in self.trials]
        best = best_of([trial for trial in trials if trial.status == "finished"], self.goal)
        if best is None:
            raise self._nothing_measured()
        trials = [replace(trial, is_best=trial is best) for trial in ranked(trials, self.goal)]
        for line in table_lines(Sweep(self.directory.name, self.metric, self.goal, trials)):
            say(line)
        if self.options.halving is not None:
            made, whole = (sum(getattr(trial, name) or 0 for trial in trials) for name in ("step", "total_steps"))
            say(Message(
                "{made:,} of {whole:,} updates were made, which saved {share:.0%}; no trial was begun again",
                made=made, whole=whole, share=1.0 - made / max(1, whole),
            ))  # fmt: skip
        result: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "metric": self.metric,
            "goal": self.goal,
            "best": best.job,
            "trials": [asdict(trial) for trial in trials],
        }
        if self.options.confirm_seeds:
            code, found = self._confirm(next(trial for trial in self.trials if trial.name == best.job), best, train)
            if code:
                return code
            result["confirmed"] = found
        text = json.dumps(result, ensure_ascii=False, indent=1) + "\n"
        write_atomically(self.directory / RESULT_NAME, text.encode(), durable=True)
        say(Message("wrote {path}", path=self.directory / RESULT_NAME))
        return 0

    def _as_trial(self, run: SweepRun) -> Trial:
        report = read_report(run.directory) or {}
        state, _ = state_of(run.directory)
        value = value_of(run.directory, self.metric)
        settings = {short_name(key): value for key, value in run.settings.items()}
        return Trial(run.name, state, settings, value, report.get("step"), report.get("total_steps"))

    def _confirm(self, best: SweepRun, trial: Trial, train: TrainRun) -> tuple[int, Mapping[str, Any] | None]:
        """Train the best trial's settings and those outside the sweep with new seeds, and compare them.

        Returns:
            (exit code, figures of the comparison; None: a run has no value, so there is none).
        """
        first = self.prepared.request.config.run.seed + 1
        seeds = tuple(range(first, first + self.options.confirm_seeds))
        pairs = [
            (variant, seed, self._run(f"{variant}-seed{seed}", settings, seed))
            for seed in seeds
            for variant, settings in (("default", {}), (best.name, best.settings))
        ]
        for number, (variant, seed, run) in enumerate(pairs, 1):
            title = Message(
                "run {number} of {all} with new seeds: {variant}, seed {seed}",
                number=number, all=len(pairs), variant=variant, seed=seed,
            )  # fmt: skip
            if code := self._train(run, title, train):
                return code, None
        values = {(variant, seed): value_of(run.directory, self.metric) for variant, seed, run in pairs}
        if missing := [run.name for variant, seed, run in pairs if values[variant, seed] is None]:
            say(Message("{name} has no finite {metric}, so nothing is confirmed", name=missing[0], metric=self.metric))
            return 0, None
        figures = {
            (variant, seed): {**figures_of_run(run.directory), "loss": values[variant, seed]}
            for variant, seed, run in pairs
        }
        return 0, self._compared(Comparison("settings", ("default", best.name), seeds), figures, trial)

    def _compared(
        self, comparison: Comparison, figures: Mapping[tuple[Any, int], Mapping[str, Any]], trial: Trial
    ) -> Mapping[str, Any]:
        """Print how the best trial fares with new seeds, and return it as plain data."""
        default, best = comparison.values
        deltas = [figures[best, seed]["loss"] - figures[default, seed]["loss"] for seed in comparison.seeds]
        difference = Difference.of(best, deltas)
        for line in table(comparison, figures, [difference], self.metric):
            say(line)
        fresh = statistics.fmean(figures[best, seed]["loss"] for seed in comparison.seeds)
        say(Message(
            "{name} had {metric} {swept:.4f} in the sweep, and has {fresh:.4f} on average with new seeds: the best of "
            "{count} trials owes part of its lead to luck (the winner's curse), so the new seeds count",
            name=best, metric=self.metric, swept=trial.metric, fresh=fresh, count=len(self.trials),
        ))  # fmt: skip
        return {
            "seeds": list(comparison.seeds),
            "default": [figures[default, seed]["loss"] for seed in comparison.seeds],
            "best": [figures[best, seed]["loss"] for seed in comparison.seeds],
            "mean_difference": difference.mean,
            "interval": list(difference.interval),
            "p": difference.p,
            "more_than_the_spread": difference.is_more_than_the_spread,
        }


def state_of(run_dir: Path) -> tuple[str, int]:
    """Return (state, epochs after which it was evaluated) of a run as its record has them.

    The state is that of the record, `diverged`, or `waiting` where there is no record.
    """
    found = read_report(run_dir)
    if found is None:
        return "waiting", 0
    report = Report.of_dict(found)
    epochs = report.evaluations[-1].epoch or 0 if report.evaluations else 0
    not_finite = report.num_skipped or report.not_finite_at is not None
    if report.state == "failed" and (not_finite or "has diverged" in str(report.outcome.get("error"))):
        return DIVERGED, epochs
    return report.state, epochs


def _has_stopped(state: str, epochs: int, until: int | None) -> bool:
    return until is not None and state == "stopped" and epochs >= until


def value_of(run_dir: Path, metric: str) -> float | None:
    """Return the last value of a metric in a run that has finished, or stopped in order.

    None: it has done neither, or the value is not finite.
    """
    report = read_report(run_dir)
    return figure(report, metric) if report is not None and report.get("state") in ("finished", "stopped") else None


def delete_runs(directory: Path) -> None:
    """Delete the runs of a sweep and what it has written; a user's own files stay.

    Raises:
        UserError: one of them is being trained.
    """
    for path in _runs_in(directory):
        RunDirectory(path, overwrite=True).release()
        with contextlib.suppress(OSError):  # it holds the user's own files too
            path.rmdir()
    for name in (RESULT_NAME, DOCUMENT_NAME):  # the document last: until then the sweep can be deleted again
        delete(directory / name)


def _runs_in(directory: Path) -> Sequence[Path]:
    found = sorted(directory.iterdir()) if directory.is_dir() else []
    return [path for path in found if path.is_dir() and _RUN_NAME.fullmatch(path.name)]


def _wait_for_end(run: SweepRun) -> None:
    """Wait until no other process trains a run: one that outlived its sweep, which was killed."""
    if not is_locked(run.directory):
        return
    owner = owner_of(run.directory)
    say(Message(
        "waiting for {name}, which an earlier sweep began and which is still trained (pid {pid})",
        name=run.name, pid=owner.pid if owner is not None else "?",
    ))  # fmt: skip
    while is_locked(run.directory):
        time.sleep(SECONDS_BETWEEN_LOOKS)


@contextlib.contextmanager
def _claimed(directory: Path) -> Iterator[None]:
    """Keep other sweeps out of a directory, which is made if it is missing, and removed again if nothing came of it.

    Raises:
        UserError: another sweep is at work there, or it cannot be written to.
    """
    made = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = RunLock.take(directory)
    except OSError as error:
        what = "its disk has no file locks" if error.errno in NO_LOCKS else "it cannot be written to"
        raise UserError(f"--run-dir {directory}: {what} ({error.strerror}); choose another") from error
    if lock is None:
        owner = owner_of(directory)
        who = f" (pid {owner.pid}, since {owner.since()})" if owner is not None else ""
        raise UserError(f"--run-dir {directory}: another sweep{who} is at work in it; wait for it or choose another")
    try:
        yield
    finally:
        lock.release()
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()
