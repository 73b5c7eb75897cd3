"""Short runs of the task diffusion, trained in this process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.backends.prepare import choose, prepare
from training.settings.layers import Layer


def trained_run(run_dir: Path, model: str, settings: Mapping[str, Any]) -> Path:
    """Train, and return the run's directory.

    Args:
        run_dir: to be made.
        model: family of the network.
        settings: by flat name.
    """
    choice = choose(task="diffusion", model=model)
    own = choice.config_class.from_dict({**settings, "run_dir": str(run_dir), "device": "cpu"})
    nested = own.to_dict()
    given = {
        f"{section}.{name}": nested[section][name]
        for section, values in nested.items()
        if isinstance(values, dict)
        for name in values
        if name in settings or name in ("run_dir", "device")
    }
    made = prepare(choice, [Layer("test", given)])
    result = made.backend.run(made.request)
    assert result.state == "finished"
    return run_dir
