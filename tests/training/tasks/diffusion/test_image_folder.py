"""Directories of images: in one order, every file checked before the first step, decoded as a viewer shows them."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tests.support.another_user import as_another_user, let_in
from training.errors import UserError
from training.storage.cache_directory import VARIABLE
from training.tasks.diffusion import image_folder
from training.tasks.diffusion.image_folder import Decoded, ImageFolder, decoded, find_images, read_image_folder

PIXELS = np.random.Generator(np.random.Philox(3)).integers(0, 256, (6, 8, 3), dtype=np.uint8)
SMOOTH = np.stack(np.broadcast_arrays(*np.ogrid[0:6, 0:8], 3), axis=2).astype(np.uint8) * 20


def encoded(pixels: NDArray[np.uint8] | Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, form, **options)
    return buffer.getvalue()


PNG = encoded(PIXELS)
PALETTE = Image.fromarray(PIXELS).quantize(255)
GIF = encoded(PIXELS[:, :, 0], "GIF")


def folder(directory: Path, *names: str, metadata: Sequence[Any] | None = None) -> Path:
    """Write a different small image under each name."""
    for number, name in enumerate(names):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(np.full((3, 4, 3), number + 1, dtype=np.uint8)))
    if metadata is not None:
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in metadata]
        (directory / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return directory


def read(directory: Path, condition_on: str = "auto") -> ImageFolder:
    return read_image_folder(str(directory), directory, condition_on)


def refusal(directory: Path, condition_on: str = "auto") -> str:
    with pytest.raises(UserError) as caught:
        read(directory, condition_on)
    line = str(caught.value)
    assert "\n" not in line
    return line.replace(str(directory), "D")


# -- what is found -------------------------------------------------------------------------------------------------


NAMES = ["a.png", "B.png", "\u00e9.png", "e\u0301.png", "z.jpg", "10.png", "9.png", "雨.webp"]


@settings(max_examples=15)
@given(
    names=st.lists(st.sampled_from(NAMES), unique=True, min_size=2),
    data=st.data(),
)  # fmt: skip
def test_the_order_is_that_of_the_names_and_not_of_the_file_system(
    names: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    contents = {name: encoded(np.full((2, 2), number, dtype=np.uint8)) for number, name in enumerate(sorted(names))}
    found = []
    for order in (names, data.draw(st.permutations(names))):
        directory = tmp_path_factory.mktemp("images")
        for name in order:
            (directory / name).write_bytes(contents[name])
        found.append(read(directory))
    assert [file.name for file in found[0].files] == [file.name for file in found[1].files]
    assert found[0].content == found[1].content


def test_directories_are_classes_and_hidden_files_are_none(tmp_path: Path) -> None:
    folder(
        tmp_path,
        "dog/1.png",
        "cat/2.png",
        "dog/0.PNG",
        ".thumbs/x.png",
        "cat/.hidden.txt",
        "cat/Thumbs.db",
        "README.md",
    )
    data = read(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert [(file.name, file.class_name) for file in data.files] == [
        ("cat/2.png", "cat"), ("dog/0.PNG", "dog"), ("dog/1.png", "dog"),
    ]  # fmt: skip
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 1]
    without = read(tmp_path, "none")
    assert (without.class_names, without.labels, len(without)) == (None, None, 3)
    assert without.content != data.content


def test_captions_are_those_of_the_rows(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"file_name": "./sub/b.png", "text": "二"},
        {"file_name": "a.png", "text": "one", "id": 4},
    ]
    folder(tmp_path, "a.png", "sub/b.png", metadata=rows)
    data = read(tmp_path)
    assert [(file.name, file.caption) for file in data.files] == [("a.png", "one"), ("sub/b.png", "二")]
    assert data.captions == ("one", "二")
    reordered = folder(tmp_path.with_name("again"), "a.png", "sub/b.png", metadata=rows[::-1])
    assert read(reordered).content == data.content
    assert read(folder(reordered, metadata=[rows[0], {**rows[1], "text": "other"}])).content != data.content
    assert read(folder(tmp_path, metadata=[]), "none").captions is None


@settings(max_examples=30)
@given(row=st.integers(0, 5), column=st.integers(0, 7), channel=st.integers(0, 2), by=st.integers(1, 255))
def test_the_content_changes_with_any_pixel(
    row: int, column: int, channel: int, by: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("images")
    (directory / "a.png").write_bytes(PNG)
    before = read(directory).content
    changed = PIXELS.copy()
    changed[row, column, channel] = (int(changed[row, column, channel]) + by) % 256
    (directory / "a.png").write_bytes(encoded(changed))
    assert read(directory).content != before


def test_equal_images_share_a_unit_and_sizes_are_counted(tmp_path: Path) -> None:
    for name, pixels in {"a": PIXELS, "b": PIXELS[:, :, 0], "c": PIXELS, "d": PIXELS[:5]}.items():
        (tmp_path / f"{name}.png").write_bytes(encoded(pixels))
    data = read(tmp_path)
    assert data.units[0] == data.units[2]
    assert len(set(data.units.tolist())) == 3
    assert data.sizes() == {(6, 8, 3): (2, 0), (6, 8, 1): (1, 1), (5, 8, 3): (1, 3)}
    np.testing.assert_array_equal(data.pixels(2), PIXELS)


def test_a_large_directory_is_decoded_once_and_known_by_its_checksums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(image_folder, "CACHED_FROM", 1)
    images = folder(tmp_path / "images", "a.png", "b.png")
    first = read(images)
    decodings: list[Path] = []

    def counted(content: bytes, path: Path, verify: bool = False) -> Decoded:
        decodings.append(path)
        return decoded(content, path, verify)

    monkeypatch.setattr(image_folder, "decoded", counted)
    again = read(images)
    assert again.sizes() == first.sizes() == {(3, 4, 3): (2, 0)}
    assert not decodings
    (images / "b.png").write_bytes(PNG[:-40])
    assert "b.png: the image is cut off or damaged" in refusal(images)


def test_an_image_that_changes_under_a_run_is_refused(tmp_path: Path) -> None:
    data = read(folder(tmp_path, "a.png", "b.png"))
    assert data.pixels(1).shape == (3, 4, 3)
    folder(tmp_path, "b.png")
    with pytest.raises(UserError, match=r"b\.png: the image changed since the run began; put the old one back"):
        data.pixels(1)
    (tmp_path / "b.png").unlink()
    with pytest.raises(UserError, match=r"b\.png: the image is gone; put it back"):
        data.pixels(1)


# -- directories that are refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "D: no image in this directory; put there files that end with .bmp"),
        (("README.md",), "D: no image in this directory"),
        (("a.png", "cat/b.png"), "D: holds images (a.png) and directories (cat)"),
        (("cat/b.png",), "D: holds one directory alone, and classes need two or more; give that one: --datasets D/cat"),
        (("train/a.png", "test/b.png"), "are parts of a data set and no classes; give one of them: --datasets D/test"),
        (("train/cat/a.png", "val/cat/b.png"), "are parts of a data set and no classes"),
        (("a/b/c.png", "d/e.png"), "D/a/b: a directory within the class 'a'"),
        (("a/b.png", "c/LICENSE"), "D/c: the class 'c' has no image; add some, or delete the directory"),
        (("a.png", "a.txt"), 'D/a.txt: lies among the images and is none by its name'),
        (("a.png", "a.txt"), 'captions belong in metadata.jsonl: {"file_name": "a.png", "text": "…"}'),
        (("a.png", "train.csv"), "take it out, or write captions as metadata.jsonl"),
        (("a/b.png", "a/metadata.jsonl", "c/d.png"), "captions are read from the directory that is given: --datasets"),
        (("a.png", "b"), "D/b: lies among the images and is none by its name"),
    ],
)  # fmt: skip
def test_a_directory_that_is_no_data_set_is_refused(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    assert words in refusal(folder(tmp_path, *names))


ROW = {"file_name": "a.png", "text": "one"}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "D/metadata.jsonl: the file holds no rows"),
        ([ROW], "D/b.png: an image without a row in metadata.jsonl (1 of 2 have none)"),
        ([ROW, {"file_name": "c.png", "text": "x"}], "D/metadata.jsonl, line 2: there is no image 'c.png' in D"),
        ([ROW, ROW], "line 2: 'a.png' has a caption in line 1 already; keep one row for each image"),
        ([ROW, {**ROW, "file_name": "./a.png"}], "line 2: 'a.png' has a caption in line 1 already"),
        ([{"file_name": "a.png"}], "line 1: no 'text'; its keys are 'file_name': the image's caption"),
        ([{"file_name": "a.png", "text": "a", "caption": "b"}], "line 1: has 'text' and 'caption'; keep one"),
        ([{"file_name": "a.png", "text": None}], "line 1: 'text' is null, and should be the image's caption"),
        ([{"file_name": "a.png", "caption": ["x"]}], "line 1: 'caption' is a list (['x'])"),
        ([{"file_name": "a.png", "text": " \n"}], "line 1: 'text' is a text (' \\n')"),
        ([{"text": "a"}], "line 1: no 'file_name'; name the image as it is called below D"),
        ([{"file_name": 3, "text": "a"}], "line 1: 'file_name' is a number (3)"),
        ([{"file_name": "../a.png", "text": "a"}], "line 1: the path '../a.png' leaves D"),
        ([{"file_name": "x/../../a.png", "text": "a"}], "leaves D"),
        ([{"file_name": "/etc/passwd", "text": "a"}], "line 1: the path '/etc/passwd' leaves D"),
        (["{"], "D/metadata.jsonl, line 1: the object goes on after its line"),
        (["[]"], "D/metadata.jsonl: one list of JSON; write each of its objects on a line of its own"),
        (["3"], "line 1: a row is an object"),
    ],
)
def test_captions_that_do_not_belong_to_images_are_refused(tmp_path: Path, rows: list[Any], words: str) -> None:
    assert words in refusal(folder(tmp_path, "a.png", "b.png", metadata=rows))


def test_classes_can_be_learned_where_there_are_captions_too(tmp_path: Path) -> None:
    rows = [{"file_name": name, "text": "x"} for name in ("a/1.png", "b/2.png")]
    folder(tmp_path, "a/1.png", "b/2.png", metadata=rows)
    assert (read(tmp_path, "class").class_names, read(tmp_path, "class").captions) == (("a", "b"), None)
    assert (read(tmp_path).class_names, read(tmp_path).captions) == (None, ("x", "x"))
    assert read(tmp_path, "none").labels is None


@pytest.mark.parametrize(
    ("condition_on", "words"),
    [
        (
            "class",
            "--condition-on class: the images of D lie in one directory; put those of each class into a directory",
        ),
        ("caption", "--condition-on caption: there is no D/metadata.jsonl; write a line for each image"),
    ],
)
def test_conditions_that_are_not_there_are_refused(tmp_path: Path, condition_on: str, words: str) -> None:
    assert words in refusal(folder(tmp_path, "a.png", "b.png"), condition_on)


@pytest.mark.skipif(os.name == "nt", reason="links and pipes are POSIX's")
def test_links_that_lead_nowhere_and_pipes_are_refused(tmp_path: Path) -> None:
    folder(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    assert "D/b.png: a link that leads nowhere" in refusal(tmp_path)
    (tmp_path / "b.png").unlink()
    os.mkfifo(tmp_path / "b.png")
    assert "D/b.png: the data file cannot be read (not a regular file)" in refusal(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="links are POSIX's")
def test_links_to_directories_are_followed_unless_they_never_end(tmp_path: Path) -> None:
    inner = folder(tmp_path / "elsewhere", "b.png")
    images = folder(tmp_path / "images", "a.png", metadata=[ROW, {"file_name": "link/b.png", "text": "two"}])
    (images / "link").symlink_to(inner)
    assert read(images).captions == ("one", "two")
    for target, words in {
        images: "D/link/loop: a link to what is D already",
        inner: "a link to what is D/link already",
    }.items():
        (inner / "loop").symlink_to(target)
        assert words in refusal(images, "none")
        (inner / "loop").unlink()


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX's")
@pytest.mark.parametrize(
    ("place", "rights", "words"),
    [
        ("images/b.png", 0o300, "D/b.png: the data file cannot be read (Permission denied); check its rights"),
        ("images", 0o300, "D: the directory cannot be read (Permission denied); check its rights"),
        ("images", 0o444, "D: the directory cannot be read (Permission denied); check its rights"),
    ],
)
def test_what_the_system_does_not_let_this_user_read_is_refused(
    tmp_path: Path, place: str, rights: int, words: str
) -> None:
    images = folder(tmp_path / "images", "a.png", "b.png")
    let_in(images / "a.png")
    (tmp_path / place).chmod(rights)
    try:
        assert as_another_user(lambda: refusal(images)) == words
    finally:
        (tmp_path / place).chmod(0o700)


# -- decoding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (PNG, PIXELS),
        (encoded(PIXELS, "BMP"), PIXELS),
        (encoded(PIXELS, "TIFF", compression="tiff_lzw"), PIXELS),
        (encoded(PIXELS, "WEBP", lossless=True), PIXELS),
        (encoded(PIXELS, "PPM"), PIXELS),
        (encoded(PIXELS[:, :, 0]), PIXELS[:, :, :1]),
        (encoded(Image.fromarray(PIXELS[:, :, 0] > 99)), np.where(PIXELS[:, :, :1] > 99, 255, 0)),
        (encoded(PALETTE), np.asarray(PALETTE.convert("RGB"))),
        (encoded(np.dstack([PIXELS, np.full((6, 8), 255, np.uint8)])), PIXELS),
        (encoded(np.dstack([PIXELS[:, :, 0], np.full((6, 8), 255, np.uint8)])), PIXELS[:, :, :1]),
    ],
)  # fmt: skip
def test_an_image_is_decoded_to_gray_or_colors(content: bytes, expected: NDArray[Any]) -> None:
    pixels = decoded(content, Path("a"), verify=True).pixels
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_exif_data_says(orientation: int) -> None:
    upright = [
        PIXELS, PIXELS[:, ::-1], PIXELS[::-1, ::-1], PIXELS[::-1], PIXELS.swapaxes(0, 1), np.rot90(PIXELS, -1),
        PIXELS[::-1, ::-1].swapaxes(0, 1), np.rot90(PIXELS),
    ]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(PIXELS, exif=exif)
    np.testing.assert_array_equal(decoded(content, Path("a")).pixels, upright[orientation - 1])


def test_damaged_exif_data_is_counted_and_said(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.jpg").write_bytes(encoded(SMOOTH, "JPEG", exif=exif.tobytes()[:20]))
    folder(tmp_path, "b.png")
    note = f"warning: 1 images of {tmp_path} have damaged EXIF data and are taken as upright"
    assert [str(line) for line in read(tmp_path).notes] == [note]


def _png_that_claims(width: int, height: int) -> bytes:
    """Return a PNG whose header claims a size, with no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return PNG[:8] + chunk + PNG[33:]


