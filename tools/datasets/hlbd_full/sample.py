"""A concept as a row of the data set: eight levels."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from tools.datasets.hlbd_full.languages import chinese
from tools.datasets.hlbd_full.languages.pinyin import pinyin
from tools.datasets.hlbd_full.patterns.utterance import Sentence, Utterance


class Sample(TypedDict):
    """One row. kind and group are in the held-out file only."""

    concept: str
    level_1: dict[str, str]
    level_2: dict[str, str]
    level_3: dict[str, str]
    level_4: dict[str, str]
    level_5: dict[str, str]
    level_6: dict[str, str]
    level_7: dict[str, str]
    level_8: dict[str, str]
    kind: NotRequired[str]
    group: NotRequired[str]


def sample(utterance: Utterance, sentence: Sentence | None = None) -> Sample:
    """Return the row of a concept; ``sentence`` overrides the wording of the training data (a paraphrase)."""
    said = sentence or utterance.sentence()
    char, emoji = utterance.card()
    return {
        "concept": utterance.concept(),
        "level_1": {"字卡": char, "emoji": emoji},
        "level_2": {"短语": chinese.hanzi(utterance.phrase())},
        "level_3": {"数学": utterance.syntax()},
        "level_4": {"拼音": pinyin(said.chinese)},
        "level_5": {"英文": said.english},
        "level_6": {"中文": chinese.hanzi(said.chinese) + said.end},
        "level_7": {"日文": said.japanese},
        "level_8": {"韩文": said.korean},
    }


def spoken(row: Sample) -> tuple[str, str, str, str]:
    """Return the sentence in English, Chinese, Japanese and Korean."""
    return row["level_5"]["英文"], row["level_6"]["中文"], row["level_7"]["日文"], row["level_8"]["韩文"]


def characters(row: Sample) -> set[str]:
    """Return every character that a model must know to read or write the row."""
    written = [*row["level_1"].values(), row["level_2"]["短语"], row["level_3"]["数学"], row["level_4"]["拼音"]]
    return set("".join([*written, *spoken(row)]))


def longest_line(utterance: Utterance) -> int:
    """Return the length of the longest of the concept's lines, in characters."""
    said = utterance.sentence()
    return max(map(len, (utterance.syntax(), pinyin(said.chinese), said.english, said.japanese, said.korean)))
