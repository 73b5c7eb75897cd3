"""Directories with a chat model: random weights, a chat template, and room for long answers."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

from tests.support.language_data import tiny_model
from training.tasks.chat.built_in_templates import BUILT_IN


@cache
def chat_directory(positions: int = 256) -> Path:
    """Return a directory of transformers with a Llama whose greedy answers repeat themselves for ever.

    Args:
        positions: tokens that it reads.
    """
    from transformers import AutoTokenizer

    base = tiny_model("llama")
    made = base.parent / f"chat_{positions}"
    shutil.copytree(base, made)
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    (made / "config.json").write_text(json.dumps({**config, "max_position_embeddings": positions}), encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = BUILT_IN["chatml"].source
    tokenizer.save_pretrained(made)
    return made
