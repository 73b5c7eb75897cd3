"""The dashboard's structure, in all themes and sizes: each panel in its frame, no text over another."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from mpl_toolkits.mplot3d import Axes3D

from tests.support.measured_surfaces import quadratic_surface
from tests.support.recorded_runs import RecordedRun
from tools.dashboard.layout import BACKGROUND, PANELS, WITHOUT_LANDSCAPE, Box, arrangement, compose, new_figure
from tools.dashboard.panels.drawing_style import Pen
from tools.dashboard.panels.frame import Frame
from tools.dashboard.panels.learning_rate import scientific
from tools.dashboard.panels.loss import emptiest_corner
from tools.dashboard.panels.status import rows
from tools.dashboard.panels.terrain import Heights, now_text, path_of
from tools.dashboard.panels.theme import THEMES
from tools.dashboard.reader import Reader, names_of
from tools.figures.fonts import Typeface
from tools.figures.scales import in_decades
from tools.landscape.surface import surface_path, write_surface
from tools.runs.summary import RunSummary
from training.tasks.metrics import Metric

START = 1000.0
TITLES = ("损失地形 loss landscape", "损失曲线 loss curves", "梯度范数 gradient norm", "学习率 learning rate",
          "优化轨迹 trajectory", "运行 run")  # fmt: skip
SCHEDULE = {"schedule": "warm_restarts", "restart_epochs": 3.0, "restart_mult": 1.0, "warmup_steps": 0}
SETTINGS: dict[str, dict[str, Any]] = {"schedule": SCHEDULE, "optimizer": {"max_grad_norm": 1.0}}
ENGLISH = Typeface(chinese=(), japanese=(), korean=(), emoji=())


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """A finished run with everything that can be marked, its measured surface, and two runs beside it."""
    folder = tmp_path_factory.mktemp("runs")
    runs = [
        RecordedRun(
            folder / name,
            start=START,
            validation=lambda epoch, n=n: 3.0 / epoch + n,  # type: ignore[misc]
            settings=SETTINGS,
            loss=lambda step: 9.0 if step == 60 else 4.0 / (1.0 + 0.1 * step),
        )
        for n, name in enumerate(("run", "a_run_with_a_very_long_name_for_a_legend", "对照"))
    ]
    for run in runs:
        run.train(10, clipped=True).train(1, skipped=True).train().finish()
        run.reporter.flush()
    write_surface(surface_path(runs[0].path, "abc"), quadratic_surface())
    return Reader(runs[0].path, [run.path for run in runs[1:]])


@pytest.fixture(scope="module")
def frame(reader: Reader) -> Frame:
    return reader.look()


def drawn(frame: Frame, pen: Pen, dpi: float = 100.0, panel: str | None = None) -> Figure:
    with rc_context(pen.style()):
        figure = new_figure(dpi=dpi)
        compose(figure, frame, pen, panel)
        figure.canvas.draw()
    return figure


def texts(figure: Figure) -> Iterator[tuple[str, Bbox]]:
    """Every text that can be seen, and where it is."""
    unseen = set()  # the labels of ticks beyond the ends of an axis, and of axes that are switched off
    for axes in figure.axes:
        for axis in (getattr(axes, name) for name in ("xaxis", "yaxis", "zaxis") if hasattr(axes, name)):
            low, high = sorted(axis.get_view_interval())
            ticks = axis.get_major_ticks() + axis.get_minor_ticks()
            unseen |= {t.label1 for t in ticks if not axes.axison or not low <= t.get_loc() <= high}
            unseen |= {axis.label} if not axes.axison else set()
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_visible() and text.get_text().strip() and text not in unseen:
            yield text.get_text(), text.get_window_extent()


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that are drawn over each other."""
    found = []
    for (first, a), (second, b) in itertools.combinations(texts(figure), 2):
        wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        if wide > 1.0 and high > 2.0:
            found.append((first, second))
    return found


