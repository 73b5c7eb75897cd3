"""From samples to a loss: encoding, collation, and a sum over the answer tokens alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from apt_model.config import ModelConfig
from apt_model.model import APT
from apt_model.tokenizer import DynamicTagTokenizer
from tests.support.small_apts import language_modeling
from training.errors import DataError
from training.machine.seeding import seed_everything
from training.tasks.hlbd.dataset import HLBDDataset
from training.tasks.hlbd.files import Sample
from training.tasks.metrics import ACCURACY
from training.tasks.objective import ModuleObjective, measured
from training.tasks.token_dataset import EncodedSample, TokenDataset

TOKENIZER = DynamicTagTokenizer.from_texts(["abcdefgh 0123456789+=?"])
V = TOKENIZER.vocab_size
CONFIG = ModelConfig(d_model=16, num_layers=2, num_heads=2, d_ff=24, max_seq_len=32, vocab_size=V)
TASK = language_modeling(CONFIG)


def sample(prompt: str, answer: str, entry: int = 0) -> Sample:
    return Sample(prompt, answer, "m", entry)


def dataset(*pairs: tuple[str, str], **options: Any) -> HLBDDataset:
    return HLBDDataset([sample(p, a, i) for i, (p, a) in enumerate(pairs)], TOKENIZER, **{"max_seq_len": 32, **options})


def lived_model() -> APT:
    torch.manual_seed(4)
    model = APT(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=0.2)
    return model


MODEL = lived_model()
TEXT = st.text("abcdefgh 0123456789", min_size=1, max_size=12)
PAIRS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6)


# -- the dataset ---------------------------------------------------------------------------------------------------


def test_a_sample_is_bos_prompt_sep_answer_eos() -> None:
    encoded = dataset(("1+1=?", "2"))[0]
    assert TOKENIZER.decode(encoded.tokens.tolist(), keep_control=True) == "[BOS]1+1=?[SEP]2[EOS]"


def test_the_answer_and_its_end_are_learned_and_the_prompt_is_not() -> None:
    encoded = dataset(("1+1=?", "2"))[0]
    assert TOKENIZER.decode(encoded.tokens[encoded.trained].tolist(), keep_control=True) == "2[EOS]"


def test_with_loss_on_all_every_token_but_the_first_is_learned() -> None:
    encoded = dataset(("1+1=?", "2"), loss_on="all")[0]
    assert encoded.trained.tolist() == [False] + [True] * (len(encoded.tokens) - 1)
    assert encoded.starts == (0,)


@given(pairs=PAIRS)
@settings(max_examples=30, deadline=None)
def test_every_sample_can_be_read_back_by_its_number(pairs: list[tuple[str, str]]) -> None:
    data = dataset(*pairs)
    assert len(data) == len(pairs)
    for i, (prompt, answer) in enumerate(pairs):
        tokens = data[i].tokens.tolist()
        assert tokens == [*TOKENIZER.prompt_ids(prompt), *TOKENIZER.encode(answer), TOKENIZER.eos_id]
        assert data.lengths[i] == len(tokens)
    assert data.num_truncated == data.num_left_out == 0


def test_samples_that_are_too_long_are_counted_the_first_named_and_the_way_out_shown() -> None:
    pairs = [("a", "b"), ("abcdefgh", "1"), ("a", "b"), ("abc", "12345678")]
    with pytest.raises(DataError) as refused:
        dataset(*pairs, max_seq_len=10)
    told = str(refused.value)
    assert "\n" not in told
    assert told.startswith("2 of 4 samples are longer than max_seq_len=10 tokens")
    assert "m: 'abcdefgh' with 12" in told
    assert told.endswith("set --max-seq-len 14 or --truncate")


def test_the_suggested_length_is_just_long_enough() -> None:
    pairs = [("abcdefgh", "1"), ("abc", "12345678")]
    assert len(dataset(*pairs, max_seq_len=14)) == 2
    with pytest.raises(DataError):
        dataset(*pairs, max_seq_len=13)


def test_truncation_cuts_answers_and_leaves_out_what_has_none_left() -> None:
    data = dataset(("a", "b"), ("abc", "12345678"), ("abcdefgh", "1"), max_seq_len=10, truncate=True)
    texts = [TOKENIZER.decode(data[i].tokens.tolist(), keep_control=True) for i in range(len(data))]
    assert texts == ["[BOS]a[SEP]b[EOS]", "[BOS]abc[SEP]12345"]
    assert (data.num_truncated, data.num_left_out) == (2, 1)
    assert data.lengths.tolist() == [5, 10]


def test_truncation_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="--max-seq-len"):
        dataset(("abcdefgh", "1"), max_seq_len=10, truncate=True)


@given(pairs=PAIRS, max_seq_len=st.integers(6, 20))
@settings(max_examples=30, deadline=None)
def test_what_is_left_after_truncation_always_has_something_to_learn(
    pairs: list[tuple[str, str]], max_seq_len: int
) -> None:
    data = dataset(("a", "b"), *pairs, max_seq_len=max_seq_len, truncate=True)
    assert len(data) + data.num_left_out == len(pairs) + 1
    for encoded in (data[i] for i in range(len(data))):
        assert encoded.trained.any()
        assert len(encoded.trained) == len(encoded.tokens) <= max_seq_len


# -- collation -----------------------------------------------------------------------------------------------------


def test_padding_is_in_no_position_no_target_and_no_count() -> None:
    data = dataset(("ab", "1"), ("abcd", "123"))
    batch = TASK.collate([data[0], data[1]])
    tokens, positions, targets = (batch.tensors[name] for name in ("tokens", "positions", "targets"))
    assert tokens.shape == (2, 9)  # the last token of a sample is predicted, never read
    assert tokens[0].tolist() == [*data[0].tokens[:-1].tolist(), 0, 0, 0, 0]
    assert tokens[1].tolist() == data[1].tokens[:-1].tolist()
    assert positions.tolist() == [3, 4, 9 + 5, 9 + 6, 9 + 7, 9 + 8]
    assert TOKENIZER.decode(targets.tolist(), keep_control=True) == "1[EOS]123[EOS]"
    assert batch.weight == 6
    assert batch.tokens == 5 + 9
    assert batch.num_samples == 2


@given(pairs=PAIRS, loss_on=st.sampled_from(["answer", "all"]))
@settings(max_examples=40, deadline=None)
def test_each_target_is_the_token_behind_its_position(pairs: list[tuple[str, str]], loss_on: str) -> None:
    data = dataset(*pairs, loss_on=loss_on)
    samples = [data[i] for i in range(len(data))]
    batch = TASK.collate(samples)
    width = batch.tensors["tokens"].shape[1]
    expected = [
        (row * width + i, int(s.tokens[i + 1]))
        for row, s in enumerate(samples)
        for i in range(len(s.tokens) - 1)
        if s.trained[i + 1]
    ]
    assert list(zip(batch.tensors["positions"].tolist(), batch.tensors["targets"].tolist(), strict=True)) == expected
    assert batch.weight == len(expected)
    assert batch.tokens == sum(len(s.tokens) - 1 for s in samples)
    answers = sum(len(answer) + 1 for _, answer in pairs)
    assert batch.weight == (answers if loss_on == "answer" else batch.tokens)


@st.composite
def rows(draw: st.DrawFn) -> list[EncodedSample]:
    """Rows of one or several samples with any mask."""
    made = []
    for _ in range(draw(st.integers(1, 4))):
        lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
        starts = tuple(sum(lengths[:n]) for n in range(len(lengths)))
        trained = np.array(draw(st.lists(st.booleans(), min_size=sum(lengths), max_size=sum(lengths))))
        trained[list(starts)] = False
        tokens = np.array(draw(st.lists(st.integers(0, V - 1), min_size=sum(lengths), max_size=sum(lengths))))
        made.append(EncodedSample(tokens.astype(np.int32), trained, starts))
    return made


def unpacked(row: EncodedSample) -> list[EncodedSample]:
    """The samples of a row, each alone."""
    ends = [*row.starts[1:], len(row.tokens)]
    return [EncodedSample(row.tokens[a:b], row.trained[a:b]) for a, b in zip(row.starts, ends, strict=True)]


@given(made=rows())
@settings(max_examples=60, deadline=None)
def test_packed_samples_have_positions_and_a_segment_of_their_own(made: list[EncodedSample]) -> None:
    batch = TASK.collate(made)
    width = batch.tensors["tokens"].shape[1]
    is_packed = any(len(row.starts) > 1 for row in made)
    assert set(batch.tensors) == {"tokens", "positions", "targets"} | (
        {"position_ids", "segments"} if is_packed else set()
    )
    if not is_packed:
        return
    for r, row in enumerate(made):
        places = [(i, number) for number, s in enumerate(unpacked(row), 1) for i in range(len(s.tokens))][:-1]
        padding = [(0, 0)] * (width - len(places))
        found = [batch.tensors[name][r].tolist() for name in ("position_ids", "segments")]
        assert list(zip(*found, strict=True)) == places + padding
    assert batch.tensors["position_ids"].dtype == torch.int64
    assert batch.tensors["segments"].dtype == torch.int32


@given(made=rows())
@settings(max_examples=60, deadline=None)
def test_a_packed_row_has_the_targets_of_its_samples_and_never_one_of_the_next_sample(
    made: list[EncodedSample],
) -> None:
    batch = TASK.collate(made)
    alone = [s for row in made for s in unpacked(row)]
    assert batch.tensors["targets"].tolist() == [int(t) for s in alone for t in s.tokens[s.trained]]
    assert batch.weight == sum(int(s.trained.sum()) for s in alone)
    tokens = batch.tensors["tokens"].reshape(-1)
    read = [int(s.tokens[i - 1]) for s in alone for i in np.flatnonzero(s.trained)]
    assert tokens[batch.tensors["positions"]].tolist() == read
    if "segments" in batch.tensors:
        segments = batch.tensors["segments"].reshape(-1)
        numbers = [n for row in made for n, s in enumerate(unpacked(row), 1) for _ in range(int(s.trained.sum()))]
        assert segments[batch.tensors["positions"]].tolist() == numbers


@given(made=rows())
@settings(max_examples=40, deadline=None)
def test_a_row_has_one_hash_whatever_it_is_batched_with(made: list[EncodedSample]) -> None:
    assert list(TASK.hashes(TASK.collate(made))) == [h for row in made for h in TASK.hashes(TASK.collate([row]))]


def test_the_hash_of_a_packed_row_depends_on_where_its_samples_begin() -> None:
    tokens, trained = np.arange(6, dtype=np.int32), np.array([False, True, False, False, True, True])
    each = [EncodedSample(tokens, trained, starts) for starts in ((0,), (0, 2), (0, 3), (0, 2, 3))]
    hashes = [h for row in each for h in TASK.hashes(TASK.collate([row]))]
    assert len(set(hashes)) == len(each)


@pytest.mark.parametrize(("first", "starts"), [(0, (0,)), (0, (0, 3)), (3, (0, 3))])
def test_the_first_token_of_a_sample_is_never_trained(first: int, starts: tuple[int, ...]) -> None:
    trained = np.zeros(6, dtype=np.bool_)
    trained[first] = True
    good = dataset(("ab", "1"))[0]
    with pytest.raises(ValueError, match="first token of a sample"):
        TASK.collate([good, EncodedSample(np.arange(6, dtype=np.int32), trained, starts)])


def test_rows_without_a_trained_token_are_read_and_weigh_nothing() -> None:
    silent = EncodedSample(np.arange(6, dtype=np.int32), np.zeros(6, dtype=np.bool_))
    good = dataset(("ab", "1"))[0]
    batch = TASK.collate([silent, good, silent])
    assert batch.weight == 2
    assert batch.tokens == 5 + 5 + 5
    assert batch.tensors["positions"].tolist() == [5 + 3, 5 + 4]
    assert len(list(TASK.hashes(batch))) == 3


@pytest.mark.parametrize("start", [0, -1, 4])
def test_a_loss_that_starts_outside_of_what_can_be_predicted_is_refused(start: int) -> None:
    with pytest.raises(ValueError, match="sample 1: a loss starts at token"):
        TokenDataset([np.arange(3, dtype=np.int32)] * 2, [1, start])


def test_lengths_are_those_of_the_dataset() -> None:
    assert TASK.lengths(dataset(("ab", "1"), ("abcd", "123"))).tolist() == [6, 10]


# -- the loss ------------------------------------------------------------------------------------------------------


def dense_loss(model: APT, encoded: EncodedSample) -> tuple[Tensor, int]:
    """The definition: all logits of one sample alone, and the loss of those that predict a learned token."""
    tokens = torch.from_numpy(encoded.tokens.astype(np.int64))
    trained = torch.from_numpy(encoded.trained)
    logits = model(tokens[None, :-1])[0, trained[1:]]
    targets = tokens[trained]
    return F.cross_entropy(logits, targets, reduction="sum"), int((logits.argmax(dim=-1) == targets).sum())


@given(pairs=PAIRS, loss_on=st.sampled_from(["answer", "all"]), pad_id=st.integers(0, V - 1))
@settings(max_examples=40, deadline=None, derandomize=True)
@torch.inference_mode()
def test_the_loss_of_a_batch_is_the_sum_of_its_samples_whatever_the_padding(
    pairs: list[tuple[str, str]], loss_on: str, pad_id: int
) -> None:
    data = dataset(*pairs, loss_on=loss_on)
    samples = [data[i] for i in range(len(data))]
    task = language_modeling(CONFIG, pad_id)
    loss, sums = task.loss(MODEL, task.collate(samples))
    alone = [dense_loss(MODEL, encoded) for encoded in samples]
    torch.testing.assert_close(loss, torch.stack([each for each, _ in alone]).sum(), rtol=1e-5, atol=1e-4)
    assert int(sums["accuracy"]) == sum(right for _, right in alone)


def test_all_answer_tokens_right_is_as_many_as_the_weight() -> None:
    class Oracle(nn.Module):
        """Knows the targets and is sure of them."""

        def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
            return 50.0 * F.one_hot(batch.tensors["targets"], V).float()

    data = dataset(("ab", "1"), ("abcd", "123"))
    batch = TASK.collate([data[0], data[1]])
    loss, sums = TASK.loss(Oracle(), batch)
    assert float(loss) < 1e-6
    assert int(sums["accuracy"]) == batch.weight


def test_logits_are_made_only_where_there_is_a_loss() -> None:
    shapes: list[torch.Size] = []
    model = lived_model()
    model.head.register_forward_hook(lambda _module, _inputs, logits: shapes.append(logits.shape))
    data = dataset(("abc", "12"), ("abcdefgh", "1"))
    batch = TASK.collate([data[0], data[1]])
    TASK.loss(model, batch)
    assert shapes == [(batch.weight, V)]


@pytest.mark.parametrize(("loss_on", "learned"), [("answer", "1[EOS]"), ("all", "ab[SEP]1[EOS]")])
def test_the_targets_are_the_answer_or_everything(loss_on: str, learned: str) -> None:
    batch = TASK.collate([dataset(("ab", "1"), loss_on=loss_on)[0]])
    assert TOKENIZER.decode(batch.tensors["targets"].tolist(), keep_control=True) == learned


@torch.inference_mode()
def test_the_loss_is_in_fp32_under_autocast() -> None:
    batch = TASK.collate([dataset(("abc", "12"))[0]])
    exact, _ = TASK.loss(MODEL, batch)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = TASK.loss(MODEL, batch)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.05, atol=0.05)


def test_a_batch_keeps_its_counts_on_the_way_to_a_device() -> None:
    batch = TASK.collate([dataset(("abc", "12"))[0]])
    moved = batch.to(torch.device("meta"))
    assert {t.device.type for t in moved.tensors.values()} == {"meta"}
    assert (moved.weight, moved.tokens, moved.num_samples, moved.seed) == (3, 7, 1, batch.seed)


def test_the_task_builds_the_model_of_its_config() -> None:
    model = TASK.build_model()
    assert model.config == CONFIG


# -- any module ----------------------------------------------------------------------------------------------------


def squared_error(module: nn.Module, tensors: dict[str, Tensor]) -> Tensor:
    error: Tensor = (module(tensors["x"]).squeeze(1) - tensors["y"]).square().sum()
    return error


@torch.inference_mode()
def test_any_module_and_dataset_have_a_summed_loss_without_accuracy() -> None:
    task = ModuleObjective(lambda: nn.Linear(2, 1), squared_error)
    points = [{"x": torch.ones(2) * i, "y": torch.tensor(float(i))} for i in range(3)]
    batch = task.collate(points)
    assert (batch.weight, batch.tokens, batch.num_samples) == (3, 0, 3), "a sample is no token"
    assert batch.tensors["x"].shape == (3, 2)
    module = task.build_model()
    loss, sums = task.loss(module, batch)
    assert sums == {}
    assert float(loss) == pytest.approx(sum(float(task.loss(module, task.collate([p])).loss) for p in points), rel=1e-5)
    assert task.lengths(points).tolist() == [0, 0, 0]


@torch.inference_mode()
def test_any_module_may_say_how_much_was_right() -> None:
    right = {"accuracy": torch.tensor(2)}
    task = ModuleObjective(lambda: nn.Linear(2, 1), lambda m, t: (squared_error(m, t), right), metrics=(ACCURACY,))
    batch = task.collate([{"x": torch.ones(2), "y": torch.tensor(1.0)}])
    assert int(task.loss(task.build_model(), batch).sums["accuracy"]) == 2
    assert measured(task.metrics) == ("accuracy",)


def test_one_seed_fixes_the_draws_of_python_numpy_and_torch() -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    seed_everything(2**63 - 1)
    first = draws()
    seed_everything(2**63 - 1)
    assert draws() == first
    seed_everything(2**63 - 1, torch.device("cpu"))
    assert draws() == first, "one device's generators draw what they draw when all are seeded"
    seed_everything(5)
    assert all(one != other for one, other in zip(first, draws(), strict=True))
