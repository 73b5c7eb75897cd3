"""From the ends of the ranks to one exit code and one line, for every mixture of ends."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.launch.launch_directory import Ending, RankProcess
from training.launch.outcome import Verdict, exit_codes, judge
from training.machine.stop_signals import EXIT_CODES_OF_A_STOP

DONE, SAVED = Ending(0), Ending(143)
LOST = Ending(1, "RuntimeError: Connection closed by peer", "Traceback …", lost_peer=True, time=1.0)
NO_FILE = Ending(2, "--dataset a.json: no such file", time=2.0)


def verdict(
    endings: dict[int, Ending],
    deaths: dict[int, int | None] | None = None,
    code: int = 0,
    log: str = "",
    asked: signal.Signals | None = None,
) -> Verdict:
    return judge(endings, deaths or {}, launcher="torchrun", launcher_code=code, launcher_log=log, asked=asked)


def test_a_finished_run_is_a_success_whatever_its_launcher_says() -> None:
    # DeepSpeed's threads now and then abort a process whose work is done and saved.
    assert verdict({0: DONE, 1: DONE}) == Verdict(0)
    assert verdict({0: DONE, 1: DONE}, code=-signal.SIGABRT) == Verdict(0)
    assert verdict({0: DONE}, {1: -signal.SIGABRT}, code=1) == Verdict(0)


def test_a_stop_has_the_exit_code_of_the_users_signal_not_of_the_one_passed_on() -> None:
    for asked, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        assert verdict({0: SAVED, 1: SAVED}, asked=asked) == Verdict(code)
    assert verdict({0: SAVED, 1: SAVED}) == Verdict(143), "somebody else stopped the ranks"
    assert verdict({0: DONE, 1: DONE}, asked=signal.SIGINT) == Verdict(0), "it had finished before"


def test_a_stop_before_training_is_no_error() -> None:
    stopped = verdict({}, {0: -signal.SIGTERM, 1: None}, code=1, asked=signal.SIGINT)
    assert (stopped.exit_code, stopped.is_error) == (130, False)
    assert stopped.message.startswith("stopped at once")


def test_what_the_user_gave_wrong_is_one_line_without_a_rank() -> None:
    refused = Verdict(2, NO_FILE.message)
    assert verdict({0: NO_FILE, 1: NO_FILE}, code=1) == refused
    assert verdict({1: NO_FILE}, {0: -signal.SIGTERM}, code=1) == refused, "the launcher ended rank 0 before it read"
    assert verdict({0: NO_FILE, 1: LOST}, code=1) == refused, "rank 0 alone opens the run directory"
    assert verdict({0: LOST, 1: NO_FILE}, code=1) == Verdict(2, f"rank 1: {NO_FILE.message}")
    assert not refused.is_crash


def test_the_first_error_is_told_not_its_consequences() -> None:
    crash = Ending(1, "ValueError: boom", "Traceback of boom", time=5.0)
    later = Ending(1, "KeyError: 'x'", "Traceback of x", time=6.0)
    told = verdict({0: LOST, 1: crash, 2: later, 3: LOST}, {4: -signal.SIGKILL}, code=1)
    assert told == Verdict(1, "rank 1: ValueError: boom", "Traceback of boom")
    assert told.is_crash


@pytest.mark.parametrize(
    ("code", "exit_code", "words"),
    [
        (-9, 137, "rank 1 was killed by SIGKILL (out of memory?); --resume"),
        (-11, 139, "rank 1 was killed by SIGSEGV; --resume"),
        (-40, 168, "rank 1 was killed by signal 40; --resume"),
        (7, 7, "rank 1 ended with exit code 7 and left no error"),
        (0, 1, "rank 1 ended with exit code 0 and left no error"),
        (None, 1, "rank 1 was killed or ended itself without a word; --resume"),
    ],
)
def test_a_rank_that_is_gone_is_named(code: int | None, exit_code: int, words: str) -> None:
    told = verdict({0: LOST}, {1: code, 2: -signal.SIGTERM}, code=1)
    assert told.exit_code == exit_code
    assert told.message.startswith(words)


def test_a_rank_killed_while_it_saves_is_told_although_a_stop_was_asked() -> None:
    told = verdict({0: LOST}, {1: -signal.SIGKILL}, code=1, asked=signal.SIGTERM)
    assert (told.exit_code, told.is_error) == (137, True)


def test_ranks_that_stopped_because_another_died_do_not_hide_it() -> None:
    # torchrun ends the others with SIGTERM, which to them is a call to save and stop.
    assert verdict({0: SAVED}, {1: 3}, code=1).message.startswith("rank 1 ended with exit code 3")


def test_a_rank_of_another_machine_is_looked_for_there() -> None:
    told = verdict({0: LOST, 1: LOST}, code=1)
    assert told.message.startswith("rank 0 lost its connection to another rank, whose machine may show why: Runtime")


def test_a_launcher_that_was_killed_is_named() -> None:
    assert verdict({0: SAVED, 1: SAVED}, code=-9).message.startswith("torchrun was killed by SIGKILL; the ranks saved")
    assert verdict({}, code=-9) == Verdict(137, "torchrun was killed by SIGKILL before any rank started")


def test_a_launcher_that_starts_nothing_is_quoted() -> None:
    log = "[rank0]: noise\nTraceback (most recent call last):\n  File …\nRuntimeError: no GPU resources available\n"
    assert verdict({}, code=1, log=log) == Verdict(
        1, "torchrun could not start the ranks: RuntimeError: no GPU resources available"
    )
    assert verdict({}, code=4).message == "torchrun could not start the ranks: exit code 4"
    assert verdict({}, code=2, log="torchrun: error: argument --nproc\n").message.endswith("error: argument --nproc")


def test_machines_that_did_not_meet_are_the_users_matter() -> None:
    name = "torch.distributed.elastic.rendezvous.api.RendezvousConnectionError"
    told = verdict({}, code=1, log=f"E1121 13:29:46.3 12 torch/x.py:1] noise\n{name}: The connection has failed.\n")
    assert (told.exit_code, told.is_crash) == (2, False)
    assert "start the same command on all --nnodes machines" in told.message


def test_the_logs_of_both_launchers_are_read() -> None:
    gone = {rank: RankProcess(rank, 100 + rank, "here", 3) for rank in (1, 2)}
    log = (
        "E1121 torch/api.py:1] failed (exitcode: -9) local_rank: 1 (pid: 101) of binary: python\n"
        "  exitcode  : 3 (pid: 102) \n"
    )
    assert exit_codes(log, gone) == {1: -9, 2: 3}
    assert exit_codes("", gone) == {1: None, 2: None}
    only = {1: gone[1]}
    log = "[2026-11-21 13:00:00,000] [ERROR] [launch.py:341:main] ['python', 't.py'] exits with return code = -9"
    assert exit_codes(log, only) == {1: -9}
    assert exit_codes(log, gone) == {1: None, 2: None}, "it does not say which of the two"


ENDINGS = st.builds(
    Ending,
    exit_code=st.sampled_from([0, 1, 2, 130, 143]),
    message=st.sampled_from(["", "ValueError: boom", "no such file"]),
    lost_peer=st.booleans(),
    time=st.floats(0, 10),
).filter(lambda ending: bool(ending.message) == (ending.exit_code in (1, 2)))


@given(
    st.dictionaries(st.integers(0, 3), ENDINGS),
    st.dictionaries(st.integers(4, 7), st.sampled_from([None, 0, 3, -9, -15])),
    st.sampled_from([0, 1, -9, -15]),
    st.sampled_from([None, signal.SIGINT, signal.SIGTERM]),
)
def test_every_mixture_has_a_verdict_and_only_success_is_zero(
    endings: dict[int, Ending],
    deaths: dict[int, int | None],
    code: int,
    asked: signal.Signals | None,
) -> None:
    told = verdict(endings, deaths, code, asked=asked)
    assert 0 <= told.exit_code < 256
    assert "\n" not in told.message
    if told.exit_code == 0:
        first = endings.get(min(endings, default=-1))
        assert (first is not None and first.exit_code == 0) or (not endings and not deaths and code == 0)
    if not told.message:
        assert told.exit_code in (0, *EXIT_CODES_OF_A_STOP)
