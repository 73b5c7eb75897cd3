"""A directory of images: found in an order of its own, every file checked once, decoded when a sample is asked for.

    DIR/*.png                          images
    DIR/CLASS/*.png                    images of classes, two directories or more
    DIR/metadata.jsonl                 captions: {"file_name": "a/1.png", "text": "…"} for each image below DIR

The form is that of the library datasets (`imagefolder`). Images are in the order of their paths, whatever the file
system's. Nothing but paths, checksums and captions is held in memory. Each file is decoded once before the first step,
so that the last of a million is not met on the last day; files that were checked before are known by their checksums
(in the cache directory). Whenever a file is decoded again its checksum is compared: data that changes under a run is
refused. No torch; Pillow is imported when a file is decoded.
"""

from __future__ import annotations

import hashlib
import io
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.errors import ConfigError, DataError, UserError, did_you_mean
from training.language.messages import Message
from training.storage.file_formats import recognised
from training.storage.json_files import DamagedFileError, read_bytes
from training.tasks.diffusion.transforms import Pixels
from training.tasks.rows.columns import described, listed
from training.tasks.rows.data_file import DataFile, unreadable
from training.tasks.rows.json_rows import read_json_lines
from training.tasks.rows.source import Row
from training.tasks.rows.tables import one_line
from training.tasks.token_store import TokenStoreWriter, cached, key_of

