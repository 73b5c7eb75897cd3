"""English inflection: verbs, plurals, articles, agreement, possessives.

A verb phrase is a string whose first word is the verb ("take care of the children"); only that word inflects.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum


class Agreement(Enum):
    """The agreement of a verb with its subject."""

    FIRST = "I"
    PLURAL = "plural"
    THIRD = "third"


IRREGULAR = {
    "blow": ("blew", "blown"),
    "build": ("built", "built"),
    "buy": ("bought", "bought"),
    "catch": ("caught", "caught"),
    "cut": ("cut", "cut"),
    "do": ("did", "done"),
    "draw": ("drew", "drawn"),
    "drink": ("drank", "drunk"),
    "drive": ("drove", "driven"),
    "eat": ("ate", "eaten"),
    "feed": ("fed", "fed"),
    "fly": ("flew", "flown"),
    "get": ("got", "gotten"),
    "give": ("gave", "given"),
    "go": ("went", "gone"),
    "grow": ("grew", "grown"),
    "hang": ("hung", "hung"),
    "have": ("had", "had"),
    "make": ("made", "made"),
    "put": ("put", "put"),
    "read": ("read", "read"),
    "ride": ("rode", "ridden"),
    "run": ("ran", "run"),
    "see": ("saw", "seen"),
    "sell": ("sold", "sold"),
    "send": ("sent", "sent"),
    "sing": ("sang", "sung"),
    "sit": ("sat", "sat"),
    "sleep": ("slept", "slept"),
    "speak": ("spoke", "spoken"),
    "sweep": ("swept", "swept"),
    "swim": ("swam", "swum"),
    "take": ("took", "taken"),
    "teach": ("taught", "taught"),
    "tell": ("told", "told"),
    "withdraw": ("withdrew", "withdrawn"),
    "write": ("wrote", "written"),
}
"""Verb -> (past, participle); the regular rule makes all others."""

IRREGULAR_PLURALS = {
    "child": "children", "deer": "deer", "fish": "fish", "goose": "geese", "knife": "knives",
    "mouse": "mice", "person": "people", "photo": "photos", "piano": "pianos", "sheep": "sheep", "wolf": "wolves",
}  # fmt: skip


def third_person(phrase: str) -> str:
    """Return the third person singular: wash the dishes -> washes the dishes."""
    return _on_verb(phrase, _add_s)


def gerund(phrase: str) -> str:
    """Return the gerund: swim -> swimming, write a letter -> writing a letter."""
    return _on_verb(phrase, _add_ing)


def past(phrase: str) -> str:
    """Return the past tense: eat noodles -> ate noodles, stop -> stopped."""
    return _on_verb(phrase, lambda verb: IRREGULAR[verb][0] if verb in IRREGULAR else _add_ed(verb))


def participle(phrase: str) -> str:
    """Return the past participle: eat noodles -> eaten noodles."""
    return _on_verb(phrase, lambda verb: IRREGULAR[verb][1] if verb in IRREGULAR else _add_ed(verb))


def present(phrase: str, agreement: Agreement) -> str:
    """Return the present tense that agrees with the subject."""
    return third_person(phrase) if agreement is Agreement.THIRD else phrase


def be(agreement: Agreement) -> str:
    """Return am, are or is."""
    return {Agreement.FIRST: "am", Agreement.PLURAL: "are", Agreement.THIRD: "is"}[agreement]


def was(agreement: Agreement) -> str:
    """Return was or were."""
    return "were" if agreement is Agreement.PLURAL else "was"


def plural(noun: str) -> str:
    """Return the plural: cherry -> cherries, box -> boxes, fire truck -> fire trucks."""
    head, space, last = noun.rpartition(" ")
    return head + space + (IRREGULAR_PLURALS.get(last) or _add_s(last))


def with_article(noun: str) -> str:
    """Put a or an before a noun, by sound: an umbrella, a university, an hour."""
    vowel = re.match(r"[aeiou]|hour|honest", noun) and not re.match(r"uni|use|eu|one\b", noun)
    return f"{'an' if vowel else 'a'} {noun}"


def possessive(noun: str) -> str:
    """Return the possessive: my parents -> my parents', Dad -> Dad's."""
    return f"{noun}'" if noun.endswith("s") else f"{noun}'s"


def comparative(adjective: str) -> str:
    """Return the comparative: big -> bigger, heavy -> heavier, expensive -> more expensive."""
    if _syllables(adjective) == 1:
        return _add_ed(adjective)[:-1] + "r"
    return adjective[:-1] + "ier" if adjective.endswith("y") else f"more {adjective}"


def sentence(text: str, end: str = ".") -> str:
    """Return the text with a capital at the front and a full stop at the end."""
    return text[0].upper() + text[1:] + end


def _on_verb(phrase: str, inflect: Callable[[str], str]) -> str:
    verb, space, rest = phrase.partition(" ")
    return f"{inflect(verb)}{space}{rest}"


def _add_s(word: str) -> str:
    if word == "have":
        return "has"
    if re.search(r"(s|sh|ch|x|z|[^aeiou]o)$", word):
        return word + "es"
    return word[:-1] + "ies" if re.search(r"[^aeiou]y$", word) else word + "s"


def _add_ing(word: str) -> str:
    if word.endswith("ie"):
        return word[:-2] + "ying"
    if word.endswith("e") and not word.endswith(("ee", "ye", "oe")) and word != "be":
        return word[:-1] + "ing"
    return _doubled(word) + "ing"


def _add_ed(word: str) -> str:
    if word.endswith("e"):
        return word + "d"
    return word[:-1] + "ied" if re.search(r"[^aeiou]y$", word) else _doubled(word) + "ed"


def _doubled(word: str) -> str:
    """Double the last letter of a one-syllable word of the shape ...CVC: shop -> shopp-."""
    closed = re.search(r"[^aeiou][aeiou][^aeiouwxy]$", word)
    return word + word[-1] if closed and _syllables(word) == 1 else word


def _syllables(word: str) -> int:
    groups = re.findall(r"[aeiouy]+", word)
    silent = len(groups) > 1 and re.search(r"[^aeiouyl]e$", word) is not None
    return len(groups) - silent
