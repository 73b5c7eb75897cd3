"""What a run leaves in its directory: every part that writes there declares its files, and this module collects them.

`--overwrite` deletes just what was declared, never a user's other files. A declaration is a constant of the module that
writes the file (`RUN_FILES`), found by its name, so that nobody needs to know the writers. Such modules are light: no
torch. A third party's package declares its files by an entry point:

    [project.entry-points."apt_trainer.run_files"]
    mybackend = "my_package.my_backend:RUN_FILES"
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

GROUP = "apt_trainer.run_files"
BUILT_IN = (
    "training.record.log:RUN_FILES",
    "training.record.sample_pictures:RUN_FILES",
    "training.checkpoints.run_directory:RUN_FILES",
    "training.checkpoints.branches:RUN_FILES",
    "training.engines.deepspeed.config:RUN_FILES",
    "training.tracking.tracker_file:RUN_FILES",
    "training.tracking.tensorboard_tracker:RUN_FILES",
    "training.tracking.wandb_tracker:RUN_FILES",
    "training.experiments.comparison:RUN_FILES",
    "training.experiments.store.annotations:RUN_FILES",
    "training.experiments.store.artefacts:RUN_FILES",
    "training.azure.service.job_file:RUN_FILES",
    "training.loop.weight_snapshots:RUN_FILES",
    "tools.landscape.directory:RUN_FILES",
    "tools.server.report.file:RUN_FILES",
)
"""`module:constant` of the project's own declarations."""
_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class RunFile:
    """A file or directory, or several of a kind, that a part of the program writes into a run directory."""

    pattern: str
    """Name in the run directory, or a pattern of `Path.glob` such as `logs/events.out.tfevents.*`."""
    shows_run: bool = False
    """Whether a directory with it holds a run, which a new run must not write over."""
    is_taken_over: bool = False
    """Whether a new run replaces it, or deletes what lies in it, where no other file shows that it is a run's: then it
    may be the user's own, and a run that would take it over is refused."""
    artefact: str = ""
    """Kind of thing that the run has made with it, such as `model`, for the list of a run's artefacts; of a directory
    that no checksums hold together, each file is one. Empty: it is no artefact."""
    trained_elsewhere: str = ""
    """For the mark of a run whose checkpoints are not in the directory: what its record is, where the checkpoints are
    and the command that brings them here, with `{run_dir}` for the directory. Empty: it is no such mark."""

    def found_in(self, run_dir: Path) -> list[Path]:
        """Return what is there, in order of name; a link counts, whatever it points to."""
        if not _WILDCARD.search(self.pattern):
            path = run_dir / self.pattern
            return [path] if os.path.lexists(path) else []  # `glob` passes over links that lead nowhere
        return sorted(run_dir.glob(self.pattern))


@cache
def run_files() -> tuple[RunFile, ...]:
    """Return all declarations, the project's own first, in the order of `BUILT_IN`.

    A third party's declaration that cannot be read is named on stderr, once, and left out: its files then stay.
    """
    found: list[RunFile] = []
    for target in BUILT_IN:
        found += _declared(target)
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            found += _declared(point.value)
        except Exception as error:  # a third party's module can raise anything while it is imported
            package = point.dist.name if point.dist else "?"
            print(
                f"warning: {point.value} (from package {package}) does not say which files its runs leave ({error}); "
                "--overwrite will not delete them",
                file=sys.stderr,
            )
    return tuple(found)


def _declared(target: str) -> Iterable[RunFile]:
    module, _, name = target.partition(":")
    files: Iterable[RunFile] = getattr(importlib.import_module(module), name)
    files = tuple(files)
    wrong = [file for file in files if not isinstance(file, RunFile)]
    if wrong:
        raise TypeError(f"{wrong[0]!r} is not a RunFile")
    for file in files:
        _refuse_escape(file)
    return files


def _refuse_escape(file: RunFile) -> None:
    """Refuse a pattern that a slip would turn into the deletion of other files: everything, or another directory.

    Raises:
        ValueError: it leaves the run directory, or begins with a wildcard.
    """
    parts = Path(file.pattern).parts
    if not parts or Path(file.pattern).is_absolute() or ".." in parts or _WILDCARD.match(parts[0]):
        raise ValueError(f"{file.pattern!r} is not the name of something in a run directory")
