"""Our settings as DeepSpeed's JSON, merged with a user's own JSON. No torch, no deepspeed.

Every setting that decides the curve comes from our config. A user's file may repeat it, say `"auto"`, or set options
that we do not manage (buckets, overlap, profilers, …); if the file contradicts our settings, the run does not start.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from training.errors import ConfigError
from training.settings.section import Section
from training.settings.tree import MOST_THREADS, Precision, TrainingConfig
from training.settings.yaml_files import MOST_BYTES
from training.storage.file_formats import JSON, format_of
from training.storage.json_files import read_bytes
from training.storage.run_files import RunFile

AUTO = "auto"
CONFIG_NAME = "deepspeed_config.json"
RUN_FILES = (
    RunFile(CONFIG_NAME),
    RunFile("zero_to_fp32.py"),
    RunFile("zero_to_torch.py"),
)  # the scripts are DeepSpeed's
LARGEST_BUCKET = 50_000_000
"""Largest number of elements reduced or gathered at once; DeepSpeed's default, half a billion, costs gigabytes."""

REFUSED: Mapping[str, str] = {
    "scheduler": "the learning rate follows --schedule; take the section out",
    "amp": "use --precision; take the section out",
    "load_universal_checkpoint": "--resume reads the checkpoint of any backend; take it out",
    "zero_optimization.offload_optimizer.ratio": "a split optimizer cannot be moved to another backend; take it out",
    "zero_optimization.zenflow": "ZenFlow updates late, which changes the curve; take it out",
}
"""Sections that are refused, with the reason."""


SECTIONS = frozenset({
    "activation_checkpointing", "aio", "autotuning", "checkpoint", "comet", "comms_logger", "compile", "csv_monitor",
    "data_efficiency", "data_types", "flops_profiler", "hybrid_engine", "pipeline", "tensor_parallel", "tensorboard",
    "wandb",
})  # fmt: skip
"""Further keys of DeepSpeed's JSON that hold mappings; DeepSpeed itself ends in a traceback where they do not."""


class DeepSpeedOptions(Section):
    """Options of --backend deepspeed."""

    zero_stage: int = Field(
        2,
        ge=0,
        le=3,
        description="What ZeRO spreads over the ranks. 0: nothing; 1: the optimizer's state; 2: gradients too; "
        "3: weights too.",
    )
    cpu_offload: bool = Field(
        False, description="Keep the optimizer's state in the host's memory and update there (ZeRO 1 to 3)."
    )
    param_offload: bool = Field(False, description="Keep the weights in the host's memory too (ZeRO 3).")
    deepspeed_config: Path | None = Field(
        None,
        description='DeepSpeed\'s own JSON, laid over what our settings give; "auto" is filled in, what contradicts '
        "our settings is refused. None: our settings alone.",
    )
    hostfile: Path | None = Field(
        None,
        description="Machines to train on, `HOST slots=GPUS` a line, reached over ssh. None: this machine alone.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA, else the CPU.")
    num_threads: int | None = Field(
        None,
        ge=1,
        le=MOST_THREADS,
        description="CPU threads of each rank; None: the cores divided among this machine's ranks.",
    )


class Managed(NamedTuple):
    """Key of DeepSpeed's JSON that our settings decide."""

    value: Any
    origin: str
    """Flag that decides it, or the reason why it is fixed."""
    is_written: bool = True
    """True: the key is written for DeepSpeed; False: it is only compared with the user's file."""


def options_of(config: TrainingConfig) -> DeepSpeedOptions:
    """Return the config's section `deepspeed`; defaults if the config belongs to another backend."""
    options = getattr(config, "deepspeed", None)
    return options if isinstance(options, DeepSpeedOptions) else DeepSpeedOptions()


