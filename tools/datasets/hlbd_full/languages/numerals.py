"""Numbers as words: Chinese 两 and 二, English hyphens, Korean native and Sino-Korean."""

from __future__ import annotations

_DIGITS = "零一二三四五六七八九十"
_TO_NINETEEN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_ENGLISH = _TO_NINETEEN.split()
_ENGLISH_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_NATIVE_BEFORE_NOUN = ["", "한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉"]
_NATIVE_TENS = ["", "열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔"]
_SINO = "영일이삼사오육칠팔구"


def hanzi_number(value: int) -> str:
    """Write 1 to 99 in Chinese characters, as Chinese and Japanese do: 12 -> 十二, 45 -> 四十五."""
    tens, ones = divmod(value, 10)
    if not tens:
        return _DIGITS[value]
    return (_DIGITS[tens] if tens > 1 else "") + "十" + (_DIGITS[ones] if ones else "")


def counted(value: int) -> str:
    """Write a Chinese number before a measure word: 2 is 两."""
    return "两" if value == 2 else hanzi_number(value)


def english_number(value: int) -> str:
    """Write 1 to 99 in English: 21 -> twenty-one."""
    if value < 20:
        return _ENGLISH[value]
    tens, ones = divmod(value, 10)
    return _ENGLISH_TENS[tens - 2] + (f"-{_ENGLISH[ones]}" if ones else "")


def native_korean(value: int) -> str:
    """Write 1 to 99 in native Korean before a counter: 2 -> 두, 20 -> 스무, 45 -> 마흔다섯."""
    tens, ones = divmod(value, 10)
    if tens == 2 and not ones:
        return "스무"
    return _NATIVE_TENS[tens] + _NATIVE_BEFORE_NOUN[ones]


def sino_korean(value: int) -> str:
    """Write 1 to 99 in Sino-Korean: 15 -> 십오."""
    tens, ones = divmod(value, 10)
    return (_SINO[tens] if tens > 1 else "") + ("십" if tens else "") + (_SINO[ones] if ones else "")
