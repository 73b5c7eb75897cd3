"""Our own training loop, and the run around it, which every other loop shares.

    for each epoch:
        for each global batch of the epoch:            # a pure function of (seed, epoch, index)
            cut this rank's share into micro-batches, seed each
            engine.update(micro-batches, lr(step))     # one optimizer update on all ranks, or a skip
            report the figures
            at the epoch's end: validate, remember the best, count patience
            save a checkpoint if one is due
            if a stop was requested: save and leave    # resumes exactly here
    save the final state

All state is `step` (updates done) and the engine's state; epoch and position in the data follow from `step`.
`our_loop` is the loop; if another library owns the loop (transformers.Trainer), it takes its global batches from the
same `Trainer.next_batch` and passes each result to the same `Trainer.updated`.
"""

from __future__ import annotations

import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, cast

import torch

from training.backends.prepare import DEFAULT_BACKEND
from training.backends.protocol import RunResult
from training.checkpoints.averaged_weights import CALLBACK, evaluated_weights
from training.checkpoints.branches import left_branch_line, set_aside_later
from training.checkpoints.checkpoint import (
    Checkpoint,
    DataIdentity,
    Origin,
    delete_superseded,
    load_checkpoint,
    save_together,
)
from training.checkpoints.finished_model import TrainedModel, save_final_model
from training.checkpoints.finite_weights import refuse_not_finite
from training.checkpoints.resume import (
    another_length,
    find_checkpoint,
    refuse_another_run,
    refuse_past_end,
    refuse_two_runs_in_one,
    what_does_not_carry_over,
)
from training.checkpoints.run_directory import RunDirectory, checkpoint_name
from training.checkpoints.start_from import bring_along
from training.engines.protocol import Engine, UpdatingEngine
from training.engines.results import EvaluationResult, UpdateResult
from training.engines.torch_engine import TorchEngine
from training.errors import CheckpointError
from training.language.messages import Message, choose_language
from training.loop.callbacks import Callback
from training.loop.early_stopping import EarlyStopping
from training.loop.preflight import (
    check_services,
    refuse_other_parts,
    refuse_other_types,
    refuse_other_world_size,
    refuse_without_effect,
)
from training.loop.schedules import learning_rate_at
from training.loop.skipped_updates import SkippedUpdates
from training.loop.weight_average import WeightAverage
from training.loop.weight_snapshots import SNAPSHOTS_NAME, WeightSnapshots, snapshot_bytes
from training.machine.commands import python_command
from training.machine.device import pick_device, pick_precision
from training.machine.ranks import Ranks
from training.machine.stop_signals import StopSignals
from training.machine.units import as_size
from training.machine.usage import peak_of_each
from training.models.protocol import OWN_MODULE, BaseFamily, ModelFamily, load_saved_state
from training.publish.export import push_final_model
from training.record.reporter import ProgressReporter
from training.record.terminal import Terminal
from training.settings.tree import ModelOptions, TrainingConfig
from training.storage.atomic import write_atomically
from training.storage.user_paths import path_of
from training.tasks.batch_plan import BatchPlan, mix
from training.tasks.fingerprints import weights_fingerprint
from training.tasks.objective import Objective, seeded_model
from training.tasks.protocol import Prepared, task_of
from training.tasks.rank_batches import Feed, GlobalBatch
from training.tracking.choice import trackers_for

_CALLBACK = 1 << 16  # the value that ranks agree on when a callback requests a stop; above every signal's number
LEAST_SECONDS_TO_CONCLUDE, SHARE_TO_CONCLUDE = 2.0, 0.1
"""Time that a task's look at the finished model gets: a share of the training time, and at least so many seconds."""
SAMPLES_FOR_PROOF = 4
"""Training samples by which the files of a finished model are compared with it."""
_EVALUATION = 1 << 40  # used instead of an epoch: no training batch has these draws
_SAMPLE = 1 << 41  # precedes a sample's number, where the draws of batches have the batch's

MakeEngine = Callable[[torch.nn.Module, TrainingConfig, ModelFamily], Engine]


def our_loop(trainer: Trainer) -> None:
    """Make updates until the run is over or a stop is requested."""
    engine = cast(UpdatingEngine, trainer.engine)  # a backend brings its loop together with a matching engine
    while trainer.goes_on:
        batch = trainer.next_batch()
        result = engine.update(batch.micro_batches, trainer.objective.loss, batch.learning_rate, batch.weight)
        trainer.updated(batch, result)


