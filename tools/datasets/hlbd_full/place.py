"""Places where people do things and to which they go."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A place.

    en_at / en_to: "in the park" / "to the park"; en_to is "" where nobody goes on purpose (on the bus).
    ja, ko: the noun that takes で, 에서 and へ, 에. private: a room at home, no place for people at work.
    who: groups of people (spaced list) whom one meets there.
    """

    zh: str
    char: str
    emoji: str
    en_at: str
    en_to: str
    ja: str
    ko: str
    private: bool
    who: str = "anyone"

    def welcomes(self, groups: frozenset[str]) -> bool:
        """True if people of these groups are met here."""
        if self.private and groups & {"role", "visitor"}:
            return False
        return bool(groups & set(self.who.split()))
