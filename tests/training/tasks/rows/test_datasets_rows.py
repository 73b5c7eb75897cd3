"""Rows of `datasets`: directories that it wrote, and names on a stand-in of the Hub on this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from huggingface_hub import constants
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.hub_stand_in import DROP, HubStandIn, Repository, hub_stand_in, pretend
from training.errors import UserError
from training.tasks.rows.columns import text_of
from training.tasks.rows.find import find_source

pytestmark = pytest.mark.slow
"""All import `datasets`."""

ROWS: list[dict[str, Any]] = [
    {"text": "雨", "id": 1, "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": None}]},
    {"text": None, "id": 2, "messages": []},
    {"text": "c", "id": 3, "messages": [{"role": "user", "content": "😀"}]},
]


@pytest.fixture(autouse=True)
def _quiet_and_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the library show no bars, and each test work in its own folder."""
    monkeypatch.chdir(tmp_path)
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def values(name: str) -> list[dict[str, Any]]:
    return [dict(row.values) for row in find_source(name).rows()]


def refusal(name: str) -> str:
    with pytest.raises(UserError) as caught:
        list(find_source(name).rows())
    line = str(caught.value)
    assert "\n" not in line
    return line


# -- directories -------------------------------------------------------------------------------------------------------

TEXTS = st.fixed_dictionaries({"text": st.text(st.characters(exclude_categories=["Cs"])), "问题": st.text("a\0\r\n雨")})


@settings(max_examples=25)
@given(rows=st.lists(TEXTS, min_size=1, max_size=5))
def test_rows_of_texts_are_those_of_json_lines(
    rows: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    datasets.Dataset.from_list(rows).save_to_disk(folder / "saved")
    datasets.Dataset.from_list(rows).to_parquet(folder / "a.parquet")
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert values(str(folder / "saved")) == values(str(folder / "a.parquet")) == values(str(folder / "a.jsonl")) == rows


def test_a_saved_dataset_is_read_with_its_types() -> None:
    dataset = datasets.Dataset.from_list(ROWS)
    dataset.save_to_disk("saved", num_shards=2)
    source = find_source("saved")
    rows = list(source.rows())
    assert [row.values for row in rows] == ROWS
    assert [row.number for row in rows] == [1, 2, 3]
    with pytest.raises(UserError, match=r"^saved, row 2: 'text' must be a text, not null; repair the row$"):
        text_of(rows[1], "text", source)
    names = [path.name for path in source.files()]
    assert names == ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow", "dataset_info.json", "state.json"]
    assert source.size == sum(path.stat().st_size for path in Path("saved").glob("*.arrow"))
    first = source.fingerprint()
    shutil.move("saved", "moved")
    assert find_source("moved").fingerprint() == first
    dataset.select([0, 1]).save_to_disk("other")
    assert find_source("other").fingerprint() != first


def test_a_row_whose_values_have_no_common_type_is_what_it_was() -> None:
    rows = [{"text": "a", "x": {"b": 1}}, {"text": "b", "x": [1, "c"]}]
    datasets.Dataset.from_list(rows, on_mixed_types="use_json").save_to_disk("saved")
    datasets.Dataset.from_list(rows, on_mixed_types="use_json").to_parquet("a.parquet")
    assert values("saved") == values("a.parquet") == rows


def test_the_format_that_a_dataset_was_saved_with_is_left_aside() -> None:
    datasets.Dataset.from_list(ROWS).with_format("numpy").save_to_disk("saved")
    assert values("saved") == ROWS


def test_pictures_are_not_decoded() -> None:
    features = datasets.Features({"text": datasets.Value("string"), "image": datasets.Image()})
    dataset = datasets.Dataset.from_dict({"text": ["a"], "image": [{"bytes": b"no picture", "path": None}]}, features)
    dataset.save_to_disk("saved")
    assert values("saved") == [{"text": "a", "image": {"bytes": b"no picture", "path": None}}]


def test_of_several_splits_train_is_read() -> None:
    train = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"test": train.select([0]), "train": train}).save_to_disk("saved")
    source = find_source("saved")
    assert [row.values for row in source.rows()] == ROWS
    assert [str(path) for path in source.files()][:2] == [
        "saved/dataset_dict.json",
        "saved/train/data-00000-of-00001.arrow",
    ]
    assert values("saved/test") == ROWS[:1]


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        (
            {"dev": ROWS, "test": ROWS},
            "no split 'train' among its splits 'dev', 'test'; give the directory of one: saved/dev",
        ),
        ({}, "no split 'train' among its splits (none)"),
    ],
)
def test_splits_without_train_are_named(splits: dict[str, Any], words: str) -> None:
    found = {name: datasets.Dataset.from_list(rows) for name, rows in splits.items()}
    datasets.DatasetDict(found).save_to_disk("saved")
    assert words in refusal("saved")


@pytest.mark.parametrize("content", ["{", "[]", '{"splits": 3}', '{"splits": [1]}', "{}", "\udcff"])
def test_a_damaged_list_of_splits_is_refused(content: str) -> None:
    Path("saved").mkdir()
    Path("saved/dataset_dict.json").write_text(content, errors="surrogateescape")
    assert refusal("saved").startswith("saved/dataset_dict.json: damaged (")


