"""Tokens on a disk: the same as in memory, made once, and never read when they are not what was written."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from training.errors import ConfigError, UserError
from training.storage import file_locks
from training.storage.atomic import temporary_of
from training.storage.cache_directory import VARIABLE, cache_directory
from training.tasks import token_store
from training.tasks.packing import PackedDataset
from training.tasks.token_dataset import EncodedSample
from training.tasks.token_store import DamagedStoreError, TokenStore, TokenStoreWriter, cached, key_of

posix = pytest.mark.skipif(os.name == "nt", reason="signals and limits are POSIX's")
FILES = ["tokens.bin", "trained.bin", "ends.bin", "weights.bin", "manifest.json"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the cached stores, which is not there yet."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


def make_three(writer: TokenStoreWriter) -> None:
    writer.add([5, 6, 7])
    writer.add(np.array([1, 2, 3, 4], dtype=np.uint8), np.array([False, False, True, False]))
    writer.add([9] * 11, np.arange(11) % 3 == 1)
    writer.facts["counts"] = {"rows": 3, "cut": [0, None, "行"]}


def store_of(directory: Path, make: Callable[[TokenStoreWriter], None] = make_three) -> TokenStore:
    with TokenStoreWriter(directory, 10) as writer:
        make(writer)
    return TokenStore.open(directory)


def refuse_to_make(writer: TokenStoreWriter) -> None:
    raise AssertionError("the store is there already")


def plain(sample: EncodedSample) -> tuple[list[int], list[bool]]:
    assert [str(a.dtype) for a in (sample.tokens, sample.trained)] == ["int32", "bool"]
    assert sample.starts == (0,)
    return sample.tokens.tolist(), sample.trained.tolist()


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# -- the same as in memory -----------------------------------------------------------------------------------------


@st.composite
def samples(draw: st.DrawFn) -> tuple[int, list[tuple[list[int], list[bool] | None]]]:
    """A vocabulary, and samples of it with any masks; the vocabularies at which the form on the disk changes too."""
    vocabulary = draw(st.sampled_from([1, 300, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, 1 << 31]))
    ids = st.one_of(st.integers(0, vocabulary - 1), st.just(vocabulary - 1))
    made: list[tuple[list[int], list[bool] | None]] = []
    for tokens in draw(st.lists(st.lists(ids, min_size=2, max_size=30), max_size=12)):
        rest = draw(st.none() | st.lists(st.booleans(), min_size=len(tokens) - 1, max_size=len(tokens) - 1))
        made.append((tokens, None if rest is None else [False, *rest]))
    return vocabulary, made


@given(data=samples(), buffered=st.sampled_from([1, 7, 1 << 20]))
@settings(max_examples=60)
def test_a_store_has_the_samples_that_were_added(
    tmp_path_factory: pytest.TempPathFactory, data: tuple[int, list[tuple[list[int], list[bool] | None]]], buffered: int
) -> None:
    vocabulary, made = data
    directory = tmp_path_factory.mktemp("any") / "store"
    with pytest.MonkeyPatch.context() as patch, TokenStoreWriter(directory, vocabulary) as writer:
        patch.setattr(token_store, "_BUFFERED", buffered)
        for tokens, trained in made:
            writer.add(tokens, None if trained is None else np.array(trained))
    expected = [(tokens, trained or [False] + [True] * (len(tokens) - 1)) for tokens, trained in made]
    store = TokenStore.open(directory)
    assert [plain(store[i]) for i in range(len(store))] == expected
    assert store.lengths.tolist() == [len(tokens) for tokens, _ in expected]
    assert store.weights.tolist() == [sum(trained) for _, trained in expected]
    assert store.lengths.dtype == store.weights.dtype == np.int64
    assert (store.vocabulary, store.facts) == (vocabulary, {})
    size = (directory / "tokens.bin").stat().st_size
    assert size == int(store.lengths.sum()) * (2 if vocabulary <= 1 << 16 else 4)
    assert names_in(directory.parent) == ["store"]


def test_facts_are_kept_beside_the_tokens(tmp_path: Path) -> None:
    with TokenStoreWriter(tmp_path / "store", 10) as writer:
        make_three(writer)
    assert TokenStore.open(tmp_path / "store").facts == {"counts": {"rows": 3, "cut": [0, None, "行"]}}


@pytest.mark.parametrize("fact", [(1, 2), {1: 2}, float("nan"), np.int64(3), Path("x"), "x" * 2**22])
def test_facts_that_would_be_read_back_as_something_else_are_refused(fact: Any, tmp_path: Path) -> None:
    def with_it(writer: TokenStoreWriter) -> None:
        writer.add([1, 2])
        writer.facts["fact"] = fact

    with pytest.raises(ValueError, match="should be plain data"):
        store_of(tmp_path / "store", with_it)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("tokens", "trained", "told"),
    [
        ([1], None, "two or more whole numbers"),
        ([], None, "two or more whole numbers"),
        ([[1, 2], [3, 4]], None, "two or more whole numbers"),
        ([1.0, 2.0], None, "two or more whole numbers"),
        ([1, 10], None, "from 0 to 9"),
        ([1, -1], None, "from 0 to 9"),
        ([1, 2**40], None, "from 0 to 9"),
        ([1, 2], [False], "as long"),
        ([1, 2], [0, 1], "truth values"),
        ([1, 2], [True, True], "False for the first token"),
    ],
)
def test_a_sample_that_nobody_could_learn_from_is_refused(tokens: Any, trained: Any, told: str, tmp_path: Path) -> None:
    def with_it(writer: TokenStoreWriter) -> None:
        writer.add([1, 2])
        writer.add(tokens, None if trained is None else np.array(trained))

    with pytest.raises(ValueError, match=f"^sample 1: .*{told}"):
        store_of(tmp_path / "store", with_it)
    assert names_in(tmp_path) == [], "an error leaves nothing"


def test_a_subset_is_a_view_of_some_samples_in_their_order(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store")
    subset = store.subset([2, 0])
    assert [plain(subset[i]) for i in range(len(subset))] == [plain(store[2]), plain(store[0])]
    assert (subset.lengths.tolist(), subset.weights.tolist()) == ([11, 3], [4, 2])
    assert plain(subset.subset([1])[0]) == plain(store[0])
    assert len(store.subset([])) == 0
    assert (len(store), subset.facts) == (3, store.facts)
    for wrong in ([3], [-1]):
        with pytest.raises(IndexError):
            store.subset(wrong)
    with pytest.raises(IndexError):
        subset[2]


def test_a_fingerprint_changes_with_what_the_samples_are_and_with_nothing_else(tmp_path: Path) -> None:
    def changed(writer: TokenStoreWriter) -> None:
        writer.add([5, 6, 7, 1, 2, 3, 4], np.array([False, True, True, False, False, True, False]))
        writer.add([9] * 11, np.arange(11) % 3 == 1)

    def relabelled(writer: TokenStoreWriter) -> None:
        make_three(writer)
        writer.facts.clear()

    def other_mask(writer: TokenStoreWriter) -> None:
        writer.add([5, 6, 7])
        writer.add([1, 2, 3, 4], np.array([False, True, True, False]))
        writer.add([9] * 11, np.arange(11) % 3 == 1)

    store = store_of(tmp_path / "one")
    others = [store_of(tmp_path / "two", changed), store_of(tmp_path / "three", other_mask)]
    views = [store.subset(numbers) for numbers in ([0, 1, 2], [1, 0], [0, 1])]
    assert len({each.fingerprint for each in (store, *others, *views)}) == 6
    assert store.fingerprint == store_of(tmp_path / "four", relabelled).fingerprint
    assert store.subset([2, 1, 0]).subset([1, 2]).fingerprint == store.subset([1, 0]).fingerprint


def test_a_pickled_store_is_mapped_again(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store")
    view = store.subset([2, 0]).subset([1])
    for one in (store, view):
        copy = pickle.loads(pickle.dumps(one))
        assert [plain(copy[i]) for i in range(len(copy))] == [plain(one[i]) for i in range(len(one))]
        assert copy.fingerprint == one.fingerprint
    kept = pickle.dumps(store)
    store_of(tmp_path / "store", lambda writer: writer.add([1, 2, 3]))
    with pytest.raises(DamagedStoreError, match="another store"):
        pickle.loads(kept)


def test_samples_can_be_packed(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store")
    rows = PackedDataset(store, 12)
    assert [rows[i].starts for i in range(len(rows))] == [(0,), (0, 3)]
    assert rows.weights.sum() == store.weights.sum()


# -- damage --------------------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [cut, empty, flip, remove])
@pytest.mark.parametrize("name", FILES)
def test_damage_of_any_file_is_found_when_the_store_is_opened_and_the_store_made_again(
    name: str, damage: Callable[[Path], None], cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = [plain(sample) for sample in samples_of(cached("abc", 10, make_three))]
    damage(cache / "abc" / name)
    with pytest.raises(DamagedStoreError, match=name.replace(".", r"\.")):
        TokenStore.open(cache / "abc")
    again = cached("abc", 10, make_three)
    assert [plain(sample) for sample in samples_of(again)] == expected
    told = capsys.readouterr().err
    assert told.startswith(f"warning: {cache / 'abc' / name}")
    assert told.endswith("; the tokens are made again\n")
    assert told.count("\n") == 1
    cached("abc", 10, refuse_to_make)
    assert names_in(cache) == [".abc.lock", "abc"]


def samples_of(store: TokenStore) -> Iterator[EncodedSample]:
    return (store[i] for i in range(len(store)))


def test_a_store_of_another_version_is_made_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr(token_store, "VERSION", 0)
        cached("abc", 10, make_three)
    with pytest.raises(DamagedStoreError, match="version 0; this program reads 1"):
        TokenStore.open(cache / "abc")
    assert len(cached("abc", 10, lambda writer: writer.add([1, 2]))) == 1


def test_a_store_that_is_not_there_is_no_damaged_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for missing in (tmp_path / "nothing", tmp_path / "file" / "store"):
        with pytest.raises(FileNotFoundError):
            TokenStore.open(missing)


# -- the cache -----------------------------------------------------------------------------------------------------


def test_a_store_is_made_once_and_then_read(cache: Path) -> None:
    made = cached("abc", 10, make_three)
    assert made.directory == cache / "abc"
    assert cached("abc", 10, refuse_to_make).fingerprint == made.fingerprint


def test_an_error_of_the_maker_goes_through_and_leaves_nothing(cache: Path) -> None:
    def broken(writer: TokenStoreWriter) -> None:
        writer.add([1, 2])
        raise FileNotFoundError("rows.jsonl")

    with pytest.raises(FileNotFoundError, match=r"rows\.jsonl"):
        cached("abc", 10, broken)
    assert names_in(cache) == [".abc.lock"]
    assert len(cached("abc", 10, make_three)) == 3


def test_a_key_without_the_vocabulary_is_a_fault_of_the_program(cache: Path) -> None:
    cached("abc", 10, make_three)
    with pytest.raises(ValueError, match="made for 10 tokens and not 11"):
        cached("abc", 11, make_three)


@pytest.mark.parametrize("key", ["", "..", "a/b", ".hidden", "a" * 101])
def test_a_key_that_is_no_name_of_a_directory_is_refused(key: str, cache: Path) -> None:
    with pytest.raises(ValueError, match="should be letters and digits"):
        cached(key, 10, make_three)


def test_a_key_changes_with_any_part() -> None:
    parts: list[tuple[object, ...]] = [
        (), ("a",), ("a", "b"), ("ab",), (b"a",), (Path("a"),), (1,), ("1",), (1.0,), (True,), (None,), ({"a": 1},),
        ({"a": 2},), (["a"],), ("行",), ("\ud800",),
    ]  # fmt: skip
    assert len({key_of(*each) for each in parts}) == len(parts)
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert token_store._KEY.fullmatch(key_of("a"))
    with pytest.raises(TypeError, match="cannot be made of a set"):
        key_of({1, 2})


def test_the_cache_lies_where_the_user_says_else_where_caches_lie(tmp_path: Path) -> None:
    home = Path.home()
    assert cache_directory({VARIABLE: str(tmp_path), "XDG_CACHE_HOME": "/x"}) == tmp_path
    assert cache_directory({VARIABLE: "~/here"}) == home / "here"
    assert cache_directory({VARIABLE: "here"}) == Path.cwd() / "here"
    assert cache_directory({VARIABLE: "", "XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "apt-trainer"
    assert cache_directory({"XDG_CACHE_HOME": "relative"}) == home / ".cache" / "apt-trainer"
    assert cache_directory({}) == home / ".cache" / "apt-trainer"
    with pytest.raises(ConfigError, match="APT_TRAINER_CACHE in the environment: a"):
        cache_directory({VARIABLE: "a\0b"})


# -- disks that refuse ---------------------------------------------------------------------------------------------


def line_of(refused: pytest.ExceptionInfo[UserError]) -> str:
    line = str(refused.value)
    assert "\n" not in line
    assert line.endswith("set APT_TRAINER_CACHE to a directory on a disk with room that you can write to")
    return line


def test_a_cache_that_cannot_be_made_is_one_line_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file"))
    with pytest.raises(UserError) as refused:
        cached("abc", 10, make_three)
    assert "cannot be written (Not a directory)" in line_of(refused)
    with pytest.raises(UserError) as refused, TokenStoreWriter(tmp_path / "file" / "tokens" / "store", 10):
        pass
    assert "cannot be written (Not a directory)" in line_of(refused)


def test_a_disk_without_file_locks_is_one_line_with_the_remedy(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int) -> bool:
        raise OSError(min(file_locks.NO_LOCKS), "No locks available")

    monkeypatch.setattr(file_locks, "try_lock", no_locks)
    with pytest.raises(UserError) as refused:
        cached("abc", 10, make_three)
    assert "its disk has no file locks" in line_of(refused)


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the kernel refuse, as a full disk does, to write beyond a size; Python ignores the signal for it."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@posix
@pytest.mark.parametrize("size", [0, 100, 5_000, 50_000])
def test_a_full_disk_is_one_line_with_the_remedy_and_leaves_nothing(
    size: int, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_store, "_BUFFERED", 1000)

    def many(writer: TokenStoreWriter) -> None:
        for n in range(1000):
            writer.add([n % 10] * 30)

    with largest_file(size), pytest.raises(UserError) as refused:
        cached("abc", 10, many)
    assert "the cache of tokens could not be written (File too large" in line_of(refused)
    assert names_in(cache) == [".abc.lock"]
    assert len(cached("abc", 10, many)) == 1000


# -- several processes, kills, memory ------------------------------------------------------------------------------

MAKE_AT_ONCE = """
import os, sys, time
from pathlib import Path
from training.tasks.token_store import cached

