"""What a model family is: how one kind of network is built, saved and loaded."""

from __future__ import annotations

from typing import ClassVar, Protocol

from training.settings.section import Section


class ModelFamily(Protocol):
    """One kind of network. Third parties register theirs as an `apt_trainer.models` entry point."""

    name: ClassVar[str]
    Options: ClassVar[type[Section]]
    """Settings of the network: the config's section `model` and a group of flags named after the family."""
