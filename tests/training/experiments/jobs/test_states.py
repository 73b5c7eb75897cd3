"""The state of a job as a function of facts: every fact in every combination has one answer."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from training.experiments.jobs.files import Exit, Stop
from training.experiments.jobs.states import ENDED, Facts, JobState, occupies_slots, state_of

WAITS = Facts(
    is_started=False, is_claimed=False, is_alive=False, has_ranks=False, is_run_by_other=False, has_recorded=False,
    stop=None, exit=None, recorded=None,
)  # fmt: skip
STARTS = replace(WAITS, is_started=True)
READS_DATA = replace(STARTS, is_claimed=True, is_alive=True)
TRAINS = replace(READS_DATA, has_ranks=True, has_recorded=True)
GONE = replace(TRAINS, is_alive=False, has_ranks=False)
ASKED = Stop(1.0, at_once=False)


def ended(code: int, **facts: object) -> Facts:
    return replace(GONE, exit=Exit(code, 2.0), **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (WAITS, "queued"),
        (replace(WAITS, stop=ASKED), "stopped"),
        (STARTS, "starting"),
        (replace(STARTS, stop=ASKED), "stopping"),
        (READS_DATA, "starting"),
        (TRAINS, "running"),
        (replace(TRAINS, stop=ASKED), "stopping"),
        (replace(TRAINS, is_alive=False), "stopping"),  # its ranks have outlived it, and save
        (replace(TRAINS, exit=Exit(0, 2.0)), "running"),  # it has said so, and is not gone
        (ended(0), "finished"),
        (ended(0, stop=ASKED), "finished"),  # it was faster
        (ended(130), "stopped"),  # somebody at a terminal: kill -INT
        (ended(143, stop=ASKED), "stopped"),
        (ended(2), "failed"),
        (ended(1, stop=ASKED), "stopped"),
        (ended(1, stop=ASKED, recorded="failed"), "failed"),
        (ended(-9), "lost"),
        (ended(-9, stop=Stop(1.0, at_once=True)), "stopped"),
        (ended(-11, recorded="failed"), "failed"),
        (GONE, "lost"),
        (replace(GONE, recorded="finished"), "finished"),  # the disk was full when it wrote its end
        (replace(GONE, stop=ASKED), "stopped"),
        (replace(GONE, is_run_by_other=True), "running"),  # resumed at a terminal
        (replace(WAITS, is_run_by_other=True), "running"),
    ],
)
def test_the_state_of_a_job(facts: Facts, state: str) -> None:
    assert state_of(facts) == state


def every_fact() -> list[Facts]:
    stops: list[Stop | None] = [None, ASKED]
    exits = [None, *(Exit(code, 2.0) for code in (0, 130, 1, -9))]
    outcomes: list[str | None] = [None, "failed"]
    flags = product((False, True), repeat=6)
    return [Facts(*six, *more) for six, more in product(flags, product(stops, exits, outcomes))]  # type: ignore[call-arg, arg-type]


def test_no_combination_of_facts_is_without_an_answer_and_none_that_is_at_work_has_ended() -> None:
    for facts in every_fact():
        state = state_of(facts)
        if facts.is_alive or facts.has_ranks:
            assert state not in ENDED, facts
            assert occupies_slots(facts) == facts.is_started, facts
        elif state is JobState.QUEUED:
            assert not occupies_slots(facts), facts


def test_the_killed_one_has_the_same_state_whether_or_not_somebody_saw_how_it_ended() -> None:
    for facts in every_fact():
        if facts.exit is not None and facts.exit.code < 0 and facts.is_claimed:
            assert state_of(facts) == state_of(replace(facts, exit=None)), facts
