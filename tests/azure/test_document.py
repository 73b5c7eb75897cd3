"""The job that is submitted: Azure's own SDK reads our YAML and makes of it what we mean."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
import yaml
from pydantic import TypeAdapter

from tests.azure.settings import azure_config
from training.azure.environment import conda_environment
from training.azure.job_document import cost_lines, job_document, to_yaml
from training.azure.sdk import load_sdk
from training.azure.search_space import parse
from training.backends.prepare import config_class
from training.backends.registry import BACKENDS
from training.errors import ConfigError
from training.settings.declarations import leaves
from training.settings.flags import add_launcher_flags, build_parser, parse_flags
from training.settings.tree import TrainingConfig

SIZE = "Standard_NC96ads_A100_v4"


def as_azure_reads_it(document: dict[str, Any], tmp_path: Path) -> Any:
    """What the SDK would send: the properties of the job's REST object, in the names of the wire."""
    load_sdk()
    from azure.ai.ml import load_job

    (tmp_path / "code").mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the SDK's own use of marshmallow
        job = load_job(io.StringIO(to_yaml(document)), relative_origin=str(tmp_path / "job.yml"))
        assert job.name == document["name"]
        return (job._to_job() if hasattr(job, "_to_job") else job)._to_rest_object().properties


def read(config: TrainingConfig, tmp_path: Path, **given: Any) -> Any:
    return as_azure_reads_it(job_document(config, "apt-1", code="code", **given), tmp_path)


# -- one run ---------------------------------------------------------------------------------------------------------


def test_a_serverless_job_asks_for_machines_of_its_own(tmp_path: Path) -> None:
    found = read(azure_config(azure={"vm_size": SIZE, "timeout_hours": 1.5}), tmp_path)
    assert found["jobType"] == "Command"
    assert found.get("computeId") is None
    assert (found["resources"]["instanceType"], found["resources"]["instanceCount"]) == (SIZE, 1)
    assert found["queueSettings"]["jobTier"].lower() == "standard"
    assert found.get("distribution") is None
    assert found["limits"]["timeout"] == "PT1H30M"
    assert found["experimentName"] == "apt-hlbd-training"


def test_low_priority_is_the_spot_tier_of_a_serverless_job(tmp_path: Path) -> None:
    assert read(azure_config(azure={"low_priority": True}), tmp_path)["queueSettings"]["jobTier"].lower() == "spot"


def test_a_job_on_a_cluster_names_it_and_no_machines(tmp_path: Path) -> None:
    found = read(azure_config(azure={"compute_name": "gpu-cluster", "vm_size": SIZE}), tmp_path)
    assert found["computeId"].endswith("gpu-cluster")
    assert found["resources"].get("instanceType") is None
    assert found.get("queueSettings") is None


def test_azure_starts_the_ranks_of_all_machines_and_no_torchrun(tmp_path: Path) -> None:
    config = azure_config("deepspeed", {"vm_size": SIZE}, launch={"num_gpus": 4, "nnodes": 2})
    found = read(config, tmp_path)
    assert found["distribution"]["distributionType"].lower() == "pytorch"
    assert found["distribution"]["processCountPerInstance"] == 4
    assert found["resources"]["instanceCount"] == 2
    assert "torchrun" not in found["command"]
    assert "torch.distributed" not in found["command"]
    assert found["environmentVariables"]["OMP_NUM_THREADS"] == "24"  # 96 processors for 4 ranks


def test_two_machines_with_one_rank_each_are_distributed_too(tmp_path: Path) -> None:
    found = read(azure_config(azure={"compute_name": "two"}, launch={"nnodes": 2}), tmp_path)
    assert found["distribution"]["processCountPerInstance"] == 1


def test_ranks_on_processors_share_them_and_are_told_what_a_launcher_would_tell(tmp_path: Path) -> None:
    config = azure_config(
        "deepspeed",
        {"vm_size": "Standard_D16s_v5"},
        launch={"num_processes": 2},
        deepspeed={"device": "cpu"},
    )
    variables = read(config, tmp_path)["environmentVariables"]
    assert variables["DS_ACCELERATOR"] == "cpu"
    assert variables["OMP_NUM_THREADS"] == "8"
    unknown = azure_config(azure={"compute_name": "c"}, launch={"num_processes": 2})
    assert read(unknown, tmp_path)["environmentVariables"]["OMP_NUM_THREADS"] == "1"


