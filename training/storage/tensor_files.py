"""Files of tensors in safetensors' format, with the permissions and the errors of any other file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a file that whoever the process's umask lets in can read: safetensors' own writer lets in the user alone.

    Args:
        tensors: by name; each contiguous, on the CPU and with memory of its own.
        path: does not exist yet. It is not written atomically: give a temporary name.
        metadata: texts for the file's head.

    Raises:
        OSError, SafetensorError: the disk is full or refuses.
    """
    from safetensors.torch import save_file

    with path.open("xb"):  # the system gives a new file its mode; to ask for the umask is to change it for all threads
        mode = path.stat().st_mode
    save_file(dict(tensors), path, metadata=dict(metadata))
    path.chmod(mode)


def let_the_umask_decide(directory: Path) -> None:
    """Give tensor files that a library has written, at any depth, the mode of a new file, as `save_tensors` does.

    Raises:
        OSError: the system refuses.
    """
    probe = directory / ".mode"
    with probe.open("xb"):
        mode = probe.stat().st_mode
    probe.unlink()
    for path in directory.rglob("*.safetensors"):
        path.chmod(mode)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a file of tensors onto the CPU.

    Raises:
        OSError: it is missing, or the system refuses; safetensors says "No such file" for a file that may not be read.
        SafetensorError: it is damaged.
    """
    from safetensors.torch import load_file

    with path.open("rb"):
        pass
    return load_file(path)
