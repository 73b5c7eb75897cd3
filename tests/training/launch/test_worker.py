"""A worker's end is written down as one process would have told it."""

from __future__ import annotations

import pytest

from training.errors import UserError
from training.launch.launch_directory import Ending
from training.launch.worker import _ending_of


@pytest.mark.parametrize(
    ("error", "exit_code", "message", "has_traceback"),
    [
        (UserError("no such file"), 2, "no such file", False),
        (ModuleNotFoundError("No module named 'wandb'", name="wandb"), 2, "wandb is not installed for ", False),
        (ModuleNotFoundError("No module named 'mine'", name="mine"), 1, "ModuleNotFoundError: No module", True),
        (ValueError("a fault"), 1, "ValueError: a fault", True),
    ],
)
def test_an_error_is_a_message_and_a_traceback_only_if_it_is_a_fault(
    error: BaseException, exit_code: int, message: str, has_traceback: bool
) -> None:
    def run() -> int:
        raise error

    ending = _ending_of(run)
    assert (ending.exit_code, bool(ending.traceback)) == (exit_code, has_traceback)
    assert ending.message.startswith(message)


def test_an_orderly_end_has_no_message() -> None:
    ending = _ending_of(lambda: 143)
    assert ending == Ending(143, time=ending.time)