if TYPE_CHECKING:
    from PIL import Image

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
"""Endings of the images' names, in small letters."""
METADATA = "metadata.jsonl"
CAPTION_KEYS = ("text", "caption")
LARGEST_PIXELS = 1 << 26
"""Pixels of the largest image, 8192 by 8192: one that claims more is refused before it is decoded."""
CACHED_FROM = 64 * 2**20
"""Bytes of a directory from which on the result of the check is kept in the cache directory."""
FORM = 1
"""Version of the check: a result of another one is not read."""
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Decoders that a file may ask for; Pillow has others, some of which start programs."""
_SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"})
_NO_DATA = frozenset({"thumbs.db", "desktop.ini", "__macosx", "license", "license.txt"})
"""Files and directories, in small letters, that systems and authors leave among images."""
_LARGEST_FILE = 1 << 30
Condition = str
"""Setting `condition_on`: auto, none, class or caption."""


class ImageFile(NamedTuple):
    """An image of the directory."""

    name: str
    """Path within the directory, with `/` between the parts."""
    class_name: str | None = None
    caption: str | None = None


class Decoded(NamedTuple):
    """A decoded image."""

    pixels: NDArray[np.uint8]
    """(H, W, C) with 1 or 3 channels, upright."""
    has_damaged_exif: bool
    """Its EXIF data cannot be read, so that nobody knows whether it is upright."""


@dataclass(frozen=True)
class _Checked:
    """Result of the check of all files, by the number of the first image of each kind."""

    sizes: Mapping[tuple[int, int, int], tuple[int, int]]
    damaged_exif: int = 0


@dataclass(frozen=True)
class ImageFolder:
    """Images of a directory, all of them checked: `read_image_folder` makes it."""

    name: str
    """Name as the user gave it."""
    directory: Path
    files: Sequence[ImageFile]
    digests: NDArray[np.uint8]
    """Checksum of each file, (N, 16)."""
    checked: _Checked
    class_names: tuple[str, ...] | None
    labels: NDArray[np.int64] | None
    """Class of each image, a place in `class_names`."""
    captions: tuple[str, ...] | None
    notes: tuple[str, ...] = ()
    """Lines for the user about how the data was read."""
    kind: str = field(default=Message("a directory of images"), init=False)

    @property
    def content(self) -> str:
        """Return 32 hex digits that change with any byte of an image, a class or a caption."""
        return key_of("image folder", self.digests.tobytes().hex(), self.class_names,
                      None if self.labels is None else self.labels.tolist(), self.captions)  # fmt: skip

    @property
    def units(self) -> NDArray[np.int64]:
        """Return a number for each image, int64 (N,), which only equal files share."""
        rows = np.ascontiguousarray(self.digests).view(np.dtype((np.void, self.digests.shape[1])))[:, 0]
        return np.unique(rows, return_inverse=True)[1].astype(np.int64)

    @property
    def has_images(self) -> bool:
        """Return True: there is nothing else in such a directory."""
        return True

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def sizes(self) -> Mapping[tuple[int, int, int], tuple[int, int]]:
        """Return {(height, width, channels): (number of images, index of the first)}."""
        return self.checked.sizes

    def place(self, index: int) -> str:
        """Return the path of an image, to begin an error."""
        return str(self.directory / self.files[index].name)

    def pixels(self, index: int) -> Pixels:
        """Decode an image, (H, W, C).

        Raises:
            DataError: the file is gone, or is not the one that was checked.
        """
        path = self.directory / self.files[index].name
        content = _read(path)
        if _digest(content) != self.digests[index].tobytes():
            raise DataError(f"{path}: the image changed since the run began; put the old one back, or start a new run")
        return decoded(content, path).pixels


def read_image_folder(name: str, directory: Path, condition_on: Condition = "auto") -> ImageFolder:
    """Find the images of a directory and check every one.

    Args:
        name: the directory as the user gave it, for errors.
        directory: the directory.
        condition_on: `class` and `caption` demand classes and captions; `none` leaves them aside; `auto` takes what is
            there.

    Raises:
        DataError: a file is no image that can be learned, is missing, or is there without its caption.
        ConfigError: there are no classes or captions.
    """
    files = find_images(name, directory, condition_on)
    names = sorted({file.class_name for file in files if file.class_name is not None})
    class_names = tuple(names) or None
    place = {class_name: number for number, class_name in enumerate(names)}
    labels = np.array([place[str(file.class_name)] for file in files], dtype=np.int64) if class_names else None
    has_captions = files[0].caption is not None
    paths = [directory / file.name for file in files]
    digests, size = _digests(paths)
    checked = _checked(paths, digests, size)
    notes = []
    if checked.damaged_exif:
        note = Message(
            "{count:,} images of {name} have damaged EXIF data and are taken as upright",
            count=checked.damaged_exif, name=name,
        )  # fmt: skip
        notes.append(Message("warning: {message}", message=note))
    return ImageFolder(
        name=name,
        directory=directory,
        files=files,
        digests=np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(len(files), -1),
        checked=checked,
        class_names=class_names,
        labels=labels,
        captions=tuple(str(file.caption) for file in files) if has_captions else None,
        notes=tuple(notes),
    )


# -- the files -----------------------------------------------------------------------------------------------------


def find_images(name: str, directory: Path, condition_on: Condition = "auto") -> list[ImageFile]:
    """Return the images of a directory in the order of their paths, with their classes or captions; no image is read.

    Raises:
        DataError: there are none, or something among them is no image, has no caption, or is named and not there.
        ConfigError: `condition_on` asks for classes or captions that are not there.
    """
    has_metadata = any(path.name == METADATA for path in _entries(directory)[0])
    if condition_on == "caption" and not has_metadata:
        raise ConfigError(
            f"--condition-on caption: there is no {directory / METADATA}; write a line for each image: "
            '{"file_name": "1.png", "text": "…"}'
        )
    if has_metadata and condition_on in ("auto", "caption"):
        return _with_captions(name, directory)
    if condition_on == "none":
        return _without_conditions(name, directory)
    files = _of_classes(name, directory)
    if condition_on == "class" and files[0].class_name is None:
        raise ConfigError(
            f"--condition-on class: the images of {name} lie in one directory; put those of each class into a "
            f"directory of its own: {directory / 'CLASS'}"
        )
    return files


def _without_conditions(name: str, directory: Path) -> list[ImageFile]:
    """Return the images of a directory and of those below it."""
    _refuse_splits(name, _entries(directory)[1])
    found = [ImageFile(path.relative_to(directory).as_posix()) for path in _all_images(directory, None)]
    if not found:
        raise _no_images(name)
    return sorted(found, key=_order)


def _of_classes(name: str, directory: Path) -> list[ImageFile]:
    """Return the images of a directory, or of its directories, which are then the classes."""
    files, folders = _entries(directory)
    images = _only_images(path for path in files if path.name != METADATA)  # left aside: --condition-on class
    if images and folders:
        raise DataError(
            f"{name}: holds images ({images[0].name}) and directories ({folders[0].name}); put all images into it, or "
            "those of each class into a directory of its own"
        )
    if not folders:
        if not images:
            raise _no_images(name)
        return [ImageFile(path.name) for path in images]
    if len(folders) == 1:
        raise DataError(
            f"{name}: holds one directory alone, and classes need two or more; give that one: --datasets {folders[0]}"
        )
    _refuse_splits(name, folders)
    found: list[ImageFile] = []
    for folder in folders:
        inner, deeper = _entries(folder)
        if deeper:
            raise DataError(
                f"{deeper[0]}: a directory within the class {folder.name!r}; a class holds images alone: move them up, "
                "or give the directory above the classes"
            )
        of_class = _only_images(inner)
        if not of_class:
            raise DataError(f"{folder}: the class {folder.name!r} has no image; add some, or delete the directory")
        found += [ImageFile(f"{folder.name}/{path.name}", folder.name) for path in of_class]
    return sorted(found, key=_order)


def _no_images(name: str) -> DataError:
    return DataError(f"{name}: no image in this directory; put there files that end with {_listed_endings()}")


def _refuse_splits(name: str, folders: Sequence[Path]) -> None:
    """Refuse directories called train and test: images to test on would be learned, or the two taken for classes."""
    if folders and all(folder.name.lower() in _SPLITS for folder in folders):
        raise DataError(
            f"{name}: its directories ({listed(folder.name for folder in folders)}) are parts of a data set and no "
            f"classes; give one of them: --datasets {folders[0]}"
        )


def _with_captions(name: str, directory: Path) -> list[ImageFile]:
    """Return the images that `metadata.jsonl` names, if these are all that there are."""
    there = {path.relative_to(directory).as_posix() for path in _all_images(directory, directory / METADATA)}
    file = DataFile(directory / METADATA, "JSON Lines", "line {:,}")
    with file.opened() as opened:
        if opened.read(1024).lstrip().startswith(b"["):
            raise DataError(f"{file.path}: one list of JSON; write each of its objects on a line of its own")
    captions: dict[str, str] = {}
    lines: dict[str, int] = {}
    for row in read_json_lines(file):
        place = file.place(row.number)
        image = _file_name(row, place, directory)
        if image in captions:
            raise DataError(
                f"{place}: {image!r} has a caption in line {lines[image]:,} already; keep one row for each image"
            )
        if image not in there:
            near = did_you_mean(image, there) or "; fetch the image, or take the row out"
            raise DataError(f"{place}: there is no image {image!r} in {name}{near}")
        captions[image], lines[image] = _caption(row, place), row.number
    if without := sorted(there - set(captions)):
        raise DataError(
            f"{directory / without[0]}: an image without a row in {METADATA} ({len(without):,} of {len(there):,} have "
            "none); write their captions, take the images out, or leave all captions aside with --condition-on none"
        )
    return sorted((ImageFile(image, caption=caption) for image, caption in captions.items()), key=_order)


def _file_name(row: Row, place: str, directory: Path) -> str:
    """Return the path of a row's image within the directory."""
    value = row.values.get("file_name")
    if not isinstance(value, str) or not value:
        what = "no 'file_name'" if "file_name" not in row.values else f"'file_name' is {described(value)}"
        raise DataError(f"{place}: {what}; name the image as it is called below {directory}")
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or "\0" in value:
        raise DataError(f"{place}: the path {value!r} leaves {directory}; copy the image there, and name it so")
    return path.as_posix()


