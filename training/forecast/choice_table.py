"""The decision of `--backend auto` as a table for people, at most 78 columns wide. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from unicodedata import east_asian_width

from training.backends.prepare import PreparedRun
from training.forecast.backend_choice import MARGIN, Candidate, Decision, Verdict
from training.language.messages import Message, translated_lines
from training.machine.description import Machine
from training.machine.units import as_size

WIDTH = 78
"""Columns of a line: 80, less the `# ` that makes it a comment in a dry run."""
_NAME = 12
_OFFLOAD = 7
"""Columns of a backend's name and of what is offloaded."""


def table_lines(decision: Decision) -> Iterator[str]:
    """Yield the machine, a row for each candidate, the reasons by number, and the choice with its own."""
    yield Message("choice of a backend and a layout for this run (--backend auto)")
    yield _machine_line(decision.machine)
    yield Message("backend       ranks ZeRO offload   batch    memory  speed  verdict")
    reasons: list[str] = []
    for candidate in decision.candidates:
        yield _row(candidate, candidate is decision.chosen, reasons)
    for number, reason in enumerate(reasons, 1):
        yield Message("[{number}] {reason}", number=number, reason=reason)
    yield Message(
        "batch: micro-batch x forward passes of a rank in an update; an update has the same samples in every row"
    )
    yield Message("memory: forecast peak of a rank; {margin:.0%} of what is free stays free", margin=MARGIN)
    yield Message(
        "speed: estimated, not measured, as a multiple of one process: operations, bytes moved and kernels issued on "
        "an A100 with PCIe (docs/CHOOSING.md); --estimate measures"
    )
    if decision.chosen is not None:
        why = _reason(decision, decision.chosen)
        yield Message("chosen: {flags}: {why}", flags=decision.chosen.flags, why=why)


def kept_line(prepared: PreparedRun) -> Message:
    """Return the line about a run that goes on with the backend that it has."""
    config = prepared.request.config
    return Message(
        "backend {name}, kept from the run in {directory}: --backend auto chooses for new runs only",
        name=config.backend,
        directory=config.run.run_dir,
    )


def shown(text: str) -> list[str]:
    """Return a line in the chosen language, folded to the table's width."""
    return [line for translation in translated_lines(text) for line in folded(translation)]


def folded(text: str, width: int = WIDTH) -> list[str]:
    """Fold a line at spaces, and anywhere between Chinese characters; what follows is indented.

    A word that is longer than the width stays whole, so that a path or a command can be copied.
    """
    lines, line = [], ""
    for piece in _pieces(text):
        if line.strip() and columns(line + piece.rstrip()) > width:
            lines.append(line.rstrip())
            line = "    " + piece.lstrip()
        else:
            line += piece
    return [*lines, line.rstrip()]


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def _pieces(text: str) -> Iterator[str]:
    """Yield what a line may be folded between: words with the spaces after them, and wide characters."""
    piece = ""
    for character in text:
        is_wide = columns(character) == 2
        closes = character in "，。；：、）」』！？"  # a line never begins with one
        if piece and not closes and (is_wide or (piece[-1] == " " and character != " ") or columns(piece[-1]) == 2):
            yield piece
            piece = ""
        piece += character
    if piece:
        yield piece


def _machine_line(machine: Machine) -> Message:
    host = _size(machine.host_bytes)
    if not machine.counts_gpus:
        return Message(
            "machine: GPUs that the driver neither counts nor measures, {cores} cores, main memory free: {host}",
            cores=machine.cores,
            host=host,
        )
    if not machine.gpus:
        return Message("machine: no GPU, {cores} cores, main memory free: {host}", cores=machine.cores, host=host)
    free = [gpu.free_bytes for gpu in machine.gpus]
    known = [size for size in free if size is not None]
    return Message(
        "machine: {count} GPU ({names}), free on each: {free}, {cores} cores, main memory free: {host}",
        count=len(free),
        names=", ".join(dict.fromkeys(gpu.name for gpu in machine.gpus)),
        free=_size(min(known) if len(known) == len(free) else None),
        cores=machine.cores,
        host=host,
    )


def _size(size: int | None) -> str:
    return Message("not known") if size is None else as_size(size)


def _row(candidate: Candidate, is_chosen: bool, reasons: list[str]) -> Message:
    """Return a candidate's row; its reason is added to `reasons` and referred to by number."""
    ranks = zero = batch = memory = speed = "-"
    place = candidate.placement
    if place is not None and candidate.prepared is not None:
        run = candidate.prepared.request.config.run
        ranks = f"{place.ranks_here} {'GPU' if candidate.device == 'cuda' else candidate.device.upper()}"
        zero = "-" if place.zero_stage is None else str(place.zero_stage)
        batch = f"{min(run.batch_size, -(-run.samples_per_update // place.ranks))}x{candidate.passes}"
        if candidate.verdict is not Verdict.CANNOT:
            memory = "?" if candidate.need is None else as_size(candidate.need.peak)
            speed = f"{candidate.speed:.2f}"
    return Message(
        "{name} {ranks:>6} {zero:>4} {offload} {batch:>7} {memory:>9} {speed:>6}  {verdict}",
        name=_shortened(candidate.backend),
        ranks=ranks,
        zero=zero,
        offload=_offload(candidate),
        batch=batch,
        memory=memory,
        speed=speed,
        verdict=_verdict(candidate, is_chosen, reasons),
    )


def _shortened(name: str) -> str:
    return (name if len(name) <= _NAME else f"{name[: _NAME - 1]}…").ljust(_NAME)


def _offload(candidate: Candidate) -> str:
    """Return what goes to the host, in as many columns in every language."""
    if candidate.placement is None or not candidate.placement.cpu_offload:
        return "-".rjust(_OFFLOAD)
    return Message("    all") if candidate.placement.param_offload else Message("  state")


def _verdict(candidate: Candidate, is_chosen: bool, reasons: list[str]) -> Message:
    if is_chosen:
        return Message("chosen")
    if candidate.verdict is Verdict.FITS:
        return Message("fits")
    if candidate.verdict is Verdict.UNKNOWN:
        return Message("memory unknown")
    needs_no_words = candidate.need is not None and candidate.need.peak > (candidate.usable or 0)
    if candidate.verdict is Verdict.TOO_LARGE and needs_no_words:
        return Message("too large")
    if candidate.reason not in reasons:
        reasons.append(candidate.reason)
    number = reasons.index(candidate.reason) + 1
    if candidate.verdict is Verdict.TOO_LARGE:
        return Message("too large [{number}]", number=number)
    if candidate.verdict is Verdict.ELSEWHERE:
        return Message("not by itself [{number}]", number=number)
    return Message("cannot [{number}]", number=number)


def _reason(decision: Decision, chosen: Candidate) -> Message:
    same = [candidate for candidate in decision.candidates if candidate.verdict is chosen.verdict]
    if chosen.verdict is Verdict.UNKNOWN:
        return Message(
            "memory could not be compared for any candidate, so none was ruled out by it; this is the fastest of "
            "{count} by the estimate",
            count=len(same),
        )
    if len(same) == 1:
        return Message("the only one that fits")
    as_fast = sum(round(candidate.speed, 2) == round(chosen.speed, 2) for candidate in same)
    if as_fast > 1:
        return Message(
            "of {count} that fit, {fast} are the fastest by the estimate, and this is the simplest of them",
            count=len(same),
            fast=as_fast,
        )
    return Message("the fastest by the estimate of {count} that fit", count=len(same))
