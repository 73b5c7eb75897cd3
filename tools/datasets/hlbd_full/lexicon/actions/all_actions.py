"""All actions of the lexicon."""

from __future__ import annotations

from tools.datasets.hlbd_full.languages import chinese
from tools.datasets.hlbd_full.lexicon.actions.food import FOOD
from tools.datasets.hlbd_full.lexicon.actions.home import HOME
from tools.datasets.hlbd_full.lexicon.actions.leisure import LEISURE
from tools.datasets.hlbd_full.lexicon.actions.verb_phrase import VerbPhrase
from tools.datasets.hlbd_full.lexicon.actions.work import WORK

ACTIONS: tuple[VerbPhrase, ...] = HOME + FOOD + WORK + LEISURE

BY_NAME = {chinese.hanzi(one.zh): one for one in ACTIONS}


def for_use(use: str) -> list[VerbPhrase]:
    """Return every action that is natural in a pattern (past, want, must …), in the order of the tables."""
    return [one for one in ACTIONS if use in one.uses]
