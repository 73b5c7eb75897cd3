"""Latents and text embeddings of a data set, computed once and mapped into memory. No torch at import.

The frozen parts of a pipeline give the same numbers for the same image and caption in every epoch, so they run once. A
store is a directory in the cache (`training/storage/cache_directory.py`), in `latents/KEY`:

    latents.bin     mean and standard deviation of each image's latents, of the mirrored image too with random_flip:
                    float32 (N, 1 or 2, 2, c, h, w)
    texts.bin       embeddings of the captions, each once, behind that of the empty caption: float32 (U, T, D)
    captions.bin    row in texts.bin of each image's caption: int64 (N,)
    manifest.json   format, version, shapes, and every file's size and checksum

KEY changes with the images, the captions, the weights of the pipeline's parts and the settings. What is drawn again in
each epoch (mirroring, the noise of the latents) is drawn from the sample's own generator, as all draws of diffusion.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from training.errors import CheckpointError, ConfigError, DataError, UnreadableError, UserError, unreadable
from training.language.messages import Message, say
from training.machine.output import complain
from training.storage.atomic import make_temporary, put_in_place, temporary_of, write_atomically
from training.storage.cache_directory import REMEDY, cache_directory, read_or_make, unwritable
from training.storage.checksums import FileEntry, check_entries, file_entries, is_intact, sealed
from training.storage.disk_refusals import disk_refusals
from training.storage.json_files import DamagedFileError, as_declared, read_json
from training.tasks.diffusion.options import DiffusionOptions
from training.tasks.diffusion.sources import Sample, SampleSource, read_samples

if TYPE_CHECKING:
    from training.models.denoiser import LatentSpace

FORMAT, VERSION = "apt-latents", 1
MANIFEST = "manifest.json"
_WHAT = "the cache of latents"
_AT_ONCE = 4
"""Images or captions of one pass; the same everywhere, so that a store that is made again is the same."""
_SECONDS_BETWEEN_LINES = 30.0


class DamagedLatentsError(DataError):
    """A store of latents is not what was written, or of another version; what is in it is not read."""


@dataclass(frozen=True)
class _Manifest:
    latents: tuple[int, int, int, int, int, int]
    texts: tuple[int, int, int]
    cut: int
    """Number of captions that are longer than the text encoder reads."""
    files: Mapping[str, FileEntry]


class LatentSamples:
    """Latents of a data set's images, with the embeddings of their captions: a `SampleSource`.

    Attributes:
        shape: (channels, height, width) of a latent.
        no_text: embedding (T, D) of the empty caption, which stands for no condition.
    """

    def __init__(
        self, source: SampleSource, directory: Path, manifest: _Manifest, fingerprint: str, introduction: Sequence[str]
    ) -> None:
        self._source, self._directory = source, directory
        self._latents = _mapped(directory / "latents.bin", "<f4", manifest.latents)
        self._texts = _mapped(directory / "texts.bin", "<f4", manifest.texts)
        self._captions = _mapped(directory / "captions.bin", "<i8", (manifest.latents[0],))
        self.shape: tuple[int, ...] = tuple(manifest.latents[3:])
        self.no_text: NDArray[np.float32] = np.array(self._texts[0])
        self.class_names: tuple[str, ...] | None = None
        self.has_captions = True
        self.mean: NDArray[np.float64] | None = None
        self.scale: NDArray[np.float64] | None = None
        self.fingerprint = fingerprint
        self.units: NDArray[np.int64] = source.units
        self.facts: Mapping[str, Any] = {
            **source.facts, "data_fingerprint": fingerprint, "latent_shape": list(self.shape),
            "distinct_captions": manifest.texts[0] - 1,
        }  # fmt: skip
        self.introduction: Sequence[str] = (*source.introduction, *introduction)

    def __len__(self) -> int:
        return len(self._captions)

    def captions(self, count: int) -> list[str]:
        """Return so many captions of the data, each different one in turn; all are empty where none is learned."""
        rows, first = np.unique(self._captions, return_index=True)
        found = [
            "" if row == 0 else str(self._source.sample(int(n), None).caption)
            for row, n in zip(rows, first, strict=True)
        ]
        return [found[number % len(found)] for number in range(count)]

    def sample(self, index: int, draws: np.random.Generator | None) -> Sample:
        """Return the latent of an image, drawn from the distribution that the VAE gives, and its caption's embedding.

        Args:
            index: number of the image.
            draws: source of mirroring and noise; None: no mirroring, and noise that is always the same.
        """
        variants = self._latents[index]
        number = 0
        if draws is None:
            draws = np.random.Generator(np.random.Philox(index))
        elif len(variants) > 1:
            number = int(draws.integers(2))
        mean, deviation = variants[number]
        noise = draws.standard_normal(mean.shape, dtype=np.float32)
        text = np.array(self._texts[self._captions[index]])
        return Sample(np.asarray(mean + deviation * noise, dtype=np.float32), None, None, text)


def read_latents(options: DiffusionOptions, space: LatentSpace) -> LatentSamples:
    """Read the images that the settings name, and return their latents and their captions' embeddings.

    Size and channels that the settings leave open are those that the pipeline was made for.

    Args:
        options: settings of the data.
        space: frozen parts of the pipeline.

    Raises:
        UserError: the data cannot be used, or the pipeline cannot take these images.
    """
    asked: dict[str, Any] = {}
    if options.image_size is None and space.image_size is not None:
        asked["image_size"] = space.image_size
    if options.channels == "auto" and str(space.image_channels) in ("1", "3"):
        asked["channels"] = str(space.image_channels)
    options = options.model_copy(update=asked)
    return latents_of(read_samples(options), space, options)


def latents_of(source: SampleSource, space: LatentSpace, options: DiffusionOptions) -> LatentSamples:
    """Return the latents of a data set and its captions' embeddings, from the cache or computed now.

    Args:
        source: images, with captions unless the options leave them out.
        space: frozen parts of the pipeline.
        options: settings of the data.

    Raises:
        UserError: the pipeline cannot take these images, captions are missing, or the cache cannot be written.
    """
    if options.crop == "random":
        raise ConfigError(
            "crop=random: the latents of a pipeline are computed once, from one part of each image; leave --crop out"
        )
    shape = space.shape(tuple(source.shape))
    has_captions = _asks_for_captions(source, options)
    content = [FORMAT, VERSION, source.fingerprint, space.digest, options.random_flip, has_captions]
    key = hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()
    directory = cache_directory() / "latents" / key

    def read() -> _Manifest:
        return _opened(directory)

    def make() -> None:
        _write(directory, source, space, shape, options.random_flip, has_captions)

    manifest = read_or_make(
        directory, read, make, DamagedLatentsError,
        lambda error: complain(f"warning: {error}; the latents are computed again"), _WHAT,
    )  # fmt: skip
    line = Message(
        "latents {shape} of images {pixels}, {captions:,} captions of up to {tokens} tokens, cached in {directory}",
        shape=_times(manifest.latents[3:]), pixels=_times(source.shape), captions=manifest.texts[0] - 1,
        tokens=manifest.texts[1], directory=directory,
    )  # fmt: skip
    lines = [line, Message("noise   schedule and prediction are those of the pipeline's scheduler")]
    if manifest.cut:
        cut = Message(
            "{count:,} captions have more than {tokens} tokens, and their ends are cut off",
            count=manifest.cut, tokens=manifest.texts[1],
        )  # fmt: skip
        lines.append(Message("warning: {message}", message=cut))
    return LatentSamples(source, directory, manifest, key, lines)


def _times(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))


def _asks_for_captions(source: SampleSource, options: DiffusionOptions) -> bool:
    """Return True if captions are conditions, False if the empty one is for every image.

    Raises:
        DataError: the data has none, or the condition is a class.
    """
    if options.condition_on == "none":
        return False
    if options.condition_on == "class":
        raise ConfigError(
            "condition_on=class: the pipeline reads captions; give the data captions, or --condition-on none"
        )
    if not source.has_captions:
        raise DataError(
            "the data has no captions, and the pipeline reads them: give each image a line in metadata.jsonl "
            '({"file_name": "a.png", "text": "…"}), or --condition-on none to train with the empty caption'
        )
    return True


def _write(
    directory: Path, source: SampleSource, space: LatentSpace, shape: tuple[int, int, int], flips: bool, captions: bool
) -> None:
    """Compute a store and give it its name."""
    count, variants = len(source), 2 if flips else 1
    say(Message("data    computing the latents of {count:,} images, once", count=count))
    texts = {"": 0}
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(directory.parent, error, _WHAT) from error
    with disk_refusals(directory, _WHAT, f"make room there, or {REMEDY}"):
        temporary = make_temporary(directory)
        rows = np.zeros(count, dtype="<i8")
        said = time.monotonic()
        with (temporary / "latents.bin").open("xb") as file:
            for start in range(0, count, _AT_ONCE):
                samples = [source.sample(number, None) for number in range(start, min(start + _AT_ONCE, count))]
                images = np.stack([sample.values for sample in samples])
                both = [images, images[..., ::-1]][:variants]
                encoded = np.stack([_encoded(space, one) for one in both], axis=1)
                if not np.isfinite(encoded).all():
                    raise DataError(f"samples {start} to {start + len(samples) - 1}: the VAE's latents are not finite")
                file.write(encoded.astype("<f4").tobytes())
                for offset, sample in enumerate(samples if captions else ()):
                    rows[start + offset] = texts.setdefault(_caption_of(sample, start + offset), len(texts))
                if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
                    said = time.monotonic()
                    say(
                        Message(
                            "data    latents of {done:,} of {count:,} images", done=start + len(samples), count=count
                        )
                    )
        length, width = _write_texts(temporary / "texts.bin", list(texts), space)
        (temporary / "captions.bin").write_bytes(rows.tobytes())
        files = {name: asdict(entry) for name, entry in file_entries(temporary).items()}
        document = {
            "format": FORMAT, "version": VERSION, "latents": [count, variants, 2, *shape],
            "texts": [len(texts), length, width], "cut": space.num_cut(list(texts)), "files": files,
        }  # fmt: skip
        write_atomically(temporary / MANIFEST, sealed(document), durable=True)
        put_in_place(temporary_of(directory), directory)


def _encoded(space: LatentSpace, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return mean and standard deviation of the latents of images, (N, 2, c, h, w)."""
    import torch

    mean, deviation = space.encode(torch.from_numpy(np.ascontiguousarray(images)))
    return cast(NDArray[np.float32], torch.stack([mean, deviation], dim=1).numpy())