def boxes(figure: Figure) -> dict[str, Bbox]:
    """Where the panels may draw, in pixels."""
    is_solid = any(isinstance(axes, Axes3D) for axes in figure.axes)
    places = {name: panel.box for name, panel in PANELS.items()} if is_solid else WITHOUT_LANDSCAPE
    return {name: Bbox.from_extents(*box).transformed(figure.transFigure) for name, box in places.items()}


def area(box: Box) -> float:
    """Return a box's share of the picture."""
    return (box.right - box.left) * (box.top - box.bottom)


def is_inside(box: Bbox, within: Bbox) -> bool:
    return bool(within.x0 <= box.x0 and box.x1 <= within.x1 and within.y0 <= box.y0 and box.y1 <= within.y1)


def assert_in_order(figure: Figure) -> None:
    """No text over another, none outside the picture, and each in the frame of one panel."""
    assert overlaps(figure) == []
    shown = {str(axes.get_label()) for axes in figure.axes}
    within = {name: box for name, box in boxes(figure).items() if name in shown}
    header = max(panel.y1 for panel in within.values())
    for text, box in texts(figure):
        homes = [name for name, panel in within.items() if is_inside(box, panel)]
        assert len(homes) == 1 or box.y0 >= header, f"{text!r} at {box.extents} is in no panel"
        assert box.x0 >= 0.0
        assert box.x1 <= figure.bbox.width


def test_the_panels_never_touch() -> None:
    for places in ([panel.box for panel in PANELS.values()], list(WITHOUT_LANDSCAPE.values())):
        for a, b in itertools.combinations(places, 2):
            assert a.right < b.left or b.right < a.left or a.top < b.bottom or b.top < a.bottom


@pytest.mark.parametrize(
    ("theme", "dpi"), [*((theme, 100) for theme in THEMES), ("cyber", 150), ("cyber", 200)]
)  # fmt: skip
def test_six_panels_in_each_theme_and_size(theme: str, dpi: float, frame: Frame) -> None:
    pen = Pen(THEMES[theme], ENGLISH)
    figure = drawn(frame, pen, dpi)
    assert figure.canvas.get_width_height() == (12.8 * dpi, 7.2 * dpi)
    assert [axes.get_label() for axes in figure.axes] == [BACKGROUND, *PANELS]
    assert {t.split(" ", 1)[1] for t in TITLES} <= {text for text, _ in texts(figure)}
    assert_in_order(figure)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(19.2, 10.8), (25.6, 13.3), (12.8, 9.6), (34.4, 7.2)])
def test_a_window_may_be_made_larger_and_of_any_shape(size: tuple[float, float], frame: Frame) -> None:
    pen = Pen(THEMES["cyber"], ENGLISH)
    with rc_context(pen.style()):
        figure = new_figure(*size)
        for shown in (frame, replace(frame, surface=None)):
            compose(figure, shown, pen)
            figure.canvas.draw()
            assert_in_order(figure)


def legend(figure: Figure, panel: str) -> list[str]:
    """The names in all legends of a panel."""
    axes = next(axes for axes in figure.axes if axes.get_label() == panel)
    found = [child for child in axes.get_children() if isinstance(child, Legend)]
    return [text.get_text() for one in found for text in one.get_texts()]


def test_legends_name_everything_that_is_marked(frame: Frame) -> None:
    figure = drawn(frame, Pen(THEMES["cyber"], ENGLISH))
    assert legend(figure, "landscape") == ["true loss", "path on the plane", "now"]
    runs, own = legend(figure, "loss")[:3], legend(figure, "loss")[3:]
    assert own == ["their validation", "batch", "epoch mean", "validation", "spike"]
    assert runs[0].endswith("/run")
    assert runs[1].endswith("_long_name_for_a_legend")
    assert runs[2].endswith("/??"), "a name that no font here can draw"
    assert legend(figure, "gradient") == ["median", "clipped 10", "skipped 1", "spiking 0"]
    assert legend(figure, "learning-rate") == ["warm_restarts", "warm restarts 3"]


