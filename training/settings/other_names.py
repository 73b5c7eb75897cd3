"""Names that other training programs give to our settings, for the messages about unknown flags and keys. No torch.

Each name is one that really exists there; each answer is the flag to use here, or says why there is none.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

_NOTHING = "nothing: "
_FSDP = "nothing: FSDP is not supported; use --backend deepspeed --zero-stage 3"
_ADAPTER = "--lora, with --model DIR_OR_NAME"
_QUANTIZED = "--qlora, with --model DIR_OR_NAME"
_PACKING = "--packing, with --task text or chat"
_EVALUATION = "--validation-split; it is measured after every epoch"
_KERNELS = "--attn-implementation, with --model DIR_OR_NAME"
_MEETING = "--rdzv-endpoint HOST:PORT"
_WHICH_GPUS = "--num-gpus N, with CUDA_VISIBLE_DEVICES to say which"
_WEIGHTS = "--model DIR_OR_NAME"
_LENGTH = "--max-seq-len; what is longer is refused, or cut with --truncate"
_TARGETS = "--lora-targets, with --model DIR_OR_NAME"
_RSLORA = "--lora-rslora, with --model DIR_OR_NAME"
_DORA = "--lora-dora, with --model DIR_OR_NAME"
_LORA_PLUS = "nothing: both halves of an adapter have one learning rate"
_CACHE = "the environment variable APT_TRAINER_CACHE"
_READERS = "nothing: tokenizing uses every core of the process"
_MAPPED = "nothing: data is tokenized once and mapped from the disk, so it may be larger than memory"
_NO_PADDING = "nothing: a batch is as long as its longest sample"
_END_OF_TURN = "nothing: the token that ends a trained turn is always trained"

TRAINING_ARGUMENTS: Mapping[str, str] = {
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
    "neftune_noise_alpha": "--neftune-alpha, with --model DIR_OR_NAME",
    "torch_compile": "--backend playground --compile",
    "torch_compile_backend": "--backend playground --compile",
    "torch_compile_mode": "--backend playground --compile",
    "use_liger_kernel": "nothing: the loss is computed here, the same on every backend",
    "liger_kernel_config": "nothing: the loss is computed here, the same on every backend",
    "do_train": "nothing: the command trains",
    "do_eval": "--validation-split",
    "do_predict": "tools/verify_hlbd_model.py",
    "local_rank": "nothing: the launcher says it",
}
"""transformers' TrainingArguments that our settings decide -> the replacement to use."""

