"""The examination: the reference writes a seed checkpoint, then each variant really resumes it and is compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from tools.parity.certificate import Certificate, Result, State
from tools.parity.curve import Curve, read_curve
from tools.parity.difference import BY_PRECISION, EXACT, Tolerance, differences
from tools.parity.divergence import find_divergence
from tools.parity.front_door import Outcome, train
from tools.parity.provenance import commit, hardware, versions
from tools.parity.settings import SEED_STEPS, curve_hash, resolved
from tools.parity.variant import REFERENCE, Variant, availability
from training.backends.protocol import Availability
from training.errors import ConfigError, UserError
from training.record.reporter import LOG_NAME, read_events
from training.settings.tree import TrainingConfig


@dataclass(frozen=True)
class Candidate:
    """A variant, and the facts about it that are known before anything runs."""

    variant: Variant
    available: Availability
    config: TrainingConfig | None
    """None: not available, or the backend cannot do what the config asks."""


@dataclass(frozen=True)
class Examination:
    """One comparison of candidates with the reference.

    Args:
        reference: the config that the reference runs.
        candidates: the variants that are compared with it.
        steps: updates to compare.
        folder: an empty directory for configs, logs and runs.
        timeout: seconds that one run may take.
        report: called with a line about each run as it ends.
    """

    reference: TrainingConfig
    candidates: Sequence[Candidate]
    steps: int
    folder: Path
    timeout: float
    report: Callable[[str], None] = lambda line: None

    def run(self) -> Certificate:
        """Run everything.

        Raises:
            UserError: the reference itself did not reach the end, so there is nothing to compare with.
        """
        seed, checkpoint = self._seed()
        reference_variant = Variant(REFERENCE)
        reference, outcome = self._run(reference_variant, self.reference, checkpoint, seed, "reference")
        if fault := _incomplete(reference, outcome, self.steps):
            raise UserError(f"the reference ({REFERENCE}) did not reach its end: {fault}")
        self.report(f"reference  {REFERENCE}: {outcome.seconds:.1f} s")
        device = str(reference.facts.get("device", "cpu"))
        results: list[Result] = []
        for number, candidate in enumerate(self.candidates, start=1):
            if candidate.config is None:
                results.append(Result(candidate.variant, State.NOT_RUN, candidate.available.reason))
                continue
            curve, outcome = self._run(candidate.variant, candidate.config, checkpoint, seed, str(number))
            tolerance = self._tolerance(candidate.variant, device)
            result = judge(candidate, curve, reference, outcome, tolerance, self.steps)
            self.report(f"{result.state:<10} {candidate.variant.name}: {outcome.seconds:.1f} s")
            results.append(result)
        config = {k: v for k, v in self.reference.to_dict().items() if k in TrainingConfig.model_fields}
        return Certificate(
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            commit=commit(),
            versions=versions(),
            hardware=hardware(device),
            config_hash=curve_hash(self.reference),
            config=config,
            precision=self.reference.run.precision,
            seed_step=SEED_STEPS,
            steps=self.steps,
            reference=reference,
            results=tuple(results),
        )

    def _tolerance(self, variant: Variant, device: str) -> Tolerance:
        if variant == Variant(REFERENCE) and device == "cpu":
            return EXACT
        return BY_PRECISION[self.reference.run.precision]

    def _seed(self) -> tuple[Curve, Path]:
        """Run the reference for a few updates; return its curve and the checkpoint that it left."""
        run = self.reference.run.model_copy(update={"max_steps": SEED_STEPS})
        config = self.reference.model_copy(update={"run": run})
        curve, outcome = self._run(Variant(REFERENCE), config, None, None, "seed")
        if fault := _incomplete(curve, outcome, SEED_STEPS):
            raise UserError(f"the seed checkpoint could not be written: {fault}")
        saved = [e["path"] for e in read_events(self.folder / "seed" / LOG_NAME) if e["event"] == "checkpoint"]
        return curve, self.folder / "seed" / saved[-1]

    def _run(
        self, variant: Variant, config: TrainingConfig, checkpoint: Path | None, seed: Curve | None, prefix: str
    ) -> tuple[Curve, Outcome]:
        """Run a variant from the checkpoint in a directory of its own."""
        name = prefix if prefix in ("seed", "reference") else f"{prefix}_{re.sub(r'[^a-z0-9]+', '_', variant.name)}"
        run_dir, file = self.folder / name, self.folder / f"{name}.yaml"
        run = config.run.model_copy(update={"run_dir": run_dir})
        config.model_copy(update={"run": run, "backend": variant.backend}).to_yaml(file)
        arguments: list[str | Path] = ["--config", file]
        if checkpoint is not None:
            arguments += ["--resume", checkpoint]
        outcome = train(arguments, self.folder / f"{name}.log", self.timeout)
        curve = read_curve(run_dir)
        return (replace(curve, earlier=seed.updates) if seed is not None else curve), outcome


def judge(
    candidate: Candidate, curve: Curve, reference: Curve, outcome: Outcome, tolerance: Tolerance, steps: int
) -> Result:
    """Compare one run with the reference's."""
    divergence = find_divergence(curve, reference, tolerance)
    # The point of divergence says more than an early end; a diverging run often has both.
    if divergence is not None:
        reason = divergence.headline()
    else:
        reason = _incomplete(curve, outcome, steps) or _other_ranks(candidate, curve)
    return Result(
        variant=candidate.variant,
        state=State.FAIL if reason else State.PASS,
        reason=reason,
        command=outcome.command,
        exit_code=outcome.exit_code,
        seconds=outcome.seconds,
        curve=curve,
        tolerance=tolerance,
        differences=tuple(differences(curve, reference)),
        divergence=divergence,
    )