def test_the_landscape_s_labels_are_the_measurement_s(frame: Frame) -> None:
    told = "\n".join(text for text, _ in texts(drawn(frame, Pen(THEMES["cyber"], ENGLISH))))
    assert "plane: PCA of the path, explains 95.0% of it" in told
    assert "centre: step 100, loss 0.5000 on 512 tokens; 81 points in 2.5 s" in told
    assert "step 100: true loss 0.5000, the plane's 0.5000, distance 0; at most 0.4 (step 50)" in told
    assert "PC1 (80.0%)" in told
    assert "PC2 (15.0%)" in told


def test_before_anything_is_measured_the_landscape_says_so_and_how_to_measure(frame: Frame) -> None:
    figure = drawn(replace(frame, surface=None), Pen(THEMES["cyber"], ENGLISH))
    told = [text for text, _ in texts(figure)]
    assert "not measured yet" in told
    tool = told.index("python tools/loss_landscape.py")
    assert str(frame.run.directory).endswith(told[tool + 1].removeprefix("~"))
    place = next(axes for axes in figure.axes if axes.get_label() == "landscape")
    assert not place.collections, "no surface"
    assert_in_order(figure)


def test_before_anything_is_measured_the_other_panels_have_its_room(frame: Frame) -> None:
    without = arrangement(replace(frame, surface=None))
    figure = drawn(replace(frame, surface=None), Pen(THEMES["cyber"], Typeface()))
    assert [axes.get_label() for axes in figure.axes] == [BACKGROUND, *without]
    assert set(without) == {*PANELS} - {"trajectory"}
    for name in ("loss", "gradient", "learning-rate"):
        assert area(without[name]) > area(PANELS[name].box), name
    assert area(without["landscape"]) < 0.07, "a note needs no half of the picture"
    assert sum(map(area, without.values())) > 0.85


def test_the_surface_of_an_earlier_run_in_the_same_directory_is_not_this_one_s(tmp_path: Path) -> None:
    write_surface(
        surface_path(RecordedRun(tmp_path / "run", start=START).train(3).flush().path, "abc"), quadratic_surface()
    )
    assert Reader(tmp_path / "run", []).look().surface is not None
    RecordedRun(tmp_path / "run", start=time.time() + 60.0).train(3).flush()
    assert Reader(tmp_path / "run", []).look().surface is None


def test_a_surface_that_is_only_begun_is_not_drawn(frame: Frame) -> None:
    surface = quadratic_surface(resolution=5)
    surface.losses[2:, :] = np.nan
    figure = drawn(replace(frame, surface=surface), Pen(THEMES["cyber"], ENGLISH))
    assert "10 of the first 25 points" in {text for text, _ in texts(figure)}


def test_what_is_not_finite_is_cut_off_and_counted(frame: Frame) -> None:
    surface = quadratic_surface()
    surface.losses[0, 0] = np.inf
    figure = drawn(replace(frame, surface=surface), Pen(THEMES["cyber"], ENGLISH))
    assert any(text.endswith("1 not finite, cut off") for text, _ in texts(figure))


def test_heights_go_up_with_losses_and_can_be_read_back() -> None:
    heights = Heights(quadratic_surface())
    losses = np.array([0.5, 1.0, 3.0])
    assert (np.diff(heights.of(losses)) > 0).all()
    assert [heights.loss(h) for h in heights.of(losses)] == pytest.approx(losses.tolist())


def test_a_surface_without_any_finite_loss_says_so(frame: Frame) -> None:
    surface = quadratic_surface()
    surface.losses[:] = surface.path_loss[:] = surface.path_plane_loss[:] = np.inf
    figure = drawn(replace(frame, surface=surface), Pen(THEMES["cyber"], ENGLISH))
    assert "no loss is finite" in {text for text, _ in texts(figure)}


def test_the_farthest_point_is_told_also_where_it_is_the_first(frame: Frame) -> None:
    surface = quadratic_surface()
    distance = np.linspace(0.9, 0.0, len(surface.path_steps))
    told = now_text(path_of(replace(surface, path_distance=distance), frame), frame)
    assert told.endswith("distance 0; at most 0.9 (step 0)")


