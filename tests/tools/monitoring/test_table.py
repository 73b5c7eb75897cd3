"""The monitor's table and picture: what fits is shown, what does not is counted, nothing is drawn over anything."""

from __future__ import annotations

import io
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text
from rich.console import Console

from tests.support.recorded_runs import RecordedRun
from tools.figures.fonts import Typeface
from tools.figures.wording import columns_of, cut, figure, in_two_lines, printable, rate, shortened
from tools.monitoring import figure as pictures
from tools.monitoring.document import to_json
from tools.monitoring.leaderboard import leaderboards
from tools.monitoring.order import in_order
from tools.monitoring.sparkline import FINE, PLAIN, Glyphs, bar, glyphs_for, sparkline
from tools.monitoring.table import Layout, columns_within, picture
from tools.runs.fleet import Fleet
from tools.runs.summary import RunSummary
from training.language.messages import Language, choose_language
from training.machine.units import short_duration
from training.tasks.metrics import Metric

NOW = 1_000_000.0


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """Sixteen runs of all kinds, one of them with a name that tries to be markup and an escape sequence."""
    for n in range(11):
        RecordedRun(
            tmp_path / f"sweep/learning_rate_{n}_and_a_long_name",
            start=NOW - 3000 + 100 * n,
            validation=lambda epoch, n=n: (n + 1) / epoch,  # type: ignore[misc]
            settings={"optimizer": {"learning_rate": 10.0 ** -(n % 3)}},
        ).train().finish()
    RecordedRun(tmp_path / "[red]evil\x1b[2J", start=NOW - 90).train(60).flush()
    RecordedRun(tmp_path / "中文实验", start=NOW - 5000, loss=lambda step: math.nan if step > 50 else 1.0).train(
        70
    ).flush()
    failed = RecordedRun(tmp_path / "failed", start=NOW - 500).train(20)
    failed.reporter.run_failed(RuntimeError("first line\nsecond line"))
    RecordedRun(tmp_path / "starting", start=NOW - 5).flush()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/progress.jsonl").write_text("broken\n")
    return Fleet([tmp_path])


def drawn(fleet: Fleet, width: int, height: int | None, glyphs: Glyphs = FINE) -> list[str]:
    runs = in_order(fleet.look(NOW), "state")
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(picture(runs, fleet.alerts(runs, NOW), leaderboards(runs), Layout(width, height, glyphs)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_wide_table_has_everything_of_every_run(fleet: Fleet) -> None:
    lines = drawn(fleet, 170, None)
    text = "\n".join(lines)
    assert lines[0].startswith("16 runs: 1 running, 1 starting, 1 stalled, 1 failed, 11 finished, 1 unreadable")
    assert lines[1].split() == [
        *("run", "state", "backend", "progress", "step", "loss", "curve", "best", "acc", "tok/s", "ETA", "age")
    ]
    assert "…" not in text.split("alerts")[0], "nothing is cut"
    running = next(line for line in lines if line.startswith(r"[red]evil\x1b[2J"))
    assert running.split()[1:5] == ["running", "playground", "━━━━━━────", "60%"]
    assert running.split()[-2:] == ["40s", "1m30s"]
    assert "  failed: failed at step 20: RuntimeError: first line" in lines
    assert "second line" not in text
    assert "  中文实验: loss not finite, last at step 70" in lines
    assert "leaderboard: lowest validation loss" in text
    assert [" ".join(x.split()) for x in lines if "  1  " in x] == [
        "1 sweep/learning_rate_0_and_a_long_name 0.1000 learning_rate=1.0"
    ]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 140, 200])
@pytest.mark.parametrize("height", [14, 24, 40, 60])
def test_every_screen_is_filled_and_never_overfull(fleet: Fleet, width: int, height: int) -> None:
    lines = drawn(fleet, width, height)
    assert len(lines) <= height
    assert all(Console().measure(line).maximum <= width for line in lines)
    end = next(n for n, line in enumerate(lines) if n > 2 and (not line or line.startswith("... and ")))
    shown = lines[3:end]
    assert len(shown) >= 2
    if height < 40:
        assert any(line.startswith("... and ") for line in lines)