def _write_texts(file: Path, captions: Sequence[str], space: LatentSpace) -> tuple[int, int]:
    """Write the embeddings of captions; return how many tokens and numbers each has."""
    with file.open("xb") as opened:
        for start in range(0, len(captions), _AT_ONCE):
            embedded = space.embed(captions[start : start + _AT_ONCE]).numpy()
            opened.write(embedded.astype("<f4").tobytes())
    _, length, width = embedded.shape
    return length, width


def _caption_of(sample: Sample, number: int) -> str:
    if sample.caption is None:
        raise DataError(f"sample {number}: no caption, and the pipeline reads them; give each image one")
    return sample.caption


def _opened(directory: Path) -> _Manifest:
    """Read the manifest of a store, and compare all of the store with its checksums.

    Raises:
        FileNotFoundError: there is none.
        DamagedLatentsError: it is not what was written, or of another version.
        UserError: the system refuses to read a file.
    """
    path = directory / MANIFEST
    try:
        document = read_json(path)
        if not isinstance(document, dict) or not is_intact(document):
            raise DamagedLatentsError(f"{path}: damaged, it does not match its own checksum")
        if (document.get("format"), document.get("version")) != (FORMAT, VERSION):
            raise DamagedLatentsError(f"{path}: version {document.get('version')!r}; this program reads {VERSION}")
        manifest = as_declared(document, _Manifest, path)
        check_entries(directory, manifest.files, MANIFEST)
    except (FileNotFoundError, NotADirectoryError) as error:
        if directory.exists():
            raise DamagedLatentsError(f"{path} is missing") from error
        raise FileNotFoundError(str(directory)) from error
    except UnreadableError as error:
        raise UserError(f"{error}; or {REMEDY}") from error
    except (DamagedFileError, CheckpointError) as error:
        raise DamagedLatentsError(str(error)) from error
    except OSError as error:
        raise UserError(f"{unreadable(path, error)}; or {REMEDY}") from error
    return manifest


def _mapped(path: Path, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=shape))
