"""Training data of the task diffusion: found by name, read with the settings, split into two parts. No torch.

A source gives samples by number. Whatever is random in a sample comes from the generator that it is asked with, so a
sample is a pure function of (data, settings, number, generator), in whatever order and by whichever rank it is asked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from training.errors import ConfigError, DataError, did_you_mean
from training.language.messages import Message
from training.storage.user_paths import user_path
from training.tasks.batch_plan import mix, shuffled
from training.tasks.diffusion.arrays import ENDINGS, ArraySamples, read_arrays
from training.tasks.diffusion.built_in_sets import BUILT_IN_SETS, built_in_set, is_built_in
from training.tasks.diffusion.image_folder import ImageFolder, read_image_folder
from training.tasks.diffusion.transforms import Framing, Pixels, to_values, with_channels

KEPT_BYTES = 256 * 2**20
"""Bytes of decoded images that a source keeps, so that a small directory is not decoded again in each epoch."""
_VALIDATION = 3
"""Number of the draw that splits, the same as for texts: it differs from those of `BatchPlan`."""
_SHOWN_CLASSES = 8


class DataOptions(Protocol):
    """The settings of `DiffusionOptions` that are read here."""

    @property
    def datasets(self) -> tuple[str, ...]:
        """Name of the data: a built-in set, a directory or a file."""
        ...

    @property
    def image_size(self) -> int | None:
        """Height and width of the images; None: the data's own."""
        ...

    @property
    def crop(self) -> Literal["center", "random"]:
        """Place of the square that is taken of an image."""
        ...

    @property
    def random_flip(self) -> bool:
        """Mirror half of the draws."""
        ...

    @property
    def channels(self) -> Literal["auto", "1", "3"]:
        """Number of channels; auto: the data's own."""
        ...

    @property
    def condition_on(self) -> Literal["auto", "none", "class", "caption"]:
        """Conditions that samples come with; auto: those that are there."""
        ...


@dataclass(frozen=True)
class Sample:
    """One sample, as the network learns it."""

    values: NDArray[np.float32]
    """Image (C, H, W) in [-1, 1], or standardized vector (D,)."""
    label: int | None = None
    """Class, a place in the source's `class_names`."""
    caption: str | None = None
    text: NDArray[np.float32] | None = None
    """Embedding of the caption, (T, D), where a pipeline's text encoder has read it."""


