"""Fingerprints of an update's samples and of the resulting weights, by which two runs are compared step by step."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import torch
from torch import nn

_HALF = (1 << 32) - 1


def hash_of_row(*pieces: bytes) -> int:
    """Return 64 bits of BLAKE2b over the pieces of one sample."""
    state = hashlib.blake2b(digest_size=8)
    for piece in pieces:
        state.update(len(piece).to_bytes(8, "little") + piece)
    return int.from_bytes(state.digest(), "little")


def halves(hashes: Iterable[int]) -> tuple[float, float]:
    """Return the sums of the low and the high 32 bits: floats that add up over ranks without rounding (below 2^53)."""
    low = high = 0
    for number in hashes:
        low += number & _HALF
        high += number >> 32
    return float(low), float(high)


def batch_hash(low: float, high: float) -> str:
    """Return 16 hex digits of the summed halves, independent of the samples' order and of the rank that had them."""
    return f"{int(high) & _HALF:08x}{int(low) & _HALF:08x}"


@torch.no_grad()
def weights_fingerprint(model: nn.Module) -> list[float]:
    """Return [norm of all trained weights, two projections onto fixed directions], in fp64.

    The directions depend only on a parameter's name and shape, so any engine that holds the same weights gets the same
    numbers, up to the rounding of its own arithmetic. Each component of a direction is a cosine of magnitude up to 1:
    a wrong update of any parameter changes the projections.
    """
    squares = 0.0
    projections = [0.0, 0.0]
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        flat = parameter.detach().to("cpu", torch.float64).reshape(-1)
        squares += float(flat @ flat)
        places = torch.arange(1, len(flat) + 1, dtype=torch.float64)
        for number in range(2):
            phase = hash_of_row(name.encode(), bytes([number])) / 2**64 * 2 * math.pi
            projections[number] += float(flat @ torch.cos(places * (1.0 + 0.1 * number) + phase))
    return [math.sqrt(squares), *projections]
