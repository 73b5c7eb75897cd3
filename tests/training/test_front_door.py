"""The front door answers: every command of the documents works as written, from any working directory."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml

from tests.conftest import without_free_memory
from training.checkpoints.checkpoint import load_checkpoint
from training.record.reporter import read_report

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import FrontDoor, TinyDataset, Train

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("train.py", "training/train.py", "training/train_hlbd_playground.py")

FLAGS = """
    --adam-beta1 --adam-beta2 --adam-eps --answer-samples --attention --backend --base-model --batch-size --bf16
    --compare --compare-seeds --compile --config --confirm-seeds --d-ff --d-model --dataset --datasets --dbc-rank
    --dbc-spike-factor --device --dropout --dry-run
    --early-stopping --early-stopping-patience --ema-decay --epochs --estimate --explain --fingerprints --fp16
    --fp32 --global-batch-size --gradient-accumulation --gradient-accumulation-steps --gradient-checkpointing
    --halving --help
    --keep-best --keep-last --label-smoothing --label-smoothing-factor --lang --learning-rate --length-window
    --list-backends --list-models --list-tasks
    --load-best-model-at-end --load-checkpoint --loss-on --lr --max-grad-norm --max-seq-len --max-skipped-updates
    --max-steps --max-trials --min-lr --mlflow-experiment --mlflow-tracking-uri --model --muon-momentum --n-heads
    --n-layers --nnodes --no-compile --no-fingerprints --no-gradient-checkpointing --no-keep-best
    --no-load-best-model-at-end --no-private --no-tie-embeddings --no-truncate --norm-eps --num-gpus --num-heads
    --num-layers --num-processes --num-threads
    --optimizer --output-dir --overwrite --pairs --precision --private --push-to-hub --rdzv-endpoint --rdzv-id
    --report-batches --restart-epochs --restart-mult --resume --resume-from-checkpoint --rope-theta --run-dir
    --sampling --save-dir --save-interval --save-steps --save-total-limit --schedule --search --search-space
    --seed --snapshots --stabilizer --start-from --stop-after --sweep --sweep-goal --sweep-metric
    --t-0 --t-mult --task --tie-embeddings --track --train-batch-size --trials --truncate --validation-split
    --vocab-size --wandb
    --wandb-entity --wandb-mode --wandb-project --warmup-steps --weight-decay -h
