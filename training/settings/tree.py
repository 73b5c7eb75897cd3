"""The typed tree of settings. Flags, YAML keys, validation, `--help`, `--explain` and the docs table come from here.

A field's name is unique in the whole tree, so `d_model` means `model.d_model` on the command line and in YAML. Each
field says its unit and what None means; `aliases` are flag spellings that users' documents show. No torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny, ValidationError, field_validator

from training.errors import ConfigError
from training.language.messages import Language
from training.settings.error_messages import describe_fault
from training.settings.hub import HubConfig
from training.settings.section import Section
from training.settings.tracking import TrackConfig
from training.settings.yaml_files import Settings, flatten, nest, read_settings, yaml_text
from training.storage.user_paths import path_of, user_path

Precision = Literal["auto", "fp32", "bf16", "fp16"]
DEFAULT_TASK = "hlbd"
DEFAULT_MODEL = "apt"
"""Task and model family of a config that names none, as no config did before there were several."""
BATCH_SIZES = ("global_batch_size", "batch_size", "gradient_accumulation_steps")
"""The settings of `run` whose product with the number of ranks is the first of them."""
MOST_EPOCHS = 10**6
MOST_UPDATES = 10**9
MOST_THREADS = 1024
HIGHEST_RATE = 100.0
"""Highest learning rate: 300 times the largest that anything is trained with."""
MOST_SAMPLES_AT_ONCE = 2**20
"""Largest batch_size."""


class TaskOptions(Section):
    """Settings that every task has; a task's own `Options` inherit them."""

    free_to_change: ClassVar[frozenset[str]] = frozenset()
    """Settings that a resumed run may change, because the data's fingerprint tells whether they matter."""
    decides_loss: ClassVar[frozenset[str]] = frozenset({"validation_split"})
    """Settings that decide which samples and targets a loss is measured on: runs that differ in one of them have losses
    that cannot be compared."""
    in_training_loss: ClassVar[frozenset[str]] = frozenset()
    """Settings that change a training loss and not the model alone, such as label smoothing; a validation loss is
    measured without them."""

    validation_split: float = Field(
        0.0, ge=0.0, lt=1.0, description="Share of the entries held back for validation, 0 to 1."
    )
    length_window: int = Field(
        16,
        ge=1,
        le=2**20,
        description="Global batches sorted by length together, so that little is padded; 1: random order.",
    )

    if TYPE_CHECKING:  # which further settings there are depends on the task

        def __getattr__(self, name: str) -> Any: ...


class ModelOptions(Section):
    """Settings that every model family has; a family's own `Options` inherit them."""

    decides_loss: ClassVar[frozenset[str]] = frozenset()
    """As for `TaskOptions`: such as the length at which samples are cut."""
    in_training_loss: ClassVar[frozenset[str]] = frozenset()
    """As for `TaskOptions`: such as dropout."""
    draws_at_random: ClassVar[frozenset[str]] = frozenset()
    """Settings that, above zero, make a forward pass in training draw random numbers, such as dropout."""

    fits_any_weights: ClassVar[frozenset[str]] = frozenset()
    """Settings of a network that training may go on with otherwise than before: no weight's shape depends on them."""

    model: str = Field(
        DEFAULT_MODEL, description="Model family: see --list-models; package.module:Class takes your own."
    )

    if TYPE_CHECKING:  # which further settings there are depends on the family

        def __getattr__(self, name: str) -> Any: ...