def _caption(row: Row, place: str) -> str:
    """Return the caption of a row."""
    keys = [key for key in CAPTION_KEYS if key in row.values]
    if len(keys) != 1:
        both = " and ".join(map(repr, CAPTION_KEYS))
        what = f"has {both}; keep one" if keys else f"no {CAPTION_KEYS[0]!r}; its keys are {listed(row.values)}"
        raise DataError(f"{place}: {what}: the image's caption")
    value = row.values[keys[0]]
    if not isinstance(value, str) or not value.strip():
        raise DataError(
            f"{place}: {keys[0]!r} is {described(value)}, and should be the image's caption; write it, or take the "
            "image and its row out"
        )
    return value


def _all_images(directory: Path, metadata: Path | None) -> Iterable[Path]:
    """Yield the images of a directory and of those below it.

    Args:
        directory: the directory.
        metadata: the file of captions, the only one that may be there; None: such files are left aside.
    """
    waiting = [directory]
    seen: dict[Path, Path] = {}
    while waiting:
        folder = waiting.pop()
        if (before := seen.setdefault(folder.resolve(), folder)) != folder:
            raise DataError(
                f"{folder}: a link to what is {before} already; take it out, or copy what should be there twice"
            )
        files, folders = _entries(folder)
        yield from _only_images(
            path for path in files if path.name != METADATA or (metadata is not None and path != metadata)
        )
        waiting += reversed(folders)


