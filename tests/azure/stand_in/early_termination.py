"""Which trials of a sweep are ended because others do better."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def doomed(
    policy: Mapping[str, Any], goal: str, running: Sequence[str], histories: Mapping[str, Sequence[float]]
) -> list[str]:
    """Names of the running trials that a policy ends now.

    Args:
        policy: `policyType` and its settings, as the service gets them.
        goal: `Minimize` or `Maximize`, in any case.
        running: trials that may be ended.
        histories: what each trial, ended ones too, has reported of the metric.
    """
    sign = 1.0 if goal.lower() == "minimize" else -1.0
    signed = {name: [sign * value for value in values] for name, values in histories.items() if values}
    interval, delay = int(policy.get("evaluationInterval") or 1), int(policy.get("delayEvaluation") or 0)
    due = [n for n in running if (count := len(signed.get(n, ()))) and count >= delay and count % interval == 0]
    kind = policy["policyType"]
    if kind == "Bandit":
        best = min((min(values) for values in signed.values()), default=0.0)
        slack = float(policy.get("slackAmount") or 0) or abs(best) * float(policy.get("slackFactor") or 0)
        return [name for name in due if min(signed[name]) > best + slack]
    if kind == "MedianStopping":
        return [
            name
            for name in due
            if min(signed[name])
            > statistics.median(statistics.fmean(values[: len(signed[name])]) for values in signed.values())
        ]
    if kind == "TruncationSelection":
        ranked = sorted(due, key=lambda name: min(signed[name]))
        return ranked[len(ranked) - len(ranked) * int(policy["truncationPercentage"]) // 100 :]
    raise ValueError(f"no such policy: {kind}")
