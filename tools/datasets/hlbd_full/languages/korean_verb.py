"""Korean conjugation in polite 요-style: vowel harmony, contractions, irregular stems, honorifics.

Irregular classes (names as in Korean school grammar): ㅂ (굽다 구워요), ㄷ (듣다 들어요), ㅅ (짓다 지어요),
르 (부르다 불러요), ㅡ (쓰다 써요), ㄹ (만들다 만드는), 하다 (해요) and the copula 이다. Which stems are irregular
in ㅂ, ㄷ, ㅅ cannot be seen from the stem and is listed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tools.datasets.hlbd_full.languages.korean import compose, decompose, final_of, with_final

REGULAR_B = ("입", "잡", "뽑", "씹", "집", "좁", "넓", "짧", "얇", "밟", "업")
"""Stems in ㅂ (or ㄼ) that stay regular; all others soften to 우."""

IRREGULAR_D = ("듣", "걷", "싣", "깨닫")
IRREGULAR_S = ("짓", "낫", "젓", "붓", "잇")
PLAIN_REU = ("따르", "치르", "들르")
"""Stems in 르 that only lose ㅡ (따라요); the others double the ㄹ (불러요)."""

HONORED = {"먹": "드시", "마시": "드시", "자": "주무시", "말하": "말씀하시", "아프": "편찮으시"}
"""Words that are replaced, not extended, when the subject is looked up to."""

CONTRACTIONS = {"ㅗ": "ㅘ", "ㅜ": "ㅝ", "ㅣ": "ㅕ", "ㅚ": "ㅙ"}
"""Open stem vowel + ㅏ/ㅓ -> one vowel."""

ABSORBING = "ㅏㅓㅐㅔㅕ"
"""Open stem vowels that swallow the ending's vowel."""