class OptimizerConfig(Section):
    """Update rule of the weights."""

    optimizer: Literal["adamw", "muon"] = Field(
        "adamw",
        description="adamw: torch.optim.AdamW; muon: torch.optim.Muon on the blocks' matrices, AdamW on the rest.",
    )
    learning_rate: float = Field(
        3e-4,
        gt=0.0,
        le=HIGHEST_RATE,
        description="Base learning rate, before the schedule.",
        json_schema_extra={"aliases": ["lr"]},
    )
    weight_decay: float = Field(0.01, ge=0.0, le=100.0, description="Decoupled weight decay of the matrices.")
    adam_beta1: float = Field(0.9, ge=0.0, lt=1.0, description="AdamW: decay of the mean gradient.")
    adam_beta2: float = Field(0.95, ge=0.0, lt=1.0, description="AdamW: decay of the mean squared gradient.")
    adam_eps: float = Field(1e-8, ge=1e-30, le=1.0, description="AdamW: added to the root of the mean square.")
    muon_momentum: float = Field(0.95, ge=0.0, lt=1.0, description="Muon: momentum of the matrices' gradients.")
    max_grad_norm: float | None = Field(
        1.0, gt=0.0, le=1e9, description="Gradients are scaled down to this global norm; None: never."
    )
    stabilizer: Literal["none", "dbc_dac"] = Field(
        "none",
        description="dbc_dac: clip spiking gradient rows and compress with error feedback (docs/STABILIZER.md).",
    )
    dbc_rank: int = Field(
        96,
        ge=1,
        le=2**18,
        description="DBC-DAC: rank that a matrix gradient is compressed to; one whose smaller side is no larger stays "
        "whole.",
    )
    dbc_spike_factor: float = Field(
        4.0, gt=1.0, le=1e6, description="DBC-DAC: a row is clipped to this many times its running norm."
    )
    max_skipped_updates: int = Field(
        10,
        ge=1,
        le=MOST_UPDATES,
        description="Stop after this many updates in a row whose loss or gradient is not finite.",
    )
    ema_decay: float | None = Field(
        None,
        gt=0.0,
        lt=1.0,
        description="Decay of a moving average of the trained weights, such as 0.999: the average is validated, kept "
        "as the best and published. In the first updates it is at most (1 + n) / (10 + n). None: no average.",
    )


class ScheduleConfig(Section):
    """Learning rate over the run."""

    schedule: Literal["warm_restarts", "cosine", "linear", "constant"] = Field(
        "warm_restarts", description="Shape of the learning rate after warm-up."
    )
    min_lr: float = Field(
        1e-5, ge=0.0, le=HIGHEST_RATE, description="Lowest learning rate of the schedule; learning_rate at most."
    )
    warmup_steps: int = Field(0, ge=0, le=MOST_UPDATES, description="Updates of linear rise to the base learning rate.")
    restart_epochs: float = Field(
        10.0,
        ge=1e-6,
        le=float(MOST_EPOCHS),
        description="warm_restarts: length of the first cycle in epochs (T_0).",
        json_schema_extra={"aliases": ["t_0"]},
    )
    restart_mult: float = Field(
        2.0,
        ge=1.0,
        le=1000.0,
        description="warm_restarts: each cycle is this many times as long as the one before (T_mult).",
        json_schema_extra={"aliases": ["t_mult"]},
    )


