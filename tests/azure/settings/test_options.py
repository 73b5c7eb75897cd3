"""Everything that is refused before anything is uploaded, offline: each fault in one line with its way out."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.azure.configs import azure_config
from training.azure.service.compute import DEFAULT_SIZE, gpus_of, size_with, vcpus_of
from training.azure.settings.environment import (
    CONDA_FILE,
    EXTRAS,
    LEAST_TORCH,
    check_environment,
    check_image,
    computed_environment,
    conda_environment,
)
from training.azure.settings.inner_run import CHECKOUT, inner_config
from training.azure.settings.job_size import nodes_at_once, nodes_to_create, seconds, serverless_size
from training.azure.settings.options import DEFAULT_IMAGE, check_name
from training.azure.settings.validation import validate_azure
from training.errors import ConfigError, UserError
from training.settings.registry import Entry
from training.tasks.registry import TASKS

ONE, FOUR, EIGHT = "Standard_NC24ads_A100_v4", "Standard_NC96ads_A100_v4", "Standard_ND96amsr_A100_v4"


def fault(inner: str = "playground", azure: dict[str, Any] | None = None, **others: Any) -> str:
    """The one line in which settings are refused; see `azure_config`."""
    with pytest.raises(UserError) as caught:
        validate_azure(azure_config(inner, azure, **others))
    told = str(caught.value)
    assert "\n" not in told
    return told


# -- what is right ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inner", "azure", "sections"),
    [
        ("playground", {}, {}),
        ("playground", {"compute_name": "gpu-cluster"}, {"launch": {"num_gpus": 4, "nnodes": 2}}),
        ("playground", {"compute_name": "gpu-cluster", "vm_size": ONE}, {}),
        ("playground", {"compute_name": "gpu-cluster", "vm_size": FOUR, "create_compute": True, "max_nodes": 4,
                        "idle_minutes": 5, "low_priority": True}, {"launch": {"nnodes": 4, "num_gpus": 4}}),
        ("playground", {"vm_size": "Standard_D4s_v5"}, {"launch": {"num_processes": 4}}),
        ("playground", {"vm_size": "Standard_ND999x_v9"}, {"launch": {"num_gpus": 16}}),  # newer than this file
        ("deepspeed", {"vm_size": FOUR}, {"launch": {"num_gpus": 4, "nnodes": 8}, "deepspeed": {"zero_stage": 3}}),
        ("huggingface", {"vm_size": FOUR}, {"launch": {"num_gpus": 4}, "huggingface": {"deepspeed": "ds_config"}}),
        ("playground", {"environment": "mine@latest"}, {"track": {"track": "wandb", "wandb_mode": "offline"}}),
        ("playground", {}, {"track": {"track": "mlflow", "mlflow_tracking_uri": "https://mlflow.example.org"}}),
        ("playground", {"sweep": True, "early_termination": "bandit", "slack_factor": 0.2}, {}),
        ("playground", {"sweep": True, "max_trials": 2}, {}),
        ("playground", {"sweep": True, "early_termination": "median_stopping", "delay_evaluation": 9}, {}),
    ],
)  # fmt: skip
def test_settings_that_go_together_pass(inner: str, azure: dict[str, Any], sections: dict[str, Any]) -> None:
    validate_azure(azure_config(inner, azure, **sections))


def test_nothing_of_the_sdk_or_torch_is_needed_for_it() -> None:
    import subprocess

    code = (
        "import sys; from tests.azure.configs import azure_config; from training.azure.settings.validation import *; "
        "from training.azure.submit.staging import Staging; from training.azure.submit.job_document import *; "
        "c = azure_config('deepspeed', {'sweep': True}); validate_azure(c); Staging.make(c); "
        "to_yaml(job_document(c, 'j', 'c')); print({m.partition('.')[0] for m in sys.modules} & "
        "{'torch', 'deepspeed', 'transformers', 'azure', 'mlflow', 'matplotlib'})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("job_name", "my job"),
        ("job_name", ""),
        ("job_name", "-job"),
        ("job_name", "a" * 256),
        ("job_name", "作业"),
        ("experiment_name", "a/b"),
        ("experiment_name", ""),
        ("compute_name", "gpu_cluster"),
        ("compute_name", "1gpu"),
        ("compute_name", "gpu-"),
        ("compute_name", "g" * 33),
        ("register_model", "apt model"),
        ("register_model", ""),
        ("datastore", "my-store"),
    ],
)
def test_a_name_that_azure_would_refuse_is_refused(option: str, value: str) -> None:
    assert fault(azure={option: value}).startswith(f"{option}={value!r}: Azure takes ")


def test_the_rule_of_a_name_is_told_in_order() -> None:
    told = fault(azure={"register_model": "apt model"})
    assert told.endswith("takes letters, digits, '-', '_' and '.', the first a letter or digit, at most 255")


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}", fullmatch=True))
def test_every_other_name_passes(name: str) -> None:
    for option in ("job_name", "experiment_name", "register_model"):
        check_name(option, name)


# -- machines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("azure", "sections", "told"),
    [
        ({"vm_size": "NC24ads_A100_v4"}, {}, f"this is not a name of a virtual machine size; did you mean {ONE}?"),
        ({"vm_size": "a big one"}, {}, f"sizes are called as {DEFAULT_SIZE}"),
        ({"compute_name": "local"}, {}, "this is not a cluster; --backend playground trains here"),
        ({"compute_name": "Serverless"}, {}, "this is not a cluster; leave it out and give --vm-size"),
        ({"create_compute": True}, {}, "create_compute: the cluster needs a name; give --compute-name"),
        ({"create_compute": True, "compute_name": "gpu"}, {}, "create_compute: of what size? Give --vm-size, such as"),
        ({"compute_name": "gpu", "max_nodes": 4}, {}, "max_nodes=4 is for a cluster that is created; add --create-co"),
        ({"compute_name": "gpu", "idle_minutes": 3}, {}, "idle_minutes=3 is for a cluster that is created"),
        ({"compute_name": "gpu", "vm_size": ONE, "create_compute": True, "max_nodes": 2}, {"launch": {"nnodes": 3}},
         "max_nodes=2: the job needs nnodes=3 machines at once and would wait forever; give --max-nodes 3"),
        ({}, {"launch": {"nnodes": 2, "rdzv_endpoint": "a:1"}}, "rdzv_endpoint=a:1: Azure makes its machines meet"),
        ({}, {"launch": {"num_gpus": 4}},
         f"num_gpus=4: {DEFAULT_SIZE} (the default) has 1 GPU; give --vm-size Standard_NC64as_T4_v3"),
        ({"vm_size": ONE}, {"launch": {"num_gpus": 4}}, f"num_gpus=4: {ONE} has 1 GPU; give --vm-size {FOUR}"),
        ({"vm_size": FOUR}, {"launch": {"num_gpus": 8}}, f"num_gpus=8: {FOUR} has 4 GPUs; give --vm-size {EIGHT}"),
        ({"vm_size": FOUR}, {"launch": {"num_gpus": 16, "nnodes": 2}},
         f"num_gpus=16: {FOUR} has 4 GPUs; give --num-gpus 8 --nnodes 4 --vm-size {EIGHT} (no machine has 16)"),
        ({"vm_size": "Standard_D4s_v5"}, {"launch": {"num_gpus": 12}},
         "has no GPU; give --num-gpus 6 --nnodes 2 --vm-size Standard_ND96asr_v4 (no machine has 12)"),
        ({}, {"launch": {"num_processes": 16}}, "has 1 GPU; give --num-processes 8 --nnodes 2 --vm-size Standard_ND"),
        ({"vm_size": ONE}, {"launch": {"num_processes": 2}}, f"num_processes=2: {ONE} has 1 GPU; give --vm-size Stan"),
        ({"vm_size": "Standard_D4s_v5"}, {"launch": {"num_gpus": 1}},
         f"num_gpus=1: Standard_D4s_v5 has no GPU; give --vm-size {DEFAULT_SIZE}"),
        ({"vm_size": "Standard_D4s_v5"}, {"playground": {"device": "cuda"}},
         "device=cuda: Standard_D4s_v5 has no GPU"),
        ({"vm_size": "Standard_D4s_v5"}, {"run": {"precision": "fp16"}}, "precision=fp16 needs a GPU, and St"),
        ({}, {"playground": {"device": "mps"}}, "device=mps: Azure has no machines with Apple's GPUs; leave --dev"),
    ],
)  # fmt: skip
def test_machines_that_cannot_be_are_refused(azure: dict[str, Any], sections: dict[str, Any], told: str) -> None:
    assert told in fault(azure=azure, **sections)


def test_what_is_known_of_sizes_without_asking() -> None:
    assert [gpus_of(name) for name in (ONE, FOUR.upper(), "Standard_E8s_v5", "Standard_ND999x_v9", None)] == [
        1, 4, 0, None, None,
    ]  # fmt: skip
    assert [vcpus_of(name) for name in (ONE, "Standard_ND96isr_H100_v5", "Standard_D4s_v5", None)] == [24, 96, 4, None]
    assert [size_with(n) for n in (1, 2, 4, 8, 9)] == [
        DEFAULT_SIZE, "Standard_NC48ads_A100_v4", "Standard_NC64as_T4_v3", "Standard_ND96asr_v4", None,
    ]  # fmt: skip


def test_machines_that_are_used_at_once() -> None:
    assert nodes_at_once(azure_config(launch={"nnodes": 3})) == 3
    assert nodes_at_once(azure_config(azure={"sweep": True}, launch={"nnodes": 3})) == 12
    assert nodes_at_once(azure_config(azure={"sweep": True, "max_trials": 2})) == 2
    few = azure_config(azure={"sweep": True, "search": ["d_model=128,256"]}, launch={"nnodes": 3})
    assert nodes_at_once(few) == nodes_to_create(few) == 6
    assert nodes_to_create(azure_config(azure={"max_nodes": 4})) == 4
    assert serverless_size(azure_config(azure={"compute_name": "gpu", "vm_size": ONE})) is None


# -- environments ----------------------------------------------------------------------------------------------------

CURATED = "azureml://registries/azureml/environments/acpt-pytorch-{}-cuda12.6/labels/latest"


@pytest.mark.parametrize(
    "name",
    [
        "mine@latest", "mine:3", "azureml:mine:3", "azureml:my-env.v2@latest", CURATED.format("2.13"),
        CURATED.format("3.0"), "azureml://registries/r/environments/e/versions/12",
        "azureml:/subscriptions/s/resourceGroups/g/providers/p/workspaces/w/environments/e/versions/1",
    ],
)  # fmt: skip
def test_references_to_environments(name: str) -> None:
    check_environment(name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mine", "environment=mine: which version? Give mine@latest, or mine:3"),
        ("azureml:mine", "which version? Give azureml:mine@latest"),
        (
            "mcr.microsoft.com/azureml/openmpi5.0-cuda12.6-ubuntu24.04:latest",
            "this is an image; give it as --docker-image",
        ),
        (
            "azureml://registries/azureml/environments/mine",
            "should be NAME@latest, NAME:VERSION or azureml://registries/",
        ),
        ("my env@latest", "should be NAME@latest"),
        ("mine@Latest", "environment=mine@Latest: the only label is latest; give mine@latest, or a version, as mine:3"),
        (CURATED.format("2.8"), "it has torch 2.8, and this project needs 2.13 or newer; leave --environment out"),
        ("AzureML-pytorch-1.10-ubuntu18.04-py38-cuda11-gpu@latest", "it has torch 1.10"),
    ],
)
def test_environments_that_cannot_be_are_refused(name: str, told: str) -> None:
    assert told in fault(azure={"environment": name})


def test_the_least_torch_is_the_project_s() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"torch>={'.'.join(map(str, LEAST_TORCH))}" in project["dependencies"]


@pytest.mark.parametrize(
    "name", [DEFAULT_IMAGE, "ubuntu", "ubuntu:24.04", "my.registry:5000/a/b-c:1", f"a/b@sha256:{'0' * 64}"]
)
def test_images(name: str) -> None:
    check_image(name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mcr.microsoft.com/azureml/openmpi4.1.0-cuda11.8-cudnn8-ubuntu22.04", DEFAULT_IMAGE),
        ("https://mcr.microsoft.com/a:1", "should be the name of an image, such as"),
        ("My Image", "should be the name of an image"),
        ("a/B:latest", "should be the name of an image"),
    ],
)  # fmt: skip
def test_images_that_cannot_be_are_refused(name: str, told: str) -> None:
    assert told in fault(azure={"docker_image": name})


def test_an_environment_has_its_image() -> None:
    told = fault(azure={"environment": "mine@latest", "docker_image": "ubuntu:24.04"})
    assert "environment=mine@latest and docker_image=ubuntu:24.04 contradict each other" in told


# -- what stays on this machine --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("azure", "sections", "told"),
    [
        ({}, {"hub": {"push_to_hub": "me/apt"}}, "the job would need your token, which does not belong into a job; "
         "push afterwards: python tools/export_model.py runs/default --push-to-hub me/apt"),
        ({}, {"track": {"track": "wandb"}}, "the job would need your W&B login, which does not belong into a job; "),
        ({}, {"track": {"mlflow_tracking_uri": "sqlite:///a.db"}}, "the job cannot reach a file of this machine"),
        ({}, {"track": {"mlflow_tracking_uri": "http://127.0.0.1:5000"}}, "the job cannot reach this machine; leave"),
        ({}, {"track": {"mlflow_tracking_uri": "http://localhost:5000"}}, "the job cannot reach this machine"),
        ({}, {"track": {"mlflow_tracking_uri": "azureml://x"}}, "the job logs to the run that Azure makes for it"),
        ({}, {"track": {"mlflow_tracking_uri": "azureml"}}, "the job logs to the run that Azure makes for it"),
        ({}, {"track": {"mlflow_experiment": "mine"}}, "give --experiment-name mine"),
        ({"track_in_workspace": False}, {"track": {"track": "mlflow"}}, "track=mlflow and --no-track-in-workspace "),
        ({}, {"data": {"datasets": ["gone.json"]}}, "gone.json: no such data file"),
    ],
)  # fmt: skip
def test_what_the_job_does_not_have_is_not_asked_for(
    azure: dict[str, Any], sections: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert told in fault(azure=azure, **sections)


def test_a_callback_s_module_must_go_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(CHECKOUT))
    told = fault("huggingface", huggingface={"trainer_callbacks": ["tests.support.hub_stand_in:Callback"]})
    assert (
        told
        == "trainer_callbacks: tests.support.hub_stand_in is in tests, which stays here; add --snapshot-include tests"
    )
    included = {"snapshot_include": [str(CHECKOUT / "tests")]}
    validate_azure(
        azure_config("huggingface", included, huggingface={"trainer_callbacks": ["tests.support.hub_stand_in:C"]})
    )
    validate_azure(azure_config("huggingface", huggingface={"trainer_callbacks": ["transformers:PrinterCallback"]}))


def test_a_task_and_a_family_of_the_user_s_own_go_along_with_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs: dict[str, Any] = {
        "task": "tests.third_party.task.apt_reversal_task:ReversalTask",
        "family": "tests.third_party.model.apt_averaging_model:AveragingFamily",
    }
    monkeypatch.syspath_prepend(str(CHECKOUT))
    told = "tests.third_party.task.apt_reversal_task is in tests, which stays here; add --snapshot-include tests"
    assert fault(**theirs) == f"task: {told}"
    assert fault(family=theirs["family"]).startswith("model: tests.third_party.model")
    included = {"snapshot_include": [str(CHECKOUT / "tests")]}
    config = azure_config(azure=included, **theirs, data={"digits": 3}, model={"features": 8})
    validate_azure(config)
    inside = inner_config(config)
    assert (inside.task, inside.model.model) == (theirs["task"], theirs["family"])
    assert (inside.data, inside.model) == (config.data, config.model)


def test_a_class_outside_the_checkout_stays_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = CHECKOUT / "tests" / "third_party" / "task" / "apt_reversal_task.py"
    (tmp_path / "my_reversal.py").write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    told = fault(task="my_reversal:ReversalTask")
    assert told.startswith(f"task: my_reversal is in {tmp_path / 'my_reversal.py'}, which stays here; move it into")


def test_a_package_that_the_built_environment_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry("tests.third_party.task.apt_reversal_task:ReversalTask", "from package apt-reversal-task")
    monkeypatch.setattr(TASKS, "third_party", {"reversal": entry})
    assert fault(task="reversal") == (
        "task=reversal: it is from package apt-reversal-task, which the job's environment does not have; give "
        "--environment NAME of one that has it"
    )
    validate_azure(azure_config(azure={"environment": "mine@latest"}, task="reversal"))


# -- the run inside --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inner", "sections", "told"),
    [
        ("deepspeed", {"deepspeed": {"hostfile": "hosts"}}, "hostfile=hosts: Azure starts the machines; give --nn"),
        ("deepspeed", {"optimizer": {"optimizer": "muon"}}, "--backend deepspeed cannot do optimizer muon"),
        ("deepspeed", {"deepspeed": {"zero_stage": 2, "param_offload": True}}, "param_offload needs --zero-stage 3"),
        ("playground", {"launch": {"num_gpus": 1}, "playground": {"device": "cpu"}}, "num_gpus=1 and device=cpu con"),
        ("huggingface", {"huggingface": {"hf": ["learning_rate=1"]}}, "learning_rate"),
    ],
)  # fmt: skip
def test_what_the_front_door_in_the_job_would_refuse_is_refused_here(
    inner: str, sections: dict[str, Any], told: str
) -> None:
    assert told in fault(inner, **sections)


def test_deepspeed_s_own_file_counts_the_ranks_of_all_machines(tmp_path: Path) -> None:
    document = tmp_path / "ds.json"
    document.write_text('{"train_batch_size": 32, "train_micro_batch_size_per_gpu": 4}', encoding="utf-8")
    sections: dict[str, Any] = {"deepspeed": {"deepspeed_config": str(document)}, "run": {"batch_size": 32}}
    config = azure_config("deepspeed", {"vm_size": FOUR}, launch={"num_gpus": 4, "nnodes": 2}, **sections)
    validate_azure(config)  # 32 samples are 4 for each of 8 ranks
    assert "train_micro_batch_size_per_gpu" in fault("deepspeed", {"vm_size": FOUR}, launch={"num_gpus": 4}, **sections)


# -- options that would do nothing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"search": ["d_model=128,256"]}, {"sweep_metric": "train/loss"}, {"sweep_goal": "minimize"},
        {"sampling": "grid"},
        {"early_termination": "bandit"}, {"slack_factor": 0.3}, {"truncation_percentage": 30}, {"max_trials": 3},
        {"evaluation_interval": 2}, {"delay_evaluation": 2}, {"max_concurrent_trials": 2}, {"trial_timeout_hours": 1},
    ],
)  # fmt: skip
def test_an_option_of_a_sweep_needs_one(options: dict[str, Any]) -> None:
    [name] = options
    assert re.fullmatch(rf"{name}=.*: only a sweep has it; add --sweep, or leave it out", fault(azure=options))


@pytest.mark.parametrize(
    ("policy", "options"),
    [
        ("none", {"slack_factor": 0.3}), ("median_stopping", {"slack_factor": 0.3}), ("none", {"delay_evaluation": 2}),
        ("bandit", {"truncation_percentage": 30}), ("none", {"evaluation_interval": 2}),
    ],
)  # fmt: skip
def test_an_option_of_early_termination_needs_its_policy(policy: str, options: dict[str, Any]) -> None:
    [name] = options
    told = fault(azure={"sweep": True, "early_termination": policy, **options})
    assert f"early_termination={policy} does not look at it; leave it out" in told
    assert told.startswith(f"{name}=")


@pytest.mark.parametrize(
    "options",
    [
        {"timeout_hours": 0}, {"timeout_hours": -1}, {"timeout_hours": 1e9}, {"trial_timeout_hours": -2},
        {"max_trials": 0}, {"max_concurrent_trials": 0}, {"max_nodes": 0}, {"idle_minutes": -1},
        {"snapshot_limit_mb": 0}, {"slack_factor": 0}, {"truncation_percentage": 100}, {"evaluation_interval": 0},
        {"delay_evaluation": -1}, {"vm_size": ""}, {"docker_image": ""},
    ],
)  # fmt: skip
def test_a_number_out_of_range_is_refused(options: dict[str, Any]) -> None:
    [(name, value)] = options.items()
    with pytest.raises(ConfigError, match=rf"{name} = {value!r}"):
        azure_config(azure=options)


def test_times_are_whole_seconds_and_never_none() -> None:
    assert [seconds(hours) for hours in (24.0, 1.5, 0.0001, 1e-9)] == [86400, 5400, 1, 1]


# -- the pins --------------------------------------------------------------------------------------------------------


def test_the_committed_environment_is_what_is_computed() -> None:
    assert conda_environment() == computed_environment(), "run: python -m training.azure.settings.environment"
    assert CONDA_FILE.read_text(encoding="utf-8").startswith("# Written by")


def test_the_environment_has_each_package_that_a_backend_needs_at_the_version_that_is_tested() -> None:
    [python, pip, rest] = conda_environment()["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    pins = set(rest["pip"])
    tested = set((CHECKOUT / "constraints.txt").read_text(encoding="utf-8").split())
    assert pins <= tested
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(text for extra in EXTRAS for text in project["optional-dependencies"][extra])]
    names = {re.split(r"==", pin)[0].lower().replace("_", "-") for pin in pins}
    for text in (*wanted, "azureml-mlflow"):
        assert re.split(r"[<>=\[; ]", text)[0].lower() in names, text
    assert not any(name.startswith(("nvidia", "pytest", "apt-trainer")) for name in names)


def test_the_environment_is_plain_yaml_for_conda() -> None:
    assert yaml.safe_load(CONDA_FILE.read_text(encoding="utf-8"))["channels"] == ["conda-forge", "nodefaults"]
