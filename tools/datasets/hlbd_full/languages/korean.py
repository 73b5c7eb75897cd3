"""Hangul arithmetic and the particles that depend on a final consonant.

A Hangul syllable is 0xAC00 + (initial * 21 + vowel) * 28 + final (Unicode standard, 3.12).
"""

from __future__ import annotations

INITIALS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
FINALS = ("", *"ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ")
FIRST, LAST = 0xAC00, 0xD7A3


def decompose(syllable: str) -> tuple[str, str, str]:
    """Split a syllable: 한 -> (ㅎ, ㅏ, ㄴ); the final is "" where there is none.

    Raises:
        ValueError: not one Hangul syllable.
    """
    if len(syllable) != 1 or not FIRST <= ord(syllable) <= LAST:
        raise ValueError(f"{syllable!r} is not a Hangul syllable")
    rest, final = divmod(ord(syllable) - FIRST, 28)
    initial, vowel = divmod(rest, 21)
    return INITIALS[initial], VOWELS[vowel], FINALS[final]


def compose(initial: str, vowel: str, final: str = "") -> str:
    """Join a syllable: (ㅎ, ㅏ, ㄴ) -> 한."""
    return chr(FIRST + (INITIALS.index(initial) * 21 + VOWELS.index(vowel)) * 28 + FINALS.index(final))


def final_of(text: str) -> str:
    """Return the final consonant of the last syllable, "" for an open one."""
    return decompose(text[-1])[2]


def with_final(text: str, final: str) -> str:
    """Return the text with another final consonant in its last syllable: (가, ㄴ) -> 간, (만들, "") -> 만드."""
    initial, vowel, _ = decompose(text[-1])
    return text[:-1] + compose(initial, vowel, final)


def topic(noun: str) -> str:
    """Add the topic particle: 형은, 누나는."""
    return noun + ("은" if final_of(noun) else "는")


def subject(noun: str) -> str:
    """Add the subject particle: 책이, 친구가; 제가 for 저."""
    if noun == "저":
        return "제가"
    return noun + ("이" if final_of(noun) else "가")


def object_(noun: str) -> str:
    """Add the object particle: 책을, 사과를."""
    return noun + ("을" if final_of(noun) else "를")


def and_(noun: str) -> str:
    """Add the particle for "with": 형과, 누나와."""
    return noun + ("과" if final_of(noun) else "와")


def copula(noun: str) -> str:
    """Return "it is …": 책이에요, 사과예요."""
    return noun + ("이에요" if final_of(noun) else "예요")


def copula_honored(noun: str) -> str:
    """Return "it is …" for an honored person: 선생님이세요, 할머니세요."""
    return noun + ("이세요" if final_of(noun) else "세요")
