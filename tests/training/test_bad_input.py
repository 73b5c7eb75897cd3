"""Bad input: one line on stderr that names the value and the place, exit code 2, no traceback, nothing written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
import torch

from training.checkpoints.run_directory import RunDirectory
from training.errors import ConfigError
from training.machine.device import pick_precision

if TYPE_CHECKING:
    from tests.conftest import FrontDoor, TinyDataset

ROOT = Path(__file__).resolve().parents[2]
Tree = Callable[[], dict[str, bytes | None]]


class Refused(Protocol):
    """`refused(flags, "num_heads", "'abc'")`: the call is refused as it should be, and its line has all these parts."""

    def __call__(self, args: list[str | Path], *parts: str, bare: bool = False) -> str: ...


@pytest.fixture
def refused(
    front_door: FrontDoor,
    tree: Tree,
    tiny_dataset: TinyDataset,
    tiny_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Refused:
    """Asks for a tiny run in `run/` on `tiny.json`, but for what the test gives instead; `bare`: for nothing else."""
    monkeypatch.chdir(tmp_path)
    tiny_dataset()

    def ask(args: list[str | Path], *parts: str, bare: bool = False) -> str:
        before = tree()
        data = [] if "--datasets" in args else ["--datasets", "tiny.json"]
        usual = [] if bare else [*data, *tiny_flags, "--epochs", "2", "--run-dir", "run"]
        refusal = front_door([*usual, *args])
        assert refusal.exit_code == 2, refusal
        assert refusal.stderr.startswith("error: "), refusal.stderr
        assert refusal.stderr.count("\n") == 1, refusal.stderr
        assert "Traceback" not in refusal.stdout + refusal.stderr
        assert [part for part in parts if part not in refusal.stderr] == [], refusal.stderr
        assert tree() == before, "something was written"
        return refusal.stderr

    return ask


def rows(*items: object) -> bytes:
    return json.dumps({"data": {"m": items}}, ensure_ascii=False).encode()


GOOD = {"input": "1 + 1 = ?", "output": "2"}


# -- data ----------------------------------------------------------------------------------------------------------


WRONG_DATA = {
    "empty": (b"", ["empty"]),
    "blank": (b" \n\t ", ["empty"]),
    "truncated": (rows(GOOD, GOOD)[:-20], ["not valid JSON at line 1", "cut short"]),
    "not UTF-8": (rows({"input": "é", "output": "e"}).decode().encode("latin-1"), ["UTF-8", "0xe9"]),
    "not JSON": (b"question,answer\n1 + 1,2\n", ["this is CSV"]),
    "nested too deep": (b"[" * 100_000, ["nested too deeply"]),
    "a number too long": (b'{"data": ' + b"1" * 5000 + b"}", []),
    "a list": (b"[1, 2]", ["a JSON object", "list"]),
    "neither format": (b'{"rows": []}', ["'data'", "'samples'", "['rows']"]),
    "modules in a list": (b'{"data": [1]}', ["'data'", "list"]),
    "no rows": (rows(), ["module 'm'", "empty"]),
    "no input": (rows(GOOD, {"output": "2"}), ["module 'm', row 1", "'input'", "['output']"]),
    "no output": (rows(GOOD, {"input": "1"}), ["module 'm', row 1", "'output'"]),
    "a number": (rows(GOOD, GOOD, {"input": "1", "output": 2}), ["module 'm', row 2", "'output'", "not 2"]),
    "an empty text": (rows({"input": "", "output": "2"}), ["module 'm', row 0", "'input'", "empty"]),
    "null": (rows({"input": None, "output": "2"}), ["module 'm', row 0", "'input'", "None"]),
    "a row that is a text": (rows(GOOD, "1 + 1 = 2"), ["module 'm', row 1", "text"]),
    "half a character": (rb'{"data": {"m": [{"input": "\ud800", "output": "2"}]}}', ["module 'm', row 0"]),
    "a concept without levels": (b'{"samples": [{"concept": "x"}]}', ["sample 0", "'x'", "level"]),
    "a level that is a number": (
        b'{"samples": [{"concept": "x", "level_1": {"a": 1}}]}',
        ["sample 0", "'level_1'"],
    ),
}


@pytest.mark.parametrize(("content", "parts"), WRONG_DATA.values(), ids=WRONG_DATA.keys())
def test_a_data_file_that_is_wrong_is_named_with_the_place_in_it(
    content: bytes, parts: list[str], refused: Refused, tmp_path: Path
) -> None:
    (tmp_path / "坏 data.json").write_bytes(content)
    refused(["--datasets", "坏 data.json"], "坏 data.json", *parts)


def test_a_missing_data_file_is_named_with_the_places_that_were_searched(refused: Refused, tmp_path: Path) -> None:
    refused(["--datasets", "no_such.json"], "no_such.json", "no such data file", str(ROOT / "data"), "--datasets")
    refused(["--datasets", "tiny.json", "gone.json"], "gone.json", "no such data file")
    refused(["--datasets", tmp_path], str(tmp_path), "directory")


def test_a_data_file_given_twice_is_refused_however_it_is_spelt(refused: Refused, tmp_path: Path) -> None:
    refused(["--datasets", "tiny.json", "./tiny.json"], "tiny.json", "twice")
    refused(["--datasets", "tiny.json", "--dataset", tmp_path / "tiny.json"], "tiny.json", "twice")


def test_samples_that_are_too_long_are_counted_the_first_named_and_cut_only_on_demand(
    refused: Refused, front_door: FrontDoor, tiny_flags: list[str], tmp_path: Path
) -> None:
    long = [{"input": f"第{i}题" + "长" * 20, "output": "答" * (10 + i)} for i in range(3)]
    (tmp_path / "long.json").write_bytes(rows(GOOD, *long, *({"input": f"{i}", "output": "2"} for i in range(8))))
    where: list[str | Path] = ["--datasets", "long.json", "--max-seq-len", "30"]
    line = refused(where, "3 of 12 samples", "max_seq_len=30", "m: '第0题", "with 36", "--truncate")
    assert "--max-seq-len 38" in line, "the length that would be enough"
    cut = front_door([*tiny_flags, *where, "--truncate", "--epochs", "1", "--run-dir", "run"])
    assert (cut.exit_code, cut.stderr) == (0, "")
    assert "3 samples cut" in cut.stdout


def test_a_vocabulary_too_small_for_the_data_is_refused_with_the_size_that_it_needs(refused: Refused) -> None:
    refused(["--vocab-size", "3"], "vocab_size=3", "too small", "tokens")
    refused(["--vocab-size", "3", "--dry-run"], "vocab_size=3", "too small", "tokens")


@pytest.mark.parametrize("share", ["0.01", "0.99"])
def test_a_validation_split_that_leaves_a_side_empty_is_refused(share: str, refused: Refused) -> None:
    refused(["--validation-split", share], f"validation_split={share}", "12 entries", "empty")


# -- flags ---------------------------------------------------------------------------------------------------------


WRONG_FLAGS: list[tuple[list[str | Path], list[str]]] = [
    (["--num-headz", "4"], ["--num-headz", "did you mean '--num-heads'?"]),
    (["--num_heads", "4"], ["--num_heads", "did you mean '--num-heads'?"]),
    (["--epoch", "4"], ["--epoch", "did you mean '--epochs'?"]),
    (["--learning-rte=1e-3"], ["--learning-rte", "did you mean '--learning-rate'?"]),
    (["stray"], ["'stray'", "--name value"]),
    (["--num-heads"], ["--num-heads", "expected one argument"]),
    (["--datasets"], ["--datasets", "expected at least one argument"]),
    (["--num-heads", "abc"], ["num_heads = 'abc'", "--num-heads", "whole number"]),
    (["--n-heads", "abc"], ["num_heads = 'abc'", "--num-heads", "whole number"]),
    (["--num-heads", ""], ["num_heads = ''", "whole number"]),
    (["--epochs", "1.5"], ["epochs = '1.5'", "--epochs", "whole number"]),
    (["--epochs", "0"], ["epochs = '0'", "--epochs", "1"]),
    (["--lr", "1e-3x"], ["learning_rate = '1e-3x'", "--learning-rate", "number"]),
    (["--lr", "nan"], ["learning_rate = 'nan'", "finite"]),
    (["--lr", "-1"], ["learning_rate = '-1'", "greater than 0"]),
    (["--lr=-1e-3"], ["learning_rate = '-1e-3'", "greater than 0"]),
    (["--max-grad-norm", "inf"], ["max_grad_norm = 'inf'", "finite"]),
    (["--validation-split", "1.5"], ["validation_split = '1.5'", "less than 1"]),
    (["--seed", str(2**63)], ["seed = ", str(2**63), "less than"]),
    (["--optimizer", "sgd"], ["optimizer = 'sgd'", "--optimizer", "'adamw'", "'muon'"]),
    (["--device", "tpu"], ["device = 'tpu'", "--device", "'cpu'"]),
    (["--explain", "num_headz"], ["--explain num_headz", "did you mean 'num_heads'?"]),
    (["--explain", ""], ["--explain"]),
    (["--backend", "playgroud"], ["--backend playgroud", "did you mean 'playground'?", "deepspeed"]),
    (["--backend", ""], ["--backend"]),
    (["--config", "no_such"], ["--config no_such", "playground_cpu"]),
    (["--config", ""], ["--config"]),
    (["--run-dir", ""], ["run_dir"]),
]


@pytest.mark.parametrize(("args", "parts"), WRONG_FLAGS, ids=[" ".join(map(str, args)) for args, _ in WRONG_FLAGS])
def test_a_flag_that_is_wrong_is_named_with_what_would_be_right(
    args: list[str | Path], parts: list[str], refused: Refused
) -> None:
    refused(args, *parts)
    refused([*args, "--dry-run"], *parts)


WRONG_TOGETHER: list[tuple[list[str | Path], list[str]]] = [
    (["--num-heads", "3"], ["d_model=16", "num_heads=3", "nearest", "is 2"]),
    (["--d-model", "6", "--num-heads", "2"], ["d_model=6", "num_heads=2", "odd width 3"]),
    (["--min-lr", "1"], ["min_lr=1", "learning_rate=0.0003", "--min-lr"]),
    (["--early-stopping-patience", "3"], ["early_stopping_patience=3", "--validation-split"]),
    (["--precision", "fp16", "--device", "cpu"], ["precision=fp16", "device=cpu", "bf16"]),
    (["--resume", "--overwrite"], ["--resume", "--overwrite", "contradict"]),
]


@pytest.mark.parametrize(
    ("args", "parts"), WRONG_TOGETHER, ids=[" ".join(map(str, args)) for args, _ in WRONG_TOGETHER]
)
def test_settings_that_do_not_go_together_are_both_named(
    args: list[str | Path], parts: list[str], refused: Refused
) -> None:
    refused(args, *parts)
    refused([*args, "--dry-run"], *parts)


@pytest.mark.slow
def test_a_width_beyond_all_reason_is_refused_at_once(tmp_path: Path) -> None:
    width = str(10**15 + 1)
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "--d-model", width, "--dry-run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert width in done.stderr
    assert done.stderr.count("\n") == 1


def test_fp16_is_refused_on_a_cpu_that_was_chosen_for_want_of_better() -> None:
    with pytest.raises(ConfigError, match="precision=fp16 needs a GPU"):
        pick_precision("fp16", torch.device("cpu"))


def test_a_device_that_is_not_there_is_refused_with_those_that_are(refused: Refused) -> None:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    missing = [name for name, is_there in there.items() if not is_there]
    assert missing, "no machine has both"
    for name in missing:
        refused(["--device", name], f"--device {name}", "no such device", "cpu")


# -- the config file -----------------------------------------------------------------------------------------------


WRONG_YAML = {
    "unknown key": (b"num_headz: 4\n", ["unknown key 'num_headz'", "did you mean 'num_heads'?"]),
    "unknown key in a section": (b"model: {num_headz: 4}\n", ["'model.num_headz'", "did you mean 'num_heads'?"]),
    "alias": (b"n_heads: 4\n", ["unknown key 'n_heads'", "did you mean 'num_heads'?"]),
    "key in another section": (b"run: {d_model: 64}\n", ["'run.d_model'", "section 'model'"]),
    "unknown section": (b"modle: {d_model: 64}\n", ["unknown key 'modle'", "did you mean 'model'?"]),
    "a key that is a number": (b"1: 2\n", ["unknown key 1"]),
    "section that is a number": (b"data: 3\n", ["section 'data'", "3"]),
    "model family that is a number": (b"model: 3\n", ["model = 3", "model family's name"]),
    "task that is a list": (b"task: [hlbd]\n", ["task = ['hlbd']", "task's name"]),
    "not a number": (b"d_ff: many\n", ["d_ff = 'many'", "whole number"]),
    "truth for a number": (b"epochs: yes\n", ["epochs = ", "whole number"]),
    "number for truth": (b"truncate: 3\n", ["truncate = 3", "true or false"]),
    "infinite": (b"weight_decay: .inf\n", ["weight_decay = inf", "finite"]),
    "a text for a list": (b"datasets: tiny.json\n", ["datasets = 'tiny.json'", "list"]),
    "an empty list": (b"datasets: []\n", ["datasets = []", "at least 1"]),
    "numbers for names": (b"datasets: [3]\n", ["datasets = 3"]),
    "no text of a path": (b'run_dir: "a\\0b"\n', ["run_dir"]),
    "given twice": (b"d_ff: 64\nd_ff: 32\n", ["line 2", "'d_ff'", "twice"]),
    "list": (b"- d_model\n", ["maps settings to values"]),
    "text": (b"d_model\n", ["maps settings to values"]),
    "not YAML": (b"d_model: [64\n", ["not valid YAML", "line"]),
    "a control character": (b"d_model: 64\n\x00", ["not valid YAML"]),
    "not UTF-8": (b"# \xe9t\xe9\n", ["UTF-8", "byte 2"]),
    "a Python object": (b"seed: !!python/object/apply:os.getpid []\n", ["not valid YAML", "line 1"]),
    "a backend that is a number": (b"backend: 3\n", ["backend = 3"]),
    "unknown backend": (b"backend: plaground\n", ["plaground", "did you mean 'playground'?"]),
}


@pytest.mark.parametrize(("content", "parts"), WRONG_YAML.values(), ids=WRONG_YAML.keys())
def test_a_config_file_that_is_wrong_is_named_with_the_place_in_it(
    content: bytes, parts: list[str], refused: Refused, tmp_path: Path
) -> None:
    (tmp_path / "my.yaml").write_bytes(content)
    # Flags would lie over the file's settings, so there are none; a dry run finds every fault of a file.
    refused(["--config", "my.yaml", "--dry-run"], *parts, bare=True)


def test_a_config_file_that_cannot_be_read_is_named(refused: Refused, tmp_path: Path) -> None:
    refused(["--config", "no/such.yaml"], "--config no/such.yaml", "no such file")
    refused(["--config", tmp_path], f"--config {tmp_path}")


# -- checkpoints ---------------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(finished_run: Path) -> Path:
    """A good checkpoint in `run/`, the run directory that `refused` asks for."""
    return finished_run / "checkpoint_epoch_1"


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def change_a_digit(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))


def replace(path: Path, content: object) -> None:
    shutil.rmtree(path)
    torch.save(content, path)


LATER_VERSION = '{"format": "apt-checkpoint", "version": 99}'
WRONG_CHECKPOINTS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "no manifest": (lambda p: (p / "manifest.json").unlink(), ["no manifest.json"]),
    "somebody's manifest": (
        lambda p: (p / "manifest.json").write_text('{"format": "x"}'),
        ["not a checkpoint of this project"],
    ),
    "a later version": (lambda p: (p / "manifest.json").write_text(LATER_VERSION), ["version 99", "reads 2"]),
    "a file missing": (lambda p: (p / "optimizer.safetensors").unlink(), ["optimizer.safetensors is missing"]),
    "weights cut short": (lambda p: cut(p / "model.safetensors", 99), ["model.safetensors: cut short", "99 bytes"]),
    "state cut by a byte": (lambda p: cut(p / "state.json", -1), ["state.json: cut short"]),
    "one digit changed": (lambda p: change_a_digit(p / "state.json"), ["state.json: damaged"]),
    "somebody's tensors": (lambda p: replace(p, {"w": torch.zeros(3)}), ["not a checkpoint of this project"]),
    "somebody's objects": (lambda p: replace(p, torch.nn.Linear(2, 2)), ["not a checkpoint of this project"]),
}


@pytest.mark.parametrize(("spoil", "told"), WRONG_CHECKPOINTS.values(), ids=WRONG_CHECKPOINTS.keys())
def test_a_checkpoint_that_is_none_is_named(
    spoil: Callable[[Path], object], told: list[str], checkpoint: Path, refused: Refused
) -> None:
    spoil(checkpoint)
    refused(["--resume", checkpoint], str(checkpoint), *told)
    refused(["--resume", checkpoint, "--run-dir", "another"], str(checkpoint), *told)


def test_a_missing_checkpoint_is_named_and_no_directory_is_made_for_its_run(refused: Refused, tmp_path: Path) -> None:
    refused(["--resume", "no_such.pt"], "no_such.pt", "no such checkpoint")
    refused(["--resume", "checkpoint_epoch_7"], "--resume checkpoint_epoch_7", "no such checkpoint", "run")
    (tmp_path / "empty").mkdir()
    refused(["--resume", tmp_path / "empty"], "empty", "no checkpoint", "manifest.json", "run directory")


def test_a_run_without_one_readable_checkpoint_is_not_quietly_begun_anew(finished_run: Path, refused: Refused) -> None:
    for path in finished_run.glob("checkpoint_*"):
        cut(path / "model.safetensors", 99)
    refused(["--resume"], "run", "no checkpoint can be read", "another --run-dir")


def test_a_finished_model_is_not_a_checkpoint(finished_run: Path, refused: Refused) -> None:
    refused(["--resume", finished_run / "final_model.pt"], "final_model.pt", "finished model", "checkpoint_*")


@pytest.mark.parametrize(
    ("flag", "value", "parts"),
    [
        ("--d-model", "32", ["d_model was 16", "is 32"]),
        ("--num-layers", "2", ["num_layers was 1", "is 2"]),
        ("--attention", "standard", ["attention was 'autopoietic'", "is 'standard'"]),
        ("--seed", "7", ["seed was 42", "is 7"]),
        ("--optimizer", "muon", ["optimizer was 'adamw'", "is 'muon'"]),
        ("--batch-size", "4", ["global batch had 8 samples", "has 4 now"]),
    ],
)
def test_a_checkpoint_of_another_model_or_curve_is_refused_with_both_values(
    flag: str, value: str, parts: list[str], checkpoint: Path, refused: Refused
) -> None:
    refused(["--resume", checkpoint, flag, value], checkpoint.name, *parts, "--run-dir")
    refused(["--resume", flag, value], "checkpoint_epoch_2", *parts)


def test_a_checkpoint_of_other_data_is_refused(checkpoint: Path, refused: Refused, tiny_dataset: TinyDataset) -> None:
    tiny_dataset("other.json")
    refused(["--resume", checkpoint, "--datasets", "other.json"], checkpoint.name, "training data", "--datasets")
    refused(["--resume", "--datasets", "other.json"], "checkpoint_epoch_2", "training data", "--datasets")


# -- the run directory ---------------------------------------------------------------------------------------------


def test_a_run_directory_that_is_a_file_is_refused(refused: Refused) -> None:
    refused(["--run-dir", "tiny.json"], "--run-dir tiny.json", "file")
    refused(["--run-dir", "tiny.json", "--overwrite"], "--run-dir tiny.json", "file")


@pytest.mark.parametrize(
    "place", ["tiny.json/run", "tiny.json/deep/er", *(["/proc/run"] if Path("/proc/1").exists() else [])]
)
def test_a_directory_that_cannot_be_written_to_is_refused(place: str, refused: Refused) -> None:
    refused(["--run-dir", place], f"--run-dir {place}", "cannot be written to", "another")


def test_a_directory_that_holds_another_run_is_not_written_over(finished_run: Path, refused: Refused) -> None:
    refused([], "--run-dir run", "holds a run", "--resume", "--overwrite")
    for name in ("final_model.pt", "experiment_report.json", "progress.jsonl"):
        (finished_run / name).unlink()
    refused([], "checkpoint_epoch_1", "holds a run")


def test_a_directory_in_which_another_process_trains_is_left_alone(finished_run: Path, refused: Refused) -> None:
    other = RunDirectory(finished_run, resume=True)
    try:
        refused(["--resume"], "--run-dir run", "another process")
        refused(["--overwrite"], "--run-dir run", "another process")
    finally:
        other.release()


def test_bad_data_does_not_cost_the_run_that_was_to_be_overwritten(finished_run: Path, refused: Refused) -> None:
    refused(["--overwrite", "--datasets", "no_such.json"], "no_such.json")
    refused(["--overwrite", "--max-seq-len", "5"], "max_seq_len=5")
