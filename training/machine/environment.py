"""Variables that other programs' shells leave behind and that our libraries would read. No torch.

A run is what its settings say. What a setting decides is never taken from a variable: such a variable is removed before
a library reads it, and that is said. `LEFT_OUT` is the whole list; `LEFT_ALONE` says why the others may stay.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
from collections.abc import Iterator, MutableMapping
from typing import NamedTuple

from training.errors import ConfigError
from training.settings.rank_identity import VARIABLES, as_set, is_worker, remedy

NEUTRAL = frozenset({"", "0", "no", "none", "false", "off"})
"""Values that ask for nothing, as `accelerate launch` sets by the dozen."""


class LeftOut(NamedTuple):
    """Variables of a library that are removed."""

    library: str
    names: tuple[str, ...]
    """Names, or patterns with `*`."""
    decided_by: str
    """Setting that decides instead, or the reason why nothing does; empty: the variable is set by us, so there is
    nothing to say."""
    except_in_ranks: bool = False
    """In a process that a launcher started, they are that launcher's own and stay."""


LEFT_OUT: tuple[LeftOut, ...] = (
    LeftOut(
        "accelerate",
        ("ACCELERATE_MIXED_PRECISION", "ACCELERATE_DOWNCAST_BF16", "ACCELERATE_FP8_*", "FP8_*", "XLA_*_BF16"),
        "--precision decides",
    ),
    LeftOut("accelerate", ("ACCELERATE_DYNAMO_*",), "--compile of --backend playground decides"),
    LeftOut("accelerate", ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS",), "--gradient-accumulation-steps decides"),
    LeftOut("accelerate", ("ACCELERATE_GRADIENT_CLIPPING",), "--max-grad-norm decides"),
    LeftOut(
        "accelerate",
        ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_DEEPSPEED_*", "ACCELERATE_CONFIG_DS_FIELDS"),
        "--deepspeed FILE decides",
    ),
    LeftOut("accelerate", ("ACCELERATE_USE_CPU", "ACCELERATE_TORCH_DEVICE"), "--device decides"),
    LeftOut("accelerate", ("ACCELERATE_USE_FSDP", "FSDP_*"), "FSDP is not supported; --deepspeed FILE is"),
    LeftOut(
        "accelerate",
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "PARALLELISM_CONFIG_*", "ACCELERATE_USE_MEGATRON_LM", "MEGATRON_LM_*"),
        "--num-processes or --num-gpus decides",
    ),
    LeftOut("accelerate", ("ACCELERATE_*",), "the run's settings decide"),
    LeftOut("deepspeed", ("DS_ACCELERATOR",), "", except_in_ranks=True),  # set where DeepSpeed is used, by --device
    LeftOut(
        "torchrun", ("PET_*",), "--num-processes, --num-gpus, --nnodes and --rdzv-endpoint decide", except_in_ranks=True
    ),
    LeftOut(
        "torchrun",
        ("TORCHELASTIC_*", "MASTER_ADDR", "MASTER_PORT"),
        "no launcher started this process",
        except_in_ranks=True,
    ),
    LeftOut(
        "torch",
        ("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "*_DEFAULT_FPMATH_MODE"),
        "--precision decides, and TF32 is not fp32",
    ),
    LeftOut(
        "torch",
        ("TORCHINDUCTOR_USE_FAST_MATH", "TORCHINDUCTOR_CPP_ENABLE_UNSAFE_MATH_OPT_FLAG"),
        "with --compile too fp32 is fp32",
    ),
    LeftOut("wandb", ("WANDB_SERVICE",), ""),  # each process has a service of its own; wandb sets it for its children
)
"""Variables that would change the curve, or drop a setting, in the order in which they are looked for."""

LEFT_ALONE = {
    "SLURM_*": "none of our libraries reads them to find other ranks",
    "OMP_*, MKL_*, KMP_*, GOMP_*": "how many threads share a sum changes the last bits only; --num-threads wins",
    "ATEN_CPU_CAPABILITY, CUBLAS_WORKSPACE_CONFIG": "which instructions are used changes the last bits only",
    "CUDA_*, NCCL_*, GLOO_*, PYTORCH_*ALLOC_CONF": "which device, network card and memory are used",
    "TORCHINDUCTOR_*, TORCH_LOGS, TORCH_*": "where compiled code is kept, and what is logged",
    "TORCHDYNAMO_DISABLE, TORCH_COMPILE_DISABLE": "--backend playground refuses --compile with them",
    "TRANSFORMERS_*, HF_*, TENSORBOARD_*, COMET_*": "downloads and logs; transformers' own trackers are switched off",
    "DS_*, DEEPSPEED_*": "how extensions are built that we do not use",
    "WANDB_*, MLFLOW_*": "the user's account, server and project; docs/TRACKING.md says which setting wins",
    "MPLBACKEND, MPL*": "tools draw with a canvas of their own; the dashboard's window may follow the wish",
}
"""Variables of the same libraries that stay, with the reason."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_CANVASES = (
    r"(?i:agg|cairo|macosx|nbagg|notebook|pdf|pgf|ps|svg|template|webagg|wx|(gtk[34]|qt|qt5|tk|wx)(agg|cairo))"
    r"|module://.+"
)
_USABLE = (
    (_THREADS, r"[1-9]\d{0,4}(\s*,\s*[1-9]\d{0,4})*", "a number of threads, such as 4"),
    (("TORCH_DISTRIBUTED_DEBUG",), "(?i:OFF|INFO|DETAIL)", "OFF, INFO or DETAIL"),
    (("TQDM_NCOLS", "TQDM_NROWS", "TQDM_M*I*TER*", "TQDM_SMOOTHING", "TQDM_DELAY"), r"\d+(\.\d+)?", "a number"),
    (("MPLBACKEND",), _CANVASES, "one of matplotlib's backends, such as agg"),
)
"""(names, form of the values that can be used, the form in words)."""

_MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
_MPI = ("OMPI_COMM_WORLD_*", "PMI_*", "MV2_COMM_WORLD_*")


def remove_leftovers(environment: MutableMapping[str, str] = os.environ) -> str | None:
    """Remove the variables of `LEFT_OUT`; return one line that names them, or None if none asked for anything.

    Call it before torch or a library of the list is imported: some are read only once.

    Raises:
        ConfigError: mpirun started this process as one of several, or a value is unusable (`refuse_unusable`).
    """
    _refuse_mpi(environment)
    refuse_unusable(environment)
    removed: dict[str, list[str]] = {}
    for rule in LEFT_OUT:
        if rule.except_in_ranks and is_worker():
            continue
        for name in list(_matching(rule.names, environment)):
            if environment[name].strip().lower() not in NEUTRAL:
                removed.setdefault(rule.decided_by, []).append(as_set(name, environment))
                del environment[name]
    removed.pop("", None)
    if not removed:
        return None
    named = "; ".join(f"{', '.join(variables)} ({reason})" for reason, variables in removed.items())
    return f"not used from the environment: {named}"


@contextlib.contextmanager
def variables_set(**values: str) -> Iterator[None]:
    """Set variables that a library expects while a block runs.

    Afterwards these and all that the libraries have set for themselves are as they were: left behind, they would look
    like another program's.
    """
    before = _own(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        for name in _own(os.environ).keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _own(environment: MutableMapping[str, str]) -> dict[str, str]:
    names = (*VARIABLES, "LOCAL_WORLD_SIZE", *(name for rule in LEFT_OUT for name in rule.names))
    return {name: environment[name] for name in _matching(names, environment)}


def refuse_unusable(environment: MutableMapping[str, str] = os.environ) -> None:
    """Refuse values at which a library fails when it is imported, or which it silently takes for another.

    Raises:
        ConfigError: the first of them, with the values that can be used.
    """
    for patterns, form, wanted in _USABLE:
        for name in _matching(patterns, environment):
            if environment[name] and not re.fullmatch(form, environment[name].strip(), re.ASCII):
                raise ConfigError(f"{as_set(name, environment)} in the environment: should be {wanted}; or unset it")
    for name in _matching(_THREADS, environment):
        # OpenMP's own form has a number for each level of nested parallelism; accelerate reads one number.
        environment[name] = environment[name].partition(",")[0].strip()


def _refuse_mpi(environment: MutableMapping[str, str]) -> None:
    """Refuse to be one of several copies that do not know each other; accelerate would wait for the others forever."""
    if is_worker():
        return
    for name in _MPI_SIZES:
        if name in environment and environment[name] != "1":
            raise ConfigError(
                f"{as_set(name, environment)} in the environment: the processes of mpirun do not join each other; "
                f"start one, with --num-processes or --num-gpus. {remedy(_matching(_MPI, environment))}"
            )
    for name in list(_matching(_MPI, environment)):
        del environment[name]


def _matching(patterns: tuple[str, ...], environment: MutableMapping[str, str]) -> Iterator[str]:
    return (name for name in environment if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))