@pytest.mark.parametrize("end", [(0.0, 0.0), (1e-6, 0.05), (0.02, 0.1), (0.05, -0.05)])
def test_the_ends_of_a_path_have_their_names_apart_however_near_they_are(
    end: tuple[float, float], frame: Frame
) -> None:
    """On random directions a path only passes by: all of it lies in one place."""
    surface = quadratic_surface()
    along = np.linspace(0.0, 1.0, len(surface.path_steps))[:, None]
    path = replace(surface, path_plane=along * [end], path_distance=surface.path_distance * 1.234e12)
    figure = drawn(replace(frame, surface=path), Pen(THEMES["cyber"], Typeface()), panel="trajectory")
    assert overlaps(figure) == []
    if end == (0.0, 0.0):  # and its distance, of any size, beside the title
        assert_in_order(drawn(replace(frame, surface=path), Pen(THEMES["cyber"], Typeface())))


def test_the_marks_of_a_deep_valley_do_not_crowd() -> None:
    surface = quadratic_surface()
    for deepest, most in ((1e-1, 5), (1e-4, 6), (1e-20, 8)):
        heights = Heights(replace(surface, losses=np.geomspace(deepest, 10.0, 81).reshape(9, 9)))
        marks = heights.marks(float(np.log10(deepest)))
        assert 2 <= len(marks) <= most


def test_in_the_light_theme_the_present_position_stands_out_from_the_terrain(frame: Frame) -> None:
    theme = THEMES["paper"]
    figure = drawn(frame, Pen(theme, ENGLISH), panel="trajectory")
    markers = [line for line in figure.axes[1].lines if line.get_color() == theme.primary]
    assert [line.get_markeredgecolor() for line in markers] == [theme.panel]


@pytest.mark.parametrize("azimuth", [30.0, 120.0, 210.0, 300.0])
def test_the_landscape_may_turn_to_any_side(azimuth: float, frame: Frame) -> None:
    figure = drawn(replace(frame, azimuth=azimuth), Pen(THEMES["cyber"], ENGLISH), panel="landscape")
    assert overlaps(figure) == []


@pytest.mark.parametrize("panel", PANELS)
def test_one_panel_alone_fills_the_picture(panel: str, frame: Frame) -> None:
    figure = drawn(frame, Pen(THEMES["paper"], ENGLISH), dpi=60, panel=panel)
    assert [axes.get_label() for axes in figure.axes] == [BACKGROUND, panel]
    assert figure.axes[1].get_position(original=True).width > 0.9


@pytest.mark.slow
def test_runs_of_which_little_is_known_are_drawn_too(tmp_path: Path) -> None:
    pen = Pen(THEMES["cyber"], Typeface())
    told = []
    reader = Reader(tmp_path / "运行🚀", [])
    for prepare in (
        lambda: None,
        lambda: RecordedRun(tmp_path / "运行🚀", start=START).flush(),
        lambda: RecordedRun(tmp_path / "运行🚀", start=START).train(1).flush(),
        lambda: RecordedRun(tmp_path / "运行🚀", start=START, loss=lambda step: float("nan")).train(7, skipped=True)
        .reporter.run_failed(ValueError("the loss is not finite in " + 9 * "a long line ")),
    ):  # fmt: skip
        prepare()
        figure = drawn(reader.look(), pen)
        assert_in_order(figure)
        told.append({text for text, _ in texts(figure)})
    assert "waiting for a run" in told[0]
    assert {t for t in told[1] if t.startswith("stalled for ")}, "its only event is decades old"
    assert "failed" in told[3]


@pytest.mark.slow
def test_an_animation_tells_where_it_is_and_in_the_end_what_became_of_the_run(frame: Frame) -> None:
    pen = Pen(THEMES["cyber"], ENGLISH)
    figures = [drawn(frame.until(step, 0.0), pen) for step in (1, 50, 100)]
    told = [{text for text, _ in texts(figure)} for figure in figures]
    for step, midway in zip((1, 50), told, strict=False):
        assert f"replay, step {step}" in midway
        assert not midway & {"finished", "all steps done", "took"}
    assert {"finished", "all steps done", "took"} <= told[2]
    limits = [next(a for a in figure.axes if a.get_label() == "loss").get_ylim() for figure in figures]
    assert limits[0] == limits[1] == limits[2], "the curve grows, the axis stays"


