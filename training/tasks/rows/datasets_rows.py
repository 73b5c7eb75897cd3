"""Rows of `datasets`: a directory that `save_to_disk` wrote, or a name on the Hugging Face Hub. No torch.

`datasets` is imported when rows are read. Its tables are mapped into memory, so that a dataset of any size fits.
"""

from __future__ import annotations

import copy
import hashlib
import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.errors import ConfigError, DataError
from training.settings.hub import fault_of_repo
from training.storage.json_files import DamagedFileError, open_regular, read_json
from training.tasks.rows.data_file import digest_of, unreadable
from training.tasks.rows.source import Row, Source
from training.tasks.rows.tables import BATCH_BYTES, BATCH_ROWS, one_line

if TYPE_CHECKING:
    from datasets import Dataset

DEFAULT_SPLIT = "train"
SPLITS_FILE, STATE_FILE, INFO_FILE = "dataset_dict.json", "state.json", "dataset_info.json"
"""Files by which a directory of `save_to_disk` is known: of several splits, and two of one."""
_END_OF_TABLE = b"\xff\xff\xff\xff\0\0\0\0"
"""End of every stream of Arrow."""
PROBE_SECONDS = 20.0
"""Longest wait for the Hub's first answer."""


class DatasetSource(Source):
    """Rows of a `datasets.Dataset`, which is opened when it is first needed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._opened: Dataset | None = None

    @abstractmethod
    def _open(self) -> Dataset:
        """Open the dataset.

        Raises:
            DataError: it is not there, or cannot be read.
        """

    def _dataset(self) -> Dataset:
        if self._opened is None:
            try:
                import datasets  # noqa: F401  # its absence is no fault of the data
            except ImportError as error:
                raise ConfigError("datasets is not installed; run: pip install -e '.[huggingface]'") from error
            dataset = self._open()
            for path in _tables(dataset):
                _refuse_cut(path)
            self._opened = dataset
        return self._opened

    def rows(self) -> Iterator[Row]:
        """Yield the rows, with the types of `datasets` in Python; pictures and sounds stay as their bytes or paths."""
        dataset = _undecoded(self._dataset())
        most = max(1, min(BATCH_ROWS, BATCH_BYTES * dataset.data.num_rows // max(1, dataset.data.nbytes)))
        number = 0
        try:
            for batch in dataset.iter(batch_size=most):
                names = list(batch)
                for values in zip(*batch.values(), strict=True):
                    number += 1
                    yield Row(dict(zip(names, values, strict=True)), number)
        except Exception as error:  # of pyarrow, of a type's decoder, of the system
            raise DataError(
                f"{self.name}: it cannot be read after row {number:,} ({one_line(error)}); make it again"
            ) from error
        if not number:
            raise self._empty()

    def place(self, number: int) -> str:
        """Return name and row."""
        return f"{self.name}, row {number:,}"

    def fingerprint(self) -> str:
        """Return a hash of the tables' files."""
        digest = hashlib.blake2b(f"{self.kind}\x1f{self._split()}".encode(), digest_size=16)
        for path in _tables(self._dataset()):
            digest.update(digest_of(path))
        return digest.hexdigest()

    @property
    def size(self) -> int:
        """Bytes of the tables' files."""
        try:
            return sum(path.stat().st_size for path in _tables(self._dataset()))
        except OSError as error:
            raise DataError(f"{self.name}: the data cannot be read ({error.strerror})") from error

    def _empty(self) -> DataError:
        return DataError(f"{self.name}: the dataset holds no rows; fill it, or leave it out")

    def _split(self) -> str:
        """Return what of the tables is meant, if it is not all of them."""
        return ""


class SavedDataset(DatasetSource):
    """Rows of a directory of `save_to_disk`; of several splits those of `train`.

    Args:
        name: as the user gave it.
        directory: the directory.

    Raises:
        DataError: it has no such split; names those that it has.
    """

    kind = "a directory of datasets"

    def __init__(self, name: str, directory: Path) -> None:
        super().__init__(name)
        self._above = [directory / SPLITS_FILE] if (directory / SPLITS_FILE).is_file() else []
        self._directory = directory
        if self._above:
            splits = _splits(self._above[0])
            if DEFAULT_SPLIT not in splits:
                raise DataError(
                    f"{name}: no split {DEFAULT_SPLIT!r} among its splits {', '.join(map(repr, splits)) or '(none)'}; "
                    f"give the directory of one: {directory / (splits[0] if splits else DEFAULT_SPLIT)}"
                )
            self._directory = directory / DEFAULT_SPLIT

    def _open(self) -> Dataset:
        import datasets

        try:
            return datasets.load_from_disk(str(self._directory))
        except Exception as error:  # whatever a damaged directory makes the library stumble over
            if _has_no_tables(self._directory / STATE_FILE):
                raise self._empty() from error
            raise DataError(
                f"{self.name}: datasets cannot load it ({one_line(error)}); write it again with save_to_disk"
            ) from error

    def files(self) -> Sequence[Path]:
        """Return all files of the split, and the list of the splits."""
        return [*self._above, *sorted(path for path in self._directory.rglob("*") if path.is_file())]


