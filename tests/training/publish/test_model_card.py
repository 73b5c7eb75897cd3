"""The model card says what the run's record holds, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import markdown_it
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import image

from tests.conftest import FrontDoor
from tools import verify_hlbd_model
from training.checkpoints.finished_model import load_trained_model
from training.checkpoints.single_file import digest
from training.errors import UserError
from training.publish.model_card import model_card
from training.publish.model_facts import ModelFacts, facts_of
from training.tasks.card import plain, table

ODD_NAME = "odd|*<b>`x`_奇数"


def rows(count: int) -> list[dict[str, str]]:
    return [{"input": f"{i} + 1 = ?", "output": str(i + 1)} for i in range(count)]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, front_door: FrontDoor, tiny_flags: list[str]) -> Path:
    """A finished run of four epochs with validation, recitation and a checkpoint in the middle."""
    folder = tmp_path_factory.mktemp("card")
    data = folder / "sums | more.json"
    data.write_text(json.dumps({"data": {ODD_NAME: rows(20), "even": rows(10)[::2]}}), encoding="utf-8")
    more = ["--epochs", "4", "--save-interval", "2", "--validation-split", "0.2", "--answer-samples", "10"]
    done = front_door([*tiny_flags, "--datasets", data, "--run-dir", folder / "run", *more])
    assert done.exit_code == 0, done
    return folder / "run"


def facts(path: Path, verification: Path | None = None) -> ModelFacts:
    return facts_of(load_trained_model(path), verification)


def card_of(path: Path, verification: Path | None = None) -> str:
    return model_card(facts(path, verification), "ada/apt", has_curve=True)


def section(card: str, title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", card, flags=re.DOTALL | re.MULTILINE)
    assert found is not None, card
    return found[1]


def cells(text: str) -> dict[str, list[str]]:
    """First cell of each table row -> the others, as a reader sees them."""
    html = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).render(text)
    found = [
        re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL)
        for row in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    ]
    unescaped = [[c.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"') for c in row] for row in found]
    return {row[0]: row[1:] for row in unescaped}


def report(run_dir: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((run_dir / "experiment_report.json").read_text(encoding="utf-8"))
    return document


# -- what it says -----------------------------------------------------------------------------------------------------


def test_the_head_is_what_the_hub_reads(run_dir: Path) -> None:
    head = yaml.safe_load(card_of(run_dir).split("---\n")[1])
    assert head["library_name"] == "transformers"
    assert head["pipeline_tag"] == "text-generation"
    assert {"apt", "hlbd"} < set(head["tags"])


def test_shape_data_and_course_are_the_records(run_dir: Path) -> None:
    card, told = card_of(run_dir), report(run_dir)
    assert f"{told['num_parameters']:,} parameters" in card
    assert cells(card)["d_model"] == ["16"]
    assert cells(section(card, "Training data"))["sums | more.json"] == ["25", "25", "100.0 %"]
    assert told["data_fingerprint"] in section(card, "Training data")
    assert "20.0 % of the entries were held back" in section(card, "Training data")
    course = cells(section(card, "Training"))
    assert course["updates"] == [str(told["step"])]
    assert course["last training loss"] == [f"{told['latest']['loss']:.4f}"]
    assert course["validation loss"] == [f"{told['evaluations'][-1]['loss']:.4f}"]
    assert course["learning_rate"] == ["0.0003"]


def test_without_a_verifiers_report_it_shows_the_recitation_and_how_to_verify(run_dir: Path) -> None:
    answers = section(card_of(run_dir), "What it answers")
    told = report(run_dir)["recitation"]
    right, asked = (sum(m[key] for m in told.values()) for key in ("right", "asked"))
    assert asked == 10
    assert cells(answers)["overall"][0] == f"{right} of 10"
    assert cells(answers)[ODD_NAME][0] == f"{told[ODD_NAME]['right']} of {told[ODD_NAME]['asked']}"
    assert "questions that it was trained on" in answers
    assert "tools/verify_hlbd_model.py --model RUN" in answers
    assert "questions that it has not seen is unknown" in section(card_of(run_dir), "Limits")


def test_a_checkpoint_is_not_given_the_final_models_figures(run_dir: Path) -> None:
    step = report(run_dir)["checkpoints"][0]["step"]
    card = card_of(run_dir / "checkpoint_epoch_2")
    assert f"the weights after update {step:,} of {report(run_dir)['total_steps']:,}" in card
    assert "Nothing was measured." in section(card, "What it answers")
    course = cells(section(card, "Training"))
    assert course["updates"] == [str(step)]
    assert "last training loss" not in course
    assert course["validation loss"] == [f"{report(run_dir)['evaluations'][1]['loss']:.4f}"]


def test_a_run_that_chose_its_best_weights_says_which_these_are(run_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir, tmp_path / "run")
    settings = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))
    settings["checkpoint"]["load_best_model_at_end"] = True
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    best = report(run_dir) | {"best": {"step": 2, "epoch": 1, "loss": report(run_dir)["evaluations"][0]["loss"]}}
    (tmp_path / "run" / "experiment_report.json").write_text(json.dumps(best))
    card = card_of(tmp_path / "run" / "final_model")
    assert f"after update 2 of {best['total_steps']}, which had the lowest loss" in card
    course = cells(section(card, "Training"))
    assert course["updates"] == ["2"]
    assert "last training loss" not in course


def test_a_model_far_from_its_run_has_a_card_that_says_so(run_dir: Path, tmp_path: Path) -> None:
    (run_dir / "final_model").rename(tmp_path / "alone")
    try:
        card = card_of(tmp_path / "alone")
    finally:
        (tmp_path / "alone").rename(run_dir / "final_model")
    assert "What it was trained on is not recorded" in card
    assert "How it was trained is not recorded" in card
    assert "Nothing was measured." in card


def test_a_final_model_file_alone_still_knows_its_settings(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "final_model.pt").write_bytes((run_dir / "final_model.pt").read_bytes())
    course = cells(section(card_of(tmp_path / "final_model.pt"), "Training"))
    assert course["updates"] == [str(report(run_dir)["step"])]
    assert course["optimizer"] == ["adamw"]


def test_another_runs_record_beside_a_model_is_not_its_past(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "final_model.pt").write_bytes((run_dir / "final_model.pt").read_bytes())
    other = report(run_dir) | {"num_parameters": 7}
    (tmp_path / "experiment_report.json").write_text(json.dumps(other))
    assert facts(tmp_path / "final_model.pt").report is None


# -- the verifier's report --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def verification(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verification") / "report.json"
    data = run_dir.parent / "sums | more.json"
    asked = ["--model", run_dir, "--dataset", data, "--device", "cpu", "--json", path]
    assert verify_hlbd_model.run([str(word) for word in asked]) == 0
    return path


def test_the_verifiers_table_stands_in_place_of_the_recitation(run_dir: Path, verification: Path) -> None:
    card, told = card_of(run_dir, verification), json.loads(verification.read_text(encoding="utf-8"))
    answers = cells(section(card, "What it answers"))
    overall = next(m for m in told["modules"] if m["label"] == "overall")["train"]
    assert answers["overall"][0].startswith(f"{100 * overall['rate']:.1f} % (")
    assert set(answers) >= {ODD_NAME, "even"}
    for shortcut in told["shortcuts"]:
        assert f"- {shortcut['name']}: " in card
    assert "was asked questions of its own training data" not in card
    unsure = [s["name"] for s in told["shortcuts"] if s["verdict"] == "too little data to say"]
    assert unsure
    assert ", ".join(unsure) in section(card, "Limits")
    assert "| module | training questions | questions held back from training |" in card
    assert "has not seen is unknown" not in section(card, "Limits")


def test_a_report_that_mixes_rows_held_back_with_the_others_is_said_to(
    run_dir: Path, verification: Path, tmp_path: Path
) -> None:
    told = json.loads(verification.read_text(encoding="utf-8"))
    for module in told["modules"]:
        del module["validation"]  # as the verifier wrote it once
    path = tmp_path / "mixed.json"
    path.write_text(json.dumps(told))
    card = card_of(run_dir, path)
    assert "has not seen is unknown" in section(card, "Limits"), "there was no held-out file"
    assert "training questions are the 20.0 % of the entries that were held back" in card


def test_a_report_with_held_out_questions_says_how_it_does_on_them(
    run_dir: Path, verification: Path, tmp_path: Path
) -> None:
    told = json.loads(verification.read_text(encoding="utf-8"))
    for module in told["modules"]:
        module["new_fact"] = {"hits": 1, "total": 4, "rate": 0.25, "low": 0.0456, "high": 0.6994}
    path = tmp_path / "held_out.json"
    path.write_text(json.dumps(told))
    card = card_of(run_dir, path)
    assert cells(section(card, "What it answers"))["even"][2] == "25.0 % (4.6–69.9)"
    assert "has not seen is unknown" not in card


def test_a_shortcut_that_was_found_is_told_among_the_limits(run_dir: Path, verification: Path, tmp_path: Path) -> None:
    told = json.loads(verification.read_text(encoding="utf-8"))
    told["shortcuts"][0] |= {"verdict": "found", "where": ["even"], "summary": "says 3 to 9 of 10"}
    path = tmp_path / "found.json"
    path.write_text(json.dumps(told))
    card = card_of(run_dir, path)
    assert f"- {told['shortcuts'][0]['name']}: **found** in even: says 3 to 9 of 10" in card
    assert f"takes shortcuts (above): {told['shortcuts'][0]['name']}" in section(card, "Limits")


def test_the_runs_own_report_is_found_and_another_models_is_left_out(run_dir: Path, verification: Path) -> None:
    path = run_dir / "verification.json"
    path.write_bytes(verification.read_bytes())
    try:
        assert facts(run_dir).verification is not None
        told = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(told | {"weights": "0" * 32}))
        found = facts(run_dir)
        assert found.verification is None
        assert "about other weights" in found.notes[0]
        own = digest(dict(load_trained_model(run_dir).model.named_parameters()))
        path.write_text(json.dumps(told | {"weights": own}))
        assert facts(run_dir).verification is not None
        assert facts(run_dir / "checkpoint_epoch_2").verification is None, "its weights are others"
    finally:
        path.unlink()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d | {"weights": "0" * 32}, "about other weights"),
        (lambda d: d | {"num_parameters": 3}, "another size"),
        (lambda d: d | {"format": "something"}, "not a verifier's report"),
        (lambda d: d | {"schema_version": 2}, "schema version is 2"),
        (lambda d: [d], "not a verifier's report"),
    ],
)
def test_a_given_report_that_is_not_about_the_model_is_refused(
    change: Callable[[dict[str, Any]], Any], told: str, run_dir: Path, verification: Path, tmp_path: Path
) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps(change(json.loads(verification.read_text(encoding="utf-8")))))
    with pytest.raises(UserError, match=f"--verification .*other.json: .*{told}"):
        facts(run_dir, path)


def test_a_report_that_is_not_there_is_refused(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        facts(run_dir, tmp_path / "none.json")


# -- Markdown ---------------------------------------------------------------------------------------------------------


@given(st.text(max_size=30), st.text(max_size=10))
def test_whatever_a_name_contains_the_table_stays_a_table(first: str, second: str) -> None:
    lines = list(table(["a", "b"], [[first, second], ["last", 1]]))
    html = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).render("\n".join(lines))
    assert len(lines) == 4
    assert html.count("<tr>") == 3
    assert html.count("<td") == 4
    assert "<code>" not in html
    assert "<b>" not in html


def test_plain_text_comes_out_as_it_went_in() -> None:
    told = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).renderInline(plain(ODD_NAME + "\n# a ~b~"))
    assert told.replace("&lt;", "<").replace("&gt;", ">") == ODD_NAME + " # a ~b~"


# -- the figure -------------------------------------------------------------------------------------------------------


def test_the_figure_is_a_picture_and_the_same_each_time(run_dir: Path, tmp_path: Path) -> None:
    from training.record.curve_figure import curve_figure

    drawn = curve_figure(report(run_dir), None)
    assert drawn is not None
    assert drawn == curve_figure(report(run_dir), None), "a second push has nothing new to send"
    (tmp_path / "a.png").write_bytes(drawn)
    assert image.imread(tmp_path / "a.png").shape[1] == 880
    marked = curve_figure(report(run_dir), 4)
    assert marked != drawn


def test_a_record_without_a_curve_has_no_figure(run_dir: Path) -> None:
    from training.record.curve_figure import curve_figure

    empty = {"step": [1, 2], "loss": [None, 3.0]}
    assert curve_figure(report(run_dir) | {"curve": empty}, None) is None
