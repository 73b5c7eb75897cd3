"""A whole run, for every backend that trains on this machine: data, training, finished model.

The backend provides the ranks, the engine and the loop; the task decides what is trained and what is printed about it,
the same on all backends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from training.backends.protocol import RunRequest, RunResult
from training.checkpoints.checkpoint import load_checkpoint
from training.checkpoints.finished_model import TrainedModel, save_final_model
from training.checkpoints.run_directory import checkpoint_name
from training.checkpoints.start_from import refuse_absent_checkpoints
from training.errors import ConfigError
from training.forecast.run_forecast import RunForecast
from training.language.messages import Message, choose_language
from training.loop.trainer import MakeEngine, Trainer, our_loop
from training.loop.weight_snapshots import SNAPSHOTS_NAME, snapshot_bytes
from training.machine.ranks import Ranks
from training.machine.units import as_size
from training.publish.export import push_final_model
from training.record.terminal import Terminal
from training.tasks.protocol import Prepared, Task, task_of
from training.tracking.choice import trackers_for


def run_task(
    request: RunRequest,
    ranks: Ranks,
    make_engine: MakeEngine,
    loop: Callable[[Trainer], None] = our_loop,
    checkpoint_name: Callable[[int, int | None], str] = checkpoint_name,
) -> RunResult:
    """Train, write the final model and show what it learned. Every rank calls it; rank 0 writes and reports.

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
    prepared = task.prepare(request.config)
    _refuse_other_runs(ranks, prepared)
    if request.resume and request.resume_from is None and request.start_from is None:
        ranks.on_main(lambda: refuse_absent_checkpoints(request.config.run.run_dir))
    trainer = Trainer.of(
        prepared,
        make_engine=make_engine,
        loop=loop,
        checkpoint_name=checkpoint_name,
        ranks=ranks,
        callbacks=[RunForecast(prepared)],
        sinks=[Terminal(), *trackers_for(prepared.config)] if ranks.is_main else (),
        resume=request.resume,
        resume_from=request.resume_from,
        start_from=request.start_from,
        overwrite=request.overwrite,
    )
    try:
        if ranks.is_main:
            trainer.directory.becomes_local()
            trainer.reporter.introduced([*prepared.introduction, *_introduction(trainer, prepared)])
        return _train(trainer, task, prepared)
    finally:
        trainer.close()


def _train(trainer: Trainer, task: Task, prepared: Prepared) -> RunResult:
    started, first_step = time.perf_counter(), trainer.step
    result = trainer.train(keep_open=True)
    seconds = time.perf_counter() - started
    model = trainer.engine.model()  # collective if the weights are spread over the ranks
    if not trainer.ranks.is_main:
        return result
    said = trainer.reporter.said
    ended = Message(
        "{state} at step {step} after {seconds:.1f} s of training ({steps} steps)",
        state=Message(result.state),
        step=result.step,
        seconds=seconds,
        steps=result.step - first_step,
    )
    said([ended])
    if result.state != "finished":
        path = trainer.directory.path
        said([Message("go on with: the same command and --resume (run directory {path})", path=path)])
        return result
    trained = TrainedModel(
        model, prepared.family, prepared.config.model, prepared.vocabulary, trainer.directory.portable_model,
        prepared.artefacts, result.step, trainer.config.to_dict(), prepared.fingerprint or None,
    )  # fmt: skip
    result = _conclude(trainer, task, prepared, trained, result)
    if failure := push_final_model(trained, trainer.config.hub):
        trainer.reporter.warning(failure, step=result.step)
        trainer.reporter.flush(durable=True)
    return result


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


def _introduction(trainer: Trainer, prepared: Prepared) -> list[str]:
    """Describe the model and the run in lines."""
    config, ranks = trainer.config, trainer.ranks
    network: list[str] = [prepared.family.describe(config.model, trainer.num_parameters)]
    if prepared.vocabulary is not None:
        network.append(Message("{tokens} tokens in the vocabulary", tokens=prepared.vocabulary))
    run: list[str] = [
        Message("{directory} on {device}", directory=config.run.run_dir, device=ranks.device),
        config.run.precision,
        Message("{steps} steps", steps=trainer.total_steps),
    ]
    if ranks.world_size > 1:
        samples = config.run.samples_per_update
        run.append(
            Message("{ranks} ranks sharing {samples} samples per update", ranks=ranks.world_size, samples=samples)
        )
    lines: list[str] = [
        Message("model   {parts}", parts=Message.joined(", ", network)),
        Message("run     {parts}", parts=Message.joined(", ", run)),
    ]
    if size := snapshot_bytes(config, trainer.total_steps, trainer.num_parameters):
        directory = config.run.run_dir / SNAPSHOTS_NAME
        lines.append(
            Message("path    up to {size} of weight snapshots in {directory}", size=as_size(size), directory=directory)
        )
    return lines


def _conclude(trainer: Trainer, task: Task, prepared: Prepared, trained: TrainedModel, result: RunResult) -> RunResult:
    """Write the final model and let the task show what it learned."""
    step, reporter = result.step, trainer.reporter
    if trainer.config.checkpoint.load_best_model_at_end:
        best = load_checkpoint(trainer.directory.best_checkpoint)
        trained.model.load_state_dict(best["engine"]["model"])
        step = best["step"]
        loss = trainer.early_stopping.best
        best_line = Message("best    the final model is that of step {step} (loss {loss:.4f})", step=step, loss=loss)
        reporter.said([best_line])
    save_final_model(trainer.directory, trained, trainer.config, step)
    reporter.final_model(trainer.directory.portable_model, step)
    directory = trainer.directory
    saved = Message("saved   {file} and {folder}/", file=directory.final_model, folder=directory.portable_model)
    reporter.said([saved])
    figures, lines = task.conclude(trained.model, replace(prepared, config=trainer.config))
    if figures or lines:
        reporter.conclusion(figures, lines)
    reporter.flush(durable=True)  # the final model is in the record, whether or not the task concludes anything
    return replace(result, figures=figures)
