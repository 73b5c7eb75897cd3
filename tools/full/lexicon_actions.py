"""All actions of the lexicon."""

from __future__ import annotations

from tools.full import chinese
from tools.full.lexicon_actions_food import FOOD
from tools.full.lexicon_actions_home import HOME
from tools.full.lexicon_actions_leisure import LEISURE
from tools.full.lexicon_actions_work import WORK
from tools.full.verb import VerbPhrase

ACTIONS: tuple[VerbPhrase, ...] = HOME + FOOD + WORK + LEISURE

BY_NAME = {chinese.hanzi(one.zh): one for one in ACTIONS}


def for_use(use: str) -> list[VerbPhrase]:
    """Every action that is natural in a pattern (past, want, must …), in the order of the tables."""
    return [one for one in ACTIONS if use in one.uses]
