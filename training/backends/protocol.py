"""The backend protocol: where a run happens and who owns its loop. The whole plug-in surface is this file.

A backend never decides *what* is trained: model, data order, loss and schedule come from the config alone, so the
same config gives the same curve on every backend.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeGuard

from training.errors import ConfigError
from training.settings.section import Section
from training.settings.tree import TrainingConfig


@dataclass(frozen=True)
class Availability:
    """Answer to the question whether a backend can run on this machine."""

    ok: bool
    reason: str = ""
    """Reason why not: "deepspeed is not installed"."""
    fix: str = ""
    """Command that installs what is missing: "pip install -e '.[deepspeed]'"."""


class Feature(enum.Enum):
    """Something that a config can ask for and a backend may be unable to do; the value is what users read."""

    STABILIZER = "stabilizer dbc_dac"
    MUON = "optimizer muon"
    FP16 = "precision fp16"
    RESUME = "--resume"
    WEIGHT_AVERAGE = "ema_decay (an average of the weights)"


def requested_features(config: TrainingConfig, resume: bool) -> frozenset[Feature]:
    """Return the features that a config needs."""
    wanted = {
        Feature.STABILIZER: config.optimizer.stabilizer == "dbc_dac",
        Feature.MUON: config.optimizer.optimizer == "muon",
        Feature.FP16: config.run.precision == "fp16",
        Feature.RESUME: resume,
        Feature.WEIGHT_AVERAGE: config.optimizer.ema_decay is not None,
    }
    return frozenset(feature for feature, is_wanted in wanted.items() if is_wanted)


def refuse_average_of_spread_weights(config: TrainingConfig, stage: int | None, backend: str, way_out: str) -> None:
    """Refuse an average of the weights where no rank has them whole.

    Args:
        config: settings of the run.
        stage: its ZeRO stage; None: no ZeRO.
        backend: name of the backend, for the error.
        way_out: what to set instead.

    Raises:
        ConfigError: `ema_decay` is set, and ZeRO 3 spreads the weights over the ranks.
    """
    if stage == 3 and config.optimizer.ema_decay is not None:
        raise ConfigError(
            f"--backend {backend} cannot do {Feature.WEIGHT_AVERAGE.value}: ZeRO 3 spreads the weights over the ranks, "
            f"and none has them whole to average; {way_out}, or --ema-decay none"
        )


LAUNCH_DIR = "LAUNCH_DIR"
"""In a plan's command: the directory made when it is carried out, alone or before a `/`."""
LOCAL_ADDRESS = "LOCAL_ADDRESS"
"""In a plan's command: this machine's address on the way to `LaunchPlan.endpoint`."""
IS_ENDPOINT = "IS_ENDPOINT"
"""In a plan's command: `true` on the machine that the endpoint names and that opens the meeting, `false` on others."""

FREE_PORT = "FREE_PORT"
"""In a plan's command: a port of this machine on which nothing listens."""


@dataclass(frozen=True)
class LaunchPlan:
    """Processes to start for a backend. Pure data: `--dry-run` prints it, `training.launch.launcher` carries it out.

    The workers re-enter the front door: the arguments that name the resolved config file are added to the command.
    """

    command: tuple[str, ...]
    """A launcher with its options, and last the script that every worker runs."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that the launcher needs (threads, accelerator); what the user has set in the environment wins. Settings
    travel in the resolved config file."""
    processes: int = 1
    """Number of workers on this machine."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device that each worker computes on. cuda: there must be a GPU for each; auto: if the machine has any GPU."""
    endpoint: str | None = None
    """host:port where the launchers of several machines meet; no other program may listen there."""
    directory: str | None = None
    """Parent of `LAUNCH_DIR`: a place that all machines share, if this one starts workers on others. None: among
    the temporary files."""


@dataclass(frozen=True)
class RunRequest:
    """One call of the front door: the config, and what to do with the run directory."""

    config: TrainingConfig
    resume: bool = False
    resume_from: Path | None = None
    """The checkpoint to resume from; None: the newest good one of the run directory."""
    start_from: Path | None = None
    """A run directory that is copied into the run directory if that has no checkpoint to resume from."""
    overwrite: bool = False
    stop_after: int | None = None
    """Epoch, from 1, after which the run saves and stops; None: it goes on to its end."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """Dotted key of a setting -> the source that set it, for messages."""


@dataclass(frozen=True)
class RunResult:
    """End of a run."""

    state: str
    """`finished`, or `stopped` (a signal or a callback asked for it; a checkpoint was written)."""
    step: int
    exit_code: int = 0
    figures: Mapping[str, Any] = field(default_factory=dict)


class Backend(Protocol):
    """One way to run a config. Third parties register theirs as an `apt_trainer.backends` entry point."""

    name: ClassVar[str]
    Options: ClassVar[type[Section]]
    """Own settings of the backend: one YAML section and one group of flags, named after the backend."""
    unsupported: ClassVar[Mapping[Feature, str]]
    """Features that the backend cannot do, with the reason that the user reads."""
    preset: ClassVar[str | None]
    """Preset in configs/ that lies under the user's settings. It is used with any task and model family, so it has no
    settings of theirs."""

    @classmethod
    def check(cls) -> Availability:
        """Say whether the backend can run here. Cheap, offline, never raises."""
        ...

    def validate(self, config: TrainingConfig) -> None:
        """Refuse settings that the backend cannot honour, before anything is written.

        Raises:
            ConfigError: the first such setting.
        """
        ...

    def plan(self, config: TrainingConfig) -> LaunchPlan | None:
        """Return the processes to start, without starting them; None: the run happens in this process."""
        ...

    def run(self, request: RunRequest) -> RunResult:
        """Train, and return how the run ended."""
        ...

    # Optional, asked by the forecasts: `placement(config) -> Placement`, where the ranks compute and how their state
    # is spread (without it: everything on each rank), and `wider_layouts(config)`, settings that spread it further.
    # Optional, asked by `--backend auto`: `layouts(config)`, all settings of the same curve among which it may choose,
    # as `wider_layouts` yields them (without it: the config itself and its wider layouts).
    # Optional, for a backend with a settings file of its own: `batch_sizes_in_file(config, ranks)`, the batch sizes in
    # that file, by our names, and the file as it is named to the user; None: there is no file.


class RemoteBackend(Backend, Protocol):
    """A backend that sends the run elsewhere, where the backend that its option `inner_backend` names trains it.

    The config then also has the inner backend's section, over the inner backend's preset. Nothing is trained on this
    machine, so nothing is required of it: no GPUs, no trackers, no estimate.
    """

    trains_elsewhere: ClassVar[bool]

    def settings_of_run(self, run: str, config: TrainingConfig) -> Mapping[str, Any]:
        """Return the resolved settings, nested, of a run that is there, for `--resume RUN`.

        Raises:
            UserError: there is no such run, or it cannot be reached.
        """
        ...

    def dry_run(self, request: RunRequest) -> Iterable[str]:
        """Yield lines that say what would be sent; asks no service."""
        ...


def is_remote(backend: Backend) -> TypeGuard[RemoteBackend]:
    """Return True where a backend's runs are trained elsewhere."""
    return bool(getattr(backend, "trains_elsewhere", False))