FRAMES = [Image.fromarray(PIXELS), Image.fromarray(PIXELS[::-1].copy())]
TRANSPARENT = np.dstack([PIXELS, np.full((6, 8), 254, np.uint8)])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ": the file is empty; fetch it again, or take it out"),
        (PNG[:-30], ": the image is cut off or damaged ("),
        (PNG[:20], ": the image is cut off or damaged"),
        (encoded(SMOOTH, "JPEG")[:-30], ": the image is cut off or damaged ("),
        (PNG[:60] + bytes([PNG[60] ^ 1]) + PNG[61:], ": the image is cut off or damaged ("),
        (PNG[:-16] + bytes([PNG[-16] ^ 1]) + PNG[-15:], ": the image is cut off or damaged (broken PNG file"),
        (b"<html>log in</html>", ": this is an HTML page, as a login or error page in the place of a download is"),
        (b"PK\x03\x04" + b"x" * 40, ": this is a ZIP archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", ": this is a pointer of Git LFS"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", ": this is "),
        (encoded(PIXELS[:1, :1]), ": an image of 1×1 pixels has nothing to learn; take it out"),
        (encoded(PIXELS[:, :1]), ": an image of 1×6 pixels"),
        (encoded(FRAMES[0].convert("CMYK"), "JPEG"), ": the colors of a printer (CMYK); convert it: magick a.png"),
        (encoded(Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 257)), ": pixels of more than 8 bits; save it"),
        (encoded(Image.fromarray(PIXELS[:, :, 0].astype(np.float32)), "TIFF"), ": floating-point pixels; save it"),
        (encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]), ": an animation of 2 images"),
        (encoded(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]), ": an animation of 2 images"),
        (encoded(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]), ": an animation of 2 images"),
        (encoded(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:]), ": an animation of 2 images"),
        (encoded(TRANSPARENT), ": has transparent pixels, whose color nobody sees; put it on a background"),
        (encoded(FRAMES[0].quantize(9), transparency=0), ": has transparent pixels"),
        (_png_that_claims(20_000, 20_000), ": too large to be decoded"),
        (_png_that_claims(10_000, 10_000), ": 10,000×10,000 pixels, more than the 67,108,864 that are decoded"),
        (_png_that_claims(0, 5), ": "),
    ],
)  # fmt: skip
def test_an_image_that_cannot_be_learned_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert refusal(tmp_path).startswith(f"D/a.png{words}")