class SampleSource(Protocol):
    """Samples by number."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a sample: (C, H, W) or (D,)."""
        ...

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes; None: there are none."""
        ...

    @property
    def has_captions(self) -> bool:
        """Every sample has a caption."""
        ...

    @property
    def fingerprint(self) -> str:
        """Return 32 hex digits that change with any byte of the data and with any setting that changes a sample."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """Plain description of the data for the report."""
        ...

    @property
    def introduction(self) -> Sequence[str]:
        """Lines about the data for the user."""
        ...

    @property
    def mean(self) -> NDArray[np.float64] | None:
        """Mean of the vectors, (D,): drawn ones are multiplied by `scale`, then it is added. None for images."""
        ...

    @property
    def scale(self) -> NDArray[np.float64] | None:
        """Standard deviation of the vectors, (D,); None for images."""
        ...

    @property
    def units(self) -> NDArray[np.int64]:
        """Number for each sample, int64 (N,), that equal samples share: they stay on one side of a split."""
        ...

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def sample(self, index: int, draws: np.random.Generator | None) -> Sample:
        """Return a sample.

        Args:
            index: its number, from 0.
            draws: generator of the crop and the flip; None: no random crop and no flip, as for validation.

        Raises:
            DataError: its file is gone, or changed since the run began.
        """
        ...


# -- sources -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ImageSource:
    """Images of a directory or an array, framed and with the channels that the settings ask for."""

    data: ImageFolder | ArraySamples
    framing: Framing
    channels: int
    class_names: tuple[str, ...] | None
    has_captions: bool
    notes: tuple[str, ...] = ()
    mean: None = field(default=None, init=False)
    scale: None = field(default=None, init=False)
    _kept: dict[int, Pixels] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """See `SampleSource.shape`."""
        height, width, _ = next(iter(self.data.sizes()))
        size = self.framing.size
        return (self.channels, size or height, size or width)

    @cached_property
    def fingerprint(self) -> str:
        """See `SampleSource.fingerprint`."""
        framing = self.framing
        return _hash("images", self.data.content, framing.size, framing.crop, framing.flip, self.channels,
                     self.class_names is not None, self.has_captions)  # fmt: skip

    @property
    def facts(self) -> Mapping[str, Any]:
        """See `SampleSource.facts`."""
        return _facts(self, self.data)

    @property
    def introduction(self) -> Sequence[str]:
        """See `SampleSource.introduction`."""
        channels, height, width = self.shape
        line = Message(
            "data    {count:,} images of {width}×{height} pixels, {colors}: {name}, {kind}",
            count=len(self),
            width=width,
            height=height,
            colors=Message("gray") if channels == 1 else Message("RGB"),
            name=self.data.name,
            kind=self.data.kind,
        )
        return [line, *_lines_of_conditions(self), *self.data.notes, *self.notes]

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """See `SampleSource.units`."""
        return self.data.units

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.data)

    def sample(self, index: int, draws: np.random.Generator | None) -> Sample:
        """See `SampleSource.sample`."""
        if draws is None or self.framing.crop == "center":
            pixels = self._centered(index)
        else:
            pixels = with_channels(self.framing.drawn(self.data.pixels(index), draws), self.channels)
        return Sample(
            to_values(self.framing.flipped(pixels, draws)),
            int(self.data.labels[index]) if self.class_names is not None and self.data.labels is not None else None,
            self.data.captions[index] if self.has_captions and self.data.captions is not None else None,
        )

    def _centered(self, index: int) -> Pixels:
        pixels = self._kept.get(index)
        if pixels is None:
            pixels = with_channels(self.framing.centered(self.data.pixels(index)), self.channels)
            if (len(self._kept) + 1) * pixels.nbytes <= KEPT_BYTES:
                self._kept[index] = np.ascontiguousarray(pixels)
        return pixels


@dataclass(frozen=True)
class VectorSource:
    """Vectors, each number with mean 0 and standard deviation 1 over the data."""

    data: ArraySamples
    class_names: tuple[str, ...] | None
    has_captions: bool

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """See `SampleSource.mean`; over training and validation samples together."""
        mean: NDArray[np.float64] = self.data.values.mean(axis=0)
        return mean

    @cached_property
    def scale(self) -> NDArray[np.float64]:
        """See `SampleSource.scale`; 1 for a number that is the same in all samples."""
        deviation: NDArray[np.float64] = self.data.values.std(axis=0)
        return np.where(np.ptp(self.data.values, axis=0) > 0, deviation, 1.0)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """See `SampleSource.shape`."""
        return (self.data.values.shape[1],)

    @cached_property
    def fingerprint(self) -> str:
        """See `SampleSource.fingerprint`."""
        return _hash("vectors", self.data.content, self.class_names is not None, self.has_captions)

    @property
    def facts(self) -> Mapping[str, Any]:
        """See `SampleSource.facts`."""
        return {**_facts(self, self.data), "mean": self.mean.tolist(), "scale": self.scale.tolist()}

    @property
    def introduction(self) -> Sequence[str]:
        """See `SampleSource.introduction`."""
        line = Message(
            "data    {count:,} vectors of {length:,} numbers, each taken to mean 0 and deviation 1: {name}, {kind}",
            count=len(self), length=self.shape[0], name=self.data.name, kind=self.data.kind,
        )  # fmt: skip
        constant = int((np.ptp(self.data.values, axis=0) == 0).sum())
        notes = list(self.data.notes)
        if constant:
            note = Message("{count:,} numbers of the vectors are the same in all samples", count=constant)
            notes.append(Message("warning: {message}", message=note))
        return [line, *_lines_of_conditions(self), *notes]

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """See `SampleSource.units`."""
        return self.data.units

    @cached_property
    def _standardized(self) -> NDArray[np.float32]:
        """All vectors as the network learns them, computed once and not in each update."""
        values: NDArray[np.float32] = ((self.data.values - self.mean) / self.scale).astype(np.float32)
        values.setflags(write=False)
        return values

    def __len__(self) -> int:
        """Return the number of vectors."""
        return len(self.data)

    def sample(self, index: int, draws: np.random.Generator | None) -> Sample:
        """See `SampleSource.sample`; nothing is random in a vector."""
        return Sample(
            self._standardized[index],
            int(self.data.labels[index]) if self.class_names is not None and self.data.labels is not None else None,
            self.data.captions[index] if self.has_captions and self.data.captions is not None else None,
        )


@dataclass(frozen=True)
class SubsetSource:
    """Some samples of a source, numbered from 0."""

    base: SampleSource
    indices: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """See `SampleSource.shape`."""
        return self.base.shape

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """See `SampleSource.class_names`."""
        return self.base.class_names

    @property
    def has_captions(self) -> bool:
        """See `SampleSource.has_captions`."""
        return self.base.has_captions

    @cached_property
    def fingerprint(self) -> str:
        """See `SampleSource.fingerprint`."""
        return _hash("subset", self.base.fingerprint, hashlib.blake2b(self.indices.tobytes()).hexdigest())

    @property
    def facts(self) -> Mapping[str, Any]:
        """See `SampleSource.facts`."""
        return {**self.base.facts, "samples": len(self)}

    @property
    def introduction(self) -> Sequence[str]:
        """See `SampleSource.introduction`: the lines of the whole source."""
        return self.base.introduction

    @property
    def mean(self) -> NDArray[np.float64] | None:
        """See `SampleSource.mean`."""
        return self.base.mean

    @property
    def scale(self) -> NDArray[np.float64] | None:
        """See `SampleSource.scale`."""
        return self.base.scale

    @property
    def units(self) -> NDArray[np.int64]:
        """See `SampleSource.units`."""
        return self.base.units[self.indices]

    def __len__(self) -> int:
        """Return the number of chosen samples."""
        return len(self.indices)

    def sample(self, index: int, draws: np.random.Generator | None) -> Sample:
        """See `SampleSource.sample`."""
        return self.base.sample(int(self.indices[index]), draws)


# -- reading -------------------------------------------------------------------------------------------------------


def read_samples(options: DataOptions) -> SampleSource:
    """Find the data that the settings name, and check all of it.

    Args:
        options: settings of the data. The data is the same for any seed of a run.

    Raises:
        DataError: the data is not there or cannot be learned; one line names the file, the fault and the remedy.
        ConfigError: a setting does not go with the data.
    """
    if not options.datasets:
        raise ConfigError(
            f"--task diffusion needs data: give --datasets DIR, a file ({', '.join(ENDINGS)}), or one of the built-in "
            f"sets {', '.join(BUILT_IN_SETS)}"
        )
    if len(options.datasets) > 1:
        raise ConfigError(
            f"--datasets {' '.join(options.datasets)}: a diffusion run learns one set of samples; put all images into "
            "one directory, or all arrays into one file"
        )
    data = _found(options.datasets[0], options.condition_on)
    class_names, has_captions = _conditions(data, options.condition_on)
    if isinstance(data, ArraySamples) and not data.has_images:
        _refuse_settings_of_images(data, options)
        return VectorSource(data, class_names, has_captions)
    framing = Framing(options.image_size, options.crop, options.random_flip)
    return _images(data, framing, str(options.channels), class_names, has_captions)


def data_files(datasets: Sequence[str]) -> list[Path]:
    """Return the files and directories among names of data, so that they can be copied to another machine.

    Raises:
        DataError: one is not there.
    """
    return [_path(name) for name in datasets if not is_built_in(name)]


def with_data_files(datasets: Sequence[str], files: Sequence[str]) -> tuple[str, ...]:
    """Return the names of data with other paths for the files, in the order of `data_files`."""
    left = iter(files)
    return tuple(name if is_built_in(name) else next(left) for name in datasets)


def _found(name: str, condition_on: str) -> ImageFolder | ArraySamples:
    if is_built_in(name):
        data = built_in_set(name)
        if not Path(name).exists():
            return data
        note = Message("{name} is the built-in set; what lies here under this name is ./{name}", name=name)
        return replace(data, notes=(*data.notes, note))
    path = _path(name)
    return read_image_folder(name, path, condition_on) if path.is_dir() else read_arrays(name, path)


def _path(name: str) -> Path:
    """Return the directory or the file of arrays that a name means.

    Raises:
        DataError: there is none, or nothing reads such a file.
    """
    try:
        path = user_path(name)
        is_directory, is_there = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:
        raise DataError(f"--datasets {name}: {getattr(error, 'strerror', None) or error}") from error
    if is_directory:
        return path
    sets = f"{', '.join(BUILT_IN_SETS)} are built in"
    if not is_there:
        near = did_you_mean(name, BUILT_IN_SETS) or "; check the path"
        raise DataError(f"--datasets {name}: no such directory or file, and no built-in set ({sets}){near}")
    if not path.is_file():
        raise DataError(f"--datasets {name}: a pipe or a device; give a directory of images, or a file of arrays")
    if path.suffix.lower() not in ENDINGS:
        raise DataError(
            f"--datasets {name}: nothing reads such a file here; give a directory of images, or a file of arrays that "
            f"ends with {', '.join(ENDINGS)} ({sets})"
        )
    return path


def _conditions(data: ImageFolder | ArraySamples, condition_on: str) -> tuple[tuple[str, ...] | None, bool]:
    """Return the names of the classes and whether there are captions, as far as the settings want them."""
    if condition_on == "class" and data.class_names is None:
        raise ConfigError(
            f"--condition-on class: {data.name} has no classes; give data with an array 'labels', or a directory for "
            "each class"
        )
    if condition_on == "caption" and data.captions is None:
        raise ConfigError(
            f"--condition-on caption: {data.name} has no captions; give a directory of images with metadata.jsonl"
        )
    return (
        data.class_names if condition_on in ("auto", "class") else None,
        data.captions is not None and condition_on in ("auto", "caption"),
    )


def _refuse_settings_of_images(data: ArraySamples, options: DataOptions) -> None:
    """Refuse settings that would do nothing to vectors."""
    for flag, is_set in (
        ("--image-size", options.image_size is not None),
        ("--crop random", options.crop == "random"),
        ("--random-flip", options.random_flip),
        (f"--channels {options.channels}", options.channels != "auto"),
    ):
        if is_set:
            raise ConfigError(
                f"{flag}: {data.name} holds vectors of {data.values.shape[1]:,} numbers and no images; leave it out"
            )


def _images(
    data: ImageFolder | ArraySamples,
    framing: Framing,
    asked_channels: str,
    class_names: tuple[str, ...] | None,
    has_captions: bool,
) -> ImageSource:
    """Return images as the settings ask for them, and lines about what they change."""
    sizes = data.sizes()
    size = framing.size
    if size is None:
        if framing.crop == "random":
            raise ConfigError("--crop random crops images to image_size; give --image-size N, or leave it out")
        _refuse_several_sizes(data)
    found = sorted({channels for _, _, channels in sizes})
    channels = found[-1] if asked_channels == "auto" else int(asked_channels)
    notes: list[str] = []
    for kind in found:
        count = sum(number for (_, _, one), (number, _) in sizes.items() if one == kind)
        if kind < channels:
            notes.append(Message("{count:,} images are gray, and get three equal channels", count=count))
        elif kind > channels:
            notes.append(Message("{count:,} images have colors, and become gray", count=count))
    if size is not None and (small := sum(n for (h, w, _), (n, _) in sizes.items() if min(h, w) < size)):
        note = Message("{count:,} images are smaller than image_size={size} and are enlarged", count=small, size=size)
        notes.append(Message("warning: {message}", message=note))
    return ImageSource(data, framing, channels, class_names, has_captions, tuple(notes))


def _refuse_several_sizes(data: ImageFolder | ArraySamples) -> None:
    by_size: dict[tuple[int, int], tuple[int, int]] = {}
    for (height, width, _), (count, first) in data.sizes().items():
        before = by_size.get((width, height), (0, first))
        by_size[width, height] = (before[0] + count, min(before[1], first))
    if len(by_size) > 1:
        (usual, _), *others = sorted(by_size.items(), key=lambda one: (-one[1][0], one[1][1]))
        other, (_, first) = min(others, key=lambda one: one[1][1])
        least = min(min(size) for size in by_size)
        raise DataError(
            f"{data.place(first)}: {other[0]}×{other[1]} pixels, and most images of {data.name} have "
            f"{usual[0]}×{usual[1]}; give the size to learn, such as --image-size {least}"
        )


def _facts(source: SampleSource, data: ImageFolder | ArraySamples) -> dict[str, Any]:
    return {
        "data": Path(data.name).name,  # without its directory, which is nobody's business
        "kind": data.kind,
        "samples": len(source),
        "shape": list(source.shape),
        "classes": None if source.class_names is None else len(source.class_names),
        "captions": source.has_captions,
        "data_fingerprint": source.fingerprint,
    }


def _lines_of_conditions(source: SampleSource) -> list[str]:
    lines: list[str] = []
    if names := source.class_names:
        shown = Message.joined(", ", names[:_SHOWN_CLASSES])
        if len(names) > _SHOWN_CLASSES:
            shown = Message.joined(", ", [shown, Message("and {count:,} more", count=len(names) - _SHOWN_CLASSES)])
        lines.append(Message("classes {count:,}: {names}", count=len(names), names=shown))
    if copies := len(source) - len(np.unique(source.units)):
        note = Message("{count:,} samples are copies of others; none is held back from its copies", count=copies)
        lines.append(Message("warning: {message}", message=note))
    return lines


def _hash(*parts: object) -> str:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


# -- the split -----------------------------------------------------------------------------------------------------


def split(source: SampleSource, share: float, seed: int) -> tuple[SampleSource, SampleSource | None]:
    """Split off a share of the samples for validation; equal samples stay together.

    Args:
        source: all samples.
        share: share to hold back, 0 to below 1.
        seed: seed of the choice, which depends on nothing else.

    Returns:
        Training and validation samples, each in the order of the source; no validation samples for the share 0.

    Raises:
        DataError: one side would be empty.
    """
    if share <= 0.0:
        return source, None
    units = source.units
    names = np.unique(units)
    chosen = names[shuffled(len(names), mix(seed, _VALIDATION))[: max(1, round(len(names) * share))]]
    held = np.isin(units, chosen)
    if held.all() or not held.any():
        raise DataError(
            f"validation_split={share:g} of {len(source):,} samples leaves one side empty; choose another share"
        )
    return SubsetSource(source, np.flatnonzero(~held)), SubsetSource(source, np.flatnonzero(held))
