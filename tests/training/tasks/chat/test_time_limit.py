"""The time limit of code that may never end."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from training.tasks.chat.time_limit import EndlessError, time_limit


def test_a_block_without_end_is_ended() -> None:
    with pytest.raises(EndlessError, match="did not end"), time_limit(0.05):
        sum(1 for _ in iter(int, 1))


def test_a_block_on_the_edge_is_ended_within_itself_or_never() -> None:
    running = threading.active_count()
    for _ in range(100):
        with contextlib.suppress(EndlessError), time_limit(0.001):
            time.sleep(0.001)
        sum(range(100))  # an error that came too late would come here
    assert threading.active_count() == running


def test_an_error_of_the_block_comes_through() -> None:
    with pytest.raises(ZeroDivisionError), time_limit(5.0):
        raise ZeroDivisionError
