"""APT, the autopoietic transformer: a causal decoder in plain PyTorch.

Shape legend: B batch, T tokens, D d_model, H heads, K features of a head, F d_ff, V vocabulary, N chosen positions,
S cached positions. A tensor's name ends with its axes: `q_BHTK`.

Autopoietic ("self-making") attention: each head recomputes its own attention from the state that it reads. A
temperature per token and head scales the query, so a head can sharpen or flatten its attention, and a gate per token
and head scales its output. Both are 2·sigmoid(x·W) with W = 0 at the start, which is exactly 1.0: training
starts from standard attention and leaves it only where that lowers the loss. Related work: selective self-attention
(arXiv 2411.12892), gated attention (arXiv 2505.06708).
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from apt_model.config import ModelConfig


class KVCache:
    """Keys and values of the positions read so far, used by `generation.py`.

    Columns are slots, not positions: prompts of unequal length are padded on the right, each row counts its own
    positions, and `valid_BS` marks the slots that a row may attend to.
    """

    def __init__(self, config: ModelConfig, batch_size: int, num_slots: int, like: Tensor) -> None:
        shape = (config.num_layers, batch_size, config.num_heads, num_slots, config.head_dim)
        self.keys = torch.zeros(shape, device=like.device, dtype=like.dtype)
        self.values = torch.zeros_like(self.keys)
        self.valid_BS = torch.zeros(batch_size, num_slots, dtype=torch.bool, device=like.device)
        self.used = 0

    def append(self, layer: int, k_BHTK: Tensor, v_BHTK: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new keys and values of a layer; return all of that layer's, (B, H, S, K) each."""
        end = self.used + k_BHTK.shape[2]
        self.keys[layer, :, :, self.used : end] = k_BHTK
        self.values[layer, :, :, self.used : end] = v_BHTK
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def keep_rows(self, rows_N: Tensor) -> None:
        """Keep only these rows: a finished row needs no more work."""
        self.keys = self.keys[:, rows_N]
        self.values = self.values[:, rows_N]
        self.valid_BS = self.valid_BS[rows_N]


