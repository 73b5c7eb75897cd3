"""Samples in arrays: `.npz`, `.npy` and Parquet files, read whole and checked to the last value. No torch.

Which array holds the samples is known by its name, or by being the only one; its rank says what they are:

    (N, D)                       vectors of D numbers
    (N, H, W)                    gray images
    (N, H, W, C), (N, C, H, W)   images of 1 or 3 channels

A column of encoded images, as the library datasets saves them, is decoded: the images have one size then.

Images of uint8 have the levels 0 to 255. Images of floats are in [-1, 1], or in [0, 1] and then taken to [-1, 1]; a
line says which. Anything else is refused: nobody can know what 300.0 or -7 was meant to be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.errors import ConfigError, DataError, UserError, without_middle
from training.language.messages import Message
from training.storage.json_files import open_regular, parse_json
from training.tasks.diffusion.image_folder import decoded
from training.tasks.diffusion.transforms import Pixels
from training.tasks.rows.columns import listed
from training.tasks.rows.data_file import DataFile, unreadable
from training.tasks.rows.tables import one_line

if TYPE_CHECKING:
    import pyarrow as pa

ENDINGS = (".npz", ".npy", ".parquet")
"""Endings of the files that are read here, in small letters."""
SAMPLE_NAMES = ("images", "image", "img", "samples", "vectors", "x", "data", "x_train", "train_images")
LABEL_NAMES = ("labels", "label", "y", "class", "y_train", "train_labels")
CAPTION_NAMES = ("captions", "caption", "text")
"""Names of the arrays, or columns, that hold the samples, their classes and their captions."""
_ROWS_AT_ONCE = 4096
_TOLERANCE = 1e-6
"""Distance from the ends of [-1, 1] that rounding to float32 explains."""


@dataclass(frozen=True)
class ArraySamples:
    """Samples in memory, all of them checked."""

    name: str
    """Name as the user gave it."""
    kind: str
    """Origin, as users know it: `arrays in a file .npz`."""
    values: NDArray[Any]
    """Images (N, H, W, C), uint8 or float32 in [-1, 1]; or vectors (N, D), float64."""
    labels: NDArray[np.int64] | None = None
    """Class of each sample, a place in `class_names`."""
    class_names: tuple[str, ...] | None = None
    captions: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    """Lines for the user about how the data was read."""

    @property
    def has_images(self) -> bool:
        """Return True for images, and False for vectors."""
        return self.values.ndim == 4

    @property
    def content(self) -> str:
        """Return 32 hex digits that change with any value, class or caption, whatever file they come from."""
        state = hashlib.blake2b(digest_size=16)
        state.update(f"{self.values.dtype.str} {self.values.shape}".encode())
        for rows in _slices(len(self.values)):
            state.update(np.ascontiguousarray(self.values[rows]).tobytes())
        for texts in (self.class_names, self.captions):
            state.update(_joined(texts or ()))
        if self.labels is not None:
            state.update(self.labels.tobytes())
        return state.hexdigest()

    @property
    def units(self) -> NDArray[np.int64]:
        """Return a number for each sample, int64 (N,), which only equal samples share."""
        digests = np.empty(len(self.values), dtype="S16")
        for number, row in enumerate(self.values):
            digests[number] = hashlib.blake2b(np.ascontiguousarray(row).tobytes(), digest_size=8).hexdigest().encode()
        return np.unique(digests, return_inverse=True)[1].astype(np.int64)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.values)

    def pixels(self, index: int) -> Pixels:
        """Return an image, (H, W, C)."""
        pixels: Pixels = self.values[index]
        return pixels

    def sizes(self) -> Mapping[tuple[int, int, int], tuple[int, int]]:
        """Return {(height, width, channels): (number of images, index of the first)}."""
        height, width, channels = self.values.shape[1:]
        return {(height, width, channels): (len(self.values), 0)}

    def place(self, index: int) -> str:
        """Return the file and the number of a sample, counted from 0, to begin an error."""
        return f"{self.name}, sample {index:,}"


def read_arrays(name: str, path: Path) -> ArraySamples:
    """Read a file of arrays and check every value.

    Args:
        name: the file as the user gave it, for errors.
        path: the file; its name ends with one of `ENDINGS`.

    Raises:
        DataError: it cannot be read, or its arrays are no samples; names the array, the first bad sample and a remedy.
        ConfigError: pyarrow is not installed, which reads Parquet.
    """
    suffix = path.suffix.lower()
    file = DataFile(path, f"arrays in a file {suffix}", "row {:,}")
    with file.opened():  # the errors about a file that is missing, empty, unreadable or a pointer of Git LFS
        pass
    try:
        found = _of_parquet(file) if suffix == ".parquet" else _of_numpy(file)
    except MemoryError as error:
        raise DataError(
            f"{path}: its arrays do not fit into memory; give a directory of images, which is read image by image"
        ) from error
    return _samples(name, Message("arrays in a file {suffix}", suffix=suffix), found)


def _samples(name: str, kind: str, arrays: Mapping[str, NDArray[Any]]) -> ArraySamples:
    """Return the samples among arrays of any origin."""
    samples = _chosen(name, arrays, SAMPLE_NAMES)
    label, caption = _chosen(name, arrays, LABEL_NAMES), _chosen(name, arrays, CAPTION_NAMES)
    if samples is None:
        others = [key for key in arrays if key not in (label, caption)]
        if len(others) != 1:
            raise DataError(
                f"{name}: which of its arrays ({listed(arrays)}) holds the samples? call it 'images' or 'vectors', and "
                "the classes 'labels'"
            )
        samples = others[0]
    left = [key for key in arrays if key not in (samples, label, caption)]
    notes = [Message("{name}: not used of it: {arrays}", name=name, arrays=listed(left))] if left else []
    values, more = checked_values(arrays[samples], f"{name}, {samples!r}")
    names, labels = (None, None) if label is None else _classes(arrays[label], len(values), f"{name}, {label!r}")
    captions = None if caption is None else _captions(arrays[caption], len(values), f"{name}, {caption!r}")
    return ArraySamples(name, kind, values, labels, names, captions, (*notes, *more))


def _chosen(name: str, arrays: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """Return the one of some names that is there; None: there is none of them."""
    found = [key for key in arrays if key.lower() in names]
    if len(found) > 1:
        raise DataError(
            f"{name}: has {' and '.join(map(repr, found))}, which are names for the same; keep one of them, or rename "
            "the others"
        )
    return found[0] if found else None


def checked_values(values: NDArray[Any], where: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return samples as `ArraySamples.values` has them, and lines about their range.

    Args:
        values: array of any shape and type.
        where: file and array, to begin an error.

    Raises:
        DataError: they are no samples: the shape, the type, a value that is not finite or out of range.
    """
    shape, dtype = values.shape, values.dtype
    if values.ndim not in (2, 3, 4):
        hint = "; make it (N, 1): array.reshape(-1, 1)" if values.ndim == 1 else ""
        raise DataError(
            f"{where}: an array of shape {shape}; samples are vectors (N, D) or images (N, H, W), (N, H, W, C){hint}"
        )
    if dtype.kind not in "uif":
        raise DataError(f"{where}: an array of {dtype}, which are no numbers to learn; save it as uint8 or float32")
    if 0 in shape:
        raise DataError(f"{where}: an array of shape {shape} holds no sample; fill it")
    if values.ndim == 2:
        _refuse_not_finite(values, where)
        return _vectors(values, where), ()
    if dtype.kind != "f" and dtype != np.uint8:
        raise DataError(
            f"{where}: images of {dtype}; save them as uint8 (0 to 255): array.astype('uint8'), or as floats in [-1, 1]"
        )
    images = _channels_last(values, where)
    if 1 in images.shape[1:3]:
        raise DataError(
            f"{where}: images of {images.shape[2]}×{images.shape[1]} pixels have no shape to learn; save them as "
            "vectors: array.reshape(len(array), -1)"
        )
    if dtype == np.uint8:
        return np.ascontiguousarray(images), ()
    _refuse_not_finite(images, where)
    return _floats_in_range(images, where)


