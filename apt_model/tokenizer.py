"""Character tokenizer with dynamic tags: `[EN]` is one token, and data may add new tags. No torch.

The vocabulary is built once from the data, before training, and never grows. It depends only on the *set* of characters
and tags, so the order of files does not matter.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from apt_model.errors import ModelError

PAD, UNK, BOS, SEP, EOS = SPECIALS = ("[PAD]", "[UNK]", "[BOS]", "[SEP]", "[EOS]")
KNOWN_TAGS = ("[EMOJI]", "[PHRASE]", "[EN]", "[PY]", "[JP]", "[KR]")
FORMAT = "apt-tokenizer"
VERSION = 1

# The form of a tag when the data is searched for new ones. A level's own tag (any script) is passed in by name.
_TAG_IN_TEXT = re.compile(r"\[[A-Z][A-Z0-9_]{0,15}\]")
_TAG = re.compile(r"\[[^\[\]\s]{1,24}\]")


def is_tag(text: str) -> bool:
    """Return whether a text can be a tag: a word of up to 24 characters in square brackets, and no control token."""
    return _TAG.fullmatch(text) is not None and text not in SPECIALS


class DynamicTagTokenizer:
    """Tokenizer that converts characters and tags to ids and back.

    `decode(encode(text)) == text` for every text of known characters, including spaces and newlines. The control
    tokens (`[BOS]`, `[SEP]`, …) have ids of their own and are never produced by text: a question that contains the
    five characters "[EOS]" is read as those five characters.
    """

    def __init__(self, characters: Iterable[str], tags: Iterable[str] = ()) -> None:
        self.characters = tuple(sorted(set(characters)))
        self.tags = KNOWN_TAGS + tuple(sorted(set(tags) - set(KNOWN_TAGS)))
        for tag in self.tags:
            if not is_tag(tag):
                raise ModelError(
                    f"{tag!r} cannot be a tag: a tag is a word in square brackets without spaces, "
                    f"and none of {' '.join(SPECIALS)}"
                )
        self.tokens: tuple[str, ...] = SPECIALS + self.tags + self.characters
        self._ids = {token: i for i, token in enumerate(self.tokens)}
        self.pad_id, self.unk_id, self.bos_id, self.sep_id, self.eos_id = range(len(SPECIALS))
        # Longest first, so that no tag hides a longer one that begins with it.
        alternatives = sorted(map(re.escape, self.tags), key=lambda t: (-len(t), t))
        self._pieces = re.compile("|".join([*alternatives, r"[\s\S]"]))

    @classmethod
    def from_texts(cls, texts: Iterable[str], tags: Iterable[str] = ()) -> DynamicTagTokenizer:
        """Build the vocabulary of `texts`; `tags` and every `[TAG]` that occurs in the texts are single tokens."""
        found: set[str] = set(tags)
        characters: set[str] = set()
        for text in texts:
            found.update(t for t in _TAG_IN_TEXT.findall(text) if t not in SPECIALS)
            characters.update(text)
        return cls(characters, found)

    @property
    def vocab_size(self) -> int:
        """Return the number of ids: control tokens, tags and characters."""
        return len(self.tokens)

    def split(self, text: str) -> list[str]:
        """Split `text` into the pieces that `encode` gives ids to: its tags, and every other character."""
        return list(text) if "[" not in text else self._pieces.findall(text)  # most texts have no tag

    def id_of(self, token: str) -> int:
        """Return the id of a character, a tag or a control token; `unk_id` for anything else."""
        return self._ids.get(token, self.unk_id)

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without control tokens. An unknown character becomes `[UNK]`."""
        ids = self._ids
        return [ids.get(piece, 1) for piece in self.split(text)]

    def decode(self, ids: Iterable[int], *, keep_control: bool = False) -> str:
        """Return the text of `ids`. Control tokens are left out unless `keep_control` is set."""
        first_text = 0 if keep_control else len(SPECIALS)
        known = len(self.tokens)  # a model may have more ids than its tokenizer has tokens
        return "".join(self.tokens[i] if i < known else UNK for i in ids if i >= first_text or i == self.unk_id)

    def unknown(self, texts: Iterable[str]) -> Counter[str]:
        """Count how often each character without an id occurs in `texts`."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(p for p in self._pieces.findall(text) if p not in self._ids)
        return counts

    def prompt_ids(self, prompt: str) -> list[int]:
        """Return `[BOS] prompt [SEP]`, the start of a generation."""
        return [self.bos_id, *self.encode(prompt), self.sep_id]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as it is saved in `tokenizer.json` and in every checkpoint."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "specials": list(SPECIALS),
            "tags": list(self.tags),
            "characters": list(self.characters),
        }

    @staticmethod
    def wrote(data: Any) -> bool:
        """Return True if data has the format of `to_dict`; `from_dict` may still find it damaged."""
        return isinstance(data, dict) and data.get("format") == FORMAT

    @classmethod
    def from_dict(cls, data: Any, where: str = "tokenizer") -> DynamicTagTokenizer:
        """Restore the tokenizer that `to_dict` saved; `where` names the file in the error."""
        if not cls.wrote(data):
            raise ModelError(f"{where}: this is not an APT tokenizer (no format {FORMAT!r})")
        if data.get("version") != VERSION or data.get("specials") != list(SPECIALS):
            raise ModelError(
                f"{where}: tokenizer version {data.get('version')!r} cannot be read (this program reads {VERSION})"
            )
        for name in ("characters", "tags"):
            tokens = data.get(name)
            if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
                raise ModelError(f"{where}: damaged tokenizer ({name!r} is not a list of texts)")
        if any(len(c) != 1 for c in data["characters"]):
            raise ModelError(f"{where}: damaged tokenizer (a character is not a single one)")
        try:
            return cls(data["characters"], data["tags"])
        except ModelError as error:
            raise ModelError(f"{where}: damaged tokenizer ({error})") from error

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`."""
        path.write_text(json.dumps(self.to_dict(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> DynamicTagTokenizer:
        """Read `tokenizer.json`."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(f"{path}: the tokenizer cannot be read ({error})") from error
        return cls.from_dict(data, str(path))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DynamicTagTokenizer) and self.tokens == other.tokens

    def __hash__(self) -> int:
        return hash(self.tokens)

    def __repr__(self) -> str:
        return f"DynamicTagTokenizer({len(self.characters)} characters, {len(self.tags)} tags)"