@pytest.mark.parametrize("name", ["state.json", "dataset_info.json", "data-00000-of-00001.arrow"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "zeros"])
def test_a_damaged_directory_is_refused(name: str, damage: str) -> None:
    datasets.Dataset.from_list(ROWS * 1000).save_to_disk("saved")
    path = Path("saved") / name
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        half = len(content) // 2
        path.write_bytes({"empty": b"", "cut": content[:half], "zeros": content[:half] + bytes(half)}[damage])
    assert re.search(r"cannot load it|cannot be read|the table has no end", refusal("saved"))


def test_an_empty_dataset_is_refused() -> None:
    datasets.Dataset.from_dict({"text": []}).save_to_disk("saved")
    assert refusal("saved") == "saved: the dataset holds no rows; fill it, or leave it out"


# -- the Hub -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    """A Hub with `ada/texts` of two splits and `ada/tests` without `train`, and empty caches."""
    with hub_stand_in() as running:
        pretend(monkeypatch, running, tmp_path / "no-login")
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", running.endpoint)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "tables")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", False, raising=False)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "files"))
        card = b"---\nlicense: mit\n---\n"
        lines = [(json.dumps({"text": text}) + "\n").encode() for text in "abc"]
        files = {"README.md": card, "train.jsonl": lines[0] + lines[1], "test.jsonl": lines[2]}
        running.repositories["datasets/ada/texts"] = Repository(False, files)
        running.repositories["datasets/ada/tests"] = Repository(False, {"README.md": card, "test.jsonl": lines[2]})
        running.repositories["datasets/ada/secret"] = Repository(True, files)
        yield running


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def test_a_name_on_the_hub_is_its_train_split(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    source = find_source("ada/texts")
    assert hub.requests == {}, "the Hub is asked when the rows are"
    assert [row.values["text"] for row in source.rows()] == ["a", "b"]
    assert source.place(2) == "ada/texts, row 2"
    assert list(source.files()) == []
    assert source.size > 0
    assert values("ada/texts:test") == [{"text": "c"}]
    assert find_source("ada/texts:test").fingerprint() != source.fingerprint()
    Path("ada").mkdir()
    Path("ada/texts").write_text("x")
    assert "the name has no ending" in refusal("ada/texts"), "a path here comes first"
    Path("ada/texts").unlink()

    go_offline(monkeypatch)
    hub.requests.clear()
    again = find_source("ada/texts")
    assert [row.values["text"] for row in again.rows()] == ["a", "b"]
    assert again.fingerprint() == source.fingerprint()
    assert hub.requests == {}


def test_a_split_that_the_hub_has_not_is_named(hub: HubStandIn) -> None:
    line = refusal("ada/tests")
    assert line.startswith("ada/tests: Unknown split \"train\". Should be one of ['test']")
    assert line.endswith("name a split: ada/tests:SPLIT")


def test_a_dataset_that_the_hub_has_not_is_one_line(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal("ada/nothing").startswith(
        "ada/nothing: neither a file here nor a dataset that the Hub shows you; check"
    )
    monkeypatch.delenv("HF_TOKEN")
    assert "run `hf auth login`" in refusal("ada/secret")
    hub.fail("info", 403)
    assert "ask for access on hf.co/datasets/ada/texts" in refusal("ada/texts")
    hub.fail("info", 500)
    assert "status 500; try again later" in refusal("ada/texts")
    Path("ada").mkdir()
    Path("ada/nothings").touch()
    assert refusal("ada/nothing").endswith("shows you; did you mean 'ada/nothings'?")


def test_a_hub_that_cannot_be_reached_is_one_line_at_once(hub: HubStandIn) -> None:
    hub.fail("info", DROP)
    began = time.monotonic()
    line = refusal("ada/texts")
    assert line.startswith("ada/texts: no file here, and the Hub cannot be reached (")
    assert line.endswith("if the dataset was downloaded before, set HF_HUB_OFFLINE=1")
    assert time.monotonic() - began < 10, "the library itself would try for 23 seconds"


def test_without_the_hub_a_name_that_is_nowhere_is_one_line(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    go_offline(monkeypatch)
    line = refusal("ada/texts")
    assert line.startswith("ada/texts: no file here, and nothing in the cache of datasets, while HF_HUB_OFFLINE keeps")
    assert hub.requests == {}


@pytest.mark.parametrize("name", ["ada/te--xts", "-ada/texts", "ada/te xts", "ada/x.git", "ada/" + "x" * 97])
def test_a_name_that_the_hub_does_not_allow_is_refused_before_it_is_asked(name: str, hub: HubStandIn) -> None:
    with pytest.raises(UserError) as caught:
        find_source(name)
    assert "no file, and no dataset of the Hub, whose name " in str(caught.value)
    assert hub.requests == {}


@pytest.mark.parametrize(
    "name", ["ada/texts.jsonl", "ada/texts/", "./ada/texts", "ada/texts/more", f"{os.sep}ada/texts"]
)
def test_a_path_is_not_taken_for_a_name_on_the_hub(name: str) -> None:
    with pytest.raises(UserError, match=r"^--datasets \S+: no such file"):
        find_source(name)
