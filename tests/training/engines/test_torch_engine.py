"""One optimizer update, whole: token-true normalisation, clipping, skipping, and what does not fit is refused."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from apt_model.config import ModelConfig
from apt_model.tokenizer import DynamicTagTokenizer
from tests.support.small_apts import language_modeling
from training import TrainingConfig
from training.engines.results import UpdateResult
from training.engines.torch_engine import TorchEngine
from training.errors import ConfigError
from training.machine.device import pick_device, pick_precision
from training.machine.ranks import Ranks
from training.models.apt.family import APTFamily
from training.tasks.hlbd.dataset import HLBDDataset
from training.tasks.hlbd.files import Sample
from training.tasks.objective import Batch, LossFunction, LossSum

CPU = torch.device("cpu")
ALONE = Ranks(CPU)
SAMPLES = [Sample(f"问题{n}" * (1 + n % 3), "答" * (1 + n * n % 7), "m", n) for n in range(12)]
TOKENIZER = DynamicTagTokenizer.from_texts(t for s in SAMPLES for t in s[:2])
DATASET = HLBDDataset(SAMPLES, TOKENIZER, 64)
MODEL = ModelConfig(d_model=16, num_layers=2, num_heads=2, d_ff=32, max_seq_len=64, vocab_size=TOKENIZER.vocab_size)
TASK = language_modeling(MODEL)


def make_engine(**optimizer: object) -> TorchEngine:
    torch.manual_seed(0)
    config = TrainingConfig.from_dict({"optimizer": {"learning_rate": 0.01, "weight_decay": 0.0, **optimizer}})
    return TorchEngine(TASK.build_model(), config, ALONE, APTFamily())


def batches(*sizes: int) -> list[Batch]:
    cut: list[Batch] = []
    start = 0
    for size in sizes:
        cut.append(TASK.collate([DATASET[i] for i in range(start, start + size)]))
        start += size
    return cut


def update(engine: TorchEngine, parts: list[Batch], loss: LossFunction = TASK.loss) -> UpdateResult:
    return engine.update(parts, loss, 0.01, sum(part.weight for part in parts))


def weights(engine: TorchEngine) -> list[torch.Tensor]:
    return [p.detach().clone() for p in engine.model().parameters()]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 11), min_size=1, max_size=4).filter(lambda sizes: sum(sizes) <= 12))
def test_accumulated_batches_give_the_update_of_one_big_batch_whatever_their_token_counts(sizes: list[int]) -> None:
    """transformers #34191: a mean of means weighs tokens of short batches too much."""
    split, whole = make_engine(), make_engine()
    parts, big = batches(*sizes), batches(sum(sizes))
    a, b = update(split, parts, TASK.loss), update(whole, big, TASK.loss)
    assert a.weight == b.weight
    assert a.loss == pytest.approx(b.loss, rel=1e-5)
    assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-4)


def test_the_reported_loss_is_the_real_one_before_any_division_by_accumulation() -> None:
    engine = make_engine()
    parts = batches(3, 3, 3, 3)
    with torch.no_grad():
        expected = sum(float(TASK.loss(engine.model(), b).loss) for b in parts) / sum(b.weight for b in parts)
    assert update(engine, parts, TASK.loss).loss == pytest.approx(expected, rel=1e-6)


def test_accuracy_counts_answer_tokens_only_and_never_padding() -> None:
    parts = batches(12)
    answer_tokens = sum(len(s.answer) + 1 for s in SAMPLES)

    def all_right(model: nn.Module, batch: Batch) -> LossSum:
        result = TASK.loss(model, batch)
        return LossSum(result.loss, {"accuracy": torch.tensor(float(len(batch.tensors["targets"])))})

    result = update(make_engine(), parts, all_right)
    assert result.weight == answer_tokens
    assert result.metrics["accuracy"] == 1.0
    assert result.tokens == sum(len(DATASET[i].tokens) - 1 for i in range(12)), "padding is no token"


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_never_reaches_the_weights(optimizer: str, poison: float) -> None:
    engine = make_engine(optimizer=optimizer, stabilizer="dbc_dac", dbc_rank=4)
    update(engine, batches(6), TASK.loss)
    before, state = weights(engine), str(engine.state_dict()["optimizers"])

    def poisoned(model: nn.Module, batch: Batch) -> LossSum:
        result = TASK.loss(model, batch)
        return LossSum(result.loss * poison, result.sums)

    result = update(engine, batches(6), poisoned)
    assert result.skipped
    assert all(torch.equal(a, b) for a, b in zip(before, weights(engine), strict=True))
    assert str(engine.state_dict()["optimizers"]) == state
    assert not update(engine, batches(6), TASK.loss).skipped, "the next good batch trains again"


