"""transformers' Trainer as the loop of a run: its own order of things, with our batches, loss, schedule and record.

What a user of transformers hooks into is all there: callbacks (`on_log`, `on_evaluate`, `on_save`, …), `log_history`,
`trainer_state.json`. What decides the curve is not transformers': each update's batches come from `Trainer.next_batch`
of our own loop's module, its loss is divided by its tokens over all ranks, its learning rate is a function of the step,
and what follows an update (report, validation, checkpoint, stop) is `Trainer.updated`, as on every backend.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, SequentialSampler
from transformers import PrinterCallback, TrainerCallback, TrainerState, TrainingArguments

from training.engines.results import EvaluationResult
from training.engines.transformers.engine import STATE_NAME, HuggingFaceEngine
from training.loop.callbacks import Callback, RunView
from training.loop.trainer import Trainer
from training.tasks.rank_batches import GlobalBatch


class MicroBatches(Dataset[dict[str, Any]]):
    """This rank's micro-batches of an epoch in the order in which transformers asks for them.

    Which samples they hold follows from the run's step, not from transformers' place in its epoch, so that a resumed
    run goes on with the very next batch.

    Args:
        run: the run.
        per_update: micro-batches of a whole update on this rank.
    """

    def __init__(self, run: Trainer, per_update: int) -> None:
        self._run, self._per_update = run, per_update
        self.current: GlobalBatch | None = None
        size = run.ranks.world_size * run.config.run.batch_size
        last = run.plan.indices(0, run.plan.steps_per_epoch - 1)
        self._length = (run.plan.steps_per_epoch - 1) * per_update + -(-len(last) // size)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: int) -> dict[str, Any]:
        update, number = divmod(position, self._per_update)
        assert update == self._run.step % self._run.plan.steps_per_epoch, "transformers lost count of the updates"
        if number == 0:
            self.current = self._run.next_batch()
        assert self.current is not None
        batch = self.current.micro_batches[number]
        return {"input_ids": batch.tensors.get("tokens", torch.empty(0)), "batch": batch}


def only(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A micro-batch is a batch already."""
    return items[0]


class ScheduleOfSteps:
    """The learning rate as transformers asks for it. The run sets it before each update; nothing is counted here."""

    def __init__(self, run: Trainer) -> None:
        self._run = run

    def step(self) -> None:
        """Nothing: the rate is a function of the run's step."""

    def get_last_lr(self) -> list[float]:
        """Of the update that transformers is at."""
        return [self._run.learning_rate(min(self._run.step, self._run.total_steps - 1))]

    def state_dict(self) -> dict[str, Any]:
        """Nothing has to be kept."""
        return {}


