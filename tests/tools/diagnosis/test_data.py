"""`tools/diagnose_issues.py` on data files: each fault is found, named with its place, and nothing else is."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT, FrontDoor
from tests.support.findings import do, row, the, worst, write, write_rows
from tools.diagnosis.data_file import DataFile, diagnose_file
from tools.diagnosis.data_set import data_paths, diagnose_data
from tools.diagnosis.findings import Finding, Status


def diagnosed_data(*paths: Path) -> list[Finding]:
    return list(diagnose_data(paths, complete=False))


def test_the_committed_data_has_no_fault() -> None:
    findings = list(diagnose_data(data_paths(None), complete=True))
    assert worst(findings) == []
    small = the(findings, "rows", "HLBD_Hardcore_Full.json")
    assert small.facts["modules"] == dict.fromkeys(
        ["geometry", "arithmetic", "zodiac", "physics", "reverse_english"], 115
    )
    assert the(findings, "rows", "data/HLBD_Full_V2.json").facts["concepts"] == 5000
    assert [f.facts["leaks"] for f in findings if f.subject == "leaks"] == [0, 0, 0]


def test_a_row_given_twice_is_named_with_both_places(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.json", x=[row("1+1", "2"), row("1+2", "3")], y=[row("1+1", "2")])
    findings = diagnosed_data(path)
    assert worst(findings) == [("duplicates", Status.WARNING)]
    assert the(findings, "duplicates").details == ("'1+1': module 'x', row 0; module 'y', row 0",)


def test_one_input_with_two_answers_is_an_error_that_shows_both(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.json", x=[row("1+2", "3"), row("1+1", "2")], y=[row("1+1", "二")])
    findings = diagnosed_data(path)
    assert worst(findings) == [("contradictions", Status.ERROR)]
    assert the(findings, "contradictions").details == ("'1+1': '2' (module 'x', row 1); '二' (module 'y', row 0)",)


def test_a_concept_told_in_two_ways_is_a_warning_since_the_loader_leaves_it_out(tmp_path: Path) -> None:
    told = [{"concept": "雨", "level_5": {"英文": text}} for text in ("rain", "It rains.")]
    kept = {"concept": "雪", "level_5": {"英文": "snow"}}
    findings = diagnosed_data(write(tmp_path / "a.json", {"samples": [*told, kept]}))
    assert worst(findings) == [("contradictions", Status.WARNING)]
    assert the(findings, "contradictions").facts == {"left_out": 2}


def test_a_held_out_question_in_a_training_file_is_an_error_wherever_it_stands(tmp_path: Path) -> None:
    own = write_rows(tmp_path / "a.json", row("1+1", "2"), row("1+2", "3"))
    other = write_rows(tmp_path / "b.json", row("café?", "3"))
    held_out = write_rows(
        tmp_path / "a_Heldout.json", row("1+2", "3", kind="paraphrase"), row("2+2", "4"), row("café?", "3")
    )
    findings = diagnosed_data(own, other, held_out)
    leaks = the(findings, "leaks")
    assert leaks.status is Status.ERROR
    assert leaks.facts["leaks"] == 2
    assert leaks.details == (
        "'1+2' (module 'm', row 0) is in a.json",
        "'café?' (module 'm', row 2) is in b.json",
    )
    assert the(diagnosed_data(own, held_out), "leaks").facts["leaks"] == 1


def test_a_paraphrased_concept_keeps_its_name_and_leaks_only_if_it_is_told_the_same(tmp_path: Path) -> None:
    def concept(name: str, english: str, **more: str) -> dict[str, Any]:
        return {"concept": name, "level_1": {"字卡": name[0]}, "level_5": {"英文": english}, **more}

    write(tmp_path / "a.json", {"samples": [concept("雨停", "Rain stops."), concept("雪停", "Snow stops.")]})
    held_out = tmp_path / "a_Heldout.json"
    fair = [concept("雨停", "It stopped raining.", kind="paraphrase"), concept("停", "stop", kind="new_fact")]
    assert the(diagnosed_data(write(held_out, {"samples": fair})), "leaks").facts["leaks"] == 0
    same = [*fair, concept("雪停", "Snow stops.", kind="paraphrase")]
    assert the(diagnosed_data(write(held_out, {"samples": same})), "leaks").facts["leaks"] == 2
    known = [*fair, concept("雪停", "The snow is over.", kind="new_fact")]
    assert the(diagnosed_data(write(held_out, {"samples": known})), "leaks").facts["leaks"] == 2


def test_held_out_characters_and_tags_that_training_lacks_are_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.json", row("ab", "c"))
    findings = diagnosed_data(write_rows(tmp_path / "a_Heldout.json", row("[FR]ba", "cé"), row("aé", "b")))
    characters = the(findings, "characters")
    assert characters.status is Status.WARNING
    assert characters.facts["unknown_tags"] == ["[FR]"]
    assert characters.facts["unknown_characters"]["é"] == 2
    assert not {"a", "b", "c"} & set(characters.facts["unknown_characters"])


def test_a_held_out_file_without_its_training_file_says_so(tmp_path: Path) -> None:
    findings = diagnosed_data(write_rows(tmp_path / "a_Heldout.json", row("a", "b")))
    assert worst(findings) == [("leaks", Status.WARNING)]
    assert "a.json" in the(findings, "leaks").message


def test_rows_too_long_for_the_model_come_with_a_command_that_train_accepts(
    tmp_path: Path, front_door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    findings = diagnosed_data(write_rows(tmp_path / "a b.json", row("长" * 300, "短"), row("短", "短")))
    longest = the(findings, "longest row")
    assert longest.status is Status.WARNING
    assert longest.details == ("304 tokens: module 'm', row 0",)
    do(f"{longest.fix} --max-steps 1 --d-model 16 --num-heads 2 --num-layers 1 --answer-samples 0", front_door)


_CHARACTERS = st.sampled_from(["a", "字", "[EN]", "[FR]", "[", "]", " "])


_QUESTIONS = st.lists(_CHARACTERS, min_size=1, max_size=12).filter(lambda parts: bool("".join(parts).strip()))


@settings(max_examples=60, deadline=None)
@given(st.lists(_QUESTIONS, min_size=2, max_size=30))
def test_the_longest_row_is_the_one_with_most_tokens_not_most_characters(
    tmp_path_factory: pytest.TempPathFactory, questions: list[list[str]]
) -> None:
    path = tmp_path_factory.mktemp("lengths") / "a.json"
    file = DataFile.load(write_rows(path, *(row("".join(q), "答") for q in questions)))
    counted = max(len(file.tokenizer.prompt_ids(s.prompt)) + 2 for s in file.corpus.samples)
    assert the(diagnose_file(file), "longest row").facts["longest_tokens"] == counted


@pytest.mark.parametrize(
    ("question", "misspelt"),
    [("[en]雨", {"[en]": "[EN]"}), ("[EMOJ]雨", {"[EMOJ]": "[EMOJI]"}), ("[PHRASES]雨", {"[PHRASES]": "[PHRASE]"})],
)
def test_a_misspelt_tag_is_a_warning_with_the_one_that_was_meant(
    question: str, misspelt: dict[str, str], tmp_path: Path
) -> None:
    findings = diagnosed_data(write_rows(tmp_path / "a.json", row("[EN]雪", "snow"), row(question, "rain")))
    assert worst(findings) == [("tags", Status.WARNING)]
    assert the(findings, "tags").facts["misspelt"] == misspelt


def test_a_misspelt_level_is_found_by_the_tag_that_it_makes(tmp_path: Path) -> None:
    findings = diagnosed_data(write(tmp_path / "a.json", {"samples": [{"concept": "雨", "level_1": {"Emoji": "🌧️"}}]}))
    assert the(findings, "tags").facts["misspelt"] == {"[Emoji]": "[EMOJI]"}


def test_a_new_tag_and_brackets_in_a_text_are_no_fault(tmp_path: Path) -> None:
    findings = diagnosed_data(write_rows(tmp_path / "a.json", row("[XY]雨", "a[i]"), row("[FR]雨", "pluie")))
    assert worst(findings) == []
    assert the(findings, "tags").facts == {"used": ["[FR]", "[XY]"], "new": ["[XY]"]}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"data": {"m": [{"input": "1', "cut short"),
        (b"", "empty"),
        (b"\xff\xfe", "UTF-8"),
        (b'{"data": {"m": [{"input": 1, "output": "1"}]}}', "row 0"),
    ],
)
def test_a_broken_file_is_one_error_and_the_others_are_still_looked_at(
    content: bytes, told: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.json").write_bytes(content)
    findings = diagnosed_data(tmp_path / "broken.json", write_rows(tmp_path / "good.json", row("a", "b")))
    assert worst(findings) == [("rows", Status.ERROR)]
    assert told in the(findings, "rows", "broken.json").message
    assert the(findings, "rows", "good.json").facts["rows"] == 1


def test_a_missing_file_of_the_project_comes_with_the_command_that_writes_it() -> None:
    there = [p for p in data_paths(None) if p.stem != "HLBD_Hardcore_Full"]
    missing = [f for f in diagnose_data(there, complete=True) if "missing" in f.message]
    assert [(f.status, Path(f.section).name) for f in missing] == [(Status.ERROR, "HLBD_Hardcore_Full.json")]
    script, *arguments = shlex.split(missing[0].fix)[1:]
    assert (ROOT / script).resolve() == ROOT / "tools" / "generate_hlbd_hardcore.py"
    assert arguments == ["--version", "1"]