@dataclass(frozen=True)
class KoreanVerb:
    """A predicate: complement with particle ("책을", may be empty) and a stem ("읽"). Serves adjectives too."""

    complement: str
    stem: str

    @classmethod
    def parse(cls, text: str) -> KoreanVerb:
        """Parse ``"책을 읽다"``: the last word is the dictionary form."""
        complement, _, verb = text.rpartition(" ")
        if not verb.endswith("다"):
            raise ValueError(f"{text!r} does not end in a dictionary form (…다)")
        return cls(complement, verb[:-1])

    def honored(self, yes: bool = True) -> KoreanVerb:
        """Return the same predicate for an honored subject: 읽으시, 드시, 주무시."""
        if not yes:
            return self
        return KoreanVerb(self.complement, HONORED.get(self.stem) or self._eu() + "시")

    def very(self, adverb: str) -> KoreanVerb:
        """Put an adverb between complement and verb: 키가 아주 크, 아주 달."""
        return KoreanVerb(f"{self.complement} {adverb}".strip(), self.stem)

    @property
    def polite(self) -> str:
        """책을 읽어요; of an honored stem 책을 읽으세요."""
        if self._is_honored:
            return self._say(self.stem[:-1] + "세요")
        if self._is_copula:
            return self._say(self.stem + "에요")
        return self._say(self.infinitive + "요")

    @property
    def past(self) -> str:
        """책을 읽었어요."""
        return self._say(with_final(self.infinitive, "ㅆ") + "어요")

    @property
    def because(self) -> str:
        """책을 읽어서."""
        return self._say(self.infinitive + "서")

    @property
    def must(self) -> str:
        """책을 읽어야 해요."""
        return self._say(self.infinitive + "야 해요")

    @property
    def not_(self) -> str:
        """책을 안 읽어요; 서예를 연습하지 않아요."""
        return self._negated("안", "않", lambda verb: verb.polite)

    @property
    def not_past(self) -> str:
        """책을 안 읽었어요; 서예를 연습하지 않았어요."""
        return self._negated("안", "않", lambda verb: verb.past)

    @property
    def cannot_past(self) -> str:
        """책을 못 읽었어요; 회의에 참석하지 못했어요."""
        return self._negated("못", "못하", lambda verb: verb.past)

    @property
    def long_negative(self) -> str:
        """무겁지 않아요."""
        return self._say(self.stem + "지 않아요")

    @property
    def future(self) -> str:
        """책을 읽을 거예요."""
        return self.prospective + " 거예요"

    @property
    def prospective(self) -> str:
        """Before a noun, not yet done: 책을 읽을, 들을, 만들."""
        if final_of(self.stem) == "ㄹ":
            return self._say(self.stem)
        return self._say(with_final(self._eu(), "ㄹ"))

    @property
    def done(self) -> str:
        """Before a noun, done (verbs) or being so (adjectives): 읽은, 들은, 만든, 무거운, 단."""
        if self.stem.endswith(("있", "없")):
            return self._say(self.stem + "는")
        return self._say(with_final(self._eu(), "ㄴ"))

    @property
    def doing(self) -> str:
        """Before a noun, present (verbs): 읽는, 만드는."""
        return self._say(self._without_l() + "는")

    @property
    def and_(self) -> str:
        """Connective form: 읽고."""
        return self._say(self.stem + "고")

    @property
    def nominal(self) -> str:
        """Noun form: 읽기."""
        return self._say(self.stem + "기")

    @property
    def nominal_past(self) -> str:
        """Before 때문: 읽었기."""
        return self._say(with_final(self.infinitive, "ㅆ") + "기")

    @property
    def cannot_done(self) -> str:
        """Before a noun: 책을 못 읽은; 회의에 참석하지 못한."""
        return self._negated("못", "못하", lambda verb: verb.done)

    @property
    def in_order_to(self) -> str:
        """Before 가다: 읽으러, 들으러, 만들러."""
        return self._say((self.stem if final_of(self.stem) == "ㄹ" else self._eu()) + "러")

    @property
    def try_(self) -> str:
        """Before 보다: 먹어."""
        return self._say(self.infinitive)

    @property
    def infinitive(self) -> str:
        """The 아/어 form without complement: 읽어, 마셔, 해, 들어, 구워, 불러, 써."""
        stem = self.stem
        initial, vowel, final = decompose(stem[-1])
        if stem.endswith("하"):
            return stem[:-1] + "해"
        if self._is_copula:
            return stem + "어"
        if self._irregular_b:
            return self._eu()[:-1] + ("와" if stem.endswith("돕") else "워")
        if stem.endswith(IRREGULAR_D):
            return self._eu()[:-1] + _harmony(vowel)
        if stem.endswith(IRREGULAR_S):
            return with_final(stem, "") + _harmony(vowel)
        if final:
            return stem + _harmony(vowel)
        if stem.endswith("르") and not stem.endswith(PLAIN_REU):
            ending = "라" if _harmony(decompose(stem[-2])[1]) == "아" else "러"
            return with_final(stem[:-1], "ㄹ") + ending
        if vowel == "ㅡ":
            before = decompose(stem[-2])[1] if len(stem) > 1 else ""
            return stem[:-1] + compose(initial, "ㅏ" if _harmony(before) == "아" else "ㅓ")
        if vowel in ABSORBING:
            return stem
        if vowel in CONTRACTIONS:
            return stem[:-1] + compose(initial, CONTRACTIONS[vowel])
        return stem + _harmony(vowel)

    @property
    def _is_honored(self) -> bool:
        return self.stem.endswith("시") and self.stem not in ("시", "마시")

    @property
    def _is_copula(self) -> bool:
        return self.stem.endswith("적이")

    @property
    def _irregular_b(self) -> bool:
        return final_of(self.stem) == "ㅂ" and not self.stem.endswith(REGULAR_B)

    def _eu(self) -> str:
        """Return the stem before endings in (으): 읽으, 가, 들으, 구우, 지으, 만드 (no ㄹ before ㄴ, ㅂ, ㅅ)."""
        final = final_of(self.stem)
        if not final:
            return self.stem
        if final == "ㄹ":
            return with_final(self.stem, "")
        if self._irregular_b:
            return with_final(self.stem, "") + "우"
        if self.stem.endswith(IRREGULAR_D):
            return with_final(self.stem, "ㄹ") + "으"
        if self.stem.endswith(IRREGULAR_S):
            return with_final(self.stem, "") + "으"
        return self.stem + "으"

    def _without_l(self) -> str:
        return with_final(self.stem, "") if final_of(self.stem) == "ㄹ" else self.stem

    def _say(self, form: str) -> str:
        return f"{self.complement} {form}".strip()

    def _negated(self, adverb: str, auxiliary: str, form: Callable[[KoreanVerb], str]) -> str:
        """Negate: 안 and 못 before a short verb, the auxiliary after a compound in 하다 or 시키다."""
        plain = self.stem.removesuffix("시") if self._is_honored else self.stem
        if plain.endswith(("하", "시키")) and plain != "하":
            negative = KoreanVerb("", auxiliary).honored(self._is_honored)
            return self._say(f"{plain}지 {form(negative)}")
        return self._say(f"{adverb} {form(KoreanVerb('', self.stem))}")


def progressive(verb: KoreanVerb, honored: bool) -> str:
    """Return the progressive: 읽고 있어요; for an honored subject 읽고 계세요, 드시고 계세요."""
    return f"{softened(verb, honored).and_} {'계세요' if honored else '있어요'}"


def progressive_doing(verb: KoreanVerb, honored: bool) -> str:
    """Return the progressive before a noun: 읽고 있는, 읽고 계신."""
    return f"{softened(verb, honored).and_} {'계신' if honored else '있는'}"


def wants(verb: KoreanVerb, honored: bool) -> str:
    """Return the wish of a third person: 읽고 싶어 해요, 읽고 싶어 하세요."""
    return f"{softened(verb, honored).and_} 싶어 {'하세요' if honored else '해요'}"


def softened(verb: KoreanVerb, honored: bool) -> KoreanVerb:
    """Return the form before an honorific auxiliary: only replaced words change (드시고 계세요, but 읽고 계세요)."""
    return verb.honored() if honored and verb.stem in HONORED else verb


def _harmony(vowel: str) -> str:
    """Return 아 after ㅏ and ㅗ, else 어."""
    return "아" if vowel and vowel in "ㅏㅗㅑ" else "어"
