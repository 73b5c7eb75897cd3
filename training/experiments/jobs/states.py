"""The state of a job, as a pure function of what its files, its process and its run directory show. No torch.

Nobody keeps a state: a state that is kept is wrong after the one who keeps it was killed. Whoever asks computes it from
the same facts, so the answers cannot differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from training.experiments.jobs.files import Exit, Stop
from training.machine.stop_signals import EXIT_CODES_OF_A_STOP


class JobState(StrEnum):
    """States in the order in which a job goes through them."""

    QUEUED = "queued"
    """It waits for a slot."""
    STARTING = "starting"
    """It has its slots; its process reads data and has recorded nothing yet."""
    RUNNING = "running"
    STOPPING = "stopping"
    """It was asked to stop, and saves a checkpoint; or its process was killed and its ranks save one."""
    STOPPED = "stopped"
    """It ended because it was asked to; it can go on."""
    FINISHED = "finished"
    FAILED = "failed"
    """It ended with an error."""
    LOST = "lost"
    """Its process is gone without a word: killed, or the computer was switched off."""


ENDED = frozenset({JobState.STOPPED, JobState.FINISHED, JobState.FAILED, JobState.LOST})


@dataclass(frozen=True)
class Facts:
    """Facts about the last attempt of a job."""

    is_started: bool
    """It was given slots."""
    is_claimed: bool
    """A process has written down that it is the one."""
    is_alive: bool
    """That process lives, or a child that it forked."""
    has_ranks: bool
    """A process of this attempt trains in the run directory: that process, or a rank that has outlived it."""
    is_run_by_other: bool
    """Another process trains in the run directory, such as one that a user has started at a terminal."""
    has_recorded: bool
    """The run's record has changed since the attempt was started."""
    stop: Stop | None
    exit: Exit | None
    recorded: str | None
    """Outcome in the run's record since the attempt was started (`finished`, `stopped`, `failed`); None: none there."""


def state_of(facts: Facts) -> JobState:
    """Return the state that facts show."""
    is_at_work = facts.is_alive or facts.has_ranks
    if facts.is_run_by_other and not is_at_work:
        return JobState.RUNNING
    if is_at_work:  # also when it has written down its end: only then are its slots free
        if facts.stop is not None or not facts.is_alive:  # killed, it leaves ranks, which save what they have
            return JobState.STOPPING
        return JobState.RUNNING if facts.has_recorded else JobState.STARTING
    if facts.exit is not None:
        return _ending(facts, facts.exit.code)
    if facts.is_claimed:
        return _ending_without_code(facts)
    if facts.is_started:  # its process may be on its way; if none is, the next scheduler starts it, or closes it
        return JobState.STARTING if facts.stop is None else JobState.STOPPING
    return JobState.QUEUED if facts.stop is None else JobState.STOPPED


def occupies_slots(facts: Facts) -> bool:
    """Return whether the slots of an attempt are in use: until its last process is gone, whatever its state."""
    if facts.is_alive or facts.has_ranks:
        return facts.is_started
    return facts.is_started and not facts.is_claimed and facts.exit is None


def _ending(facts: Facts, code: int) -> JobState:
    if code < 0:  # known only where the server that started it lived to see it end: the state must not depend on that
        return _ending_without_code(facts)
    if code == 0:
        return JobState.FINISHED
    if code in EXIT_CODES_OF_A_STOP:
        return JobState.STOPPED
    if facts.stop is not None and facts.recorded != JobState.FAILED:
        return JobState.STOPPED  # before there was anything to save, where a library made an error of it
    return JobState.FAILED


def _ending_without_code(facts: Facts) -> JobState:
    """Return how it ended where its process could not write it down: killed, or the disk was full."""
    if facts.recorded in (JobState.FINISHED, JobState.STOPPED, JobState.FAILED):
        return JobState(facts.recorded)
    return JobState.STOPPED if facts.stop is not None else JobState.LOST
