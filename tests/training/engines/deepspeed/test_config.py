"""Our settings as DeepSpeed's JSON; a user's own JSON is followed, filled in, or refused with both values."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.backends.prepare import choose, config_class, prepare
from training.engines.deepspeed.config import deepspeed_json, managed_keys, options_of
from training.errors import ConfigError
from training.settings.layers import Layer
from training.settings.tree import TrainingConfig
from training.train_deepspeed import DeepSpeedBackend, read_hostfile

if TYPE_CHECKING:
    from tests.conftest import FrontDoor


def config(run: dict[str, Any] | None = None, **options: Any) -> TrainingConfig:
    return config_class(DeepSpeedBackend).from_dict({
        "backend": "deepspeed", "model": {"d_model": 64}, "run": run or {}, "deepspeed": options,
    })  # fmt: skip


def written(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@given(st.integers(1, 300), st.integers(1, 64), st.integers(1, 16))
def test_deepspeeds_three_batch_sizes_multiply_out_and_never_fall_short(
    global_batch_size: int, batch_size: int, world_size: int
) -> None:
    made = deepspeed_json(config({"global_batch_size": global_batch_size, "batch_size": batch_size}), world_size)
    micro, steps = made["train_micro_batch_size_per_gpu"], made["gradient_accumulation_steps"]
    assert made["train_batch_size"] == micro * steps * world_size >= global_batch_size
    assert micro <= batch_size
    if global_batch_size % (batch_size * world_size) == 0:
        assert made["train_batch_size"] == global_batch_size


def test_our_settings_alone_are_enough() -> None:
    made = deepspeed_json(config(zero_stage=3, cpu_offload=True, param_offload=True), 2, num_parameters=1000)
    assert made == {
        "zero_optimization": {
            "reduce_bucket_size": 1000,
            "allgather_bucket_size": 1000,
            "stage": 3,
            "offload_optimizer": {"device": "cpu"},
            "offload_param": {"device": "cpu"},
        },
        "train_batch_size": 32,
        "train_micro_batch_size_per_gpu": 16,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "zero_force_ds_cpu_optimizer": False,
    }


def test_a_file_that_leaves_all_to_us_is_filled_in_and_its_own_keys_are_kept(tmp_path: Path) -> None:
    """As Hugging Face's examples have it."""
    path = written(tmp_path / "ds.json", {
        "fp16": {"enabled": "auto", "loss_scale": 0, "loss_scale_window": 1000, "initial_scale_power": 16},
        "bf16": {"enabled": "auto"},
        "optimizer": {"type": "AdamW", "params": dict.fromkeys(("lr", "betas", "eps", "weight_decay"), "auto")},
        "zero_optimization": {
            "stage": "auto", "overlap_comm": False, "reduce_bucket_size": "auto",
            "stage3_prefetch_bucket_size": "auto", "stage3_param_persistence_threshold": "auto",
            "offload_optimizer": {"device": "none", "pin_memory": False},
        },
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "steps_per_print": 2000,
        "wall_clock_breakdown": False,
    })  # fmt: skip
    made = deepspeed_json(config(zero_stage=2, deepspeed_config=path), 2)
    zero = made.pop("zero_optimization")
    assert (zero["stage"], zero["overlap_comm"], zero["reduce_bucket_size"]) == (2, False, 64 * 64)
    assert (zero["stage3_prefetch_bucket_size"], zero["stage3_param_persistence_threshold"]) == (3686, 640)
    assert zero["offload_optimizer"] == {"pin_memory": False}
    assert (made["steps_per_print"], made["wall_clock_breakdown"], made["train_batch_size"]) == (2000, False, 32)
    assert not {"fp16", "bf16", "optimizer"} & made.keys(), "the weights stay fp32, and the optimizer is ours"


