#!/usr/bin/env python3
"""Tokens per second and share of a GPU's arithmetic (MFU) of language models of 125 million parameters, in bf16.

    python benchmarks/gpu_language.py [--batch-size 16] [--length 1024] [--updates 30]

It needs an NVIDIA GPU. Our loop trains APT and a Llama of transformers from scratch on full rows; the Llama with
PyTorch's attention kernels (sdpa), and with flash_attention_2 where the package flash-attn is installed. The model's
work is 6 N + 12 L D T floating point operations a token (N parameters, L layers of width D, T tokens a row; PaLM, arXiv
2204.02311). It is divided by what a large matrix product reaches on this GPU in the same precision, measured in the
same run, and by the data sheet's figure where the GPU is a known one.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import numpy as np
import torch

from benchmarks.workload import UpdateTimes, config_of, parse, trainer_of
from training.tasks.language_modeling import LanguageModeling
from training.tasks.protocol import Prepared, family_of
from training.tasks.token_dataset import TokenDataset

WARM_UP = 5
DATA_SHEET = {
    "A100": 312e12, "H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "L4": 121e12, "L40S": 362e12,
    "RTX 3090": 71e12, "RTX 4090": 165e12, "A10": 125e12, "B200": 2250e12,
}  # fmt: skip
"""Dense bf16 products with fp32 sums, in floating point operations a second, by a part of the GPU's name."""


def data_sheet_figure(name: str) -> float | None:
    """Return a GPU's highest arithmetic in bf16; None: it is not a known one. The longest fitting name counts."""
    words = f"{name} "
    fitting = [part for part in DATA_SHEET if f"{part} " in words or f"{part}-" in words]
    return DATA_SHEET[max(fitting, key=len)] if fitting else None


def product_speed(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """Return the operations a second of a product of two square matrices, the median of ten."""
    a_NN, b_NN = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(13):
        synchronize(device)
        started = time.perf_counter()
        torch.mm(a_NN, b_NN)
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(seconds[3:])


def measured_device(benchmark: str, options: argparse.Namespace) -> tuple[torch.device, float, str]:
    """Return the device to measure on, its speed in a matrix product in flop/s, and its name; they are printed.

    Args:
        benchmark: name of the benchmark, for the refusal where there is no GPU.
        options: `miniature` (then it is the CPU) and `precision`.
    """
    if not options.miniature and not torch.cuda.is_available():
        print(f"{benchmark}: no NVIDIA GPU here; --miniature shows on a CPU that it runs", file=sys.stderr)
        raise SystemExit(2)
    device = torch.device("cpu" if options.miniature else "cuda")
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[options.precision]
    speed = product_speed(device, dtype, 128 if options.miniature else 8192)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}: {speed / 1e12:.3g} Tflop/s in a matrix product, {options.precision}; torch {torch.__version__}")
    return device, speed, name


def synchronize(device: torch.device) -> None:
    """Wait for the GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def llama_config(folder: Path, options: argparse.Namespace) -> Path:
    """Write the config of a Llama of APT's shape; return its path."""
    from transformers import LlamaConfig

    config = LlamaConfig(
        vocab_size=options.vocabulary, hidden_size=options.width, intermediate_size=feed_forward(options),
        num_hidden_layers=options.layers, num_attention_heads=options.heads, num_key_value_heads=options.heads,
        max_position_embeddings=options.length, tie_word_embeddings=True, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    path = folder / "llama.json"
    path.write_text(config.to_json_string(use_diff=False), encoding="utf-8")
    return path


def feed_forward(options: argparse.Namespace) -> int:
    """Return the width of the feed-forward layers."""
    return int(options.width) * 8 // 3


def networks(folder: Path, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the settings of each network by its name."""
    llama = {"model": "huggingface", "architecture": str(llama_config(folder, options))}
    found = {
        "APT": {
            "model": "apt", "d_model": options.width, "num_layers": options.layers, "num_heads": options.heads,
            "d_ff": feed_forward(options),
        },
        "Llama, sdpa": {**llama, "attn_implementation": "sdpa"},
    }  # fmt: skip
    if options.miniature or importlib.util.find_spec("flash_attn") is None:
        print("Llama, flash_attention_2: left out, for it needs a GPU and the package flash-attn")
    else:
        found["Llama, flash_attention_2"] = {**llama, "attn_implementation": "flash_attention_2"}
    return found


def prepare(settings: Mapping[str, Any], folder: Path, options: argparse.Namespace) -> Prepared:
    """Return full rows of random tokens for a network; no tokenizer takes part."""
    config = config_of(
        {
            "task": "text", **settings, "vocab_size": options.vocabulary, "max_seq_len": options.length,
            "batch_size": options.batch_size, "epochs": 10**6, "max_steps": WARM_UP + options.updates,
            "precision": options.precision, "gradient_checkpointing": options.gradient_checkpointing,
        },
        str(folder),
    )  # fmt: skip
    family = family_of(config)
    rows = np.random.default_rng(0).integers(0, options.vocabulary, (4 * options.batch_size, options.length + 1))
    data = TokenDataset(list(rows.astype(np.int32)), [1] * len(rows))
    objective = LanguageModeling(family, config.model, options.vocabulary)
    return Prepared(config, family, objective, data, fingerprint="random", vocabulary=options.vocabulary)


def work_per_token(parameters: int, options: argparse.Namespace) -> float:
    """Return the floating point operations of a token's forward and backward pass, without recomputation."""
    return 6.0 * parameters + 12.0 * float(options.layers * options.width * options.length)


def main(argv: Sequence[str] | None = None) -> None:
    """Print each network's speed and MFU."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--updates", type=int, default=30, help="timed updates of each network")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--length", type=int, default=1024, help="tokens of a row")
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=50257)
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp16", "fp32"])
    parser.add_argument("--gradient-checkpointing", action="store_true")
    small = {
        "updates": 3, "batch_size": 2, "length": 32, "width": 32, "layers": 2, "heads": 2, "vocabulary": 100,
        "precision": "fp32",
    }  # fmt: skip
    options = parse(parser, small, argv)
    device, speed, name = measured_device("gpu_language", options)
    with tempfile.TemporaryDirectory() as folder:
        for network, settings in networks(Path(folder), options).items():
            measure(network, prepare(settings, Path(folder) / network, options), device, speed, name, options)


def measure(
    network: str, prepared: Prepared, device: torch.device, speed: float, gpu: str, options: argparse.Namespace
) -> None:
    """Train a network and print its figures."""
    times = UpdateTimes()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    trainer = trainer_of(prepared, times, device=str(device))
    try:
        trainer.make_updates()
    finally:
        trainer.close()
    seconds = statistics.median(times.seconds[WARM_UP:])
    tokens = options.batch_size * options.length / seconds
    done = work_per_token(trainer.num_parameters, options) * tokens
    sheet = data_sheet_figure(gpu) if options.precision != "fp32" else None
    of_sheet = f", {done / sheet:.1%} of the data sheet" if sheet is not None else ""
    memory = f", {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB" if device.type == "cuda" else ""
    print(
        f"{network}: {trainer.num_parameters:,} parameters, {seconds * 1e3:.2f} ms per update, {tokens:,.0f} tokens/s, "
        f"MFU {done / speed:.3f} of the matrix product{of_sheet}{memory}",
        flush=True,
    )


if __name__ == "__main__":
    main()