def rotary_table(max_seq_len: int, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of rotary positions (RoFormer, arXiv 2104.09864): (max_seq_len, head_dim) each, fp32."""
    inverse = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angles = torch.outer(torch.arange(max_seq_len, dtype=torch.float64), inverse)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos().float(), angles.sin().float()


def rotate(x_BHTK: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair of features (i, i + K/2) by its position's angle. `cos` and `sin` broadcast against x."""
    first, second = x_BHTK.chunk(2, dim=-1)
    return x_BHTK * cos + torch.cat([-second, first], dim=-1) * sin


class Attention(nn.Module):
    """Causal self-attention through `scaled_dot_product_attention`, autopoietic or standard."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.num_heads, self.head_dim = config.num_heads, config.head_dim
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)
        # One small matrix serves both: the first H outputs are temperatures, the last H are gates.
        self.self_control = (
            nn.Linear(config.d_model, 2 * config.num_heads, bias=False) if config.attention == "autopoietic" else None
        )

    def forward(
        self,
        x_BTD: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        B, T, D = x_BTD.shape
        q_BHTK, k_BHTK, v_BHTK = self.qkv(x_BTD).view(B, T, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q_BHTK, k_BHTK = rotate(q_BHTK, cos, sin), rotate(k_BHTK, cos, sin)
        gate_BTH1 = None
        if self.self_control is not None:
            control_BT2H = 2.0 * torch.sigmoid(self.self_control(x_BTD))
            temperature_BTH, gate_BTH = control_BT2H.chunk(2, dim=-1)
            q_BHTK = q_BHTK * temperature_BTH.transpose(1, 2).unsqueeze(-1)
            gate_BTH1 = gate_BTH.unsqueeze(-1)
        if cache is not None:
            k_BHTK, v_BHTK = cache.append(self.layer, k_BHTK, v_BHTK)
        # On a CPU the fused kernel's backward pass takes 8.8 ms in bf16 and 1.0 ms in fp32 (torch 2.13, 32 sequences
        # of 24 tokens); the rotation returns q and k in fp32 anyway.
        dtype = v_BHTK.dtype if x_BTD.device.type != "cpu" else torch.promote_types(v_BHTK.dtype, torch.float32)
        with torch.autocast(x_BTD.device.type, enabled=False):
            y_BHTK = F.scaled_dot_product_attention(
                q_BHTK.to(dtype),
                k_BHTK.to(dtype),
                v_BHTK.to(dtype),
                attn_mask=mask,
                dropout_p=self.dropout if self.training else 0.0,
                is_causal=mask is None,
            )
        y_BTHK = y_BHTK.transpose(1, 2)
        if gate_BTH1 is not None:
            y_BTHK = y_BTHK * gate_BTH1
        return cast(Tensor, self.out(y_BTHK.reshape(B, T, D).to(self.out.weight.dtype)))


class SwiGLU(nn.Module):
    """Gated feed-forward layer (arXiv 2002.05202): down(silu(gate(x)) · up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.up = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return cast(Tensor, self.down(F.silu(self.gate(x_BTD)) * self.up(x_BTD)))


class Block(nn.Module):
    """Pre-norm decoder block: attention, then SwiGLU, each added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.d_model, eps=config.norm_eps)
        self.attention = Attention(config, layer)
        self.feed_forward_norm = nn.RMSNorm(config.d_model, eps=config.norm_eps)
        self.feed_forward = SwiGLU(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x_BTD: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        positions_N: Tensor | None = None,
    ) -> Tensor:
        """Return (B, T, D), or (N, D) if only `positions_N` of the flattened output are wanted (the last block)."""
        x_BTD = x_BTD + self.dropout(self.attention(self.attention_norm(x_BTD), cos, sin, mask, cache))
        if positions_N is not None:
            x_BTD = x_BTD.reshape(-1, x_BTD.shape[-1]).index_select(0, positions_N)
        return x_BTD + cast(Tensor, self.dropout(self.feed_forward(self.feed_forward_norm(x_BTD))))


class APT(nn.Module):
    """APT language model. `config.vocab_size` must be set."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if config.vocab_size is None:
            raise ValueError("ModelConfig.vocab_size must be set (the tokenizer's) to build an APT")
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.norm = nn.RMSNorm(config.d_model, eps=config.norm_eps)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        cos, sin = rotary_table(config.max_seq_len, config.head_dim, config.rope_theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.gradient_checkpointing = False
        """Gradient checkpointing: each block is recomputed in the backward pass instead of keeping its activations."""
        self._initialise()
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight

    def _initialise(self) -> None:
        """Draw normal weights scaled by fan-in; those into the residual stream are scaled down by depth (GPT-2)."""
        depth_scale = 1.0 / math.sqrt(2.0 * self.config.num_layers)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                scale = depth_scale if name.endswith(("attention.out", "feed_forward.down")) else 1.0
                nn.init.normal_(module.weight, std=scale / math.sqrt(module.in_features))
                if name.endswith("self_control"):
                    nn.init.zeros_(module.weight)
            elif isinstance(module, nn.Embedding):
                # A tied head reads these rows, so they get the scale of a head; the first norm restores unit size.
                nn.init.normal_(module.weight, std=1.0 / math.sqrt(self.config.d_model))

    def num_parameters(self) -> int:
        """Count the trained parameters; a tied head counts once."""
        return sum(p.numel() for p in self.parameters())

    def forward(
        self,
        tokens_BT: Tensor,
        positions_N: Tensor | None = None,
        position_ids_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
    ) -> Tensor:
        """Compute the logits of the next token at every position, or only at chosen ones.

        Args:
            tokens_BT: int64 ids. Padding goes on the right: by causality it cannot affect the tokens before it.
            positions_N: int64 indices into the flattened (B·T) positions. All layers after the last attention work on
            each position separately, so a loss over a few answer tokens computes them only there.
            position_ids_BT: int64 position of each token in its own sample, where rows hold several; None: one sample a
            row.
            segments_BT: int number of each token's sample in its row: tokens attend to their own sample alone.

        Returns:
            Logits (B, T, V), or (N, V) with `positions_N`, in the dtype of the weights or of autocast.
        """
        T = tokens_BT.shape[1]
        if self.config.max_seq_len < T:
            raise ValueError(f"sequence of {T} tokens is longer than max_seq_len={self.config.max_seq_len}")
        cos, sin, mask_B1TT = self.cos[:T], self.sin[:T], None
        if position_ids_BT is not None:
            cos, sin = self.cos[position_ids_BT].unsqueeze(1), self.sin[position_ids_BT].unsqueeze(1)
        if segments_BT is not None:
            same_BTT = segments_BT.unsqueeze(2) == segments_BT.unsqueeze(1)
            mask_B1TT = same_BTT.tril().unsqueeze(1)
        x_BTD = self.dropout(self.embedding(tokens_BT))
        last = len(self.blocks) - 1
        for number, block in enumerate(self.blocks):
            wanted = positions_N if number == last else None
            arguments = (x_BTD, cos, sin, mask_B1TT, None, wanted)
            if self.gradient_checkpointing and self.training:
                x_BTD = checkpoint(block, *arguments, use_reentrant=False)
            else:
                x_BTD = block(*arguments)
        return cast(Tensor, self.head(self.norm(x_BTD)))

    def step(self, tokens_BT: Tensor, positions_BT: Tensor, valid_BT: Tensor, cache: KVCache) -> Tensor:
        """Read more tokens with a cache: first the prompts, then one token per row at a time.

        Args:
            tokens_BT: int64 ids, padded on the right.
            positions_BT: int64 position of each token in its own row.
            valid_BT: bool, False for padding.
            cache: keys and values of the tokens read before; these tokens are added to it.

        Returns:
            Normalised hidden states (B, T, D); `head` turns the wanted ones into logits.
        """
        T = tokens_BT.shape[1]
        start = cache.used
        cache.valid_BS[:, start : start + T] = valid_BT
        slots_S = torch.arange(start + T, device=tokens_BT.device)
        own_T1 = slots_S[start:].unsqueeze(1)
        # A padding query would attend to nothing (softmax of nothing is nan): it attends to its own slot, which nobody
        # reads.
        mask_BTS = ((slots_S <= own_T1) & cache.valid_BS[:, None, : start + T]) | (slots_S == own_T1)
        mask_B1TS = mask_BTS.unsqueeze(1)
        cos_B1TK = self.cos[positions_BT].unsqueeze(1)
        sin_B1TK = self.sin[positions_BT].unsqueeze(1)
        x_BTD = self.embedding(tokens_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, cos_B1TK, sin_B1TK, mask_B1TS, cache)
        cache.used = start + T
        return cast(Tensor, self.norm(x_BTD))
