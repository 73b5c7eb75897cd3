"""Pictures of samples that a run draws as it learns: their files and names. No torch.

    RUN/samples/step_000128.png           the one picture after 128 updates
    RUN/samples/step_000128_NAME.png      one of several

The record names them (event `samples`), so that every viewer shows those that count: a resumed run draws again what was
drawn after its checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from training.storage.run_files import RunFile

SAMPLES_NAME = "samples"
RUN_FILES = (RunFile(SAMPLES_NAME, is_taken_over=True, artefact="samples"),)
MOST_BYTES = 32 * 2**20
"""Size of a picture from which no viewer reads it."""
_NAME = re.compile(r"step_(\d{6,18})(_[a-z0-9_]{1,60})?\.png")


class SamplePicture(NamedTuple):
    """A picture of samples after an update."""

    step: int
    name: str
    """Name of the file in the run's `samples/`."""

    def path(self, run_dir: Path) -> Path:
        """Return the path of the file."""
        return run_dir / SAMPLES_NAME / self.name


def file_name(step: int, name: str | None = None) -> str:
    """Return the name of a picture's file.

    Args:
        step: updates done.
        name: name of the picture among several, of small letters, digits and `_`; None: it is the only one.

    Raises:
        ValueError: no file can have this name.

    Example:
        >>> file_name(128), file_name(128, "classes")
        ('step_000128.png', 'step_000128_classes.png')
    """
    made = f"step_{step:06d}{f'_{name}' if name is not None else ''}.png"
    if not _NAME.fullmatch(made):
        raise ValueError(f"{name!r} is no name of a picture; take small letters, digits and _")
    return made


def pictures_in(entries: Iterable[Mapping[str, Any]]) -> list[SamplePicture]:
    """Return the pictures that a record names, in the order of their updates; other names are left out.

    Args:
        entries: the report's `sample_files`: `step` and `files` of each.
    """
    found = [
        SamplePicture(entry["step"], path.removeprefix(f"{SAMPLES_NAME}/"))
        for entry in entries
        for path in entry["files"]
        if path.startswith(f"{SAMPLES_NAME}/") and _NAME.fullmatch(path.removeprefix(f"{SAMPLES_NAME}/"))
    ]
    return sorted(found)


def files_of_steps(run_dir: Path) -> list[tuple[int, Path]]:
    """Return (update, file) of all pictures in a run's directory, in order, whether or not the record names them."""
    found = ((_NAME.fullmatch(path.name), path) for path in (run_dir / SAMPLES_NAME).glob("step_*.png"))
    return sorted((int(name[1]), path) for name, path in found if name)


def spread(pictures: Sequence[SamplePicture], most: int) -> list[SamplePicture]:
    """Return at most so many pictures, evenly chosen, with the first and the last one."""
    if len(pictures) <= most:
        return list(pictures)
    return [pictures[round(n * (len(pictures) - 1) / (most - 1))] for n in range(most)]
