"""Names of exchangeable parts (backends, tasks, model families) and where each one lives. No torch.

A registry holds strings. A part's module is imported when the part is chosen, so that `--help` and `--list-…` stay fast
and a missing library is a matter of the part that needs it. A third party adds a part by an entry point of its package;
a user names a class of their own as `package.module:Class`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Generic, TypeVar

from training.errors import ConfigError, did_you_mean, kind_of

Part = TypeVar("Part")


def import_of_the_users(name: str) -> ModuleType:
    """Import a module that a user names; it is looked for in the current directory too."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # last: a file of the user's must not shadow a library
    return importlib.import_module(name)


@dataclass(frozen=True)
class Entry:
    """One part: `module:Class`, and one line that describes it in a list."""

    target: str
    summary: str


class Registry(Generic[Part]):
    """The parts of one kind, by name.

    Args:
        kind: noun for messages: "backend", "task", "model family".
        flag: command-line flag that chooses a part.
        group: entry point group in which installed packages add parts.
        built_in: name -> entry of the project's own parts; a third party's part never replaces one of them.
        required: attributes that a class must have to be a part of this kind.
        accepts_classes: whether `package.module:Class` is a valid name.
    """

    def __init__(
        self,
        kind: str,
        flag: str,
        group: str,
        built_in: Mapping[str, Entry],
        required: tuple[str, ...] = ("name",),
        accepts_classes: bool = False,
    ) -> None:
        self.kind, self.flag, self.group = kind, flag, group
        self.built_in: Mapping[str, Entry] = MappingProxyType(dict(built_in))
        self._required, self._accepts_classes = required, accepts_classes

    @cached_property
    def third_party(self) -> Mapping[str, Entry]:
        """The parts that installed packages add, by name."""
        return {
            point.name: Entry(point.value, f"from package {point.dist.name if point.dist else '?'}")
            for point in entry_points(group=self.group)
        }

    def names(self) -> tuple[str, ...]:
        """Return the names of all parts, the built-in ones first."""
        return tuple(dict.fromkeys([*self.built_in, *self.third_party]))

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or name in self.third_party  # installed packages are looked at only if need be

    def entry(self, name: str) -> Entry:
        """Return the entry of a part.

        Raises:
            ConfigError: the name is unknown; the message lists the choices.
        """
        if not isinstance(name, str):
            raise ConfigError(f"{self.flag} {name!r}: {kind_of(name)} and no {self.kind}'s name")
        if self._accepts_classes and ":" in name:
            return Entry(name, "a class of the user's own")
        found = self.built_in.get(name) or self.third_party.get(name)
        if found is None:
            raise ConfigError(
                f"{self.flag} {name}: unknown {self.kind}; choose from {', '.join(self.names())}"
                f"{did_you_mean(name, self.names())}"
            )
        return found

    def load(self, name: str) -> type[Part]:
        """Import the class of a part.

        A class named as `package.module:Class` is also looked for in the current directory.

        Raises:
            ConfigError: the name is unknown, or the class of a third party or user cannot be imported or is not such a
                part.
        """
        found = self.entry(name)
        module_name, _, class_name = found.target.partition(":")
        import_module = import_of_the_users if ":" in name else importlib.import_module
        try:
            part: type[Part] = getattr(import_module(module_name), class_name)
        except (ImportError, AttributeError, ValueError) as error:
            if name in self.built_in:
                raise
            source = "" if ":" in name else f" {found.target} ({found.summary})"
            raise ConfigError(f"{self.flag} {name}:{source} cannot be imported: {error}") from error
        missing = [attribute for attribute in self._required if not hasattr(part, attribute)]
        if not isinstance(part, type) or missing:
            lacks = f"it has no {missing[0]!r}" if missing else "it is not a class"
            raise ConfigError(f"{self.flag} {name}: {found.target} is not a {self.kind} ({lacks})")
        return part