def _channels_last(values: NDArray[Any], where: str) -> NDArray[Any]:
    """Return images as (N, H, W, C)."""
    if values.ndim == 3:
        return values[:, :, :, None]
    first, last = values.shape[1] in (1, 3), values.shape[3] in (1, 3)
    if first and last:
        raise DataError(
            f"{where}: of images of shape {values.shape} either axis may be the channels; save them so that only the "
            "last has 1 or 3, or as (N, H, W)"
        )
    if not first and not last:
        number = min(values.shape[1], values.shape[3])
        hint = "; leave the fourth, transparency, out: array[..., :3]" if number == 4 else ""
        raise DataError(f"{where}: images of shape {values.shape} have {number} channels, not 1 or 3{hint}")
    return values if last else np.moveaxis(values, 1, 3)


def _refuse_not_finite(values: NDArray[Any], where: str) -> None:
    if values.dtype.kind != "f":
        return
    for rows in _slices(len(values)):
        finite = np.isfinite(values[rows])
        if not finite.all():
            at = tuple(int(i) for i in np.argwhere(~finite)[0])
            raise DataError(
                f"{where}: sample {rows.start + at[0]:,} has {values[rows][at]} at {list(at[1:])}; repair it, or leave "
                "the sample out"
            )


def _vectors(values: NDArray[Any], where: str) -> NDArray[np.float64]:
    vectors = values.astype(np.float64)
    largest = int(np.abs(vectors).max(axis=1).argmax())
    if np.abs(vectors[largest]).max() > _LARGEST:
        raise DataError(
            f"{where}: sample {largest:,} has {np.abs(vectors[largest]).max():g}, beyond what float32 can compute with "
            f"({_LARGEST:g}); scale the vectors, or repair it"
        )
    return vectors