def make(writer):
    with open(sys.argv[1], "a") as log:
        log.write(f"{os.getpid()}\\n")
    for n in range(200_000):
        writer.add([n % 7, n % 11, n % 13])

print("ready", flush=True)
sys.stdin.readline()
print(cached("abc", 20, make).fingerprint)
"""

HANG = """
import sys, time
from training.tasks import token_store

def make(writer):
    token_store._BUFFERED = 1
    for n in range(100):
        writer.add([n % 7, n % 11, n % 13])
    print("half", flush=True)
    time.sleep(600)

token_store.cached("abc", 20, make)
"""

LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from training.tasks.token_store import TokenStore, TokenStoreWriter

def data_bytes():
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index("VmData:") + 1]) * 1024

# Counts memory of the process' own, as Linux kills for, and no pages of mapped files, which it takes back.
resource.setrlimit(resource.RLIMIT_DATA, (data_bytes() + 24 * 2**20,) * 2)
samples, length = 10_000, 4_000
with TokenStoreWriter(Path(sys.argv[1]), 50_000) as writer:
    for n in range(samples):
        writer.add((np.arange(length) + n) % 50_000)
store = TokenStore.open(Path(sys.argv[1]))
assert int(store.lengths.sum()) == samples * length
for n in range(0, samples, 7):
    sample = store[n]
    assert sample.tokens[0] == n % 50_000 and sample.tokens[-1] == (n + length - 1) % 50_000
    assert int(sample.trained.sum()) == store.weights[n] == length - 1
try:
    np.ones(30 * 2**20, dtype=np.uint8)
except MemoryError:
    print("read in little memory")
"""


