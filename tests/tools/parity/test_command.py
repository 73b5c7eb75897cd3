"""The command line: unusable input is one clear line and exit code 2, before anything runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.language_data import chats_file, tiny_model
from tools import check_training_backends
from tools.parity.front_door import train
from tools.parity.settings import DEFAULT, curve_hash, resolved
from tools.parity.variant import REFERENCE, Variant, expand
from training.backends.prepare import config_class
from training.backends.registry import BACKENDS
from training.errors import ConfigError, UserError
from training.settings.declarations import leaf_names
from training.settings.registry import Entry
from training.tasks.batch_plan import BatchPlan

ROOT = Path(__file__).resolve().parents[3]


# -- variants ------------------------------------------------------------------------------------------------------


def test_a_backend_alone_stands_for_its_usual_ways() -> None:
    assert [v.name for v in expand(["playground"], 2)] == ["playground", "playground:num_processes=2"]
    assert [v.name for v in expand(["playground"], 1)] == ["playground"]
    assert [v.name for v in expand(["deepspeed"], 2)] == [
        f"deepspeed:zero_stage={stage},num_processes=2" for stage in range(4)
    ]


def test_without_names_every_backend_is_looked_at() -> None:
    assert {v.backend for v in expand([], 2)} == set(BACKENDS.names())


def test_a_variant_is_read_as_it_is_written() -> None:
    text = "playground:num_processes=4,compile=true"
    variant = Variant.parse(text)
    assert variant == Variant("playground", (("num_processes", 4), ("compile", True)))
    assert variant.name == text
    assert expand([text, text], 2) == (variant,)
    assert Variant.parse("playground:num-processes=4").settings == (("num_processes", 4),)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("plaground", ("unknown backend", "did you mean 'playground'?")),
        ("playground:", ("should be setting=value",)),
        ("playground:num_processes", ("'num_processes' should be setting=value", "playground:num_processes=2")),
        ("playground:=2", ("'=2' should be setting=value",)),
        ("playground:num_processes=[2]", ("'[2]' is not a single value",)),
        ("playground:num_processes={", ("'{' is not a single value",)),
    ],
)
def test_a_malformed_variant_is_refused(text: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as refusal:
        Variant.parse(text)
    for part in parts:
        assert part in str(refusal.value)


# -- settings ------------------------------------------------------------------------------------------------------


def test_all_variants_learn_the_same(tmp_path: Path) -> None:
    config = resolved(Variant(REFERENCE), None, 30)
    other = resolved(Variant(REFERENCE, (("batch_size", 7), ("num_processes", 2))), None, 30)
    assert curve_hash(config) == curve_hash(other)
    assert (config.run.max_steps, config.report.fingerprints, config.report.answer_samples) == (33, True, 0)


def test_the_reference_is_one_process_whatever_the_config_says(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("launch: {num_processes: 4}\nbackend: deepspeed\nrun_dir: mine\nepochs: 7\n", encoding="utf-8")
    config = resolved(Variant(REFERENCE), str(path), 30)
    assert config.launch.num_processes is None
    assert resolved(Variant(REFERENCE, (("num_processes", 2),)), str(path), 30).launch.num_processes == 2


def test_the_preset_of_a_backend_does_not_change_what_is_compared() -> None:
    preset = BACKENDS.load(REFERENCE).preset
    assert preset is not None
    config = resolved(Variant(REFERENCE), None, 30)
    assert config.schedule.schedule == DEFAULT["schedule"]
    assert config.optimizer.learning_rate == DEFAULT["learning_rate"]


def test_the_default_config_shows_faults() -> None:
    config = resolved(Variant(REFERENCE), None, 30)
    size = config.run.samples_per_update
    plan = BatchPlan([1] * 575, size, config.run.seed, config.data.length_window)
    sizes = {len(plan.indices(0, index)) for index in range(plan.steps_per_epoch)}
    assert sizes == {size, 1}, "the uneven last batch leaves a second rank without a sample"
    assert plan.steps_per_epoch < 30, "it comes up"
    assert config.run.batch_size * 2 < size, "gradients are accumulated, on two ranks too"
    assert set(DEFAULT) <= set(leaf_names(config_class(BACKENDS.load(REFERENCE))))


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        ("dropout: 0.1", ("dropout=0.1", "set dropout: 0")),
        ("precision: auto", ("precision=auto", "fp32 and bf16")),
        ("d_modle: 64", ("unknown key 'd_modle'", "d_model")),
        ("learning_rate: fast", ("learning_rate = 'fast'", "should be a number")),
        ("- 1", ("a config file maps settings to values",)),
    ],
)
def test_a_config_that_cannot_be_compared_is_refused(lines: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(lines, encoding="utf-8")
    with pytest.raises(ConfigError) as refusal:
        resolved(Variant(REFERENCE), str(path), 30)
    for part in parts:
        assert part in str(refusal.value)


def test_flags_of_a_run_say_what_is_trained_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("task: text\ndatasets: [mine.txt]\nlearning_rate: 0.01\n", encoding="utf-8")
    flags = ["--learning-rate", "0.02", "--datasets", "a.jsonl", "b.jsonl", "--d-model", "32"]
    for variant in (Variant(REFERENCE), Variant("deepspeed", (("zero_stage", 2), ("num_processes", 2)))):
        config = resolved(variant, str(path), 30, flags)
        assert (config.task, config.data.datasets) == ("text", ("a.jsonl", "b.jsonl"))
        assert (config.optimizer.learning_rate, config.model.d_model) == (0.02, 32)


def test_flags_alone_are_completed_by_what_shows_faults() -> None:
    config = resolved(Variant(REFERENCE), None, 30, ["--task", "text", "--datasets", "a.txt"])
    assert (config.run.samples_per_update, config.run.batch_size) == (10, 3)
    assert config.model.d_model == config_class(task="text").from_dict({}).model.d_model, "HLBD's is for HLBD"
    config = resolved(Variant(REFERENCE), None, 30, ["--batch-size", "8", "--learning-rate", "1e-5"])
    assert (config.run.samples_per_update, config.model.d_model) == (8, DEFAULT["d_model"])


@pytest.mark.slow
def test_a_model_of_transformers_is_compared_unless_its_own_config_draws_at_random(tmp_path: Path) -> None:
    flags = ["--task", "chat", "--datasets", str(chats_file())]
    config = resolved(Variant(REFERENCE), None, 30, [*flags, "--model", str(tiny_model("gpt2")), "--lora"])
    assert (config.model.model, config.model.base_model) == ("huggingface", str(tiny_model("gpt2")))
    shutil.copytree(tiny_model("gpt2"), tmp_path / "gpt2")
    described = json.loads((tmp_path / "gpt2" / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "gpt2" / "config.json").write_text(json.dumps({**described, "resid_pdrop": 0.1}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"resid_pdrop=0\.1: .* set resid_pdrop: 0 in the config\.json of a copy"):
        resolved(Variant(REFERENCE), None, 30, [*flags, "--model", str(tmp_path / "gpt2")])
    with pytest.raises(ConfigError, match=r"neftune_alpha=5: .* set neftune_alpha: none$"):
        resolved(Variant(REFERENCE), None, 30, [*flags, "--model", str(tiny_model("gpt2")), "--neftune-alpha", "5"])


# -- the command ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--steps", "0"], ("--steps", "'0'")),
        (["--steps", "many"], ("--steps", "'many'")),
        (["--timeout", "-1"], ("--timeout", "'-1'")),
        (["--step", "3"], ("unknown flag --step",)),
        (["--task", "chart"], ("--task chart: unknown task", "did you mean 'chat'?")),
        (["--model", "no_such_model"], ("--model no_such_model: unknown model family",)),
        (["--task", "chat", "--num-processes", "2"], ("--num-processes", "--backends playground:num_processes=2")),
        (["--backend", "deepspeed"], ("--backend is decided by the comparison itself", "--backends")),
        (["--resume"], ("--resume is decided by the comparison itself",)),
        (["--zero-stage", "2"], ("--zero-stage belongs to --backend deepspeed",)),
        (["--dropout", "0.1"], ("dropout=0.1: its random draws depend on how a batch is cut", "set dropout: 0")),
        (["--figure", "a.jpg"], ("a.jpg", "ends in .png")),
        (["--json", "no_such_folder/a.json"], ("--json", "no folder no_such_folder")),
        (["--config", "no_such.yaml"], ("--config no_such.yaml", "no such file")),
        (["--backends", "azur"], ("azur", "did you mean 'azure'?")),
        (["--backends", "azure"], ("--backends azure: its runs train elsewhere, for money",)),
        (["--backends", "playground:zero_stage=1"], ("playground:zero_stage=1", "no setting 'zero_stage'")),
        (["--backends", "playground:num_processes=no"], ("num_processes", "--backends playground:num_processes=")),
        (["--backends", "playground:seed=1,batch_size=7"], ("seed=1 would change what is learned",)),
        (["--backends", "playground:max_steps=5"], ("max_steps is decided by the comparison itself",)),
        (["--backends", "playground:run_dir=x"], ("run_dir is decided by the comparison itself",)),
        (["--backends", "playground:dropout=0.5"], ("dropout=0.5",)),
        (["--runs", "full"], ("--runs full", "not an empty directory")),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_code_2(
    arguments: list[str],
    parts: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["check_training_backends.py", *arguments])
    assert check_training_backends.main() == 2
    told = capsys.readouterr().err
    assert told.startswith("check_training_backends: ")
    assert told.count("\n") == 1
    for part in parts:
        assert part in told
    assert [p.name for p in tmp_path.rglob("*")] == ["full", "mine.txt"], "nothing was written"


def test_a_third_party_s_backend_that_cannot_run_is_shown_unless_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tools.parity.examination import candidate

    broken = Entry("no_such_module:Backend", "from package broken-plug-in")
    monkeypatch.setattr(BACKENDS, "third_party", {"broken": broken})
    shown = candidate(Variant("broken"), None, 30, is_asked_for=False)
    assert shown.config is None
    assert "no_such_module" in shown.available.reason
    with pytest.raises(ConfigError, match="no_such_module"):
        candidate(Variant("broken"), None, 30, is_asked_for=True)


@pytest.mark.slow
def test_help_waits_for_nothing_heavy() -> None:
    script = str(ROOT / "tools" / "check_training_backends.py")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", script, "--help"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0
    assert "--figure FILE" in done.stdout
    assert "| torch" not in done.stderr
    assert "| matplotlib" not in done.stderr


# -- processes -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_that_takes_too_long_is_ended_with_all_its_ranks(tmp_path: Path) -> None:
    endless: list[str | Path] = [
        "--epochs",
        "100000",
        "--batch-size",
        "1",
        "--num-processes",
        "2",
        "--run-dir",
        tmp_path / "run",
    ]
    outcome = train(endless, tmp_path / "log", timeout=12.0)
    assert outcome.exit_code is None
    assert outcome.complaint().startswith("not done after ")
    deadline = time.monotonic() + 10.0
    while (left := _processes_with(str(tmp_path / "run"))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def _processes_with(word: str) -> list[int]:
    """Return the processes that have `word` on their command line, or in their environment's config."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if word in (entry / "cmdline").read_bytes().decode(errors="replace"):
                    found.append(int(entry.name))
            except OSError:  # it has ended meanwhile
                continue
    return found


@pytest.mark.slow
def test_a_reference_that_cannot_run_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("datasets: [no_such_data.json]\nglobal_batch_size: 4\n", encoding="utf-8")
    arguments = ["--config", str(path), "--backends", "playground", "--runs", str(tmp_path / "runs")]
    reason = r"the seed checkpoint could not be written: exit code 2: error: .*no_such_data"
    with pytest.raises(UserError, match=reason):
        check_training_backends.run(arguments)
    assert (tmp_path / "runs" / "seed.log").is_file(), "what it printed is kept"
