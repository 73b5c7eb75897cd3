"""What a sweep varies: settings, each with the distribution of its values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, Self, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from training.azure.distribution import PARAMETERS, SIGMAS, WORD, Distribution, Scalar
from training.azure.options import options_of
from training.errors import ConfigError, did_you_mean
from training.settings.declarations import find_key, leaves
from training.settings.flags import flag
from training.settings.tree import TrainingConfig

DEFAULT = (
    "batch_size=16,32,64",
    "d_model=128,256,512",
    "num_layers=4,6,8",
    "learning_rate=1e-5..1e-3",
    "weight_decay=0.0..0.1",
)
"""What `--sweep` alone varies."""

MOST_LOGARITHM = 700.0
"""e to the power of more than about 709 is beyond the greatest float."""

_FIXED: Mapping[str, str] = {
    "backend": "the job has one",
    "run.run_dir": "every trial has a directory of its own",
    "data.datasets": "the losses of different data cannot be compared",
    "data.validation_split": "the losses of different data cannot be compared",
    "model.vocab_size": "the data decide it",
    "azure": "it belongs to the whole job",
    "launch": "it belongs to the whole job",
    "track": "it changes nothing of a run",
    "hub": "it changes nothing of a run",
    "report": "it changes nothing of a run",
}
"""Setting or section -> why no sweep varies it."""


@dataclass(frozen=True)
class SearchSpace:
    """Setting -> how its values are drawn."""

    distributions: Mapping[str, Distribution]
    """By dotted key."""
    config_class: type[TrainingConfig]

    @classmethod
    def of(cls, config: TrainingConfig) -> Self:
        """The space that a config's options describe; `DEFAULT` where they say nothing.

        Raises:
            ConfigError: the first fault of it.
        """
        config_class = type(config)
        found: dict[str, Distribution] = {}
        for text in options_of(config).search or DEFAULT:
            key, distribution = parse(text, config_class)
            if key in found:
                raise ConfigError(f"--search {text}: {_short(key)} is given twice; give all its values in one word")
            found[key] = distribution
        return cls(found, config_class)

    def document(self) -> dict[str, Any]:
        """As Azure's YAML has it, by short names."""
        return {
            _short(key): self._as_flags(key, found).document() if self._is_switch(key) else _plain(found).document()
            for key, found in self.distributions.items()
        }

    def arguments(self) -> list[str]:
        """What a trial's command adds, with the placeholders that Azure fills in."""
        words: list[str] = []
        for key in self.distributions:
            value = f"${{{{search_space.{_short(key)}}}}}"
            words += [f"--{value}"] if self._is_switch(key) else [flag(_short(key)), value]
        return words

    def told(self) -> list[str]:
        """Lines for the user."""
        return [f"varies {_short(key)}: {found.told()}" for key, found in self.distributions.items()]

    @property
    def combinations(self) -> int | None:
        """How many different trials there are; None: any number."""
        if any(found.kind != "choice" for found in self.distributions.values()):
            return None
        return math.prod(len(found.arguments) for found in self.distributions.values())

    def _is_switch(self, key: str) -> bool:
        return dict(leaves(self.config_class))[key].annotation is bool

    def _as_flags(self, key: str, found: Distribution) -> Distribution:
        # A switch has no value on the command line: `--compile` or `--no-compile`.
        word = _short(key).replace("_", "-")
        return Distribution("choice", tuple(word if value else f"no-{word}" for value in found.arguments))


def _plain(found: Distribution) -> Distribution:
    return Distribution(found.kind, tuple("none" if value is None else value for value in found.arguments))


