"""Tokenizer in the form that transformers reads: the files of its directory, kept as they are. No torch.

A model directory can hold such a tokenizer in place of APT's own. Nothing here encodes a text: transformers does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apt_model.errors import ModelError

DOCUMENT_NAME, CONFIG_NAME = "tokenizer.json", "tokenizer_config.json"
OTHER_NAMES = (
    CONFIG_NAME, "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "vocab.json", "merges.txt",
    "vocab.txt", "generation_config.json",
)  # fmt: skip
"""Files that transformers writes next to `tokenizer.json`, in this or an older version; the last holds the tokens that
end an answer."""


@dataclass(frozen=True)
class TokenizerFiles:
    """A tokenizer of the library `tokenizers` as plain data."""

    document: Mapping[str, Any]
    """Content of `tokenizer.json`."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Text of the other files, by name."""
    where: str = field(default="tokenizer", compare=False)
    """Directory that it was read from, for errors."""

    @property
    def ids(self) -> dict[str, int]:
        """Return the number of each token, control tokens included.

        Raises:
            ModelError: the document is damaged.
        """
        try:
            vocabulary = self.document["model"]["vocab"]
            listed = isinstance(vocabulary, list)  # Unigram: pieces with their scores
            ids = {piece: i for i, (piece, _) in enumerate(vocabulary)} if listed else dict(vocabulary)
            ids |= {token["content"]: token["id"] for token in self.document.get("added_tokens", ())}
            if not ids or not all(type(i) is int and i >= 0 for i in ids.values()):
                raise ValueError
        except (LookupError, TypeError, ValueError) as error:
            raise ModelError(f"{self.where}: damaged {DOCUMENT_NAME} (its tokens cannot be read)") from error
        return ids

    @property
    def vocab_size(self) -> int:
        """Return the number of ids: one more than the largest.

        Raises:
            ModelError: the document is damaged.
        """
        return max(self.ids.values()) + 1

    def control_ids(self) -> dict[str, int]:
        """Return the numbers of the control tokens that the tokenizer has, by role: pad, bos, eos, unk.

        Raises:
            ModelError: a file is damaged.
        """
        try:
            config = json.loads(self.files.get(CONFIG_NAME, "{}"))
            named = {role: config.get(f"{role}_token") for role in ("pad", "bos", "eos", "unk")}
            texts = {role: name["content"] if isinstance(name, dict) else name for role, name in named.items()}
        except (ValueError, RecursionError, LookupError, AttributeError) as error:
            raise ModelError(f"{self.where}: damaged {CONFIG_NAME} ({error})") from error
        ids = self.ids
        return {role: ids[text] for role, text in texts.items() if text in ids}

    def save(self, directory: Path) -> None:
        """Write the files."""
        for name, text in self.texts().items():
            (directory / name).write_text(text, encoding="utf-8")

    def texts(self) -> dict[str, str]:
        """Return the text of each file by name."""
        return {DOCUMENT_NAME: json.dumps(self.document, ensure_ascii=False, indent=1) + "\n", **self.files}

    @classmethod
    def load(cls, directory: Path, document: Mapping[str, Any]) -> TokenizerFiles:
        """Read the files that `save` or transformers wrote.

        Args:
            directory: with the files.
            document: content of `tokenizer.json` in it.

        Raises:
            ModelError: a file cannot be read.
        """
        try:
            files = {
                name: (directory / name).read_text(encoding="utf-8")
                for name in OTHER_NAMES
                if (directory / name).is_file()
            }
        except (OSError, ValueError) as error:
            raise ModelError(f"{directory}: a file of its tokenizer cannot be read ({error})") from error
        return cls(document, files, str(directory))
