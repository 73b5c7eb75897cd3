"""A checkpoint's content as files that anybody can read: tensors in safetensors, all else in JSON. No pickle.

The payload is nested plain data with tensors in it. Each tensor goes to the file of its part of the engine
(`model.safetensors`, `optimizer.safetensors`), of the averaged weights (`average.safetensors`) or, for any other, to
`tensors.safetensors`, under its path joined by `/`, such as `adamw/blocks.0.attention.qkv.weight/exp_avg`; `state.json`
keeps its place by name. Two names of one tensor (tied weights) are written once and are one tensor again when read.
What JSON has no word for is marked by an object with a single `$` key: `{"$tensor": "model.safetensors:norm.weight"}`,
`{"$float": "nan"}`, `{"$tuple": […]}`, and `{"$items": [[key, value], …]}` for keys that are not text or that begin
with `$`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.checkpoints.averaged_weights import CALLBACK, WEIGHTS
from training.storage.json_files import DamagedFileError, read_json
from training.storage.tensor_files import load_tensors, save_tensors

STATE, TOKENIZER = "state.json", "tokenizer.json"
MODEL, OPTIMIZER, OTHER = "model.safetensors", "optimizer.safetensors", "tensors.safetensors"
AVERAGE = "average.safetensors"
_FILE_OF: Mapping[tuple[str, ...], str] = {
    ("engine", "model"): MODEL,
    ("engine", "optimizers"): OPTIMIZER,
    ("loop", "callbacks", CALLBACK, WEIGHTS): AVERAGE,
}


def write_payload(directory: Path, payload: Mapping[str, Any]) -> None:
    """Write a payload into a directory.

    Args:
        payload: mappings, lists, tuples, texts, numbers, booleans, None and dense tensors, nested. A `tokenizer` in it
            is written as `tokenizer.json`, as next to a finished model.

    Raises:
        TypeError: something else is in it; says where.
        OSError, SafetensorError: the disk is full or refuses.
    """
    packer = _Packer()
    state = {key: packer.pack(value, (key,)) for key, value in payload.items()}
    if "tokenizer" in state:
        _write_json(directory / TOKENIZER, state.pop("tokenizer"))
    _write_json(directory / STATE, state)
    for name, tensors in packer.files.items():
        save_tensors(tensors, directory / name, {"format": "pt"})


def read_payload(directory: Path) -> dict[str, Any]:
    """Return the payload that was written. Tensors are on the CPU and own their memory.

    Raises:
        DamagedFileError: a file is no JSON; says where.
        OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError: the files are not what
            `write_payload` wrote.
    """
    state = read_json(directory / STATE)
    if not isinstance(state, dict):
        raise DamagedFileError(directory / STATE, f"a state is a mapping, this is a {type(state).__name__}")
    if (directory / TOKENIZER).is_file():
        state["tokenizer"] = read_json(directory / TOKENIZER)
    # safetensors maps the file into memory; a clone lets the checkpoint be deleted while its tensors are in use.
    tensors = {
        name: {key: tensor.clone() for key, tensor in load_tensors(directory / name).items()}
        for name in (MODEL, OPTIMIZER, AVERAGE, OTHER)
        if (directory / name).is_file()
    }
    return {key: _unpack(value, tensors) for key, value in state.items()}


def _write_json(path: Path, document: Any) -> None:
    text = json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False)
    # A path's name on disk may hold bytes that are no text; Python keeps them as lone surrogates.
    path.write_text(text + "\n", encoding="utf-8", errors="surrogatepass")


class _Packer:
    """Turns nested data into JSON's and collects the tensors by file."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, Tensor]] = {}
        self._places: dict[tuple[Any, ...], str] = {}
        self._memory: set[int] = set()

    def pack(self, value: Any, path: tuple[str, ...]) -> Any:
        """Return the JSON form of a value that stands at `path`."""
        match value:
            case Tensor():
                return {"$tensor": self._place(value, path)}
            case None | bool() | int() | str():
                return value
            case float():
                return float(value) if math.isfinite(value) else {"$float": str(value)}
            case Mapping():
                if all(isinstance(key, str) and not key.startswith("$") for key in value):
                    return {key: self.pack(inner, (*path, key)) for key, inner in value.items()}
                items = [(self.pack(key, path), self.pack(inner, (*path, str(key)))) for key, inner in value.items()]
                return {"$items": items}
            case list():
                return [self.pack(inner, (*path, str(number))) for number, inner in enumerate(value)]
            case tuple():
                return {"$tuple": [self.pack(inner, (*path, str(number))) for number, inner in enumerate(value)]}
        raise TypeError(f"{'/'.join(path)}: a checkpoint cannot hold a {type(value).__name__}")

    def _place(self, tensor: Tensor, path: tuple[str, ...]) -> str:
        """Return `file:key` of the place where the tensor is written; one place for memory that is seen in one way."""
        seen_as = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and seen_as in self._places:
            return self._places[seen_as]
        found = (place for place in _FILE_OF.items() if path[: len(place[0])] == place[0])
        prefix, name = next(found, ((), OTHER))
        tensors = self.files.setdefault(name, {})
        key = "/".join(path[len(prefix) :])
        while key in tensors:  # "a/b" in "c" and "b" in "c/a" would have the same key
            key += "_"
        tensors[key] = self._alone(tensor)
        self._places[seen_as] = f"{name}:{key}"
        return self._places[seen_as]

    def _alone(self, tensor: Tensor) -> Tensor:
        """Return the tensor on the CPU, contiguous and sharing its memory with no other, as safetensors wants it."""
        on_cpu = tensor.detach().cpu()
        storage = on_cpu.untyped_storage()
        whole = on_cpu.is_contiguous() and storage.nbytes() == on_cpu.numel() * on_cpu.element_size()
        if not whole or storage.data_ptr() in self._memory:
            on_cpu = on_cpu.clone(memory_format=torch.contiguous_format)
        self._memory.add(on_cpu.untyped_storage().data_ptr())
        return on_cpu


def _unpack(value: Any, tensors: Mapping[str, Mapping[str, Tensor]]) -> Any:
    if isinstance(value, list):
        return [_unpack(inner, tensors) for inner in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"$tensor": place}:
            file, _, key = place.partition(":")
            return tensors[file][key]
        case {"$float": text}:
            return float(text)
        case {"$tuple": inner}:
            return tuple(_unpack(inner, tensors))
        case {"$items": items}:
            return {_unpack(key, tensors): _unpack(inner, tensors) for key, inner in items}
    return {key: _unpack(inner, tensors) for key, inner in value.items()}