def parse(text: str, config_class: type[TrainingConfig]) -> tuple[str, Distribution]:
    """(dotted key, distribution) of `SETTING=VALUES`; choices have the setting's type.

    Raises:
        ConfigError: not of this form, no such setting, or no values for it.
    """
    where = f"--search {text}"
    word, equals, rest = text.partition("=")
    if not (equals and word.strip() and rest.strip()):
        raise ConfigError(f"{where}: should be SETTING=VALUES, as learning_rate=1e-5..1e-3 or d_model=128,256")
    try:
        key = find_key(word.strip(), config_class)
    except ConfigError as error:
        raise ConfigError(str(error).replace("--explain", "--search", 1)) from None
    for fixed in (key, key.partition(".")[0]):
        if fixed in _FIXED:
            raise ConfigError(f"{where}: a sweep does not vary {_short(key)}: {_FIXED[fixed]}; set it for all trials")
    field = dict(leaves(config_class))[key]
    kinds = _kinds(field)
    if not kinds <= {int, float, bool, str} and not all(isinstance(kind, str) for kind in kinds):
        raise ConfigError(
            f"{where}: a sweep does not vary {_short(key)}, which is a list or a path; set it for all trials"
        )
    found = _distribution(rest.strip(), where, field, _short(key))
    _check(found, where, _short(key), kinds)
    return key, found


def _distribution(text: str, where: str, field: FieldInfo, name: str) -> Distribution:
    is_whole = _kinds(field) <= {int}
    if call := re.fullmatch(r"([A-Za-z]+)\((.*)\)", text):
        kind, inside = call[1].lower(), call[2]
        if kind == "log":
            ends = _range(inside, where)
            if ends is None or min(ends) <= 0.0:
                raise ConfigError(f"{where}: should be log(LOW..HIGH) with both above 0, as log(1e-5..1e-3)")
            _check_ends(*ends, where, name)
            logs = _logarithms(*ends)
            return Distribution("qloguniform", (*logs, 1)) if is_whole else Distribution("loguniform", logs)
        if kind not in PARAMETERS:
            raise ConfigError(f"{where}: no such distribution {call[1]!r}{did_you_mean(kind, [*PARAMETERS, 'log'])}")
        if kind != "choice":
            given = inside.split(",")
            names = PARAMETERS[kind]
            if len(given) != len(names):
                raise ConfigError(f"{where}: {kind} has {len(names)} numbers ({', '.join(names)}), not {len(given)}")
            found = Distribution(kind, tuple(_number(value, where) for value in given))
            _check_logarithms(found, where, name)
            return found
        text = inside
    elif (ends := _range(text, where)) is not None:
        return Distribution("quniform", (*ends, 1)) if is_whole else Distribution("uniform", ends)
    return Distribution("choice", tuple(_choice(value.strip(), where, field) for value in text.split(",")))


def _logarithms(low: float, high: float) -> tuple[float, float]:
    """Of both ends, moved inward by the rounding: e to the power of one is never outside of the range."""
    first, last = math.log(low), math.log(high)
    while math.exp(first) < low:
        first = math.nextafter(first, math.inf)
    while math.exp(last) > high:
        last = math.nextafter(last, -math.inf)
    return first, last


def _range(text: str, where: str) -> tuple[int | float, int | float] | None:
    low, dots, high = text.partition("..")
    if high.startswith("."):  # or `1e-5...1e-3` would be read as 1e-5 to 0.1e-3
        raise ConfigError(f"{where}: a range has two dots, as LOW..HIGH, and HIGH has a digit before its point")
    return (_number(low, where), _number(high, where)) if dots else None


def _number(text: str, where: str) -> int | float:
    try:
        value = float(text)
    except ValueError:
        raise ConfigError(f"{where}: {text.strip()!r} should be a number") from None
    if not math.isfinite(value):
        raise ConfigError(f"{where}: {text.strip()!r} should be a finite number")
    return int(text) if re.fullmatch(r"\s*[+-]?\d+\s*", text, re.ASCII) else value


