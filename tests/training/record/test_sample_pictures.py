"""Names of the pictures of samples: what a run writes is found again, and nothing else is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.record.history import History
from training.record.report import Report
from training.record.sample_pictures import SamplePicture, file_name, files_of_steps, pictures_in, spread


@given(step=st.integers(0, 10**15), name=st.none() | st.text("az09_", min_size=1, max_size=60))
def test_every_picture_that_is_named_is_found_again(step: int, name: str | None) -> None:
    file = file_name(step, name)
    assert pictures_in([{"step": step, "files": [f"samples/{file}"]}]) == [SamplePicture(step, file)]


@pytest.mark.parametrize("name", ["../evil", "A", "", "a b", "x" * 61, "a/b"])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no name of a picture"):
        file_name(1, name)


@given(st.text(max_size=40))
def test_a_record_names_no_file_outside_the_directory_of_samples(text: str) -> None:
    entries = [{"step": 1, "files": [text, f"samples/{text}", f"samples/../{text}", f"/{text}"]}]
    assert all("/" not in picture.name and picture.name.startswith("step_") for picture in pictures_in(entries))


def test_files_are_listed_in_the_order_of_their_updates(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    for name in ("step_1000000.png", "step_000012.png", "step_000012_b.png", "other.png", "step_12.png"):
        (tmp_path / "samples" / name).touch()
    assert [(step, path.name) for step, path in files_of_steps(tmp_path)] == [
        (12, "step_000012.png"), (12, "step_000012_b.png"), (1000000, "step_1000000.png"),
    ]  # fmt: skip


@given(count=st.integers(0, 60), most=st.integers(2, 12))
def test_a_row_of_earlier_pictures_has_the_first_and_the_last(count: int, most: int) -> None:
    pictures = [SamplePicture(n, file_name(n)) for n in range(count)]
    shown = spread(pictures, most)
    assert len(shown) == min(count, most)
    assert shown == sorted(set(shown))
    assert not pictures or (shown[0], shown[-1]) == (pictures[0], pictures[-1])


def _event(step: int, time: float) -> dict[str, Any]:
    return {"event": "samples", "time": time, "step": step, "files": [f"samples/{file_name(step)}"]}


def test_a_report_keeps_pictures_of_the_whole_run_and_not_more_than_fifty() -> None:
    report = Report.of([{"event": "run_started", "time": 0.0}, *(_event(29 * n, float(n)) for n in range(1, 400))])
    steps = [entry["step"] for entry in report.to_dict()["sample_files"]]
    assert 20 <= len(steps) <= 50
    assert steps[0] < 29 * 20
    assert steps[-1] == 29 * 399
    again = Report.of_dict(report.to_dict())
    assert again.sample_files == report.sample_files


def test_what_a_resumed_run_draws_again_counts_once() -> None:
    resumed = {"event": "run_resumed", "time": 3.0, "step": 10}
    events = [{"event": "run_started", "time": 0.0}, _event(10, 1.0), _event(20, 2.0), resumed, _event(20, 4.0)]
    assert [entry["step"] for entry in History.of(events).sample_files] == [10, 20]
    assert [entry["step"] for entry in History.of(events[:4]).sample_files] == [10]