def test_a_gradient_that_is_not_finite_is_skipped_though_the_loss_is_finite() -> None:
    engine = make_engine()
    parameter = next(engine.model().parameters())
    handle = parameter.register_hook(lambda g: g * math.nan)  # type: ignore[no-untyped-call]
    before = weights(engine)
    result = update(engine, batches(6), TASK.loss)
    handle.remove()
    assert math.isfinite(result.loss)
    assert result.skipped
    assert all(torch.equal(a, b) for a, b in zip(before, weights(engine), strict=True))


def test_clipping_limits_the_update_and_reports_the_norm_before_it() -> None:
    free, clipped = make_engine(max_grad_norm=None), make_engine(max_grad_norm=1e-3)
    a, b = update(free, batches(12), TASK.loss), update(clipped, batches(12), TASK.loss)
    assert a.grad_norm == b.grad_norm > 1e-3
    assert (a.clipped, b.clipped) == (False, True)


def test_muon_takes_the_blocks_matrices_and_adamw_the_rest() -> None:
    engine = make_engine(optimizer="muon")
    update(engine, batches(6), TASK.loss)
    states = engine.state_dict()["optimizers"]
    assert set(states) == {"muon", "adamw"}
    # Two blocks with qkv, out, gate, up and down each; the two self_control matrices have one row per head.
    assert len(states["muon"]) == 10
    names = [n for n, p in engine.model().named_parameters() if p.ndim == 2]
    assert len(names) == 10 + 2 + 1, "the rest of the matrices: the controls and the (tied) embedding"


def test_the_same_state_gives_the_same_next_update_bit_for_bit() -> None:
    first = make_engine(optimizer="muon", stabilizer="dbc_dac", dbc_rank=4)
    update(first, batches(6), TASK.loss)
    second = make_engine(optimizer="muon", stabilizer="dbc_dac", dbc_rank=4)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for engine in (first, second):
        update(engine, batches(5, 6), TASK.loss)
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_evaluation_neither_trains_nor_depends_on_how_it_is_cut() -> None:
    engine = make_engine()
    before = weights(engine)
    one, many = engine.evaluate(batches(12), TASK.loss), engine.evaluate(batches(1, 4, 7), TASK.loss)
    assert one.weight == many.weight
    assert one.loss == pytest.approx(many.loss, rel=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(engine), strict=True))


def test_bf16_stays_close_to_fp32_and_keeps_fp32_weights() -> None:
    torch.manual_seed(0)
    config = TrainingConfig.from_dict({"run": {"precision": "bf16"}})
    low = TorchEngine(TASK.build_model(), config, ALONE, APTFamily())
    result, exact = update(low, batches(12), TASK.loss), update(make_engine(), batches(12), TASK.loss)
    assert result.loss == pytest.approx(exact.loss, rel=0.02)
    assert {p.dtype for p in low.model().parameters()} == {torch.float32}


def test_fp16_on_a_cpu_and_a_device_that_is_not_there_are_refused() -> None:
    with pytest.raises(ConfigError, match="precision=fp16 needs a GPU"):
        pick_precision("fp16", CPU)
    assert pick_precision("auto", CPU) in ("bf16", "fp32")
    missing = [
        name
        for name, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available()))
        if not there
    ]
    for name in missing:
        with pytest.raises(ConfigError, match=f"--device {name}: there is no such device here"):
            pick_device(name)


@pytest.mark.slow
def test_a_compiled_forward_pass_gives_the_same_figures() -> None:
    from torch._inductor import config as inductor

    config = TrainingConfig.from_dict({"optimizer": {"learning_rate": 0.01, "weight_decay": 0.0}})
    task = language_modeling(MODEL.model_copy(update={"num_layers": 1}))
    engines = []
    for compiled in (True, False):
        torch.manual_seed(0)
        engines.append(TorchEngine(task.build_model(), config, ALONE, compile_model=compiled))
    # One thread: processes that compile beside this one would each import torch first.
    with inductor.patch(compile_threads=1):
        for part in (batches(4), batches(4, 5)):
            a, b = (update(engine, part, task.loss) for engine in engines)
            assert a.loss == pytest.approx(b.loss, rel=1e-5)
