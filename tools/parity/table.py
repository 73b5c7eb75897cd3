"""The certificate as plain aligned text: verdicts, and the differences step by step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from tools.figures.wording import aligned, size_text
from tools.parity.certificate import Certificate, Result, State
from tools.parity.difference import Difference
from tools.parity.variant import REFERENCE, availability

_ABSENT = "–"


def availability_lines(backends: Sequence[str]) -> Iterator[str]:
    """Yield a line for each backend: whether it can run here, or the command that makes it available."""
    yield "backends"
    width = max(map(len, backends))
    for name in dict.fromkeys(backends):
        found = availability(name)
        state = "available" if found.ok else found.reason
        if found.fix:
            state = f"not available: {found.reason}; run: {found.fix}"
        yield f"  {name:<{width}}  {state}"


def lines(certificate: Certificate) -> Iterator[str]:
    """Yield the lines of the whole certificate."""
    ran = [result for result in certificate.results if result.differences]
    if ran:
        yield from _steps("loss, and its relative difference from the reference", certificate, ran, "loss")
        yield from _steps("gradient norm, and its relative difference", certificate, ran, "grad_norm")
    yield from _verdicts(certificate)
    yield from _provenance(certificate)
    yield f"certificate: {'PASS' if certificate.passed else 'FAIL'}"


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
    yield from aligned([["step", "reference", *(keys[result.variant.name] for result in ran)], *body])
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
    yield f"largest difference over {certificate.steps} updates, and (tolerance), {certificate.precision}"
    head = ["variant", "verdict", "loss", "gradient norm", "update", "seconds"]
    body = [_verdict(n, result) for n, result in enumerate(certificate.results, start=1)]
    yield from aligned([head, *body])
    for n, result in enumerate(certificate.results, start=1):
        if result.reason:
            yield f"  [{n}] {result.reason}"
        elif not result.has_fingerprints:
            yield f"  [{n}] it recorded no fingerprints: batches and weights were not compared"
    yield ""


def _verdict(n: int, result: Result) -> list[str]:
    verdict = "pass, bitwise" if result.state is State.PASS and result.is_bitwise else result.state.value
    cells = [_ABSENT] * 4
    if result.tolerance is not None:
        limits = (result.tolerance.loss, result.tolerance.grad_norm, result.tolerance.update)
        largest = map(result.largest, ("loss", "grad_norm", "update"))
        cells = [f"{number(value)} ({limit:g})" for value, limit in zip(largest, limits, strict=True)]
        cells.append(f"{result.seconds:.1f}")
    return [f"[{n}] {result.variant.name}", verdict.upper() if result.state is State.FAIL else verdict, *cells]


def _provenance(certificate: Certificate) -> Iterator[str]:
    found = ", ".join(f"{name} {version}" for name, version in certificate.versions.items() if version)
    hardware = certificate.hardware
    machine = ", ".join([hardware["cpu"], f"{hardware['cores']} cores", *hardware["gpus"]])
    memory = f", {size_text(hardware['memory_bytes'])}" if hardware["memory_bytes"] else ""
    commit = certificate.commit
    source = f"{commit['id'][:12]}{' with changes' if commit['modified'] else ''}" if commit else "not a git checkout"
    first = certificate.seed_step + 1
    last = certificate.seed_step + certificate.steps
    yield f"reference  {REFERENCE}; all resumed its checkpoint of step {first - 1}: steps {first} to {last}"
    yield f"config     {certificate.config_hash} ({certificate.precision})"
    yield f"versions   {found}"
    yield f"hardware   {hardware['device']}: {machine}{memory}; {hardware['platform']}"
    yield f"commit     {source}"
    yield f"made       {certificate.created_at}"
