"""How a sweep draws the values of a setting, in our text form and in Azure's YAML form, which say the same.

1e-5..1e-3            {type: uniform, min_value: 1.0e-05, max_value: 0.001}
log(1e-5..1e-3)       {type: loguniform, min_value: -11.5…, max_value: -6.9…}
4..8                  {type: quniform, min_value: 4, max_value: 8, q: 1}, of a setting that takes whole numbers
128,256               {type: choice, values: [128, 256]}
normal(0.05,0.01)     {type: normal, mu: 0.05, sigma: 0.01}, and so on for each of Azure's types
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from training.errors import did_you_mean

Scalar = str | int | float | bool | None

PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "choice": ("values",),
    "uniform": ("min_value", "max_value"),
    "loguniform": ("min_value", "max_value"),
    "quniform": ("min_value", "max_value", "q"),
    "qloguniform": ("min_value", "max_value", "q"),
    "normal": ("mu", "sigma"),
    "lognormal": ("mu", "sigma"),
    "qnormal": ("mu", "sigma", "q"),
    "qlognormal": ("mu", "sigma", "q"),
    "randint": ("upper",),
}
"""Azure's distributions with their parameters. The bounds of the logarithmic ones are natural logarithms of values."""

WORD = re.compile(r"[\w.+-]+", re.ASCII)
"""A value that can stand in a trial's command."""
MOST_VALUES = 1000
"""A stepped range with more values than this is looked at by its ends alone."""
SIGMAS = 10.0
"""So far from the mean no draw of a normal distribution is ever seen."""


@dataclass(frozen=True)
class Distribution:
    """How the values of one setting are drawn."""

    kind: str
    arguments: tuple[Scalar, ...]
    """In the order of `PARAMETERS`; a choice has its values."""

    def document(self) -> dict[str, Any]:
        """As Azure's YAML has it."""
        if self.kind == "choice":
            return {"type": "choice", "values": list(self.arguments)}
        return {"type": self.kind, **dict(zip(PARAMETERS[self.kind], self.arguments, strict=True))}

    def text(self) -> str:
        """As `--search` takes it, after `SETTING=`."""
        told = ",".join("none" if value is None else str(value) for value in self.arguments)
        if self.kind == "choice":
            return told
        return f"{self.kind}({told})"

    @property
    def is_logarithmic(self) -> bool:
        """Whether its bounds are logarithms."""
        return "log" in self.kind

    @property
    def numbers(self) -> tuple[float, ...]:
        """The arguments, of any but a choice."""
        return tuple(float(value) for value in self.arguments if isinstance(value, int | float))

    @property
    def step(self) -> float | None:
        """Values are multiples of it; None: any."""
        return self.numbers[-1] if self.kind.startswith("q") else None

    def ends(self) -> tuple[float, float]:
        """The least and the greatest value that is ever drawn, of any but a choice."""
        first, *rest = self.numbers
        if self.kind == "randint":
            return 0.0, first - 1
        low, high = (first, rest[0]) if "uniform" in self.kind else (first - SIGMAS * rest[0], first + SIGMAS * rest[0])
        if self.is_logarithmic:
            low, high = math.exp(low), math.exp(high)
        q = self.step
        return (low, high) if q is None else (round(low / q) * q, round(high / q) * q)

    def values(self) -> list[Scalar]:
        """Values to try beforehand: all of them, or where there are too many, the ends."""
        if self.kind == "choice":
            return list(self.arguments)
        low, high = self.ends()
        step = 1.0 if self.kind == "randint" else self.step
        if step is None or (high - low) / step > MOST_VALUES:
            return [low, high]
        return [low + number * step for number in range(round((high - low) / step) + 1)]

    def told(self) -> str:
        """For the user: `16, 32, 64` or `1e-05 to 0.001, loguniform`."""
        if self.kind == "choice":
            return self.text().replace(",", ", ")
        low, high = self.ends()
        return f"{low:g} to {high:g}, {self.kind}"


def as_texts(space: Mapping[Any, Any]) -> Iterator[str]:
    """Azure's YAML form, setting -> distribution, as our texts. A plain list is a choice.

    Raises:
        ValueError: not of this form.
    """
    for name, given in space.items():
        where = f"search: {name}"
        if isinstance(given, list | tuple):
            given = {"type": "choice", "values": given}
        if not isinstance(given, Mapping) or "type" not in given:
            raise ValueError(f"{where}: should be a list of values or a mapping with `type`, not {given!r}")
        kind = str(given["type"]).lower()
        if kind not in PARAMETERS:
            raise ValueError(f"{where}: no such type {given['type']!r}{did_you_mean(kind, PARAMETERS)}")
        names = PARAMETERS[kind]
        if set(given) - {"type"} != set(names):
            has = ", ".join(sorted(map(str, set(given) - {"type"}))) or "none of them"
            raise ValueError(f"{where}: {kind} takes {', '.join(names)}, and has {has}")
        arguments = given["values"] if kind == "choice" else [given[parameter] for parameter in names]
        if not isinstance(arguments, list | tuple):
            raise ValueError(f"{where}: values should be a list, not {arguments!r}")
        for value in arguments:
            if isinstance(value, Mapping | list | tuple):
                raise ValueError(f"{where}: {value!r} is no single value; give each setting its own")
            if kind == "choice" and value is not None and WORD.fullmatch(str(value)) is None:
                raise ValueError(f"{where}: {value!r} cannot stand in a trial's command")
        if not arguments:
            raise ValueError(f"{where}: there are no values to choose from; give two or more")
        yield f"{name}={Distribution(kind, tuple(arguments)).text()}"
