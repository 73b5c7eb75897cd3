"""A sweep in Azure: its options, its YAML, and every fault that would cost trials."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.azure.configs import azure_config
from training.azure.settings.job_size import max_trials, trials_at_once
from training.azure.settings.options import AzureOptions
from training.azure.settings.validation import check_sweep
from training.errors import ConfigError
from training.settings.tree import TrainingConfig

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
        ({"sweep_metric": "f1"}, "a run reports no such metric; a run reports train/loss, train/perplexity,"),
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
