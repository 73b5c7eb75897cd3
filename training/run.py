"""A run of a task, for every backend that trains on this machine: data prepared, then trained by a `Trainer`.

The backend provides the ranks, the engine and the loop; the task decides what is trained and what is printed about it,
the same on all backends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from training.backends.protocol import RunRequest, RunResult
from training.checkpoints.run_directory import checkpoint_name
from training.checkpoints.start_from import refuse_absent_checkpoints
from training.errors import ConfigError
from training.forecast.run_forecast import RunForecast
from training.language.messages import Message, choose_language, say
from training.loop.progress_samples import progress_samples
from training.loop.stop_after import StopAfterEpoch
from training.loop.trainer import MakeEngine, Trainer, our_loop
from training.machine.ranks import Ranks
from training.machine.units import as_size
from training.tasks.protocol import Prepared, task_of

LARGE_FILE = 20_000_000
"""Bytes from which the reading of a data file takes more than a moment."""


def run_task(
    request: RunRequest,
    ranks: Ranks,
    make_engine: MakeEngine,
    loop: Callable[[Trainer], None] = our_loop,
    checkpoint_name: Callable[[int, int | None], str] = checkpoint_name,
) -> RunResult:
    """Prepare a run's data and train. Every rank calls it; rank 0 writes and reports.

    Args:
        request: the config, and what to do with the run directory.
        ranks: the processes of the run.
        make_engine: function (seeded model, resolved config, model family) -> engine.
        loop: function that makes the updates.
        checkpoint_name: function (step, epoch that ends there or None) -> name of a checkpoint.

    Raises:
        UserError: the data, the settings or the run directory cannot be used.
    """
    choose_language(request.config.report.lang)
    task = task_of(request.config)
    ranks.on_main(lambda: _say_what_is_read(task.data_files(request.config.data)))
    prepared = task.prepare(request.config)
    _refuse_other_runs(ranks, prepared)
    if request.resume and request.resume_from is None and request.start_from is None:
        ranks.on_main(lambda: refuse_absent_checkpoints(request.config.run.run_dir))
    return Trainer.of(
        prepared,
        make_engine=make_engine,
        loop=loop,
        checkpoint_name=checkpoint_name,
        ranks=ranks,
        facts={"settings_from": _sources(request.origins)} if request.origins else None,
        callbacks=[
            RunForecast(prepared),
            *progress_samples(prepared),
            *([] if request.stop_after is None else [StopAfterEpoch(request.stop_after)]),
        ],
        resume=request.resume,
        resume_from=request.resume_from,
        start_from=request.start_from,
        overwrite=request.overwrite,
        checked=True,
    ).train()


def _sources(origins: Mapping[str, str]) -> dict[str, str]:
    """Return who set each setting; a record that travels names the user's files without their directories."""
    return {key: Path(source).name if Path(source).is_absolute() else source for key, source in origins.items()}


def _say_what_is_read(files: Sequence[Path]) -> None:
    """Name the files that take more than a moment to read, before they are read."""
    for path in files:
        if (size := path.stat().st_size) >= LARGE_FILE:
            say(Message("data    reading {file} ({size})", file=path, size=as_size(size)))


def _refuse_other_runs(ranks: Ranks, prepared: Prepared) -> None:
    """Refuse machines that were started with other settings or other data: they would not train one model together.

    Raises:
        ConfigError: a rank has other settings or data; raised on every rank.
    """
    all_of_them = ranks.gather((prepared.config.curve_hash(), prepared.fingerprint))
    first = next((n for n, one in enumerate(all_of_them) if one != all_of_them[0]), None)
    other = ranks.broadcast(first)
    if other is not None:
        raise ConfigError(
            f"rank {other} was started with other settings or other data than rank 0; give every machine the same "
            "command, the same config file and the same data files"
        )