def test_lines_to_spare_are_given_to_the_alerts(fleet: Fleet) -> None:
    alerts = [line for line in drawn(fleet, 160, None) if line.startswith("  ") and ": " in line]
    assert len(alerts) > 3
    lines = drawn(fleet, 160, 40)
    assert all(alert in lines for alert in alerts), "sixteen runs leave room"


def test_a_narrow_terminal_keeps_what_matters_most(fleet: Fleet) -> None:
    runs = fleet.look(NOW)
    assert [c.title for c in columns_within(170, runs)][:3] == ["state", "backend", "progress"]
    assert [c.title for c in columns_within(80, runs)] == ["state", "progress", "loss", "best", "ETA"]
    assert [c.title for c in columns_within(20, runs)] == ["state", "loss"]


ERROR, SHARE = Metric("mean_error", "MAE", "lower"), Metric("hits", "Hits", "higher", form="percent")


def test_a_run_of_another_task_is_shown_with_its_own_figures(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/progress.jsonl").write_text("broken\n")
    RecordedRun(tmp_path / "line", start=NOW - 50, metrics={ERROR: 0.125, SHARE: 0.5}).train(40).flush()
    RecordedRun(tmp_path / "worse", start=NOW - 50, metrics={ERROR: 0.5, SHARE: 0.25}).train(40).flush()
    fleet = Fleet([tmp_path])
    lines = drawn(fleet, 170, None)
    assert lines[1].split() == [
        *(
            "run",
            "state",
            "backend",
            "progress",
            "step",
            "loss",
            "curve",
            "best",
            "mae",
            "hits",
            "samples/s",
            "ETA",
            "age",
        )
    ]
    row = next(line for line in lines if line.startswith("line ")).split()
    assert row[-5:] == ["0.1250", "50.0%", "8", "1m00s", "50s"]
    runs = fleet.look(NOW)
    assert [run.name for run in in_order(runs, "metric")] == ["line", "worse", "broken"]
    document = json.loads(to_json([tmp_path], NOW, runs, [], [], []))
    line = next(run for run in document["runs"] if run["name"] == "line")
    assert (line["mean_error"], line["hits"], line["samples_per_second"]) == (0.125, 0.5, 8.0)
    assert not {"accuracy", "tokens_per_second"} & set(line)


def test_runs_of_two_tasks_share_a_table_and_no_board(tmp_path: Path) -> None:
    for name in ("a", "b"):
        RecordedRun(tmp_path / name, start=NOW - 50, validation=lambda epoch: 1.0).train(40).flush()
        line = RecordedRun(
            tmp_path / f"line_{name}", start=NOW - 50, validation=lambda epoch: 0.5, metrics={ERROR: 0.5}
        )
        line.train(40).flush()
    fleet = Fleet([tmp_path])
    lines = drawn(fleet, 190, None)
    assert [word for word in lines[1].split() if word in ("acc", "mae", "tok/s", "samples/s")] == [
        *("acc", "mae", "tok/s", "samples/s")
    ]
    language, other = (next(x for x in lines if x.startswith(f"{name} ")).split() for name in ("a", "line_a"))
    assert language[-6:-2] == ["40.0%", "–", "1.0k", "–"]
    assert other[-6:-2] == ["–", "0.5000", "–", "8"]
    boards = leaderboards(fleet.look(NOW))
    assert sorted(tuple(entry.run.name for entry in board.entries) for board in boards) == [
        ("a", "b"), ("line_a", "line_b"),
    ]  # fmt: skip
    pictures.draw(fleet.look(NOW), boards, tmp_path / "all.png")


def test_an_old_terminal_gets_plain_characters(fleet: Fleet) -> None:
    assert glyphs_for("utf-8") is FINE
    assert glyphs_for("ascii") is PLAIN
    assert glyphs_for(None) is PLAIN
    rows = [line for line in drawn(fleet, 170, None, PLAIN) if "playground" in line and "中" not in line]
    assert rows
    assert all(row.isascii() for row in rows)


@given(st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32)), st.integers(0, 20))
def test_a_sparkline_is_never_wider_than_its_room(values: list[float | None], width: int) -> None:
    line = sparkline(values, width)
    assert len(line) == min(width, len(values))
    assert set(line) <= {*FINE.levels, FINE.hole}