def _choice(text: str, where: str, field: FieldInfo) -> Scalar:
    """A word as a value of the setting's type."""
    if not text:
        raise ConfigError(f"{where}: a value is missing; give them as 16,32,64")
    if NoneType in get_args(field.annotation) and text in ("none", "None", "null"):
        return None
    if text[0] in "[{(":
        raise ConfigError(f"{where}: give the values without brackets, as 16,32,64")
    if WORD.fullmatch(text) is None:
        raise ConfigError(f"{where}: {text!r} cannot stand in a trial's command; use letters, digits, '_', '-' and '.'")
    try:
        value: Scalar = _adapter(field).validate_python(text)
    except ValidationError as error:
        told = error.errors(include_url=False)[0]["msg"]
        raise ConfigError(f"{where}: {text!r}: {told[0].lower()}{told[1:]}") from None
    return value


def _adapter(field: FieldInfo) -> TypeAdapter[Scalar]:
    kind: Any = Annotated[field.annotation, field]
    return TypeAdapter(kind)


def _kinds(field: FieldInfo) -> set[Any]:
    """The types of a setting's values, without None."""
    return set(get_args(field.annotation) or [field.annotation]) - {NoneType}


def _check(found: Distribution, where: str, name: str, kinds: set[Any]) -> None:
    """What is wrong with a distribution by itself.

    Raises:
        ConfigError: it is empty, reversed, or not one for such a setting.
    """
    if found.kind == "choice":
        if len(set(found.arguments)) < len(found.arguments):
            raise ConfigError(f"{where}: a value is given twice; give each once")
        if len(found.arguments) < 2:
            value = found.text()
            raise ConfigError(f"{where}: one value is no choice; give two or more, or set {flag(name)} {value} for all")
        return
    if not kinds <= {int, float}:
        raise ConfigError(f"{where}: {name} has no range; give its values, as {name}=A,B")
    for parameter, number in zip(PARAMETERS[found.kind], found.arguments, strict=True):
        if parameter in ("q", "sigma") and not (isinstance(number, int | float) and number > 0):
            raise ConfigError(f"{where}: {parameter}={number} should be above 0")
        if parameter == "upper" and not (isinstance(number, int) and number >= 2):
            raise ConfigError(f"{where}: upper={number}: randint draws 0 to upper-1; give a whole number from 2")
    if "uniform" in found.kind:
        low, high = found.numbers[:2]
        _check_ends(low, high, where, name)
    if kinds == {int} and not _draws_whole_numbers(found):
        raise ConfigError(
            f"{where}: {name} takes whole numbers; give {name}=LOW..HIGH in whole numbers, or its values, as {name}=A,B"
        )


def _check_ends(low: float, high: float, where: str, name: str) -> None:
    if low > high:
        raise ConfigError(f"{where}: the range is reversed, {low:g} is above {high:g}; give the lower end first")
    if low == high:
        raise ConfigError(f"{where}: the range is empty, both ends are {low:g}; set {flag(name)} for all instead")


def _check_logarithms(found: Distribution, where: str, name: str) -> None:
    """Parameters of a logarithmic distribution that were meant as values, or whose values are no numbers."""
    if not found.is_logarithmic:
        return
    low, high = found.numbers[:2]
    if "uniform" in found.kind and 0.0 < low < high < 1.0:
        raise ConfigError(
            f"{where}: the bounds of {found.kind} are natural logarithms, so {low:g} and {high:g} mean "
            f"{math.exp(low):g} to {math.exp(high):g}; for {low:g} to {high:g} give {name}=log({low:g}..{high:g})"
        )
    greatest = high if "uniform" in found.kind else low + SIGMAS * high
    if greatest > MOST_LOGARITHM:
        raise ConfigError(
            f"{where}: e to the power of {greatest:g} is no number; {found.kind} takes natural logarithms"
        )


def _draws_whole_numbers(found: Distribution) -> bool:
    if found.kind == "randint":
        return True
    whole = [found.step, *(found.arguments[:2] if found.kind == "quniform" else ())]
    return all(value is not None and float(value).is_integer() for value in whole)


def _short(key: str) -> str:
    return key.rpartition(".")[2]
