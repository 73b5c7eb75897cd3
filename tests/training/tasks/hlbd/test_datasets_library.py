"""HLBD data as a `datasets` dataset, cached or streamed: our loader's samples, its order, its tokens, its errors."""

from __future__ import annotations

import json
import re
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apt_model.tokenizer import DynamicTagTokenizer
from training.errors import DataError
from training.storage.json_stream import JsonStream
from training.tasks.hlbd.dataset import HLBDDataset
from training.tasks.hlbd.datasets_library import IGNORED, hlbd_dataset, tokenised
from training.tasks.hlbd.files import Pairs, Sample, load_corpus
from training.tasks.hlbd.json_stream import hlbd_stream
from training.tasks.hlbd.stream import CorpusStream, stream_tokenizer

DOCS = Path(__file__).resolve().parents[4] / "docs"
FILES = ["HLBD_Hardcore_Full.json", "HLBD_Hardcore_Full_V2_Heldout.json", "HLBD_Full_V2_Heldout.json"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
ROWS = st.fixed_dictionaries({"input": TEXT, "output": TEXT}, optional={"kind": TEXT})
LEVELS = st.sampled_from(["字卡", "emoji", "短语", "英文", "中文", "日文", "克林贡文"])
CONCEPTS = st.builds(
    lambda concept, levels: {"concept": concept} | {f"level_{i}": {k: v} for i, (k, v) in enumerate(levels.items())},
    st.sampled_from("雨雪风"),
    st.dictionaries(LEVELS, st.sampled_from("abc"), min_size=1, max_size=4),
)
DOCUMENTS = st.one_of(
    st.fixed_dictionaries(
        {"data": st.dictionaries(TEXT, st.lists(ROWS, min_size=1, max_size=4), min_size=1, max_size=3)},
        optional={"metadata": st.dictionaries(TEXT, st.lists(st.floats(allow_nan=False), max_size=3), max_size=2)},
    ),
    st.fixed_dictionaries(
        {"samples": st.lists(CONCEPTS, min_size=1, max_size=5)}, optional={"x": st.just([{}, [], 1])}
    ),
)
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Nothing of this asks anybody anything."""
    asked: list[object] = []

    def refuse(self: socket.socket, address: object) -> None:
        asked.append(address)
        raise OSError("this test has no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield asked
    assert asked == []


@pytest.fixture(autouse=True)
def _no_bars(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import datasets

    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return path


def told(read: Any) -> str:
    with pytest.raises(DataError) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def said_of(read: Callable[[], list[Sample]]) -> list[Sample] | str:
    """The samples, or the words in which they are refused."""
    try:
        return read()
    except DataError as error:
        return str(error)


# -- equal to our loader ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pairs", ["levels", "full"])
def test_our_data_files_streamed_are_what_the_loader_reads(pairs: Pairs) -> None:
    stream, corpus = CorpusStream(FILES, pairs), load_corpus(FILES, pairs)
    assert list(stream) == corpus.samples
    assert stream.tags == corpus.tags
    built = DynamicTagTokenizer.from_texts((text for s in corpus.samples for text in s[:2]), corpus.tags)
    assert stream_tokenizer(FILES, pairs) == built


@same_folder
@given(
    documents=st.lists(DOCUMENTS, min_size=1, max_size=2),
    pairs=st.sampled_from(["levels", "full"]),
    ascii=st.booleans(),
)
def test_any_files_streamed_are_what_the_loader_reads(
    documents: list[Any], pairs: Pairs, ascii: bool, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{n}.json" for n, _ in enumerate(documents)]
    for path, document in zip(paths, documents, strict=True):
        path.write_text(json.dumps(document, ensure_ascii=ascii, indent=1 if ascii else None), encoding="utf-8")
    assert said_of(lambda: list(CorpusStream(paths, pairs))) == said_of(lambda: load_corpus(paths, pairs).samples)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_dataset_has_the_loaders_samples_and_tokens(streaming: bool, tmp_path: Path) -> None:
    files: list[str | Path] = ["HLBD_Hardcore_Full.json", write(tmp_path / "more.json", {"samples": [
        {"concept": "雨", "level_1": {"字卡": "雨"}, "level_2": {"英文": "rain"}},
        {"concept": "雪", "level_2": {"英文": "snow"}},
        {"concept": "雨", "level_2": {"英文": "showers"}},
    ]})]  # fmt: skip
    corpus = load_corpus(files)
    tokenizer = stream_tokenizer(files)
    if streaming:
        dataset = tokenised(hlbd_dataset(files, streaming=True), tokenizer, 64)
    else:
        dataset = tokenised(hlbd_dataset(files, cache_dir=tmp_path / "cache"), tokenizer, 64)
    rows = list(dataset)
    assert [(r["prompt"], r["answer"], r["module"], r["entry"]) for r in rows] == corpus.samples
    expected = HLBDDataset(corpus.samples, tokenizer, 64)
    assert len(rows) == len(expected)
    for i, row in enumerate(rows):
        tokens, trained, _ = expected[i]
        assert row["input_ids"] == tokens.tolist()
        assert row["labels"] == [t if learned else IGNORED for t, learned in zip(tokens, trained, strict=True)]


@pytest.mark.parametrize("streaming", [False, True])
def test_what_is_cut_and_what_is_left_out_is_the_same(streaming: bool, tmp_path: Path) -> None:
    made = [{"input": "q" * n, "output": "answer"} for n in (1, 3, 9, 2, 12, 4)]
    path = write(tmp_path / "long.json", {"data": {"m": made}})
    samples, tokenizer = load_corpus([path]).samples, stream_tokenizer([path])
    dataset = (
        hlbd_dataset([path], cache_dir=tmp_path / "cache") if not streaming else hlbd_dataset([path], streaming=True)
    )
    expected = HLBDDataset(samples, tokenizer, 10, "all", truncate=True)
    assert expected.num_left_out == 2
    rows = list(tokenised(dataset, tokenizer, 10, "all", truncate=True))
    assert [row["input_ids"] for row in rows] == [expected[i].tokens.tolist() for i in range(len(expected))]
    assert [row["labels"].count(IGNORED) for row in rows] == [1, 1, 1, 1]
    assert [row["entry"] for row in rows] == [0, 1, 3, 5]
    assert "5 of 6 samples are longer than max_seq_len=10" in told(lambda: list(tokenised(dataset, tokenizer, 10)))


# -- the cache --------------------------------------------------------------------------------------------------------


def test_rows_and_tokens_are_made_once(tmp_path: Path) -> None:
    from datasets import Dataset

    path = write(tmp_path / "a.json", {"data": {"m": [{"input": "1", "output": "2"}]}})

    def made() -> list[tuple[str, int]]:
        dataset = tokenised(hlbd_dataset([path], cache_dir=tmp_path / "cache"), stream_tokenizer([path]), 16)
        assert isinstance(dataset, Dataset)
        found = [Path(file["filename"]) for file in dataset.cache_files]
        assert all(file.is_relative_to(tmp_path / "cache") for file in found)
        return [(str(file), file.stat().st_mtime_ns) for file in found]

    first = made()
    assert first
    assert made() == first


def test_a_file_that_has_changed_is_read_anew(tmp_path: Path) -> None:
    # Left to itself, `datasets` would give the old rows again: it knows a generator by its arguments alone.
    path = tmp_path / "a.json"
    for answer in ("2", "3", "2"):
        write(path, {"data": {"m": [{"input": "1", "output": answer}]}})
        assert hlbd_dataset([path], cache_dir=tmp_path / "cache")["answer"][:] == [answer]


def test_other_pairs_are_other_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", {"samples": [{"concept": "雨", "level_1": {"英文": "rain", "中文": "下雨"}}]})
    sizes = [len(hlbd_dataset([path], pairs, cache_dir=tmp_path / "cache")) for pairs in ("levels", "full", "levels")]
    assert sizes == [2, 4, 2]


# -- streaming --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_large_file_is_never_held(tmp_path: Path) -> None:
    rows = ",\n".join(f'{{"input": "{i} + 1 = ?", "output": "{i + 1}"}}' for i in range(12_000))
    path = tmp_path / "large.json"
    path.write_text(f'{{"metadata": {{"rows": [{rows}]}}, "data": {{"sums": [{rows}]}}}}', encoding="utf-8")
    assert path.stat().st_size > 1_000_000
    tracemalloc.start()
    try:
        count = sum(1 for _ in CorpusStream([path]))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 12_000
    assert peak < 500_000, peak


def test_the_first_rows_come_before_the_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cut.json"
    path.write_text('{"data": {"m": [' + '{"input": "1", "output": "2"}, ' * 20_000, encoding="utf-8")
    walk = iter(hlbd_dataset([path], streaming=True))
    assert next(walk)["answer"] == "2"
    assert "cut short" in told(lambda: list(walk))


def test_a_stream_can_be_shuffled_and_goes_on_from_its_state(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", {"data": {"m": [{"input": str(i), "output": "x"} for i in range(50)]}})
    stream = hlbd_dataset([path], streaming=True)
    assert sorted(r["entry"] for r in stream.shuffle(seed=1, buffer_size=16)) == list(range(50))
    walk = iter(stream)
    for _ in range(20):
        next(walk)
    state = stream.state_dict()
    stream.load_state_dict(state)
    assert [r["entry"] for r in stream] == list(range(20, 50))


# -- JSON in pieces ---------------------------------------------------------------------------------------------------

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


def walked(stream: JsonStream) -> Any:
    if stream.at("{"):
        return {key: walked(stream) for key in stream.members()}
    if stream.at("["):
        return [walked(stream) for _ in stream.items()]
    return stream.value()


@same_folder
@given(document=JSON_VALUES, chunk=st.integers(1, 9), indent=st.sampled_from([None, 2]), ascii=st.booleans())
def test_wherever_the_pieces_are_cut_the_document_is_the_same(
    document: Any, chunk: int, indent: int | None, ascii: bool, tmp_path: Path
) -> None:
    path = tmp_path / "any.json"
    path.write_text(json.dumps(document, indent=indent, ensure_ascii=ascii), encoding="utf-8", errors="replace")
    expected = json.loads(path.read_text(encoding="utf-8"))
    for read in (walked, JsonStream.value):
        with hlbd_stream(path, chunk) as stream:
            assert read(stream) == expected
            stream.end()
    with hlbd_stream(path, chunk) as stream:
        stream.skip()
        stream.end()


SMALL = (
    '{"metadata": {"a": [1, -2.5e3, true, null, "\\u96e8"]},\n "data": {"m": [{"input": "雨🌧️?",\r\n "output": "r"},\n'
    ' {"input": "b", "output": "c"}], "n": [{"input": "d", "output": "e\\n"}]}}\n'
)


def test_a_file_cut_short_anywhere_is_refused_in_the_loaders_words(tmp_path: Path) -> None:
    whole = ("\ufeff" + SMALL).encode()
    path = tmp_path / "cut.json"
    different = []
    for length in range(4, len(whole) + 1):
        path.write_bytes(whole[:length])
        said, loaded = said_of(lambda: list(CorpusStream([path]))), said_of(lambda: load_corpus([path]).samples)
        different += [(said, loaded)] if said != loaded else []
    assert different == []


@same_folder
@given(at=st.integers(0, len(SMALL.encode()) - 1), put=st.sampled_from([*range(256), *b'{}[]",:0']))
def test_a_byte_that_is_wrong_is_refused_by_both_or_by_none(at: int, put: int, tmp_path: Path) -> None:
    content = bytearray(SMALL.encode())
    content[at] = put
    path = tmp_path / "wrong.json"
    path.write_bytes(content)
    said, loaded = said_of(lambda: list(CorpusStream([path]))), said_of(lambda: load_corpus([path]).samples)
    assert said == loaded or (isinstance(said, str) and isinstance(loaded, str))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("[1, 2]", "this one is a list"),
        ("3", "this one is a number"),
        ('{"name": 1}', "neither 'data'"),
        ('{"data": []}', "'data' must map each module"),
        ('{"data": {}}', "the file holds no samples"),
        ('{"data": {"m": {}}}', "must be a list of rows, it is a object"),
        ('{"data": {"m": []}}', "'m' is empty"),
        ('{"data": {"m": [1]}}', "row 0: a row is"),
        ('{"data": {"m": [{"input": "a", "output": "b"}, {"input": "a"}]}}', "row 1: no 'output'"),
        ('{"data": {"m": [{"input": "a", "output": ""}]}}', "must be a non-empty text"),
        ('{"data": {"m": [{"input": "a", "input": "b", "output": "c"}]}}', "'input' is given twice"),
        ('{"data": {"m": [{"input": "a", "output": "b"}], "m": []}}', "'m' is given twice"),
        ('{"data": {"m": [{"input": "a", "output": "b"}]}, "data": 1}', "'data' is given twice"),
        ('{"data": {"m": [{"input": "a", "output": "b"}]}} x', "Extra data"),
        ('{"data": {"m": [{"input": "a", "output": "\\ud800"}]}}', "surrogate"),
        ('{"samples": {}}', "'samples' must be a list of concepts"),
        ('{"samples": []}', "the file holds no samples"),
        ('{"samples": [{"concept": "a"}]}', "has no level"),
        ('{"samples": [{"concept": "a", "level_1": 3}]}', "'level_1' must be an object"),
        ('{"samples": [{"concept": "a", "level_1": {"x": "1"}, "level_2": {"x": "2"}}]}', "on two levels"),
        (
            '{"samples": [{"concept": "a", "level_1": {"x": "1"}}, {"concept": "a", "level_1": {"x": "2"}}]}',
            "no samples",
        ),
        ('{"x": ' + "[" * 100_000, "nested too deeply"),
        ('{"x": ' + "1" * 5000 + "}", "number too long"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_bad_file_is_refused_as_the_loader_refuses_it(text: str, words: str, streaming: bool, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="utf-8")

    def read() -> None:
        if streaming:
            list(hlbd_dataset([path], streaming=True))
        else:
            hlbd_dataset([path], cache_dir=tmp_path / "cache")

    assert words in told(read)
    assert words in told(lambda: load_corpus([path]))


def test_names_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", {"data": {"m": [{"input": "1", "output": "2"}]}})
    assert "no such data file" in told(lambda: hlbd_dataset([tmp_path / "none.json"], streaming=True))
    assert "given twice" in told(lambda: hlbd_dataset([path, path], streaming=True))
    assert "no data file was given" in told(lambda: hlbd_dataset([]))


# -- the page ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["EXPORT.md", "zh-CN/EXPORT.md"])
def test_the_example_of_the_docs_runs_as_it_stands(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    [code] = re.findall(r"<!-- example: datasets -->\n```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    exec(compile(code, page, "exec"), {})
    told = capsys.readouterr().out
    assert "num_rows: 575" in told
    assert load_corpus(["HLBD_Hardcore_Full.json"]).samples[0].prompt in told