_LARGEST = 1e18
"""Largest magnitude of a vector's number: its square is still a float32."""


def _floats_in_range(images: NDArray[Any], where: str) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Return images of floats in [-1, 1], and a line where they came in [0, 1]."""
    lowest = min(float(images[rows].min()) for rows in _slices(len(images)))
    highest = max(float(images[rows].max()) for rows in _slices(len(images)))
    if lowest < -1 - _TOLERANCE or highest > 1 + _TOLERANCE:
        hint = "save levels of 0 to 255 as uint8" if lowest >= 0 and highest <= 255 else "scale them to [-1, 1]"
        raise DataError(f"{where}: images of floats from {lowest:g} to {highest:g}, outside [-1, 1] and [0, 1]; {hint}")
    result = np.empty(images.shape, dtype=np.float32)
    is_from_zero = lowest >= -_TOLERANCE
    for rows in _slices(len(images)):
        part = images[rows].astype(np.float64)
        result[rows] = np.clip(part * 2.0 - 1.0 if is_from_zero else part, -1.0, 1.0)
    if not is_from_zero:
        return result, ()
    return result, (
        Message("{array}: values from {low:g} to {high:g} are taken as [0, 1], and become [-1, 1]", array=where,
                low=lowest, high=highest),
    )  # fmt: skip


def _classes(labels: NDArray[Any], count: int, where: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the names of the classes, in order, and the place of each sample's class among them."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (count,):
        raise DataError(f"{where}: classes of shape {labels.shape} for {count:,} samples; give one for each sample")
    if labels.dtype.kind == "O" and all(isinstance(one, str) for one in labels):
        labels = labels.astype(str)
    if labels.dtype.kind not in "iubU":
        raise DataError(
            f"{where}: classes of {labels.dtype}; a class is a whole number or a name: array.astype('int64')"
        )
    found, places = np.unique(labels, return_inverse=True)
    return tuple(str(name) for name in found.tolist()), places.astype(np.int64)


def _captions(captions: NDArray[Any], count: int, where: str) -> tuple[str, ...]:
    if captions.shape != (count,):
        raise DataError(f"{where}: captions of shape {captions.shape} for {count:,} samples; give one for each sample")
    texts = captions.tolist()
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            shown = without_middle(repr(text), 60)
            raise DataError(f"{where}: the caption of sample {number:,} is {shown}; write it, or leave the sample out")
    return tuple(texts)


def _slices(count: int) -> Iterator[slice]:
    """Yield slices over `count` rows, so that a check of all makes no copy of all."""
    for start in range(0, count, _ROWS_AT_ONCE):
        yield slice(start, min(start + _ROWS_AT_ONCE, count))


def _joined(texts: Sequence[str]) -> bytes:
    """Return texts as bytes from which each can be taken out again, so that no two lists have the same."""
    parts = [text.encode("utf-8", "surrogatepass") for text in texts]
    return b"".join(len(part).to_bytes(8, "little") + part for part in [b"", *parts])


# -- files ---------------------------------------------------------------------------------------------------------


def _of_numpy(file: DataFile) -> dict[str, NDArray[Any]]:
    """Return the arrays of a `.npz` or `.npy` file by name."""
    path = file.path
    is_archive = path.suffix.lower() == ".npz"
    key = ""
    try:
        with open_regular(path) as opened:
            loaded = np.load(opened, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                if is_archive:
                    raise DataError(f"{path}: one NumPy array and no archive of arrays; let its name end with .npy")
                return {"array": loaded}
            with loaded:
                if not is_archive:
                    raise DataError(f"{path}: an archive of arrays; let its name end with .npz")
                arrays: dict[str, NDArray[Any]] = {}
                for key in loaded.files:
                    arrays[key] = loaded[key]
                    if not isinstance(arrays[key], np.ndarray):
                        raise DataError(f"{path}: {key!r} is no array; write the file again with numpy.savez")
    except OSError as error:
        raise unreadable(path, error) from error
    except (UserError, MemoryError):
        raise
    except Exception as error:  # whatever a damaged file makes NumPy and zipfile stumble over
        where = f"{path}, {key!r}" if key else f"{path}"
        if "pickle" in str(error):
            found = file.other_format()
            if not key and found is not None and not _is_numpy(found.name):
                raise file.wrong_format(found) from error
            raise DataError(
                f"{where}: holds Python objects, which are not loaded from a file (a pickle can run any program); save "
                "an array of numbers: array.astype('float32')"
            ) from error
        found = file.other_format()
        if found is not None and not _is_numpy(found.name):
            raise file.wrong_format(found) from error
        raise DataError(f"{where}: damaged or cut short ({one_line(error)}); write or fetch it again") from error
    if not arrays:
        raise DataError(f"{path}: the archive holds no array; write it again with numpy.savez")
    return arrays


def _is_numpy(format_name: str) -> bool:
    return "NumPy" in format_name or ".npz" in format_name


def _of_parquet(file: DataFile) -> dict[str, NDArray[Any]]:
    """Return the columns of a Parquet file by name; columns of single numbers become one array, 'columns'."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError("pyarrow is not installed, which reads Parquet; run: pip install pyarrow") from error
    path = file.path
    try:
        with parquet.ParquetFile(path, pre_buffer=False) as opened:
            names = opened.schema_arrow.names
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise DataError(f"{path}: two columns are called {twice[0]!r}; give each its own name")
            table = opened.read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        found = file.other_format()
        if found is not None and found.name != "Parquet":
            raise file.wrong_format(found) from error
        raise DataError(
            f"{path}: it cannot be read as Parquet ({one_line(error)}); it is damaged or cut short: fetch it again"
        ) from error
    if not table.num_rows:
        raise file.empty()
    arrays: dict[str, NDArray[Any]] = {}
    numbers: dict[str, NDArray[Any]] = {}
    for name in table.column_names:
        array = _of_column(table.column(name), f"{path}, {name!r}")
        if array.ndim == 1 and array.dtype.kind in "iu" and (classes := _class_names(table.schema, name)):
            array = _named(array, classes, f"{path}, {name!r}")
        is_number = array.ndim == 1 and array.dtype.kind in ("f" if name.lower() in LABEL_NAMES else "iuf")
        (numbers if is_number else arrays)[name] = array
    is_beside_arrays = any(array.ndim > 1 for array in arrays.values())
    if numbers and is_beside_arrays:
        return {**arrays, **numbers}  # an index, a measurement: not used, and said so
    if numbers:
        arrays["vectors"] = np.stack([array.astype(np.float64) for array in numbers.values()], axis=1)
    return arrays