"""
"""Every flag of `--backend playground`. A flag that users' scripts may hold is taken away only on purpose: change this
list with it, and tell of it in CHANGELOG.md."""


def settings_of(dry_run: str) -> dict[str, Any]:
    """The resolved settings that `--dry-run` printed."""
    resolved = yaml.safe_load(dry_run)
    assert isinstance(resolved, dict)
    return resolved


# -- asking --------------------------------------------------------------------------------------------------------


def test_the_command_line_is_the_one_that_users_know(front_door: FrontDoor) -> None:
    shown = front_door(["--help"]).stdout
    headings = [re.split(r"\s{2,}", line.strip())[0] for line in shown.splitlines() if line.startswith("  -")]
    assert sorted(flag for line in headings for flag in re.findall(r"(?<!\S)--?[a-z][\w-]*", line)) == sorted(
        FLAGS.split()
    )


def test_the_help_has_a_group_for_each_section_and_one_for_the_chosen_backend(front_door: FrontDoor) -> None:
    shown = front_door(["--help"])
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert re.findall(r"^(\w+) options:$", shown.stdout, re.MULTILINE) == [
        *("apt", "hlbd", "optimizer", "schedule", "run", "launch", "checkpoint", "report", "track", "hub"),
        *("playground", "sweep"),
    ]
    own = shown.stdout.partition("\nplayground options:\n  Options of --backend playground.\n")[2]
    assert own.lstrip().startswith("--device {auto,cpu,cuda,mps}")
    assert shown == front_door(["-h"])
    assert shown == front_door(["--help", "--backend", "playground"])


def test_a_task_and_a_family_of_the_users_own_have_their_groups_in_the_help(
    front_door: FrontDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "noises.py").write_text(
        "from pydantic import Field\n"
        "from training.settings.tree import ModelOptions, TaskOptions\n"
        "class Noise:\n"
        "    name, inputs, metrics, prepare, conclude = 'noise', 'tokens', (), None, None\n"
        "    class Options(TaskOptions):\n"
        "        'How the noise is made.'\n"
        "        loudness: float = Field(0.5, description='Standard deviation of the noise.')\n"
        "class Linear:\n"
        "    name, inputs, build, save, load = 'linear', 'tokens', *[None] * 3\n"
        "    class Options(ModelOptions):\n"
        "        'The network: one matrix.'\n"
        "        width: int = Field(8, description='Columns of the matrix.')\n",
        encoding="utf-8",
    )
    chosen: list[str | Path] = ["--task", "noises:Noise", "--model", "noises:Linear"]
    shown = front_door([*chosen, "--help"])
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert "\nnoises:Noise options:\n  How the noise is made.\n" in shown.stdout
    assert "\nnoises:Linear options:\n  The network: one matrix.\n" in shown.stdout
    for flag, is_there in {"--loudness": True, "--width": True, "--datasets": False, "--d-model": False}.items():
        assert (f"  {flag} " in shown.stdout) is is_there, flag
    assert "task = noises:Noise\n" in front_door([*chosen, "--explain", "task"]).stdout
    assert "set by   --loudness\n" in front_door([*chosen, "--loudness", "2", "--explain", "loudness"]).stdout
    (tmp_path / "mine.yaml").write_text("task: noises:Noise\nloudness: 3\n", encoding="utf-8")
    assert "data.loudness = 3.0\n" in front_door(["--config", "mine.yaml", "--explain", "loudness"]).stdout
    refusals = {
        ("--pairs", "full"): "error: --pairs belongs to --task hlbd, not to this one\n",
        ("--no-tie-embeddings",): "error: --no-tie-embeddings belongs to --model apt, not to this one\n",
        ("--loudnes", "2"): "error: unknown flag --loudnes; did you mean '--loudness'? (--help lists all)\n",
    }
    for words, refusal in refusals.items():
        assert front_door([*chosen, *words]).stderr == refusal


@pytest.mark.parametrize(
    ("flag", "names"),
    [
        ("--list-tasks", ["hlbd", "chat", "text", "diffusion"]),
        ("--list-models", ["apt", "huggingface", "unet", "denoising_mlp", "diffusion_pipeline"]),
    ],
)
def test_tasks_and_families_are_listed_with_a_line_that_says_what_they_are(
    flag: str, names: list[str], front_door: FrontDoor
) -> None:
    listed = front_door([flag])
    assert (listed.exit_code, listed.stderr) == (0, "")
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in listed.stdout.splitlines()}
    assert list(lines) == names
    assert all(lines.values())


def test_the_help_shows_the_defaults_that_the_preset_of_the_backend_gives(front_door: FrontDoor) -> None:
    shown = " ".join(front_door(["--help"]).stdout.split())
    assert "reports and the final model. [hlbd_playground]" in shown


def test_the_list_of_backends_says_what_can_run_here(front_door: FrontDoor) -> None:
    listed = front_door(["--list-backends"])
    assert (listed.exit_code, listed.stderr) == (0, "")
    lines = {line.split()[0]: line for line in listed.stdout.splitlines()}
    assert list(lines) == ["playground", "deepspeed", "huggingface", "azure"]
    assert {line.split()[1] for line in lines.values()} == {"available"}


def test_the_list_of_backends_says_what_is_missing_and_the_command_that_mends_it(
    front_door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    line = front_door(["--list-backends"]).stdout.splitlines()[0]
    assert re.search(r"not available .*\(torch is not installed; run: pip install", line)
    refusal = front_door(["--epochs", "1"])
    assert refusal.exit_code == 2
    assert refusal.stderr.startswith("error: --backend playground: torch is not installed; run: pip install")


def test_a_dry_run_prints_a_config_that_gives_the_same_run_again(
    front_door: FrontDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = front_door(["--d-model", "64", "--lr", "1e-3", "--device", "cpu", "--dry-run"])
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout.splitlines()[-1] == "# plan: runs in this process"
    assert list(tmp_path.iterdir()) == [], "a dry run writes nothing"
    (tmp_path / "again.yaml").write_text(shown.stdout, encoding="utf-8")
    again = front_door(["--config", "again.yaml", "--dry-run"])
    assert without_free_memory(again) == without_free_memory(shown)


def test_a_flag_is_never_guessed_from_its_beginning(front_door: FrontDoor) -> None:
    refusal = front_door(["--epoch", "3", "--dry-run"])
    assert refusal.exit_code == 2
    assert refusal.stderr == "error: unknown flag --epoch; did you mean '--epochs'? (--help lists all)\n"


# -- the commands of the documents ---------------------------------------------------------------------------------

PLAYGROUND_COMMAND = (
    *("--dataset", "HLBD_Hardcore_Full.json", "--epochs", "100"),
    *("--save-dir", "hlbd_playground", "--save-interval", "25"),
)


@pytest.mark.parametrize(
    ("backend_name", "args", "expected"),
    [
        (None, ["--backend", "playground", "--epochs", "100"], {"backend": "playground", "run.epochs": 100}),
        (
            "playground",
            PLAYGROUND_COMMAND,
            {
                "data.datasets": ["HLBD_Hardcore_Full.json"],
                "run.epochs": 100,
                "run.run_dir": "hlbd_playground",
                "checkpoint.save_interval": 25,
            },
        ),
        (
            "playground",
            ["--datasets", "A.json", "B.json", "--epochs", "5"],
            {"data.datasets": ["A.json", "B.json"], "run.epochs": 5},
        ),
        (None, ["--datasets", "A.json", "--dataset", "B.json"], {"data.datasets": ["A.json", "B.json"]}),
        (None, ["--config", "config.yaml"], {"run.epochs": 3}),
        (None, ["--config", "config.yaml", "--resume"], {"run.epochs": 3}),
        (None, ["--n-heads", "4", "--lr", "1e-3"], {"model.num_heads": 4, "optimizer.learning_rate": 0.001}),
        (None, ["--no-tie-embeddings", "--keep-best"], {"model.tie_embeddings": False, "checkpoint.keep_best": True}),
        (None, ["--d-model=64", "--max-steps=7"], {"model.d_model": 64, "run.max_steps": 7}),
    ],
)
def test_a_command_of_the_documents_means_what_it_says(
    backend_name: str | None,
    args: list[str],
    expected: dict[str, Any],
    front_door: FrontDoor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("epochs: 3\n", encoding="utf-8")
    shown = front_door([*args, "--dry-run"], backend_name)
    assert (shown.exit_code, shown.stderr) == (0, "")
    resolved = settings_of(shown.stdout)
    for key, value in expected.items():
        section, _, name = key.rpartition(".")
        assert (resolved[section] if section else resolved)[name] == value, key


@pytest.mark.slow
@pytest.mark.parametrize("directory", [ROOT, ROOT / "training", None], ids=["checkout", "training", "elsewhere"])
def test_all_scripts_are_the_same_front_door_from_any_working_directory(directory: Path | None, train: Train) -> None:
    command = ["--backend", "playground", "--epochs", "100", "--dry-run"]
    shown = [train(command, cwd=directory, script=script) for script in SCRIPTS]
    assert [(done.returncode, done.stderr) for done in shown] == [(0, "")] * len(SCRIPTS)
    # What is free on the machine may change between two calls.
    assert len({re.sub(r"\S+ \S+ are free", "", done.stdout) for done in shown}) == 1
    assert settings_of(shown[0].stdout)["run"]["epochs"] == 100


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_checkout_answers_wherever_it_lies(script: str, train: Train, tmp_path: Path) -> None:
    checkout = tmp_path / "一个 checkout"
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("apt_model", "training", "configs"):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=ignore)
    shutil.copy(ROOT / "train.py", checkout)
    (checkout / "configs" / "mine.yaml").write_text("epochs: 1234\n", encoding="utf-8")
    done = train(["--config", "mine", "--dry-run"], script=checkout / script)
    assert (done.returncode, done.stderr) == (0, "")
    assert settings_of(done.stdout)["run"]["epochs"] == 1234, "it reads its own presets, with its own code"


@pytest.mark.slow
def test_the_playground_script_trains_as_documented_and_resumes_from_a_checkpoint_by_its_name(
    train: Train, tiny_dataset: TinyDataset, tiny_flags: list[str], tmp_path: Path
) -> None:
    tiny_dataset("HLBD_Hardcore_Full.json")
    script = "training/train_hlbd_playground.py"
    first = train([*PLAYGROUND_COMMAND, *tiny_flags], script=script)
    assert first.returncode == 0, first.stderr
    run = tmp_path / "hlbd_playground"
    assert {path.name for path in run.iterdir()} == {
        *(f"checkpoint_epoch_{epoch}" for epoch in (25, 50, 75, 100)),
        *("final_model.pt", "final_model", "experiment_report.json", "progress.jsonl", "config.yaml", "snapshots"),
    }
    written = {path.name for path in (run / "final_model").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "modeling_apt.py"} <= written
    final = load_checkpoint(run / "final_model.pt")["model"]

    again = train([*PLAYGROUND_COMMAND, *tiny_flags, "--resume", "checkpoint_epoch_50.pt"], script=script)
    assert again.returncode == 0, again.stderr
    assert "checkpoint_epoch_50 at step 100 of 200" in again.stdout
    resumed = load_checkpoint(run / "final_model.pt")["model"]
    assert all(torch.equal(resumed[name], tensor) for name, tensor in final.items())


def test_several_datasets_are_trained_together_with_counts_and_shares(
    front_door: FrontDoor,
    tiny_dataset: TinyDataset,
    tiny_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_dataset("A.json", rows=12)
    tiny_dataset("B.json", rows=4)
    done = front_door(["--datasets", "A.json", "B.json", "--epochs", "5", *tiny_flags, "--run-dir", "run"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert "A.json: 12 entries (75.0%), 12 samples" in done.stdout
    assert "B.json: 4 entries (25.0%), 4 samples" in done.stdout
    report = read_report(tmp_path / "run")
    assert report is not None
    assert [(f["file"], f["entries"], f["share"]) for f in report["data"]] == [
        ("A.json", 12, 0.75),
        ("B.json", 4, 0.25),
    ]
    assert report["epochs"][-1]["epoch"] == 5


@pytest.mark.parametrize("backend", ["playground", "huggingface"])
def test_a_run_says_first_how_to_stop_it_and_the_command_that_goes_on(
    backend: str,
    front_door: FrontDoor,
    tiny_dataset: TinyDataset,
    tiny_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    run_dir = "-a run's dir"
    begun = front_door([
        "--backend", backend, "--datasets", tiny_dataset(), *tiny_flags, f"--run-dir={run_dir}", "--epochs", "11",
    ])  # fmt: skip
    assert begun.exit_code == 0, begun.stderr
    lines = begun.stdout.splitlines()
    start = "stop    Ctrl-C saves and ends it; go on with: "
    [hint] = [line for line in lines if line.startswith(start)]
    times = [line for line in lines if line.startswith("time    ")]
    assert lines.index(hint) < min(n for n, line in enumerate(lines) if line.startswith("epoch "))
    assert times[0] == "time    is measured in the first 19 steps, and said then"
    assert re.fullmatch(r"time    about \S+ s more: 3 steps of \S+ m?s, plus validation, checkpoints", times[1])
    interpreter, script, *words = shlex.split(hint.removeprefix(start))
    assert Path(shutil.which(interpreter) or interpreter).absolute() == Path(sys.executable)
    assert Path(script).resolve() == ROOT / "train.py"
    resumed = front_door([*words, "--epochs", "12"])
    assert resumed.exit_code == 0, resumed.stderr
    assert " at step 22 of 24" in resumed.stdout
    assert (tmp_path / run_dir / "final_model").is_dir()


def test_a_config_file_says_everything_and_resume_goes_on_with_its_run(
    front_door: FrontDoor,
    tiny_dataset: TinyDataset,
    tiny_settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {**tiny_settings, "datasets": [tiny_dataset().name], "epochs": 3, "run_dir": "run"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    begun = front_door(["--config", "config.yaml", "--max-steps", "3"])
    assert (begun.exit_code, begun.stderr) == (0, "")
    assert "finished at step 3" in begun.stdout
    ended = front_door(["--config", "config.yaml", "--resume"])
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert "resumed from run/checkpoint_step_3 at step 3 of 6" in ended.stdout
    assert "finished at step 6" in ended.stdout


@pytest.mark.parametrize("what", ["run/checkpoint_epoch_1.pt", "run"])
def test_a_checkpoint_or_a_run_directory_alone_is_enough_to_go_on(
    what: str, front_door: FrontDoor, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished_run.parent)
    done = front_door(["--resume", what, "--epochs", "3"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert "of 6\n" in done.stdout
    assert "finished at step 6" in done.stdout
    resolved = settings_of((finished_run / "config.yaml").read_text(encoding="utf-8"))
    assert (resolved["model"]["d_model"], resolved["run"]["epochs"]) == (16, 3)


def test_overwrite_deletes_the_run_and_leaves_the_users_own_files(
    front_door: FrontDoor, finished_run: Path, tiny_flags: list[str]
) -> None:
    (finished_run / "notes.txt").write_text("mine", encoding="utf-8")
    data = finished_run.parent / "tiny.json"
    command: list[str | Path] = [
        "--datasets",
        data,
        "--run-dir",
        finished_run,
        *tiny_flags,
        "--max-steps",
        "1",
        "--overwrite",
    ]
    assert front_door(command).exit_code == 0
    assert {p.name for p in finished_run.glob("checkpoint_*")} == {"checkpoint_step_1"}
    assert (finished_run / "notes.txt").read_text(encoding="utf-8") == "mine"


# -- on other people's machines ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_terminal_that_cannot_show_chinese_does_not_cost_the_run(
    train: Train, tiny_dataset: TinyDataset, tiny_flags: list[str], tmp_path: Path
) -> None:
    # What Python gives to `python train.py > log.txt` on a Western Windows.
    western = {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    where: list[str | Path] = ["--datasets", tiny_dataset("数据.json"), "--run-dir", tmp_path / "run"]
    done = train([*tiny_flags, *where, "--epochs", "1", "--answer-samples", "3"], env=western)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
    assert "answers to 3 of 12" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("question", ["--help", "--dry-run"])
def test_a_reader_that_leaves_early_gets_no_traceback(question: str, unbuffered: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, str(ROOT / "train.py"), question]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True) as asked:
        assert asked.stdout is not None
        assert asked.stderr is not None
        asked.stdout.close()  # as `| head -1` does
        complaint = asked.stderr.read()
    assert complaint == ""


def test_asking_leaves_the_folder_as_it_was(
    front_door: FrontDoor, tree: Callable[[], dict[str, bytes | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for question in (["--help"], ["--list-backends"], ["--explain", "seed"], ["--dry-run"]):
        assert front_door(question).exit_code == 0
    assert tree() == {}