def _entries(directory: Path) -> tuple[list[Path], list[Path]]:
    """Return the files and the directories in a directory, each in the order of their names, without hidden ones."""
    files: list[Path] = []
    folders: list[Path] = []
    try:
        found = [path for path in directory.iterdir() if not path.name.startswith(".")]
        for path in sorted(found, key=lambda path: (unicodedata.normalize("NFC", path.name), path.name)):
            if path.name.lower() not in _NO_DATA and path.suffix.lower() != ".md":
                (folders if path.is_dir() else files).append(path)
    except OSError as error:
        raise DataError(f"{directory}: the directory cannot be read ({error.strerror}); check its rights") from error
    return files, folders


def _only_images(files: Iterable[Path]) -> list[Path]:
    """Return files, if all are images by their names.

    Raises:
        DataError: one is not, so that part of the data would be left out unseen.
    """
    images = []
    for path in files:
        if path.suffix.lower() not in ENDINGS:
            remedy = "take it out"
            if path.suffix.lower() in (".txt", ".caption"):
                remedy = f'captions belong in {METADATA}: {{"file_name": "{path.stem}.png", "text": "…"}}'
            elif path.name == METADATA:
                remedy = f"captions are read from the directory that is given: --datasets {path.parent}"
            elif path.suffix.lower() in (".csv", ".parquet"):
                remedy = f"take it out, or write captions as {METADATA}"
            raise DataError(f"{path}: lies among the images and is none by its name ({_listed_endings()}); {remedy}")
        images.append(path)
    return images


def _listed_endings() -> str:
    return " ".join(sorted(ENDINGS))


def _order(file: ImageFile) -> tuple[str, str]:
    """Return the key by which images are sorted: some systems write an accent as a character of its own."""
    return unicodedata.normalize("NFC", file.name), file.name


# -- the check -----------------------------------------------------------------------------------------------------


def _digests(paths: Sequence[Path]) -> tuple[list[bytes], int]:
    """Return the checksum of each file, and their bytes together."""
    digests: list[bytes] = []
    size = 0
    for path in paths:
        content = _read(path)
        digests.append(_digest(content))
        size += len(content)
    return digests, size


def _checked(paths: Sequence[Path], digests: Sequence[bytes], size: int) -> _Checked:
    """Decode every file once; a large directory that was checked before is known by its checksums."""
    import PIL

    def check() -> _Checked:
        return _check(paths, digests)

    if size < CACHED_FROM:
        return check()

    def make(writer: TokenStoreWriter) -> None:
        found = check()
        writer.facts["sizes"] = [[*shape, *where] for shape, where in found.sizes.items()]
        writer.facts["damaged_exif"] = found.damaged_exif

    content = hashlib.blake2b(b"".join(digests), digest_size=16).hexdigest()
    facts = cached(key_of("images", FORM, PIL.__version__, content), 1, make).facts
    sizes = {(height, width, channels): (count, first) for height, width, channels, count, first in facts["sizes"]}
    return _Checked(sizes, facts["damaged_exif"])


def _check(paths: Sequence[Path], digests: Sequence[bytes]) -> _Checked:
    sizes: dict[tuple[int, int, int], tuple[int, int]] = {}
    damaged_exif = 0
    for index, (path, digest) in enumerate(zip(paths, digests, strict=True)):
        content = _read(path)
        if _digest(content) != digest:
            raise DataError(f"{path}: the image changed while it was read; start again when it is written")
        image = decoded(content, path, verify=True)
        height, width, channels = image.pixels.shape
        count, first = sizes.get((height, width, channels), (0, index))
        sizes[height, width, channels] = (count + 1, first)
        damaged_exif += image.has_damaged_exif
    return _Checked(sizes, damaged_exif)


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, _LARGEST_FILE)
    except DamagedFileError as error:
        raise DataError(f"{path}: {error.reason}; save it as a smaller image") from error
    except FileNotFoundError as error:
        what = "a link that leads nowhere" if path.is_symlink() else "the image is gone"
        raise DataError(f"{path}: {what}; put it back, or take it out and start a new run") from error
    except OSError as error:
        raise unreadable(path, error) from error


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


# -- decoding ------------------------------------------------------------------------------------------------------