WHOLE = [
    PNG, encoded(SMOOTH, "JPEG", quality=90), GIF, encoded(SMOOTH, "WEBP", lossless=True), encoded(SMOOTH, "TIFF"),
    encoded(SMOOTH, "BMP"), encoded(SMOOTH, "PPM"), encoded(SMOOTH, "TIFF", compression="tiff_deflate"),
]  # fmt: skip


def attempt(content: bytes) -> NDArray[np.uint8] | str:
    """Return the pixels of an image, or the line that refuses it."""
    try:
        return decoded(content, Path("a"), verify=True).pixels
    except UserError as error:
        return str(error)


@settings(max_examples=80)
@given(content=st.sampled_from(WHOLE), data=st.data())
def test_an_image_that_is_cut_at_any_byte_is_refused_or_has_all_its_pixels(content: bytes, data: st.DataObject) -> None:
    found = attempt(content[: data.draw(st.integers(0, len(content) - 1))])
    if isinstance(found, str):
        assert found.startswith("a: ")
        assert "\n" not in found
    else:
        np.testing.assert_array_equal(found, decoded(content, Path("a")).pixels)


@settings(max_examples=80)
@given(content=st.sampled_from(WHOLE), data=st.data(), by=st.integers(1, 255))
def test_an_image_with_a_byte_that_changed_never_ends_in_a_traceback(
    content: bytes, data: st.DataObject, by: int
) -> None:
    at = data.draw(st.integers(0, len(content) - 1))
    found = attempt(content[:at] + bytes([content[at] ^ by]) + content[at + 1 :])
    assert not isinstance(found, str) or "\n" not in found


def test_find_images_reads_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    assert [file.name for file in find_images("D", tmp_path)] == ["a.png"]
