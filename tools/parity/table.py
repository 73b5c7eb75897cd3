"""The certificate as plain aligned text: verdicts, and the differences step by step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from tools.figures.wording import aligned, head_of, size_text
from tools.parity.certificate import Certificate, Result, State
from tools.parity.difference import Difference
from tools.parity.variant import REFERENCE, availability
from training.language.messages import Message, translated

_ABSENT = "–"


def availability_lines(backends: Sequence[str]) -> Iterator[str]:
    """Yield a line for each backend: whether it can run here, or the command that makes it available."""
    yield Message("backends")
    width = max(map(len, backends))
    for name in dict.fromkeys(backends):
        found = availability(name)
        state = Message("available") if found.ok else found.reason
        if found.fix:
            state = Message("not available: {reason}; run: {fix}", reason=found.reason, fix=found.fix)
        yield f"  {name:<{width}}  {translated(state)}"


def lines(certificate: Certificate) -> Iterator[str]:
    """Yield the lines of the whole certificate."""
    ran = [result for result in certificate.results if result.differences]
    if ran:
        yield from _steps(Message("loss, and its relative difference from the reference"), certificate, ran, "loss")
        yield from _steps(Message("gradient norm, and its relative difference"), certificate, ran, "grad_norm")
    yield from _verdicts(certificate)
    yield from _provenance(certificate)
    yield Message("certificate: PASS") if certificate.passed else Message("certificate: FAIL")


def _steps(title: str, certificate: Certificate, ran: Sequence[Result], quantity: str) -> Iterator[str]:
    yield title
    keys = {result.variant.name: f"[{n}]" for n, result in enumerate(certificate.results, start=1)}
    of_step = [{d.step: d for d in result.differences} for result in ran]
    body = [
        [
            str(update.step),
            f"{getattr(update, quantity):.6f}",
            *(_marked(found.get(update.step), result, quantity) for found, result in zip(of_step, ran, strict=True)),
        ]
        for update in certificate.reference.updates
    ]
    yield from aligned(
        [[*head_of(Message("step"), Message("reference")), *(keys[result.variant.name] for result in ran)], *body]
    )
    yield ""


def _marked(difference: Difference | None, result: Result, quantity: str) -> str:
    """Return a difference, with `<` where the run leaves the reference's curve."""
    if difference is None:
        return _ABSENT
    parts = result.divergence is not None and result.divergence.step == difference.step
    return number(getattr(difference, quantity)) + ("<" if parts else "")


def number(value: float | None) -> str:
    """Return a difference in a few columns: `1.2e-07`, or `0` for the same bits."""
    if value is None:
        return _ABSENT
    if value == 0.0:
        return "0"
    return f"{value:.1e}" if math.isfinite(value) else "inf"


def _verdicts(certificate: Certificate) -> Iterator[str]:
    yield Message(
        "largest difference over {steps} updates, and (tolerance), {precision}",
        steps=certificate.steps,
        precision=certificate.precision,
    )
    head = head_of(
        Message("variant"), Message("verdict"), Message("loss"), Message("gradient norm"), Message("update"),
        Message("seconds"),
    )  # fmt: skip
    body = [_verdict(n, result) for n, result in enumerate(certificate.results, start=1)]
    yield from aligned([head, *body])
    for n, result in enumerate(certificate.results, start=1):
        if result.reason:
            yield f"  [{n}] {result.reason}"
        elif not result.has_fingerprints:
            missing = Message("it recorded no fingerprints: batches and weights were not compared")
            yield f"  [{n}] {translated(missing)}"
    yield ""


def _verdict(n: int, result: Result) -> list[str]:
    is_bitwise = result.state is State.PASS and result.is_bitwise
    verdict = Message("pass, bitwise") if is_bitwise else Message(result.state.value)
    cells = [_ABSENT] * 4
    if result.tolerance is not None:
        limits = (result.tolerance.loss, result.tolerance.grad_norm, result.tolerance.update)
        largest = map(result.largest, ("loss", "grad_norm", "update"))
        cells = [f"{number(value)} ({limit:g})" for value, limit in zip(largest, limits, strict=True)]
        cells.append(f"{result.seconds:.1f}")
    return [
        f"[{n}] {result.variant.name}",
        translated(Message("FAIL") if result.state is State.FAIL else verdict),
        *cells,
    ]


def _provenance(certificate: Certificate) -> Iterator[str]:
    found = ", ".join(f"{name} {version}" for name, version in certificate.versions.items() if version)
    hardware = certificate.hardware
    machine = ", ".join([hardware["cpu"], f"{hardware['cores']} cores", *hardware["gpus"]])
    memory = f", {size_text(hardware['memory_bytes'])}" if hardware["memory_bytes"] else ""
    commit = certificate.commit
    source = commit["id"][:12] if commit else Message("not a git checkout")
    if commit and commit["modified"]:
        source = Message("{commit} with changes", commit=source)
    first = certificate.seed_step + 1
    last = certificate.seed_step + certificate.steps
    yield Message(
        "reference  {name}; all resumed its checkpoint of step {start}: steps {first} to {last}",
        name=REFERENCE,
        start=first - 1,
        first=first,
        last=last,
    )
    yield Message("config     {hash} ({precision})", hash=certificate.config_hash, precision=certificate.precision)
    yield Message("versions   {versions}", versions=found)
    yield Message(
        "hardware   {device}: {machine}; {platform}",
        device=hardware["device"],
        machine=f"{machine}{memory}",
        platform=hardware["platform"],
    )
    yield Message("commit     {commit}", commit=source)
    yield Message("made       {time}", time=certificate.created_at)
