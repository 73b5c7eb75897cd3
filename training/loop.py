"""The only training loop of the project.

    for each epoch:
        for each global batch of the epoch:            # a pure function of (seed, epoch, index)
            cut this rank's share into micro-batches, seed each
            engine.update(micro-batches, lr(step))     # one optimizer update of all ranks, or a skip
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from apt_model.errors import CheckpointError, ConfigError
from training.backend import RunResult
from training.batches import BatchPlan, mix
from training.callbacks import Callback
from training.collective_checkpoint import save_together
from training.config import TrainingConfig
from training.dataset import HLBDDataset
from training.device import pick_device, pick_precision
from training.engine import Engine, EvaluationResult, TorchEngine
from training.feed import Feed
from training.fingerprint import batch_hash, halves, weights_fingerprint
from training.peak_memory import peak_of_each
from training.progress import ProgressReporter
from training.ranks import Ranks
from training.resume import find_checkpoint, refuse_another_run, what_does_not_carry_over
from training.rotation import delete_superseded
from training.run_directory import RunDirectory
from training.run_forecast import RunForecast
from training.schedules import learning_rate_at
from training.skips import Skips
from training.stop_signals import StopSignals
from training.task import Batch, LanguageModeling, Task, seed_everything

_CALLBACK = 1 << 16  # what ranks agree on when a callback asks for a stop; above every signal's number


class Trainer:
    """Trains any task in this process: `Trainer(config, train_dataset, val_dataset).train()`.

    Args:
        config: what is trained and how; `config.run.run_dir` is where everything goes.
        train_dataset: something with a length and items; for HLBD an `HLBDDataset`.
        val_dataset: measured after each epoch; None: no validation.
        task: model, batching and loss; None: HLBD language modelling with the dataset's tokenizer.
        make_engine: (seeded model, resolved config) -> how an update is done; None: plain torch.
        ranks: the processes of the run; None: those that a launcher started, each on `device`, or this one alone.
        device: None: CUDA, else MPS, else the CPU. Not used when ranks are given.
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
        make_engine: Callable[[torch.nn.Module, TrainingConfig], Engine] | None = None,
        ranks: Ranks | None = None,
        device: torch.device | str | None = None,
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
        self.ranks = ranks or Ranks.join(pick_device(device))
        precision = pick_precision(config.run.precision, self.ranks.device)
        self.config = config = config.model_copy(update={"run": config.run.model_copy(update={"precision": precision})})
        self.task = task
        self.callbacks = [RunForecast(task, train_dataset), *callbacks]
        self._train, self._val = train_dataset, val_dataset
        run = config.run
        self._feed = Feed(task, train_dataset, self.ranks, run.batch_size)
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
        model = self._build_model()
        self.num_parameters = sum(p.numel() for p in model.parameters())
        self.engine = (make_engine or self._torch_engine)(model, config)
        is_main = self.ranks.is_main
        self.directory = RunDirectory(
            run.run_dir, resume=resume or resume_from is not None, overwrite=overwrite, claim=is_main
        )
        # The others keep the same counts and decide alike, but tell nobody.
        self.reporter = ProgressReporter(
            run.run_dir if is_main else None, config.report.report_batches, sinks if is_main else ()
        )
        self.step = 0
        self.batch = 0
        self._facts = {"backend": config.backend, "world_size": self.ranks.world_size, **(facts or {})}
        self._portable = portable or {}
        self._run_id = uuid.uuid4().hex[:12]
        self._best: float | None = None
        self._epochs_without_gain = 0
        self._skips = Skips(config.optimizer.max_skipped_updates)
        self._stop_asked = False
        self._saved_step = -1
        self._epoch_loss = [0.0, 0]
        try:
            self._start(resume, resume_from)
        except BaseException:
            self.directory.release()
            raise

    def _torch_engine(self, model: torch.nn.Module, config: TrainingConfig) -> Engine:
        return TorchEngine(model, config, self.ranks)

    def _build_model(self) -> torch.nn.Module:
        model = self.task.build_model()
        if self.config.run.gradient_checkpointing:
            if not hasattr(model, "gradient_checkpointing"):
                raise ConfigError(f"gradient_checkpointing: {type(model).__name__} has no such switch; turn it off")
            setattr(model, "gradient_checkpointing", True)  # noqa: B010  # mypy takes a module's attributes for tensors
        return model

    # -- start and resume ------------------------------------------------------------------------------------------

    def _start(self, resume: bool, resume_from: Path | None) -> None:
        checkpoint = self.ranks.broadcast(
            find_checkpoint(self.directory.path, resume, resume_from) if self.ranks.is_main else None
        )
        facts = {
            "run_id": self._run_id,
            "device": str(self.ranks.device),
            "num_parameters": self.num_parameters,
            "num_train_samples": len(self._train),
            "steps_per_epoch": self.plan.steps_per_epoch,
            "total_steps": self.total_steps,
            "num_epochs": self.config.run.epochs,
            "curve_hash": self.config.curve_hash(),
            **self._facts,
        }
        if checkpoint is not None:
            self._load(*checkpoint)
            facts["run_id"] = self._run_id
        if self.config.report.fingerprints:
            facts["weights_fingerprint"] = weights_fingerprint(self.engine.model())
        if checkpoint is not None:
            self.reporter.run_resumed(self.step, **facts)
            self._warn_of_another_length(checkpoint[1])
        elif resume and self.directory.holds_run():
            self.reporter.run_resumed(0, **facts)
        else:
            self.reporter.run_started(**facts)
        if self.ranks.is_main:
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
        self._skips.in_a_row, self._epoch_loss = loop["skipped_in_a_row"], list(loop["epoch_loss"])
        self._saved_step = self.step if path.parent.resolve() == self.directory.path.resolve() else -1
        if not self.ranks.is_main:
            return
        print(f"resumed from {path} at step {self.step} of {self.total_steps}", flush=True)
        differences = what_does_not_carry_over(
            payload, self.config, world_size=self.ranks.world_size, device=self.ranks.device.type
        )
        if differences:
            print(f"not bit for bit as it would have gone on: {'; '.join(differences)}", flush=True)

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
            if stop := self.ranks.agree(signals.received or (_CALLBACK if self._stop_asked else 0)):
                return self._stopped(None if stop == _CALLBACK else signal.Signals(stop))
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

    def _update(self, epoch: int, index: int) -> None:
        started = time.perf_counter()
        indices, seed = self.plan.indices(epoch, index), self.config.run.seed
        # Every draw made for a batch is a function of (seed, step, number): nothing has to be saved to resume.
        batches = list(self._feed.batches(indices, lambda number: mix(seed, epoch, index, number) >> 1))
        learning_rate = self.learning_rate(self.step)
        result = self.engine.update(batches, self.task.loss, learning_rate, self._feed.weight(indices))
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
            **(self._fingerprints(batches) if self.config.report.fingerprints else {}),
        )
        if skipped := self._skips.note(result, self.step):
            self.reporter.warning(skipped, step=self.step)
            self._skips.refuse_too_many(self.step)
        self._call("on_step", result)

    def _fingerprints(self, batches: list[Batch]) -> dict[str, Any]:
        low, high = self.ranks.total(halves(h for b in batches if b.weight for h in self.task.hashes(b)))
        return {
            "batch_hash": batch_hash(low, high),
            "weights_fingerprint": weights_fingerprint(self.engine.model()),
        }

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
        order = sorted(range(len(self._val)), key=self.task.lengths(self._val).__getitem__)
        batches = Feed(self.task, self._val, self.ranks, self.config.run.batch_size).batches(order)
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
        # The record must never lag behind a checkpoint, or a resume would leave a gap.
        self.reporter.flush(durable=True)
        save_together(path, self.ranks, self.engine, {
            "kind": "checkpoint",
            "step": self.step,
            "total_steps": self.total_steps,
            "run_id": self._run_id,
            "backend": self.config.backend,
            "config": self.config.to_dict(),
            "config_hash": self.config.curve_hash(),
            "num_samples": len(self._train),
            "data_fingerprint": self._facts.get("data_fingerprint"),
            "loop": {
                "batch": self.batch,
                "best": self._best,
                "epochs_without_gain": self._epochs_without_gain,
                "skipped_in_a_row": self._skips.in_a_row,
                "epoch_loss": list(self._epoch_loss),
            },
            **self._portable,
        })  # fmt: skip
        if path != self.directory.best_checkpoint:
            self._saved_step = self.step
        self.reporter.memory(self.step, *peak_of_each(self.ranks))
        self.reporter.checkpoint(path, self.step)
        if self.ranks.is_main:
            delete_superseded(self.directory.path, self.config.checkpoint.keep_last)
        self._call("on_checkpoint", path)

    def _call(self, name: str, *arguments: Any) -> None:
        for callback in self.callbacks if self.ranks.is_main else ():
            getattr(callback, name)(self, *arguments)
