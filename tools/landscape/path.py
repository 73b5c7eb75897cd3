"""The path of a run through its weight snapshots, read a piece at a time: it need not fit into memory."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tools.landscape.flat_weights import FlatWeights
from training.errors import CheckpointError

_PIECE = 1 << 18
"""Numbers of each snapshot that are in memory at a time."""


class Snapshot(NamedTuple):
    """The weights after some updates."""

    step: int
    file: Path


class WeightPath:
    """The snapshots of a run, as offsets from a centre.

    Args:
        snapshots: ascending by step; without the centre's own step, which is exact where a snapshot is rounded.
        weights: the model at the centre.
    """

    def __init__(self, snapshots: Sequence[Snapshot], weights: FlatWeights) -> None:
        self.snapshots = list(snapshots)
        self._weights = weights

    def __len__(self) -> int:
        return len(self.snapshots)

    def vector(self, number: int) -> Tensor:
        """Return the weights of a snapshot.

        Raises:
            CheckpointError: it is damaged, of another model, or deleted since it was listed.
        """
        with self._opened([self.snapshots[number]]) as (file,):
            named = {place.name: _read(file, place.name) for place in self._weights.places}
            return self._weights.vector(named, str(self.snapshots[number].file))

    def offsets(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield (part of the vector, offsets of each snapshot from the centre there: (P, n) fp64 on the CPU).

        Raises:
            CheckpointError: as `vector`.
        """
        with self._opened(self.snapshots) as files:
            for name, _, part in self._weights.places:
                rounded = torch.stack([_read(file, name).reshape(-1) for file in files])
                center = self._weights.center[part].cpu()
                if rounded.shape[1] != len(center):
                    raise CheckpointError(f"{self.snapshots[0].file.parent}: {name} is not of the run's model")
                for start in range(0, len(center), _PIECE):
                    end = min(start + _PIECE, len(center))
                    piece = slice(part.start + start, part.start + end)
                    yield piece, rounded[:, start:end].double() - center[start:end].double()

    def digest(self) -> str:
        """Return the BLAKE2b hash of the steps and of the files' bytes."""
        state = hashlib.blake2b(digest_size=16)
        for step, path in self.snapshots:
            state.update(str(step).encode())
            try:
                with path.open("rb") as file:
                    state.update(hashlib.file_digest(file, "blake2b").digest())
            except OSError as error:
                raise _gone(path, error) from error
        return state.hexdigest()

    @contextlib.contextmanager
    def _opened(self, snapshots: Sequence[Snapshot]) -> Iterator[list[safe_open]]:
        files: list[safe_open] = []
        with contextlib.ExitStack() as stack:
            for _, path in snapshots:
                try:
                    files.append(stack.enter_context(safe_open(path, "pt")))
                except (OSError, SafetensorError) as error:
                    raise _gone(path, error) from error
            yield files


def _read(file: safe_open, name: str) -> Tensor:
    try:
        tensor: Tensor = file.get_tensor(name)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise CheckpointError(f"a snapshot has no {name} that can be read ({error}); move it away") from error
    return tensor


def _gone(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path}: the snapshot cannot be read ({str(error).splitlines()[0]}); move it away, or try again"
    )
