"""Variables that other programs leave behind do not change a run: each library's own are fed to it."""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from training.errors import ConfigError
from training.machine.environment import LEFT_ALONE, LEFT_OUT, refuse_unusable, remove_leftovers, variables_set
from training.record.reporter import read_events
from training.settings.rank_identity import VARIABLES

if TYPE_CHECKING:
    from tests.conftest import FrontDoor, TinyDataset, Train

ROOT = Path(__file__).resolve().parents[3]

READ = re.compile(
    r"(?:environ(?:\.get\(|\.setdefault\(|\[)|getenv\(|parse_(?:flag|choice)_from_env\()\s*[\"']([A-Z][A-Z0-9_]{3,})[\"']"
)
"""A variable that Python code reads by its name."""
PREFIXED = ("ACCELERATE_", "FSDP_", "FP8_", "MEGATRON_LM_", "PARALLELISM_CONFIG_")
"""Variables that accelerate reads by a prefix and a name."""


def variables_read_by(library: str) -> set[str]:
    """Names that the installed library's source asks the environment for; its tests and own commands left out."""
    spec = importlib.util.find_spec(library)
    assert spec is not None
    assert spec.origin is not None
    sources = [
        path
        for path in Path(spec.origin).parent.rglob("*.py")
        if not {"test_utils", "commands", "autotuning", "models", "testing_utils.py", "op_builder"} & set(path.parts)
    ]
    return {name for path in sources for name in READ.findall(path.read_text(encoding="utf-8", errors="replace"))}


def is_removed(name: str) -> bool:
    """Return whether the front door takes the variable out of a process that no launcher started."""
    return any(fnmatch.fnmatchcase(name, pattern) for rule in LEFT_OUT for pattern in rule.names)


def test_every_variable_by_which_accelerate_is_configured_is_removed() -> None:
    read = {name for name in variables_read_by("accelerate") if name.startswith(PREFIXED)}
    assert len(read) > 30, "the source is written in another way: look again"
    assert [name for name in sorted(read) if not is_removed(name)] == []
    for prefix, name in (("ACCELERATE_DYNAMO_", "BACKEND"), ("FSDP_", "OFFLOAD_PARAMS"), ("MEGATRON_LM_", "TP_DEGREE")):
        assert is_removed(prefix + name), "read by prefix and name"


def test_what_is_removed_is_said_with_what_decides_instead() -> None:
    environment = {
        "ACCELERATE_MIXED_PRECISION": "bf16",
        "ACCELERATE_DYNAMO_BACKEND": "NO",
        "ACCELERATE_DYNAMO_MODE": "max-autotune",
        "DS_ACCELERATOR": "cuda",
        "PET_MAX_RESTARTS": "3",
        "PET_NO_PYTHON": "1",
        "MASTER_PORT": "xyz",
        "NVIDIA_TF32_OVERRIDE": "0",
        "DNNL_DEFAULT_FPMATH_MODE": "BF16",
        "PATH": "/bin",
        "SLURM_PROCID": "3",
        "OMP_NUM_THREADS": "4,2",
    }
    assert remove_leftovers(environment) == (
        "not used from the environment: ACCELERATE_MIXED_PRECISION=bf16 (--precision decides); "
        "ACCELERATE_DYNAMO_MODE=max-autotune (--compile of --backend playground decides); "
        "PET_MAX_RESTARTS=3, PET_NO_PYTHON=1 (--num-processes, --num-gpus, "
        "--nnodes and --rdzv-endpoint decide); MASTER_PORT=xyz (no launcher started this process); "
        "DNNL_DEFAULT_FPMATH_MODE=BF16 (--precision decides, and TF32 is not fp32)"
    )
    assert environment == {
        "ACCELERATE_DYNAMO_BACKEND": "NO",
        "NVIDIA_TF32_OVERRIDE": "0",
        "PATH": "/bin",
        "SLURM_PROCID": "3",
        "OMP_NUM_THREADS": "4",
    }
    assert remove_leftovers(environment) is None


def test_a_rank_keeps_what_its_launcher_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "1")
    set_by_torchrun = {"TORCHELASTIC_USE_AGENT_STORE": "True", "MASTER_PORT": "29500", "OMPI_COMM_WORLD_SIZE": "2"}
    environment = {**set_by_torchrun, "ACCELERATE_MIXED_PRECISION": "bf16"}
    assert remove_leftovers(environment) == (
        "not used from the environment: ACCELERATE_MIXED_PRECISION=bf16 (--precision decides)"
    )
    assert environment == set_by_torchrun


