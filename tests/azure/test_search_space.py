"""What a sweep varies: our text, Azure's YAML, and every fault that would cost trials."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.azure.settings import azure_config
from training import TrainingConfig
from training.azure.demand import max_trials, trials_at_once
from training.azure.distribution import PARAMETERS, Distribution, as_texts
from training.azure.options import AzureOptions
from training.azure.search_space import SearchSpace, parse
from training.azure.trials import check_sweep, metric_names, trial_config
from training.errors import ConfigError
from training.tracking.figures import TRAIN, point_of

if TYPE_CHECKING:
    from tests.conftest import FrontDoor


def sweep(
    *search: str, inner: str = "playground", azure: dict[str, Any] | None = None, **sections: Any
) -> TrainingConfig:
    return azure_config(inner, {"sweep": True, "search": search, "max_trials": 2, **(azure or {})}, **sections)


def fault(config: TrainingConfig) -> str:
    """The one line in which a sweep is refused."""
    with pytest.raises(ConfigError) as caught:
        check_sweep(config)
    told = str(caught.value)
    assert "\n" not in told
    return told


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
    return Distribution(kind if bracket else "choice", tuple(values)).document()


def value_of(word: str) -> Any:
    for convert in (int, float):
        try:
            return convert(word)
        except ValueError:
            continue
    return None if word == "none" else word


@given(mappings())
def test_azures_yaml_becomes_our_text_and_says_the_same(mapping: dict[str, Any]) -> None:
    [text] = as_texts({"learning_rate": mapping})
    assert read_back(text) == mapping


ranges = st.tuples(st.floats(1e-6, 1.0), st.floats(1e-6, 1.0)).filter(lambda ends: ends[0] < ends[1])


@given(ranges)
def test_a_logarithmic_range_is_written_in_values_and_sent_in_logarithms(ends: tuple[float, float]) -> None:
    low, high = ends
    _, found = parse(f"learning_rate=log({low}..{high})", TrainingConfig)
    document = found.document()
    assert document == {
        "type": "loguniform",
        "min_value": pytest.approx(math.log(low)),
        "max_value": pytest.approx(math.log(high)),
    }
    assert low <= math.exp(document["min_value"])
    assert math.exp(document["max_value"]) <= high
    assert found.ends() == pytest.approx(ends)


@given(ranges)
def test_a_range_is_sent_as_it_is_written(ends: tuple[float, float]) -> None:
    _, found = parse(f"weight_decay={ends[0]}..{ends[1]}", TrainingConfig)
    assert found.document() == {"type": "uniform", "min_value": ends[0], "max_value": ends[1]}


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


def test_a_config_file_may_hold_either_form(front_door: FrontDoor, tmp_path: Path) -> None:
    azures = "search:\n  learning_rate: {type: uniform, min_value: 1e-5, max_value: 1e-3}\n  d_model: [128, 256]\n"
    ours = "search: [learning_rate=uniform(1e-5\\,1e-3), 'd_model=128,256']\n".replace("\\,", ",")
    shown = []
    for text in (azures, ours.replace("[learning_rate=uniform(1e-5,1e-3)", "['learning_rate=uniform(1e-5,1e-3)'")):
        (tmp_path / "c.yaml").write_text(f"backend: azure\nsweep: true\n{text}", encoding="utf-8")
        done = front_door(["--config", tmp_path / "c.yaml", "--explain", "search"])
        assert done.exit_code == 0, done.stderr
        shown.append(done.stdout.splitlines()[0])
    assert shown[0] == shown[1] == "azure.search = ('learning_rate=uniform(1e-5,1e-3)', 'd_model=128,256')"


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ({"d_model": 256}, "search: d_model: should be a list of values or a mapping with `type`, not 256"),
        ({"lr": {"type": "unifrom"}}, "search: lr: no such type 'unifrom'; did you mean 'uniform'?"),
        ({"lr": {"type": "uniform", "low": 1}}, "search: lr: uniform takes min_value, max_value, and has low"),
        ({"lr": {"type": "uniform"}}, "search: lr: uniform takes min_value, max_value, and has none of them"),
        ({"lr": {"type": "choice", "values": 3}}, "search: lr: values should be a list, not 3"),
        ({"lr": []}, "search: lr: there are no values to choose from; give two or more"),
        ({"lr": [{"a": 1}]}, "search: lr: {'a': 1} is no single value; give each setting its own"),
        ({"attention": ["a b", "c"]}, "search: attention: 'a b' cannot stand in a trial's command"),
    ],
)
def test_what_is_no_search_space_is_refused_in_one_line(space: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        azure_config(azure={"search": space})
    assert str(caught.value) == f"config: {told}"
    assert AzureOptions(search={}).search == ()


@pytest.mark.parametrize("space", [[{"d_model": [128, 256]}], [128], 128, [None], ["d_model=128,256", ["a"]]])
def test_what_is_neither_a_mapping_nor_texts_is_told_with_both_forms(space: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        azure_config(azure={"search": space})
    assert str(caught.value) == (
        f"config: search = {space!r}: should be texts such as 'd_model=128,256', or a mapping of settings to their "
        "values"
    )


# -- each fault of one distribution ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("d_model", "should be SETTING=VALUES, as learning_rate=1e-5..1e-3 or d_model=128,256"),
        ("=1,2", "should be SETTING=VALUES"),
        ("d_model=", "should be SETTING=VALUES"),
        ("d_modle=1,2", "--search d_modle: no such setting; did you mean 'd_model'?"),
        ("run_dir=a,b", "a sweep does not vary run_dir: every trial has a directory of its own"),
        ("datasets=a,b", "a sweep does not vary datasets: the losses of different data cannot be compared"),
        ("validation_split=0.1,0.2", "not vary validation_split: the losses of different data cannot be compared"),
        ("vocab_size=none,4000", "a sweep does not vary vocab_size: the data decide it"),
        ("nnodes=1,2", "a sweep does not vary nnodes: it belongs to the whole job"),
        ("vm_size=a,b", "a sweep does not vary vm_size: it belongs to the whole job"),
        ("backend=a,b", "a sweep does not vary backend: the job has one"),
        ("d_model=128,,256", "a value is missing; give them as 16,32,64"),
        ("d_model=128,abc", "'abc': input should be a valid integer"),
        ("d_model=128,0", "'0': input should be greater than or equal to 1"),
        ("dropout=0.1,1.5", "'1.5': input should be less than 1"),
        ("attention=standard,fast", "'fast': input should be 'autopoietic' or 'standard'"),
        ("attention=standard,$HOME", "'$HOME' cannot stand in a trial's command"),
        ("d_model=128,128", "a value is given twice; give each once"),
        ("d_model=128,128.0", "a value is given twice"),
        ("d_model=128", "one value is no choice; give two or more, or set --d-model 128 for all"),
        ("attention=1..2", "attention has no range; give its values, as attention=A,B"),
        ("tie_embeddings=0..1", "tie_embeddings has no range"),
        ("learning_rate=1e-3..1e-5", "the range is reversed, 0.001 is above 1e-05; give the lower end first"),
        ("learning_rate=1e-3..1e-3", "the range is empty, both ends are 0.001; set --learning-rate for all instead"),
        ("learning_rate=1e-3..", "'' should be a number"),
        ("learning_rate=1e-5...1e-3", "a range has two dots, as LOW..HIGH, and HIGH has a digit before its"),
        ("d_model=[128,256]", "give the values without brackets, as 16,32,64"),
        ("learning_rate=1e-3..inf", "'inf' should be a finite number"),
        ("learning_rate=log(0..1e-3)", "should be log(LOW..HIGH) with both above 0, as log(1e-5..1e-3)"),
        ("learning_rate=log(1e-3)", "should be log(LOW..HIGH)"),
        ("learning_rate=log(1e-3..1e-5)", "the range is reversed, 0.001 is above 1e-05"),
        ("learning_rate=log(1e-3..1e-3)", "the range is empty, both ends are 0.001; set --learning-rate for all"),
        ("learning_rate=loguniform(1e-5,1e-3)", "1e-05 and 0.001 mean 1.00001 to 1.001; for 1e-05 to 0.001 give lea"),
        ("learning_rate=loguniform(1,1000)", "e to the power of 1000 is no number"),
        ("rope_theta=lognormal(9,80)", "e to the power of 809 is no number; lognormal takes natural logarithms"),
        ("learning_rate=unifrom(1,2)", "no such distribution 'unifrom'; did you mean 'uniform'?"),
        ("learning_rate=uniform(1)", "uniform has 2 numbers (min_value, max_value), not 1"),
        ("weight_decay=normal(0.1,0)", "sigma=0 should be above 0"),
        ("weight_decay=quniform(0,1,-1)", "q=-1 should be above 0"),
        ("num_layers=randint(1)", "upper=1: randint draws 0 to upper-1; give a whole number from 2"),
        ("num_layers=2.5..8", "num_layers takes whole numbers; give num_layers=LOW..HIGH in whole numbers"),
        ("num_layers=uniform(2,8)", "num_layers takes whole numbers"),
    ],
)  # fmt: skip
def test_a_distribution_with_a_fault_is_refused(text: str, told: str) -> None:
    assert told in fault(sweep(text))


def test_a_logarithmic_range_of_values_near_one_is_no_slip() -> None:
    check_sweep(sweep("restart_mult=log(1.1..2.5)"))


def test_the_lower_end_of_a_logarithmic_range_may_be_what_a_setting_just_allows() -> None:
    check_sweep(sweep("learning_rate=log(1e-5..1e-2)", schedule={"min_lr": 1e-5}))


def test_a_list_is_not_varied() -> None:
    told = fault(sweep("trainer_callbacks=a,b", inner="huggingface"))
    assert told.endswith("a sweep does not vary trainer_callbacks, which is a list or a path; set it for all trials")


def test_a_setting_is_given_once() -> None:
    assert "learning_rate is given twice" in fault(sweep("learning_rate=1e-4..1e-3", "lr=1e-4,1e-3"))


# -- trials that would refuse to start -------------------------------------------------------------------------------


def test_what_the_documents_vary_is_a_run_each_time() -> None:
    check_sweep(azure_config(azure={"sweep": True}))


@pytest.mark.parametrize(
    ("search", "sections", "told"),
    [
        ((), {"model": {"num_heads": 12, "d_model": 384}}, "a trial of this sweep may have d_model=128, and"),
        ((), {"model": {"num_heads": 12, "d_model": 384}}, "d_model=128 cannot be divided among num_heads=12"),
        ((), {"schedule": {"min_lr": 1e-4}}, "may have learning_rate=1e-05, and would be refused: min_lr"),
        (("d_model=128,130",), {}, "d_model=130, and would be refused: d_model=130 can"),
        (("d_model=64..128",), {}, "may have d_model=65"),
        (("d_model=64,96", "num_heads=4,12"), {}, "d_model=64, num_heads=12"),
        (("learning_rate=1e-4..1e-3", "min_lr=1e-5..5e-4"), {}, "learning_rate=0.0001, min_lr=0.0005, and would be"),
        (("weight_decay=normal(0.01,0.01)",), {}, "may have weight_decay=-0.09"),
        (("learning_rate=normal(0.1,0.001)", "dropout=0..1"), {}, "dropout=1"),
        (("num_layers=randint(4)",), {}, "may have num_layers=0"),
        (("early_stopping_patience=none,3",), {}, "early_stopping_patience=3 needs validation data"),
        (("batch_size=8,16",), {"run": {"global_batch_size": 32, "gradient_accumulation_steps": 4, "batch_size": 8}},
         "may have batch_size=16, and would be refused: global_batch_size=32 is not"),
    ],
)  # fmt: skip
def test_a_sweep_with_a_trial_that_would_refuse_to_start_is_refused(
    search: tuple[str, ...], sections: dict[str, Any], told: str
) -> None:
    assert told in fault(sweep(*search, **sections))


def test_a_trial_that_the_inner_backend_would_refuse_counts_too() -> None:
    told = fault(sweep("optimizer=adamw,muon", inner="deepspeed"))
    assert "optimizer=muon, and would be refused: --backend deepspeed cannot do optimizer muon" in told


def test_more_combinations_than_can_be_tried_are_tried_in_pairs() -> None:
    many = [f"{name}=1..300" for name in ("max_seq_len", "d_ff", "dbc_rank")]
    with pytest.raises(ConfigError, match="max_seq_len=1"):
        check_sweep(sweep(*many))
    check_sweep(sweep("max_seq_len=8..300", *many[1:]))


def test_a_trial_s_config_is_the_run_s_with_its_values() -> None:
    config = sweep("d_model=128,256")
    trial = trial_config(config, {"model.d_model": 128.0, "optimizer.learning_rate": 1e-4})
    assert (trial.model.d_model, trial.optimizer.learning_rate) == (128, 1e-4)
    assert trial.model.num_layers == config.model.num_layers


def test_the_front_door_takes_a_trial_s_flags_as_azure_writes_numbers(front_door: FrontDoor) -> None:
    done = front_door(["--num-layers", "4.0", "--learning-rate", "1.0000000000000001e-05", "--max-grad-norm", "none",
                       "--no-tie-embeddings", "--dry-run"])  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "num_layers: 4\n" in done.stdout


# -- what a sweep is made of otherwise -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_trials": 5, "search": ["d_model=128,256"]}, "max_trials=5, but the values can be combined in 2 ways"),
        ({"max_concurrent_trials": 8, "max_trials": 6}, "max_concurrent_trials=8 is more than max_trials=6"),
        ({"sampling": "grid"}, "sampling=grid takes choice only, and learning_rate is uniform (1e-05 to 0.001, unif"),
        ({"sampling": "bayesian", "search": ["learning_rate=log(1e-5..1e-3)"]}, "and learning_rate is loguniform"),
        ({"sampling": "bayesian", "early_termination": "bandit"}, "sampling=bayesian and early_termination=bandit do"),
        ({"sweep_metric": "train/los"}, "train/los: a run reports no such metric; did you mean 'train/loss'"),
        ({"sweep_metric": "loss"}, "loss: a run reports no such metric; did you mean 'train/loss'?"),
        ({"sweep_metric": "eval/loss "}, "did you mean 'train/loss'"),
        ({"sweep_metric": "f1"}, "a run reports no such metric; a run reports train/loss, train/accuracy,"),
        ({"sweep_metric": "eval/loss"}, "sweep_metric=eval/loss needs validation data; give --validation-split 0.1"),
        ({"sweep_metric": "best/loss"}, "sweep_metric=best/loss needs validation data; give --validation-split 0.1"),
        ({"search": ["d_model=100,256"]}, "may have d_model=100, and would be refused"),
        ({"max_concurrent_trials": 30}, "max_concurrent_trials=30 is more than max_trials=20"),
        ({"sweep_metric": "recitation/accuracy", "early_termination": "bandit"}, "is only measured at the end"),
        ({"timeout_hours": 1, "trial_timeout_hours": 2}, "trial_timeout_hours=2 is longer than the whole sweep's"),
        ({"track_in_workspace": False}, "a sweep reads its metric from the workspace; leave --no-track-in-workspace"),
    ],
)  # fmt: skip
def test_a_sweep_that_does_not_add_up_is_refused(options: dict[str, Any], told: str) -> None:
    assert told in fault(azure_config(azure={"sweep": True, **options}))


def test_the_default_number_of_trials_gives_way_to_how_many_there_are() -> None:
    few = azure_config(azure={"sweep": True, "search": ["d_model=128,256"]})
    check_sweep(few)
    assert (max_trials(few), trials_at_once(few)) == (2, 2)
    assert max_trials(azure_config(azure={"sweep": True})) == 20
    asked = azure_config(azure={"sweep": True, "search": ["d_model=128,256"], "max_trials": 20})
    assert "max_trials=20, but the values can be combined in 2 ways only" in fault(asked)


def test_the_loss_that_is_meant_is_the_one_that_decides_by_itself() -> None:
    told = fault(azure_config(azure={"sweep": True, "sweep_metric": "loss"}, data={"validation_split": 0.1}))
    assert told.endswith("did you mean 'eval/loss'?")


def test_a_metric_that_is_never_measured_is_refused() -> None:
    told = fault(
        azure_config(azure={"sweep": True, "sweep_metric": "recitation/accuracy"}, report={"answer_samples": 0})
    )
    assert "answer_samples=0 asks no question" in told


def test_a_metric_that_goes_to_another_server_is_refused() -> None:
    told = fault(azure_config(azure={"sweep": True}, track={"mlflow_tracking_uri": "https://example.org"}))
    assert told.endswith("leave --mlflow-tracking-uri out")


def test_metric_names_are_exactly_those_that_trackers_are_told() -> None:
    step = dict.fromkeys(TRAIN, 1.0)
    events: list[dict[str, Any]] = [
        {"event": "step", **step},
        {"event": "eval", "loss": 1.0, "accuracy": 0.5, "epoch": 1},
        {"event": "best", "loss": 1.0},
        {"event": "memory", "peak_bytes": [1]},
        {"event": "recitation", "modules": {"a": {"right": 1, "asked": 2}}},
    ]
    points = [point_of({"time": 0.0, **event}, 1) for event in events]
    assert {name for point in points if point is not None for name in point.figures} == set(metric_names())


def test_how_many_different_trials_there_are() -> None:
    assert SearchSpace.of(sweep("d_model=128,256", "num_layers=2,4,6")).combinations == 6
    assert SearchSpace.of(sweep("d_model=128,256", "num_layers=2..4")).combinations is None
