"""Where the ranks of a run compute and how its state is spread over them, as a backend says. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

from training.backends.registry import BACKENDS

if TYPE_CHECKING:
    from training.settings.tree import LaunchConfig, TrainingConfig

Device = Literal["auto", "cpu", "cuda", "mps"]


class Placement(NamedTuple):
    """Layout of a run on its machines."""

    ranks: int = 1
    """Processes that share each global batch, over all machines."""
    ranks_here: int = 1
    """Processes on this machine; on CPUs their memories add up."""
    device: Device = "auto"
    num_threads: int | None = None
    """CPU threads of a rank; None: as many as the launcher or torch chooses."""
    compiled: bool = False
    """Whether the forward pass goes through torch.compile."""
    zero_stage: int | None = None
    """DeepSpeed's ZeRO stage; None: not DeepSpeed. The stage's part of the state is divided by `ranks`."""
    cpu_offload: bool = False
    param_offload: bool = False

    @classmethod
    def of_launch(cls, launch: LaunchConfig, device: Device = "auto") -> Placement:
        """Return the layout of plain data parallelism: every rank holds everything."""
        here = launch.num_processes or launch.num_gpus or 1
        return cls(here * launch.nnodes, here, "cuda" if launch.num_gpus is not None else device)


def placement_of(config: TrainingConfig) -> Placement:
    """Ask the backend of a config how it lays the run out. One that does not say holds everything on each rank."""
    backend = BACKENDS.load(config.backend)()
    place = getattr(backend, "placement", None)
    return place(config) if place is not None else Placement.of_launch(config.launch)


def wider_layouts(config: TrainingConfig) -> Iterator[tuple[TrainingConfig, str]]:
    """Yield (settings, flags that make them) that need less memory on a rank and keep the curve, from near to far."""
    backend = BACKENDS.load(config.backend)()
    wider = getattr(backend, "wider_layouts", None)
    if wider is not None:
        yield from wider(config)


def layouts(config: TrainingConfig) -> Iterator[TrainingConfig]:
    """Yield the settings of the same curve among which `--backend auto` may choose, that of the config first."""
    backend = BACKENDS.load(config.backend)()
    yield config
    every = getattr(backend, "layouts", None) or getattr(backend, "wider_layouts", None)
    if every is not None:
        for other, _ in every(config):
            yield other
