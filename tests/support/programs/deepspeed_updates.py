"""The same updates by plain torch and by DeepSpeed in every layout.

Run by torchrun in tests/training/engines/deepspeed/test_engine.py:

python -m torch.distributed.run --nproc-per-node 2 tests/support/programs/deepspeed_updates.py DIRECTORY

Rank 0 prints one JSON line: layout -> what it did. Each DeepSpeed layout makes 24 updates; a fresh engine goes on from
the state after 12, and another fresh engine from the state that the layout before it had then.
"""

from __future__ import annotations

import copy
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import numpy as np
import torch
from torch import nn

from apt_model.config import ModelConfig
from apt_model.tokenizer import DynamicTagTokenizer
from tests.support.small_apts import language_modeling
from training.backends.prepare import config_class
from training.engines.deepspeed.engine import DeepSpeedEngine
from training.engines.protocol import UpdatingEngine
from training.engines.results import UpdateResult
from training.engines.torch_engine import TorchEngine
from training.machine.ranks import Ranks
from training.settings.tree import TrainingConfig
from training.tasks.hlbd.dataset import HLBDDataset
from training.tasks.hlbd.files import Sample
from training.tasks.objective import Batch, LossSum
from training.tasks.rank_batches import Feed
from training.train_deepspeed import DeepSpeedBackend

LAYOUTS: dict[str, dict[str, Any]] = {
    "zero_0": {"zero_stage": 0},
    "zero_1": {"zero_stage": 1},
    "zero_2": {"zero_stage": 2},
    "zero_3": {"zero_stage": 3},
    "zero_1_offload": {"zero_stage": 1, "cpu_offload": True},
    "zero_2_offload": {"zero_stage": 2, "cpu_offload": True},
    "zero_3_offload": {"zero_stage": 3, "cpu_offload": True, "param_offload": True},
    "zero_0_fp16": {"zero_stage": 0, "precision": "fp16"},
    "zero_2_bf16": {"zero_stage": 2, "precision": "bf16"},
    "zero_2_fp16": {"zero_stage": 2, "precision": "fp16"},
}
UPDATES, HALF = 24, 12
NOT_FINITE, NOT_FINITE_GRADIENT = 5, 7
"""Updates (from 0) whose loss on one rank, or whose gradient alone, is not finite."""

SAMPLES = [Sample(f"问题{n}" * (1 + n % 3), "答" * (1 + n * n % 7), "m", n) for n in range(37)]
TOKENIZER = DynamicTagTokenizer.from_texts(t for s in SAMPLES for t in s[:2])
DATASET = HLBDDataset(SAMPLES, TOKENIZER, 64)
TASK = language_modeling(
    ModelConfig(d_model=16, num_layers=1, num_heads=2, d_ff=32, max_seq_len=64, vocab_size=TOKENIZER.vocab_size)
)


def make(ranks: Ranks, directory: Path, layout: dict[str, Any] | None, precision: str) -> UpdatingEngine:
    """Plain torch (no layout) or DeepSpeed, with the same first weights."""
    config: TrainingConfig = config_class(DeepSpeedBackend).from_dict({
        "optimizer": {"learning_rate": 0.001},
        "run": {"run_dir": str(directory), "precision": precision, "batch_size": 4, "global_batch_size": 16},
        "deepspeed": layout or {},
    })  # fmt: skip
    torch.manual_seed(0)
    model = TASK.build_model()
    engine = DeepSpeedEngine(model, config, ranks) if layout else TorchEngine(model, config, ranks)
    if precision == "fp16":
        # Far below an overflow, which would come sooner on several ranks: each one's gradients are times their number.
        state = copy.deepcopy(ranks.broadcast(engine.state_dict()))
        state["scaler"]["scale"] = 1024.0
        engine.load_state_dict(state)
    return engine


def updates(engine: UpdatingEngine, first: int, last: int) -> list[dict[str, Any]]:
    """Global batches of 16 samples in several portions, now and then of 3 or of a single one."""
    feed = Feed(TASK, DATASET, engine.ranks, 4)
    made = []
    for step in range(first, last):
        count = 1 if step == 2 else 3 if step % 5 == 0 else 16
        indices = np.random.default_rng(step).permutation(len(SAMPLES))[:count]
        batches = list(feed.batches(indices, lambda number, step=step: step * 100 + number))  # type: ignore[misc]
        learning_rate = 0.001 * (1 + step % 3) / 3
        made.append(engine.update(batches, _loss(step, batches, engine.ranks), learning_rate, feed.weight(indices)))
    return [_plain(result) for result in made]


