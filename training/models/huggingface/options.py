"""Settings of the model family huggingface. No torch."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from training.settings.tree import ModelOptions

DEFAULT_RANK = 16


class HuggingFaceOptions(ModelOptions):
    """A causal language model of transformers: any AutoModelForCausalLM, whole or with LoRA."""

    decides_loss: ClassVar[frozenset[str]] = frozenset({"max_seq_len"})
    in_training_loss: ClassVar[frozenset[str]] = frozenset({"lora_dropout", "neftune_alpha"})
    draws_at_random: ClassVar[frozenset[str]] = frozenset({"lora_dropout", "neftune_alpha"})

    base_model: str | None = Field(
        None,
        min_length=1,
        description="Directory or OWNER/NAME on the Hugging Face Hub of the model to start from; --model DIR sets it. "
        "None: the one of architecture.",
        json_schema_extra={"metavar": "DIR_OR_NAME", "goes_along": True},
    )
    architecture: str | None = Field(
        None,
        min_length=1,
        description="config.json of a model, or its directory or name: that network with new weights, in place of "
        "base_model. None: base_model says which.",
        json_schema_extra={"aliases": ["model_config"], "metavar": "FILE", "goes_along": True},
    )
    vocab_size: int | None = Field(
        None,
        ge=1,
        le=2**24,
        description="Rows of the embedding; also the size of a tokenizer that is trained on the data. None: the "
        "model's, or as many as the tokenizer has.",
    )
    max_seq_len: int | None = Field(
        None,
        ge=4,
        le=2**24,
        description="Longest sample in tokens. None: 1024, or what the model can read where that is less.",
    )
    resize_embeddings: bool = Field(
        False,
        description="Give the model a new row for each token that its tokenizer has and its embedding lacks, such as "
        "the turn tokens of --chat-template; without it such a tokenizer is refused.",
    )
    trust_remote_code: bool = Field(
        False, description="Run the Python code in the model's directory: read it first, it can do anything."
    )
    attn_implementation: Literal["auto", "sdpa", "eager", "flash_attention_2"] = Field(
        "auto",
        description="Attention kernels of transformers. auto: sdpa where the model has it, else eager; "
        "flash_attention_2 needs its package and a GPU.",
    )
    lora: bool = Field(
        False, description="Train low-rank adapters (LoRA, arXiv 2106.09685, by PEFT); the model's weights stay."
    )
    qlora: bool = Field(
        False,
        description="LoRA on weights in 4 bits (arXiv 2305.14314); needs the package bitsandbytes, and a GPU for "
        "speed.",
    )
    lora_rank: int = Field(
        DEFAULT_RANK,
        ge=1,
        le=2**14,
        description="LoRA: rank of each adapter.",
    )
    lora_alpha: float | None = Field(
        None, gt=0.0, le=2.0**20, description="LoRA: scale of the adapters, over the rank. None: twice the rank."
    )
    lora_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="LoRA: share of the adapters' inputs dropped, 0 to 1.")
    lora_targets: tuple[str, ...] = Field(
        ("all-linear",),
        min_length=1,
        description="LoRA: ends of the names of the layers that get an adapter (q_proj v_proj); all-linear: all but "
        "the output head.",
    )
    lora_rslora: bool = Field(
        False,
        description="LoRA: scale by the root of the rank (arXiv 2312.03732).",
    )
    lora_dora: bool = Field(
        False,
        description="LoRA: train the weights' magnitudes too (DoRA, arXiv 2402.09353).",
    )
    lora_modules_to_save: tuple[str, ...] = Field(
        (), description="LoRA: layers that are trained and saved whole, such as embed_tokens and lm_head."
    )
    merge: bool = Field(
        False,
        description="Also write final_model/merged/, the LoRA adapters added to the weights: a plain transformers "
        "directory.",
    )
    freeze: tuple[str, ...] = Field(
        (),
        description="Patterns of the parameters that are not trained, with * for any part of a name (model.embed*).",
        json_schema_extra={"metavar": "PATTERN"},
    )
    neftune_alpha: float | None = Field(
        None,
        gt=0.0,
        le=1e4,
        description="NEFTune (arXiv 2310.05914): noise of this strength on the embeddings while training. None: "
        "no noise.",
    )

    @property
    def has_lora(self) -> bool:
        """True where only adapters are trained."""
        return self.lora or self.qlora

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        """Refuse settings of LoRA without LoRA, and two kinds of start."""
        if self.base_model is not None and self.architecture is not None:
            raise ValueError("base_model and architecture exclude each other: start from weights, or from new ones")
        if not self.has_lora:
            for name in (
                "lora_rank", "lora_alpha", "lora_dropout", "lora_targets", "lora_rslora", "lora_dora",
                "lora_modules_to_save", "merge",
            ):  # fmt: skip
                if getattr(self, name) != type(self).model_fields[name].get_default():
                    raise ValueError(f"{name} needs lora: add --lora, or leave it out")
        elif self.freeze:
            raise ValueError("freeze has no effect with lora, which trains the adapters only: leave one of them out")
        elif self.architecture is not None:
            raise ValueError("lora adapts a trained model, and architecture has new weights: give --model DIR")
        return self
