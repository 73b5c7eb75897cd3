"""Options of --backend huggingface, and the arguments of transformers that our settings decide. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from training.errors import ConfigError
from training.settings.plain_yaml import parse_yaml
from training.settings.section import Section
from training.settings.tree import MOST_THREADS, TrainingConfig

OWNED: Mapping[str, str] = {
    "output_dir": "--run-dir",
    "per_device_train_batch_size": "--batch-size",
    "auto_find_batch_size": "--batch-size; --estimate names one that fits",
    "gradient_accumulation_steps": "--gradient-accumulation-steps or --global-batch-size",
    "num_train_epochs": "--epochs",
    "max_steps": "--max-steps",
    "learning_rate": "--learning-rate",
    "lr_scheduler_type": "--schedule",
    "lr_scheduler_kwargs": "--schedule with --restart-epochs, --restart-mult and --min-lr",
    "warmup_steps": "--warmup-steps",
    "optim": "--optimizer",
    "optim_args": "--optimizer",
    "optim_target_modules": "--optimizer",
    "weight_decay": "--weight-decay",
    "adam_beta1": "--adam-beta1",
    "adam_beta2": "--adam-beta2",
    "adam_epsilon": "--adam-eps",
    "max_grad_norm": "--max-grad-norm",
    "label_smoothing_factor": "--label-smoothing",
    "average_tokens_across_devices": "nothing: every update is normalised by its tokens over all ranks",
    "bf16": "--precision bf16",
    "fp16": "--precision fp16",
    "activation_checkpointing": "--gradient-checkpointing",
    "gradient_checkpointing": "--gradient-checkpointing",
    "report_to": "--track",
    "logging_nan_inf_filter": "nothing: a loss that is not finite is reported as it is",
    "disable_tqdm": "nothing: the progress bar is the reporter's",
    "eval_strategy": "--validation-split; it is measured after every epoch",
    "eval_steps": "--validation-split; it is measured after every epoch",
    "eval_delay": "--validation-split; it is measured after every epoch",
    "eval_on_start": "--validation-split; it is measured after every epoch",
    "per_device_eval_batch_size": "--batch-size",
    "save_strategy": "--save-interval (epochs) or --save-steps",
    "save_steps": "--save-steps",
    "save_total_limit": "--save-total-limit",
    "save_only_model": "nothing: a checkpoint without its state could not be resumed",
    "enable_jit_checkpoint": "nothing: SIGTERM always writes a checkpoint",
    "load_best_model_at_end": "--load-best-model-at-end",
    "metric_for_best_model": "nothing: the best is the one with the lowest validation loss",
    "greater_is_better": "nothing: the best is the one with the lowest validation loss",
    "push_to_hub": "--push-to-hub",
    "hub_model_id": "--push-to-hub OWNER/NAME",
    "hub_private_repo": "--private",
    "hub_token": "the environment variable HF_TOKEN",
    "hub_strategy": "--push-to-hub",
    "hub_always_push": "--push-to-hub",
    "hub_revision": "--push-to-hub",
    "resume_from_checkpoint": "--resume",
    "ignore_data_skip": "nothing: a resumed run goes on with the next batch",
    "restore_callback_states_from_checkpoint": "nothing: a resumed run goes on as it would have",
    "seed": "--seed",
    "data_seed": "--seed",
    "use_cpu": "--device cpu",
    "accelerator_config": "nothing: batches are cut and shared by us, the same on every backend",
    "parallelism_config": "--num-processes or --num-gpus",
    "dataloader_drop_last": "nothing: the last batch counts with the tokens that it has",
    "dataloader_num_workers": "nothing: a batch is cut from tokens in memory when its turn comes",
    "dataloader_prefetch_factor": "nothing: a batch is cut from tokens in memory when its turn comes",
    "dataloader_persistent_workers": "nothing: a batch is cut from tokens in memory when its turn comes",
    "dataloader_multiprocessing_context": "nothing: a batch is cut from tokens in memory when its turn comes",
    "dataloader_in_order": "nothing: a batch is cut from tokens in memory when its turn comes",
    "train_sampling_strategy": "--length-window",
    "length_column_name": "--length-window",
    "remove_unused_columns": "nothing: batches are made by us",
    "label_names": "nothing: batches are made by us",
    "ddp_backend": "--device",
    "ddp_find_unused_parameters": "nothing: every parameter takes part",
    "ddp_timeout": "nothing: ranks wait half an hour for each other",
    "deepspeed": "--deepspeed FILE",
    "fsdp": "nothing: FSDP is not supported; use --deepspeed FILE, or --backend deepspeed",
    "fsdp_config": "nothing: FSDP is not supported; use --deepspeed FILE, or --backend deepspeed",
    "neftune_noise_alpha": "nothing: noise in the embedding would be another curve than the other backends'",
    "torch_compile": "--backend playground --compile",
    "torch_compile_backend": "--backend playground --compile",
    "torch_compile_mode": "--backend playground --compile",
    "use_liger_kernel": "nothing: it has no kernels for APT",
    "liger_kernel_config": "nothing: it has no kernels for APT",
    "do_train": "nothing: the command trains",
    "do_eval": "--validation-split",
    "do_predict": "tools/verify_hlbd_model.py",
    "local_rank": "nothing: the launcher says it",
}
"""Arguments of transformers that our settings decide -> the replacement to use."""


class HuggingFaceOptions(Section):
    """Options of --backend huggingface."""

    deepspeed: Path | None = Field(
        None,
        description="DeepSpeed's JSON for transformers' integration (ZeRO 1 to 3); a bare name is also looked for in "
        'configs/. "auto" is filled in, what contradicts our settings is refused. None: no DeepSpeed.',
    )
    hf: tuple[str, ...] = Field(
        (),
        description="Any other of transformers' TrainingArguments, each `key=value`; one that our settings decide is "
        "refused with the setting to use.",
        json_schema_extra={"metavar": "KEY=VALUE"},
    )
    trainer_callbacks: tuple[str, ...] = Field(
        (),
        description="transformers TrainerCallback classes to add, each `package.module:Class`.",
        json_schema_extra={"metavar": "MODULE:CLASS"},
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA, else the CPU.")
    num_threads: int | None = Field(
        None,
        ge=1,
        le=MOST_THREADS,
        description="CPU threads of each rank; None: the cores divided among this machine's ranks.",
    )


def options_of(config: TrainingConfig) -> HuggingFaceOptions:
    """Return the config's section `huggingface`; defaults if the config belongs to another backend."""
    options = getattr(config, "huggingface", None)
    return options if isinstance(options, HuggingFaceOptions) else HuggingFaceOptions()


def passed_on(options: HuggingFaceOptions) -> dict[str, Any]:
    """Return the arguments of `--hf`, with values read as in YAML: `true`, `5`, `1e-3`, `[a, b]`.

    Raises:
        ConfigError: an argument is not of the form key=value, is given twice, or is decided by another setting.
    """
    found: dict[str, Any] = {}
    for text in options.hf:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not (equals and name):
            raise ConfigError(f"--hf {text}: should be key=value, such as --hf logging_steps=50")
        if name in found:
            raise ConfigError(f"--hf {text}: {name} is given twice")
        if name in OWNED:
            raise ConfigError(f"--hf {text}: it is not passed on; use {OWNED[name]}")
        try:
            found[name] = parse_yaml(value)
        except ValueError as error:
            raise ConfigError(f"--hf {text}: the value cannot be read ({error})") from error
    return found
