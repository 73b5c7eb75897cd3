"""The command `tools/verify_hlbd_model.py`: what it prints and writes, and one clear line for every bad input."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib import image

from apt_model.config import ModelConfig
from apt_model.model import APT
from apt_model.portable import save_portable
from apt_model.tokenizer import DynamicTagTokenizer
from tests.conftest import enter_front_door
from tools import verify_hlbd_model
from tools.figures.fonts import LATIN, Typeface
from tools.figures.wording import columns_of
from tools.verification.questions.answerer import load_hlbd_model
from tools.verification.questions.question_files import load_questions
from tools.verification.questions.training_data import training_data
from training import TrainingConfig
from training.errors import UserError
from training.language.messages import Message
from training.loop.trainer import Trainer
from training.record.reporter import read_report
from training.tasks.hlbd.dataset import HLBDDataset
from training.tasks.hlbd.files import load_corpus, split_corpus
from training.tasks.hlbd.task import prepared_from_datasets

ROOT = Path(__file__).resolve().parents[3]
COMMAND = ROOT / "tools" / "verify_hlbd_model.py"


def write(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return path


def row(a: int, b: int, **more: str) -> dict[str, str]:
    template = ("{a}加{b}得多少？", "{a}+{b}等于几？", "求{a}与{b}的和。")[(a + b) % 3]
    return {"input": template.format(a=a, b=b), "output": str(a + b), **more}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write sixty sums in two modules, one of them with a Chinese name, and their held-out file."""
    folder = tmp_path_factory.mktemp("data")
    train = {"加法": [row(a, 7) for a in range(30)], "sums": [row(a, 9) for a in range(30, 60)]}
    held_out = [row(a, 8, kind="new_fact") for a in range(20)]
    held_out += [row(a, 5, kind="contrast", group="g") for a in range(3)]
    held_out += [{"input": f"{a}，再加7？", "output": str(a + 7), "kind": "paraphrase"} for a in range(10)]
    write(folder / "sums.json", {"data": train})
    write(folder / "sums_Heldout.json", {"data": {"加法": held_out}})
    return folder / "sums.json"


def tokenizer_of(*paths: Path) -> DynamicTagTokenizer:
    corpus = load_corpus(paths)
    return DynamicTagTokenizer.from_texts((text for s in corpus.samples for text in s[:2]), corpus.tags)


def tiny(vocab_size: int) -> APT:
    torch.manual_seed(0)
    return APT(
        ModelConfig(d_model=16, num_layers=1, num_heads=2, d_ff=32, max_seq_len=32, vocab_size=vocab_size)
    ).eval()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """Save a model that has learned nothing, in the portable form."""
    tokenizer = tokenizer_of(data, data.with_name("sums_Heldout.json"))
    path = tmp_path_factory.mktemp("model") / "final_model"
    save_portable(path, tiny(tokenizer.vocab_size), tokenizer)
    return path