def started(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.slow
def test_of_several_processes_that_ask_at_once_one_makes_the_store(cache: Path, tmp_path: Path) -> None:
    processes = [started(MAKE_AT_ONCE, tmp_path / "log") for _ in range(3)]
    assert [first_line(process) for process in processes] == ["ready"] * 3
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=120) for process in processes]
    assert [error for _, error in ends] == [""] * 3
    assert len({out for out, _ in ends}) == 1
    assert len((tmp_path / "log").read_text(encoding="utf-8").split()) == 1
    assert len(cached("abc", 20, refuse_to_make)) == 200_000


@posix
@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_nothing_that_is_read_and_lets_the_next_one_in(cache: Path) -> None:
    process = started(HANG)
    assert first_line(process) == "half"
    assert (temporary_of(cache / "abc") / "tokens.bin").exists()
    assert not (cache / "abc").exists()
    waiting = started(MAKE_AT_ONCE, cache.parent / "log")
    assert first_line(waiting) == "ready"
    assert waiting.stdin is not None
    waiting.stdin.write("\n")
    waiting.stdin.flush()
    time.sleep(0.3)
    assert waiting.poll() is None, "it waits while the other writes"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    fingerprint, error = waiting.communicate(timeout=120)
    assert error == ""
    store = cached("abc", 20, refuse_to_make)
    assert store.fingerprint == fingerprint.strip()
    assert len(store) == 200_000
    assert names_in(cache) == [".abc.lock", "abc"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit counts so on Linux only")
def test_a_store_of_many_tokens_is_made_and_read_in_little_memory(tmp_path: Path) -> None:
    done = started(LITTLE_MEMORY, tmp_path / "store")
    assert done.communicate(timeout=120) == ("read in little memory\n", "")
    assert (tmp_path / "store" / "tokens.bin").stat().st_size == 80_000_000


def test_a_manifest_is_plain_data_that_people_can_read(tmp_path: Path) -> None:
    store_of(tmp_path / "store")
    document = json.loads((tmp_path / "store" / "manifest.json").read_text(encoding="utf-8"))
    assert (document["format"], document["version"], document["samples"], document["tokens"]) == (
        "apt-tokens",
        1,
        3,
        18,
    )
