"""Search spaces: settings of a run, each with the distribution of the values that a sweep tries.

As text, after `SETTING=`, and as a mapping in the form of Azure ML's search_space, which says the same:

1e-5..1e-3            {type: uniform, min_value: 1.0e-05, max_value: 0.001}
log(1e-5..1e-3)       {type: loguniform, min_value: -11.5…, max_value: -6.9…}
4..8                  {type: quniform, min_value: 4, max_value: 8, q: 1}, for a setting that takes whole numbers
128,256               {type: choice, values: [128, 256]}
normal(0.05,0.01)     {type: normal, mu: 0.05, sigma: 0.01}, and so on for each type in `PARAMETERS`

`128|256` is `128,256`, and `1e-5..1e-3 log` is `log(1e-5..1e-3)`; commas may separate several settings in one text.

    space = SearchSpace.parse(["batch_size=16,32", "learning_rate=log(1e-5..1e-3)"], TrainingConfig)
    space.distributions["model.batch_size"].values()   # [16, 32]

A sweep of any kind, on this machine or in a cloud, reads its space from here; how a service spells it is the service's
own code.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, Self, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from training.errors import ConfigError, did_you_mean
from training.settings.declarations import find_key, leaves
from training.settings.flags import flag
from training.settings.tree import TrainingConfig
from training.settings.yaml_files import nest

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
"""Type of distribution -> its parameters. The bounds of the logarithmic ones are natural logarithms of values."""
DEFAULT = (
    "batch_size=16,32,64",
    "d_model=128,256,512",
    "num_layers=4,6,8",
    "learning_rate=1e-5..1e-3",
    "weight_decay=0.0..0.1",
)
"""Space of a sweep that names none."""
FIXED: Mapping[str, str] = {
    "backend": "the job has one",
    "run.run_dir": "every trial has a directory of its own",
    "data.datasets": "the losses of different data cannot be compared",
    "data.validation_split": "the losses of different data cannot be compared",
    "model.vocab_size": "the data decide it",
    "launch": "it belongs to the whole job",
    "track": "it changes nothing of a run",
    "hub": "it changes nothing of a run",
    "report": "it changes nothing of a run",
}
"""Setting or section -> why no sweep varies it."""

WORD = re.compile(r"[\w.+-]+", re.ASCII)
"""A value that can stand in a trial's command."""
MOST_VALUES = 1000
"""A stepped range with more values than this is represented by its ends."""
SIGMAS = 10.0
"""Distance from the mean, in standard deviations, beyond which no draw of a normal distribution is ever seen."""
MOST_LOGARITHM = 700.0
"""Greatest logarithm of a value: e to the power of more than about 709 is beyond the greatest float."""


@dataclass(frozen=True)
class Distribution:
    """The way in which the values of one setting are drawn."""

    kind: str
    arguments: tuple[Scalar, ...]
    """Values of the parameters in the order of `PARAMETERS`; a choice has its values."""

    def text(self) -> str:
        """Return the text after `SETTING=`."""
        arguments = ",".join("none" if value is None else str(value) for value in self.arguments)
        return arguments if self.kind == "choice" else f"{self.kind}({arguments})"

    def in_words(self) -> str:
        """Describe it for the user: `16, 32, 64` or `1e-05 to 0.001, loguniform`."""
        if self.kind == "choice":
            return self.text().replace(",", ", ")
        low, high = self.ends()
        return f"{low:g} to {high:g}, {self.kind}"

    @property
    def is_logarithmic(self) -> bool:
        """True if its parameters are logarithms."""
        return "log" in self.kind

    @property
    def numbers(self) -> tuple[float, ...]:
        """The arguments of any type but a choice."""
        return tuple(float(value) for value in self.arguments if isinstance(value, int | float))

    @property
    def step(self) -> float | None:
        """Number of which all values are multiples; None: there is none."""
        return self.numbers[-1] if self.kind.startswith("q") else None

    def ends(self) -> tuple[float, float]:
        """Return the least and the greatest value that is ever drawn, for any type but a choice."""
        first, *rest = self.numbers
        if self.kind == "randint":
            return 0.0, first - 1
        low, high = (first, rest[0]) if "uniform" in self.kind else (first - SIGMAS * rest[0], first + SIGMAS * rest[0])
        if self.is_logarithmic:
            low, high = math.exp(low), math.exp(high)
        q = self.step
        return (low, high) if q is None else (round(low / q) * q, round(high / q) * q)

    def values(self) -> list[Scalar]:
        """List the values to try: all of them, or the two ends where there are too many."""
        if self.kind == "choice":
            return list(self.arguments)
        low, high = self.ends()
        step = 1.0 if self.kind == "randint" else self.step
        if step is None or (high - low) / step > MOST_VALUES:
            return [low, high]
        return [low + number * step for number in range(round((high - low) / step) + 1)]


