"""Samples drawn from a trained denoiser, and pictures of them: grids of images, plots of vectors, films.

The noise of a sample is a function of the seed and of the sample's number: how many are drawn at a time changes none of
them, and the first four of 64 are the four that are drawn alone.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.diffusion.noise_schedules import NoiseSchedule
from training.errors import ConfigError
from training.models.denoiser import LABELS, TEXT, DenoiserFamily, LatentSpace
from training.tasks.batch_plan import mix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image
    from torch import Tensor, nn

AT_ONCE = 256
"""Samples that are drawn together, unless the caller says otherwise."""
MOST_FRAMES = 60
"""Frames of a film; of more steps, so many are shown, evenly chosen."""
FRAME_MILLISECONDS, LAST_MILLISECONDS = 70, 2500
"""Time that a frame of a film is shown, and the last one."""
CELL = 64
"""Pixels of an image's longer side in a grid, at least: smaller images are enlarged by a whole factor."""
GAP = 2
"""Pixels between two images of a grid."""
GROUND = (36, 40, 52)
"""Colour between the images of a grid."""
MOST_SIDE = 8192
"""Pixels of a grid's longer side, at most."""
LIMITS = (0.05, 0.95)
"""Quantiles of the points that the axes are made for: one sample far off must not hide the shape of the others."""
POINTS = 2000
"""Training vectors that are plotted beside the drawn ones."""
_START = 0
"""Number of the draw of a sample's first noise; its step n draws with n + 1."""

AT_ONCE_OF_PIPELINES = 4
"""Samples that a pipeline draws together, at most: their latents and their attention take much memory."""

Values = NDArray[np.float32]
"""Samples, (N, C, H, W) in [-1, 1], or vectors (N, D)."""


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn.

    Attributes:
        sampler: one of `training.diffusion.samplers.SAMPLERS`.
        steps: number of its steps.
        guidance: classifier-free guidance; 1: none.
        seed: of all noise.
        spacing: of the noise levels, `training.diffusion.noise_schedules.SPACINGS`; None: the schedule's own.
    """

    sampler: str = "ddim"
    steps: int = 50
    guidance: float = 1.0
    seed: int = 0
    spacing: str | None = None


@dataclass(frozen=True)
class Prompts:
    """Texts for which a network draws, and the frozen parts that read them and make images of its latents."""

    texts: Sequence[str]
    """A text for each sample."""
    space: LatentSpace

    def images(self, latents: Values) -> Values:
        """Return the images of latents."""
        import torch

        images: Values = self.space.decode(torch.from_numpy(latents)).numpy()
        return images


@dataclass(frozen=True)
class Drawn:
    """Samples, and the way on which they came."""

    values: Values
    """Samples in the data's own units: images in [-1, 1], vectors as in their file."""
    frames: Sequence[Values] = ()
    """The samples on their way from noise, scaled to the variance that noise and data have; the last one is `values`.
    Empty where no film was asked for."""


def draw_samples(
    model: nn.Module,
    family: DenoiserFamily,
    diffusion: Mapping[str, Any],
    how: Sampling,
    labels: Sequence[int | None],
    *,
    at_once: int = AT_ONCE,
    with_frames: bool = False,
    prompts: Prompts | None = None,
) -> Drawn:
    """Draw samples from a network, on its device and in fp32.

    Args:
        model: the network in eval mode.
        family: its model family.
        diffusion: the artefact `training.models.denoiser.DIFFUSION` of its run.
        how: sampler, steps, guidance and seed.
        labels: class of each sample; None: no class.
        at_once: samples that are drawn together; it changes the memory needed, and none of the noise.
        with_frames: keep the samples of the steps too.
        prompts: text of each sample, for a network that reads texts and latents; None: it reads neither.

    Raises:
        ConfigError: the sampler, the number of steps or the guidance does not fit the network.
    """
    import torch

    from training.diffusion.predictions import Prediction

    schedule = NoiseSchedule.from_dict(diffusion["schedule"])
    prediction = Prediction.from_dict(diffusion["prediction"])
    refuse_guidance_without_classes(diffusion, how.guidance)
    sigmas = schedule.sampling_sigmas(how.steps, how.spacing)
    device = next(model.parameters()).device
    kept = _kept_steps(len(sigmas) - 1) if with_frames else []
    at_once = at_once if prompts is None else min(at_once, AT_ONCE_OF_PIPELINES)
    found: list[list[Values]] = [[] for _ in range(len(kept) + 1)]
    with torch.no_grad():
        for begin in range(0, len(labels), at_once):
            numbers = range(begin, min(begin + at_once, len(labels)))
            parts = _draw_batch(
                model, family, diffusion, schedule, prediction, how, sigmas, [labels[n] for n in numbers], numbers,
                device, kept, prompts,
            )  # fmt: skip
            for part, values in zip(found, parts, strict=True):
                part.append(values)
    *frames, values = [np.concatenate(part) for part in found]
    if prompts is not None:
        *frames, values = map(prompts.images, (*frames, values))
    whole = in_units(values, diffusion)
    return Drawn(whole, [*(in_units(frame, diffusion) for frame in frames), whole] if with_frames else ())


