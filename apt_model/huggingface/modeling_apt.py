"""APT as a transformers model. The network itself is in `apt_model.model`; this file adapts it to transformers.

Shape legend as in that file: B batch, T tokens, D d_model, V vocabulary, N chosen positions, S cached positions plus
the new ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import (
    Cache,
    DynamicCache,
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutputWithPast

from apt_model.config import ModelConfig
from apt_model.huggingface.configuration_apt import SHAPE, APTConfig
from apt_model.model import APT, rotary_table

SHARED = ("embedding", "dropout", "blocks", "norm", "head", "cos", "sin")
"""Modules and buffers that an APT and its transformers form share: the whole network."""


class CacheColumns:
    """Transformers cache with the `append` method that the network's attention calls."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    def append(self, layer: int, k_BHTK: Tensor, v_BHTK: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new keys and values of a layer; return all of that layer's, (B, H, S, K) each."""
        # The rotation returns keys in fp32; like the network's own cache, this one stores them in the values' dtype.
        keys, values = self.cache.update(k_BHTK.to(v_BHTK.dtype), v_BHTK, layer)
        return keys, values


class NoMorePositions(StoppingCriteria):  # type: ignore[misc]
    """Stopping criterion: all rows end when the model has no position left for the longest row."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        """Return (B,) bool: True for the rows that have ended."""
        return torch.full((input_ids.shape[0],), input_ids.shape[1] >= self.limit, device=input_ids.device)


class APTForCausalLM(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """APT with everything that transformers expects of a causal language model.

    Parameters have the same names as in `APT`, so both read the same `model.safetensors`.
    """

    config_class = APTConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True  # `forward` divides by num_items_in_batch; a Trainer must not divide a second time
    _supports_sdpa = True
    _no_split_modules: ClassVar[list[str]] = ["Block"]
    _tied_weights_keys: ClassVar[dict[str, str]] = {"head.weight": "embedding.weight"}
    _can_compile_fullgraph = False

    def __init__(self, config: APTConfig) -> None:
        super().__init__(config)
        if config._attn_implementation != "sdpa":
            raise ValueError(
                f"attn_implementation={config._attn_implementation!r}: APT always attends by torch's "
                "scaled_dot_product_attention; leave attn_implementation out"
            )
        self._share(APT(config))
        self.gradient_checkpointing = False
        self._gradient_checkpointing_func: Callable[..., Any] = checkpoint
        self.post_init()

    def _share(self, network: APT) -> None:
        for name in SHARED:
            part = getattr(network, name)
            if isinstance(part, Tensor):
                self.register_buffer(name, part, persistent=False)
            else:
                setattr(self, name, part)

    @classmethod
    def from_apt(cls, model: APT, **config: Any) -> APTForCausalLM:
        """Return the transformers form of `model`: the same parameters, not copies. Training one trains the other.

        Args:
            model: any APT; its mode (train or eval) and its gradient checkpointing are kept.
            config: further keys of `APTConfig`.
        """
        shape = {key: getattr(model.config, key) for key in SHAPE}
        with torch.device("meta"):  # nothing is allocated or drawn: the parts are replaced below
            wrapped = cls(APTConfig(**shape, dtype=model.embedding.weight.dtype, **config))
        wrapped._share(model)
        wrapped.gradient_checkpointing = model.gradient_checkpointing
        wrapped.train(model.training)
        return wrapped

    def to_apt(self) -> APT:
        """Return this model as an APT: the same parameters, not copies."""
        with torch.device("meta"):
            network = APT(ModelConfig(**{key: getattr(self.config, key) for key in SHAPE}))
        for name in SHARED:
            setattr(network, name, getattr(self, name))
        network.gradient_checkpointing = self.gradient_checkpointing
        return network.train(self.training)

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise modules that have no weights yet as APT does; transformers protects weights that were loaded."""
        if module is self:  # the last of all modules: a weight's scale depends on its place in the network
            APT._initialise(self)
            # These tables are not in the file, and `from_pretrained` leaves their memory uninitialised.
            cos, sin = rotary_table(self.config.max_seq_len, self.config.head_dim, self.config.rope_theta)
            init.copy_(self.cos, cos)
            init.copy_(self.sin, sin)
        elif isinstance(module, nn.RMSNorm):
            init.ones_(module.weight)
        elif isinstance(module, nn.Embedding | nn.Linear):  # rows that `resize_token_embeddings` adds
            init.normal_(module.weight, std=module.weight.shape[-1] ** -0.5)

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embedding."""
        return self.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embedding = value

    def get_output_embeddings(self) -> nn.Module:
        """Return the head that turns hidden states into logits."""
        return self.head

    def set_output_embeddings(self, value: nn.Module) -> None:
        self.head = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        positions_N: Tensor | None = None,
        segments_BT: Tensor | None = None,
        num_items_in_batch: int | Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Compute the logits of the next token, and the loss if `labels` are given.

        Args:
            input_ids: int64 (B, T).
            attention_mask: (B, S), 0 for padding on either side, or a boolean (B, 1, T, S), True where a token may
                attend.
            position_ids: int64 (B, T); by default each row counts its own tokens, padding left out.
            past_key_values: cache of the tokens read before; these tokens are added to it.
            inputs_embeds: (B, T, D), in place of `input_ids`.
            labels: int64 (B, T), as in transformers: the input ids, with -100 where there is no loss.
            use_cache: keep keys and values and return them; by default only while not training.
            logits_to_keep: number of last positions that get logits (0: all), or the indices of positions.
            positions_N: int64 indices into the flattened (B·T) positions: the training path of `APT.forward`, for
                which padding goes on the right; of the other arguments only `input_ids` may be given with it, and for
                packed samples `position_ids` and `segments_BT`.
            segments_BT: int (B, T), the number of each token's sample in a row of packed samples.
            num_items_in_batch: divisor of the summed loss; by default the number of labels of this batch.
            output_hidden_states: return the input of each block, and the normalised output of the last one.
            output_attentions: refused; the fused kernel does not return attention weights.
            return_dict: False returns a plain tuple.

        Raises:
            ValueError: the arguments contradict each other, or need more positions than the model has.
        """
        return_dict = self.config.return_dict if return_dict is None else return_dict
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if output_attentions:
            raise ValueError("output_attentions: APT attends by a fused kernel, which does not return its weights")
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give input_ids or inputs_embeds, and not both")
        if positions_N is not None:
            if input_ids is None:
                raise ValueError("positions_N goes with input_ids")
            output = CausalLMOutputWithPast(logits=APT.forward(self, input_ids, positions_N, position_ids, segments_BT))
            return output if return_dict else output.to_tuple()

        x_BTD = self.embedding(input_ids) if inputs_embeds is None else inputs_embeds
        if past_key_values is None and (use_cache if use_cache is not None else not self.training):
            past_key_values = DynamicCache(config=self.config)
        mask, cos, sin = self._positions(x_BTD, attention_mask, position_ids, past_key_values)
        columns = None if past_key_values is None else CacheColumns(past_key_values)
        recompute = self.gradient_checkpointing and self.training
        if recompute and columns is not None:
            raise ValueError("use_cache with gradient checkpointing: blocks that run twice would fill the cache twice")

        x_BTD = self.dropout(x_BTD)
        hidden = []
        for block in self.blocks:
            if output_hidden_states:
                hidden.append(x_BTD)
            if recompute:
                x_BTD = self._gradient_checkpointing_func(block.__call__, x_BTD, cos, sin, mask)
            else:
                x_BTD = block(x_BTD, cos, sin, mask, columns)
        x_BTD = self.norm(x_BTD)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.head(x_BTD[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, logits.shape[-1], num_items_in_batch=num_items_in_batch)
        output = CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=past_key_values,
            hidden_states=(*hidden, x_BTD) if output_hidden_states else None,
        )
        return output if return_dict else output.to_tuple()

    def _positions(
        self, x_BTD: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None, cache: Cache | None
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Return the attention mask (None: plain causal), and the cosines and sines of each token's position."""
        B, T, _ = x_BTD.shape
        past = 0 if cache is None else int(cache.get_seq_length())
        slots = T if cache is None else int(cache.get_mask_sizes(T, 0)[0])
        slots_S = torch.arange(slots, device=x_BTD.device)
        padding = attention_mask if attention_mask is not None and attention_mask.ndim == 2 else None
        if padding is not None and bool(padding.all()):
            padding = None  # a mask of ones hides nothing
        longest = past + T
        if position_ids is None and padding is not None:
            position_ids = (padding.long().cumsum(-1) - 1).clamp(min=0)[:, past:longest]
        if position_ids is None:
            position_ids = slots_S[past:longest].unsqueeze(0)
        else:
            longest = int(position_ids.max()) + 1
        if self.config.max_seq_len < longest:
            raise ValueError(f"sequence of {longest} tokens is longer than max_seq_len={self.config.max_seq_len}")
        cos_B1TK, sin_B1TK = self.cos[position_ids].unsqueeze(1), self.sin[position_ids].unsqueeze(1)
        if attention_mask is not None and attention_mask.ndim == 4:
            return attention_mask, cos_B1TK, sin_B1TK
        if slots == T and padding is None:
            return None, cos_B1TK, sin_B1TK
        own_T1 = slots_S[past : past + T].unsqueeze(1)
        mask_BTS = (slots_S <= own_T1).expand(B, T, slots)
        if padding is not None:
            valid_BS = nn.functional.pad(padding.bool(), (0, slots - padding.shape[1]))
            # A padding query would attend to nothing (softmax of nothing is nan): it attends to its own slot; nobody
            # reads it.
            mask_BTS = (mask_BTS & valid_BS.unsqueeze(1)) | (slots_S == own_T1)
        return mask_BTS.unsqueeze(1), cos_B1TK, sin_B1TK

    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: LogitsProcessorList | None = None,
        stopping_criteria: StoppingCriteriaList | None = None,
        **kwargs: Any,
    ) -> Any:
        """Generate as `GenerationMixin.generate` does, but stop where the model's positions end instead of failing.

        If no length is given, an answer may take all remaining positions (transformers' default is 20 tokens).
        """
        limit = self.config.max_seq_len
        if (embeds := kwargs.get("inputs_embeds")) is not None and inputs is None and kwargs.get("input_ids") is None:
            limit -= embeds.shape[1]  # the ids then hold only the new tokens
        asked = (generation_config, self.generation_config)
        lengths = [getattr(c, key, None) for c in asked for key in ("max_length", "max_new_tokens")]
        if not any([*lengths, kwargs.get("max_length"), kwargs.get("max_new_tokens")]):
            kwargs["max_new_tokens"] = limit
        criteria = StoppingCriteriaList([*(stopping_criteria or ()), NoMorePositions(limit)])
        return super().generate(inputs, generation_config, logits_processor, criteria, **kwargs)