def test_one_update_alone_can_be_seen_on_each_curve(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=START).train(1).flush()
    figure = drawn(Reader(run.path, [run.path]).look(), Pen(THEMES["cyber"], ENGLISH))
    curves = {"batch", "epoch mean", "median", "learning rate"}
    for panel in ("loss", "gradient", "learning-rate"):
        axes = next(axes for axes in figure.axes if axes.get_label() == panel)
        alone = [line for line in axes.lines if np.array_equal(line.get_xdata(), [1]) and line.get_label() in curves]
        assert alone, panel
        assert all(line.get_marker() not in ("", "None") for line in alone), panel


def test_an_epoch_that_has_only_begun_is_no_jump_of_the_means(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=START, steps_per_epoch=10, loss=lambda step: 9.0 if step == 31 else 1.0)
    figure = drawn(Reader(run.train(31).flush().path, []).look(), Pen(THEMES["cyber"], ENGLISH), panel="loss")
    (means,) = [line for line in figure.axes[1].lines if line.get_label() == "epoch mean"]
    assert np.array_equal(means.get_xydata(), [(10, 1.0), (20, 1.0), (30, 1.0)])


def test_names_and_reasons_of_any_length_stay_in_their_panels(tmp_path: Path) -> None:
    long = tmp_path / "很长的目录名称" / ("很长的目录名称" * 9) / ("and_a_long_one_in_latin_letters_" * 5)
    pen, reader = Pen(THEMES["cyber"], Typeface()), Reader(long, [])
    assert_in_order(drawn(reader.look(), pen))  # waiting for it
    run = RecordedRun(long, start=START, total_steps=10**7, backend="a_backend_of_somebody_else_s")
    run.facts["device"] = "NVIDIA H100 80GB HBM3"
    run.reporter.run_started(**run.facts)
    for reason in ("显存不足：请减小批量大小，" * 9, "one two three " * 20):
        run.train(2)
        run.reporter.run_failed(RuntimeError(reason))
        figure = drawn(reader.look(), pen)
        assert_in_order(figure)
        assert any("\n" in text for text, _ in texts(figure)), "two lines of the reason"


def test_the_run_panel_tells_a_loss_that_is_not_finite_and_no_time_that_is_not_known(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=START, loss=lambda step: float("nan")).train(3).flush()
    frame = Reader(run.path, []).look()
    assert frame.run.summary is not None
    told = {str(name): value for name, value in rows(frame, frame.run.summary)}
    assert (told["loss"], told["ETA"]) == ("nan", "-")
    assert "took" not in told, "it stalled, so it is not over"


def test_a_task_s_own_figures_are_shown_and_no_others(tmp_path: Path) -> None:
    """In the present and in an animation, however many metrics there are: the first six have room."""
    metrics = {Metric(f"error_{n}", f"{n} of a long name", "lower"): 0.125 * n for n in range(9)}
    run = RecordedRun(tmp_path / "run", start=START, metrics=metrics, validation=lambda epoch: 1.0).train(30).flush()
    language = RecordedRun(tmp_path / "language", start=START).train(30).flush()
    frame = Reader(run.path, [language.path]).look()
    for shown in (frame, frame.until(17, 0.0)):
        assert shown.run.summary is not None
        told = {str(name): value for name, value in rows(shown, shown.run.summary)}
        assert not {"PPL", "acc", "tok/s"} & set(told)
        assert [name for name in told if name.endswith("~")] == [f"{n} of a lon~" for n in range(6)]
        assert told["samples/s"] == "8"
        assert_in_order(drawn(shown, Pen(THEMES["cyber"], ENGLISH)))
    told = {str(name): value for name, value in rows(*_alone(language))}
    assert list(told) == [
        *("epoch", "step", "loss", "PPL", "acc", "tok/s", "FW/BW", "ETA", "device", "memory", "backend", "params")
    ]
    assert (told["acc"], told["tok/s"]) == ("50.0%", "1.0k")


