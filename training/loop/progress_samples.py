"""Samples of what a run has learned so far, drawn by its task every few epochs and at its end.

The pictures lie in `RUN/samples/` and stand in the record (event `samples`). Drawing has random streams of its own: the
curve of a run is the same bit for bit with samples and without.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from training.language.messages import Message
from training.loop.callbacks import Callback, RunView
from training.record.sample_pictures import SAMPLES_NAME, file_name, files_of_steps
from training.storage.atomic import delete, write_atomically
from training.tasks.batch_plan import mix
from training.tasks.protocol import Prepared, Task, task_of

if TYPE_CHECKING:
    from torch import nn

_SAMPLES = 1 << 42
"""Mark of the seed of samples: no batch of training or evaluation has it."""


def progress_samples(prepared: Prepared) -> list[Callback]:
    """Return the callback that draws a run's samples; none where its task shows none."""
    task = task_of(prepared.config)
    interval = task.sample_interval(prepared.config)
    return [] if interval is None else [ProgressSamples(task, prepared, interval)]


class ProgressSamples(Callback):
    """Callback that draws samples, on rank 0, from the network that is validated (the average, if one is kept).

    The seed is the same each time, so that a picture shows the same noise become something. A failed write does not end
    the run: it is said once.

    Args:
        task: draws the pictures, by `show`.
        prepared: what the task prepared.
        interval: epochs between two pictures; 0: only at the end.
    """

    on_every_rank: ClassVar[bool] = True  # at ZeRO 3 the weights are gathered from all ranks

    def __init__(self, task: Task, prepared: Prepared, interval: int) -> None:
        self._task, self._prepared, self._interval = task, prepared, interval
        self._drawn_at = -1
        self._told = False

    def on_run_start(self, trainer: RunView) -> None:
        """Delete pictures of another run, of steps to be repeated, and the rest of a killed write."""
        if not trainer.ranks.is_main:
            return
        run_dir = trainer.directory.path
        for path in (run_dir / SAMPLES_NAME).glob(".*.tmp"):
            delete(path)
        for step, path in files_of_steps(run_dir):
            if step > trainer.step or trainer.step == 0:
                delete(path)

    def on_epoch(self, trainer: RunView, epoch: int) -> None:
        """Draw if the epoch is one to show."""
        if self._interval and epoch % self._interval == 0:
            self._draw(trainer)

    def on_run_end(self, trainer: RunView, figures: Mapping[str, Any]) -> None:
        """Draw at the end of a run that finished."""
        if figures.get("state") == "finished" and self._drawn_at != trainer.step:
            self._draw(trainer)

    def _draw(self, trainer: RunView) -> None:
        self._drawn_at = trainer.step
        model = trainer.evaluated_model()
        trainer.ranks.on_main(lambda: self._write(trainer, model))

    def _write(self, trainer: RunView, model: nn.Module) -> None:
        from training.machine.seeding import own_random_streams

        seed = mix(trainer.config.run.seed, _SAMPLES) >> 1
        with own_random_streams(seed, trainer.ranks.device), _in_eval_mode(model):
            pictures = self._task.show(model, self._prepared, seed)
        files = []
        try:
            for name, content in pictures.items():
                file = file_name(trainer.step, name if len(pictures) > 1 else None)
                path = trainer.directory.path / SAMPLES_NAME / file
                path.parent.mkdir(exist_ok=True)
                write_atomically(path, content, durable=True)
                files.append(f"{SAMPLES_NAME}/{file}")
        except OSError as error:
            if not self._told:
                self._told = True
                trainer.reporter.warning(
                    Message(
                        "{path}: the samples could not be written ({error}); the run goes on", path=path, error=error
                    ),
                    step=trainer.step,
                )
        if files:
            trainer.reporter.samples(trainer.step, files)
            trainer.reporter.flush()


@contextlib.contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a network into eval mode, and each of its parts back into its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
