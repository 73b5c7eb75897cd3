"""One way to run the config: a backend, and settings that say how, such as `deepspeed:zero_stage=2,num_processes=2`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from training.backends.protocol import Availability, is_remote
from training.backends.registry import BACKENDS
from training.errors import ConfigError
from training.settings.plain_yaml import parse_yaml

REFERENCE = "playground"
"""The backend whose curve is right by definition: one process, plain torch."""
ZERO_STAGES = (0, 1, 2, 3)


@dataclass(frozen=True)
class Variant:
    """A backend and the settings in which it differs from the config."""

    backend: str
    settings: tuple[tuple[str, Any], ...] = field(default=())

    @property
    def name(self) -> str:
        """The variant as it is written after `--backends`."""
        settings = ",".join(f"{key}={_plain(value)}" for key, value in self.settings)
        return f"{self.backend}:{settings}" if settings else self.backend

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Read `backend` or `backend:setting=value,setting=value`; the values are YAML.

        Raises:
            ConfigError: unknown backend, or not of this form.
        """
        backend, colon, rest = text.partition(":")
        BACKENDS.entry(backend)
        settings: list[tuple[str, Any]] = []
        for part in rest.split(",") if colon else ():
            key, equals, value = part.partition("=")
            if not (key and equals):
                example = f"{backend}:num_processes=2"
                raise ConfigError(f"--backends {text}: {part!r} should be setting=value, as in {example}")
            try:
                settings.append((key.replace("-", "_"), _scalar(value)))
            except ValueError:
                raise ConfigError(f"--backends {text}: {value!r} is not a single value") from None
        return cls(backend, tuple(settings))


def _scalar(text: str) -> Any:
    """Return a number, a word, true or false, as YAML reads them; raise ValueError for anything else."""
    value = parse_yaml(text)
    if isinstance(value, list | dict):
        raise ValueError(text)
    return value


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def expand(words: Sequence[str], ranks: int) -> tuple[Variant, ...]:
    """Return the variants that `--backends` means: the bare name of a backend stands for all its usual variants.

    Args:
        words: words of the command line; none: every known backend.
        ranks: processes of the runs that have several; 1 where this machine has a single GPU.

    Raises:
        ConfigError: unknown backend, or a malformed setting.
    """
    named = [Variant.parse(word) for word in words] or [Variant(name) for name in BACKENDS.names()]
    found = [v for variant in named for v in ([variant] if variant.settings else usual(variant.backend, ranks))]
    return tuple(dict.fromkeys(found))


def usual(backend: str, ranks: int) -> Iterator[Variant]:
    """Yield the variants of a backend that are compared by default."""
    several = (("num_processes", ranks),)
    match backend:
        case "playground":
            yield Variant(backend)
            if ranks > 1:
                yield Variant(backend, several)
        case "deepspeed":
            yield from (Variant(backend, (("zero_stage", stage), *several)) for stage in ZERO_STAGES)
        case "huggingface":
            yield Variant(backend)
            if ranks > 1:
                yield Variant(backend, several)
            yield Variant(backend, (("deepspeed", "ds_config"), *several))
        case _:
            yield Variant(backend)


def availability(backend: str) -> Availability:
    """Return whether a backend can train here; also for one that cannot be imported."""
    try:
        found = BACKENDS.load(backend)
    except ConfigError as error:  # a third party's that cannot be imported
        return Availability(False, str(error))
    if is_remote(found()):
        return Availability(False, "its runs train elsewhere, for money, by one of the other backends")
    return found.check()
