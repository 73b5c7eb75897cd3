"""Samples by name and settings: pure functions of number and draws, the same split everywhere, settings that fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from training.errors import UserError
from training.tasks.batch_plan import mix
from training.tasks.diffusion import sources
from training.tasks.diffusion.arrays import ArraySamples
from training.tasks.diffusion.sources import (
    ImageSource,
    SampleSource,
    VectorSource,
    data_files,
    read_samples,
    split,
    with_data_files,
)
from training.tasks.diffusion.transforms import Framing


@dataclass(frozen=True)
class Options:
    """Settings of the data, as the task's options have them."""

    datasets: tuple[str, ...] = ()
    image_size: int | None = None
    crop: Literal["center", "random"] = "center"
    random_flip: bool = False
    channels: Literal["auto", "1", "3"] = "auto"
    condition_on: Literal["auto", "none", "class", "caption"] = "auto"


RANDOM = np.random.Generator(np.random.Philox(5))
LEVELS = RANDOM.integers(0, 256, (20, 6, 9, 3), dtype=np.uint8)
VECTORS = RANDOM.standard_normal((40, 3)) * [1, 20, 300] + [5, -5, 1000]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of images of several sizes, gray ones among them."""
    directory = tmp_path_factory.mktemp("images")
    for number, pixels in enumerate(LEVELS):
        kept = pixels[: 6 - number % 2] if number % 3 else pixels[:, :, 0]
        path = directory / ("cat" if number % 4 else "dog") / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.ascontiguousarray(kept)).save(path)
    return directory


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(mix(seed, epoch, index)))


def refusal(options: Options) -> str:
    with pytest.raises(UserError) as caught:
        read_samples(options)
    line = str(caught.value)
    assert "\n" not in line
    return line


# -- purity --------------------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**63),
    asked=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 19)), min_size=1, max_size=12),
)
def test_a_sample_is_the_same_in_whatever_order_it_is_asked_for(
    images: Path, seed: int, asked: list[tuple[int, int]]
) -> None:
    options = Options((str(images),), image_size=5, crop="random", random_flip=True)
    one, other = read_samples(options), read_samples(options)

    def taken(source: SampleSource, epoch: int, index: int) -> tuple[bytes, int | None]:
        sample = source.sample(index, generator(seed, epoch, index))
        return sample.values.tobytes(), sample.label

    first = {where: taken(one, *where) for where in asked}
    assert first == {where: taken(other, *where) for where in reversed(asked)}


def test_kept_images_are_those_that_are_decoded(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = read_samples(Options((str(images),), image_size=4, random_flip=True))
    kept = [source.sample(i, generator(1, e, i)).values.tobytes() for e in (0, 1) for i in range(20)]
    monkeypatch.setattr(sources, "KEPT_BYTES", 0)
    source = read_samples(Options((str(images),), image_size=4, random_flip=True))
    assert [source.sample(i, generator(1, e, i)).values.tobytes() for e in (0, 1) for i in range(20)] == kept
    assert isinstance(source, ImageSource)
    assert not source._kept


def test_without_draws_nothing_is_random(images: Path) -> None:
    source = read_samples(Options((str(images),), image_size=5, crop="random", random_flip=True))
    centered = read_samples(Options((str(images),), image_size=5))
    for index in range(20):
        np.testing.assert_array_equal(source.sample(index, None).values, centered.sample(index, None).values)


# -- images --------------------------------------------------------------------------------------------------------


def test_a_directory_of_classes_becomes_samples_of_one_shape(images: Path) -> None:
    source = read_samples(Options((str(images),), image_size=8))
    assert source.shape == (3, 8, 8)
    assert source.class_names == ("cat", "dog")
    assert (source.has_captions, source.mean, source.scale) == (False, None, None)
    sample = source.sample(0, None)
    assert sample.values.shape == (3, 8, 8)
    assert sample.values.dtype == np.float32
    assert (sample.label, sample.caption) == (0, None)
    assert [str(line) for line in source.introduction] == [
        f"data    20 images of 8×8 pixels, RGB: {images}, a directory of images",
        "classes 2: cat, dog",
        "7 images are gray, and get three equal channels",
        "warning: 20 images are smaller than image_size=8 and are enlarged",
    ]
    assert source.facts == {
        "data": images.name, "kind": "a directory of images", "samples": 20, "shape": [3, 8, 8], "classes": 2,
        "captions": False, "data_fingerprint": source.fingerprint,
    }  # fmt: skip


def test_gray_images_can_be_asked_for(images: Path) -> None:
    source = read_samples(Options((str(images),), image_size=4, channels="1", condition_on="none"))
    assert source.shape == (1, 4, 4)
    assert source.class_names is None
    assert source.sample(3, None).label is None
    assert "13 images have colors, and become gray" in [str(line) for line in source.introduction]


def test_the_digits_are_images_with_classes() -> None:
    source = read_samples(Options(("digits",)))
    assert (source.shape, len(source)) == ((1, 8, 8), 1797)
    assert source.class_names == tuple("0123456789")
    sample = source.sample(11, None)
    assert sample.label == 1
    assert set(np.unique((sample.values + 1) * 8)) <= set(range(17))
    assert "classes 10: 0, 1, 2, 3, 4, 5, 6, 7, and 2 more" in [str(line) for line in source.introduction]


def test_every_setting_that_changes_a_sample_changes_the_fingerprint(images: Path) -> None:
    plain = Options((str(images),), image_size=4)
    changes: list[dict[str, Any]] = [
        {}, {"image_size": 5}, {"crop": "random"}, {"random_flip": True}, {"channels": "1"}, {"condition_on": "none"},
    ]  # fmt: skip
    assert len({read_samples(replace(plain, **change)).fingerprint for change in changes}) == len(changes)


# -- vectors -------------------------------------------------------------------------------------------------------


def test_vectors_are_standardized_and_come_back() -> None:
    source = VectorSource(ArraySamples("a", "", VECTORS), None, False)
    drawn = np.stack([source.sample(index, None).values for index in range(len(source))]).astype(np.float64)
    np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(drawn.std(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(drawn * source.scale + source.mean, VECTORS, rtol=1e-5, atol=1e-4)


def test_a_number_that_never_changes_becomes_zero_and_is_said() -> None:
    source = VectorSource(ArraySamples("a", "", np.column_stack([VECTORS, np.full(40, 0.1)])), None, False)
    assert source.scale[3] == 1
    assert abs(source.sample(3, None).values[3]) < 1e-6
    assert "warning: 1 numbers of the vectors are the same in all samples" in [str(one) for one in source.introduction]


def test_points_of_the_plane_need_no_file() -> None:
    source = read_samples(Options(("moons:100",)))
    assert (source.shape, len(source), source.class_names) == ((2,), 100, None)
    assert source.fingerprint == read_samples(Options(("moons:100",))).fingerprint
    assert source.fingerprint != read_samples(Options(("moons:101",))).fingerprint


def test_a_built_in_set_goes_before_a_file_of_its_name_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("line.npy", VECTORS)
    Path("line.npy").rename("line")
    source = read_samples(Options(("line",)))
    assert len(source) == 8000
    assert source.introduction[-1] == "line is the built-in set; what lies here under this name is ./line"
    with pytest.raises(UserError, match=r"^--datasets ./line: nothing reads such a file here"):
        read_samples(Options(("./line",)))


# -- the split -----------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    copies=st.lists(st.integers(0, 9), min_size=3, max_size=40).filter(lambda chosen: len(set(chosen)) > 2),
    share=st.floats(0.01, 0.6),
    seed=st.integers(0, 2**63),
)
def test_a_split_has_every_sample_once_and_never_a_copy_on_both_sides(
    copies: list[int], share: float, seed: int
) -> None:
    source = ImageSource(ArraySamples("a", "", LEVELS[copies]), Framing(), 3, None, False)
    train, held = split(source, share, seed)
    assert held is not None
    assert len(train) + len(held) == len(source)
    rows = [{part.sample(i, None).values.tobytes() for i in range(len(part))} for part in (train, held)]
    assert not rows[0] & rows[1]
    assert rows[0] | rows[1] == {source.sample(i, None).values.tobytes() for i in range(len(source))}
    again, _ = split(source, share, seed)
    assert again.fingerprint == train.fingerprint != source.fingerprint


def test_a_split_holds_back_the_share_and_depends_on_the_seed() -> None:
    source = read_samples(Options(("circle:1000",)))
    train, held = split(source, 0.1, 3)
    assert held is not None
    assert (len(train), len(held)) == (900, 100)
    assert held.facts["samples"] == 100
    assert held.scale is not None
    assert split(source, 0.1, 4)[0].fingerprint != train.fingerprint
    assert split(source, 0.0, 3) == (source, None)


def test_copies_are_said_and_a_split_that_leaves_a_side_empty_is_refused() -> None:
    source = ImageSource(ArraySamples("a", "", LEVELS[[0, 0, 0]]), Framing(), 3, None, False)
    line = "warning: 2 samples are copies of others; none is held back from its copies"
    assert line in [str(one) for one in source.introduction]
    with pytest.raises(UserError, match=r"validation_split=0.5 of 3 samples leaves one side empty"):
        split(source, 0.5, 0)


# -- what is refused -----------------------------------------------------------------------------------------------


def test_settings_that_do_not_go_with_the_data_are_refused(images: Path) -> None:
    several = refusal(Options((str(images),)))
    assert several.startswith(f"{images / 'cat'}")
    assert several.endswith("give the size to learn, such as --image-size 5")
    assert refusal(Options((str(images),), crop="random")).startswith("--crop random crops images to image_size")
    assert "has no captions" in refusal(Options(("moons:50",), condition_on="caption"))
    assert "moons has no classes; give data with an array 'labels'" in refusal(
        Options(("moons:50",), condition_on="class")
    )
    for change in ({"image_size": 8}, {"crop": "random"}, {"random_flip": True}, {"channels": "1"}):
        line = refusal(Options(("moons:50",), **change))
        assert line.endswith("moons holds vectors of 2 numbers and no images; leave it out")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            (),
            "--task diffusion needs data: give --datasets DIR, a file (.npz, .npy, .parquet), or one of the built-in",
        ),
        (("digits", "moons"), "--datasets digits moons: a diffusion run learns one set of samples"),
        (("mons",), "did you mean 'moons'?"),
        (("gone.npz",), "--datasets gone.npz: no such directory or file, and no built-in set"),
        (("",), "--datasets : is empty; give a path"),
        (("a\0b",), "no file can have this path"),
        (("a.jpg",), "--datasets a.jpg: nothing reads such a file here; give a directory of images"),
        (("/dev/null",), "--datasets /dev/null: a pipe or a device"),
    ],
)
def test_data_that_is_not_there_is_refused(
    names: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"x")
    assert words in refusal(Options(names))


def test_files_can_be_named_and_replaced(images: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", LEVELS)
    names = (str(tmp_path / "a.npz"), "moons", str(images))
    assert data_files(names) == [tmp_path / "a.npz", images]
    assert with_data_files(names, ["inputs/0", "inputs/1"]) == ("inputs/0", "moons", "inputs/1")
    with pytest.raises(UserError, match=r"no such directory or file"):
        data_files([str(tmp_path / "gone")])
