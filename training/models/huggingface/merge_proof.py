"""Certificate of merged adapters: the merged directory, read back as others will read it, against the adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.errors import printable
from training.language.messages import Message
from training.models.huggingface.options import HuggingFaceOptions
from training.models.protocol import SavedProof
from training.models.transformers_library import quiet_transformers, reason_of

MOST_TOKENS = 256
"""Tokens of a row that are compared: a pass over the merged model runs on the CPU."""
TOLERANCE = 1e-3
"""Largest difference of a logit that is no warning, as a share of the largest logit: rounding in fp32 makes a hundredth
of it, and weights that are merged in half precision or wrongly make more."""
TOLERANCE_IN_4_BITS = 1e-2
"""Such a share where the adapter was trained on weights in 4 bits, with which bitsandbytes computes in bf16."""


def compare_merged(
    directory: Path, adapted: nn.Module, options: HuggingFaceOptions, batches: Sequence[Mapping[str, Tensor]]
) -> SavedProof:
    """Compare the merged model in a directory with the network that was trained, in the precision of the files.

    Args:
        directory: written by transformers.
        adapted: network with its adapters, on the device of the run.
        options: its options.
        batches: tensors of training samples, with `tokens` (B, T).

    Returns:
        Largest difference of a logit and share of equal greedy tokens; a warning if they matter.
    """
    from transformers import AutoModelForCausalLM

    where = f"{directory.parent.name}/{directory.name}/"
    try:
        with quiet_transformers():
            plain = AutoModelForCausalLM.from_pretrained(
                directory, dtype="auto", trust_remote_code=options.trust_remote_code
            ).eval()
    except Exception as error:  # of the library, on files that it wrote itself
        failed = Message("{where} cannot be read back: {reason}", where=where, reason=reason_of(error))
        return SavedProof({"merge": {"error": reason_of(error)}}, (), (failed,))
    rows = [batch["tokens"][:, :MOST_TOKENS] for batch in batches]
    network: Any = adapted
    was_training, device = adapted.training, next(adapted.parameters()).device
    largest, scale, same, positions = 0.0, 0.0, 0, 0
    adapted.eval()
    try:
        with torch.no_grad():
            for tokens_BT in rows:
                expected_BTV = network(input_ids=tokens_BT.to(device), use_cache=False).logits.float().cpu()
                found_BTV = plain(input_ids=tokens_BT, use_cache=False).logits.float()
                largest = max(largest, float((expected_BTV - found_BTV).abs().max()))
                scale = max(scale, float(expected_BTV.abs().max()))
                same += int((expected_BTV.argmax(-1) == found_BTV.argmax(-1)).sum())
                positions += tokens_BT.numel()
    finally:
        adapted.train(was_training)
    tolerance = TOLERANCE_IN_4_BITS if options.qlora else TOLERANCE
    kind = str(plain.dtype).removeprefix("torch.")
    figures = {
        "largest_logit_difference": largest, "largest_logit": scale, "tolerance": tolerance,
        "greedy_agreement": same / positions, "positions": positions, "dtype": kind,
    }  # fmt: skip
    facts = {"where": where, "kind": printable(kind), "largest": largest, "same": same, "positions": positions}
    line = Message(
        "merge   {where} ({kind}) against the adapter: logits differ by {largest:.1e} at most, the same greedy token "
        "at {same:,} of {positions:,} positions",
        **facts,
    )  # fmt: skip
    if largest <= tolerance * scale and same == positions:
        return SavedProof({"merge": figures}, (line,))
    warning = Message(
        "{where} is not the model that was trained: its logits differ by {largest:.1e} (tolerance {tolerance:.1e}), "
        "and its greedy token at {others:,} of {positions:,} positions; use the adapter with its base",
        where=where, largest=largest, tolerance=tolerance * scale, others=positions - same, positions=positions,
    )  # fmt: skip
    return SavedProof({"merge": figures}, (line,), (warning,))