class Trainer:
    """A whole run of any objective in this process: training, trackers, terminal, final model.

    Args:
        config: all settings; the run writes everything into `config.run.run_dir`. One that has no effect here is
            refused.
        train_dataset: object with a length and items, which `objective` collates.
        val_dataset: dataset that is measured after each epoch; None: no validation.
        objective: model, batching and loss.
        family: model family that groups the model's parameters and turns on gradient checkpointing; None: the
            objective's own, else one that takes any `nn.Module`.
        make_engine: function (seeded model, resolved config, family) -> engine; None: plain torch.
        loop: function that makes updates while `goes_on`: with `next_batch`, the engine, and `updated`.
        checkpoint_name: function (step, epoch that ends there or None) -> name of a checkpoint.
        ranks: the processes of the run; None: those that a launcher started, each on `device`, or only this one.
        device: device of this process; None: CUDA, else MPS, else the CPU. Not used if ranks are given.
        callbacks: hooks, see `training.loop.callbacks`.
        progress: show the run on the terminal.
        sinks: further readers of the progress events.
        resume: continue from the newest intact checkpoint of the run directory, or start if there is none yet.
        resume_from: continue from this checkpoint instead.
        start_from: run directory or checkpoint to continue from where the run directory has no checkpoint.
        overwrite: delete an existing run in the directory.
        facts: plain data about the run for the report (backend, data).
        artefacts: plain data that is kept in every checkpoint (the tokenizer).
        vocabulary: number of tokens, kept in every checkpoint; None: there are none, or the model's settings say.
        asked: options of the network for config.yaml, where the data has completed those of `config`.
        check_model: function that proves something on the new model, on every rank, and returns lines for the user.
        checked: the front door has checked the settings, and its backend honours those of backend and launch.

    Raises:
        UserError: the directory or the checkpoint cannot be used; see the message.

    Example:
        >>> objective = ModuleObjective(lambda: nn.Linear(4, 1), lambda m, b: ((m(b["x"]) - b["y"]) ** 2).sum())
        >>> Trainer(TrainingConfig(run=RunConfig(run_dir="runs/line")), dataset, objective=objective).train()
    """

    def __init__(
        self,
        config: TrainingConfig,
        train_dataset: Any,
        val_dataset: Any = None,
        *,
        objective: Objective,
        family: ModelFamily | None = None,
        make_engine: MakeEngine | None = None,
        loop: Callable[[Trainer], None] = our_loop,
        checkpoint_name: Callable[[int, int | None], str] = checkpoint_name,
        ranks: Ranks | None = None,
        device: torch.device | str | None = None,
        callbacks: Sequence[Callback] = (),
        progress: bool = True,
        sinks: Sequence[Any] = (),
        resume: bool = False,
        resume_from: str | Path | None = None,
        start_from: str | Path | None = None,
        overwrite: bool = False,
        facts: Mapping[str, Any] | None = None,
        artefacts: Mapping[str, Any] | None = None,
        vocabulary: int | None = None,
        asked: ModelOptions | None = None,
        check_model: Callable[[torch.nn.Module], Sequence[str]] | None = None,
        checked: bool = False,
    ) -> None:
        refuse_other_types(config, {"train_dataset": train_dataset, "val_dataset": val_dataset})
        refuse_other_parts(objective, family, callbacks, sinks)
        config.validate()
        config.refuse_patience(has_validation=val_dataset is not None)
        self.family: ModelFamily = family or getattr(objective, "family", None) or BaseFamily()
        self._own_module = type(self.family) is BaseFamily
        if not checked:
            choose_language(config.report.lang)
            refuse_without_effect(config, own_module=self._own_module)
        self.ranks = ranks or Ranks.join(pick_device(device))
        if not checked:
            refuse_other_world_size(config, self.ranks.world_size)
            self.ranks.on_main(lambda: check_services(config))
        precision = pick_precision(config.run.precision, self.ranks.device)
        config = config.with_batch_sizes_for(self.ranks.world_size)
        self.config = config = config.model_copy(update={"run": config.run.model_copy(update={"precision": precision})})
        self.objective = objective
        self.train_dataset, self._val = train_dataset, val_dataset
        self._loop = loop
        run = config.run
        self._feed = Feed(objective, train_dataset, self.ranks, run.batch_size)
        self.plan = BatchPlan(
            objective.lengths(train_dataset),
            run.samples_per_update,
            run.seed,
            config.data.length_window,
        )
        self.total_steps = run.epochs * self.plan.steps_per_epoch
        if run.max_steps is not None:
            self.total_steps = min(self.total_steps, run.max_steps)
        self.learning_rate = learning_rate_at(
            config.schedule, config.optimizer.learning_rate, self.plan.steps_per_epoch, self.total_steps
        )
        model = seeded_model(objective, self.family, run.seed, run.gradient_checkpointing)
        self.num_parameters = sum(p.numel() for p in model.parameters())
        self._proved = check_model(model) if check_model is not None else ()
        self._num_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        self._parameters = frozenset(name for name, _ in model.named_parameters(remove_duplicate=False))
        decay = config.optimizer.ema_decay
        self._average = WeightAverage(model, decay) if decay is not None else None
        self.callbacks = [*([self._average] if self._average else []), WeightSnapshots(), *callbacks]
        self.engine: Engine = (
            make_engine(model, config, self.family)
            if make_engine
            else TorchEngine(model, config, self.ranks, self.family)
        )
        is_main = self.ranks.is_main
        self.directory = RunDirectory(
            run.run_dir, checkpoint_name, resume=resume or resume_from is not None, overwrite=overwrite, claim=is_main
        )
        # The other ranks keep the same counts and make the same decisions, but report nothing.
        self.reporter = (
            ProgressReporter(
                run.run_dir,
                config.report.report_batches,
                [*([Terminal(self._hints)] if progress else []), *trackers_for(config), *sinks],
                self.directory.refuse_if_gone,
            )
            if is_main
            else ProgressReporter(None, config.report.report_batches)
        )
        self._asked = asked or config.model
        self.step = 0
        self.batch = 0
        self._facts = {"backend": config.backend, "world_size": self.ranks.world_size, **(facts or {})}
        self.artefacts, self.vocabulary = {**(artefacts or {}), **self.family.artefacts_of(model)}, vocabulary
        self._run_id = uuid.uuid4().hex[:12]
        self.early_stopping = EarlyStopping(config.checkpoint.early_stopping_patience)
        self._skipped = SkippedUpdates(config.optimizer.max_skipped_updates)
        self._prepared: Prepared | None = None
        """Result of a task's `prepare`; None: data and objective are the caller's own."""
        self._checked = checked
        self._signals = StopSignals()
        self._stop_asked = False
        self._stop = 0
        self._saved_step = -1
        self._measured_at = 0
        self.resumed_from: Path | None = None
        self._epoch_loss = [0.0, 0]
        try:
            self._start(resume, _path("resume_from", resume_from), _path("start_from", start_from))
        except BaseException:
            self.directory.release()
            raise

    @classmethod
    def of(cls, prepared: Prepared, *, facts: Mapping[str, Any] | None = None, **options: Any) -> Self:
        """Make a trainer for what a task prepared.

        Args:
            prepared: data, objective and settings of the task.
            facts: more plain data for the report.
            options: other arguments of `Trainer`.
        """
        fingerprint = {"data_fingerprint": prepared.fingerprint} if prepared.fingerprint else {}
        task = task_of(prepared.config)
        trainer = cls(
            prepared.config,
            prepared.train,
            prepared.validation,
            objective=prepared.objective,
            family=prepared.family,
            facts={"task": prepared.config.task, **fingerprint, **prepared.facts, **(facts or {})},
            artefacts=prepared.artefacts,
            vocabulary=prepared.vocabulary,
            asked=prepared.asked,
            check_model=lambda model: task.check_model(model, prepared),
            **options,
        )
        trainer._prepared = prepared
        return trainer

    # -- start and resume ------------------------------------------------------------------------------------------

    def _start(self, resume: bool, resume_from: Path | None, start_from: Path | None) -> None:
        run_dir = self.directory.path
        checkpoint = self.ranks.broadcast(
            find_checkpoint(run_dir, resume, resume_from, start_from) if self.ranks.is_main else None
        )
        facts = {
            "run_id": self._run_id,
            "device": str(self.ranks.device),
            "num_parameters": self.num_parameters,
            "num_train_samples": len(self.train_dataset),
            "metrics": [metric.to_dict() for metric in self.objective.metrics],
            "steps_per_epoch": self.plan.steps_per_epoch,
            "total_steps": self.total_steps,
            "num_epochs": self.config.run.epochs,
            "curve_hash": self.config.curve_hash(),
            **self._facts,
        }
        if checkpoint is not None:
            differences = self._load(*checkpoint)
            facts["run_id"] = self._run_id
        if self.config.report.fingerprints:
            facts["weights_fingerprint"] = weights_fingerprint(self.engine.model())
        if checkpoint is not None:
            if start_from is not None and checkpoint[0].resolve().parent != run_dir.resolve():
                self.ranks.on_main(lambda: bring_along(run_dir, start_from))
                self._saved_step = self.step
            branch = self._set_aside_later()
            self.reporter.run_resumed(self.step, **facts)
            self.reporter.resumed_from(checkpoint[0], self.step, self.total_steps, differences)
            if branch:
                self.reporter.said(branch)
            if stretched := another_length(checkpoint[1], self.config, self.total_steps):
                self.reporter.warning(stretched, step=self.step)
        elif resume and self.directory.holds_run():
            self.reporter.run_resumed(0, **facts)
        else:
            self.reporter.run_started(**facts)
        if self.ranks.is_main:
            asked = self.config.model_copy(update={"model": self._asked})
            write_atomically(self.directory.config, asked.to_yaml().encode(), durable=True)

    def _set_aside_later(self) -> list[str]:
        """Set aside what the run directory has of later updates; return what is to be said about it."""
        lines: list[str] = []

        def act() -> None:
            if found := set_aside_later(self.directory.path, self.step):
                lines.append(left_branch_line(*found))

        self.ranks.on_main(act)
        return lines

    def _load(self, path: Path, checkpoint: Checkpoint) -> list[str]:
        """Load the state of a checkpoint; return the reasons why the run will not continue bit for bit, if any."""
        data = DataIdentity(len(self.train_dataset), self._facts.get("data_fingerprint"))
        refuse_another_run(path, checkpoint, self.config, self._asked, data)
        refuse_past_end(path, checkpoint, self.total_steps)
        refuse_two_runs_in_one(self.directory.path, path, checkpoint)
        refuse_not_finite(checkpoint.engine["model"], self._parameters, f"--resume {path}")
        try:
            self.engine.load_state_dict(checkpoint.engine)
        except (LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(
                f"--resume {path}: the state does not fit this model and optimizer ({reason})"
            ) from error
        loop = checkpoint.loop
        self.step, self.batch, self._run_id = checkpoint.step, loop["batch"], checkpoint.origin.run_id or self._run_id
        self._epoch_loss = list(loop["epoch_loss"])
        # An older checkpoint does not say; it was written after the end of its epoch was processed.
        at_epochs_end = self.step % self.plan.steps_per_epoch == 0
        self._measured_at = loop.get("measured_at", self.step if at_epochs_end else 0)
        self.early_stopping.load_state_dict(loop["early_stopping"])
        self._skipped.load_state_dict(loop["skipped_updates"])
        if self._average is not None and CALLBACK not in loop["callbacks"]:
            raise CheckpointError(f"--resume {path}: it holds no average of the weights, which ema_decay continues")
        for name, callback in named(self.callbacks):
            if name in loop["callbacks"]:
                try:
                    callback.load_state_dict(loop["callbacks"][name])
                except (LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
                    reason = f"{type(error).__name__}: {error}"
                    raise CheckpointError(
                        f"--resume {path}: the state of the callback {name} cannot be restored ({reason})"
                    ) from error
        self.resumed_from = path
        self._saved_step = self.step if path.parent.resolve() == self.directory.path.resolve() else -1
        draws = self.family.random_draws(self.config.model)
        return what_does_not_carry_over(checkpoint, self.config, self.ranks, self.engine.layout, draws)

    # -- the loop --------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Request an orderly stop after the current update."""
        self._stop_asked = True

    def train(self) -> RunResult:
        """Train to the end, or to a stop. It can be killed at any time: see `--resume`.

        A run that finished writes its final model, shows what the task learned, and is published if the settings say
        so.

        Raises:
            UserError: the disk refuses, or the updates stay without a finite loss.
        """
        try:
            if self.ranks.is_main:
                self.directory.becomes_local()
                self.reporter.introduced(self._introduction())
            started, first_step = time.perf_counter(), self.step
            result = self.make_updates()
            seconds = time.perf_counter() - started
            model = self.evaluated_model()  # collective if the weights are spread over the ranks
            if not self.ranks.is_main:
                return result
            ended = Message(
                "{state} at step {step} after {seconds:.1f} s of training ({steps} steps)",
                state=Message(result.state),
                step=result.step,
                seconds=seconds,
                steps=result.step - first_step,
            )
            self.reporter.said([ended])
            if result.state == "finished":
                return self._conclude(model, result)
            self.reporter.said([Message("go on with: {command}", command=self._resume_command())])
            return result
        finally:
            self.close()

    def make_updates(self) -> RunResult:
        """Make all updates that are left, or those before a stop, and nothing after them; `close` is left to do."""
        try:
            with self._signals:
                return self._train_to_end()
        except BaseException as error:
            self.reporter.run_failed(error)
            raise

    def close(self) -> None:
        """Let the sinks finish, and release the run directory for other processes."""
        self.reporter.close()
        self.directory.release()

    def _hints(self) -> list[str]:
        """Say to the person who started the run how to stop it and go on."""
        if self.step >= self.total_steps:
            return []
        command = self._resume_command()
        return [Message("stop    Ctrl-C saves and ends it; go on with: {command}", command=command)]

    def _resume_command(self) -> str:
        """Return the command that goes on with this run, with as many processes as it has now."""
        path, launch = self.directory.path, self.config.launch
        if not self._checked:
            return Message("the same Trainer with resume=True (run directory {path})", path=path)
        if launch.nnodes > 1 or self.ranks.world_size != (launch.num_processes or launch.num_gpus or 1):
            return Message("the same command and --resume (run directory {path})", path=path)
        backend = self.config.backend
        words = [] if backend == DEFAULT_BACKEND else ["--backend", backend]
        return python_command("train.py", *words, "--resume", path)

    def _introduction(self) -> list[str]:
        """Describe data, model and run in lines."""
        config, ranks = self.config, self.ranks
        network: list[str] = [self.family.describe(config.model, self.num_parameters)]
        if self._num_trained < self.num_parameters:
            share = f"{self._num_trained / self.num_parameters:.2%}"
            network.append(Message("{count:,} of them trained ({share})", count=self._num_trained, share=share))
        if self.vocabulary is not None:
            network.append(Message("{tokens} tokens in the vocabulary", tokens=self.vocabulary))
        run: list[str] = [
            Message("{directory} on {device}", directory=config.run.run_dir, device=ranks.device),
            config.run.precision,
            Message("{steps} steps", steps=self.total_steps),
        ]
        if ranks.world_size > 1:
            samples = config.run.samples_per_update
            run.append(
                Message("{ranks} ranks sharing {samples} samples per update", ranks=ranks.world_size, samples=samples)
            )
        lines: list[str] = [
            *(self._prepared.introduction if self._prepared else ()),
            *self._proved,
            Message("model   {parts}", parts=Message.joined(", ", network)),
            Message("run     {parts}", parts=Message.joined(", ", run)),
        ]
        if self._average is not None:
            average = Message(
                "average a moving average of the weights (decay {decay:g}) is validated, kept as the best and saved at "
                "the end",
                decay=config.optimizer.ema_decay,
            )
            lines.append(average)
        if size := snapshot_bytes(config, self.total_steps, self.num_parameters):
            directory = config.run.run_dir / SNAPSHOTS_NAME
            lines.append(
                Message(
                    "path    up to {size} of weight snapshots in {directory}", size=as_size(size), directory=directory
                )
            )
        return lines

    def _train_to_end(self) -> RunResult:
        self._call("on_run_start")
        self._measure_if_due()  # a callback saved the resumed checkpoint before the end of its epoch was processed
        if self.early_stopping.is_due:  # the resumed run had ended early
            self.total_steps = self.step
        self._loop(self)
        if self._stop or self.goes_on:  # a loop of another library may end by itself
            return self._stopped(signal.Signals(self._stop) if 0 < self._stop < _CALLBACK else None)
        self._refuse_without_finite_loss()
        epoch, within = divmod(self.step, self.plan.steps_per_epoch)
        if self._saved_step != self.step:
            self._save(self.directory.checkpoint(self.step, None if within else epoch))
        ended_early = f"no better validation loss for {self.early_stopping.epochs_without_gain} epochs"
        reason = ended_early if self.early_stopping.is_due else "all steps done"
        self.reporter.run_finished(reason=reason)
        self._call("on_run_end", {"state": "finished", "reason": reason})
        return RunResult("finished", self.step)

    def _refuse_without_finite_loss(self) -> None:
        """End a run whose last updates were skipped as a failure, unless the next batch would have a finite loss.

        One bad batch at the end costs nobody a run, and a run that has stopped learning is no success.

        Raises:
            UserError: it has none, or no update was made at all.
        """
        if not self._skipped.in_a_row:
            return
        epoch, index = divmod(self.step, self.plan.steps_per_epoch)
        seed = self.config.run.seed
        batches = self._feed.batches(
            self.plan.indices(epoch, index),
            lambda number: mix(seed, _EVALUATION, number) >> 1,
            self._sample_seeds(epoch),
        )
        loss = self.engine.evaluate(batches, self.objective.loss).loss
        self._skipped.refuse_end(self.step, loss)

    def _stopped(self, received: signal.Signals | None) -> RunResult:
        self.save()
        reason = received.name if received else "a callback asked for it"
        self.reporter.run_stopped(reason=reason)
        self._call("on_run_end", {"state": "stopped", "reason": reason})
        return RunResult("stopped", self.step, exit_code=128 + received if received else 0)

    @property
    def goes_on(self) -> bool:
        """Return True if another update follows."""
        return self.step < self.total_steps and not self._stop and not self.early_stopping.is_due

    def next_batch(self) -> GlobalBatch:
        """Return this rank's part of the update that turns `step` into `step` + 1."""
        started = time.perf_counter()
        epoch, index = divmod(self.step, self.plan.steps_per_epoch)
        indices, seed = self.plan.indices(epoch, index), self.config.run.seed
        # The draws for a batch are a function of (seed, step, number): nothing has to be saved to resume.
        batches = list(
            self._feed.batches(indices, lambda number: mix(seed, epoch, index, number) >> 1, self._sample_seeds(epoch))
        )
        return GlobalBatch(
            epoch, batches, self._feed.weight(indices), len(indices), self.learning_rate(self.step), started
        )

    def _sample_seeds(self, epoch: int) -> Callable[[int], int]:
        """Return the function from a sample's number to the seed of its draws in an epoch."""
        seed = self.config.run.seed
        return lambda sample: mix(seed, epoch, _SAMPLE, sample) >> 1

    def updated(self, batch: GlobalBatch, result: UpdateResult) -> None:
        """Record an update and do what is due after it: report, evaluate, save, agree on a stop."""
        self._report(batch, result)
        self._measure_if_due()
        if self.early_stopping.is_due:
            return
        self._save_if_due()
        self._stop = self.ranks.agree(self._signals.received or (_CALLBACK if self._stop_asked else 0))

    def _report(self, batch: GlobalBatch, result: UpdateResult) -> None:
        self.step += 1
        self.batch += len(batch.micro_batches)
        if not result.skipped:
            self._epoch_loss[0] += result.loss * result.weight
            self._epoch_loss[1] += result.weight
        fingerprints: dict[str, Any] = {}
        if self.config.report.fingerprints:
            model = self.engine.model()
            fingerprints = {"batch_hash": self._feed.hash(batch), "weights_fingerprint": weights_fingerprint(model)}
        self.reporter.step(
            step=self.step,
            epoch=batch.epoch + 1,
            batch=self.batch,
            loss=result.loss,
            **result.metrics,
            grad_norm=result.grad_norm,
            learning_rate=batch.learning_rate,
            **_throughput(result, batch, time.perf_counter() - batch.started),
            forward_ms=round(result.forward_ms, 3),
            backward_ms=round(result.backward_ms, 3),
            **({"clipped": True} if result.clipped else {}),
            **({"skipped": True} if result.skipped else {}),
            **fingerprints,
        )
        if skipped := self._skipped.note(result, self.step):
            self.reporter.warning(skipped, step=self.step)
            self._skipped.refuse_too_many(self.step)
        self._call("on_step", result)

    # -- the end of an epoch ---------------------------------------------------------------------------------------

    def _measure_if_due(self) -> None:
        """Evaluate at the end of an epoch, and where the run ends inside one; once at each step, however often the run
        is resumed there."""
        epoch, within = divmod(self.step, self.plan.steps_per_epoch)
        if self.step == self._measured_at or (within and self.step < self.total_steps):
            return
        self._measured_at, self._saved_step = self.step, -1  # a checkpoint of this step does not know it yet
        if within:
            self._end_inside_epoch(epoch + 1)
        else:
            self._end_epoch(epoch)

    def _end_epoch(self, epoch: int) -> None:
        """Evaluate, count patience, and keep the best checkpoint."""
        loss_sum, weight = self._epoch_loss
        self._epoch_loss = [0.0, 0]
        result = self.evaluate(epoch)
        loss = result.loss if result else (loss_sum / weight if weight else float("inf"))
        is_best = self._note(epoch, loss)
        self._call("on_epoch", epoch)  # before anything is saved, so that the checkpoint includes its effect
        if is_best and self.config.checkpoint.keeps_best:
            self._save(self.directory.best_checkpoint)

    def _end_inside_epoch(self, epoch: int) -> None:
        """Evaluate, and keep the checkpoint if it is the best. The epoch's sums stay, for a run that goes on with it.

        Without validation data there is nothing to compare: the mean of a part of an epoch is no epoch's loss.
        """
        result = self.evaluate(epoch)
        is_best = result is not None and self._note(epoch, result.loss, whole_epoch=False)
        if is_best and self.config.checkpoint.keeps_best:
            self._save(self.directory.best_checkpoint)

    def _note(self, epoch: int, loss: float, *, whole_epoch: bool = True) -> bool:
        is_best = self.early_stopping.note(loss, whole_epoch=whole_epoch)
        if is_best:
            self.reporter.emit("best", {"step": self.step, "epoch": epoch, "loss": loss})
        return is_best

    def evaluated_model(self) -> torch.nn.Module:
        """Return the network that is validated, shown and published, at least on rank 0. Collective.

        It is the one in training, or, with `ema_decay`, a copy with the averaged weights.
        """
        model = self.engine.model()
        return model if self._average is None else self._average.module(model)

    def evaluate(self, epoch: int) -> EvaluationResult | None:
        """Measure the validation data now and report it for `epoch`, counted from 1; None without validation data."""
        if self._val is None:
            return None
        order = sorted(range(len(self._val)), key=self.objective.lengths(self._val).__getitem__)
        feed, seed = Feed(self.objective, self._val, self.ranks, self.config.run.batch_size), self.config.run.seed
        # Every evaluation has the same draws, so that two figures differ only by the weights.
        batches = feed.batches(
            order, lambda number: mix(seed, _EVALUATION, number) >> 1, self._sample_seeds(_EVALUATION)
        )
        if self._average is None:
            result = self.engine.evaluate(batches, self.objective.loss)
        else:
            model, precision = self.engine.model(), self.config.run.precision
            result = self._average.evaluate(model, batches, self.objective.loss, self.ranks, precision)
        self.reporter.evaluation(step=self.step, epoch=epoch, loss=result.loss, **result.metrics)
        self._call("on_evaluation", result)
        return result

    # -- the end of the run ----------------------------------------------------------------------------------------

    def _conclude(self, model: torch.nn.Module, result: RunResult) -> RunResult:
        """Write the final model, let the task show what it learned, and publish it."""
        reporter = self.reporter
        step = self._take_best(model) if self.config.checkpoint.load_best_model_at_end else self.step
        options = ModelOptions(model=OWN_MODULE) if self._own_module else self.config.model
        trained = TrainedModel(
            model, self.family, options, self.vocabulary, self.directory.portable_model, self.artefacts, step,
            self.config.to_dict(), self._facts.get("data_fingerprint"),
        )  # fmt: skip
        directory = self.directory
        save_final_model(directory, trained, self.config, step)
        reporter.final_model(directory.portable_model, step)
        saved = Message("saved   {folder}/", folder=directory.portable_model)
        if self.family.writes_single_file:
            saved = Message("saved   {file} and {folder}/", file=directory.final_model, folder=directory.portable_model)
        reporter.said([saved])
        proof = self.family.prove_saved(directory.portable_model, model, options, self._samples_for_proof)
        if proof.figures or proof.lines:
            reporter.conclusion(proof.figures, proof.lines)
        for line in proof.warnings:
            reporter.warning(line, step=step)
        if self._prepared is not None:
            seconds = max(LEAST_SECONDS_TO_CONCLUDE, SHARE_TO_CONCLUDE * self.reporter.report.seconds)
            prepared = replace(self._prepared, config=self.config, seconds_to_conclude=seconds)
            figures, lines = task_of(self.config).conclude(model, prepared)
            if figures or lines:
                reporter.conclusion(figures, lines)
            result = replace(result, figures=figures)
        reporter.flush(durable=True)  # the final model is in the record, whether or not the task concludes anything
        if failure := push_final_model(trained, self.config.hub):
            reporter.warning(failure, step=result.step)
            reporter.flush(durable=True)
        return result

    def _samples_for_proof(self) -> list[Mapping[str, torch.Tensor]]:
        """Return the tensors of the first training samples, each as a batch of its own."""
        samples = range(min(SAMPLES_FOR_PROOF, len(self.train_dataset)))
        return [self.objective.collate([self.train_dataset[number]]).tensors for number in samples]

    def _take_best(self, model: torch.nn.Module) -> int:
        """Give the model the best weights and return their step; without them the last ones stay, which is said."""
        loss = self.early_stopping.best
        try:
            if loss is None:
                raise CheckpointError(Message("no epoch came to its end, and no validation loss was measured"))
            best = load_checkpoint(self.directory.best_checkpoint)
            if best["loop"]["early_stopping"]["best"] != loss:
                raise CheckpointError(Message("the weights of the best loss, {loss:.4f}, were not kept", loss=loss))
        except CheckpointError as error:
            last = Message("the final model is that of the last step, {step}: {why}", step=self.step, why=error.args[0])
            self.reporter.warning(last, step=self.step)
            return self.step
        load_saved_state(self.family, model, evaluated_weights(best))
        step: int = best["step"]
        self.reporter.said([
            Message("best    the final model is that of step {step} (loss {loss:.4f})", step=step, loss=loss)
        ])  # fmt: skip
        return step

    # -- saving ----------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint of this step, unless one exists."""
        if self._saved_step != self.step:
            self._save(self.directory.checkpoint(self.step))

    def _save_if_due(self) -> None:
        settings = self.config.checkpoint
        epoch, within = divmod(self.step, self.plan.steps_per_epoch)
        by_epoch = settings.save_interval is not None and within == 0 and epoch % settings.save_interval == 0
        by_step = settings.save_steps is not None and self.step % settings.save_steps == 0
        if by_epoch or by_step:
            self._save(self.directory.checkpoint(self.step, epoch if by_epoch else None))

    def _save(self, path: Path) -> None:
        # The record must never be behind a checkpoint, or a resume would leave a gap.
        self.reporter.flush(durable=True)
        save_together(path, self.ranks, self.engine, self._checkpoint(), self._parameters)
        if path != self.directory.best_checkpoint:
            self._saved_step = self.step
        self.reporter.memory(self.step, *peak_of_each(self.ranks))
        self.reporter.checkpoint(path, self.step)
        if self.ranks.is_main:
            delete_superseded(self.directory.path, self.config.checkpoint.keep_last)
        self._call("on_checkpoint", path)

    def _checkpoint(self) -> Checkpoint:
        """Return the checkpoint without the engine's state, which `save_together` adds."""
        states = {name: callback.state_dict() for name, callback in named(self.callbacks)}
        return Checkpoint(
            step=self.step,
            total_steps=self.total_steps,
            config=self.config.to_dict(),
            engine={},
            loop={
                "batch": self.batch,
                "measured_at": self._measured_at,
                "epoch_loss": list(self._epoch_loss),
                "early_stopping": self.early_stopping.state_dict(),
                "skipped_updates": self._skipped.state_dict(),
                "callbacks": {name: state for name, state in states.items() if state},
            },
            artefacts=self.artefacts,
            data=DataIdentity(len(self.train_dataset), self._facts.get("data_fingerprint")),
            origin=Origin(
                run_id=self._run_id,
                backend=self.config.backend,
                world_size=self.ranks.world_size,
                device=self.ranks.device.type,
                config_hash=self.config.curve_hash(),
                layout=dict(self.engine.layout),
            ),
            vocabulary=self.vocabulary,
        )

    def _call(self, name: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            if self.ranks.is_main or callback.on_every_rank:
                getattr(callback, name)(self, *arguments)


def _path(what: str, given: str | Path | None) -> Path | None:
    return None if given is None else path_of(what, given)


def named(callbacks: Sequence[Callback]) -> Iterator[tuple[str, Callback]]:
    """Yield each callback with the name of its state in a checkpoint: its class, numbered from the second one on."""
    seen: Counter[str] = Counter()
    for callback in callbacks:
        kind = f"{type(callback).__module__}.{type(callback).__qualname__}"
        seen[kind] += 1
        yield kind if seen[kind] == 1 else f"{kind}#{seen[kind]}", callback


def _throughput(result: UpdateResult, batch: GlobalBatch, seconds: float) -> dict[str, Any]:
    """Return an update's size, speed and weight of the loss: in tokens where there are any, else in samples."""
    if result.tokens:
        rate = round(result.tokens / seconds, 1)
        return {"tokens": result.tokens, "loss_tokens": result.weight, "tokens_per_second": rate}
    rate = round(batch.num_samples / seconds, 1)
    return {"samples": batch.num_samples, "loss_weight": result.weight, "samples_per_second": rate}