def decoded(content: bytes, path: Path, verify: bool = False) -> Decoded:
    """Decode an image, turned upright as its EXIF data says.

    Gray images have one channel. Palettes become colors. An alpha channel is dropped where it hides nothing.

    Args:
        content: bytes of the file.
        path: the file, for errors.
        verify: compare the checksums within the file too, where its format has some (PNG).

    Raises:
        DataError: it is no image of a format that is read, cut off, damaged, animated, transparent, larger than
            `LARGEST_PIXELS`, less than two pixels high or wide, or of other colors than gray and RGB.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings(record=True) as warned:  # about odd metadata; what matters of it is said
            warnings.simplefilter("always")
            if verify:
                with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                    _refuse_size(image, path)
                    image.verify()
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                _refuse_size(image, path)
                _refuse_animation(image, path)
                image.load()
                turn, has_damaged_exif = _orientation(image)
                flat = _without_alpha(image, path)
                pixels = np.asarray(flat if turn is None else flat.transpose(turn))
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise _no_image(content, path) from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise DataError(
            f"{path}: too large to be decoded ({one_line(error)}); make it smaller, or take it out"
        ) from error
    except Exception as error:  # whatever a damaged file makes a decoder stumble over
        raise DataError(
            f"{path}: the image is cut off or damaged ({one_line(error)}); fetch it again, or take it out"
        ) from error
    has_damaged_exif = has_damaged_exif or any("EXIF" in str(warning.message) for warning in warned)
    return Decoded(pixels.reshape(*pixels.shape[:2], -1), has_damaged_exif)


def _no_image(content: bytes, path: Path) -> DataError:
    """Return the error about bytes that no decoder knows."""
    if not content:
        return DataError(f"{path}: the file is empty; fetch it again, or take it out")
    found = recognised(content[: 1 << 16])
    if found is not None and "picture" in found.name:
        return DataError(f"{path}: the image is cut off or damaged; fetch it again, or take it out")
    what = f"{found.name}, and no image" if found is not None else "no image that can be read"
    return DataError(f"{path}: this is {what} ({', '.join(_FORMATS)}); convert it, or take it out")


def _refuse_size(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if width * height > LARGEST_PIXELS:
        raise DataError(
            f"{path}: {width:,}×{height:,} pixels, more than the {LARGEST_PIXELS:,} that are decoded; make it smaller, "
            "or take it out"
        )
    if min(width, height) < 2:
        raise DataError(f"{path}: an image of {width}×{height} pixels has nothing to learn; take it out")


def _refuse_animation(image: Image.Image, path: Path) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a camera's photo with its preview; the first is the photo
        raise DataError(f"{path}: an animation of {frames} images; save the one to learn from, or take it out")


def _orientation(image: Image.Image) -> tuple[Image.Transpose | None, bool]:
    """Return the turn that makes an image upright, and True where its EXIF data cannot be read."""
    from PIL import ExifTags, Image

    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # whatever damaged data makes its parser stumble over; it is counted, and said
        return None, True
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return turns.get(orientation), False


_REFUSED_MODES: Mapping[str, tuple[str, str]] = {
    "CMYK": ("the colors of a printer (CMYK)", "convert it: magick {name} -colorspace sRGB new-{name}"),
    "LAB": ("the colors CIELAB", "convert it: magick {name} -colorspace sRGB new-{name}"),
    "YCbCr": ("the colors YCbCr", "convert it: magick {name} -colorspace sRGB new-{name}"),
    "F": ("floating-point pixels", "save it with 8 bits, or all images as float arrays (.npz)"),
}
_DEEP = ("pixels of more than 8 bits", "save it with 8 bits: magick {name} -depth 8 new-{name}; or all images as .npz")


def _without_alpha(image: Image.Image, path: Path) -> Image.Image:
    """Return an image in the mode L or RGB.

    Raises:
        DataError: it has other colors, or transparent pixels, under which a file may have anything.
    """
    if image.mode in _REFUSED_MODES or image.mode.startswith("I"):
        what, remedy = _REFUSED_MODES.get(image.mode, _DEEP)
        raise DataError(f"{path}: {what}; {remedy.format(name=path.name)}")
    is_gray = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        with_alpha = (
            image.convert("L").convert("LA") if image.mode == "1" else image.convert("LA" if is_gray else "RGBA")
        )
        if with_alpha.getchannel("A").getextrema() != (255, 255):
            raise DataError(
                f"{path}: has transparent pixels, whose color nobody sees; put it on a background: "
                f"magick {path.name} -background white -flatten new-{path.name}"
            )
        image = with_alpha
    return image.convert("L" if is_gray else "RGB")