def test_every_contradiction_is_listed_with_both_values_and_who_set_ours(tmp_path: Path) -> None:
    path = written(tmp_path / "ds.json", {
        "train_batch_size": 256,
        "gradient_clipping": 0.5,
        "zero_optimization": {"stage": 3, "offload_optimizer": {"device": "nvme"}},
        "bf16": {"enabled": True},
        "optimizer": {"type": "Lamb", "params": {"lr": 0.1, "betas": [0.9, 0.999]}},
    })  # fmt: skip
    with pytest.raises(ConfigError) as refusal:
        deepspeed_json(config(deepspeed_config=path), 2)
    told = str(refusal.value)
    assert "\n" not in told
    for part in (
        f"--deepspeed-config {path} contradicts the settings: ",
        "train_batch_size is 256 there and 32 here (--global-batch-size)",
        "gradient_clipping is 0.5 there and 1.0 here (--max-grad-norm)",
        "zero_optimization.stage is 3 there and 2 here (--zero-stage)",
        'zero_optimization.offload_optimizer.device is "nvme" there and "none" here (--cpu-offload)',
        "bf16.enabled is true there and false here (--precision)",
        'optimizer.type is "Lamb" there and "AdamW" here (--optimizer)',
        "optimizer.params.lr is 0.1 there and 0.0003 here (--learning-rate)",
        "optimizer.params.betas is [0.9, 0.999] there and [0.9, 0.95] here (--adam-beta1 and --adam-beta2)",
    ):
        assert part in told


def test_a_file_that_says_what_our_settings_say_is_accepted_for_each_key(tmp_path: Path) -> None:
    settings = config({"precision": "bf16"}, zero_stage=3, cpu_offload=True, param_offload=True)
    plain = deepspeed_json(settings, 2)
    for key, entry in managed_keys(settings, options_of(settings), 2).items():
        document: Any = entry.value
        for name in reversed(key.split(".")):
            document = {name: document}
        path = written(tmp_path / "ds.json", document)
        options = {"zero_stage": 3, "cpu_offload": True, "param_offload": True, "deepspeed_config": path}
        assert deepspeed_json(config({"precision": "bf16"}, **options), 2) == plain, key


