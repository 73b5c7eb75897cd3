"""`DynamicTagTokenizer` as a transformers tokenizer.

It is written in Python, not in the Rust library's format: there, the spelling of a control token inside a text becomes
that control token unless the caller asks otherwise, and `[UNK]` disappears when ids are decoded. This tokenizer
guarantees that text stays text.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, ClassVar

from transformers import PreTrainedTokenizer

from apt_model.remote_code import TOKENIZER_AUTO_MAP, write_code
from apt_model.tokenizer import BOS, EOS, PAD, SEP, UNK, DynamicTagTokenizer

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if loop.index0 == 0 and message.role == 'user' -%}{{ bos_token + message.content + sep_token }}"
    "{%- elif loop.index0 == 1 and message.role == 'assistant' -%}{{ message.content + eos_token }}"
    "{%- else -%}"
    "{{ raise_exception('APT answers one question: give a user message, and at most one assistant message after it') }}"
    "{%- endif -%}"
    "{%- endfor -%}"
)
"""Chat of one turn, in the form that the model was trained on: `[BOS] question [SEP] answer [EOS]`."""


class APTTokenizer(PreTrainedTokenizer):  # type: ignore[misc]
    """Tokenizer that converts characters and tags to ids and back, exactly as `DynamicTagTokenizer` does.

    `tokenizer(text)` is `[BOS] text [SEP]`, the start of a generation; `tokenizer(question, answer)` is the whole
    `[BOS] question [SEP] answer [EOS]`. Padding goes on the left.

    Control tokens are never produced by text: "[EOS]" in a question is five characters. Pass
    `split_special_tokens=False` to read control tokens from their spelling.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {"vocab_file": "tokenizer.json"}
    model_input_names: ClassVar[list[str]] = ["input_ids", "attention_mask"]
    padding_side = "left"
    split_special_tokens: bool

    def __init__(self, vocab_file: str | os.PathLike[str], **kwargs: Any) -> None:
        self.tokenizer = DynamicTagTokenizer.load(Path(vocab_file))
        self._auto_map = TOKENIZER_AUTO_MAP
        names = {"pad_token": PAD, "unk_token": UNK, "bos_token": BOS, "sep_token": SEP, "eos_token": EOS}
        rest = {"split_special_tokens": True, "chat_template": CHAT_TEMPLATE, "token_type_ids_pattern": "all_zeros"}
        super().__init__(**{**names, **rest, **kwargs})

    @property
    def vocab_size(self) -> int:
        """Return the number of ids, without tokens added later."""
        return self.tokenizer.vocab_size

    def get_vocab(self) -> dict[str, int]:
        """Return the id of each token, including tokens added later."""
        added: dict[str, int] = self._added_tokens_encoder
        return {token: i for i, token in enumerate(self.tokenizer.tokens)} | added

    def tokenize(self, text: str, **kwargs: Any) -> list[str]:
        """Split a text into tokens. Special tokens are searched for only with `split_special_tokens=False`."""
        if not kwargs.get("split_special_tokens", self.split_special_tokens):
            pieces: list[str] = super().tokenize(text, **kwargs)
            return pieces
        added = [t.content for t in self._added_tokens_decoder.values() if not t.special]
        if not added:
            return self._tokenize(text)
        longest_first = "|".join(map(re.escape, sorted(added, key=len, reverse=True)))
        parts = re.split(f"({longest_first})", text)
        return [p for i, part in enumerate(parts) for p in ([part] if i % 2 else self._tokenize(part))]

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        return self.tokenizer.split(text)

    def _convert_token_to_id(self, token: str) -> int:
        return self.tokenizer.id_of(token)

    def _convert_id_to_token(self, index: int) -> str:
        # A model may have more ids than its tokenizer has tokens.
        return self.tokenizer.tokens[index] if 0 <= index < self.tokenizer.vocab_size else UNK

    def convert_ids_to_tokens(self, ids: int | list[int], skip_special_tokens: bool = False) -> str | list[str]:
        """Return the tokens of ids. `[UNK]` is a gap in the text, not a control token, so it is not skipped."""
        if isinstance(ids, int) or not skip_special_tokens:
            tokens: str | list[str] = super().convert_ids_to_tokens(ids)
            return tokens
        skipped = set(self.all_special_ids) - {self.unk_token_id}
        kept: list[str] = super().convert_ids_to_tokens([i for i in ids if int(i) not in skipped])
        return kept

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Join tokens into a text."""
        return "".join(tokens)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """Return `[BOS] question [SEP]`, followed by `answer [EOS]` if there is an answer."""
        answer = [] if token_ids_1 is None else [*token_ids_1, self.eos_token_id]
        return [self.bos_token_id, *token_ids_0, self.sep_token_id, *answer]

    def get_special_tokens_mask(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """Return 1 for each control token and 0 for each token of text."""
        if already_has_special_tokens:
            return [int(i in self.all_special_ids) for i in token_ids_0]
        answer = [] if token_ids_1 is None else [0] * len(token_ids_1) + [1]
        return [1, *[0] * len(token_ids_0), 1, *answer]

    def apply_chat_template(self, conversation: Any, *args: Any, tokenize: bool = True, **kwargs: Any) -> Any:
        """Return a chat of one turn as ids, or as text with `tokenize=False`.

        The template's own control tokens become their ids; the content of a message stays text.
        """
        if not tokenize:
            return super().apply_chat_template(conversation, *args, tokenize=False, **kwargs)
        kwargs.setdefault("sanitize_control_tokens", True)
        as_set: bool = self.split_special_tokens
        self.split_special_tokens = False
        try:
            return super().apply_chat_template(conversation, *args, tokenize=True, **kwargs)
        finally:
            self.split_special_tokens = as_set

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write `tokenizer.json` in APT's own format, which `load_portable` reads, and the code next to it."""
        path = Path(save_directory) / f"{filename_prefix + '-' if filename_prefix else ''}tokenizer.json"
        self.tokenizer.save(path)
        write_code(save_directory)
        return (str(path),)