@dataclass(frozen=True)
class SearchSpace:
    """The settings that a sweep varies, and how."""

    distributions: Mapping[str, Distribution]
    """Dotted key of a setting -> distribution of its values."""
    config_class: type[TrainingConfig]

    @classmethod
    def parse(
        cls, texts: Iterable[str], config_class: type[TrainingConfig], fixed: Mapping[str, str] | None = None
    ) -> Self:
        """Read a space from texts such as `d_model=128,256` or `learning_rate=1e-4..1e-2 log, d_model=128|256`.

        Args:
            texts: of one setting or several each.
            config_class: has the settings.
            fixed: further settings or sections -> why no sweep varies them; see `FIXED`.

        Raises:
            ConfigError: the first fault.
        """
        found: dict[str, Distribution] = {}
        for text in (one for several in texts for one in split_settings(several)):
            key, distribution = parse(text, config_class, fixed)
            if key in found:
                raise ConfigError(f"--search {text}: {short_name(key)} is given twice; give all its values in one word")
            found[key] = distribution
        return cls(found, config_class)

    def is_switch(self, key: str) -> bool:
        """Return True for a setting that is a pair of flags without a value, `--compile` and `--no-compile`."""
        return dict(leaves(self.config_class))[key].annotation is bool

    def describe(self) -> list[str]:
        """Return a line for each setting."""
        return [f"varies {short_name(key)}: {found.in_words()}" for key, found in self.distributions.items()]

    @property
    def num_combinations(self) -> int | None:
        """Number of different trials; None: unlimited."""
        if any(found.kind != "choice" for found in self.distributions.values()):
            return None
        return math.prod(len(found.arguments) for found in self.distributions.values())

    def combinations(self, at_most: int) -> Iterator[dict[str, Any]]:
        """Yield the settings of trials, dotted key -> value: all combinations of `values()`.

        Where there are more than `at_most`, each value comes once, and then some values of every two settings together.
        """
        values = {key: found.values() for key, found in self.distributions.items()}
        if math.prod(map(len, values.values())) <= at_most:
            yield from (dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values()))
            return
        first = {key: choices[0] for key, choices in values.items()}
        yield from (first | {key: value} for key, choices in values.items() for value in choices)
        pairs = list(itertools.combinations(values, 2))
        some = max(2, math.isqrt(at_most // max(1, len(pairs))))
        for one, other in pairs:
            for chosen in itertools.product(spread(values[one], some), spread(values[other], some)):
                yield first | dict(zip((one, other), chosen, strict=True))


def spread(values: list[Any], count: int) -> list[Any]:
    """Pick `count` of a row of values at equal distances, its ends among them."""
    last = len(values) - 1
    return [values[place] for place in sorted({round(last * n / (count - 1)) for n in range(count)})]


def trial_config(config: TrainingConfig, settings: Mapping[str, Any]) -> TrainingConfig:
    """Make the config of a trial.

    Args:
        config: of the sweep.
        settings: dotted key -> the trial's value.

    Raises:
        ConfigError: the settings do not go together.
    """
    values: dict[str, Any] = {name: getattr(config, name) for name in type(config).model_fields}
    for section, changed in nest(settings).items():
        values[section] = values[section].model_dump() | changed
    trial = type(config).from_dict(values, "this trial")
    trial.validate()
    trial.refuse_patience(has_validation=trial.data.validation_split > 0.0)
    return trial


def short_name(key: str) -> str:
    """Return `d_model` for `model.d_model`."""
    return key.rpartition(".")[2]


# -- reading -----------------------------------------------------------------------------------------------------------


def split_settings(text: str) -> list[str]:
    """Return the parts of `learning_rate=1e-4..1e-2 log, d_model=128|256`, one for each setting.

    A comma ends a setting where a name and `=` follow it; any other comma separates values.
    """
    return [part.strip() for part in re.split(r",(?=\s*[\w.-]+\s*=)", text)]


def texts_of(space: Mapping[Any, Any]) -> Iterator[str]:
    """Yield the texts of a mapping, setting -> distribution. A plain list is a choice; a text is taken as it is.

    Raises:
        ValueError: not of this form.
    """
    for name, given in space.items():
        where = f"search: {name}"
        if isinstance(given, str):
            yield f"{name}={given}"
            continue
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


def parse(
    text: str, config_class: type[TrainingConfig], fixed: Mapping[str, str] | None = None
) -> tuple[str, Distribution]:
    """Read `SETTING=VALUES` as (dotted key, distribution); choices have the setting's type.

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
    reasons = {**FIXED, **(fixed or {})}
    for name in (key, key.partition(".")[0]):
        if name in reasons:
            raise ConfigError(
                f"{where}: a sweep does not vary {short_name(key)}: {reasons[name]}; set it for all trials"
            )
    field = dict(leaves(config_class))[key]
    kinds = _kinds(field)
    if not kinds <= {int, float, bool, str} and not all(isinstance(kind, str) for kind in kinds):
        raise ConfigError(
            f"{where}: a sweep does not vary {short_name(key)}, which is a list or a path; set it for all trials"
        )
    found = _distribution(rest.strip(), where, field, short_name(key))
    _check(found, where, short_name(key), kinds)
    return key, found


def _distribution(text: str, where: str, field: FieldInfo, name: str) -> Distribution:
    is_whole = _kinds(field) <= {int}
    if after := re.fullmatch(r"(\S.*?)\s+log", text):  # `1e-5..1e-3 log`
        text = f"log({after[1]})"
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
    values = text.split("|" if "|" in text else ",")
    return Distribution("choice", tuple(_choice(value.strip(), where, field) for value in values))


def _logarithms(low: float, high: float) -> tuple[float, float]:
    """Return the logarithms of both ends, rounded inward: e to the power of one is never outside of the range."""
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
        if not text.isascii() or "_" in text:  # Python would read １２ and 1_2 too
            raise ValueError(text)
        value = float(text)
        whole = int(text) if re.fullmatch(r"\s*[+-]?\d+\s*", text) else None
    except ValueError:
        raise ConfigError(f"{where}: {text.strip()!r} should be a number") from None
    if not math.isfinite(value):
        raise ConfigError(f"{where}: {text.strip()!r} should be a finite number")
    return value if whole is None else whole


def _choice(text: str, where: str, field: FieldInfo) -> Scalar:
    """Convert a word to a value of the setting's type."""
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
        fault = error.errors(include_url=False)[0]["msg"]
        raise ConfigError(f"{where}: {text!r}: {fault[0].lower()}{fault[1:]}") from None
    return value


def _adapter(field: FieldInfo) -> TypeAdapter[Scalar]:
    kind: Any = Annotated[field.annotation, field]
    return TypeAdapter(kind)


def _kinds(field: FieldInfo) -> set[Any]:
    """Return the types of a setting's values, without None."""
    return set(get_args(field.annotation) or [field.annotation]) - {NoneType}


def _check(found: Distribution, where: str, name: str, kinds: set[Any]) -> None:
    """Refuse a distribution that is wrong by itself.

    Raises:
        ConfigError: it is empty, reversed, or does not fit such a setting.
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
    """Refuse parameters of a logarithmic distribution that were meant as values, or whose values are not numbers."""
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
