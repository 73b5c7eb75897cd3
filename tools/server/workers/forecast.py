"""The process behind estimates and first rows of data: see `tools.server.workers.limited_process`."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.server.workers.limited_process import answer_within_limits
from training.backends.prepare import config_class, config_class_of, prepare_config
from training.errors import UserError
from training.settings.tree import TrainingConfig
from training.tasks.protocol import task_of

MOST_ROWS = 50
ROWS_READ = 4
"""Rows of a file that are read for each one that is shown: some are left out, and the form is known by several."""
TEXT_BYTES = 2**16
"""Bytes of a text that are read."""
MOST_PIECE = 20_000
"""Characters of one piece that are shown."""
TASKS_TRIED = ("hlbd", "chat", "text")
"""Tasks in the order in which they are tried where nobody says which."""


def answer(request: Mapping[str, Any]) -> Any:
    """Return the answer to a request: its forecast, or rows of its data."""
    if request["what"] == "rows":
        return rows(Path(request["path"]), request["task"], request["limit"], Path(request["answer"]).parent)
    config = config_class_of(request["config"]).from_dict(request["config"], "settings")
    return estimated(config) if request["measure"] else computed(config)


def computed(config: TrainingConfig) -> dict[str, Any]:
    """Return what a run will need, as far as its settings tell."""
    from training.forecast.dry_run import forecast

    prepare_config(config)
    found = forecast(config)
    return {
        "seconds": None,
        "memory_bytes": found.memory_bytes,
        "checkpoint_bytes": found.checkpoint_bytes,
        "fits": found.fits,
        "lines": found.lines,
    }


def estimated(config: TrainingConfig) -> dict[str, Any]:
    """Return what a run will need, measured by a few of its updates."""
    from training.forecast.dry_run import ranks_that_share
    from training.forecast.estimate import estimate, lines

    found = estimate(config)
    ranks = ranks_that_share(config, found.device)
    return {
        "seconds": found.total_seconds,
        "memory_bytes": found.peak_bytes,
        "checkpoint_bytes": found.checkpoint_bytes,
        "fits": None if found.available is None else found.peak_bytes * ranks <= found.available,
        "lines": [*lines(found)],
    }


def rows(path: Path, task: str | None, limit: int, folder: Path) -> dict[str, Any]:
    """Return the first rows of a data set as a task would train on them.

    Args:
        path: the data set.
        task: name of a task; None: the first one that can read it.
        limit: number of rows.
        folder: place for a file with the beginning of the data.

    Raises:
        UserError: the task cannot read the data.
    """
    faults = []
    for name in [task] if task else TASKS_TRIED:
        try:
            return _rows(path, name, limit, folder)
        except UserError as error:
            faults.append(f"{name}: {error}" if task is None else str(error))
    raise UserError(" · ".join(faults))


def _rows(path: Path, name: str, limit: int, folder: Path) -> dict[str, Any]:
    tree = config_class(task=name)
    options = tree().data
    settings: dict[str, Any] = {"data.datasets": [str(path)]}
    if name != "hlbd":
        settings = {"data.datasets": [str(_beginning(path, limit, folder))], "data.tokenizer": "characters"}
    if hasattr(options, "truncate"):  # where a sample is cut matters less here than that it is shown
        settings |= {"data.truncate": True, "model.max_seq_len": 4096}
    config = tree.from_dict({"task": name, **settings}, "settings")
    chosen = task_of(config)
    prepared = chosen.prepare(config)
    shown = chosen.shown_samples(prepared, limit)
    return {
        "task": name,
        "lines": [str(line).replace(f"{folder}/", "") for line in prepared.introduction],
        "rows": [
            {
                "text": "".join(text for text, _ in pieces)[:MOST_PIECE],
                "tokens": [{"text": text[:MOST_PIECE], "trained": trained} for text, trained in pieces],
            }
            for pieces in shown
        ],
    }


def _beginning(path: Path, limit: int, folder: Path) -> Path:
    """Write the first rows of a data set into a file, so that data of any size is shown at once.

    Raises:
        DataError: it cannot be read.
    """
    from training.tasks.rows.find import find_source

    source = find_source(path)
    found = [row.values for row in itertools.islice(source.rows(), limit * ROWS_READ)]
    if source.kind == "plain text":
        text = str(found[0]["text"])[:TEXT_BYTES]
        made = folder / f"{path.name.partition('.')[0]}.txt"
        made.write_text(text, encoding="utf-8")
        return made
    made = folder / f"{path.name.partition('.')[0]}.jsonl"
    made.write_text("".join(json.dumps(row, default=str) + "\n" for row in found), encoding="utf-8")
    return made


if __name__ == "__main__":
    sys.exit(answer_within_limits(answer))