class RunConfig(Section):
    """Length of the run, portions of the work, and directory of the results."""

    run_dir: Path = Field(
        Path("runs/default"),
        description="Directory of checkpoints, reports and the final model.",
        json_schema_extra={"aliases": ["save_dir", "output_dir"]},
    )
    epochs: int = Field(100, ge=1, le=MOST_EPOCHS, description="Passes over the training samples.")
    max_steps: int | None = Field(
        None, ge=1, le=MOST_UPDATES, description="Stop after this many optimizer updates; None: after the epochs."
    )
    batch_size: int = Field(
        32,
        ge=1,
        le=MOST_SAMPLES_AT_ONCE,
        description="Samples per rank per forward pass, at most. Where it is not given: what global_batch_size and "
        "gradient_accumulation_steps leave for each rank.",
    )
    gradient_accumulation_steps: int | None = Field(
        None,
        ge=1,
        le=2**20,
        description="Batches per optimizer update; gradients are averaged over all their tokens. None: as many as "
        "global_batch_size needs, else 1.",
        json_schema_extra={"aliases": ["gradient_accumulation"]},
    )
    global_batch_size: int | None = Field(
        None,
        ge=1,
        le=2**31,
        description="Samples per optimizer update, over all ranks and accumulated batches; it alone decides the curve. "
        "None: batch_size times gradient_accumulation_steps, however many ranks share them.",
        json_schema_extra={"aliases": ["train_batch_size"]},
    )
    precision: Precision = Field(
        "fp32",
        description="Arithmetic of the forward pass; weights and optimizer stay fp32. auto: bf16 where the hardware "
        "multiplies in it, else fp32.",
    )
    seed: int = Field(42, ge=0, lt=2**63, description="Decides the first weights, the data order and dropout.")
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass: less memory, about a third more time."
    )

    @field_validator("run_dir")
    @classmethod
    def _is_text(cls, value: Path) -> Path:
        """Refuse bytes that are no text: the record, the config and the checkpoints, which name it, are text."""
        try:
            str(value).encode()
        except UnicodeEncodeError:
            raise ValueError("should be a path in UTF-8, so that the run's files can name it") from None
        return value

    @property
    def samples_per_update(self) -> int:
        """Global batch size in samples, given or derived. The number of ranks changes neither it nor the curve."""
        return self.global_batch_size or self.batch_size * (self.gradient_accumulation_steps or 1)

    def multiplied_out(self, ranks: int, explicit: Container[str] | None = None) -> Self:
        """Return the settings with batch_size × gradient_accumulation_steps × ranks = global_batch_size.

        A size that nobody gave explicitly gives way to those that somebody did. Without a global batch size, or without
        a number of accumulated batches, nothing can contradict.

        Args:
            ranks: processes that share each global batch.
            explicit: names of the settings that the user gave; None: those that this object was made with.

        Raises:
            ConfigError: explicit sizes contradict each other; names what would multiply out.
        """
        given = self.model_fields_set if explicit is None else explicit
        whole, steps = self.global_batch_size, self.gradient_accumulation_steps
        if whole is None or steps is None or self.batch_size * steps * ranks == whole:
            return self
        if "gradient_accumulation_steps" not in given:  # batches no larger than before always fit into memory
            return self.model_copy(update={"gradient_accumulation_steps": None})
        micro, rest = divmod(whole, steps * ranks)
        if "batch_size" not in given and rest == 0 and micro <= MOST_SAMPLES_AT_ONCE:
            return self.model_copy(update={"batch_size": micro})
        raise ConfigError(self._does_not_multiply_out(whole, steps, ranks))

    def _does_not_multiply_out(self, whole: int, steps: int, ranks: int) -> str:
        product = self.batch_size * steps * ranks
        ways = [f"--global-batch-size {product}"]
        if whole % (steps * ranks) == 0:
            ways.append(f"--batch-size {whole // (steps * ranks)}")
        if whole % (self.batch_size * ranks) == 0:
            ways.append(f"--gradient-accumulation-steps {whole // (self.batch_size * ranks)}")
        return (
            f"global_batch_size={whole} is not batch_size={self.batch_size} × gradient_accumulation_steps={steps} × "
            f"{ranks} rank{'s' if ranks > 1 else ''} = {product}; set {' or '.join(ways)}, or leave "
            "--gradient-accumulation-steps out"
        )


class LaunchConfig(Section):
    """Processes that share the work. None of these settings changes the curve."""

    num_processes: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Processes (ranks) on this machine; they share each global batch. None: one for each of num_gpus.",
    )
    num_gpus: int | None = Field(
        None, ge=1, le=1024, description="GPUs of this machine to train on, a process each. None: as the device says."
    )
    nnodes: int = Field(
        1, ge=1, le=4096, description="Machines (nodes) that share the work; the same command runs on each."
    )
    rdzv_endpoint: str | None = Field(
        None, description="host:port at which several machines meet (torchrun's rendezvous). None: one machine."
    )
    rdzv_id: str = Field("apt", min_length=1, description="Name of the meeting, for several runs at one endpoint.")


