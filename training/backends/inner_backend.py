"""The backend inside a backend: the one that trains where a remote backend sends the run."""

from __future__ import annotations

from pathlib import Path

from training.backends.protocol import Backend, RemoteBackend, is_remote
from training.backends.registry import BACKENDS
from training.checkpoints.manifest import existing_form
from training.errors import ConfigError, did_you_mean
from training.settings.layers import Layer, flatten, read_yaml, resolve
from training.settings.tree import TrainingConfig


def inner_backend_of(backend: Backend, given: str | None, config_file: Path | None) -> type[Backend] | None:
    """The backend that trains for a remote one; None: `backend` trains itself.

    Args:
        backend: as `--backend` says.
        given: as `--inner-backend` says.
        config_file: may name it, in the backend's section or flat.

    Raises:
        ConfigError: unknown, itself remote, or asked of a backend that trains itself.
    """
    if not is_remote(backend):
        if given is not None:
            raise ConfigError(f"--inner-backend {given}: --backend {backend.name} trains by itself; leave it out")
        return None
    name = given or _name_in(config_file, backend.name) or backend.Options().inner_backend  # type: ignore[attr-defined]
    choices = [known for known in BACKENDS.names() if known != backend.name]
    if name not in (*choices, backend.name):
        raise ConfigError(
            f"--inner-backend {name}: unknown backend; choose from {', '.join(choices)}{did_you_mean(name, choices)}"
        )
    found = BACKENDS.load(name)
    if is_remote(found()):
        raise ConfigError(f"--inner-backend {name}: it trains nothing itself; choose from {', '.join(choices)}")
    return found


def _name_in(config_file: Path | None, backend: str) -> str | None:
    if config_file is None:
        return None
    document = read_yaml(config_file)
    section = document.get(backend)
    name = document.get("inner_backend") or (section.get("inner_backend") if isinstance(section, dict) else None)
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"{config_file}: inner_backend = {name!r} should be a backend's name")
    return name


def is_elsewhere(resume: str | bool | None) -> bool:
    """Whether `--resume NAME` names a run that is not on this machine."""
    return isinstance(resume, str) and not existing_form(Path(resume).expanduser()).exists()


def settings_elsewhere(
    backend: RemoteBackend, run: str, layers: dict[str, Layer], config_class: type[TrainingConfig]
) -> Layer:
    """What a run that is elsewhere was trained with, so that `--resume RUN` alone is enough.

    Args:
        backend: knows where it is, by the settings in `layers`.
        run: its name there.
        layers: as far as they are known.
        config_class: the tree.

    Raises:
        UserError: it cannot be read.
    """
    settings = backend.settings_of_run(run, resolve(config_class, layers).config)
    layer = flatten(settings, config_class, f"--resume {run}: its config.yaml")
    return {key: value for key, value in layer.items() if key not in ("backend", "model.vocab_size", "run.run_dir")}