@pytest.fixture(scope="module")
def silent_model(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """Save a model with all weights zero: an empty answer to everything."""
    tokenizer = tokenizer_of(data, data.with_name("sums_Heldout.json"))
    silent = tiny(tokenizer.vocab_size)
    with torch.no_grad():
        for parameter in silent.parameters():
            parameter.zero_()
    path = tmp_path_factory.mktemp("silent") / "final_model"
    save_portable(path, silent, tokenizer)
    return path


def verify(model: Path, data: Path, *more: object) -> int:
    return verify_hlbd_model.run(["--model", str(model), "--dataset", str(data), "--device", "cpu", *map(str, more)])


def report_of(model: Path, data: Path, path: Path, *more: object) -> dict[str, Any]:
    assert verify(model, data, "--json", path, *more) == 0
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


# -- what it says -----------------------------------------------------------------------------------------------------


def test_the_report_reads_from_top_to_bottom(model: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(model, data) == 0
    told = capsys.readouterr().out
    headings = ("accuracy", "answer diversity", "partial inputs", "calibration", "shortcuts", "evidence", "verdict:")
    assert [heading for heading in headings if f"\n{heading}" not in told] == []
    assert "sums_Heldout.json: 33 questions" in told
    lines = told.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("accuracy")) + 1
    head, chinese, _, overall = lines[start : start + 4]
    assert "majority answer" in head
    assert columns_of(head) == columns_of(chinese) == columns_of(overall)


def test_the_json_report_holds_every_figure(model: Path, data: Path, tmp_path: Path) -> None:
    report = report_of(model, data, tmp_path / "r.json")
    assert (report["format"], report["schema_version"]) == ("apt-verification", 1)
    assert [m["label"] for m in report["modules"]] == ["加法", "sums", "overall"]
    whole = report["modules"][-1]
    splits = {"train": 60, "paraphrase": 10, "new_fact": 20, "contrast": 3, "contrast_groups": 1}
    assert {name: whole[name]["total"] for name in splits} == splits
    assert whole["train"]["low"] <= whole["train"]["rate"] <= whole["train"]["high"]
    assert {s["name"] for s in report["shortcuts"]} == {
        "majority answer", "template only", "number copy", "lookup", "ignored tag",
    }  # fmt: skip
    for shortcut in report["shortcuts"]:
        assert shortcut["verdict"] in ("found", "not found", "too little data to say")
        for evidence in shortcut["evidence"]:
            assert 0.0 <= evidence["p_value"] <= evidence["p_corrected"] <= 1.0
            assert all(e["low"] <= e["high"] for e in evidence["effects"])
    assert [c["answers"] for c in report["calibration"]] == [60, 23]
    assert {p["part"] for p in report["probes"]} == {"operands hidden", "template hidden"}
    assert report["files"][0]["asked"] == 60


def test_a_sample_is_even_and_the_same_every_time(model: Path, data: Path, tmp_path: Path) -> None:
    first, again = (report_of(model, data, tmp_path / "r.json", "--sample", 20) for _ in range(2))
    assert first.pop("seconds") != again.pop("seconds")
    assert first == again
    assert [(f["questions"], f["asked"]) for f in first["files"]] == [(60, 20), (33, 20)]
    assert [m["train"]["total"] for m in first["modules"]] == [10, 10, 20]
    assert sum("evenly chosen" in note for note in first["notes"]) == 2


def test_without_a_held_out_file_it_says_what_cannot_be_said(model: Path, data: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.json"
    alone.write_bytes(data.read_bytes())
    report = report_of(model, alone, tmp_path / "r.json")
    assert any("no held-out file" in note for note in report["notes"])
    assert next(s for s in report["shortcuts"] if s["name"] == "lookup")["verdict"] == "too little data to say"


def test_a_question_too_long_for_the_model_is_counted_and_told(model: Path, data: Path, tmp_path: Path) -> None:
    document = json.loads(data.read_text(encoding="utf-8"))
    document["data"]["sums"].append({"input": "3" * 40 + "加4得多少？", "output": "7"})
    longer = write(tmp_path / "longer.json", document)
    report = report_of(model, longer, tmp_path / "r.json")
    assert any("max_seq_len=32 tokens: 1;" in note for note in report["notes"])
    assert report["modules"][-1]["train"]["total"] == 61


@pytest.mark.slow
def test_a_shortcut_gives_exit_code_3_when_asked_to(silent_model: Path, data: Path) -> None:
    command = [sys.executable, str(COMMAND), "--model", str(silent_model), "--dataset", str(data), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--fail-on-shortcut"], capture_output=True, text=True, env=environment, cwd="/", check=False
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert "majority answer  FOUND in 加法, sums" in done.stdout
    assert verify(silent_model, data) == 0


def test_every_form_of_a_model_gets_the_same_report(data: Path, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(data, data.with_name("sums_Heldout.json"))
    shape = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 32, "max_seq_len": 32}
    shape["vocab_size"] = tokenizer.vocab_size
    run = {"run_dir": str(tmp_path / "run"), "epochs": 2, "batch_size": 32}
    config = TrainingConfig.from_dict({"model": shape, "run": run, "checkpoint": {"save_interval": 1}})
    prepared = prepared_from_datasets(config, HLBDDataset(load_corpus([data]).samples, tokenizer, 32))
    Trainer.of(prepared, device="cpu", progress=False).train()
    forms = ["final_model.pt", "final_model", "checkpoint_epoch_2.pt", "."]
    reports = [report_of(tmp_path / "run" / form, data, tmp_path / "r.json") for form in forms]
    for report in reports:
        del report["model"], report["seconds"]
        assert report == reports[0]


# -- the data of the model's run --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def held_back_run(tmp_path_factory: pytest.TempPathFactory, data: Path, tiny_flags: list[str]) -> Path:
    """Train on the sums without a fifth of them; the directory of the run, with its data beside it."""
    folder = tmp_path_factory.mktemp("held_back")
    (folder / "rows.json").write_bytes(data.read_bytes())
    flags: list[str | Path] = [
        "--datasets",
        folder / "rows.json",
        "--run-dir",
        folder / "run",
        "--validation-split",
        "0.2",
    ]
    done = enter_front_door([*tiny_flags, *flags, "--epochs", "1", "--save-interval", "1"])
    assert done.exit_code == 0, done
    return folder / "run"


def groups_of(model: Path, path: Path, *more: object) -> tuple[int | None, ...]:
    assert verify_hlbd_model.run(["--model", str(model), "--device", "cpu", "--json", str(path), *map(str, more)]) == 0
    overall = json.loads(path.read_text(encoding="utf-8"))["modules"][-1]
    return tuple(overall[name] and overall[name]["total"] for name in ("train", "validation", "new_fact"))


def test_the_run_knows_its_data_and_which_rows_it_held_back(
    held_back_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for form in (".", "final_model", "final_model.pt", "checkpoint_epoch_1"):
        assert groups_of(held_back_run / form, tmp_path / "r.json") == (48, 12, None), form
    assert "validation: rows of the training files that the run held back" in capsys.readouterr().out
    moved = tmp_path / "moved.pt"
    moved.write_bytes((held_back_run / "final_model.pt").read_bytes())
    assert groups_of(moved, tmp_path / "r.json") == (48, 12, None)
    report = read_report(held_back_run) or {}
    assert report["num_train_samples"] == 48
    data = training_data(load_hlbd_model(held_back_run), None, None)
    _, validation = split_corpus(data.corpus, 0.2, TrainingConfig().run.seed)
    assert sorted(q.prompt for q in load_questions(data).validation) == sorted(s.prompt for s in validation)


def test_a_named_dataset_is_split_as_the_run_split_it(held_back_run: Path, data: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_bytes(data.read_bytes())
    assert groups_of(held_back_run, tmp_path / "r.json", "--dataset", elsewhere) == (48, 12, None)
    document = json.loads(data.read_text(encoding="utf-8"))
    half = write(tmp_path / "half.json", {"data": {"sums": document["data"]["sums"]}})
    train, validation, _ = groups_of(held_back_run, tmp_path / "r.json", "--dataset", half)
    assert (train or 0) + (validation or 0) == 30
    held_back = training_data(load_hlbd_model(held_back_run), None, None).held_back
    assert validation == sum(s.prompt in held_back for s in load_corpus([half]).samples)


def test_data_that_moved_or_changed_is_named_in_one_line(held_back_run: Path, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(held_back_run, run)
    config = run / "config.yaml"
    own = held_back_run.parent / "rows.json"
    mine = tmp_path / "mine.json"
    (run / "final_model.pt").unlink()  # it has a config of its own
    config.write_text(config.read_text(encoding="utf-8").replace(str(own), str(mine)), encoding="utf-8")
    with pytest.raises(UserError, match=r"mine\.json: no such data file .*--dataset says where it is now"):
        verify_hlbd_model.run(["--model", str(run)])
    document = json.loads(data.read_text(encoding="utf-8"))
    write(mine, {"data": {"sums": document["data"]["sums"]}})
    with pytest.raises(UserError, match=r"mine\.json no longer hold what the run was trained on.*--dataset"):
        verify_hlbd_model.run(["--model", str(run)])
    report = report_of(run, mine, tmp_path / "r.json")
    assert any("held back 0.2" in note and "no longer hold" in note for note in report["notes"])
    assert groups_of(run, tmp_path / "r.json", "--dataset", own) == (48, 12, None)


def test_a_model_without_its_run_asks_for_its_data(model: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing here says what this model was trained on; .*--dataset"):
        verify_hlbd_model.run(["--model", str(model)])
    assert "nothing is known of the model's run" in report_of(model, data, tmp_path / "r.json")["notes"][0]


def test_other_pairs_than_the_runs_are_refused(held_back_run: Path) -> None:
    with pytest.raises(UserError, match="--pairs full: the model was trained with --pairs levels"):
        verify_hlbd_model.run(["--model", str(held_back_run), "--pairs", "full"])


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys; from tools import verify_hlbd_model as v\n"
        "try: v.run(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'matplotlib'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "--fail-on-shortcut" in done.stdout


# -- the figure -------------------------------------------------------------------------------------------------------


def test_the_figure_is_a_picture(model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the figure; warnings are errors here, so a character that no font can draw would fail the test."""
    monkeypatch.setattr(Typeface.__init__, "__defaults__", ((), (), (), ()))
    assert verify(model, data, "--figure", tmp_path / "r.png") == 0
    height, width, _ = image.imread(tmp_path / "r.png").shape
    assert (width, height) == (1650, 1100)


def test_without_a_chinese_font_it_says_which_package_brings_one(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Typeface.__init__, "__defaults__", ((), (), (), ()))
    verify(model, data, "--figure", tmp_path / "r.png")
    told = capsys.readouterr().out
    assert "fonts-noto-cjk" in told
    assert "in the figure, name 1 is 加法" in told


def test_with_a_chinese_font_labels_are_in_both_languages() -> None:
    with_font, without = Typeface(chinese=["DejaVu Sans"]), Typeface((), (), (), ())
    assert with_font.label(Message("calibration")) == "校准 calibration"
    installed = Typeface()
    assert installed.families == [LATIN] or installed.name("加法") == "加法"
    assert without.label(Message("calibration")) == "calibration"
    assert [without.name(n) for n in ("加法", "sums", "减法", "加法")] == ["name 1", "sums", "name 2", "name 1"]


# -- bad input --------------------------------------------------------------------------------------------------------

Mess = Callable[[Path, Path, Path], list[object]]
"""(model, data, empty folder) -> unusable arguments."""


def other_data(model: Path, data: Path, folder: Path) -> list[object]:
    words = write(folder / "words.json", {"data": {"w": [{"input": "把 cat 倒过来", "output": "tac"}] * 1}})
    return ["--model", model, "--dataset", words]


def empty_module(model: Path, data: Path, folder: Path) -> list[object]:
    return ["--model", model, "--dataset", write(folder / "e.json", {"data": {"full": [row(1, 2)], "hollow": []}})]


def overlap(model: Path, data: Path, folder: Path) -> list[object]:
    held_out = write(folder / "h.json", {"data": {"加法": [row(50, 50), row(3, 7, kind="new_fact")]}})
    return ["--model", model, "--dataset", data, "--held-out", held_out]


def no_checkpoint(model: Path, data: Path, folder: Path) -> list[object]:
    (folder / "notes.txt").write_text("nothing here")
    return ["--model", folder, "--dataset", data]


def unknown_kind(model: Path, data: Path, folder: Path) -> list[object]:
    held_out = write(folder / "h.json", {"data": {"加法": [row(50, 50, kind="paraphrases")]}})
    return ["--model", model, "--dataset", data, "--held-out", held_out]


def not_finite(model: Path, data: Path, folder: Path) -> list[object]:
    tokenizer = tokenizer_of(data, data.with_name("sums_Heldout.json"))
    broken = tiny(tokenizer.vocab_size)
    with torch.no_grad():
        broken.norm.weight[0] = torch.nan
    save_portable(folder / "nan", broken, tokenizer)
    return ["--model", folder / "nan", "--dataset", data]


def with_flags(*flags: object) -> Mess:
    return lambda model, data, folder: ["--model", model, "--dataset", data, *flags]


BAD_INPUT: dict[str, tuple[Mess, list[str]]] = {
    "a tokenizer without the data's characters": (other_data, ["lacks", "倒", "--dataset"]),
    "an empty module": (empty_module, ["e.json", "'hollow'", "empty"]),
    "a held-out file that overlaps": (overlap, ["h.json", "1 of its 2", "also in the training file", "3+7等于几？"]),
    "the training file as held-out file": (
        lambda m, d, f: ["--model", m, "--dataset", d, "--held-out", d],
        ["60 of its 60"],
    ),
    "a directory that is no checkpoint": (no_checkpoint, ["no model and no checkpoint"]),
    "a model that is not there": (lambda m, d, f: ["--model", f / "x.pt", "--dataset", d], ["x.pt", "no such model"]),
    "data that is not there": (lambda m, d, f: ["--model", m, "--dataset", f / "x.json"], ["x.json"]),
    "an unknown kind": (unknown_kind, ["'paraphrases'", "did you mean 'paraphrase'"]),
    "weights that are not finite": (not_finite, ["not finite"]),
    "no model": (lambda m, d, f: ["--dataset", d], ["--model"]),
    "a sample of nothing": (with_flags("--sample", "0"), ["--sample", "'0'"]),
    "a sample in words": (with_flags("--sample", "many"), ["--sample", "'many'"]),
    "a negative batch size": (with_flags("--batch-size=-4"), ["--batch-size", "'-4'"]),
    "an unknown device": (with_flags("--device", "tpu"), ["--device tpu", "auto, cpu, cuda, mps"]),
    "an unknown flag": (with_flags("--verbose"), ["--verbose"]),
    "a figure in another format": (with_flags("--figure", "r.pdf"), ["r.pdf", ".png"]),
    "a folder that is not there": (with_flags("--json", "/nowhere/r.json"), ["/nowhere", "create it"]),
    "a folder as a file": (lambda m, d, f: ["--model", m, "--dataset", d, "--json", f], ["directory"]),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_gets_one_clear_line_and_exit_code_2(
    model: Path,
    data: Path,
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mess, said = BAD_INPUT[name]
    arguments = [str(a) for a in mess(model, data, tmp_path)]
    before = sorted(tmp_path.rglob("*"))
    if "--json" not in arguments:
        arguments += ["--json", str(tmp_path / "report.json")]
    monkeypatch.setattr(sys, "argv", ["verify_hlbd_model", *arguments])
    assert verify_hlbd_model.main() == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("verify_hlbd_model: ")
    assert told.err.count("\n") == 1
    for part in said:
        assert part in told.err
    assert sorted(tmp_path.rglob("*")) == before
