"""Japanese inflection: verbs by class, i- and na-adjectives, polite and plain forms."""

from __future__ import annotations

from dataclasses import dataclass

GODAN_RU = frozenset({
    "乗る", "作る", "入る", "切る", "取る", "売る", "守る", "座る", "登る", "走る", "踊る", "送る", "釣る",
    "帰る", "撮る", "測る", "やる", "いじる", "滑る", "眠る", "降る", "刈る", "折る", "配る", "曲がる", "飾る", "掘る",
    "しゃべる", "なる",
    "さえずる", "かぶる",
})  # fmt: skip
"""Verbs in -る that conjugate in five rows; every other verb in -いる or -える has one row."""

ROWS = {
    "う": "わいうえお", "く": "かきくけこ", "ぐ": "がぎぐげご", "す": "さしすせそ", "つ": "たちつてと",
    "ぬ": "なにぬねの", "ぶ": "ばびぶべぼ", "む": "まみむめも", "る": "らりるれろ",
}  # fmt: skip
"""Last kana of a five-row verb -> its row in the order a i u e o."""

TE = {
    "う": "って", "つ": "って", "る": "って", "く": "いて", "ぐ": "いで",
    "す": "して", "ぬ": "んで", "ぶ": "んで", "む": "んで",
}  # fmt: skip


OUTINGS = (
    "散歩を",
    "買い物を",
    "釣りを",
    "スキーを",
    "スケートを",
    "キャンプを",
    "ピクニックを",
    "ジョギングを",
    "旅行を",
)
"""Outings that take no する with 行く: 散歩に行く, but サッカーをしに行く."""


@dataclass(frozen=True)
class JapaneseVerb:
    """A predicate: its complement with particle ("本を", may be empty) and a verb in dictionary form ("読む")."""

    complement: str
    verb: str

    @classmethod
    def parse(cls, text: str) -> JapaneseVerb:
        """Parse ``"本を 読む"`` or ``"寝る"``."""
        complement, _, verb = text.rpartition(" ")
        return cls(complement, verb)

    @property
    def dictionary(self) -> str:
        """Dictionary form: 本を読む."""
        return self.complement + self.verb

    @property
    def stem(self) -> str:
        """The ます stem: 本を読み."""
        return self.complement + self._row(1)

    @property
    def masu(self) -> str:
        """Polite present: 本を読みます."""
        return self.stem + "ます"

    @property
    def mashita(self) -> str:
        """Polite past: 本を読みました."""
        return self.stem + "ました"

    @property
    def masen(self) -> str:
        """Polite negative: 本を読みません."""
        return self.stem + "ません"

    @property
    def masen_deshita(self) -> str:
        """Polite negative past: 本を読みませんでした."""
        return self.stem + "ませんでした"

    @property
    def te(self) -> str:
        """Te form: 本を読んで."""
        return self.complement + self._te()

    @property
    def ta(self) -> str:
        """Plain past: 本を読んだ."""
        form = self._te()
        return self.complement + form[:-1] + {"て": "た", "で": "だ"}[form[-1]]

    @property
    def nakereba(self) -> str:
        """Negative conditional: 本を読まなければ."""
        return self.complement + self._row(0) + "なければ"

    @property
    def nai(self) -> str:
        """Plain negative: 本を読まない."""
        return self.complement + self._row(0) + "ない"

    @property
    def potential(self) -> JapaneseVerb:
        """The potential form: 本が読める, 料理ができる. Its object takes が."""
        complement = self.complement[:-1] + "が" if self.complement.endswith("を") else self.complement
        if self.verb.endswith("する"):
            return JapaneseVerb(complement, self.verb[:-2] + "できる")
        if self.verb == "来る":
            return JapaneseVerb(complement, "来られる")
        if self._one_row():
            return JapaneseVerb(complement, self.verb[:-1] + "られる")
        return JapaneseVerb(complement, self._row(3) + "る")

    @property
    def going(self) -> str:
        """In order to, before 行く: 本を読みに, and 散歩に rather than 散歩をしに."""
        if self.verb == "する" and self.complement.endswith(OUTINGS):
            return self.complement[:-1] + "に"
        return self.stem + "に"

    def _one_row(self) -> bool:
        return self.verb.endswith("る") and self.verb not in GODAN_RU and self.verb not in ("する", "来る")

    def _row(self, vowel: int) -> str:
        """Return the stem on vowel a i u e o (0 to 4) of the verb's row; a one-row verb has one stem."""
        if self.verb.endswith("する"):
            return self.verb[:-2] + "し"
        if self.verb == "来る":
            return "来"
        if self._one_row():
            return self.verb[:-1]
        return self.verb[:-1] + ROWS[self.verb[-1]][vowel]

    def _te(self) -> str:
        if self.verb.endswith("行く"):
            return self.verb[:-1] + "って"
        if self.verb.endswith("する") or self.verb == "来る" or self._one_row():
            return self._row(1) + "て"
        return self.verb[:-1] + TE[self.verb[-1]]


@dataclass(frozen=True)
class JapaneseAdjective:
    """An adjective in the form that stands before a noun: 甘い, 静かな, or 緑色の for words that are nouns."""

    attributive: str

    @property
    def is_i(self) -> bool:
        """True for 甘い, False for 静かな and 緑色の."""
        return self.attributive.endswith("い")

    @property
    def polite(self) -> str:
        """甘いです, 静かです."""
        return (self.attributive if self.is_i else self.attributive[:-1]) + "です"

    @property
    def polite_past(self) -> str:
        """甘かったです, 静かでした."""
        return self._stem + "かったです" if self.is_i else self.attributive[:-1] + "でした"

    @property
    def polite_negative(self) -> str:
        """甘くないです, 静かではありません."""
        return self._stem + "くないです" if self.is_i else self.attributive[:-1] + "ではありません"

    @property
    def probable(self) -> str:
        """甘いでしょう, 静かでしょう."""
        return (self.attributive if self.is_i else self.attributive[:-1]) + "でしょう"

    @property
    def excessive(self) -> str:
        """甘すぎます, 静かすぎます."""
        return (self._stem if self.is_i else self.attributive[:-1]) + "すぎます"

    @property
    def _stem(self) -> str:
        """甘 of 甘い; よ of いい, also in 頭がいい."""
        if self.attributive == "いい" or self.attributive.endswith("がいい"):
            return self.attributive[:-2] + "よ"
        return self.attributive[:-1]
