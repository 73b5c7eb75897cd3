"""The certificate: which variants followed the reference's curve, how closely, and on which machine."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from tools.figures.output_file import write_atomically
from tools.parity.curve import Curve
from tools.parity.difference import Difference, Tolerance
from tools.parity.divergence import Divergence
from tools.parity.variant import Variant

SCHEMA_VERSION = 1
FORMAT = "apt-parity-certificate"


class State(StrEnum):
    """The outcome of a variant. Only `fail` fails the certificate."""

    PASS = "pass"
    FAIL = "fail"
    NOT_RUN = "not run"
    """It cannot train here."""


@dataclass(frozen=True)
class Result:
    """One variant, compared with the reference."""

    variant: Variant
    state: State
    reason: str
    """Reason why it failed or was not run, in one line; empty for a pass."""
    command: tuple[str, ...] = ()
    exit_code: int | None = None
    seconds: float = 0.0
    curve: Curve = field(default_factory=Curve)
    tolerance: Tolerance | None = None
    differences: tuple[Difference, ...] = ()
    divergence: Divergence | None = None

    @property
    def is_bitwise(self) -> bool:
        """True if loss, gradient norm and weights were the same bits at each update."""
        return bool(self.differences) and all(d.loss == d.grad_norm == d.weights == 0.0 for d in self.differences)

    @property
    def has_fingerprints(self) -> bool:
        """True if batches and weights could be compared, not only losses and gradient norms."""
        return bool(self.differences) and all(
            d.same_batch is not None and d.update is not None for d in self.differences
        )

    def largest(self, quantity: str) -> float | None:
        """Return the largest difference of a quantity (`loss`, `grad_norm`, `update`) over all updates."""
        values = [getattr(d, quantity) for d in self.differences]
        return max((value for value in values if value is not None), default=None)


@dataclass(frozen=True)
class Certificate:
    """All variants, and the facts that a reader needs to judge or repeat the comparison."""

    created_at: str
    """UTC, ISO 8601."""
    commit: Mapping[str, Any] | None
    versions: Mapping[str, str | None]
    hardware: Mapping[str, Any]
    config_hash: str
    config: Mapping[str, Any]
    precision: str
    seed_step: int
    """Updates in the seed checkpoint."""
    steps: int
    reference: Curve
    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """True if anything was compared and nothing failed."""
        states = [result.state for result in self.results]
        return State.PASS in states and State.FAIL not in states

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON. A schema version only ever gains keys; null: not recorded, or not finite."""
        return {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "verdict": "pass" if self.passed else "fail",
            "created_at": self.created_at,
            "commit": self.commit,
            "versions": dict(self.versions),
            "hardware": dict(self.hardware),
            "config_hash": self.config_hash,
            "config": dict(self.config),
            "precision": self.precision,
            "seed_step": self.seed_step,
            "steps": self.steps,
            "reference": _curve(self.reference),
            "variants": [_result(result) for result in self.results],
        }


def _curve(curve: Curve) -> dict[str, Any]:
    names = ("step", "loss", "grad_norm", "learning_rate", "loss_tokens", "batch_hash", "weights")
    return {name: [_plain(getattr(update, name)) for update in curve.updates] for name in names}


def _result(result: Result) -> dict[str, Any]:
    names = ("step", "same_batch", "loss", "grad_norm", "learning_rate", "update", "weights")
    return {
        "name": result.variant.name,
        "backend": result.variant.backend,
        "settings": dict(result.variant.settings),
        "state": result.state.value,
        "reason": result.reason,
        "command": list(result.command),
        "exit_code": result.exit_code,
        "seconds": round(result.seconds, 3),
        "device": result.curve.facts.get("device"),
        "world_size": result.curve.facts.get("world_size"),
        "bitwise": result.is_bitwise,
        "fingerprints": result.has_fingerprints,
        "tolerance": asdict(result.tolerance) if result.tolerance else None,
        "largest": {name: _plain(result.largest(name)) for name in ("loss", "grad_norm", "update")},
        "divergence": {name: _plain(value) for name, value in asdict(result.divergence).items()}
        if result.divergence
        else None,
        "differences": {name: [_plain(getattr(d, name)) for d in result.differences] for name in names},
    }


def _plain(value: Any) -> Any:
    """Replace infinity and NaN, which JSON does not have, by None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return [_plain(inner) for inner in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def write_json(certificate: Certificate, path: Path) -> None:
    """Write the certificate as JSON.

    Raises:
        UserError: it cannot be written.
    """
    text = json.dumps(certificate.to_dict(), ensure_ascii=False, indent=1, allow_nan=False)
    write_atomically(path, (text + "\n").encode())