class HubDataset(DatasetSource):
    """Rows of one split of a dataset on the Hub, downloaded once into the cache of `datasets`.

    Args:
        name: as the user gave it: OWNER/NAME or OWNER/NAME:SPLIT.
        nearest: question after a file of nearly that name; empty: there is none.

    Raises:
        DataError: the Hub has no such names.
    """

    kind = "a dataset of the Hub"

    def __init__(self, name: str, nearest: str = "") -> None:
        super().__init__(name)
        self._nearest = nearest
        self._repo, _, split = name.partition(":")
        self._of = split or DEFAULT_SPLIT
        if (fault := fault_of_repo(self._repo)) is not None:
            raise DataError(
                f"{name}: no file, and no dataset of the Hub, whose name {fault}; {nearest or 'check the path'}"
            )

    def _open(self) -> Dataset:
        import datasets

        self._refuse_missing()
        try:
            return datasets.load_dataset(self._repo, split=self._of)
        except Exception as error:  # of the Hub, of the network, of the disk, of any format of files
            raise DataError(f"{self.name}: {self._why_not(error)}") from error

    def _refuse_missing(self) -> None:
        """Ask the Hub once, with a time limit: the library itself asks six times, with warnings, for half a minute."""
        from huggingface_hub import HfApi, is_offline_mode
        from huggingface_hub.errors import HfHubHTTPError

        if is_offline_mode():
            return
        try:
            HfApi().dataset_info(self._repo, timeout=PROBE_SECONDS)
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status in (401, 404):
                reason = "neither a file here nor a dataset that the Hub shows you"
                remedy = self._nearest or "check the name; for a private one run `hf auth login`"
            elif status == 403:
                reason, remedy = "the Hub does not let you read it", f"ask for access on hf.co/datasets/{self._repo}"
            else:
                reason, remedy = f"the Hub answers with status {status}", "try again later"
            raise DataError(f"{self.name}: {reason}; {remedy}") from error
        except Exception as error:  # of the HTTP library that the Hub's has at this time, or of the network
            raise DataError(
                f"{self.name}: no file here, and the Hub cannot be reached ({one_line(error)}); "
                f"{self._nearest or 'if the dataset was downloaded before, set HF_HUB_OFFLINE=1'}"
            ) from error

    def _why_not(self, error: Exception) -> str:
        """Return why the library cannot load the dataset, and what to do."""
        from huggingface_hub import is_offline_mode

        words = one_line(error)
        if isinstance(error, ConnectionError) and is_offline_mode():
            return (
                "no file here, and nothing in the cache of datasets, while HF_HUB_OFFLINE keeps the Hub away; "
                f"{self._nearest or 'check the path, or unset it'}"
            )
        if words.startswith("Unknown split"):
            return f"{words}; name a split: {self._repo}:SPLIT"
        if "Config name is missing" in words:
            return f"{words}; save the one that you want with save_to_disk, and give its directory"
        return f"datasets cannot load it ({words}); download it and give its files"

    def _split(self) -> str:
        return self._of

    def files(self) -> Sequence[Path]:
        """Return no file: whoever reads the name elsewhere downloads it there."""
        return []


def is_saved_dataset(directory: Path) -> bool:
    """Return True if `save_to_disk` wrote a directory."""
    return any((directory / name).is_file() for name in (SPLITS_FILE, STATE_FILE, INFO_FILE))


def _undecoded(dataset: Dataset) -> Any:
    """Return a dataset as Python's own types, without the work of decoding pictures and sounds."""
    import datasets

    dataset = dataset.with_format(None)
    for name, feature in dataset.features.items():
        if getattr(feature, "decode", False) and not isinstance(feature, datasets.Json):
            as_stored = copy.copy(feature)
            as_stored.decode = False
            dataset = dataset.cast_column(name, as_stored)
    return dataset


def _tables(dataset: Dataset) -> list[Path]:
    return [Path(file["filename"]) for file in dataset.cache_files]


def _refuse_cut(path: Path) -> None:
    """Refuse a table without the mark that ends it: a reader takes what is before the cut for the whole."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - len(_END_OF_TABLE)))
            ending = file.read()
    except OSError as error:
        raise unreadable(path, error) from error
    if ending != _END_OF_TABLE:
        raise DataError(f"{path}: the table has no end: it is cut short or damaged; write it again, or fetch it again")


def _has_no_tables(state: Path) -> bool:
    """Return True if `save_to_disk` had no row to write; the library cannot read that again."""
    try:
        return bool(read_json(state)["_data_files"] == [])
    except (OSError, DamagedFileError, KeyError, TypeError):
        return False


def _splits(path: Path) -> list[str]:
    """Return the names in `dataset_dict.json`."""
    try:
        splits = read_json(path)["splits"]
        if isinstance(splits, list) and all(isinstance(name, str) for name in splits):
            return splits
        reason = "its splits are no list of names"
    except DamagedFileError as error:
        reason = error.reason
    except OSError as error:
        reason = one_line(error)
    except (KeyError, TypeError):
        reason = "it has no list of splits"
    raise DataError(f"{path}: damaged ({reason}); write the dataset again with save_to_disk")
