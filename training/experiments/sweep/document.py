"""The file of a sweep, `sweep.json`: what was asked for. All else is read from the records of its runs. No torch.

It is written whole, before the first run begins. Later only the number of trials and of new seeds may change, and it
names each run whose process has ended in order: a record says that a run has finished before its model is saved. So a
sweep that was killed at any instant goes on as it was asked for, whatever the command line says of it later.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from training.backends.prepare import PreparedRun
from training.errors import ConfigError, UserError, unreadable
from training.experiments.sweep.metric import Goal
from training.experiments.sweep.options import SECTION, LocalSweepOptions
from training.settings.layers import Layer
from training.storage.atomic import write_atomically
from training.storage.json_files import read_as
from training.tracking.figures import flat

SCHEMA_VERSION = 1
DOCUMENT_NAME = "sweep.json"
RESULT_NAME = "sweep_result.json"

_MAY_CHANGE = ("max_trials", "confirm_seeds")
"""Options that a sweep may go on with otherwise: no trial depends on them."""
_COMPARED = ("backend", "task", "model", "space", "metric", "goal", "sampling", "seed", "halving")


@dataclass(frozen=True)
class SweepDocument:
    """Content of `sweep.json`."""

    schema_version: int
    backend: str
    task: str
    model: str
    """Name of the model family."""
    settings: Mapping[str, Any]
    """Settings of all runs that were given, dotted key -> value: the others are the backend's and the task's."""
    defaults: Mapping[str, Any]
    """The same of settings that give way to given ones, as those of `--early-stopping`."""
    config: Mapping[str, Any]
    """Resolved settings of all runs, nested; no run directory."""
    search: Sequence[str]
    """The space as it was given; empty: the default."""
    space: Sequence[str]
    """The space, a setting each, however it was written."""
    metric: str
    goal: Goal
    sampling: str
    seed: int
    """Seed of the sampler."""
    max_trials: int
    confirm_seeds: int
    halving: int | None = None
    survivors: Sequence[Sequence[str]] = ()
    """Names of the trials that went on at each rung, from the first; once they are written they are decided."""
    concluded: Sequence[str] = ()
    """Names of the runs that have ended with all that follows the last update, such as their final model."""

    @classmethod
    def of(
        cls,
        prepared: PreparedRun,
        options: LocalSweepOptions,
        *,
        space: Sequence[str],
        metric: str,
        goal: Goal,
        trials: int,
    ) -> SweepDocument:
        """Return the document of a sweep that is about to begin.

        Args:
            prepared: the run that is varied.
            options: of the sweep.
            space: as text, a setting each.
            metric: the one that decides.
            goal: its direction.
            trials: how many there are to be.
        """
        config = prepared.request.config
        given: dict[str, Any] = {}
        for layer in prepared.layers:
            given |= {} if layer.gives_way else layer.settings
        given.pop("run.run_dir", None)
        defaults = next((layer.settings for layer in prepared.layers if layer.name == "--early-stopping"), {})
        document = cls(
            schema_version=SCHEMA_VERSION,
            backend=config.backend,
            task=config.task,
            model=config.model.model,
            settings=given,
            defaults=defaults,
            config=_without_run_dir(config.to_dict()),
            search=list(options.search),
            space=list(space),
            metric=metric,
            goal=goal,
            sampling=options.sampling,
            seed=config.run.seed,
            max_trials=trials,
            confirm_seeds=options.confirm_seeds,
            halving=options.halving,
        )
        return _plain(document)

    def layers(self, directory: Path) -> list[Layer]:
        """Return the settings and options with which the sweep goes on.

        Args:
            directory: where the sweep lies now.
        """
        options = {
            "search": tuple(self.search), "sweep_metric": self.metric, "sweep_goal": self.goal,
            "sampling": self.sampling, "max_trials": self.max_trials, "confirm_seeds": self.confirm_seeds,
            "halving": self.halving,
        }  # fmt: skip
        return [
            Layer(
                f"the sweep ({directory})",
                {
                    **self.settings,
                    "run.run_dir": directory,
                    **{f"{SECTION}.{name}": value for name, value in options.items()},
                },
            )
        ]

    def write(self, directory: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            UserError: it cannot be written.
        """
        try:
            text = json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n"
            write_atomically(directory / DOCUMENT_NAME, text.encode("utf-8", "surrogatepass"), durable=True)
        except OSError as error:
            raise UserError(f"{directory / DOCUMENT_NAME}: it cannot be written ({error.strerror})") from error

    def refuse_other(self, asked: SweepDocument, directory: Path) -> None:
        """Refuse to go on with a sweep otherwise than as it was begun.

        Args:
            asked: what it is to go on as.
            directory: of the sweep.

        Raises:
            ConfigError: names the first difference.
        """
        for name, was, now in _differences(self, asked):
            raise ConfigError(
                f"--resume {directory}: the sweep in it has {name} = {was}, and {now} was asked for; leave that out to "
                "go on with it, or choose another --run-dir"
            )


def read_document(directory: Path) -> SweepDocument | None:
    """Return the document of the sweep in a directory; None: there is none.

    Raises:
        UserError: it cannot be read, is damaged, or is of a newer version of this program.
    """
    path = directory / DOCUMENT_NAME
    try:
        found = read_as(path, SweepDocument)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    if found.schema_version > SCHEMA_VERSION:
        raise UserError(f"{path}: it was written by a newer version of this program; update this one")
    return _plain(found)


def going_on(saved: SweepDocument, asked: SweepDocument) -> SweepDocument:
    """Return a sweep's document with the number of trials and of new seeds that are asked for now."""
    return replace(saved, **{name: getattr(asked, name) for name in _MAY_CHANGE})


def _plain(document: SweepDocument) -> SweepDocument:
    """Return a document as it is read back: paths are texts, tuples are lists."""
    return SweepDocument(**json.loads(json.dumps(asdict(document), default=str)))


def _without_run_dir(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "run": {name: value for name, value in config["run"].items() if name != "run_dir"}}


def _differences(one: SweepDocument, other: SweepDocument) -> Iterator[tuple[str, str, str]]:
    """Yield (name, value of one, value of the other) of all that decides the trials and differs."""
    compared = _COMPARED if one.halving is None else (*_COMPARED, "max_trials")  # rungs compare all trials
    for name in compared:
        if getattr(one, name) != getattr(other, name):
            shown = "search" if name == "space" else name
            yield shown, _shown(getattr(one, name)), _shown(getattr(other, name))
    was, now = flat(one.config), flat(other.config)
    for key in dict.fromkeys([*was, *now]):
        if was.get(key) != now.get(key):
            yield key.rpartition(".")[2], _shown(was.get(key)), _shown(now.get(key))


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
