"""Tokens of a data set on a disk, for data larger than memory: made once, then mapped into memory. No torch.

A store is a directory:

    tokens.bin      the ids of all samples, one after the other: uint16 if the vocabulary allows, else int32
    trained.bin     one bit for each token: whether it has a loss
    ends.bin        index behind each sample's last token, int64
    weights.bin     number of tokens with a loss of each sample, int64
    manifest.json   format, version, numbers, facts, and every file's size and checksum

It is written under a temporary name and takes its own when it is whole. Whoever opens a store compares every byte with
the checksums, which takes about a second for each gigabyte; making the tokens took minutes. So a byte that a disk has
altered is never trained on: `cached` makes the store again. While it is mapped, a store may be deleted.

`cached` keeps stores in the cache directory (`training/storage/cache_directory.py`), in `tokens/KEY`. Nothing deletes
them there: delete the directory to free its room.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.errors import CheckpointError, DataError, UnreadableError, UserError, unreadable
from training.machine.output import complain
from training.storage.atomic import (
    delete,
    make_temporary,
    put_in_place,
    temporary_of,
    write_atomically,
)
from training.storage.cache_directory import REMEDY, cache_directory, read_or_make, unwritable
from training.storage.checksums import FileEntry, check_entries, file_entries, is_intact, sealed
from training.storage.disk_refusals import disk_refusals
from training.storage.json_files import DamagedFileError, as_declared, parse_json, read_bytes
from training.tasks.token_dataset import EncodedSample

FORMAT, VERSION = "apt-tokens", 1
MANIFEST = "manifest.json"
LARGEST_VOCABULARY = 1 << 31
LARGEST_FACTS = 4 * 2**20
"""Bytes of the facts, as they are written."""
_BUFFERED = 1 << 20
"""Tokens that a writer holds in memory."""
_KEY = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,99}")
_WHAT = "the cache of tokens"


class DamagedStoreError(DataError):
    """A token store is not what was written, or of another version; what is in it is not read."""


@dataclass(frozen=True)
class _Manifest:
    samples: int
    tokens: int
    vocabulary: int
    dtype: Literal["<u2", "<i4"]
    facts: Mapping[str, Any]
    files: Mapping[str, FileEntry]


class TokenStoreWriter:
    """Writer of a store, in memory that does not grow with the data: a context manager.

    The store takes its name when the block ends, in place of an older one; after an error nothing is left.

    Args:
        directory: name of the store.
        vocabulary: number of tokens; every id is below it.

    Raises:
        UserError: the disk is full or refuses; the message has the remedy.

    Example:
        >>> with TokenStoreWriter(directory, vocabulary=50_257) as writer:
        ...     writer.add([17, 4, 99], np.array([False, False, True]))
        ...     writer.facts["documents"] = 1
    """

    def __init__(self, directory: Path, vocabulary: int) -> None:
        if not 1 <= vocabulary <= LARGEST_VOCABULARY:
            raise ValueError(f"a vocabulary of {vocabulary}; it should have 1 to {LARGEST_VOCABULARY} tokens")
        self.directory, self.vocabulary = directory, vocabulary
        self.facts: dict[str, Any] = {}
        """Plain data that is kept with the tokens, such as counts of what was cut."""
        self._dtype: Literal["<u2", "<i4"] = "<u2" if vocabulary <= 1 << 16 else "<i4"
        self._files = contextlib.ExitStack()
        self._tokens: list[NDArray[np.int32]] = []
        self._trained: list[NDArray[np.bool_]] = []
        self._ends: list[int] = []
        self._weights: list[int] = []
        self._samples = self._end = self._written = 0

    def add(self, tokens: ArrayLike, trained: NDArray[np.bool_] | None = None) -> None:
        """Append a sample.

        Args:
            tokens: ids, two or more.
            trained: tokens with a loss, as many, the first one without; None: all but the first.

        Raises:
            ValueError: it is no such sample.
            UserError: the disk is full or refuses.
        """
        ids = np.asarray(tokens)
        number = f"sample {self._samples}"
        if ids.ndim != 1 or len(ids) < 2 or ids.dtype.kind not in "iu":
            raise ValueError(f"{number}: {ids.dtype} {ids.shape}; it should be two or more whole numbers in a row")
        if ids.min() < 0 or ids.max() >= self.vocabulary:
            raise ValueError(
                f"{number}: ids from {ids.min()} to {ids.max()}; they should be from 0 to {self.vocabulary - 1}"
            )
        if trained is None:
            mask = np.ones(len(ids), dtype=np.bool_)
            mask[0] = False
        else:
            mask = np.array(trained)
            if mask.shape != ids.shape or mask.dtype != np.bool_ or mask[0]:
                raise ValueError(
                    f"{number}: a mask of {mask.dtype} {mask.shape} for {ids.shape}; it should be as long, of truth "
                    "values, and False for the first token"
                )
        self._tokens.append(ids.astype(self._dtype))
        self._trained.append(mask)
        self._end += len(ids)
        self._samples += 1
        self._ends.append(self._end)
        self._weights.append(int(np.count_nonzero(mask)))
        if self._end - self._written >= _BUFFERED or len(self._ends) >= _BUFFERED:
            with self._refusals():
                self._flush()

    def __enter__(self) -> Self:
        try:
            self.directory.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.directory.parent, error, _WHAT) from error
        with self._refusals():
            temporary = make_temporary(self.directory)
            self._to: dict[str, BinaryIO] = {
                name: self._files.enter_context((temporary / f"{name}.bin").open("xb"))
                for name in ("tokens", "trained", "ends", "weights")
            }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            with contextlib.suppress(OSError):
                self._files.close()  # a full disk may refuse what is still to be written
            with contextlib.suppress(OSError):
                delete(temporary_of(self.directory))

    def _refusals(self) -> contextlib.AbstractContextManager[None]:
        return disk_refusals(self.directory, _WHAT, f"make room there, or {REMEDY}")

    def _flush(self, last: bool = False) -> None:
        """Write what is in memory; the last bits that fill no byte stay there until the end."""
        trained = np.concatenate([*self._trained, np.zeros(0, dtype=np.bool_)])
        whole = len(trained) if last else len(trained) & ~7
        self._to["trained"].write(np.packbits(trained[:whole]).tobytes())
        for tokens in self._tokens:
            self._to["tokens"].write(tokens.data)
        self._to["ends"].write(np.array(self._ends, dtype="<i8").tobytes())
        self._to["weights"].write(np.array(self._weights, dtype="<i8").tobytes())
        self._trained, self._tokens, self._ends, self._weights = [trained[whole:]], [], [], []
        self._written = self._end

    def _finish(self) -> None:
        facts = _plain(self.facts)
        temporary = temporary_of(self.directory)
        with self._refusals():
            self._flush(last=True)
            self._files.close()
            files = {name: asdict(entry) for name, entry in file_entries(temporary).items()}
            document = {
                "format": FORMAT,
                "version": VERSION,
                "samples": self._samples,
                "tokens": self._end,
                "vocabulary": self.vocabulary,
                "dtype": self._dtype,
                "facts": facts,
                "files": files,
            }
            write_atomically(temporary / MANIFEST, sealed(document), durable=True)
            put_in_place(temporary, self.directory)


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    """Return facts, if they are the same when they are read back.

    Raises:
        ValueError: they are not.
    """
    wanted = "the facts of a token store should be plain data"
    try:
        text = json.dumps(facts)
        same = parse_json(text) == facts
    except (TypeError, ValueError) as error:
        raise ValueError(f"{wanted} ({error})") from error
    if not same:
        raise ValueError(f"{wanted}: lists, and mappings with texts as keys")
    if len(text) > LARGEST_FACTS:
        raise ValueError(f"{wanted} of at most {LARGEST_FACTS:,} bytes, and have {len(text):,}")
    return facts


class TokenStore:
    """Samples of a store, mapped into memory: `store[i]` is an `EncodedSample` in memory of its own.

    A copy made by pickle maps the files too, and a forked process shares them. `open` makes one.

    Attributes:
        directory: the store.
        vocabulary: number of tokens; every id is below it.
        facts: plain data that was kept with the tokens.
        fingerprint: hash of the samples, 32 hex digits.
        lengths: the samples' lengths in tokens, int64 (N,).
        weights: number of tokens with a loss of each sample, int64 (N,).
    """

    def __init__(self, directory: Path, manifest: _Manifest, numbers: NDArray[np.int64] | None = None) -> None:
        self.directory, self._manifest, self._numbers = directory, manifest, numbers
        self.vocabulary = manifest.vocabulary
        self.facts: Mapping[str, Any] = manifest.facts
        content = [manifest.dtype, *(manifest.files[f"{name}.bin"].blake2b for name in ("tokens", "trained", "ends"))]
        self.fingerprint = key_of(*content)
        self._tokens: NDArray[Any] = self._mapped("tokens", manifest.dtype, manifest.tokens)
        self._bits: NDArray[np.uint8] = self._mapped("trained", "u1", -(-manifest.tokens // 8))
        self._ends: NDArray[np.int64] = self._mapped("ends", "<i8", manifest.samples)
        self.lengths: NDArray[np.int64] = np.array(self._ends)
        self.lengths[1:] -= self._ends[:-1]
        self.weights: NDArray[np.int64] = self._mapped("weights", "<i8", manifest.samples)
        if numbers is not None:
            self.fingerprint = key_of(*content, numbers.astype("<i8").tobytes())
            self._ends, self.lengths, self.weights = self._ends[numbers], self.lengths[numbers], self.weights[numbers]

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open a store and compare all of it with its checksums.

        Raises:
            FileNotFoundError: there is none.
            DamagedStoreError: it is not what was written, or of another version; names the file.
            UnreadableError: the system refuses to read a file.
        """
        manifest = _read_manifest(directory)
        try:
            check_entries(directory, manifest.files, MANIFEST)
        except UnreadableError:
            raise
        except CheckpointError as error:
            raise DamagedStoreError(str(error)) from error
        return cls(directory, manifest)

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> Self:
        """Return a view of some samples, in this order, such as the training part of a split.

        Raises:
            IndexError: there is no such sample.
        """
        numbers = np.asarray(indices, dtype=np.int64)
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(self):
            raise IndexError(f"samples {numbers.min()} to {numbers.max()} of {len(self)}")
        return type(self)(self.directory, self._manifest, numbers if self._numbers is None else self._numbers[numbers])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> EncodedSample:
        length = int(self.lengths[index])
        end = int(self._ends[index])
        start = end - length
        bits = np.unpackbits(self._bits[start >> 3 : (end + 7) >> 3], count=(start & 7) + length)
        return EncodedSample(self._tokens[start:end].astype(np.int32), bits[start & 7 :].view(np.bool_))

    def __getstate__(self) -> tuple[Path, _Manifest, NDArray[np.int64] | None]:
        return self.directory, self._manifest, self._numbers

    def __setstate__(self, state: tuple[Path, _Manifest, NDArray[np.int64] | None]) -> None:
        directory, manifest, numbers = state
        if _read_manifest(directory) != manifest:
            raise DamagedStoreError(f"{directory}: another store has taken its place")
        TokenStore.__init__(self, directory, manifest, numbers)

    def _mapped(self, name: str, dtype: str, count: int) -> NDArray[Any]:
        path = self.directory / f"{name}.bin"
        if path.stat().st_size != count * np.dtype(dtype).itemsize:
            raise DamagedStoreError(f"{path}: damaged; it has {path.stat().st_size} bytes for {count} of {dtype}")
        if not count:  # no system maps an empty file
            return np.zeros(0, dtype=dtype)
        return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=(count,)))