@pytest.mark.parametrize(
    ("name", "value"), [("OMPI_COMM_WORLD_SIZE", "4"), ("PMI_SIZE", "x"), ("MV2_COMM_WORLD_SIZE", "2")]
)
def test_one_of_several_processes_of_mpirun_does_not_train_alone(
    name: str, value: str, front_door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    refused = front_door(["--epochs", "1"])
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"error: {name}={value} in the environment: the processes of mpirun do not join")
    assert "-u OMPI_COMM_WORLD_RANK" in refused.stderr
    assert remove_leftovers(alone := {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}) is None
    assert alone == {}


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("OMP_NUM_THREADS", "abc", "a number of threads, such as 4"),
        ("OMP_NUM_THREADS", "0", "a number of threads, such as 4"),
        ("MKL_NUM_THREADS", "-1", "a number of threads, such as 4"),
        ("TORCH_DISTRIBUTED_DEBUG", "yes", "OFF, INFO or DETAIL"),
        ("TQDM_MININTERVAL", "x", "a number"),
        ("MPLBACKEND", "nonsense", "one of matplotlib's backends, such as agg"),
    ],
)
def test_a_value_at_which_a_library_fails_is_one_line(name: str, value: str, wanted: str) -> None:
    with pytest.raises(ConfigError) as refused:
        remove_leftovers({name: value})
    assert str(refused.value) == f"{name}={value} in the environment: should be {wanted}; or unset it"
    remove_leftovers({name: ""})


def test_matplotlib_s_own_backends_are_all_taken() -> None:
    from matplotlib.backends.registry import backend_registry

    for name in backend_registry.list_builtin():  # type: ignore[no-untyped-call]
        refuse_unusable({"MPLBACKEND": name})
    refuse_unusable({"MPLBACKEND": "module://matplotlib_inline.backend_inline"})


def test_what_a_library_sets_for_itself_does_not_look_like_a_leftover(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "the user's")
    with variables_set(DS_ACCELERATOR="cpu", LOCAL_RANK="0"):
        os.environ.update({"ACCELERATE_USE_DEEPSPEED": "true", "RANK": "0", "OF_A_CALLBACK": "1"})
    assert os.environ["DS_ACCELERATOR"] == "the user's"
    assert not {"LOCAL_RANK", "RANK", "ACCELERATE_USE_DEEPSPEED"} & set(os.environ)
    assert os.environ.pop("OF_A_CALLBACK") == "1"


def test_a_variable_is_not_both_removed_and_left_alone() -> None:
    left_alone = [pattern.strip() for patterns in LEFT_ALONE for pattern in patterns.split(",")]
    removed = [pattern for rule in LEFT_OUT for pattern in rule.names]
    assert not set(left_alone) & set(removed)


def test_a_variable_that_switches_compiling_off_is_not_taken_for_a_compiled_run(
    front_door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    refused = front_door(["--compile", "--dry-run"])
    line = "error: --compile: TORCHDYNAMO_DISABLE=1 in the environment switches it off; unset it\n"
    assert (refused.exit_code, refused.stderr) == (2, line)
    assert front_door(["--dry-run"]).exit_code == 0


@pytest.mark.slow
def test_accelerate_s_variables_do_not_change_the_curve(
    front_door: FrontDoor, train: Train, tiny_dataset: TinyDataset, tiny_flags: list[str], tmp_path: Path
) -> None:
    words: list[str | Path] = [*tiny_flags, "--datasets", tiny_dataset(), "--max-steps", "4", "--precision", "fp32"]
    left_over = {
        "ACCELERATE_MIXED_PRECISION": "bf16",
        "ACCELERATE_DYNAMO_BACKEND": "inductor",
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "7",
        "ACCELERATE_USE_FSDP": "true",
        "ACCELERATE_USE_PARALLELISM_CONFIG": "true",
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_TORCH_DEVICE": "meta",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "DS_ACCELERATOR": "cuda",
        **dict.fromkeys(("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"), "7"),
    }
    with_them = train([*words, "--backend", "huggingface", "--run-dir", tmp_path / "there"], env=left_over)
    assert with_them.returncode == 0, with_them.stderr
    (said,) = [line for line in with_them.stderr.splitlines() if line.startswith("warning: not used from the env")]
    silent = ["DS_ACCELERATOR", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"]
    assert [name for name in left_over if name not in said] == silent
    here = front_door([*words, "--backend", "playground", "--run-dir", tmp_path / "here"])
    assert here.exit_code == 0, here.stderr
    losses = {
        name: [event["loss"] for event in read_events(tmp_path / name / "progress.jsonl") if event["event"] == "step"]
        for name in ("here", "there")
    }
    assert len(losses["here"]) == 4
    assert losses["there"] == pytest.approx(losses["here"], rel=1e-6)


@pytest.mark.slow
def test_from_python_they_are_removed_before_torch_is_imported() -> None:
    program = (
        "import json, os, sys, warnings\n"
        "with warnings.catch_warnings(record=True) as said:\n"
        "    warnings.simplefilter('always')\n"
        "    from training import Trainer\n"
        "import torch\n"
        "print(json.dumps([str(w.message) for w in said if 'environment' in str(w.message)]))\n"
        "print(torch.backends.cuda.matmul.allow_tf32, 'TORCH_ALLOW_TF32_CUBLAS_OVERRIDE' in os.environ)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    said, torch_says = done.stdout.splitlines()
    assert json.loads(said) == [
        "not used from the environment: TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1 (--precision decides, and TF32 is not fp32)"
    ]
    assert torch_says == "False False"