class CheckpointConfig(Section):
    """Checkpoints and snapshots that are kept on disk."""

    save_interval: int | None = Field(
        25, ge=1, le=MOST_EPOCHS, description="Epochs between checkpoints (checkpoint_epoch_N); None: none by epoch."
    )
    save_steps: int | None = Field(
        None, ge=1, le=MOST_UPDATES, description="Updates between checkpoints (checkpoint_step_N); None: none by step."
    )
    keep_last: int | None = Field(
        None,
        ge=1,
        le=MOST_UPDATES,
        description="Newest checkpoints to keep, in addition to checkpoint_best; None: all.",
        json_schema_extra={"aliases": ["save_total_limit"]},
    )
    keep_best: bool = Field(
        False,
        description="Also keep checkpoint_best, by validation loss (without validation: the epoch's loss).",
    )
    load_best_model_at_end: bool = Field(
        False, description="The final model is the best one (keep_best is then on), not the last."
    )
    early_stopping_patience: int | None = Field(
        None,
        ge=1,
        le=MOST_EPOCHS,
        description="Stop after this many epochs without a better validation loss, for which validation_split must be "
        "above 0; None: never.",
    )
    snapshots: int | None = Field(
        None,
        ge=0,
        le=10_000,
        description="Weight snapshots (bf16) kept at most, for tools/loss_landscape.py; None: 64, but 0 above 2 "
        "million parameters.",
    )

    @property
    def keeps_best(self) -> bool:
        """True where checkpoint_best is written."""
        return self.keep_best or self.load_best_model_at_end


class ReportConfig(Section):
    """Report of the run."""

    report_batches: int = Field(
        10, ge=1, le=MOST_UPDATES, description="Batches between updates of experiment_report.json, at least."
    )
    answer_samples: int | None = Field(
        None,
        ge=0,
        le=MOST_UPDATES,
        description="Training samples answered freely after training, to show what was learned; 0: none. None: up to "
        "1,000, as many as fit into a tenth of the training time, or into 2 s where that is longer.",
    )
    fingerprints: bool = Field(
        False,
        description="Record a fingerprint of batch, gradient and weights at each update, by which "
        "tools/check_training_backends.py finds where two runs part.",
    )
    lang: Language | None = Field(
        None,
        description="Language of what is printed: en, zh, or both, line by line; None: en. The record, errors and this "
        "help are in English.",
    )


