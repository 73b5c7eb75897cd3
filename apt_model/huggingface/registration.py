"""Registration of APT with the Auto classes: after it, no `trust_remote_code` is needed where APT is installed."""

from __future__ import annotations

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from apt_model.huggingface.configuration_apt import APTConfig
from apt_model.huggingface.modeling_apt import APTForCausalLM
from apt_model.huggingface.tokenization_apt import APTTokenizer


def register_auto_classes() -> None:
    """Make the Auto classes build this package's own classes for `model_type: apt`. Repeated calls are harmless."""
    AutoConfig.register(APTConfig.model_type, APTConfig, exist_ok=True)
    AutoModel.register(APTConfig, APTForCausalLM, exist_ok=True)
    AutoModelForCausalLM.register(APTConfig, APTForCausalLM, exist_ok=True)
    AutoTokenizer.register(APTConfig, slow_tokenizer_class=APTTokenizer, exist_ok=True)
