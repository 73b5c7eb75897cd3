"""A finished run as a film, GIF or MP4: its training once more, while its landscape turns."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from numpy.typing import NDArray

from tools.dashboard.layout import compose, new_figure
from tools.dashboard.panels.drawing_style import Pen
from tools.dashboard.panels.frame import Frame
from tools.dashboard.reader import FIRST_AZIMUTH
from tools.figures.output_file import write_atomically
from training.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

FRAMES = 72
STILL_FRAMES = 12
"""Frames at the end in which only the landscape turns."""
FRAMES_PER_SECOND = 12
DEGREES = 120.0
"""Angle by which the landscape turns from the first frame to the last."""
Pixels = NDArray[np.uint8]
Progress = Callable[[int, int], None]
"""Callback with the frames drawn and the frames in all."""


def film(frame: Frame, pen: Pen, dpi: float, panel: str | None, count: int) -> Iterator[Pixels]:
    """Yield pictures of (height, width, 3): the run from its first update to its last, then a moment of rest."""
    last = frame.run.history.step
    moving = max(1, count - STILL_FRAMES)
    with rc_context(pen.style()):
        figure = new_figure(dpi=dpi)
        canvas = figure.canvas
        assert isinstance(canvas, FigureCanvasAgg)
        for n in range(count):
            step = max(1, round(last * min(1.0, (n + 1) / moving)))
            azimuth = FIRST_AZIMUTH + DEGREES * n / count
            compose(figure, frame.until(step, azimuth), pen, panel)
            canvas.draw()  # type: ignore[no-untyped-call]
            yield np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def save_gif(frames: Iterator[Pixels], path: Path, progress: Progress, count: int) -> None:
    """Write an animated GIF, by Pillow; all frames have the last one's colours, so that nothing flickers.

    Of the 256, 160 are those that cover much of it, and 96 the most different ones: a thin line keeps its colour.

    Raises:
        UserError: it cannot be written.
    """
    from PIL import Image

    pictures: list[Image.Image] = []
    for n, pixels in enumerate(frames, start=1):
        pictures.append(Image.fromarray(pixels))
        progress(n, count)
    palette = Image.new("P", (1, 1))
    colours = (
        pictures[-1].quantize(160, Image.Quantize.MEDIANCUT).getpalette(),
        pictures[-1].quantize(96, Image.Quantize.MAXCOVERAGE).getpalette(),
    )
    palette.putpalette([value for some in colours for value in some or ()])
    small = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    buffer = io.BytesIO()
    small[0].save(
        buffer, format="GIF", save_all=True, append_images=small[1:], duration=1000 // FRAMES_PER_SECOND, loop=0,
        optimize=False,
    )  # fmt: skip
    write_atomically(path, buffer.getvalue())


def encoder() -> str:
    """Return the program that makes an MP4.

    Raises:
        UserError: it is not installed.
    """
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise UserError(
            "an MP4 needs imageio-ffmpeg, which is not installed: pip install imageio-ffmpeg, or name a .gif"
        ) from error
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def save_mp4(frames: Iterator[Pixels], path: Path, progress: Progress, count: int) -> None:
    """Write an H.264 film that browsers play.

    Raises:
        UserError: the encoder is missing or fails, or the file cannot be written.
    """
    program = encoder()
    temporary = path.with_name(f".{path.stem}.tmp.mp4")
    process: subprocess.Popen[bytes] | None = None
    try:
        for n, pixels in enumerate(frames, start=1):
            even = pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]  # as yuv420p needs it
            if process is None:
                size = f"{even.shape[1]}x{even.shape[0]}"
                process = subprocess.Popen(
                    [program, "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r",
                     str(FRAMES_PER_SECOND), "-i", "-", "-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p",
                     "-movflags", "+faststart", str(temporary)],
                    stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                )  # fmt: skip
            assert process.stdin is not None
            process.stdin.write(np.ascontiguousarray(even).tobytes())
            progress(n, count)
        assert process is not None
        _, errors = process.communicate()
        if process.returncode != 0:
            raise UserError(f"{path}: the film could not be encoded ({_last_line(errors)})")
        temporary.replace(path)
    except BrokenPipeError as error:
        assert process is not None
        raise UserError(f"{path}: the film could not be encoded ({_last_line(process.communicate()[1])})") from error
    except OSError as error:
        raise UserError(f"{path}: the film could not be written ({error.strerror})") from error
    finally:
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        temporary.unlink(missing_ok=True)


def _last_line(errors: bytes) -> str:
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no reason given"