class TrainingConfig(Section):
    """Everything that decides a run's curve, whatever the backend.

    This class has the settings that every run has. `training.backends.prepare.config_class` makes the class with the
    options of a task, a model family and backends; `training.TrainingConfig` is that of HLBD and APT.
    """

    backend: str = Field(
        "playground",
        description="Where and how it runs: see --list-backends; auto: chosen for this machine (docs/CHOOSING.md).",
    )
    task: str = Field(
        DEFAULT_TASK, description="What is learned: see --list-tasks; package.module:Class takes your own."
    )
    model: SerializeAsAny[ModelOptions] = Field(default_factory=ModelOptions)
    data: SerializeAsAny[TaskOptions] = Field(default_factory=TaskOptions)
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig)
    run: RunConfig = Field(default_factory=RunConfig)
    launch: LaunchConfig = Field(default_factory=LaunchConfig)
    checkpoint: CheckpointConfig = Field(default_factory=CheckpointConfig)
    report: ReportConfig = Field(default_factory=ReportConfig)
    track: TrackConfig = Field(default_factory=TrackConfig)
    hub: HubConfig = Field(default_factory=HubConfig)

    def validate(self) -> None:  # type: ignore[override]  # pydantic's own `validate` is a deprecated class method
        """Check what a single field cannot see, except the batch sizes: see `with_batch_sizes_for`.

        Raises:
            ConfigError: settings that do not go together, with what to change.
        """
        if self.schedule.min_lr > self.optimizer.learning_rate:
            raise ConfigError(
                f"min_lr={self.schedule.min_lr:g} is above learning_rate={self.optimizer.learning_rate:g}; "
                "a schedule falls from the base rate to min_lr, so lower --min-lr"
            )
        if fault := self.track.fault():
            raise ConfigError(fault)
        launch = self.launch
        if launch.num_processes and launch.num_gpus and launch.num_processes != launch.num_gpus:
            raise ConfigError(
                f"num_processes={launch.num_processes} and num_gpus={launch.num_gpus}: a process drives one GPU; "
                "give one of the two, or the same number"
            )

    def refuse_patience(self, *, has_validation: bool) -> None:
        """Refuse early stopping without validation data.

        Raises:
            ConfigError: early_stopping_patience is set, and there is no such data.
        """
        if self.checkpoint.early_stopping_patience and not has_validation:
            raise ConfigError(
                f"early_stopping_patience={self.checkpoint.early_stopping_patience} needs validation data; "
                "set --validation-split (0.1 holds back a tenth), or in Python give a val_dataset"
            )

    def with_batch_sizes_for(self, ranks: int, explicit: Container[str] | None = None) -> Self:
        """Return the config with batch sizes that multiply out for so many ranks; see `RunConfig.multiplied_out`.

        Raises:
            ConfigError: explicit sizes contradict each other.
        """
        run = self.run.multiplied_out(ranks, explicit)
        return self if run is self.run else self.model_copy(update={"run": run})

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as it goes into YAML, checkpoints and reports."""
        return self.model_dump(mode="json")

    def to_yaml(self, path: str | Path | None = None) -> str:
        """Return YAML text that `from_yaml` reads back equal; write it to `path` if that is given.

        Raises:
            ConfigError: the file cannot be written.
        """
        text = yaml_text(self.to_dict())
        if path is not None:
            try:
                user_path(path).write_text(text, encoding="utf-8")
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise ConfigError(f"{path}: the config file cannot be written ({reason})") from error
        return text

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "config") -> Self:
        """Return the config in plain data. Keys may be nested or flat, as in a YAML file.

        Raises:
            ConfigError: the first fault, in one line that begins with `where`.

        Example:
            >>> TrainingConfig.from_dict({"batch_size": 8, "model": {"d_model": 64}}).run.batch_size
            8
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"{where}: maps settings to values, this is a {type(values).__name__}")
        for name in values:
            if name in cls.elsewhere.sections and name not in cls.model_fields:
                raise ConfigError(f"{where}: section {name!r} belongs to --backend {name}, which these settings lack")
        sections = {
            name: {key: getattr(value, key) for key in value.model_fields_set} if isinstance(value, Section) else value
            for name, value in values.items()
        }
        try:
            return cls.model_validate(nest(cls._with_the_model(flatten(sections, cls, where), where)))
        except ValidationError as error:
            raise ConfigError(f"{where}: {describe_fault(error, cls)}") from None

    @classmethod
    def _with_the_model(cls, settings: Settings, where: str) -> Settings:
        """Return settings completed with those of the model that they name; only `config_class` knows models."""
        return settings

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Return the config in a YAML file, on top of the defaults. Keys may be nested or flat (`d_model: 256`).

        Raises:
            ConfigError: unreadable file, unknown key, wrong value.
        """
        config = cls.from_dict(nest(read_settings(path_of("config file", path), cls)), str(path))
        config.validate()
        return config

    def curve_hash(self) -> str:
        """Return a hash of what decides the curve; where, how long and in which portions it is trained is not in it."""
        sections = self.to_dict()
        values = {name: sections[name] for name in ("model", "data", "optimizer", "schedule", "run")}
        if self.model.model == DEFAULT_MODEL:  # records of runs from before there were several keep their hash
            del values["model"]["model"]
        if values["model"].get("base_model", "") is None:  # and so do those from before a model could be gone on from
            del values["model"]["base_model"]
        if values["optimizer"]["ema_decay"] is None:  # and those from before there was an average
            del values["optimizer"]["ema_decay"]
        if self.task != DEFAULT_TASK:
            values["task"] = self.task
        where_and_how = ("run_dir", "batch_size", "gradient_accumulation_steps", "gradient_checkpointing")
        for name in (*where_and_how, "epochs", "max_steps"):
            values["run"].pop(name)
        values["run"]["global_batch_size"] = self.run.samples_per_update
        return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8).hexdigest()
