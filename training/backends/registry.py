"""The backends by name. Strings only: a backend's module is imported when it is chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from training.errors import ConfigError
from training.settings.registry import Entry, Registry

if TYPE_CHECKING:
    from training.backends.protocol import Backend

BACKENDS: Registry[Backend] = Registry(
    kind="backend",
    flag="--backend",
    group="apt_trainer.backends",
    built_in={
        "playground": Entry(
            "training.train_hlbd_playground:PlaygroundBackend", "in this process: CPU, one GPU, or MPS"
        ),
        "deepspeed": Entry("training.train_deepspeed:DeepSpeedBackend", "several GPUs with DeepSpeed ZeRO"),
        "huggingface": Entry(
            "training.train_hf_trainer:HuggingFaceBackend",
            "transformers.Trainer and the Hugging Face ecosystem around it",
        ),
        "azure": Entry("training.train_azure_ml:AzureBackend", "the same run as an Azure ML job"),
    },
    required=("name", "Options", "check", "plan", "run"),
)


def describe_backends() -> Iterator[str]:
    """Yield one line per backend: its name, whether it can run here, what it is, and how to install what is missing."""
    for name in BACKENDS.names():
        found = BACKENDS.entry(name)
        try:
            available = BACKENDS.load(name).check()
            ok, reason = available.ok, "; run: ".join(filter(None, (available.reason, available.fix)))
        except ConfigError as error:  # a third party's; the others are still listed
            ok, reason = False, str(error)
        yield f"{name:<12} {'available' if ok else 'not available':<14} {found.summary}{'' if ok else f' ({reason})'}"
