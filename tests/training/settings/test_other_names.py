"""Names of other training programs, answered with the settings that there are here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from training import TrainingConfig
from training.backends.prepare import config_class
from training.backends.registry import BACKENDS
from training.errors import ConfigError
from training.models.registry import MODELS
from training.settings.declarations import aliases, leaves, short_name
from training.settings.flags import launcher_parser
from training.settings.other_names import OTHER_NAMES, answer
from training.tasks.registry import TASKS

if TYPE_CHECKING:
    from tests.conftest import FrontDoor

ROOT = Path(__file__).resolve().parents[3]
NAMES = [(program, name) for program, names in OTHER_NAMES.items() for name in names]


def our_flags() -> set[str]:
    """Every flag of the front door, with any backend."""
    found = {option for action in launcher_parser()._actions for option in action.option_strings}
    trees = [config_class(BACKENDS.load(backend)) for backend in BACKENDS.built_in]
    trees += [
        config_class(task=task, model=model)
        for task in TASKS.built_in
        for model in MODELS.built_in
        if TASKS.load(task).inputs == MODELS.load(model).inputs
    ]
    for tree in trees:
        for key, field in leaves(tree):
            found |= {f"--{name.replace('_', '-')}" for name in (short_name(key), *aliases(field))}
    return found


FLAGS = our_flags()


def test_five_programs_and_more_are_answered() -> None:
    assert {
        "transformers",
        "TRL",
        "accelerate",
        "Axolotl",
        "LLaMA-Factory",
        "Unsloth",
        "DeepSpeed",
    } <= OTHER_NAMES.keys()
    assert len(NAMES) >= 60


def test_what_an_answer_names_exists() -> None:
    for program, name in NAMES:
        text = OTHER_NAMES[program][name]
        named = re.findall(r"--[a-z][a-z0-9-]*", text)
        assert set(named) <= FLAGS, (program, name)
        scripts = re.findall(r"tools/\w+\.py", text)
        assert all((ROOT / script).is_file() for script in scripts), (program, name)
        assert named or scripts or text.startswith(("nothing: ", "the environment variable")), (program, name)
        assert "\n" not in text


def test_no_name_of_ours_is_called_another_programs() -> None:
    ours = {flag[2:].replace("-", "_") for flag in FLAGS}
    taken = {name for program, names in OTHER_NAMES.items() for name in names} & ours
    shared = {
        "output_dir", "gradient_accumulation_steps", "max_steps", "learning_rate", "warmup_steps", "weight_decay",
        "adam_beta1", "adam_beta2", "max_grad_norm", "label_smoothing_factor", "gradient_checkpointing", "save_steps",
        "save_total_limit", "load_best_model_at_end", "push_to_hub", "resume_from_checkpoint", "seed", "deepspeed",
        "local_rank",
    }  # fmt: skip
    assert taken <= shared, "a name that means our own setting needs no answer"


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--per-device-train-batch-size", "a name of transformers, here it is --batch-size"),
        ("--per_device_train_batch_size=4", "a name of transformers, here it is --batch-size"),
        ("--gradient-clip", "here it is --max-grad-norm"),
        ("--micro-batch-size", "a name of Axolotl, here it is --batch-size"),
        ("--cutoff-len", "a name of LLaMA-Factory, here it is --max-seq-len"),
        ("--dataset_text_field", "a name of TRL, here it is --text-column, with --task text"),
        ("--assistant_only_loss", "a name of TRL, here it is --loss-on assistant, with --task chat"),
        ("--max_length", "a name of TRL, here it is --max-seq-len"),
        ("--lora_r", "a name of TRL, here it is --lora-rank"),
        ("--load-in-4bit", "a name of TRL, here it is --qlora"),
        ("--peft_use_dora", "a name of Axolotl, here it is --lora-dora"),
        ("--mask-history", "a name of LLaMA-Factory, here it is --loss-on last"),
        ("--full-finetuning", "a name of Unsloth, for which there is nothing here: without --lora"),
        ("--mixed_precision", "a name of accelerate, here it is --precision bf16 or --precision fp16"),
        ("--train_micro_batch_size_per_gpu", "a name of DeepSpeed, here it is --batch-size"),
        ("--checkpoint_dir", "here it is --run-dir"),
        ("--fsdp", "a name of transformers, for which there is nothing here: FSDP is not supported"),
    ],
)
def test_an_unknown_flag_is_answered_with_ours(flag: str, told: str, front_door: FrontDoor) -> None:
    refused = front_door([flag, "4"] if "=" not in flag else [flag])
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"error: unknown flag {flag.partition('=')[0]}; {told}" if told[0] == "a" else "")
    assert told in refused.stderr
    assert "did you mean" not in refused.stderr


@pytest.mark.parametrize(("program", "name"), NAMES)
def test_no_name_is_answered_by_likeness(program: str, name: str) -> None:
    assert answer(f"--{name.replace('_', '-')}").startswith("; a name of ")


def test_keys_of_a_file_and_of_python_are_answered_with_keys(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    asked = {"per_device_train_batch_size": "batch_size", "checkpoint_dir": "run_dir", "num_train_epochs": "epochs"}
    for theirs, ours in asked.items():
        path.write_text(f"{theirs}: 4\n", encoding="utf-8")
        with pytest.raises(ConfigError, match=f"unknown key '{theirs}'; a name of .*, here it is {ours}"):
            TrainingConfig.from_yaml(path)
        with pytest.raises(ConfigError, match=f"{theirs}.*here it is {ours}"):
            TrainingConfig.from_dict({"run": {theirs: 4}})


def test_explain_answers_them_too(front_door: FrontDoor) -> None:
    assert "here it is max_seq_len" in front_door(["--explain", "cutoff_len"]).stderr
