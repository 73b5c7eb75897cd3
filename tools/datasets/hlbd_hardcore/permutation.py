"""A keyed permutation of 0 … size-1 that is computed, not stored."""

from __future__ import annotations

import math
from hashlib import blake2b

_ROUNDS = 4
_MASK = (1 << 64) - 1


class Permutation:
    """A bijection on `range(size)`, a pure function of (size, key), in constant memory.

    A Feistel network on a rectangle of rows × columns that just holds `size` points (Black and Rogaway
    2002, "Ciphers with arbitrary finite domains"): each half-round adds a hash of one coordinate to the
    other, which can be undone and so loses no point; a point that lands outside `size` walks on.
    """

    def __init__(self, size: int, key: str) -> None:
        if size < 1:
            raise ValueError(f"a permutation needs at least one point, got size {size}")
        self.size = size
        self._rows = math.isqrt(size)
        self._columns = -(-size // self._rows)
        digest = blake2b(key.encode(), digest_size=64).digest()
        words = [int.from_bytes(digest[i : i + 8], "big") for i in range(0, 64, 8)]
        # Odd multipliers mix the low bits into the high ones, which are the ones that are used.
        self._keys = [(words[2 * i] | 1, words[2 * i + 1] | 1) for i in range(_ROUNDS)]

    def __call__(self, index: int) -> int:
        """Return the position to which `index` moves."""
        if not 0 <= index < self.size:
            raise IndexError(f"index {index} is outside 0 … {self.size - 1}")
        rows, columns = self._rows, self._columns
        while True:
            row, column = divmod(index, columns)
            for first, second in self._keys:
                mixed = (column + 1) * first & _MASK
                row = (row + ((mixed ^ mixed >> 31) * first >> 24 & 0xFFFFFFFF)) % rows
                mixed = (row + 1) * second & _MASK
                column = (column + ((mixed ^ mixed >> 31) * second >> 24 & 0xFFFFFFFF)) % columns
            index = row * columns + column
            if index < self.size:
                return index
