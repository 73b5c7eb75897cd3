"""A search space: its two forms, text and mapping, the values that it draws, and how trials are made of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import TrainingConfig
from training.errors import ConfigError
from training.experiments.search_space import (
    PARAMETERS,
    Distribution,
    SearchSpace,
    parse,
    split_settings,
    texts_of,
    trial_config,
)


def space(*texts: str) -> SearchSpace:
    return SearchSpace.parse(texts, TrainingConfig)


# -- two forms of the same -------------------------------------------------------------------------------------------

numbers = st.integers(-1000, 1000) | st.floats(-1e6, 1e6)
positive = st.integers(1, 1000) | st.floats(1e-6, 1e6)
words = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,8}", fullmatch=True).filter(lambda word: word.lower() != "none")
choices = st.lists(numbers | words | st.none(), min_size=2, max_size=5)


@st.composite
def mappings(draw: st.DrawFn) -> dict[str, Any]:
    """A distribution as Azure's YAML has it."""
    kind = draw(st.sampled_from(sorted(PARAMETERS)))
    if kind == "choice":
        return {"type": kind, "values": draw(choices)}
    return {"type": kind, **{name: draw(positive if name in ("q", "sigma") else numbers) for name in PARAMETERS[kind]}}


def read_back(text: str) -> dict[str, Any]:
    """Of `SETTING=KIND(…)` or choices, without a setting's type: numbers where they are some."""
    _, _, rest = text.partition("=")
    kind, bracket, inside = rest.partition("(")
    values = [value_of(word) for word in (inside.removesuffix(")") if bracket else rest).split(",")]
    names = PARAMETERS[kind] if bracket else ()
    return {"type": kind, **dict(zip(names, values, strict=True))} if bracket else {"type": "choice", "values": values}


def value_of(word: str) -> Any:
    for convert in (int, float):
        try:
            return convert(word)
        except ValueError:
            continue
    return None if word == "none" else word


@given(mappings())
def test_azures_yaml_becomes_our_text_and_says_the_same(mapping: dict[str, Any]) -> None:
    [text] = texts_of({"learning_rate": mapping})
    assert read_back(text) == mapping


ranges = st.tuples(st.floats(1e-6, 1.0), st.floats(1e-6, 1.0)).filter(lambda ends: ends[0] < ends[1])


@given(ranges)
def test_a_logarithmic_range_is_written_in_values_and_kept_in_logarithms(ends: tuple[float, float]) -> None:
    low, high = ends
    _, found = parse(f"learning_rate=log({low}..{high})", TrainingConfig)
    assert found.kind == "loguniform"
    first, last = found.numbers
    assert (first, last) == pytest.approx((math.log(low), math.log(high)))
    assert low <= math.exp(first)
    assert math.exp(last) <= high
    assert found.ends() == pytest.approx(ends)


@given(ranges)
def test_a_range_is_kept_as_it_is_written(ends: tuple[float, float]) -> None:
    _, found = parse(f"weight_decay={ends[0]}..{ends[1]}", TrainingConfig)
    assert found == Distribution("uniform", ends)


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 40))
def test_the_values_of_a_stepped_range_are_its_multiples_between_the_ends(low: int, width: int, q: int) -> None:
    found = Distribution("quniform", (low, low + width, q))
    drawn = {round(x / q) * q for x in range(low, low + width + 1)}
    assert drawn <= set(found.values())
    assert all(value % q == 0 for value in map(int, found.values()))  # type: ignore[arg-type]


def test_choices_have_their_setting_s_type() -> None:
    def choices_of(text: str) -> tuple[Any, ...]:
        return parse(text, TrainingConfig)[1].arguments

    assert choices_of("learning_rate=1e-4,3e-4") == (1e-4, 3e-4)
    assert [type(value) for value in choices_of("batch_size=16,32")] == [int, int]
    assert choices_of("max_grad_norm=none,1") == (None, 1.0)
    assert choices_of("tie_embeddings=true,no") == (True, False)
    assert parse("lr=choice(1e-4,3e-4)", TrainingConfig)[0] == "optimizer.learning_rate"


def test_the_short_forms_say_the_same_as_the_long_ones() -> None:
    short = space("learning_rate=1e-4..1e-2 log, d_model=128|256, attention=standard | autopoietic,num_layers=2..4")
    others = ("d_model=128,256", "attention=standard,autopoietic", "num_layers=2..4")
    assert short == space("learning_rate=log(1e-4..1e-2)", *others)
    assert split_settings("lr=loguniform(-9,-4), d_model=16,32 , dropout=0.1|0.2") == [
        "lr=loguniform(-9,-4)", "d_model=16,32", "dropout=0.1|0.2"
    ]  # fmt: skip


def test_a_mapping_may_hold_texts() -> None:
    assert list(texts_of({"learning_rate": "1e-4..1e-2 log", "d_model": [16, 32]})) == [
        "learning_rate=1e-4..1e-2 log",
        "d_model=16,32",
    ]


# -- trials --------------------------------------------------------------------------------


def test_a_trial_s_config_is_the_run_s_with_its_values() -> None:
    config = TrainingConfig()
    trial = trial_config(config, {"model.d_model": 128.0, "optimizer.learning_rate": 1e-4})
    assert (trial.model.d_model, trial.optimizer.learning_rate) == (128, 1e-4)
    assert trial.model.num_layers == config.model.num_layers


def test_how_many_different_trials_there_are() -> None:
    assert space("d_model=128,256", "num_layers=2,4,6").num_combinations == 6
    assert space("d_model=128,256", "num_layers=2..4").num_combinations is None


def test_all_combinations_are_yielded_where_they_are_few() -> None:
    found = list(space("d_model=128,256", "num_layers=2..4").combinations(at_most=6))
    assert found == [{"model.d_model": d, "model.num_layers": float(n)} for d in (128, 256) for n in (2, 3, 4)]


def test_where_there_are_many_each_value_comes_and_ends_of_every_pair() -> None:
    names = ("max_seq_len", "d_ff", "dbc_rank")
    wanted = space(*(f"{name}=1..50" for name in names))
    found = list(wanted.combinations(at_most=300))
    assert len(found) < 600
    keys = list(wanted.distributions)
    for key in keys:
        assert {trial[key] for trial in found} == {float(n) for n in range(1, 51)}
    for one, other in ((0, 1), (0, 2), (1, 2)):
        corners = {(trial[keys[one]], trial[keys[other]]) for trial in found}
        assert {(1.0, 1.0), (1.0, 50.0), (50.0, 1.0), (50.0, 50.0)} <= corners


def test_a_user_of_the_space_may_fix_further_settings() -> None:
    with pytest.raises(ConfigError, match="a sweep does not vary d_model: it is the point"):
        SearchSpace.parse(["d_model=128,256"], TrainingConfig, {"model.d_model": "it is the point"})


def test_a_space_is_described_in_words() -> None:
    assert space("d_model=128,256", "learning_rate=1e-5..1e-3").describe() == [
        "varies d_model: 128, 256",
        "varies learning_rate: 1e-05 to 0.001, uniform",
    ]