def _alone(run: RecordedRun) -> tuple[Frame, RunSummary]:
    frame = Reader(run.path, []).look()
    assert frame.run.summary is not None
    return frame, frame.run.summary


def test_many_runs_are_told_apart_and_their_legend_stays_in_the_panel(tmp_path: Path) -> None:
    runs = [RecordedRun(tmp_path / f"attempt_{n}_of_many", start=START).train(30).flush() for n in range(10)]
    figure = drawn(Reader(runs[0].path, [run.path for run in runs[1:]]).look(), Pen(THEMES["cyber"], ENGLISH))
    assert_in_order(figure)
    axes = next(axes for axes in figure.axes if axes.get_label() == "loss")
    named = [line for line in axes.lines if str(line.get_label()).endswith("_of_many")]
    looks = [(line.get_color(), line.get_linestyle()) for line in named]
    assert len(looks) == len(set(looks)) == 9


def test_long_names_of_many_runs_differ_in_a_legend_that_covers_no_curve(tmp_path: Path) -> None:
    folders = [tmp_path / f"run_{n:02d}" / "a_long_name_of_an_experiment_that_all_have" for n in range(13)]
    runs = [RecordedRun(folder, start=START, validation=lambda epoch: 3.0 / epoch).train(30) for folder in folders]
    for run in runs:
        run.flush()
    figure = drawn(Reader(runs[0].path, [run.path for run in runs[1:]]).look(), Pen(THEMES["cyber"], ENGLISH))
    assert_in_order(figure)
    names = legend(figure, "loss")[:13]
    assert len(set(names)) == 13
    axes = next(axes for axes in figure.axes if axes.get_label() == "loss")
    (box,) = [child.get_window_extent() for child in axes.get_children() if isinstance(child, Legend)][:1]
    lowest = min(float(np.min(line.get_ydata())) for line in axes.lines if len(np.asarray(line.get_ydata())))
    assert axes.transData.transform((0.0, lowest))[1] > box.y1


def test_runs_in_folders_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    assert names_of([tmp_path / "a/run/x", tmp_path / "b/run/x"]) == ["a/run/x", "b/run/x"]
    assert names_of([tmp_path / "a/run/x", tmp_path / "a/run/y"]) == ["run/x", "run/y"]


def test_a_validation_loss_that_doubles_is_marked_and_said_though_the_axis_spans_decades(tmp_path: Path) -> None:
    run = RecordedRun(
        tmp_path / "run", start=START, loss=lambda step: 4.0 * 0.92**step,
        validation=lambda epoch: 1.5 if epoch == 1 else 1.2 * 2.0 ** ((epoch - 2) / 8.0),
    ).train()  # fmt: skip
    run.reporter.flush()
    figure = drawn(Reader(run.path, []).look(), Pen(THEMES["cyber"], ENGLISH))
    assert "validation, now 2x its lowest" in legend(figure, "loss")
    assert_in_order(figure)


@pytest.mark.parametrize(
    ("curves", "corner"),
    [
        ([lambda step: 6.0 / step], "upper right"),
        ([lambda step: step / 10.0], "lower right"),
        (
            [lambda step: 6.0 * 0.95**step, lambda step: 5.0],
            "lower left",
        ),  # what learns by heart: validation stays high
    ],
)
def test_the_legend_of_the_runs_lies_where_no_curve_is(curves: list[Callable[[int], float]], corner: str) -> None:
    points = [(step, curve(step)) for curve in curves for step in range(1, 101)]
    axes = new_figure().add_axes((0.0, 0.0, 1.0, 1.0), xlim=(0.0, 100.0))
    in_decades(axes, min(loss for _, loss in points) * 0.85, max(loss for _, loss in points) * 1.2)
    assert emptiest_corner(axes, points, columns=1, rows=3) == corner


@given(st.floats(1e-9, 1e9))
def test_a_learning_rate_s_mark_is_the_rate(rate: float) -> None:
    assert float(scientific(rate)) == pytest.approx(rate, rel=0.005)
