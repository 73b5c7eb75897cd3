"""Pinyin of a Chinese phrase, word by word.

Orthography (GB/T 16159-2012, the Chinese standard of pinyin spelling, as teaching material uses it):

* a word is written together, words are separated by spaces; 了 着 过 join their verb and 们 its noun (``xǐle``,
  ``háizimen``), 的 地 得 and a closing 了 stand alone;
* tone marks; a neutral tone has no mark (``māma``, ``dōngxi``);
* 一 and 不 keep their dictionary tone (``yī gè``, ``bù shì``): sandhi is spoken, not written;
* a syllable that begins with a, o or e inside a word takes an apostrophe (``nǚ'ér``);
* names begin with a capital (``Běijīng``); the line is no sentence: it has no other capital and no punctuation.

Readings come from pypinyin. READINGS overrules it (neutral tones after 现代汉语词典, and characters whose common
reading is not the one meant here), and ``word/reading`` overrules both.
"""

from __future__ import annotations

import unicodedata
from functools import cache

from tools.datasets.hlbd_full.languages.chinese import PUNCTUATION, bare, words
from training.errors import ConfigError

_NAMES = (
    "北京 上海 广州 西安 成都 哈尔滨 杭州 南京 香港 台北 东京 大阪 首尔 釜山 纽约 伦敦 巴黎 莫斯科 罗马 悉尼 "
    "小明 小红 王 汉语 英语 日语 法语"
)
NAMES = frozenset(_NAMES.split())

READINGS = {
    # particles and suffixes
    "地": "de", "得": "de", "过": "guo", "着": "zhe", "了": "le", "里": "li",
    # characters whose first reading is another one
    "长": "cháng", "只": "zhī", "脏": "zāng", "切": "qiē", "遛": "liù", "一起": "yīqǐ", "照片": "zhàopiàn",
    # neutral tones
    "爸爸": "bàba", "妈妈": "māma", "爷爷": "yéye", "奶奶": "nǎinai", "哥哥": "gēge", "姐姐": "jiějie",
    "妹妹": "mèimei", "叔叔": "shūshu", "丈夫": "zhàngfu", "妻子": "qīzi", "朋友": "péngyou",
    "学生": "xuésheng", "护士": "hùshi", "小李": "Xiǎo Lǐ", "早上": "zǎoshang", "晚上": "wǎnshang",
    "有时候": "yǒushíhou", "地上": "dìshang", "下面": "xiàmian", "前面": "qiánmian", "后面": "hòumian",
    "衣服": "yīfu", "窗户": "chuānghu", "头发": "tóufa", "行李": "xíngli", "东西": "dōngxi",
    "风筝": "fēngzheng", "故事": "gùshi", "星星": "xīngxing", "抽屉": "chōuti", "葡萄": "pútao", "狐狸": "húli",
    "清楚": "qīngchu", "漂亮": "piàoliang", "舒服": "shūfu", "喜欢": "xǐhuan", "凉快": "liángkuai",
    "结实": "jiēshi", "热闹": "rènao", "聪明": "cōngming", "活泼": "huópo", "宽敞": "kuānchang",
}  # fmt: skip


@cache
def word_pinyin(word: str) -> str:
    """Return the pinyin of one word; ``""`` for punctuation.

    Raises:
        ValueError: a character of the word has no reading.
        ConfigError: pypinyin is not installed.
    """
    if "-" in word:
        return "".join(word_pinyin(piece) for piece in word.split("-"))
    text = bare(word)
    if all(char in PUNCTUATION for char in text):
        return ""
    given = "" if "+" in word else word.partition("/")[2]
    reading = given or READINGS.get(text) or _joined(text)
    return reading[0].upper() + reading[1:] if text in NAMES else reading


def pinyin(phrase: str) -> str:
    """Return the pinyin of a spaced phrase: ``pinyin("天 下 雨 了")`` -> ``"tiān xià yǔ le"``."""
    return " ".join(filter(None, map(word_pinyin, words(phrase))))


def _joined(text: str) -> str:
    try:
        from pypinyin import Style
        from pypinyin import pinyin as readings_of
    except ImportError as error:
        raise ConfigError("pypinyin is not installed; run: pip install -e '.[data]' -c constraints.txt") from error
    syllables = [choices[0] for choices in readings_of(text, style=Style.TONE, errors="ignore")]
    if len(syllables) != len(text):
        raise ValueError(f"no pinyin for every character of {text!r}: {syllables}")
    first, *rest = syllables
    return first + "".join(f"'{part}" if _plain(part[0]) in "aoe" else part for part in rest)


def _plain(letter: str) -> str:
    return unicodedata.normalize("NFD", letter)[0]
