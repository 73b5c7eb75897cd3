"""An orderly stop after an epoch that is named beforehand."""

from __future__ import annotations

from training.loop.callbacks import Callback, RunView


class StopAfterEpoch(Callback):
    """Callback that stops a run after an epoch: it saves and can be resumed, and its curve is that of the whole run.

    The length of the run stays what the settings say, and with it the learning rate of each update.

    Args:
        epoch: counted from 1; a run that has done it already stops at the end of the epoch that it is in.
    """

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def on_epoch(self, trainer: RunView, epoch: int) -> None:
        """Ask for the stop."""
        if epoch >= self._epoch:
            trainer.stop()