def _incomplete(curve: Curve, outcome: Outcome, steps: int) -> str:
    """Return what is missing from a run that should have ended well; an empty string if nothing is."""
    if outcome.exit_code != 0:
        return f"{outcome.complaint()} (after {len(curve.updates)} of {steps} updates)"
    if len(curve.updates) != steps:
        return f"it ended well, but recorded {len(curve.updates)} of {steps} updates"
    return ""


def _other_ranks(candidate: Candidate, curve: Curve) -> str:
    """Return the fault of a run with another number of processes: one process proves nothing about two."""
    launch, ran = candidate.config and candidate.config.launch, curve.facts.get("world_size")
    asked = launch.nnodes * (launch.num_processes or launch.num_gpus or 1) if launch else 1
    if ran is None or ran == asked:
        return ""
    return f"it ran as {ran} process{'es' if ran > 1 else ''}, and {asked} were asked for"


def candidate(
    variant: Variant, config_file: str | None, steps: int, is_asked_for: bool, flags: Sequence[str] = ()
) -> Candidate:
    """Return the facts about a variant that are known before anything runs.

    Args:
        variant: backend and settings.
        config_file: as in `resolved`.
        steps: updates to compare.
        is_asked_for: True if the user named it, so that it must run; otherwise the reason why it cannot is shown.
        flags: as in `resolved`.

    Raises:
        ConfigError: it cannot run, and was asked for.
    """
    available = availability(variant.backend)
    if not available.ok:
        if is_asked_for:
            fix = f"; run: {available.fix}" if available.fix else ""
            raise ConfigError(f"--backends {variant.name}: {available.reason}{fix}")
        return Candidate(variant, available, None)
    try:
        return Candidate(variant, available, resolved(variant, config_file, steps, flags))
    except ConfigError as error:
        if is_asked_for:
            raise
        return Candidate(variant, Availability(False, str(error)), None)


def refuse_other_curves(reference: TrainingConfig, candidates: Sequence[Candidate]) -> None:
    """Refuse variants that would learn something else: a variant says only where and how a run trains.

    Raises:
        ConfigError: a variant's setting changes the curve.
    """
    for c in candidates:
        if c.config is None or curve_hash(c.config) == curve_hash(reference):
            continue
        guilty = [f"{name}={value}" for name, value in c.variant.settings if _changes_the_curve(reference, name, value)]
        raise ConfigError(
            f"--backends {c.variant.name}: {' and '.join(guilty)} would change what is learned; a variant says only "
            "where and how, so put it into --config, for all"
        )


def _changes_the_curve(config: TrainingConfig, name: str, value: object) -> bool:
    for title in TrainingConfig.model_fields:
        section = getattr(config, title)
        if name in getattr(type(section), "model_fields", ()):
            changed = config.model_copy(update={title: section.model_copy(update={name: value})})
            return curve_hash(changed) != curve_hash(config)
    return False
