"""The panel of samples: there only where a run has drawn some, the newest large, the earlier ones in a row."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.transforms import Bbox

from tests.support.measured_surfaces import quadratic_surface
from tests.support.recorded_runs import RecordedRun
from tests.support.sample_pictures import sharper
from tests.tools.dashboard.test_picture import drawn, is_inside, overlaps, texts
from tools.dashboard.layout import BACKGROUND, SAMPLES, arrangement, panel_named
from tools.dashboard.panels.drawing_style import Pen
from tools.dashboard.panels.frame import Frame
from tools.dashboard.panels.samples import EARLIER, image_of
from tools.dashboard.panels.theme import THEMES
from tools.dashboard.reader import Reader
from tools.figures.fonts import Typeface


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    """A run of ten epochs that has drawn a picture at the end of each."""
    made = RecordedRun(tmp_path_factory.mktemp("drawn") / "run", start=1000.0, validation=lambda epoch: 2.0 / epoch)
    for epoch in range(10):
        made.train(10).draw(sharper(epoch / 9.0))
    return made.finish().flush()


@pytest.fixture(scope="module")
def frame(run: RecordedRun) -> Frame:
    return Reader(run.path, []).look()


def boxes_of(frame: Frame) -> dict[str, tuple[float, float, float, float]]:
    return {name: tuple(box) for name, box in arrangement(frame).items()}  # type: ignore[misc]


@pytest.mark.parametrize("theme", ["cyber", "paper"])
@pytest.mark.parametrize("is_measured", [False, True])
def test_the_panel_has_its_place_and_no_text_is_over_another(theme: str, is_measured: bool, frame: Frame) -> None:
    shown = replace(frame, surface=quadratic_surface()) if is_measured else frame
    figure = drawn(shown, Pen(THEMES[theme], Typeface()))
    places = arrangement(shown)
    assert [axes.get_label() for axes in figure.axes if axes.get_label()] == [BACKGROUND, *places]
    assert SAMPLES in places
    assert ("landscape" in places) == is_measured
    assert overlaps(figure) == []
    within = [Bbox.from_extents(*box).transformed(figure.transFigure) for box in places.values()]
    header = max(box.y1 for box in within)
    for text, box in texts(figure):
        assert box.y0 >= header or sum(is_inside(box, place) for place in within) == 1, text
    for one, other in itertools.combinations(within, 2):
        assert not one.overlaps(other)


def test_the_newest_is_large_and_the_row_has_the_first_ones(frame: Frame) -> None:
    figure = drawn(frame, Pen(THEMES["cyber"], Typeface()), panel=SAMPLES)
    panel = next(axes for axes in figure.axes if axes.get_label() == SAMPLES)
    pictures = [axes for axes in panel.child_axes if axes.images]
    assert len(pictures) == EARLIER + 1
    sizes = [axes.get_window_extent().width for axes in pictures]
    assert sizes[0] > 2.5 * max(sizes[1:]) or sizes[-1] > 2.5 * max(sizes[:-1])
    told = [text for text, _ in texts(figure)]
    assert "step 100" in told
    assert "10" in told, "the first one"


def test_an_animation_shows_what_had_been_drawn_by_then(frame: Frame) -> None:
    assert [entry["step"] for entry in frame.until(35, 0.0).history(frame.run).sample_files] == [10, 20, 30]
    figure = drawn(frame.until(5, 0.0), Pen(THEMES["cyber"], Typeface()))
    assert any("no sample yet" in text for text, _ in texts(figure))


def test_a_run_that_draws_nothing_has_no_panel(tmp_path: Path) -> None:
    plain = Reader(RecordedRun(tmp_path / "run", start=1000.0).train(20).flush().path, []).look()
    assert SAMPLES not in arrangement(plain)
    assert panel_named(SAMPLES) == SAMPLES


def test_damaged_missing_and_linked_files_are_passed_over(tmp_path: Path) -> None:
    made = RecordedRun(tmp_path / "run", start=1000.0)
    made.train(10).draw(sharper(0.5)).train(10).draw(sharper(1.0)[:200]).train(10).draw(b"no picture").train(10)
    made.draw(sharper(1.0)).flush()
    secret = tmp_path / "secret.png"
    (made.path / "samples" / "step_000040.png").rename(secret)
    (made.path / "samples" / "step_000040.png").symlink_to(secret)
    found = {step: image_of(made.path / "samples" / f"step_{step:06d}.png") for step in (10, 20, 30, 40, 50)}
    assert [step for step, image in found.items() if image is not None] == [10]
    figure = drawn(Reader(made.path, []).look(), Pen(THEMES["cyber"], Typeface()), panel=SAMPLES)
    panel = next(axes for axes in figure.axes if axes.get_label() == SAMPLES)
    assert sum(bool(axes.images) for axes in panel.child_axes) == 1


def test_a_large_picture_is_made_smaller(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(sharper(1.0, side=500))
    image = image_of(tmp_path / "large.png")
    assert image is not None
    assert image.shape == (900, 900, 4)
    assert image.dtype == np.uint8
