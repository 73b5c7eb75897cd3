"""The real model's form, GGUF: a tiny one is written here and read as the 93 MB of the real one are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import real_model
from training.models.tokenizers import train_bpe

pytestmark = pytest.mark.slow
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
SHAPES = {
    "attn_norm": (32,), "ffn_norm": (32,), "attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32),
    "attn_output": (32, 32), "ffn_gate": (48, 32), "ffn_up": (48, 32), "ffn_down": (32, 48),
}  # fmt: skip


@pytest.fixture
def gguf_file(tmp_path: Path) -> Path:
    """Write a Llama of one layer with random weights and a tokenizer, as llama.cpp has them."""
    from gguf import GGUFWriter

    tokenizer: dict[str, Any] = json.loads(train_bpe(["a cat and a dog"], 264).backend_tokenizer.to_str())["model"]
    tokens = sorted(tokenizer["vocab"], key=tokenizer["vocab"].__getitem__)
    path = tmp_path / "tiny.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(48)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_rope_freq_base(1e4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_add_bos_token(False)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["merges"]])
    writer.add_bos_token_id(tokens.index("<|im_start|>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_pad_token_id(tokens.index("<|im_end|>"))
    writer.add_chat_template(TEMPLATE)
    torch.manual_seed(0)
    writer.add_tensor("token_embd.weight", torch.randn(len(tokens), 32).numpy())
    writer.add_tensor("output_norm.weight", torch.ones(32).numpy())
    for name, shape in SHAPES.items():
        writer.add_tensor(f"blk.0.{name}.weight", torch.randn(shape).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_model_becomes_a_plain_directory_with_the_same_logits(gguf_file: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directory = tmp_path / "plain"
    real_model.convert(gguf_file, directory)
    assert "quantization_config" not in json.loads((directory / "config.json").read_text(encoding="utf-8"))
    tokens_1T = torch.tensor([[0, 5, 9, 200]])
    plain = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    direct = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=gguf_file.name, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(plain(input_ids=tokens_1T).logits, direct(input_ids=tokens_1T).logits)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert tokenizer.decode(tokenizer("a cat")["input_ids"]) == "a cat"
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"


def test_the_chats_are_two_hundred_short_answers_of_the_manual() -> None:
    chats = real_model.answers_of_the_manual(200)
    assert len(chats) == 200
    assert all([message["role"] for message in chat] == ["user", "assistant"] for chat in chats)
    words = [len(chat[1]["content"].split()) for chat in chats]
    assert min(words) >= 3
    assert max(words) <= real_model.MOST_WORDS
    assert chats == real_model.answers_of_the_manual(300)[:200]
