"""Samplers: which settings the trials of a sweep have, as a pure function of space, seed and trial number. No torch.

A point of the unit cube becomes settings by the inverse distribution function of each setting. Where the points come
from is the sampler:

grid      every combination of the choices, in order; the last setting varies fastest
random    independent draws: the draw of a setting depends on seed, number and its name alone
sobol     a Sobol sequence (directions of Joe and Kuo, 2008) under a random digital shift (L'Ecuyer and Lemieux, 2002),
          which keeps its balance: of the first 2^m points, one lies in each of 2^m equal parts of each setting's range

A combination that came before is passed over, since a run with the same settings and seed would end the same.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping
from statistics import NormalDist
from typing import Any

from training.experiments.search_space import Distribution, SearchSpace

MOST_REPEATS = 10_000
"""Draws in a row without a new combination after which there are no more: a stepped range has few values."""
_BITS = 30
"""Binary digits of a coordinate of a Sobol point, as scipy computes it."""
_DRAW_BITS = 53

Point = Mapping[str, float]
"""Dotted key of a setting -> coordinate, from 0 inclusive to 1 exclusive."""
Settings = dict[str, Any]


def samples(space: SearchSpace, sampling: str, seed: int) -> Iterator[Settings]:
    """Yield the settings of the trials in their order, each combination once.

    Args:
        space: settings with their distributions.
        sampling: `grid`, `random` or `sobol`.
        seed: of the draws; a grid has none.

    Returns:
        An iterator over mappings dotted key -> value; it ends where there is no further combination.
    """
    if sampling == "grid":
        yield from grid(space)
        return
    points = random_points(space, seed) if sampling == "random" else sobol_points(space, seed)
    seen: set[tuple[Any, ...]] = set()
    repeats = 0
    for point in points:
        settings = settings_at(space, point)
        if (combination := tuple(settings.values())) in seen:
            repeats += 1
            if repeats == MOST_REPEATS:
                return
            continue
        repeats = 0
        seen.add(combination)
        yield settings
        if space.num_combinations == len(seen):
            return


def grid(space: SearchSpace) -> Iterator[Settings]:
    """Yield every combination of the choices; the last setting varies fastest."""
    values = {key: found.values() for key, found in space.distributions.items()}
    yield from (dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values()))


def random_points(space: SearchSpace, seed: int) -> Iterator[Point]:
    """Yield independent points without end."""
    for number in itertools.count():
        yield {key: _draw(_DRAW_BITS, seed, number, key) / 2**_DRAW_BITS for key in space.distributions}


def sobol_points(space: SearchSpace, seed: int) -> Iterator[Point]:
    """Yield the points of a shifted Sobol sequence, as many as it has.

    A digital shift adds the same random binary digits, without carry, to a coordinate of every point.
    """
    from scipy.stats import qmc

    keys = list(space.distributions)
    shifts = [_draw(_BITS, seed, "shift", key) for key in keys]
    sequence = qmc.Sobol(len(keys), scramble=False, bits=_BITS)
    for _ in range(2**_BITS):
        [point] = sequence.random(1)
        places = (round(float(x) * 2**_BITS) ^ shift for x, shift in zip(point, shifts, strict=True))
        # The middle of the cell: the end of a range is as near as its beginning.
        yield {key: (place + 0.5) / 2**_BITS for key, place in zip(keys, places, strict=True)}


def _draw(bits: int, *names: object) -> int:
    """Return a whole number from 0 to 2**bits - 1 that depends on these names alone, on every machine."""
    digest = hashlib.blake2b(repr(names).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - bits)


def settings_at(space: SearchSpace, point: Point) -> Settings:
    """Return the settings at a point of the unit cube; a setting that takes whole numbers has one."""
    return {key: value_at(found, point[key]) for key, found in space.distributions.items()}


def value_at(found: Distribution, u: float) -> Any:
    """Return the value below which the share `u` of a distribution lies; stepped ones are rounded to a step.

    Args:
        found: the distribution.
        u: from 0 inclusive to 1 exclusive.
    """
    if found.kind == "choice":
        return found.arguments[int(u * len(found.arguments))]
    if found.kind == "randint":
        return int(u * found.numbers[0])
    first, second = found.numbers[:2]
    if "uniform" in found.kind:
        value = first + u * (second - first)
    else:  # the ends of the open interval have no value
        value = NormalDist(first, second).inv_cdf(min(max(u, 2.0**-_DRAW_BITS), 1.0 - 2.0**-_DRAW_BITS))
    if found.is_logarithmic:
        value = math.exp(value)
    if (step := found.step) is not None:
        value = round(value / step) * step
    low, high = found.ends()
    value = min(max(value, low), high)  # no rounding leads out of the range
    return int(value) if step is not None and float(step).is_integer() else value
