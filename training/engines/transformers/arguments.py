"""TrainingArguments of transformers, all derived from our config in this one place."""

from __future__ import annotations

import dataclasses
from typing import Any

from transformers import TrainingArguments

from training.engines.transformers.deepspeed_file import deepspeed_document
from training.engines.transformers.options import options_of, passed_on
from training.errors import ConfigError, did_you_mean
from training.machine.environment import variables_set
from training.machine.ranks import Ranks
from training.settings.tree import TrainingConfig

LOGGING_STEPS = 10


def training_arguments(config: TrainingConfig, ranks: Ranks, num_parameters: int) -> TrainingArguments:
    """Return the arguments of transformers' Trainer. Except for machine and log, they repeat our settings.

    `max_steps` follows from the epochs once the data is known; the run sets it then.

    Args:
        config: resolved settings with the section `huggingface`.
        ranks: the processes of the run.
        num_parameters: size of the model.

    Raises:
        ConfigError: `--hf` has an unknown argument or a value that transformers refuses, or the DeepSpeed file
            contradicts the config.
    """
    options = options_of(config)
    given = passed_on(options)
    known = [field.name for field in dataclasses.fields(TrainingArguments) if field.init]
    for name, value in given.items():
        if name not in known:
            raise ConfigError(
                f"--hf {name}={value}: transformers' TrainingArguments have no {name!r}{did_you_mean(name, known)}"
            )
    run, optimizer = config.run, config.optimizer
    on_cpu = ranks.device.type == "cpu"
    # As in DeepSpeed's file, with which transformers compares them: a share may be smaller than a micro-batch may be.
    micro = min(run.batch_size, -(-run.samples_per_update // ranks.world_size))
    # DeepSpeed's integration would convert the weights to 16 bits; with it the engine casts, as everywhere.
    casts = options.deepspeed is None
    ours: dict[str, Any] = {
        "output_dir": str(run.run_dir),
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": -(-run.samples_per_update // (micro * ranks.world_size)),
        "num_train_epochs": float(run.epochs),
        "learning_rate": optimizer.learning_rate,
        "weight_decay": optimizer.weight_decay,
        "adam_beta1": optimizer.adam_beta1,
        "adam_beta2": optimizer.adam_beta2,
        "adam_epsilon": optimizer.adam_eps,
        "max_grad_norm": optimizer.max_grad_norm or 0.0,
        "warmup_steps": config.schedule.warmup_steps,
        "label_smoothing_factor": 0.0,  # our loss smooths the labels
        "average_tokens_across_devices": False,  # our loss is divided by the weight over all ranks
        "bf16": casts and run.precision == "bf16",
        "fp16": casts and run.precision == "fp16",
        "seed": run.seed % 2**32,
        "use_cpu": on_cpu,
        "logging_steps": LOGGING_STEPS,
        "logging_nan_inf_filter": False,
        "report_to": "none",  # trackers read our reporter
        "disable_tqdm": True,  # and so does the progress bar
        "eval_strategy": "no",  # the run evaluates and saves, and passes its events to transformers' callbacks
        "save_strategy": "no",
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "ddp_backend": ("gloo" if on_cpu else "cpu:gloo,cuda:nccl") if ranks.world_size > 1 else None,
        "ddp_find_unused_parameters": False,
        "ddp_broadcast_buffers": False,
        "deepspeed": deepspeed_document(config, ranks.world_size, num_parameters),
    }
    # DeepSpeed's integration needs it in a single process too.
    rank = {} if options.deepspeed is None else {"LOCAL_RANK": str(ranks.local_rank)}
    try:
        with variables_set(**rank):
            return TrainingArguments(**{**ours, **given})
    except (ValueError, TypeError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"--hf {' '.join(options.hf)}: transformers refuses it ({reason})") from error
