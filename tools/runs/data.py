"""The settings that a run read its data by, for tools that measure or ask its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.backends.prepare import config_class
from training.checkpoints.run_settings import with_names
from training.errors import DataError
from training.settings.tree import TrainingConfig


def config_of_run(settings: Mapping[str, Any], where: str) -> TrainingConfig:
    """Return a run's settings without the section of its backend, which does not matter once the run is over.

    Args:
        settings: what the run saved, as plain data.
        where: begins the error lines.

    Raises:
        ConfigError: a setting is unknown, or the task or the model family is not installed.
    """
    known = {name: settings[name] for name in TrainingConfig.model_fields if name in settings}
    named = with_names({"model": {}, **known})
    chosen = config_class(task=named["task"], model=named["model"]["model"])
    return chosen.from_dict(named, where)


def other_data(origin: Path, files: Sequence[Path | str], flag: str) -> DataError:
    """Return the error about data files that were changed after the run.

    Args:
        origin: the run or its model.
        files: the files, as they are found now.
        flag: the tool's flag that names other files.
    """
    named = ", ".join(map(str, files)) or "the data"
    return DataError(f"{origin}: {named} no longer hold what the run was trained on; give its own data with {flag}")