def test_the_run_directory_is_an_output_with_a_fixed_path(tmp_path: Path) -> None:
    config = azure_config(azure={"datastore": "mine"})
    found = read(config, tmp_path)
    assert found["command"] == ("python training/train.py --config job/config.yaml --run-dir ${{outputs.run}} --resume")
    run = found["outputs"]["run"]
    assert run["uri"] == "azureml://datastores/mine/paths/apt-runs/apt-1/"
    assert (run["mode"], run["jobOutputType"]) == ("ReadWriteMount", "uri_folder")


def test_a_job_goes_on_in_another_s_directory_or_with_a_run_from_here(tmp_path: Path) -> None:
    found = read(azure_config(), tmp_path, path="apt-runs/older", has_start=True)
    assert found["outputs"]["run"]["uri"].endswith("/paths/apt-runs/older/")
    assert found["command"].endswith("--resume --start-from job/start")


def test_the_environment_is_built_from_our_pins_or_named(tmp_path: Path) -> None:
    built = read(azure_config(), tmp_path)["environmentId"]
    assert built.image.startswith("mcr.microsoft.com/azureml/openmpi5.0")
    assert built.conda_file == conda_environment()
    for given in ("mine@latest", "azureml:mine:3", "azureml://registries/r/environments/e/labels/latest"):
        named = read(azure_config(azure={"environment": given}), tmp_path)["environmentId"]
        assert named == given.removeprefix("azureml:") or named == given


@pytest.mark.parametrize("name", ["123", "1e3", "0x1f", "true", "null", "2026-11-21", "0777", "1_000", "no", "e-5"])
def test_a_name_that_yaml_might_take_for_something_else_stays_a_name(name: str, tmp_path: Path) -> None:
    config = azure_config(azure={"experiment_name": name, "environment": f"{name}:1"})
    document = job_document(config, name, code="code")
    assert as_azure_reads_it(document, tmp_path)["experimentName"] == name
    assert document["name"] == name


# -- a sweep ---------------------------------------------------------------------------------------------------------


def test_the_sweep_of_the_documents(tmp_path: Path) -> None:
    found = read(azure_config(azure={"sweep": True}), tmp_path)
    assert found["jobType"] == "Sweep"
    assert found["searchSpace"] == {
        "batch_size": ["choice", [[16, 32, 64]]],
        "d_model": ["choice", [[128, 256, 512]]],
        "num_layers": ["choice", [[4, 6, 8]]],
        "learning_rate": ["uniform", [1e-5, 1e-3]],
        "weight_decay": ["uniform", [0.0, 0.1]],
    }
    assert found["objective"] == {"goal": "minimize", "primaryMetric": "train/loss"}
    assert found["samplingAlgorithm"]["samplingAlgorithmType"] == "Random"
    assert found["samplingAlgorithm"]["seed"] == 42
    assert (found["limits"]["maxTotalTrials"], found["limits"]["maxConcurrentTrials"]) == (20, 4)
    assert found["limits"]["timeout"] == "P1D"
    assert found["outputs"]["run"]["uri"].endswith("/paths/apt-runs/${{name}}/")
    assert found["trial"]["command"].endswith(
        "--resume --batch-size ${{search_space.batch_size}} --d-model ${{search_space.d_model}} --num-layers "
        "${{search_space.num_layers}} --learning-rate ${{search_space.learning_rate}} --weight-decay "
        "${{search_space.weight_decay}}"
    )