class HuggingFaceTrainer(transformers.Trainer):  # type: ignore[misc]
    """transformers' Trainer on a run of ours.

    Args:
        run: decides what is trained; not yet at its end.
        engine: the run's.
        callbacks: the user's own.
    """

    optimizer: Any

    def __init__(
        self, run: Trainer, engine: HuggingFaceEngine, callbacks: Sequence[type[TrainerCallback]] = ()
    ) -> None:
        self.run, self.engine = run, engine
        args = engine.arguments
        args.max_steps = run.total_steps
        self.micro_batches = MicroBatches(run, args.gradient_accumulation_steps)
        super().__init__(
            model=engine.transformers_model,
            args=args,
            train_dataset=self.micro_batches,
            data_collator=only,
            callbacks=[*(callback() for callback in callbacks), AfterEachUpdate(self)],
        )
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = True  # `compute_loss` divides by the tokens of the whole update
        if engine.scaler is not None:
            self.accelerator.scaler = engine.scaler

    # What transformers documents as its places to hook in.

    def get_train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Our batches as they are: already cut, shared among the ranks and on the host."""
        data = self.micro_batches
        return DataLoader(data, batch_size=1, sampler=SequentialSampler(data), collate_fn=only)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Ours."""
        if self.optimizer is None:
            self.optimizer = self.engine.optimizer
        return cast(torch.optim.Optimizer, self.optimizer)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Ours."""
        self.lr_scheduler = ScheduleOfSteps(self.run)
        return self.lr_scheduler

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], int]:
        """(the micro-batches of one update, their tokens over all ranks)."""
        samples = [next(epoch_iterator) for _ in range(num_batches)]
        batch = self.micro_batches.current
        assert batch is not None
        assert len(samples) == len(batch.micro_batches)
        self.engine.begin_update(batch.learning_rate)
        return samples, batch.weight

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The task's loss of a micro-batch, as its part of the update's mean over all ranks' tokens."""
        loss = self.engine.loss_share(model, inputs["batch"], self.run.objective.loss, int(num_items_in_batch))
        return (loss, None) if return_outputs else loss

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward, timed."""
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        self.engine.backward_done()
        return loss

    # Undocumented methods; tests/training/engines/transformers/test_backend.py fails where a new version has others.

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        assert self.micro_batches.current is not None
        if self.engine.scaler is not None:
            self.accelerator.unscale_gradients()
        return self.engine.condition(self.micro_batches.current)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | None = None) -> float:
        return float(self._clip_grad_norm(model) if grad_norm is None else grad_norm)

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        # The state is in model and optimizer before they are wrapped, or reaches them as soon as they are.
        prepared = super()._prepare_for_training(max_steps, train_dataloader, None)
        self.engine.prepared(self.model_wrapped)
        return prepared

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Nothing: the run has loaded its checkpoint, whichever backend wrote it."""

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Nothing: every draw is a function of seed, step and number of the batch."""

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """A callback of the user's asked for one (`control.should_save`)."""
        self.run.save()

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        """A callback of the user's asked for one (`control.should_evaluate`)."""
        epoch = -(-self.run.step // self.run.plan.steps_per_epoch)
        result = self.run.evaluate(epoch)
        return {} if result is None else figures_of(result)


class AfterEachUpdate(TrainerCallback):  # type: ignore[misc]
    """Tells the run of every update that transformers has made. The last of all callbacks."""

    def __init__(self, trainer: HuggingFaceTrainer) -> None:
        self._trainer = trainer

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """See `transformers.TrainerCallback`."""
        trainer = self._trainer
        batch = trainer.micro_batches.current
        assert batch is not None
        trainer.run.updated(batch, trainer.engine.result())
        assert trainer.run.step == state.global_step, "transformers lost count of the updates"
        if not trainer.run.goes_on:
            control.should_training_stop = True


class EventsOfTheRun(Callback):
    """Tells transformers' callbacks what the run did: validation and checkpoints."""

    def __init__(self, trainer: HuggingFaceTrainer) -> None:
        self._trainer = trainer

    def on_evaluation(self, trainer: RunView, result: EvaluationResult) -> None:
        """As `on_evaluate`, with `eval_loss` and `eval_accuracy`, and in `log_history`."""
        told, figures = self._trainer, figures_of(result)
        with self._plans_kept():
            told.log(dict(figures))
            told.callback_handler.on_evaluate(told.args, told.state, told.control, figures)

    def on_checkpoint(self, trainer: RunView, path: Path) -> None:
        """As `on_save`."""
        told = self._trainer
        if path == trainer.directory.best_checkpoint:
            told.state.best_model_checkpoint = str(path)
            told.state.best_metric, told.state.best_global_step = told.run.early_stopping.best, trainer.step
        with self._plans_kept():
            told.callback_handler.on_save(told.args, told.state, told.control)

    @contextlib.contextmanager
    def _plans_kept(self) -> Iterator[None]:
        """An event of ours is none that transformers had planned: what it still means to do after the update stays."""
        control = self._trainer.control
        log, evaluate, save = control.should_log, control.should_evaluate, control.should_save
        yield
        control.should_log, control.should_evaluate, control.should_save = log, evaluate, save


def figures_of(result: EvaluationResult) -> dict[str, float]:
    """Return the figures under the names that transformers' callbacks know: `eval_loss`, `eval_accuracy`, …"""
    return {"eval_loss": result.loss, **{f"eval_{name}": value for name, value in result.metrics.items()}}


def transformers_loop(run: Trainer, callbacks: Sequence[type[TrainerCallback]] = ()) -> None:
    """Make the run's updates with transformers' Trainer.

    Args:
        run: with a `HuggingFaceEngine`.
        callbacks: classes of the user's.
    """
    engine = run.engine
    assert isinstance(engine, HuggingFaceEngine)
    if not run.goes_on:
        return
    # accelerate passes on an option that torch 2.13 calls by another name, and complains of DeepSpeed's accumulation,
    # which is right by construction.
    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    trainer = HuggingFaceTrainer(run, engine, callbacks)
    run.callbacks.append(EventsOfTheRun(trainer))
    engine.attach(run.artefacts, lambda: trainer.state)
    if run.step == 0:
        trainer.train()
        return
    # transformers takes its place in the epoch, and its log, from a file.
    with tempfile.TemporaryDirectory(prefix="apt-trainer-state-") as folder:
        state_at(run, engine.arguments).save_to_json(str(Path(folder) / STATE_NAME))
        trainer.train(resume_from_checkpoint=folder)


def state_at(run: Trainer, args: TrainingArguments) -> TrainerState:
    """transformers' state of a run that goes on: its own from the checkpoint, if it wrote that, else a fresh one."""
    saved = run.resumed_from / STATE_NAME if run.resumed_from is not None else None
    state = TrainerState.load_from_json(str(saved)) if saved is not None and saved.is_file() else TrainerState()
    state.global_step = run.step
    state.epoch = run.step / run.plan.steps_per_epoch
    state.max_steps, state.num_train_epochs = run.total_steps, run.config.run.epochs
    state.train_batch_size = args.train_batch_size
    state.logging_steps, state.eval_steps, state.save_steps = args.logging_steps, args.eval_steps, args.save_steps
    return state
