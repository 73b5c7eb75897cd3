"""The only training loop of the project.

    for each epoch:
        for each global batch of the epoch:            # a pure function of (seed, epoch, index)
            cut it into micro-batches, seed each
            engine.update(micro-batches, lr(step))     # one optimizer update, or a skip
            report the figures
            at the epoch's end: validate, remember the best, count patience
            save a checkpoint if one is due
            if a stop was asked for: save and leave    # resumes exactly here
    save the final state

All state is `step` (updates done) and what the engine holds; epoch and place in the data follow from `step`.
"""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from apt_model.errors import CheckpointError, ConfigError, UserError
from training.backend import RunResult
from training.batches import BatchPlan, mix
from training.callbacks import Callback
from training.checkpoint import save_checkpoint
from training.config import TrainingConfig
from training.dataset import HLBDDataset
from training.device import pick_device, pick_precision
from training.engine import Engine, EvaluationResult, TorchEngine, UpdateResult
from training.progress import ProgressReporter
from training.resume import find_checkpoint, refuse_another_run
from training.rotation import delete_superseded
from training.run_directory import RunDirectory
from training.schedules import learning_rate_at
from training.stop_signals import StopSignals
from training.task import Batch, LanguageModeling, Task, seed_everything


class Trainer:
    """Trains any task in this process: `Trainer(config, train_dataset, val_dataset).train()`.

    Args:
        config: what is trained and how; `config.run.run_dir` is where everything goes.
        train_dataset: something with a length and items; for HLBD an `HLBDDataset`.
        val_dataset: measured after each epoch; None: no validation.
        task: model, batching and loss; None: HLBD language modelling with the dataset's tokenizer.
        engine: how an update is done; None: plain torch on `device`.
        device: None: CUDA, else MPS, else the CPU. Not used when an engine is given.
        compile_model: run the forward pass through `torch.compile`.
        callbacks: see `training.callbacks`.
        sinks: further readers of the progress events, such as a progress bar.
        resume: go on from the run directory's newest good checkpoint, or from the start where there is none yet.
        resume_from: go on from this checkpoint instead.
        overwrite: delete the run that the directory holds.
        facts: plain data about the run for the report (backend, data).
        portable: plain data that is kept in every checkpoint (the tokenizer).

    Raises:
        UserError: the directory or the checkpoint cannot be used; see the message.
    """

    def __init__(
        self,
        config: TrainingConfig,
        train_dataset: Any,
        val_dataset: Any = None,
        *,
        task: Task | None = None,
        engine: Engine | None = None,
        device: torch.device | str | None = None,
        compile_model: bool = False,
        callbacks: Sequence[Callback] = (),
        sinks: Sequence[Any] = (),
        resume: bool = False,
        resume_from: Path | None = None,
        overwrite: bool = False,
        facts: dict[str, Any] | None = None,
        portable: dict[str, Any] | None = None,
    ) -> None:
        config.validate()
        if task is None:
            if not isinstance(train_dataset, HLBDDataset):
                raise ConfigError(
                    "a dataset of another kind than HLBDDataset needs a task (see training.task.ModuleTask)"
                )
            vocab_size = config.model.vocab_size or train_dataset.tokenizer.vocab_size
            config = config.model_copy(update={"model": config.model.model_copy(update={"vocab_size": vocab_size})})
            task = LanguageModeling(config.model)
            portable = portable or {"tokenizer": train_dataset.tokenizer.to_dict()}
        on = pick_device(device) if engine is None else engine.device
        precision = pick_precision(config.run.precision, on)
        self.config = config = config.model_copy(update={"run": config.run.model_copy(update={"precision": precision})})
        self.task = task
        self.callbacks = list(callbacks)
        self._train, self._val = train_dataset, val_dataset
        run = config.run
        self.plan = BatchPlan(
            task.lengths(train_dataset),
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
        seed_everything(run.seed)
        self.engine = engine or TorchEngine(self._build_model(), config, on, compile_model)
        self.directory = RunDirectory(run.run_dir, resume=resume or resume_from is not None, overwrite=overwrite)
        self.reporter = ProgressReporter(run.run_dir, config.report.report_batches, sinks)
        self.step = 0
        self.batch = 0
        self._facts = {"backend": config.backend, **(facts or {})}
        self._portable = portable or {}
        self._run_id = uuid.uuid4().hex[:12]
        self._best: float | None = None
        self._epochs_without_gain = 0
        self._skipped_in_a_row = 0
        self._stop_asked = False
        self._saved_step = -1
        self._epoch_loss = [0.0, 0]
        try:
            self._start(resume, resume_from)
        except BaseException:
            self.directory.release()
            raise

    def _build_model(self) -> torch.nn.Module:
        model = self.task.build_model()
        if self.config.run.gradient_checkpointing:
            if not hasattr(model, "gradient_checkpointing"):
                raise ConfigError(f"gradient_checkpointing: {type(model).__name__} has no such switch; turn it off")
            setattr(model, "gradient_checkpointing", True)  # noqa: B010  # mypy takes a module's attributes for tensors
        return model

    # -- start and resume ------------------------------------------------------------------------------------------

    def _start(self, resume: bool, resume_from: Path | None) -> None:
        checkpoint = find_checkpoint(self.directory.path, resume, resume_from)
        model = self.engine.model()
        facts = {
            "run_id": self._run_id,
            "device": str(self.engine.device),
            "num_parameters": sum(p.numel() for p in model.parameters()),
            "num_train_samples": len(self._train),
            "steps_per_epoch": self.plan.steps_per_epoch,
            "total_steps": self.total_steps,
            "epochs": self.config.run.epochs,
            "curve_hash": self.config.curve_hash(),
            **self._facts,
        }
        if checkpoint is not None:
            self._load(*checkpoint)
            facts["run_id"] = self._run_id
            self.reporter.run_resumed(self.step, **facts)
            self._warn_of_another_length(checkpoint[1])
        elif resume and self.directory.holds_run():
            self.reporter.run_resumed(0, **facts)
        else:
            self.reporter.run_started(**facts)
        self.config.to_yaml(self.directory.config)

    def _load(self, path: Path, payload: dict[str, Any]) -> None:
        refuse_another_run(path, payload, self.config, len(self._train), self._facts.get("data_fingerprint"))
        try:
            self.engine.load_state_dict(payload["engine"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"--resume {path}: the state does not fit this model and optimizer ({str(error).splitlines()[0]})"
            ) from error
        loop = payload["loop"]
        self.step, self.batch, self._run_id = payload["step"], loop["batch"], payload["run_id"]
        self._best, self._epochs_without_gain = loop["best"], loop["epochs_without_gain"]
        self._skipped_in_a_row, self._epoch_loss = loop["skipped_in_a_row"], list(loop["epoch_loss"])
        self._saved_step = self.step if path.parent.resolve() == self.directory.path.resolve() else -1
        print(f"resumed from {path} at step {self.step} of {self.total_steps}", flush=True)

    def _warn_of_another_length(self, payload: dict[str, Any]) -> None:
        if payload["total_steps"] != self.total_steps and self.config.schedule.schedule in (
            "cosine",
            "linear",
        ):
            self.reporter.warning(
                f"the {self.config.schedule.schedule} schedule now ends at step {self.total_steps}, it was planned to "
                f"end at {payload['total_steps']}: the curve goes on, but differs from an uninterrupted run's",
                step=self.step,
            )

    # -- the loop --------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask for an orderly stop after the present update."""
        self._stop_asked = True

    def train(self) -> RunResult:
        """Train to the end, or to a stop. Safe against kills at any instant: see `--resume`."""
        with StopSignals() as signals:
            try:
                return self._train_to_end(signals)
            except BaseException as error:
                self.reporter.run_failed(error)
                raise
            finally:
                self.reporter.close()
                self.directory.release()

    def _train_to_end(self, signals: StopSignals) -> RunResult:
        self._call("on_run_start")
        reason = "all steps done"
        if self._patience_ran_out():  # the run that is resumed had ended early
            self.total_steps = self.step
        while self.step < self.total_steps:
            epoch, index = divmod(self.step, self.plan.steps_per_epoch)
            self._update(epoch, index)
            if self.step % self.plan.steps_per_epoch == 0:
                self._end_epoch(epoch + 1)
                if self._patience_ran_out():
                    break
            self._save_if_due()
            if signals.received is not None or self._stop_asked:
                return self._stopped(signals.received)
        if self.step % self.plan.steps_per_epoch:
            self._evaluate(epoch=self.step // self.plan.steps_per_epoch + 1)
        if self._saved_step != self.step:
            self._save(self._checkpoint_path())
        if self._patience_ran_out():
            reason = f"no better validation loss for {self._epochs_without_gain} epochs"
        figures = {"reason": reason}
        self.reporter.run_finished(**figures)
        self._call("on_run_end", figures)
        return RunResult("finished", self.step)

    def _stopped(self, received: signal.Signals | None) -> RunResult:
        if self._saved_step != self.step:
            self._save(self.directory.step_checkpoint(self.step))
        reason = received.name if received else "a callback asked for it"
        self.reporter.run_stopped(reason=reason)
        self._call("on_run_end", {"reason": reason})
        return RunResult("stopped", self.step, exit_code=128 + received if received else 0)

    def _micro_batches(self, epoch: int, index: int) -> Iterator[Batch]:
        indices = self.plan.indices(epoch, index)
        size = self.config.run.batch_size
        for number, start in enumerate(range(0, len(indices), size)):
            # Every draw made for a batch is a function of (seed, step, number): nothing has to be saved to resume.
            seed = mix(self.config.run.seed, epoch, index, number) >> 1
            seed_everything(seed)
            samples = [self._train[int(i)] for i in indices[start : start + size]]
            batch = self.task.collate(samples)
            yield Batch(batch.tensors, batch.weight, batch.tokens, batch.num_samples, seed)

    def _update(self, epoch: int, index: int) -> None:
        started = time.perf_counter()
        batches = list(self._micro_batches(epoch, index))
        learning_rate = self.learning_rate(self.step)
        result = self.engine.update(batches, self.task.loss, learning_rate)
        self.step += 1
        self.batch += len(batches)
        if not result.skipped:
            self._epoch_loss[0] += result.loss * result.weight
            self._epoch_loss[1] += result.weight
        self.reporter.step(
            step=self.step,
            epoch=epoch + 1,
            batch=self.batch,
            loss=result.loss,
            accuracy=result.accuracy,
            grad_norm=result.grad_norm,
            learning_rate=learning_rate,
            tokens=result.tokens,
            loss_tokens=result.weight,
            tokens_per_second=round(result.tokens / (time.perf_counter() - started), 1),
            forward_ms=round(result.forward_ms, 3),
            backward_ms=round(result.backward_ms, 3),
            **({"clipped": True} if result.clipped else {}),
            **({"skipped": True} if result.skipped else {}),
        )
        self._watch_skips(result)
        self._call("on_step", result)

    def _watch_skips(self, result: UpdateResult) -> None:
        if not result.skipped:
            self._skipped_in_a_row = 0
            return
        self._skipped_in_a_row += 1
        self.reporter.warning(
            f"update {self.step} skipped: loss {result.loss:g}, gradient norm {result.grad_norm:g}",
            step=self.step,
        )
        if self._skipped_in_a_row >= self.config.optimizer.max_skipped_updates:
            raise UserError(
                f"{self._skipped_in_a_row} updates in a row had a loss or gradient that is not finite "
                f"(step {self.step}); the weights are the last good ones: lower --learning-rate, "
                "raise --warmup-steps, use --precision fp32 or look at the data, then --resume an earlier checkpoint"
            )

    # -- the end of an epoch ---------------------------------------------------------------------------------------

    def _patience_ran_out(self) -> bool:
        patience = self.config.checkpoint.early_stopping_patience
        return patience is not None and self._epochs_without_gain >= patience

    def _end_epoch(self, epoch: int) -> None:
        """Validate and keep the best."""
        loss_sum, weight = self._epoch_loss
        self._epoch_loss = [0.0, 0]
        result = self._evaluate(epoch)
        loss = result.loss if result else (loss_sum / weight if weight else float("inf"))
        if self._best is None or loss < self._best:
            self._best, self._epochs_without_gain = loss, 0
            self.reporter.emit("best", {"step": self.step, "epoch": epoch, "loss": loss})
            if self.config.checkpoint.keep_best:
                self._save(self.directory.best_checkpoint)
        else:
            self._epochs_without_gain += 1
        self._call("on_epoch", epoch)

    def _evaluate(self, epoch: int) -> EvaluationResult | None:
        if self._val is None:
            return None
        size = self.config.run.batch_size
        order = sorted(range(len(self._val)), key=self.task.lengths(self._val).__getitem__)
        batches = (
            self.task.collate([self._val[i] for i in order[start : start + size]])
            for start in range(0, len(order), size)
        )
        result = self.engine.evaluate(batches, self.task.loss)
        self.reporter.evaluation(step=self.step, epoch=epoch, loss=result.loss, accuracy=result.accuracy)
        self._call("on_evaluation", result)
        return result

    # -- saving ----------------------------------------------------------------------------------------------------

    def _checkpoint_path(self) -> Path:
        epoch, within = divmod(self.step, self.plan.steps_per_epoch)
        return self.directory.step_checkpoint(self.step) if within else self.directory.epoch_checkpoint(epoch)

    def _save_if_due(self) -> None:
        settings = self.config.checkpoint
        epoch, within = divmod(self.step, self.plan.steps_per_epoch)
        by_epoch = settings.save_interval is not None and within == 0 and epoch % settings.save_interval == 0
        by_step = settings.save_steps is not None and self.step % settings.save_steps == 0
        if by_epoch or by_step:
            self._save(self._checkpoint_path() if by_epoch else self.directory.step_checkpoint(self.step))

    def _save(self, path: Path) -> None:
        self.reporter.flush(
            durable=True
        )  # the record must never lag behind a checkpoint, or a resume would leave a gap
        state = self.engine.state_dict()
        save_checkpoint(path, {
            "kind": "checkpoint",
            "step": self.step,
            "total_steps": self.total_steps,
            "run_id": self._run_id,
            "config": self.config.to_dict(),
            "num_samples": len(self._train),
            "data_fingerprint": self._facts.get("data_fingerprint"),
            "engine": state,
            "loop": {
                "batch": self.batch,
                "best": self._best,
                "epochs_without_gain": self._epochs_without_gain,
                "skipped_in_a_row": self._skipped_in_a_row,
                "epoch_loss": list(self._epoch_loss),
            },
            **self._portable,
        })  # fmt: skip
        if path != self.directory.best_checkpoint:
            self._saved_step = self.step
        self.reporter.checkpoint(path, self.step)
        delete_superseded(self.directory.path, self.config.checkpoint.keep_last)
        self._call("on_checkpoint", path)

    def _call(self, name: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, name)(self, *arguments)