def test_a_trial_is_a_job_of_its_own_on_as_many_machines(tmp_path: Path) -> None:
    config = azure_config(
        azure={"sweep": True, "vm_size": SIZE, "low_priority": True, "trial_timeout_hours": 2},
        launch={"num_gpus": 4, "nnodes": 2},
    )
    found = read(config, tmp_path)
    assert found["trial"]["distribution"]["processCountPerInstance"] == 4
    assert found["trial"]["resources"]["instanceCount"] == 2
    assert found["resources"]["instanceType"] == SIZE
    assert found["queueSettings"]["jobTier"].lower() == "spot"
    assert found["limits"]["trialTimeout"] == "PT2H"
    on_cluster = read(azure_config(azure={"sweep": True, "compute_name": "gpu-cluster"}), tmp_path)
    assert on_cluster["computeId"].endswith("gpu-cluster")
    assert on_cluster.get("queueSettings") is None


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("learning_rate=log(1e-4..1e-3)", ["loguniform", pytest.approx([-9.210340371976182, -6.907755278982137])]),
        ("learning_rate=uniform(1e-4,1e-3)", ["uniform", [1e-4, 1e-3]]),
        ("num_layers=4..8", ["quniform", [4, 8, 1]]),
        ("batch_size=quniform(16,64,16)", ["quniform", [16, 64, 16]]),
        ("d_ff=qloguniform(5,6,1)", ["qloguniform", [5, 6, 1]]),
        ("weight_decay=normal(0.1,0.001)", ["normal", [0.1, 0.001]]),
        ("rope_theta=lognormal(9,0.1)", ["lognormal", [9, 0.1]]),
        ("weight_decay=qnormal(0.5,0.01,0.1)", ["qnormal", [0.5, 0.01, 0.1]]),
        ("rope_theta=qlognormal(9,0.1,100)", ["qlognormal", [9, 0.1, 100]]),
        ("warmup_steps=randint(10)", ["randint", [10]]),
        ("attention=standard,autopoietic", ["choice", [["standard", "autopoietic"]]]),
        ("max_grad_norm=none,0.5", ["choice", [["none", 0.5]]]),
        ("tie_embeddings=true,false", ["choice", [["tie-embeddings", "no-tie-embeddings"]]]),
    ],
)
def test_every_distribution_reaches_azure(text: str, sent: list[Any], tmp_path: Path) -> None:
    config = azure_config(azure={"sweep": True, "search": [text], "max_trials": 2})
    found = read(config, tmp_path)
    [(name, distribution)] = found["searchSpace"].items()
    assert distribution == sent
    placeholder = f"${{{{search_space.{name}}}}}"
    flags = f"--{placeholder}" if name == "tie_embeddings" else f"--{name.replace('_', '-')} {placeholder}"
    assert found["trial"]["command"].endswith(f"--resume {flags}")


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"sampling": "random"}, {"samplingAlgorithmType": "Random", "rule": "random", "seed": 7}),
        ({"sampling": "sobol"}, {"samplingAlgorithmType": "Random", "rule": "sobol", "seed": 7}),
        ({"sampling": "grid", "search": ["d_model=128,256", "num_layers=2,4"], "max_trials": 4}, {"Grid"}),
        ({"sampling": "bayesian"}, {"Bayesian"}),
    ],
)
def test_every_sampling_reaches_azure(options: dict[str, Any], kind: Any, tmp_path: Path) -> None:
    found = read(azure_config(azure={"sweep": True, **options}, run={"seed": 7}), tmp_path)["samplingAlgorithm"]
    if isinstance(kind, set):
        assert {found["samplingAlgorithmType"]} == kind
    else:
        assert {name: str(found[name]).lower() for name in kind} == {n: str(v).lower() for n, v in kind.items()}


@pytest.mark.parametrize(
    ("policy", "sent"),
    [
        ("bandit", {"policyType": "Bandit", "slackFactor": 0.1, "evaluationInterval": 1, "delayEvaluation": 5}),
        ("median_stopping", {"policyType": "MedianStopping", "evaluationInterval": 1, "delayEvaluation": 5}),
        ("truncation_selection", {"policyType": "TruncationSelection", "truncationPercentage": 20}),
    ],
)
def test_every_early_termination_reaches_azure(policy: str, sent: dict[str, Any], tmp_path: Path) -> None:
    found = read(azure_config(azure={"sweep": True, "early_termination": policy}), tmp_path)["earlyTermination"]
    assert {name: found[name] for name in sent} == sent
    assert not found.get("slackAmount")  # a bandit with both is refused by the service


def test_the_metric_and_its_goal_follow_what_is_measured(tmp_path: Path) -> None:
    validated = azure_config(azure={"sweep": True}, data={"validation_split": 0.1})
    assert read(validated, tmp_path)["objective"] == {"goal": "minimize", "primaryMetric": "eval/loss"}
    asked = azure_config(azure={"sweep": True, "sweep_metric": "recitation/accuracy"})
    assert read(asked, tmp_path)["objective"] == {"goal": "maximize", "primaryMetric": "recitation/accuracy"}
    given = azure_config(azure={"sweep": True, "sweep_goal": "maximize"})
    assert read(given, tmp_path)["objective"]["goal"] == "maximize"


def test_a_sweep_begins_anew() -> None:
    config = azure_config(azure={"sweep": True})
    for given in ({"path": "apt-runs/older"}, {"has_start": True}):
        with pytest.raises(ConfigError, match="every trial begins anew"):
            job_document(config, "apt-1", code="code", **given)


@pytest.mark.parametrize(
    "azure", [{}, {"sweep": True}, {"sweep": True, "search": ["tie_embeddings=yes,no"], "max_trials": 2}]
)
def test_every_placeholder_is_defined(azure: dict[str, Any]) -> None:
    document = job_document(azure_config(azure=azure), "apt-1", code="code")
    defined = {f"outputs.{name}" for name in document["outputs"]} | {"name"}
    defined |= {f"search_space.{name}" for name in document.get("search_space", {})}
    used = set(re.findall(r"\$\{\{(.*?)\}\}", to_yaml(document)))
    assert used <= defined
    assert defined - used <= {"name"}