def _draw_batch(
    model: nn.Module,
    family: DenoiserFamily,
    diffusion: Mapping[str, Any],
    schedule: NoiseSchedule,
    prediction: Any,
    how: Sampling,
    sigmas: NDArray[np.float64],
    labels: Sequence[int | None],
    numbers: range,
    device: Any,
    kept: Sequence[int],
    prompts: Prompts | None,
) -> list[Values]:
    """Draw some of the samples; return them after each of the steps `kept`, and at the end."""
    import torch

    from training.diffusion.denoiser import Denoiser
    from training.diffusion.samplers import draw

    num_classes = len(diffusion["class_names"] or ())
    conditions = unconditional = None
    if num_classes:
        chosen = [num_classes if label is None else label for label in labels]
        conditions = {LABELS: torch.tensor(chosen, device=device)}
        unconditional = {LABELS: torch.full((len(labels),), num_classes, device=device)}
    if prompts is not None:
        conditions, unconditional = (
            {TEXT: prompts.space.embed(texts).to(device)}
            for texts in ([prompts.texts[n] for n in numbers], [""] * len(numbers))
        )

    def network(sample: Tensor, time: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        return family.denoise(model, sample, time, given)

    shape = tuple(diffusion["shape"])
    denoiser = Denoiser(network, schedule, prediction, conditions, unconditional, how.guidance)
    frames: list[Values] = []

    def keep(done: int, x: Tensor) -> None:
        if done in kept:
            sigma = float(sigmas[done])
            frames.append(_on_host(x / math.sqrt(1.0 + sigma**2)))

    def noise(draw_number: int) -> Tensor:
        return noise_of(how.seed, numbers, draw_number, shape).to(device)

    start = noise(_START)
    if kept:  # of the noise too: its first sigma scales it to the variance that the samples have there
        frames.append(_on_host(start))
    drawn = draw(denoiser, start, sigmas, how.sampler, lambda step: noise(step + 1), keep)
    return [*frames, _on_host(drawn)]


def noise_of(seed: int, numbers: Sequence[int], draw_number: int, shape: Sequence[int]) -> Tensor:
    """Return noise of unit variance, (N, *shape), float32 on the CPU.

    Args:
        seed: of all samples.
        numbers: number of each sample.
        draw_number: which of a sample's draws it is.
        shape: of one sample.
    """
    import torch

    generator = torch.Generator()
    rows = []
    for number in numbers:
        generator.manual_seed(mix(seed, number, draw_number) >> 1)
        rows.append(torch.randn(tuple(shape), generator=generator))
    return torch.stack(rows)


def _kept_steps(steps: int) -> list[int]:
    """Return the steps whose samples a film shows, from the noise (0) on and without the last one."""
    count = min(steps, MOST_FRAMES)
    return [round(n * steps / count) for n in range(count)]


def _on_host(x: Tensor) -> Values:
    values: Values = x.detach().float().cpu().numpy()
    return values


def in_units(values: Values, diffusion: Mapping[str, Any]) -> Values:
    """Return vectors in the units of their file; images stay as they are."""
    if diffusion.get("scale") is None:
        return values
    whole = values * np.asarray(diffusion["scale"], np.float64) + np.asarray(diffusion["mean"], np.float64)
    return whole.astype(np.float32)


def refuse_guidance_without_classes(diffusion: Mapping[str, Any], guidance: float) -> None:
    """Refuse to guide a network that has not learned what guidance needs.

    Raises:
        ConfigError: guidance is not 1, and the network knows no class, or has learned no sample without its class.
    """
    if guidance == 1.0:
        return
    if not diffusion["class_names"] and not diffusion.get("reads_text"):
        raise ConfigError(
            f"guidance {guidance:g}: this model was trained without classes, so there is nothing to guide it to; leave "
            "guidance out, or train with classes (--condition-on class)"
        )
    if diffusion.get("condition_dropout") == 0.0:
        raise ConfigError(
            f"guidance {guidance:g}: this model has learned no sample without its class (condition_dropout was 0), and "
            "guidance needs both; leave guidance out, or train with --condition-dropout 0.1"
        )


# -- pictures ------------------------------------------------------------------------------------------------------


def labels_in_turn(count: int, num_classes: int) -> list[int | None]:
    """Return classes for so many samples, as equally often as they go, each class's together; None without classes."""
    return [*sorted(n % num_classes for n in range(count))] if num_classes else [None] * count


def columns_for(labels: Sequence[int | None]) -> int:
    """Return the number of columns of a grid: a row for each class if the classes have one length, else a square."""
    count, classes = len(labels), len(set(labels))
    if classes > 1 and count % classes == 0 and 2 <= count // classes <= 24 and labels == sorted(labels, key=str):
        return count // classes
    return max(1, math.ceil(math.sqrt(count)))


def picture_of(
    values: Values, labels: Sequence[int | None], class_names: Sequence[str] | None, real: Values | None = None
) -> bytes:
    """Draw samples as one PNG: images as a grid, vectors as points.

    Args:
        values: the samples.
        labels: class of each; points of one class have one colour.
        class_names: names of the classes, for the legend of points.
        real: training vectors, which are drawn in grey below.
    """
    if values.ndim == 4:
        return _png(grid_of(values, columns_for(labels)))
    figure = _plot([values], labels, class_names, real)
    return _png(next(_frames_of(figure, [values], labels)))


def film_of(frames: Sequence[Values], labels: Sequence[int | None], class_names: Sequence[str] | None) -> bytes:
    """Draw the way of samples from noise as an animated GIF; the last frame stays for a while.

    Args:
        frames: samples after each step.
        labels: class of each sample.
        class_names: names of the classes, for the legend of points.
    """
    if frames[0].ndim == 4:
        columns = columns_for(labels)
        images: Iterator[Image] = (grid_of(frame, columns) for frame in frames)
    else:
        images = _frames_of(_plot(frames[-1:], labels, class_names, None), frames, labels)
    first, *others = [image.quantize(256) for image in images]
    buffer = io.BytesIO()
    durations = [FRAME_MILLISECONDS] * len(others) + [LAST_MILLISECONDS]
    first.save(buffer, format="GIF", save_all=True, append_images=others, duration=durations, loop=0)
    return buffer.getvalue()


def pixels_of(values: Values) -> NDArray[np.uint8]:
    """Return images (N, H, W, C) of bytes from values (N, C, H, W) in [-1, 1]; what is outside is cut off."""
    finite = np.nan_to_num(values, nan=-1.0, posinf=1.0, neginf=-1.0)
    scaled = np.clip((finite + 1.0) * 127.5, 0.0, 255.0)
    return np.ascontiguousarray(np.rint(scaled).astype(np.uint8).transpose(0, 2, 3, 1))


def grid_of(values: Values, columns: int) -> Image:
    """Return images side by side, row by row; small ones are enlarged by a whole factor.

    Raises:
        ConfigError: the grid would be larger than a picture viewer opens.
    """
    from PIL import Image

    pixels = pixels_of(values)
    count, height, width, channels = pixels.shape
    factor = max(1, math.ceil(CELL / max(height, width)))
    rows = math.ceil(count / columns)
    cell_height, cell_width = height * factor, width * factor
    sides = columns * (cell_width + GAP) + GAP, rows * (cell_height + GAP) + GAP
    if max(sides) > MOST_SIDE:
        raise ConfigError(
            f"a grid of {count} images of {width}×{height} pixels has {sides[0]}×{sides[1]}; draw fewer, "
            f"{MOST_SIDE} pixels are the most"
        )
    if channels not in (1, 3):
        pixels = np.repeat(pixels[..., :1], 3, axis=3)
    grid = Image.new("RGB", sides, GROUND)
    for number, image in enumerate(pixels):
        row, column = divmod(number, columns)
        one = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        if factor > 1:
            one = one.resize((cell_width, cell_height), Image.Resampling.NEAREST)
        grid.paste(one, (GAP + column * (cell_width + GAP), GAP + row * (cell_height + GAP)))
    return grid


def _png(image: Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _plot(
    shown: Sequence[Values], labels: Sequence[int | None], class_names: Sequence[str] | None, real: Values | None
) -> Figure:
    """Return a figure with axes, limits and legend for points; the points themselves are drawn frame by frame."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 5.4), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.1, 0.08, 0.87, 0.87))
    dimensions = shown[0].shape[1]
    reference = real if real is not None and len(real) else np.concatenate(list(shown))
    reference = reference[np.isfinite(reference).all(axis=1)]
    low, high = np.quantile(reference, LIMITS, axis=0) if len(reference) else (-np.ones(2), np.ones(2))
    center, reach = (low + high) / 2.0, 0.8 * np.maximum(high - low, 1e-6)
    if dimensions > 1:  # one scale for both
        reach = np.full_like(reach, reach[:2].max())
    axes.set_xlim(float(center[0] - reach[0]), float(center[0] + reach[0]))
    if dimensions > 1:
        axes.set_ylim(float(center[1] - reach[1]), float(center[1] + reach[1]))
        axes.set_aspect("equal")
        if outside := int((np.abs(shown[-1] - center)[:, :2] > reach[:2]).any(axis=1).sum()):
            text = f"{outside:,} of {len(shown[-1]):,} samples lie outside"
            axes.text(0.02, 0.02, text, transform=axes.transAxes, fontsize=8, color="#586276", zorder=3)
        if real is not None:
            axes.scatter(
                real[:POINTS, 0], real[:POINTS, 1], s=9, color="#c9ced8", lw=0, zorder=1, label="training data"
            )
    elif real is not None:
        axes.hist(real[:POINTS, 0], bins=60, density=True, color="#c9ced8", label="training data")
    if dimensions > 2:
        axes.set_xlabel(f"value 1 of {dimensions}")
        axes.set_ylabel(f"value 2 of {dimensions}")
    axes.tick_params(labelsize=8, colors="#586276")
    for spine in axes.spines.values():
        spine.set_edgecolor("#b4bccb")
    colours = _colours(labels)
    for label in sorted({label for label in labels if label is not None}):
        name = class_names[label] if class_names else str(label)
        axes.scatter([], [], s=14, color=colours[label], label=name)
    if real is not None or any(label is not None for label in labels):
        if all(label is None for label in labels):
            axes.scatter([], [], s=14, color=colours[None], label="samples")
        axes.legend(loc="upper right", fontsize=8, framealpha=0.85, edgecolor="#b4bccb")
    return figure


def _frames_of(figure: Figure, frames: Sequence[Values], labels: Sequence[int | None]) -> Iterator[Image]:
    """Yield a picture of the figure with the points of each frame."""
    from PIL import Image

    axes: Axes = figure.axes[0]
    colours = _colours(labels)
    each = [colours[label] for label in labels]
    for values in frames:
        if values.shape[1] == 1:
            limits = axes.get_xlim()
            *_, bars = axes.hist(values[:, 0], bins=60, range=limits, density=True, color=colours[None], alpha=0.75)
            made: Any = bars
        else:
            made = axes.scatter(values[:, 0], values[:, 1], s=11, c=each, lw=0, alpha=0.8, zorder=2)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        made.remove()
        yield Image.open(buffer).convert("RGB")


def _colours(labels: Sequence[int | None]) -> dict[int | None, str]:
    """Return a colour for each class, and for no class."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    palette = colormaps["tab10"]
    classes: set[int] = {label for label in labels if label is not None}
    return {None: "#1f5fbf", **{label: to_hex(palette(label % 10)) for label in classes}}


def progress_picture(
    model: nn.Module,
    family: DenoiserFamily,
    diffusion: Mapping[str, Any],
    how: Sampling,
    count: int,
    real: Callable[[int], Values] | None = None,
    prompts: Prompts | None = None,
) -> bytes:
    """Draw the picture of a run's progress: samples of all classes in turn, with the same noise each time.

    Args:
        model: the network in eval mode.
        family: its model family.
        diffusion: the artefact of the run.
        how: sampler, steps, guidance and seed.
        count: number of samples.
        real: function that returns so many training vectors, in the data's own units; None: none are shown.
        prompts: as `draw_samples` takes them.
    """
    names = diffusion["class_names"]
    labels = labels_in_turn(count, len(names or ()))
    values = draw_samples(model, family, diffusion, how, labels, prompts=prompts).values
    shown = real(POINTS) if real is not None and values.ndim == 2 else None
    return picture_of(values, labels, names, shown)
