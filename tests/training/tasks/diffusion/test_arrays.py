"""Arrays as training data: taken as they were meant, or refused in one line with the place and a remedy."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

from training.errors import UserError
from training.tasks.diffusion.arrays import ArraySamples, checked_values, read_arrays

Change = Callable[[NDArray[Any]], NDArray[Any]]
IMAGES = np.random.Generator(np.random.Philox(7)).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
OUTSIDE = np.linspace(-3, 1, 24).reshape(2, 3, 4)
UNIT = IMAGES.astype(np.float32) / 255


def saved(path: Path, **named: Any) -> Path:
    np.savez(path, **named)
    return path


def read(path: Path) -> ArraySamples:
    return read_arrays(str(path), path)


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(str(path))
    return line.removeprefix(str(path))


# -- what is taken -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images,
        lambda images: np.moveaxis(images, 3, 1),
        lambda images: np.asfortranarray(images),
        lambda images: images[:, :, :, :1][..., 0],
        lambda images: images[:, :, :, :1],
        lambda images: images.astype(">f8") / 255,
        lambda images: images.astype(np.float16) / 127.5 - 1,
    ],
)
def test_images_of_any_layout_come_with_the_channels_last(tmp_path: Path, change: Change) -> None:
    data = read(saved(tmp_path / "a.npz", images=change(IMAGES)))
    channels = data.values.shape[3]
    assert data.has_images
    assert data.sizes() == {(4, 5, channels): (6, 0)}
    if data.values.dtype == np.uint8:
        np.testing.assert_array_equal(data.values, IMAGES[..., :channels])
    else:
        assert data.values.dtype == np.float32
        np.testing.assert_allclose(data.values, IMAGES / 127.5 - 1, atol=2e-3)


@settings(max_examples=30)
@given(values=arrays.arrays(np.float64, (3, 2, 2, 1), elements=st.floats(-1, 1)))
def test_floats_stay_as_they_are_or_come_from_zero_to_one_and_a_line_says_so(values: NDArray[np.float64]) -> None:
    found, notes = checked_values(values, "a.npz, 'images'")
    if values.min() >= -1e-6:
        np.testing.assert_allclose(found, 2 * values - 1, atol=1e-5)
        assert "are taken as [0, 1], and become [-1, 1]" in notes[0]
    else:
        np.testing.assert_allclose(found, values, atol=1e-6)
        assert notes == ()


@settings(max_examples=30)
@given(
    values=arrays.arrays(
        np.float32, st.sampled_from([(4, 3), (3, 2, 2), (2, 2, 3, 1)]), elements=st.floats(-1, 1, width=32)
    ),
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
    data=st.data(),
)
def test_no_value_that_is_not_finite_passes(values: NDArray[np.float32], bad: float, data: st.DataObject) -> None:
    at = tuple(data.draw(st.integers(0, size - 1)) for size in values.shape)
    values[at] = bad
    with pytest.raises(UserError, match=rf"^x: sample {at[0]} has -?(nan|inf) at \[{at[1]}, .*repair it"
                       if values.ndim > 2 else rf"^x: sample {at[0]} has -?(nan|inf) at \[{at[1]}\]"):  # fmt: skip
        checked_values(values, "x")


def test_classes_are_numbers_or_names_and_captions_are_texts(tmp_path: Path) -> None:
    vectors = np.arange(8.0).reshape(4, 2)
    data = read(saved(tmp_path / "a.npz", x=vectors, y=np.array([[7], [3], [7], [5]])))
    assert (data.class_names, data.labels is not None and data.labels.tolist()) == (("3", "5", "7"), [2, 0, 2, 1])
    named = read(saved(tmp_path / "b.npz", data=vectors, labels=np.array(["猫", "a", "b", "a"]), text=list("abcd")))
    assert named.class_names == ("a", "b", "猫")
    assert named.captions == ("a", "b", "c", "d")
    assert not named.has_images


def test_arrays_that_are_not_used_are_named(tmp_path: Path) -> None:
    data = read(saved(tmp_path / "mnist.npz", x_train=IMAGES, y_train=range(6), x_test=IMAGES, y_test=range(6)))
    assert len(data) == 6
    assert [str(note) for note in data.notes] == [f"{tmp_path / 'mnist.npz'}: not used of it: 'x_test', 'y_test'"]


def test_one_array_needs_no_name(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", UNIT)
    np.savez_compressed(tmp_path / "b.npz", UNIT)
    assert read(tmp_path / "a.npy").content == read(tmp_path / "b.npz").content


@settings(max_examples=30)
@given(at=st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 4), st.integers(0, 2)), by=st.integers(1, 255))
def test_the_content_changes_with_any_pixel(at: tuple[int, ...], by: int) -> None:
    changed = IMAGES.copy()
    changed[at] = (int(changed[at]) + by) % 256
    assert ArraySamples("a", "", changed).content != ArraySamples("a", "", IMAGES).content


def test_the_content_changes_with_classes_captions_and_their_borders() -> None:
    values, labels = np.zeros((2, 2)), np.array([0, 1])
    every = [
        ArraySamples("a", "", values), ArraySamples("a", "", values.reshape(1, 4)),
        ArraySamples("a", "", values, labels, ("a", "b")), ArraySamples("a", "", values, 1 - labels, ("a", "b")),
        ArraySamples("a", "", values, labels, ("a", "c")), ArraySamples("a", "", values, captions=("ab", "c")),
        ArraySamples("a", "", values, captions=("a", "bc")), ArraySamples("a", "", values.astype(np.float32)),
    ]  # fmt: skip
    assert len({one.content for one in every}) == len(every)


def test_equal_samples_share_a_unit() -> None:
    units = ArraySamples("a", "", IMAGES[[0, 3, 0, 2, 3]]).units
    assert units[0] == units[2] != units[1] == units[4] != units[3]


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"images": IMAGES.astype(np.int64)}, "images of int64; save them as uint8 (0 to 255): array.astype('uint8')"),
        ({"images": IMAGES.astype(np.float32)}, "outside [-1, 1] and [0, 1]; save levels of 0 to 255 as uint8"),
        ({"images": OUTSIDE}, "images of floats from -3 to 1, outside [-1, 1] and [0, 1]; scale them to [-1, 1]"),
        ({"images": IMAGES > 9}, "an array of bool, which are no numbers to learn"),
        ({"images": UNIT.astype(np.complex128)}, "an array of complex128, which are no numbers to learn"),
        ({"images": np.array(["a"])}, "an array of shape (1,); samples are vectors (N, D) or images"),
        ({"images": np.arange(4.0)}, "make it (N, 1): array.reshape(-1, 1)"),
        ({"images": np.float32(3)}, "an array of shape ()"),
        ({"images": UNIT[None]}, "an array of shape (1, 6, 4, 5, 3)"),
        ({"images": UNIT[:0]}, "an array of shape (0, 4, 5, 3) holds no sample; fill it"),
        ({"images": UNIT[:, :0]}, "holds no sample; fill it"),
        ({"images": np.zeros((2, 8, 8, 4), np.uint8)}, "have 4 channels, not 1 or 3; leave the fourth, transparency"),
        ({"images": np.zeros((2, 2, 8, 8), np.uint8)}, "have 2 channels, not 1 or 3"),
        ({"images": np.zeros((2, 3, 8, 3), np.uint8)}, "either axis may be the channels"),
        ({"images": np.zeros((2, 1, 1, 7), np.uint8).reshape(2, 1, 7)}, "images of 7×1 pixels have no shape to learn"),
        ({"images": np.full((2, 3), 1e30)}, "sample 0 has 1e+30, beyond what float32 can compute with"),
        ({"images": IMAGES, "x": IMAGES}, "has 'images' and 'x', which are names for the same; keep one of them"),
        ({"a": IMAGES, "b": IMAGES}, "which of its arrays ('a', 'b') holds the samples?"),
        ({"labels": np.arange(6)}, "which of its arrays ('labels') holds the samples?"),
        ({"images": IMAGES, "labels": np.arange(5)}, "classes of shape (5,) for 6 samples; give one for each sample"),
        ({"images": IMAGES, "labels": np.arange(6.0)}, "classes of float64; a class is a whole number or a name"),
        ({"images": IMAGES, "text": np.array(["a"] * 5 + [" "])}, "the caption of sample 5 is ' '; write it"),
        ({"images": IMAGES, "text": np.array(["a"])}, "captions of shape (1,) for 6 samples"),
        ({"images": np.array([None, 3])}, "holds Python objects, which are not loaded from a file (a pickle can run"),
        ({}, "the archive holds no array"),
    ],
)  # fmt: skip
def test_an_array_that_is_no_data_is_refused(tmp_path: Path, named: dict[str, Any], words: str) -> None:
    assert words in refusal(saved(tmp_path / "a.npz", **named))


def _npz_of(member: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("images.npy", member)
    return buffer.getvalue()


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.npz", b"", ": the file holds no rows"),
        ("a.npz", b"<html><body>Log in</body></html>", "but it is an HTML page"),
        ("a.npz", b"\x89PNG\r\n\x1a\n....", "but it is a picture (PNG)"),
        ("a.npz", b"PK\x03\x04" + b"x" * 90, "damaged or cut short"),
        ("a.npz", _npz_of(_npy(IMAGES)[:200]), "'images': damaged or cut short"),
        ("a.npz", _npz_of(_npy(IMAGES)[:40]), "'images': damaged or cut short"),
        ("a.npz", _npz_of(_npy(IMAGES).replace(b"(6, 4, 5, 3)", b"(6, 4, 5, -3")), "'images': damaged or cut short"),
        ("a.npz", _npz_of(b"no array"), "'images' is no array"),
        ("a.npz", _npy(IMAGES), "let its name end with .npy"),
        ("a.npy", _npz_of(_npy(IMAGES)), "let its name end with .npz"),
        ("a.npy", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        ("a.npy", _npy(IMAGES)[:-1], "damaged or cut short"),
        ("a.parquet", b"PAR1 and no more", "cannot be read as Parquet"),
        ("a.parquet", _npz_of(_npy(IMAGES)), "but it is a ZIP archive"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert words in refusal(tmp_path / name)


@settings(max_examples=40)
@given(cut=st.integers(0, 599))
def test_a_file_that_is_cut_at_any_byte_is_refused(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.npz"
    whole = _npz_of(_npy(IMAGES))
    assert len(whole) > 600
    path.write_bytes(whole[:cut])
    refusal(path)


# -- Parquet -------------------------------------------------------------------------------------------------------


def test_columns_of_lists_are_samples_and_a_column_of_names_the_classes(tmp_path: Path) -> None:
    table = pa.table({
        "image": pa.array(IMAGES[..., 0].tolist(), pa.list_(pa.list_(pa.uint8()))),
        "label": pa.array(list("abcabc")).dictionary_encode(),
        "id": range(6),
    })  # fmt: skip
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    data = read(tmp_path / "a.parquet")
    np.testing.assert_array_equal(data.values[..., 0], IMAGES[..., 0])
    assert data.class_names == ("a", "b", "c")
    assert "not used of it: 'id'" in data.notes[0]


def test_columns_of_numbers_are_vectors(tmp_path: Path) -> None:
    table = pa.table({"x": [1.0, 2.0, 3.0], "y": [4.0, 5.0, 6.0], "z": [0, 1, 0]})
    parquet.write_table(table, tmp_path / "a.parquet")
    data = read(tmp_path / "a.parquet")
    np.testing.assert_array_equal(data.values, [[1, 4, 0], [2, 5, 1], [3, 6, 0]])
    assert data.labels is None
    fixed = pa.table({"data": pa.array([[1.0, 4, 0], [2, 5, 1], [3, 6, 0]], pa.list_(pa.float64(), 3))})
    parquet.write_table(fixed.slice(0), tmp_path / "b.parquet")
    assert read(tmp_path / "b.parquet").content == data.content


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def of_datasets(path: Path, images: list[bytes], labels: list[int]) -> Path:
    """Write images and classes as the library datasets saves them."""
    features = {"img": {"_type": "Image"}, "label": {"names": ["dog", "cat"], "_type": "ClassLabel"}}
    table = pa.table({"img": [{"bytes": image, "path": None} for image in images], "label": labels})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, path)
    return path


def test_encoded_images_of_the_library_datasets_are_decoded_and_their_classes_named(tmp_path: Path) -> None:
    data = read(of_datasets(tmp_path / "a.parquet", [encoded(image) for image in IMAGES], [0, 1, 0, 0, 1, 1]))
    np.testing.assert_array_equal(data.values, IMAGES)
    assert data.class_names == ("cat", "dog")
    assert data.labels is not None
    assert data.labels.tolist() == [1, 0, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (
            [encoded(IMAGES[0]), encoded(IMAGES[0, :3])],
            [0, 1],
            "row 2: an image of 5×3 pixels and 3 channels where the",
        ),
        ([encoded(IMAGES[0]), encoded(IMAGES[0])[:-20]], [0, 1], "row 2: the image is cut off or damaged"),
        ([encoded(IMAGES[0])] * 2, [0, -1], "row 2 has class -1, and the file names the classes 0 to 1; leave rows"),
    ],
)
def test_encoded_images_that_cannot_be_learned_are_refused(
    tmp_path: Path, images: list[bytes], labels: list[int], words: str
) -> None:
    assert words in refusal(of_datasets(tmp_path / "a.parquet", images, labels))


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array([[1.0, 2.0], [1.0]]), "'data': row 2 has a list of 1 where the first has one of 2"),
        (pa.array([[[1.0], [2.0]], [[1.0], [3.0, 4.0]]]), "'data': row 2 has a list of 2 where the first has one of 1"),
        (pa.array([[1.0, 2.0], None]), "'data': row 2 has no value"),
        (pa.array([[1.0, 2.0], [1.0, None]]), "'data': row 2 has no value"),
        (pa.array([[], []], pa.list_(pa.float32())), "the rows have empty lists"),
        (pa.array([b"x", b"y"]), "'data', row 1: this is plain text, and no image"),
        (pa.array([{"bytes": None, "path": "a"}, {"bytes": b"x", "path": "b"}]), "'data', row 1: has no image; a path"),
        (pa.array([{"a": 1}, {"a": 2}]), "'data': holds struct<a: int64>, which are no samples; leave the column out"),
        (pa.array(["a", "b"]), "samples are vectors (N, D) or images"),
        (pa.array([], pa.list_(pa.float32())), "the file holds no rows"),
    ],
)
def test_a_column_that_is_no_array_is_refused(tmp_path: Path, column: pa.Array, words: str) -> None:
    parquet.write_table(pa.table({"data": column}), tmp_path / "a.parquet")
    assert words in refusal(tmp_path / "a.parquet")