def _loss(step: int, batches: Sequence[Batch], ranks: Ranks) -> Any:
    def loss(model: nn.Module, batch: Batch) -> LossSum:
        result = TASK.loss(model, batch)
        if step == NOT_FINITE and ranks.is_main and batch.seed == batches[0].seed:
            # The gradient of a constant is zero: only the loss itself shows that something is wrong.
            return LossSum(result.loss + math.inf, result.sums)
        if step == NOT_FINITE_GRADIENT:
            # sqrt has an infinite slope at 0, where its value is a fine number.
            return LossSum(result.loss + (result.loss * 0.0).sqrt(), result.sums)
        return result

    return loss


def _plain(result: UpdateResult) -> dict[str, Any]:
    figures = ("loss", "grad_norm", "tokens", "weight", "skipped", "clipped")
    return {**{name: getattr(result, name) for name in figures}, "accuracy": result.metrics["accuracy"]}


def weights_of(engine: UpdatingEngine) -> dict[str, Any]:
    """All weights, on rank 0."""
    state = engine.state_dict()
    return {name: tensor.tolist() for name, tensor in state["model"].items()} if engine.ranks.is_main else {}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two nested states are the same bit for bit."""
    if one.keys() != other.keys():
        return False
    return all(
        same(a, b) if isinstance(a, dict) else torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in ((one[key], other[key]) for key in one)
    )


def run_layout(
    ranks: Ranks, directory: Path, layout: dict[str, Any], precision: str, before: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what is told of a layout, the state that it had after half of its updates)."""
    engine = make(ranks, directory, layout, precision)
    told: dict[str, Any] = {"updates": updates(engine, 0, HALF)}
    state = copy.deepcopy(ranks.broadcast(engine.state_dict()))
    told["updates"] += updates(engine, HALF, UPDATES)
    told["weights"] = weights_of(engine)
    validation = list(Feed(TASK, DATASET, ranks, 4).batches(np.arange(9)))
    told["evaluation"] = engine.evaluate(validation, TASK.loss).loss
    bare = engine.model()
    if ranks.is_main:
        told["model_is_whole"] = {n: p.tolist() for n, p in bare.state_dict().items()} == told["weights"]
        told["names"] = [name for name, _ in bare.named_parameters()]

    resumed = make(ranks, directory, layout, precision)
    resumed.load_state_dict(state)
    again = resumed.state_dict()
    told["state_comes_back"] = not ranks.is_main or same(state, again)
    told["resumed"] = updates(resumed, HALF, UPDATES)
    told["resumed_weights_are_the_same"] = weights_of(resumed) == told["weights"]

    moved = make(ranks, directory, layout, precision)
    moved.load_state_dict(before)
    told["moved"] = updates(moved, HALF, UPDATES)
    return told, state


def main() -> None:
    directory = Path(sys.argv[1])
    torch.set_num_threads(1)
    ranks = Ranks.join(torch.device("cpu"))
    told: dict[str, Any] = {}
    states: dict[str, dict[str, Any]] = {}
    for precision in ("fp32", "bf16", "fp16"):
        plain = make(Ranks(ranks.device), directory, None, precision)
        first = updates(plain, 0, HALF)
        states[precision] = copy.deepcopy(plain.state_dict())
        told[f"torch_{precision}"] = {"updates": first + updates(plain, HALF, UPDATES), "weights": weights_of(plain)}
    for name, settings in LAYOUTS.items():
        layout = {key: value for key, value in settings.items() if key != "precision"}
        precision = settings.get("precision", "fp32")
        told[name], states[precision] = run_layout(ranks, directory, layout, precision, states[precision])
    last = make(Ranks(ranks.device), directory, None, "fp32")
    last.load_state_dict(states["fp32"])
    told["torch_fp32"]["moved"] = updates(last, HALF, UPDATES)
    if ranks.is_main:
        print(json.dumps(told), flush=True)
    ranks.barrier()
    os._exit(0)  # see the end of training/train_deepspeed.py


if __name__ == "__main__":
    main()