def values_of(kind: Any) -> list[str] | None:
    """Two values of a setting's type, as `--search` takes them; None: it is a list or a path."""
    kinds = [one for one in (get_args(kind) or (kind,)) if one is not NoneType]
    if get_origin(kind) is Literal:
        return [str(one) for one in kinds[:2]]
    texts = {bool: ["true", "false"], int: ["2", "8"], float: ["0.25", "1e-05"], str: ["one", "two"]}
    found = texts.get(kinds[0])
    return ["none", found[0]] if found and NoneType in get_args(kind) else found


@pytest.mark.parametrize("inner", ["playground", "deepspeed", "huggingface"])
def test_a_sweep_over_every_setting_reaches_azure_and_each_trial_s_command_is_understood(
    inner: str, tmp_path: Path
) -> None:
    search = []
    for key, field in leaves(type(azure_config(inner))):
        texts = values_of(field.annotation)
        text = f"{key}={','.join(texts or ('one', 'two'))}"
        try:
            parse(text, type(azure_config(inner)))
        except ConfigError as error:
            refused = str(error)
            assert re.search("does not vary|input should be|should be", refused), refused
        else:
            search.append(text)
    assert len(search) > 40
    config = azure_config(inner, {"sweep": True, "search": search, "max_trials": 2})
    found = read(config, tmp_path)
    assert len(found["searchSpace"]) == len(search)
    inside = config_class(BACKENDS.load(inner))
    parser = build_parser(inside, "train.py", "", {})
    add_launcher_flags(parser)
    for trial in (0, 1):
        drawn = {name: str(values[0][trial]) for name, (_, values) in found["searchSpace"].items()}
        command = found["trial"]["command"]
        for name, value in drawn.items():
            command = command.replace(f"${{{{search_space.{name}}}}}", value)
        layer, _ = parse_flags(parser, command.split()[2:], inside)
        for text in search:
            key, choices = parse(text, type(config))
            kept = dict(leaves(inside))[key]
            annotated: Any = Annotated[kept.annotation, kept]
            assert TypeAdapter(annotated).validate_python(layer[key]) == choices.arguments[trial], text


# -- the text --------------------------------------------------------------------------------------------------------


def test_the_text_holds_the_document_and_can_be_read_by_people() -> None:
    document = job_document(azure_config(azure={"sweep": True}), "apt-1", code="code")
    text = to_yaml(document)
    assert yaml.safe_load(text) == document
    lines = text.splitlines()
    assert lines[0] == "$schema: https://azuremlschemas.azureedge.net/latest/sweepJob.schema.json"
    assert "    values: [16, 32, 64]" in lines
    assert len(lines) < 130


# -- what costs money ------------------------------------------------------------------------------------------------


def test_what_costs_money_is_told() -> None:
    config = azure_config(azure={"vm_size": SIZE, "timeout_hours": 3}, launch={"num_gpus": 2, "nnodes": 2})
    assert cost_lines(config) == [
        f"machines: serverless, {SIZE}, dedicated",
        "2 machines for at most 3 hours: 6 machine-hours at the very most; it ends when done",
        f"warning: {SIZE} has 4 GPUs and the run uses 2; give --num-gpus 4",
    ]
    cluster = {"compute_name": "gpu", "create_compute": True, "vm_size": SIZE, "low_priority": True, "sweep": True}
    told = cost_lines(azure_config(azure=cluster, launch={"num_gpus": 4, "nnodes": 2}))
    assert told[:2] == [
        f"machines: cluster gpu; created if there is none: {SIZE}, low priority, Azure may take them back, 0 to 8 "
        "nodes, an idle one is given back after 10 minutes",
        "at most 20 trials, 4 at a time on 2 machines each, together at most 24 hours: 192 machine-hours at the very "
        "most",
    ]
    assert "varies learning_rate: 1e-05 to 0.001, uniform" in told
    assert cost_lines(azure_config(azure={"sweep": True, "max_trials": 1}))[1].startswith("at most 1 trial, 1 at a")
    assert cost_lines(azure_config(azure={"compute_name": "gpu"}))[0] == "machines: cluster gpu, which must exist"


def test_bf16_on_a_gpu_that_only_emulates_it_is_told() -> None:
    assert cost_lines(azure_config(run={"precision": "bf16"}))[-1].startswith("warning: a T4 only emulates bf16")
