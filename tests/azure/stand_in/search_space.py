"""What a sweep tries: values from the search space in the form in which the service gets it."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

Space = dict[str, list[Any]]
"""Name -> [distribution, its arguments], such as `["uniform", [0.1, 0.5]]`."""
_COUNTS = {"choice": 1, "randint": 1, "uniform": 2, "loguniform": 2, "normal": 2, "lognormal": 2}
_COUNTS |= {"quniform": 3, "qloguniform": 3, "qnormal": 3, "qlognormal": 3}
_BAYESIAN = ("choice", "uniform", "quniform")


def check(space: Space, sampling: str) -> str | None:
    """Why the service would refuse a space; None: it would not."""
    if not space:
        return "The search space is empty."
    for name, (distribution, arguments) in space.items():
        if _COUNTS.get(distribution) != len(arguments):
            return f"The distribution of '{name}' is invalid: {distribution} {arguments}."
        if distribution == "choice" and not arguments[0]:
            return f"The choice of '{name}' has no values."
        if "uniform" in distribution and arguments[0] >= arguments[1]:
            return f"The range of '{name}' is empty: {arguments[0]} is not less than {arguments[1]}."
        if sampling == "Grid" and distribution != "choice":
            return f"Grid sampling supports only choice, '{name}' is {distribution}."
        if sampling == "Bayesian" and distribution not in _BAYESIAN:
            return f"Bayesian sampling supports only choice, uniform and quniform, '{name}' is {distribution}."
    return None


def samples(space: Space, algorithm: dict[str, Any], trials: int) -> Iterator[dict[str, Any]]:
    """The values of each trial. Bayesian sampling is played as random: how well it seeks is not the matter here."""
    if algorithm["samplingAlgorithmType"] == "Grid":
        values = [arguments[0] for _, arguments in space.values()]
        for chosen in itertools.islice(itertools.product(*values), trials):
            yield dict(zip(space, chosen, strict=True))
        return
    source = random.Random(algorithm.get("seed") or 0)
    for _ in range(trials):
        yield {name: _draw(source, distribution, arguments) for name, (distribution, arguments) in space.items()}


def _draw(source: random.Random, distribution: str, arguments: list[Any]) -> Any:
    if distribution == "choice":
        return source.choice(arguments[0])
    if distribution == "randint":
        return source.randrange(int(arguments[0]))
    first, second = arguments[:2]
    value = source.uniform(first, second) if "uniform" in distribution else source.gauss(first, second)
    if "log" in distribution:
        value = math.exp(value)
    return round(value / arguments[2]) * arguments[2] if distribution.startswith("q") else value