def test_before_the_device_is_known_an_automatic_precision_contradicts_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "ds.json", {"bf16": {"enabled": True}})
    deepspeed_json(config({"precision": "auto"}, deepspeed_config=path), 1)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (
            '{"scheduler": {"type": "WarmupLR"}}',
            "scheduler: the learning rate follows --schedule; take the section out",
        ),
        (
            '{"zero_optimization": {"sub_group_size": "auto"}}',
            'zero_optimization.sub_group_size is "auto", and nothing',
        ),
        ('{"optimizer": {"params": {"freeze_step": 3}}}', "optimizer.params.freeze_step: AdamW has no such setting"),
        ('{"steps_per_print": 1, "steps_per_print": 2}', "key 'steps_per_print' is given twice"),
        ('{"steps_per_print": }', "not valid JSON at line 1, column 21"),
        ("[1]", "DeepSpeed's settings are a JSON object, this is a list"),
        ('{"steps_per_print": ' + "9" * 5000 + "}", "99999999999999999999… is larger than any number"),
        ('{"gradient_clipping": ' + "1" * 400 + "}", "11111111111111111111… is larger than any number"),
        ('{"gradient_clipping": 1e999}', "1e999 is larger than any number"),
        ("[" * 100_000, "nested too deep"),
        ('{"steps_per_print": Infinity}', "Infinity is no number of JSON"),
        ('{"zero_optimization": "x"}', 'zero_optimization is "x"; it should be a section, {…}'),
        ('{"zero_optimization": {"offload_param": 3}}', "zero_optimization.offload_param is 3; it should be a section"),
        ('{"optimizer": "Adam"}', 'optimizer is "Adam"; it should be a section'),
        ('{"activation_checkpointing": "x"}', 'activation_checkpointing is "x"; it should be a section'),
        ('{"flops_profiler": 3}', "flops_profiler is 3; it should be a section"),
        ('{"fp16": true}', "fp16 is true; it should be a section"),
        ('{"train_batch_size": {"a": 1}}', "train_batch_size is a section there; it should be a single value"),
    ],
)
def test_a_file_that_cannot_be_followed_is_refused(tmp_path: Path, document: str, told: str) -> None:
    path = tmp_path / "ds.json"
    path.write_text(document, encoding="utf-8")
    with pytest.raises(ConfigError) as refusal:
        deepspeed_json(config(deepspeed_config=path), 1)
    assert str(refusal.value).startswith(f"--deepspeed-config {path}: {told}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("kind", ["a pipe", "/dev/zero", "too large"])
@pytest.mark.parametrize(
    "flags", [["--backend", "deepspeed", "--deepspeed-config"], ["--backend", "deepspeed", "--hostfile"],
              ["--backend", "huggingface", "--deepspeed"]],
    ids=["deepspeed-config", "hostfile", "deepspeed"],
)  # fmt: skip
def test_only_a_regular_file_of_bounded_size_is_read(
    kind: str, flags: list[str], front_door: FrontDoor, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "too large":
        with path.open("wb") as file:
            file.truncate(5 * 2**30)  # takes no room on the disk
    else:
        path = Path(kind)
    refused = front_door([*flags, path, "--dry-run"])
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert f"{path}: " in refused.stderr
    assert "regular file" in refused.stderr or "1,048,576 bytes" in refused.stderr


def test_an_fp16_run_scales_its_loss_in_one_way(tmp_path: Path) -> None:
    path = written(tmp_path / "ds.json", {"fp16": {"enabled": True, "loss_scale_window": 100}})
    with pytest.raises(ConfigError, match=r"fp16.loss_scale_window: the loss is scaled as --backend playground"):
        deepspeed_json(config({"precision": "fp16"}, deepspeed_config=path), 1)


# -- at the front door ---------------------------------------------------------------------------------------------

REFUSALS = {
    "--zero-stage 5": "zero_stage = '5' (from --zero-stage): input should be less than or equal to 3",
    "--zero-stage 0 --cpu-offload": "cpu_offload needs ZeRO, and zero_stage=0 is none; use --zero-stage 1, 2 or 3",
    "--param-offload": "param_offload needs --zero-stage 3, and zero_stage=2",
    "--precision fp16 --device cpu": "precision=fp16 needs a GPU, and device=cpu was asked for; "
    "use --precision bf16 or fp32",
    "--nnodes 2 --rdzv-endpoint a:1": "nnodes=2: DeepSpeed's launcher takes its machines from a file; use --hostfile "
    "FILE instead of --nnodes and --rdzv-endpoint",
    "--deepspeed-config no.json": "--deepspeed-config no.json: the file cannot be read (No such file or directory)",
}


@pytest.mark.parametrize("flags", REFUSALS)
def test_settings_that_do_not_go_together_are_one_line(front_door: FrontDoor, flags: str) -> None:
    refusal = front_door(["--backend", "deepspeed", *flags.split(), "--dry-run"])
    assert (refusal.exit_code, refusal.stderr) == (2, f"error: {REFUSALS[flags]}\n")


def test_without_deepspeed_it_says_how_to_install_it(front_door: FrontDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    refusal = front_door(["--backend", "deepspeed"])
    command = "pip install -e '.[deepspeed]' -c constraints.txt"
    told = f"error: --backend deepspeed: deepspeed is not installed; run: {command}\n"
    assert (refusal.exit_code, refusal.stderr) == (2, told)


def test_one_rank_runs_here_and_several_through_deepspeeds_launcher(front_door: FrontDoor) -> None:
    alone = front_door(["--backend", "deepspeed", "--dry-run"]).stdout.splitlines()[-1]
    on_gpus = front_door(["--backend", "deepspeed", "--dry-run", "--num-gpus", "2", "--fp16"])
    on_cpu = front_door(["--backend", "deepspeed", "--dry-run", "--num-processes", "2", "--device", "cpu"])
    assert alone == "# plan: runs in this process"
    assert " -m deepspeed.launcher.runner --num_gpus 2 " in on_gpus.stdout.splitlines()[-1], on_gpus.stderr
    plan = on_cpu.stdout.splitlines()[-1]
    assert " -m deepspeed.launcher.runner --num_accelerators 2 " in plan
    assert "DS_ACCELERATOR=cpu " in plan
    assert "training/train_deepspeed.py" in plan


# -- machines ------------------------------------------------------------------------------------------------------


def test_a_hostfile_names_each_machine_once_with_its_gpus(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("# two machines\nworker-0 slots=4\n\nworker-1  slots=8  # the newer one\n", encoding="utf-8")
    assert read_hostfile(path) == {"worker-0": 4, "worker-1": 8}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("worker-0\n", "line 1 is 'worker-0'; each line is `HOST slots=GPUS`"),
        ("a slots=0\n", "line 1 is 'a slots=0'; each line is `HOST slots=GPUS`"),
        ("a slots=1\na slots=2\n", "line 2 names a again; give each machine one line"),
        ("# nothing\n", "it names no machine; each line is `HOST slots=GPUS`"),
    ],
)
def test_a_hostfile_of_another_form_is_refused_by_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "hosts"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as refusal:
        read_hostfile(path)
    assert str(refusal.value) == f"--hostfile {path}: {told}"


def test_the_ranks_of_all_machines_share_the_global_batch(
    front_door: FrontDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hosts").write_text("a slots=4\nb slots=4\n", encoding="utf-8")
    written(Path("ds.json"), {"train_micro_batch_size_per_gpu": 4, "train_batch_size": 32})
    flags = ["--backend", "deepspeed", "--hostfile", "hosts", "--deepspeed-config", "ds.json", "--dry-run"]
    planned = front_door(flags)
    assert planned.exit_code == 0, planned.stderr
    assert " --hostfile hosts " in planned.stdout.splitlines()[-1]
    contradicting = front_door([*flags, "--num-gpus", "2", "--batch-size", "8"])
    assert "train_micro_batch_size_per_gpu is 4 there and 8 here (--batch-size)" in contradicting.stderr


@pytest.mark.parametrize(
    ("document", "given_by_user", "sizes"),
    [  # sizes: global_batch_size, batch_size, gradient_accumulation_steps
        ({"train_batch_size": 256, "gradient_accumulation_steps": 4}, {}, (256, 16, 4)),
        ({"train_batch_size": 256, "train_micro_batch_size_per_gpu": 8}, {}, (256, 8, None)),
        ({"train_micro_batch_size_per_gpu": 8, "gradient_accumulation_steps": 2}, {}, (64, 8, 2)),
        ({"train_micro_batch_size_per_gpu": 8}, {}, (32, 8, None)),
        ({"gradient_accumulation_steps": 4}, {"run.global_batch_size": 64}, (64, 4, 4)),
        ({"train_batch_size": 256}, {"run.batch_size": 16}, (256, 16, None)),
        ({"train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto"}, {}, (None, 32, None)),
    ],
)
@pytest.mark.parametrize("backend", ["deepspeed", "huggingface"])
def test_batch_sizes_of_the_file_come_before_defaults(
    backend: str,
    document: dict[str, Any],
    given_by_user: dict[str, int],
    sizes: tuple[int | None, ...],
    tmp_path: Path,
) -> None:
    """The three sizes multiply out as DeepSpeed completes them, on four ranks."""
    path = written(tmp_path / "ds.json", {**document, "zero_optimization": {"stage": 2}})
    option = {"deepspeed": "deepspeed.deepspeed_config", "huggingface": "huggingface.deepspeed"}[backend]
    settings = {option: str(path), "launch.num_processes": 4, **given_by_user}
    request = prepare(choose(backend=backend), [Layer("mine", settings)]).request
    run = request.config.run
    assert (run.global_batch_size, run.batch_size, run.gradient_accumulation_steps) == sizes
    if "train_batch_size" in document and document["train_batch_size"] != "auto":
        assert request.origins["run.global_batch_size"].endswith(str(path))
