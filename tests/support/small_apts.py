"""Small APTs whose every weight matters: what the tests of the transformers form share."""

from __future__ import annotations

from typing import Any

import torch

from apt_model.config import ModelConfig
from apt_model.model import APT
from apt_model.tokenizer import DynamicTagTokenizer
from training.models.apt.family import APTFamily
from training.models.apt.options import APTOptions
from training.tasks.language_modeling import LanguageModeling

TOKENIZER = DynamicTagTokenizer.from_texts(["下雨 rain 🌧️\n0123456789"], ["[FR]"])


def small_apt(seed: int = 0, **changes: Any) -> APT:
    """An APT in eval mode. Unlike a fresh one its self-control, which starts at 0, and its norms do something."""
    torch.manual_seed(seed)
    shape = {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_ff": 24, "max_seq_len": 24}
    model = APT(ModelConfig.model_validate({**shape, "vocab_size": TOKENIZER.vocab_size, **changes}))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    return model.eval()


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether both have the same names with the same numbers."""
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def language_modeling(config: ModelConfig, pad_id: int = 0, label_smoothing: float = 0.0) -> LanguageModeling:
    """Return the objective of an APT of this shape."""
    assert config.vocab_size is not None
    options = APTOptions(**config.model_dump())
    return LanguageModeling(APTFamily(), options, config.vocab_size, pad_id, label_smoothing)
