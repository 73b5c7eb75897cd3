"""The rows of each module: evenly divided, or by weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from fractions import Fraction

LEAST, MOST = Fraction(1, 100), Fraction(100)
_NUMBER = re.compile(r"\d{1,3}(\.\d{1,6})?", re.ASCII)


def apportion(rows: int, weights: Sequence[Fraction]) -> list[int]:
    """Divide `rows` in proportion to `weights`, by Webster's method (Sainte-Laguë); a tie goes to the first.

    With a divisor method no share shrinks when `rows` grows: a larger file holds every row of a smaller one. With equal
    weights the shares are as even as possible and the first ones take the remainder.
    """
    total = sum(weights)
    # No share is more than half a row for each weight, and another half, below its quota: only the rest is dealt out.
    shares = [max(0, int(rows * weight / total) - len(weights)) for weight in weights]
    for _ in range(rows - sum(shares)):
        claims = [weight / (2 * share + 1) for weight, share in zip(weights, shares, strict=True)]
        shares[claims.index(max(claims))] += 1
    return shares


def read_weights(text: str, modules: Iterable[str]) -> dict[str, Fraction]:
    """Read weights from `arithmetic=2,reverse_english=0.5`; a module that is not named weighs 1.

    Decimal fractions are taken exactly, so that the same text gives the same file on every machine.

    Raises:
        ValueError: one line that says what is wrong and what would be right.
    """
    weights = dict.fromkeys(modules, Fraction(1))
    named: set[str] = set()
    for part in text.split(","):
        module, equals, number = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ValueError(f"{part.strip()!r} is no MODULE=NUMBER, such as arithmetic=2")
        if module not in weights:
            near = get_close_matches(module, weights, n=1)
            advice = f"did you mean {near[0]}?" if near else f"the modules are {', '.join(weights)}"
            raise ValueError(f"there is no module {module!r}; {advice}")
        if module in named:
            raise ValueError(f"{module} is weighted twice; give it one weight")
        if not _NUMBER.fullmatch(number) or not LEAST <= Fraction(number) <= MOST:
            raise ValueError(f"the weight of {module} must be a number from {float(LEAST)} to {MOST}, got {number!r}")
        named.add(module)
        weights[module] = Fraction(number)
    return weights


def as_numbers(weights: Mapping[str, Fraction]) -> dict[str, int | float]:
    """Return weights for a JSON file: whole numbers without a point."""
    return {module: int(weight) if weight.denominator == 1 else float(weight) for module, weight in weights.items()}
