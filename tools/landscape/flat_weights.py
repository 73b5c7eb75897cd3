"""A model's parameters as one vector: a point of the landscape is one addition; the model's tensors are not written."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.errors import CheckpointError

_ALIGNMENT = 64
"""Alignment in numbers. A tensor at another offset may be computed by another kernel, with other last bits."""


class Place(NamedTuple):
    """The position of a parameter in the vector."""

    name: str
    shape: tuple[int, ...]
    part: slice


class FlatWeights:
    """The parameters of a module, end to end, each beginning at a multiple of 64; the gaps are 0.

    Args:
        module: a module whose parameters have one dtype and are on one device. A tied parameter is there once.
    """

    def __init__(self, module: nn.Module) -> None:
        self._parameters = list(module.parameters())
        self.places: list[Place] = []
        end = 0
        for name, parameter in module.named_parameters():
            self.places.append(Place(name, tuple(parameter.shape), slice(end, end + parameter.numel())))
            end += math.ceil(parameter.numel() / _ALIGNMENT) * _ALIGNMENT
        self._at = torch.zeros(end, dtype=self._parameters[0].dtype, device=self._parameters[0].device)
        self.center = self.zeros()
        for place, parameter in zip(self.places, self._parameters, strict=True):
            self.center[place.part] = parameter.detach().reshape(-1)

    def zeros(self) -> Tensor:
        """Return a vector of the same length with zeros."""
        return torch.zeros_like(self._at)

    def vector(self, weights: Mapping[str, Tensor], where: str) -> Tensor:
        """Return named tensors as one vector, in the module's dtype and on its device.

        Raises:
            CheckpointError: other names or shapes than the module's; `where` names the file.
        """
        flat = self.zeros()
        for name, shape, part in self.places:
            tensor = weights.get(name)
            if tensor is None or tuple(tensor.shape) != shape:
                found = "missing" if tensor is None else f"of shape {tuple(tensor.shape)}"
                raise CheckpointError(f"{where}: {name} should have the shape {shape} and is {found}; another model's?")
            flat[part] = tensor.reshape(-1).to(flat)
        return flat

    @contextlib.contextmanager
    def borrowed(self) -> Iterator[None]:
        """Let the module compute with the weights of `move_to`; its own tensors come back untouched at the end."""
        own = [parameter.data for parameter in self._parameters]
        try:
            for place, parameter in zip(self.places, self._parameters, strict=True):
                parameter.data = self._at[place.part].view(place.shape)
            yield
        finally:
            for parameter, data in zip(self._parameters, own, strict=True):
                parameter.data = data

    def move_to(self, weights: Tensor) -> None:
        """Give the borrowed module these weights."""
        self._at.copy_(weights)

    def move_along(self, row: Tensor, direction: Tensor, amount: float) -> None:
        """Give the borrowed module the weights row + amount · direction."""
        torch.add(row, direction, alpha=amount, out=self._at)

    def digest(self) -> str:
        """Return the BLAKE2b hash of names, shapes and numbers at the centre."""
        state = hashlib.blake2b(repr([(p.name, p.shape) for p in self.places]).encode(), digest_size=16)
        state.update(self.center.cpu().view(torch.uint8).numpy().data)
        return state.hexdigest()