def _of_column(column: pa.ChunkedArray, where: str) -> NDArray[Any]:
    """Return a column as an array: of numbers or texts (N,), of lists (N, D), of lists of lists (N, H, W) and so on.

    Raises:
        DataError: a value is missing, or lists that should be of one length are not; names the row.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    array = pa.concat_arrays(column.chunks)
    shape = [len(array)]
    while True:
        if isinstance(array.type, pa.ExtensionType):
            array = array.storage
        rows_each = len(array) // shape[0]
        if array.null_count:
            row = pc.index(pc.is_null(array), True).as_py() // max(1, rows_each)
            raise DataError(f"{where}: row {row + 1:,} has no value; fill it, or leave the row out")
        if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)
                or pa.types.is_fixed_size_list(array.type)):  # fmt: skip
            break
        lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
        if (lengths != lengths[0]).any():
            at = int(np.flatnonzero(lengths != lengths[0])[0])
            raise DataError(
                f"{where}: row {at // max(1, rows_each) + 1:,} has a list of {lengths[at]:,} where the first has one "
                f"of {lengths[0]:,}; samples have one shape: cut or fill it"
            )
        shape.append(int(lengths[0]))
        if not lengths[0]:
            raise DataError(f"{where}: the rows have empty lists; fill them")
        array = array.flatten()
    if pa.types.is_struct(array.type) and {field.name for field in array.type} >= {"bytes"}:
        array = array.field("bytes")
    if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        return _of_image_files(array, where)
    if pa.types.is_struct(array.type):
        raise DataError(f"{where}: holds {array.type}, which are no samples; leave the column out")
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return np.asarray(array.to_numpy(zero_copy_only=False)).reshape(shape)


def _of_image_files(files: pa.Array, where: str) -> NDArray[np.uint8]:
    """Decode the files of images in a column, as the library datasets saves them, to an array (N, H, W, C).

    Raises:
        DataError: one is missing, is no image, or has another size than the first; names the row.
    """
    images: NDArray[np.uint8] | None = None
    for number, content in enumerate(files):
        place = f"{where}, row {number + 1:,}"
        if not content.is_valid:
            raise DataError(f"{place}: has no image; a path alone does not hold one: save the images with the data")
        pixels = decoded(content.as_py(), Path(place), verify=True).pixels
        if images is None:
            images = np.empty((len(files), *pixels.shape), dtype=np.uint8)
        if pixels.shape != images.shape[1:]:
            raise DataError(
                f"{place}: an image of {_described(pixels.shape)} where the first has {_described(images.shape[1:])}; "
                "write images of several sizes to a directory, which is read image by image"
            )
        images[number] = pixels
    assert images is not None  # a table without rows was refused
    return images


def _described(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]} pixels and {shape[2]} channels"


def _class_names(schema: pa.Schema, column: str) -> Sequence[str]:
    """Return the names that the library datasets keeps for the numbers in a column; none where there are none."""
    try:
        feature = parse_json((schema.metadata or {})[b"huggingface"])["info"]["features"][column]
        names = feature["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def _named(numbers: NDArray[Any], names: Sequence[str], where: str) -> NDArray[np.str_]:
    for number, one in enumerate(numbers):
        if not 0 <= one < len(names):
            raise DataError(
                f"{where}: row {number + 1:,} has class {one}, and the file names the classes 0 to {len(names) - 1}; "
                "leave rows without a class out"
            )
    named: NDArray[np.str_] = np.array(names)[numbers]
    return named