def managed_keys(config: TrainingConfig, options: DeepSpeedOptions, world_size: int) -> dict[str, Managed]:
    """Return dotted key -> its value by our settings."""
    run, optimizer = config.run, config.optimizer
    micro = min(run.batch_size, -(-run.samples_per_update // world_size))
    steps = math.ceil(run.samples_per_update / (micro * world_size))
    fixed_loss = "the gradient is that of the mean over the global batch"
    return {
        # DeepSpeed requires the product of these to match. Where ours does not (an uneven share), they are rounded up;
        # DeepSpeed does not compute with them, since our loop makes the batches and decides where an update ends.
        "train_batch_size": Managed(micro * steps * world_size, "--global-batch-size"),
        "train_micro_batch_size_per_gpu": Managed(micro, "--batch-size"),
        "gradient_accumulation_steps": Managed(steps, "--gradient-accumulation-steps"),
        "gradient_clipping": Managed(optimizer.max_grad_norm or 0.0, "--max-grad-norm"),
        "zero_optimization.stage": Managed(options.zero_stage, "--zero-stage"),
        "zero_optimization.offload_optimizer.device": Managed(
            "cpu" if options.cpu_offload else "none", "--cpu-offload", options.cpu_offload
        ),
        "zero_optimization.cpu_offload": Managed(options.cpu_offload, "--cpu-offload", False),
        "zero_optimization.offload_param.device": Managed(
            "cpu" if options.param_offload else "none", "--param-offload", options.param_offload
        ),
        "zero_force_ds_cpu_optimizer": Managed(
            False, "torch's AdamW is used everywhere, so that resume is exact", options.cpu_offload
        ),
        "bf16.enabled": Managed(_is_in("bf16", run.precision), "--precision", False),
        "bfloat16.enabled": Managed(_is_in("bf16", run.precision), "--precision", False),
        "fp16.enabled": Managed(_is_in("fp16", run.precision), "--precision", False),
        "torch_autocast.enabled": Managed(False, "--precision applies autocast to the model itself", False),
        "optimizer.type": Managed("AdamW", "--optimizer", False),
        "optimizer.params.lr": Managed(optimizer.learning_rate, "--learning-rate", False),
        "optimizer.params.betas": Managed(
            [optimizer.adam_beta1, optimizer.adam_beta2], "--adam-beta1 and --adam-beta2", False
        ),
        "optimizer.params.eps": Managed(optimizer.adam_eps, "--adam-eps", False),
        "optimizer.params.weight_decay": Managed(optimizer.weight_decay, "--weight-decay", False),
        "optimizer.params.torch_adam": Managed(True, "torch's AdamW is used everywhere", False),
        "optimizer.params.adam_w_mode": Managed(True, "--optimizer adamw", False),
        "gradient_allreduce_op": Managed("mean", fixed_loss, False),
        "managed_gradient_accumulation": Managed(True, "our loop says where an update ends", False),
        "zero_optimization.compute_grad_norm": Managed(True, "every update reports it", False),
    }


def _is_in(precision: Precision, wanted: Precision) -> bool | str:
    """Return True if the precision is the wanted one; AUTO as long as the device that decides it is not known."""
    return AUTO if wanted == "auto" else wanted == precision


def deepspeed_json(
    config: TrainingConfig,
    world_size: int,
    num_parameters: int = LARGEST_BUCKET,
    options: DeepSpeedOptions | None = None,
    flag: str = "--deepspeed-config",
) -> dict[str, Any]:
    """Return the settings for DeepSpeed: ours, with the user's file merged over them.

    Args:
        config: resolved settings with the section `deepspeed`.
        world_size: number of ranks.
        num_parameters: size of the model; no bucket is larger.
        options: options to use; None: the config's section `deepspeed`.
        flag: the flag that named the user's file.

    Raises:
        ConfigError: the file cannot be read or contradicts our settings; the message lists each contradiction with
            both values.
    """
    bucket = max(1, min(LARGEST_BUCKET, num_parameters))
    options = options or options_of(config)
    managed = managed_keys(config, options, world_size)
    flat: dict[str, Any] = {
        "zero_optimization.reduce_bucket_size": bucket,
        "zero_optimization.allgather_bucket_size": bucket,
        **{key: entry.value for key, entry in managed.items() if entry.is_written},
    }
    path = options.deepspeed_config
    if path is not None:
        flat.update(_own_keys(path, config, managed, f"{flag} {path}"))
    document: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        inner = document
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = value
    return document


BATCH_SIZES: Mapping[str, str] = {
    "train_batch_size": "global_batch_size",
    "train_micro_batch_size_per_gpu": "batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
}
"""Key of DeepSpeed's JSON -> our setting of the same meaning."""


def batch_sizes_in(document: Mapping[str, Any], ranks: int) -> dict[str, int]:
    """Return our names of the batch sizes that a DeepSpeed file gives as numbers, completed as DeepSpeed does.

    Args:
        document: content of the file.
        ranks: processes that share each global batch.
    """
    found = {ours: document.get(theirs) for theirs, ours in BATCH_SIZES.items()}
    given = {name: size for name, size in found.items() if type(size) is int and size > 0}
    if "batch_size" in given and "global_batch_size" not in given:
        given["global_batch_size"] = given["batch_size"] * given.get("gradient_accumulation_steps", 1) * ranks
    return given


def _own_keys(
    path: Path, config: TrainingConfig, managed: Mapping[str, Managed], where: str
) -> Iterator[tuple[str, Any]]:
    """Yield the keys of the user's file that are not ours, after all of it was compared with our settings."""
    given = dict(_leaves(read_json(path, where)))
    conflicts: list[str] = []
    sections = {name.rpartition(".")[0] for name in (*managed, *REFUSED)} | SECTIONS
    for key, value in given.items():
        if key in sections and value != {}:
            raise ConfigError(f"{where}: {key} is {json.dumps(value)}; it should be a section, {{…}}")
        if outer := next((name for name in managed if key.startswith(f"{name}.")), None):
            raise ConfigError(f"{where}: {outer} is a section there; it should be a single value")
        for refused, reason in REFUSED.items():
            if key == refused or key.startswith(f"{refused}."):
                raise ConfigError(f"{where}: {refused}: {reason}")
        if key in managed and AUTO not in (value, managed[key].value) and not _same(value, managed[key].value):
            ours, origin, _ = managed[key]
            conflicts.append(f"{key} is {json.dumps(value)} there and {json.dumps(ours)} here ({origin})")
    if conflicts:
        raise ConfigError(f"{where} contradicts the settings: {'; '.join(conflicts)}")
    if config.run.precision == "fp16":
        for key, value in given.items():
            if key.startswith("fp16.") and key not in managed and value != AUTO:
                raise ConfigError(f"{where}: {key}: the loss is scaled as --backend playground scales it; take it out")
    for key, value in given.items():
        # A precision's section would convert the weights; here they stay fp32. The optimizer is ours.
        if key in managed or key.partition(".")[0] in ("fp16", "bf16", "bfloat16", "torch_autocast", "optimizer"):
            if key.startswith("optimizer.params.") and key not in managed:
                raise ConfigError(f"{where}: {key}: AdamW has no such setting here; take it out")
            continue
        yield key, _filled_in(where, key, value, config)


def _filled_in(where: str, key: str, value: Any, config: TrainingConfig) -> Any:
    """Return the value of a key that is not ours; "auto" is computed from the width, as in transformers."""
    if value != AUTO:
        return value
    width = getattr(config.model, "d_model", None)
    if width is None:
        raise ConfigError(
            f'{where}: {key} is "auto", which follows a d_model, and model={config.model.model} has none; give a value'
        )
    automatic = {
        "zero_optimization.reduce_bucket_size": width * width,
        "zero_optimization.stage3_prefetch_bucket_size": width * width * 9 // 10,
        "zero_optimization.stage3_param_persistence_threshold": 10 * width,
    }
    if key not in automatic:
        raise ConfigError(f'{where}: {key} is "auto", and nothing in our settings says what that is; give a value')
    return automatic[key]


def _leaves(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _same(theirs: Any, ours: Any) -> bool:
    if isinstance(theirs, str) and isinstance(ours, str):
        return theirs.lower() == ours.lower()
    if isinstance(theirs, list) and isinstance(ours, list):
        return len(theirs) == len(ours) and all(map(_same, theirs, ours))
    if isinstance(theirs, bool) or isinstance(ours, bool):
        return theirs is ours
    if isinstance(theirs, int | float) and isinstance(ours, int | float):
        return math.isclose(theirs, ours, rel_tol=1e-12)
    return bool(theirs == ours)


def read_json(path: Path, where: str) -> dict[str, Any]:
    """Read the mapping in the user's file; `where` begins the error messages.

    Raises:
        ConfigError: the file is missing, not UTF-8, not JSON or not a mapping, or has a key twice.
    """

    def refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for number, (key, _) in enumerate(pairs):
            if key in dict(pairs[:number]):
                raise ConfigError(f"{where}: key {key!r} is given twice")
        return dict(pairs)

    def refuse_constant(word: str) -> None:
        raise ConfigError(f"{where}: {word} is no number of JSON")

    def bounded(text: str) -> float:
        number = float(text)
        if not math.isfinite(number):
            raise ConfigError(
                f"{where}: {text[:20]}{'…' * (len(text) > 20)} is larger than any number that can be computed with"
            )
        return number if any(sign in text for sign in ".eE") else int(text)

    def other_format() -> str:
        found = format_of(path.expanduser())
        return "" if found in (None, JSON) else f"{found}; DeepSpeed's settings are a JSON object"

    try:
        text = read_bytes(path, MOST_BYTES).decode("utf-8-sig")
        document = json.loads(
            text,
            object_pairs_hook=refuse_repeats,
            parse_constant=refuse_constant,
            parse_int=bounded,
            parse_float=bounded,
        )
    except OSError as error:
        raise ConfigError(f"{where}: the file cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        what = f"not UTF-8 text (byte {error.start}); save the file as UTF-8"
        raise ConfigError(f"{where}: {other_format() or what}") from error
    except json.JSONDecodeError as error:
        what = f"not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        raise ConfigError(f"{where}: {other_format() or what}") from error
    except RecursionError as error:  # Python's own limit
        raise ConfigError(f"{where}: nested too deep; no setting of DeepSpeed's needs that") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{where}: DeepSpeed's settings are a JSON object, this is a {type(document).__name__}")
    return document