def _read_manifest(directory: Path) -> _Manifest:
    path = directory / MANIFEST
    try:
        document = parse_json(read_bytes(path, 2 * LARGEST_FACTS))
        if not isinstance(document, dict) or not is_intact(document):
            raise DamagedStoreError(f"{path}: damaged, it does not match its own checksum")
        if (document.get("format"), document.get("version")) != (FORMAT, VERSION):
            raise DamagedStoreError(f"{path}: version {document.get('version')!r}; this program reads {VERSION}")
        return as_declared(document, _Manifest, path)
    except (FileNotFoundError, NotADirectoryError) as error:
        if directory.exists():
            raise DamagedStoreError(f"{path} is missing") from error
        raise FileNotFoundError(errno.ENOENT, "no token store", str(directory)) from error
    except PermissionError as error:
        raise unreadable(path, error) from error
    except OSError as error:
        raise DamagedStoreError(f"{path}: damaged, it cannot be read ({error.strerror})") from error
    except DamagedFileError as error:
        raise DamagedStoreError(str(error)) from error
    except ValueError as error:
        raise DamagedStoreError(f"{path}: damaged, {error}") from error


def cached(key: str, vocabulary: int, make: Callable[[TokenStoreWriter], None]) -> TokenStore:
    """Return a store from the cache, or make it there.

    If several processes ask at once, one of them makes it and the others wait. A store that is damaged is made again,
    with a line on stderr that says so.

    Args:
        key: names the content: everything that the samples depend on, by `key_of`.
        vocabulary: number of tokens; every id is below it.
        make: adds the samples to a writer.

    Raises:
        UserError: the cache cannot be written; the message has the remedy.
    """
    if not _KEY.fullmatch(key):
        raise ValueError(f"the key {key!r} should be letters and digits, as `key_of` returns them")
    directory = cache_directory() / "tokens" / key

    def write() -> None:
        with TokenStoreWriter(directory, vocabulary) as writer:
            make(writer)

    return read_or_make(
        directory,
        lambda: _of(directory, vocabulary),
        write,
        DamagedStoreError,
        lambda error: complain(f"warning: {error}; the tokens are made again"),
        _WHAT,
    )


def _of(directory: Path, vocabulary: int) -> TokenStore:
    try:
        store = TokenStore.open(directory)
    except UnreadableError as error:
        raise UserError(f"{error}; or {REMEDY}") from error
    if store.vocabulary != vocabulary:
        raise ValueError(
            f"{directory}: made for {store.vocabulary} tokens and not {vocabulary}, which the key leaves out"
        )
    return store


def key_of(*parts: object) -> str:
    """Return 32 hex digits that change with any of the parts: plain data, bytes and paths.

    Raises:
        TypeError: a part is something else.
    """
    text = json.dumps([FORMAT, VERSION, *parts], sort_keys=True, default=_as_text)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _as_text(part: object) -> list[str]:
    if isinstance(part, bytes | Path):
        return [type(part).__name__, part.hex() if isinstance(part, bytes) else str(part)]
    raise TypeError(f"a key cannot be made of a {type(part).__name__}")
