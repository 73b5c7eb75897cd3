"""Loop of a run by transformers' Trainer: its order of steps, with our batches, loss, schedule and record.

All hooks of transformers exist: callbacks (`on_log`, `on_evaluate`, `on_save`, …), `log_history`, `trainer_state.json`.
What decides the curve does not come from transformers: each update's batches come from `Trainer.next_batch` of
`training.loop.trainer`, its loss is divided by its weight over all ranks, its learning rate is a function of the step,
and `Trainer.updated` does what follows an update (report, evaluation, checkpoint, stop), as on every backend.
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
from training.machine.environment import variables_set
from training.tasks.rank_batches import GlobalBatch


class MicroBatches(Dataset[dict[str, Any]]):
    """Micro-batches of an epoch on this rank, in the order in which transformers requests them.

    Their samples follow from the run's step, not from transformers' position in its epoch, so a resumed run continues
    with exactly the next batch.

    Args:
        run: the run that is trained.
        per_update: number of micro-batches per update on this rank.
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
    """Return the single item: a micro-batch is already a batch."""
    return items[0]


class ScheduleOfSteps:
    """Learning-rate scheduler for transformers. The run sets the rate before each update; nothing is counted here."""

    def __init__(self, run: Trainer) -> None:
        self._run = run

    def step(self) -> None:
        """Do nothing: the rate is a function of the run's step."""

    def get_last_lr(self) -> list[float]:
        """Return the learning rate of transformers' current update."""
        return [self._run.learning_rate(min(self._run.step, self._run.total_steps - 1))]

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state: nothing has to be kept."""
        return {}


class HuggingFaceTrainer(transformers.Trainer):  # type: ignore[misc]
    """Subclass of transformers' Trainer for one of our runs.

    Args:
        run: the run that decides what is trained; not yet at its end.
        engine: engine of the run.
        callbacks: callback classes of the user.
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
        self.model_accepts_loss_kwargs = True  # `compute_loss` divides by the weight of the whole update
        if engine.scaler is not None:
            self.accelerator.scaler = engine.scaler

    # Methods that transformers documents for overriding.

    def get_train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return our batches unchanged: already cut, distributed over the ranks and on the host."""
        data = self.micro_batches
        return DataLoader(data, batch_size=1, sampler=SequentialSampler(data), collate_fn=only)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Return our optimizer."""
        if self.optimizer is None:
            self.optimizer = self.engine.optimizer
        return cast(torch.optim.Optimizer, self.optimizer)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Return our schedule."""
        self.lr_scheduler = ScheduleOfSteps(self.run)
        return self.lr_scheduler

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], int]:
        """Return (micro-batches of one update, their weight over all ranks)."""
        samples = [next(epoch_iterator) for _ in range(num_batches)]
        batch = self.micro_batches.current
        assert batch is not None
        assert len(samples) == len(batch.micro_batches)
        self.engine.begin_update(batch.learning_rate)
        return samples, batch.weight

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Compute the task's loss of a micro-batch, as its part of the update's mean over all ranks."""
        loss = self.engine.loss_share(model, inputs["batch"], self.run.objective.loss, int(num_items_in_batch))
        return (loss, None) if return_outputs else loss

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Run forward and backward, with timing."""
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        self.engine.backward_done()
        return loss

    # Undocumented methods; tests/training/engines/transformers/test_backend.py fails if a new version changes them.

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        assert self.micro_batches.current is not None
        if self.engine.scaler is not None:
            self.accelerator.unscale_gradients()
        return self.engine.condition(self.micro_batches.current)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | None = None) -> float:
        return float(self._clip_grad_norm(model) if grad_norm is None else grad_norm)

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        # The state is loaded into model and optimizer before they are wrapped, or as soon as they are.
        prepared = super()._prepare_for_training(max_steps, train_dataloader, None)
        self.engine.prepared(self.model_wrapped)
        return prepared

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Do nothing: the run has already loaded its checkpoint, whichever backend wrote it."""

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Do nothing: every random draw is a function of seed, step and batch number."""

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save because a callback of the user requested it (`control.should_save`)."""
        self.run.save()

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        """Evaluate because a callback of the user requested it (`control.should_evaluate`)."""
        epoch = -(-self.run.step // self.run.plan.steps_per_epoch)
        result = self.run.evaluate(epoch)
        return {} if result is None else figures_of(result)


class AfterEachUpdate(TrainerCallback):  # type: ignore[misc]
    """Callback that reports every update of transformers to the run. It is the last of all callbacks."""

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
    """Callback that passes evaluations and checkpoints of the run on to transformers' callbacks."""

    def __init__(self, trainer: HuggingFaceTrainer) -> None:
        self._trainer = trainer

    def on_evaluation(self, trainer: RunView, result: EvaluationResult) -> None:
        """Pass on as `on_evaluate`, with `eval_loss` and `eval_accuracy`, and in `log_history`."""
        theirs, figures = self._trainer, figures_of(result)
        with self._plans_kept():
            theirs.log(dict(figures))
            theirs.callback_handler.on_evaluate(theirs.args, theirs.state, theirs.control, figures)

    def on_checkpoint(self, trainer: RunView, path: Path) -> None:
        """Pass on as `on_save`."""
        theirs = self._trainer
        if path == trainer.directory.best_checkpoint:
            theirs.state.best_model_checkpoint = str(path)
            theirs.state.best_metric, theirs.state.best_global_step = theirs.run.early_stopping.best, trainer.step
        with self._plans_kept():
            theirs.callback_handler.on_save(theirs.args, theirs.state, theirs.control)

    @contextlib.contextmanager
    def _plans_kept(self) -> Iterator[None]:
        """Keep what transformers has planned for the end of the update: our events are not among its plans."""
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
        run: run with a `HuggingFaceEngine`.
        callbacks: callback classes of the user.
    """
    engine = run.engine
    assert isinstance(engine, HuggingFaceEngine)
    if not run.goes_on:
        return
    # accelerate uses an option that torch 2.13 has renamed, and warns about DeepSpeed's accumulation, which is
    # correct by construction.
    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    rank = {} if engine.arguments.deepspeed is None else {"LOCAL_RANK": str(run.ranks.local_rank)}
    with variables_set(**rank):
        trainer = HuggingFaceTrainer(run, engine, callbacks)
        run.callbacks.append(EventsOfTheRun(trainer))
        engine.attach(run.artefacts, lambda: trainer.state)
        if run.step == 0:
            trainer.train()
            return
        # transformers reads its position in the epoch, and its log, from a file.
        with tempfile.TemporaryDirectory(prefix="apt-trainer-state-") as folder:
            state_at(run, engine.arguments).save_to_json(str(Path(folder) / STATE_NAME))
            trainer.train(resume_from_checkpoint=folder)


def state_at(run: Trainer, args: TrainingArguments) -> TrainerState:
    """Return transformers' state for a resumed run: that of the checkpoint if transformers wrote it, else a new one."""
    saved = run.resumed_from / STATE_NAME if run.resumed_from is not None else None
    state = TrainerState.load_from_json(str(saved)) if saved is not None and saved.is_file() else TrainerState()
    state.global_step = run.step
    state.epoch = run.step / run.plan.steps_per_epoch
    state.max_steps, state.num_train_epochs = run.total_steps, run.config.run.epochs
    state.train_batch_size = args.train_batch_size
    state.logging_steps, state.eval_steps, state.save_steps = args.logging_steps, args.eval_steps, args.save_steps
    return state
