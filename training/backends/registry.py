"""Names of the backends and where they live. Strings only: nothing is imported before a backend is chosen."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING

from training.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from training.backends.protocol import Backend

ENTRY_POINT_GROUP = "apt_trainer.backends"


@dataclass(frozen=True)
class Entry:
    """One backend: `module:Class`, and one line for `--list-backends`."""

    target: str
    summary: str


BUILT_IN: Mapping[str, Entry] = MappingProxyType({
    "playground": Entry("training.train_hlbd_playground:PlaygroundBackend", "in this process: CPU, one GPU, or MPS"),
    "deepspeed": Entry("training.train_deepspeed:DeepSpeedBackend", "several GPUs with DeepSpeed ZeRO"),
    "huggingface": Entry(
        "training.train_hf_trainer:HuggingFaceBackend", "transformers.Trainer and the Hugging Face ecosystem around it"
    ),
    "azure": Entry("training.train_azure_ml:AzureBackend", "the same run as an Azure ML job"),
})  # fmt: skip


@cache
def third_party() -> Mapping[str, Entry]:
    """Backends that installed packages bring by the entry point group `apt_trainer.backends`."""
    return {
        p.name: Entry(p.value, f"from package {p.dist.name if p.dist else '?'}")
        for p in entry_points(group=ENTRY_POINT_GROUP)
    }


def known_names() -> tuple[str, ...]:
    """Names of all backends, built in first."""
    return tuple(dict.fromkeys([*BUILT_IN, *third_party()]))


def entry(name: str) -> Entry:
    """The entry of a backend.

    Raises:
        ConfigError: unknown name, with the choices.
    """
    found = BUILT_IN.get(name) or third_party().get(name)
    if found is None:
        raise ConfigError(
            f"--backend {name}: unknown backend; choose from {', '.join(known_names())}"
            f"{did_you_mean(name, known_names())}"
        )
    return found


def load(name: str) -> type[Backend]:
    """The backend's class. Its module must be cheap to import: torch and the like come in only when it runs.

    Raises:
        ConfigError: unknown name, or a third party's class that cannot be imported.
    """
    found = entry(name)
    module_name, _, class_name = found.target.partition(":")
    try:
        backend: type[Backend] = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        if name in BUILT_IN:
            raise
        raise ConfigError(f"--backend {name}: {found.target} ({found.summary}) cannot be imported: {error}") from error
    return backend


def describe() -> Iterator[str]:
    """One line per backend: its name, whether it can run here, what it is, and how to mend what is missing."""
    for name in known_names():
        found = entry(name)
        try:
            available = load(name).check()
            ok, told = available.ok, "; run: ".join(filter(None, (available.reason, available.fix)))
        except ConfigError as error:  # a third party's; the others are still to be shown
            ok, told = False, str(error)
        yield f"{name:<12} {'available' if ok else 'not available':<14} {found.summary}{'' if ok else f' ({told})'}"
