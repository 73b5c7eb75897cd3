"""Texts, chats and tiny models for the tests of language tasks; all of them come with Python or are made here."""

from __future__ import annotations

import json
import pydoc_data.topics
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from training.models.tokenizers import train_bpe


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="apt-trainer-test-language-"))


@cache
def topics_file(count: int = 40, characters: int = 400) -> Path:
    """Return a JSON Lines file with the beginnings of topics of Python's own documentation, in English."""
    path = _folder() / f"topics_{count}_{characters}.jsonl"
    texts = [text[:characters] for _, text in sorted(pydoc_data.topics.topics.items())][:count]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def chats(count: int = 24) -> list[dict[str, Any]]:
    """Return short conversations of one or two turns."""
    capitals = [("France", "Paris"), ("Japan", "Tokyo"), ("Peru", "Lima"), ("Kenya", "Nairobi"), ("Chile", "Santiago")]
    made = []
    for number in range(count):
        country, capital = capitals[number % len(capitals)]
        turns: Sequence[tuple[str, str]] = [
            ("user", f"What is the capital of {country}? ({number})"),
            ("assistant", f"The capital of {country} is {capital}."),
            ("user", "And what did I ask about?"),
            ("assistant", f"About {country}."),
        ]
        kept = turns if number % 3 == 0 else turns[:2]
        made.append({"messages": [{"role": role, "content": text} for role, text in kept]})
    return made


@cache
def chats_file(count: int = 24) -> Path:
    """Return a JSON Lines file of `chats`."""
    path = _folder() / f"chats_{count}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in chats(count)), encoding="utf-8")
    return path


_OTHERS = {
    "gpt_neox": "GPTNeoXConfig", "opt": "OPTConfig", "bloom": "BloomConfig", "mamba": "MambaConfig",
    "bert": "BertConfig",
}  # fmt: skip
_HEADS = {"num_attention_heads": 4, "max_position_embeddings": 256}
_SHAPES = {
    "gpt_neox": {"intermediate_size": 48, **_HEADS}, "bert": {"intermediate_size": 48, **_HEADS},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32, **_HEADS}, "bloom": {"n_head": 4}, "mamba": {"state_size": 4},
}  # fmt: skip


@cache
def tiny_model(kind: str = "llama") -> Path:
    """Return the directory of a model of transformers with random weights and a tokenizer of 400 tokens.

    Args:
        kind: llama (tied head), qwen2, gpt2, gemma2 (eager attention with a sliding window of 8 tokens), gpt_neox;
            opt, bloom and mamba, in which packed samples see each other; bert, in which tokens see the next one.
    """
    import transformers

    from training.machine.environment import variables_set
    from training.models.transformers_library import quiet_transformers

    directory = _folder() / f"tiny_{kind}"
    texts = [json.loads(line)["text"] for line in topics_file().read_text(encoding="utf-8").splitlines()]
    tokenizer = train_bpe([*texts, json.dumps(chats())], 400)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    shape = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 256,
    }  # fmt: skip
    with quiet_transformers(), variables_set(DS_ACCELERATOR="cpu"):
        if kind == "gpt2":
            config: Any = transformers.GPT2Config(
                vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=256, resid_pdrop=0.0,
                embd_pdrop=0.0, attn_pdrop=0.0, **ids,
            )  # fmt: skip
        elif kind in _OTHERS:
            config = getattr(transformers, _OTHERS[kind])(
                vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, **_SHAPES.get(kind, {}), **ids
            )
        elif kind == "gemma2":
            config = transformers.Gemma2Config(vocab_size=len(tokenizer), head_dim=8, sliding_window=8, **shape, **ids)
        else:
            kinds = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config}
            config = kinds[kind](vocab_size=len(tokenizer), tie_word_embeddings=kind == "llama", **shape, **ids)
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    return directory