def test_a_sparkline_shows_the_shape_and_every_hole() -> None:
    assert sparkline([8.0, 4.0, 2.0, 1.0], 4) == "█▆▃▁"
    assert sparkline([1.0, None, 1.0, 1.0], 2) == "×▄"


@given(st.floats(0.0, 1.0), st.integers(1, 30))
def test_only_a_finished_bar_is_full(share: float, width: int) -> None:
    full, empty = bar(share, width)
    assert len(full + empty) == width
    assert (empty == "") == (share == 1.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (3599, "59m59s"), (3600, "1h00m"), (90000, "1d01h"), (-3, "0s")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert short_duration(seconds) == text


@given(st.floats(0.0, 1e9))
def test_figures_fit_their_columns(value: float) -> None:
    assert len(figure(value)) <= 8
    assert len(rate(value)) <= 6


# -- the picture ---------------------------------------------------------------------------------------------------


def overlaps(canvas: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that are drawn over each other."""
    canvas.canvas.draw()
    unseen = set()  # the labels of ticks beyond the ends of an axis
    for axis in (axis for axes in canvas.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        unseen |= {tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
    boxes = [
        (text.get_text(), text.get_window_extent())
        for text in canvas.findobj(Text)
        if isinstance(text, Text) and text.get_visible() and text.get_text().strip() and text not in unseen
    ]
    found = []
    for (first, a), (second, b) in itertools.combinations(boxes, 2):
        wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        if wide > 1.0 and high > 2.0:
            found.append((first, second))
    return found


def fontless() -> Typeface:
    """What a machine without any fonts of its own has."""
    return Typeface(chinese=(), japanese=(), korean=(), emoji=())


def comparison(runs: list[RunSummary], face: Typeface) -> Figure:
    with rc_context(pictures.style(face)):
        canvas = pictures.comparison(runs, leaderboards(runs), face)
        canvas.canvas.draw()
    return canvas


def test_the_picture_has_four_panels_and_no_text_lies_on_another(fleet: Fleet) -> None:
    runs = in_order(fleet.look(NOW), "state")
    face = fontless()
    canvas = comparison(runs, face)
    assert [axes.get_title(loc="left") for axes in canvas.axes] == [
        "runs", "leaderboard", "loss: thin training, dots validation", "at work",
    ]  # fmt: skip
    assert canvas.get_size_inches().tolist() == [12.8, 7.2]
    assert overlaps(canvas) == []
    # The style's room around a panel may hold its labels, never another panel.
    extents = [axes.get_window_extent() for axes in canvas.axes]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(extents, 2))
    assert face.renamed == {"中文实验": "name 1"}, "a name that no font here can draw"


def test_the_picture_takes_runs_of_which_nothing_is_known(tmp_path: Path) -> None:
    RecordedRun(tmp_path / "empty", start=NOW).flush()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/progress.jsonl").write_text("broken\n")
    canvas = comparison(Fleet([tmp_path]).look(NOW), fontless())
    assert overlaps(canvas) == []
    assert "no two runs can be compared" in {t.get_text() for t in canvas.findobj(Text) if isinstance(t, Text)}


def test_losses_can_be_read_off_the_picture_also_where_they_span_less_than_ten(tmp_path: Path) -> None:
    for name in ("one", "two"):
        RecordedRun(tmp_path / name, start=NOW, loss=lambda step: 2.0 + 4.0 / step).train(30).flush()
    RecordedRun(tmp_path / "single", start=NOW, loss=lambda step: 5.0).train(1).flush()
    canvas = comparison(Fleet([tmp_path]).look(NOW), fontless())
    axes = next(axes for axes in canvas.axes if axes.get_title(loc="left").startswith("loss: "))
    low, high = axes.get_ylim()
    told = [t.label1.get_text() for t in axes.yaxis.get_major_ticks() if low <= t.get_loc() <= high]
    assert len([text for text in told if text]) >= 2
    assert [line.get_marker() for line in axes.lines if np.array_equal(line.get_xdata(), [1])] == ["."], (
        "one update is seen"
    )


def test_a_second_board_is_drawn_where_there_is_room_and_none_over_its_edge(tmp_path: Path) -> None:
    for n in range(2):
        for name, validation in (("validated", lambda epoch: 1.0 / epoch), ("not", None)):
            RecordedRun(
                tmp_path / f"{name}_{n}", start=NOW, validation=validation,
                settings={"optimizer": {"name_of_a_setting": f"value_{n}" * 9}},
            ).train().finish()  # fmt: skip
    for run in tmp_path.iterdir():  # without validation the best epoch's training loss is the run's
        report = json.loads((run / "experiment_report.json").read_text())
        report["best"] = report["best"] or {"step": 100, "epoch": 10, "loss": 0.2}
        (run / "experiment_report.json").write_text(json.dumps(report))
    canvas = comparison(Fleet([tmp_path]).look(NOW), fontless())
    assert overlaps(canvas) == []
    board = next(axes for axes in canvas.axes if axes.get_title(loc="left") == "leaderboard")
    told = [text.get_text() for text in board.texts]
    assert {"lowest validation loss", "lowest training loss of an epoch"} <= set(told)
    assert sum(text.startswith("name_of_a_setting=~") for text in told) == 4
    edge = board.get_window_extent()
    assert all(text.get_window_extent().x1 <= edge.x1 for text in board.texts)


def test_names_with_emoji_and_formulas_are_drawn_as_they_are(tmp_path: Path) -> None:
    """Warnings are errors here: a character that no font can draw would fail the test."""
    for name in ("a$b_{$", "\\frac{", "实验🚀👩\u200d🔬"):
        RecordedRun(tmp_path / name, start=NOW, validation=lambda epoch: 1.0 / epoch).train().finish()
    face = Typeface()
    pictures.draw(runs := Fleet([tmp_path]).look(NOW), leaderboards(runs), tmp_path / "fleet.png", face)
    assert face.renamed == {} or "Symbola" not in face.families


def test_long_names_are_cut_at_their_beginning_and_chinese_counts_double() -> None:
    assert shortened("short", 10) == "short"
    assert shortened("a_very_long_name_3", 8) == "~_name_3"
    assert shortened("很长的名字", 6) == "~名字"


@given(st.text("ab 中🚀\u200d\x1b"), st.integers(2, 30))
def test_whatever_is_cut_fits_its_columns(text: str, columns: int) -> None:
    text = printable(text)
    assert columns_of(shortened(text, columns)) <= columns
    assert columns_of(cut(text, columns)) <= columns
    lines = in_two_lines(text, columns).split("\n")
    assert len(lines) <= 2
    assert max(map(columns_of, lines)) <= columns
    if columns_of(text) <= columns:
        assert {shortened(text, columns), cut(text, columns), in_two_lines(text, columns)} == {text}


def test_joined_emoji_take_the_columns_of_their_parts() -> None:
    assert printable("👩\u200d🔬 ❤\ufe0f") == "👩🔬 ❤"


def board_texts(canvas: Figure) -> list[str]:
    board = next(axes for axes in canvas.axes if axes.get_title(loc="left") == "leaderboard")
    return [text.get_text() for text in board.texts]


def test_the_setting_that_differs_is_never_cut_off(tmp_path: Path) -> None:
    """However long its name and values are, a reader sees in what the runs differ."""
    for n in range(3):
        RecordedRun(
            tmp_path / f"run_{n}", start=NOW, validation=lambda epoch: 1.0 / epoch,
            settings={"optimizer": {"learning_rate": 0.1 + 0.2 + n / 1000}, "run": {"seed": n}, "data": {
                "dataset": f"/a/long/way/to/some/folder/with/data/number_{n}/and/a/long/name/train.json"
            }},
        ).train().finish()  # fmt: skip
    canvas = comparison(Fleet([tmp_path]).look(NOW), fontless())
    settings = [text for text in board_texts(canvas) if "=" in text]
    assert len(settings) == len(set(settings)) == 3
    for n in range(3):
        assert any(f"seed={n}" in text and f"learning_rate=0.30{n or ''}".rstrip("0") in text for text in settings)
    assert overlaps(canvas) == []


def test_one_long_setting_has_both_lines() -> None:
    values = [f"value_of_many_letters_and_{n}_and_more_letters" for n in range(2)]
    lines = pictures.setting_lines([{"data.a_setting": value} for value in values], fontless())
    assert [line.replace("\n", "") for line in lines] == [f"a_setting={value}" for value in values]
    assert pictures.setting_lines([{}, {}], fontless()) == ["", ""]


def test_names_that_end_alike_are_told_apart_and_each_listed_run_has_a_colour(tmp_path: Path) -> None:
    for n in range(13):
        RecordedRun(tmp_path / f"run_{n:02d}" / "a_long_name_of_an_experiment_that_all_have", start=NOW).train(
            3
        ).flush()
    canvas = comparison(Fleet([tmp_path]).look(NOW), fontless())
    runs, _, curves, activity = canvas.axes
    names = [text.get_text() for text in runs.texts if text.get_text().startswith("run_")]
    assert len(names) == len(set(names)) == 13
    assert len({label.get_text() for label in activity.get_yticklabels()}) == 13
    drawn = {line.get_color() for line in curves.lines if len(np.asarray(line.get_xdata())) == 3}
    assert len(drawn) == 13


def test_a_validation_loss_that_doubles_is_said_though_the_axis_spans_decades(tmp_path: Path) -> None:
    RecordedRun(
        tmp_path / "by_heart", start=NOW, loss=lambda step: 4.0 * 0.92**step,
        validation=lambda epoch: 1.5 if epoch == 1 else 1.2 * 2.0 ** ((epoch - 2) / 8.0),
    ).train().finish()  # fmt: skip
    RecordedRun(tmp_path / "learns", start=NOW, validation=lambda epoch: 3.0 / epoch).train().finish()
    canvas = comparison(Fleet([tmp_path]).look(NOW), fontless())
    curves = next(axes for axes in canvas.axes if axes.get_title(loc="left").startswith("loss: "))
    assert [text.get_text() for text in curves.texts] == ["2x its lowest"]


def test_a_short_list_leaves_its_room_to_the_curves(tmp_path: Path) -> None:
    RecordedRun(tmp_path / "alone", start=NOW).train(30).flush()
    canvas = comparison(Fleet([tmp_path]).look(NOW), fontless())
    listed, _, curves, _ = canvas.axes
    assert curves.get_position().height > 3 * listed.get_position().height
    assert overlaps(canvas) == []


@pytest.mark.parametrize(("language", "words"), [("zh", "停滞"), ("both", "停滞 stalled"), ("en", "stalled")])
def test_the_table_is_in_the_chosen_language_and_no_state_is_cut(
    language: Language, words: str, tmp_path: Path
) -> None:
    for n in range(3):
        RecordedRun(tmp_path / f"run_{n}" / "a_long_name_of_an_experiment_that_all_have", start=NOW).train(3).flush()
    runs = Fleet([tmp_path]).look(NOW + 3600.0)
    choose_language(language)
    try:
        console = Console(width=200, record=True, file=io.StringIO())
        console.print(picture(runs, [], leaderboards(runs), Layout(200, None, glyphs_for("utf-8"))))
    finally:
        choose_language(None)
    lines = console.export_text().splitlines()
    rows = [line for line in lines if line.startswith("run_")]
    assert len({line.split()[0] for line in rows}) == 3, "names that end alike differ"
    assert all(f" {words} " in line for line in rows)
    assert not [line for line in lines if "…" in line]
