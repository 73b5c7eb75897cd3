"""APT's own tokenizer in the form of all others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from apt_model.tokenizer import SPECIALS, DynamicTagTokenizer
from training.models.tokenizers import begin_with, needs_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def in_common_form(tokenizer: DynamicTagTokenizer) -> PreTrainedTokenizerFast:
    """Return APT's tokenizer, whose tokens are characters and tags, as transformers has it: the same ids of any text.

    Its control tokens are no pieces of a text: `[EOS]` in a text is five characters, as APT itself reads it.

    Raises:
        ConfigError: transformers is not installed.
    """
    needs_transformers("a text or chat for this model")
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pad, unknown, bos, sep, eos = SPECIALS
    alternatives = sorted(map(re.escape, tokenizer.tags), key=lambda tag: (-len(tag), tag))
    made = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokenizer.tokens)}, unk_token=unknown))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("|".join([*alternatives, r"[\s\S]"])), "isolated")
    made.decoder = decoders.Fuse()
    begin_with(made, bos)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=pad, unk_token=unknown, bos_token=bos, sep_token=sep, eos_token=eos,
        clean_up_tokenization_spaces=False, split_special_tokens=True,
    )  # fmt: skip