OTHER_NAMES: Mapping[str, Mapping[str, str]] = {
    "transformers": {
        **TRAINING_ARGUMENTS,
        # its example scripts, its model configs, and arguments of earlier versions
        "model_name_or_path": _WEIGHTS,
        "config_name": "--architecture FILE, with --model huggingface",
        "train_file": "--datasets FILE",
        "validation_file": "--validation-split",
        "dataset_name": "--datasets OWNER/NAME",
        "dataset_config_name": "nothing: save that configuration by save_to_disk and give its directory to --datasets",
        "tokenizer_name": "--tokenizer DIR_OR_NAME",
        "streaming": _MAPPED,
        "block_size": "--max-seq-len",
        "max_seq_length": "--max-seq-len",
        "max_train_samples": "nothing: every sample of --datasets is trained on",
        "overwrite_output_dir": "--overwrite",
        "evaluation_strategy": _EVALUATION,
        "warmup_ratio": "--warmup-steps, a number of updates",
        "logging_steps": "--report-batches",
        "logging_dir": "--run-dir",
        "run_name": "--run-dir, whose last part is the run's name",
        "no_cuda": "--device cpu",
        "per_gpu_train_batch_size": "--batch-size",
        "per_gpu_eval_batch_size": "--batch-size",
        "group_by_length": "--length-window",
        "fp16_opt_level": "--precision fp16",
        "tf32": "nothing: --precision fp32 computes in fp32, so that the curve is the same everywhere",
        "adafactor": "--optimizer",
        "push_to_hub_token": "the environment variable HF_TOKEN",
        "push_to_hub_model_id": "--push-to-hub OWNER/NAME",
        "hidden_size": "--d-model",
        "num_hidden_layers": "--num-layers",
        "num_attention_heads": "--num-heads",
        "intermediate_size": "--d-ff",
        "max_position_embeddings": "--max-seq-len",
        "rms_norm_eps": "--norm-eps",
        "tie_word_embeddings": "--tie-embeddings",
        "attention_dropout": "--dropout",
        "n_embd": "--d-model",
        "n_positions": "--max-seq-len",
    },
    "TRL": {
        "dataset_text_field": "--text-column, with --task text",
        "max_length": _LENGTH,
        "truncation_mode": "--truncate, which cuts the end",
        "assistant_only_loss": "--loss-on assistant, with --task chat",
        "completion_only_loss": "--loss-on completion, with --task chat",
        "packing_strategy": "--packing, which is best fit and never cuts a sample",
        "eval_packing": _PACKING,
        "padding_free": _PACKING,
        "pad_to_multiple_of": _NO_PADDING,
        "chat_template_path": "--chat-template FILE, with --task chat",
        "eos_token": "nothing: answers end as the chat template ends a turn; --chat-template chooses another one",
        "pad_token": "nothing: padding is never read, so any token serves",
        "dataset_num_proc": _READERS,
        "dataset_config": "nothing: save that configuration by save_to_disk and give its directory to --datasets",
        "dataset_train_split": "--datasets OWNER/NAME:SPLIT",
        "dataset_test_split": "--validation-split",
        "dataset_streaming": _MAPPED,
        "shuffle_dataset": "nothing: every epoch has an order of its own, which --seed decides",
        "loss_type": "nothing: it is the cross-entropy of the next token",
        "activation_offloading": "--gradient-checkpointing",
        "dtype": "--precision bf16; the weights stay fp32",
        "use_peft": _ADAPTER,
        "lora_r": "--lora-rank, with --model DIR_OR_NAME",
        "lora_target_modules": _TARGETS,
        "use_rslora": _RSLORA,
        "use_dora": _DORA,
        "load_in_8bit": _QUANTIZED,
        "load_in_4bit": _QUANTIZED,
        "bnb_4bit_quant_type": _QUANTIZED,
        "use_bnb_nested_quant": _QUANTIZED,
        "response_template": "--loss-on assistant, with --task chat",
    },
    "accelerate": {
        "config_file": "--config FILE",
        "multi_gpu": "--num-gpus N",
        "cpu": "--device cpu",
        "mixed_precision": "--precision bf16 or --precision fp16",
        "num_machines": "--nnodes",
        "machine_rank": "nothing: the machines that meet at --rdzv-endpoint number themselves",
        "main_process_ip": _MEETING,
        "main_process_port": _MEETING,
        "gpu_ids": _WHICH_GPUS,
        "use_deepspeed": "--backend deepspeed",
        "deepspeed_config_file": "--backend deepspeed --deepspeed-config FILE",
        "deepspeed_hostfile": "--backend deepspeed --hostfile FILE",
        "offload_optimizer_device": "--backend deepspeed --cpu-offload",
        "offload_param_device": "--backend deepspeed --param-offload",
        "gradient_clipping": "--max-grad-norm",
        "use_fsdp": _FSDP,
        "fsdp_sharding_strategy": _FSDP,
        "dynamo_backend": "--backend playground --compile",
        "num_cpu_threads_per_process": "--num-threads",
    },
    "Axolotl": {
        "micro_batch_size": "--batch-size",
        "eval_batch_size": "--batch-size",
        "num_epochs": "--epochs",
        "lr_scheduler": "--schedule",
        "cosine_min_lr_ratio": "--min-lr, a rate",
        "sequence_len": "--max-seq-len",
        "val_set_size": "--validation-split",
        "evals_per_epoch": _EVALUATION,
        "saves_per_epoch": "--save-interval (epochs) or --save-steps",
        "train_on_inputs": "--loss-on all",
        "sample_packing": _PACKING,
        "pad_to_sequence_len": _NO_PADDING,
        "adapter": _ADAPTER,
        "lora_target_linear": _TARGETS,
        "peft_use_rslora": _RSLORA,
        "peft_use_dora": _DORA,
        "loraplus_lr_ratio": _LORA_PLUS,
        "lora_model_dir": _WEIGHTS,
        "merge_lora": "--merge, with --lora",
        "roles_to_train": "--loss-on, with --task chat",
        "train_on_eos": _END_OF_TURN,
        "train_on_eot": _END_OF_TURN,
        "excess_length_strategy": _LENGTH,
        "unfrozen_parameters": "--freeze PATTERN, which names the others",
        "noisy_embedding_alpha": "--neftune-alpha, with --model DIR_OR_NAME",
        "eval_sample_packing": _PACKING,
        "sdp_attention": _KERNELS,
        "xformers_attention": _KERNELS,
        "test_datasets": "--validation-split",
        "flash_attention": _KERNELS,
        "wandb_name": "--run-dir, whose last part is the run's name",
        "mlflow_experiment_name": "--mlflow-experiment",
        "dataset_prepared_path": _CACHE,
    },
    "LLaMA-Factory": {
        "stage": "--task",
        "finetuning_type": _ADAPTER,
        "lora_target": _TARGETS,
        "quantization_bit": _QUANTIZED,
        "dataset_dir": "--datasets with the whole path",
        "template": "--chat-template, with --task chat",
        "cutoff_len": _LENGTH,
        "max_samples": "nothing: every sample of --datasets is trained on",
        "overwrite_cache": "nothing: what is cached is known by the data's content and the settings",
        "preprocessing_num_workers": _READERS,
        "val_size": "--validation-split",
        "train_on_prompt": "--loss-on all",
        "mask_history": "--loss-on last, with --task chat",
        "eval_dataset": "--validation-split",
        "tokenized_path": _CACHE,
        "neat_packing": _PACKING,
        "adapter_name_or_path": _WEIGHTS,
        "additional_target": "--lora-modules-to-save, with --lora",
        "resize_vocab": "--resize-embeddings, with --model DIR_OR_NAME",
        "export_dir": "--merge for the merged model; tools/export_model.py exports any",
        "pure_bf16": "nothing: weights and optimizer stay fp32; --precision bf16 computes in bf16",
        "flash_attn": _KERNELS,
        "plot_loss": "tools/visualize_training.py RUN",
    },
    "Unsloth": {
        "full_finetuning": "nothing: without --lora the whole model is trained",
        "use_gradient_checkpointing": "--gradient-checkpointing",
        "random_state": "--seed",
        "instruction_part": "--loss-on assistant, with --task chat",
        "response_part": "--loss-on assistant, with --task chat",
    },
    "DeepSpeed": {
        "train_micro_batch_size_per_gpu": "--batch-size",
        "gradient_clipping": "--max-grad-norm",
        "zero_optimization": "--backend deepspeed --zero-stage, or --deepspeed-config FILE",
        "offload_optimizer": "--backend deepspeed --cpu-offload",
        "offload_param": "--backend deepspeed --param-offload",
        "activation_checkpointing": "--gradient-checkpointing",
        "steps_per_print": "--report-batches",
        "wall_clock_breakdown": "--backend deepspeed --deepspeed-config FILE with this key in it",
        "num_nodes": "--nnodes; with --backend deepspeed --hostfile FILE",
        "master_addr": _MEETING,
        "master_port": _MEETING,
        "include": _WHICH_GPUS,
        "exclude": _WHICH_GPUS,
    },
    "torchrun": {
        "nproc_per_node": "--num-processes or --num-gpus",
        "node_rank": "nothing: the machines that meet at --rdzv-endpoint number themselves",
        "rdzv_backend": "nothing: it is c10d",
    },
    "PyTorch Lightning": {
        "gradient_clip_val": "--max-grad-norm",
        "accumulate_grad_batches": "--gradient-accumulation-steps",
        "max_epochs": "--epochs",
        "devices": "--num-gpus or --num-processes",
        "accelerator": "--device",
        "strategy": "--backend",
        "default_root_dir": "--run-dir",
        "ckpt_path": "--resume PATH",
    },
    "LitGPT": {
        "checkpoint_dir": "--run-dir; --resume PATH goes on from a checkpoint",
        "out_dir": "--run-dir",
    },
    "nanoGPT": {
        "n_layer": "--num-layers",
        "n_head": "--num-heads",
        "grad_clip": "--max-grad-norm",
        "decay_lr": "--schedule",
        "max_iters": "--max-steps",
        "lr_decay_iters": "--schedule",
        "warmup_iters": "--warmup-steps",
        "init_from": "--resume PATH, or --model DIR_OR_NAME",
    },
    "Megatron-LM": {
        "clip_grad": "--max-grad-norm",
        "data_path": "--datasets FILE",
        "seq_length": "--max-seq-len",
        "train_iters": "--max-steps",
        "lr_decay_style": "--schedule",
        "lr_warmup_iters": "--warmup-steps",
        "ffn_hidden_size": "--d-ff",
        "tensor_model_parallel_size": "nothing: --backend deepspeed --zero-stage 3 spreads the weights",
    },
    "other programs": {
        "gradient_clip": "--max-grad-norm",
        "max_checkpoints_to_keep": "--keep-last",
        "optimizer_type": "--optimizer",
        "optimizer_name": "--optimizer",
        "scheduler_type": "--schedule",
        "scheduler_name": "--schedule",
    },
}
"""Program -> its name of a setting -> what to use here."""


def answer(name: str, settings: Container[str] = ()) -> str:
    """Return what to use here for another program's name: `; transformers' name, here --batch-size`; else nothing.

    Args:
        name: a flag or key, with dashes or underscores.
        settings: names that are shown as keys of a file instead of flags.
    """
    plain = name.lstrip("-").replace("-", "_")
    for program, names in OTHER_NAMES.items():
        if plain in names:
            found = names[plain]
            there = f"a name of {program}"
            if found.startswith(_NOTHING):
                return f"; {there}, for which there is nothing here: {_as_keys(found.removeprefix(_NOTHING), settings)}"
            return f"; {there}, here it is {_as_keys(found, settings)}"
    return ""


def _as_keys(text: str, settings: Container[str]) -> str:
    def key(found: re.Match[str]) -> str:
        name = found[1].replace("-", "_")
        return name if name in settings else found[0]

    return re.sub(r"--([a-z][a-z0-9-]*)", key, text)
