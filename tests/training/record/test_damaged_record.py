"""A damaged record never stands between a run and its checkpoints: what cannot be read is skipped, counted and said."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import FrontDoor
from tests.hostile.damaged_files import bit_flips, damaged_keys
from training.azure.fetch.collect_results import conclusion_lines
from training.azure.follow.training_view import TrainingView
from training.errors import UserError
from training.record.follower import ProgressFollower
from training.record.log import LOG_NAME, REPORT_NAME, CountedEvents, DamagedLines, read_events, read_report, scan_marks
from training.record.report import Report
from training.record.reporter import ProgressReporter
from training.storage.json_files import LARGEST_BYTES


def go_on(run_dir: Path, content: bytes) -> tuple[int, str]:
    """Resume the record of a run whose log has this content; return its damaged lines and what the run says."""
    log = run_dir / LOG_NAME
    log.write_bytes(content)
    said: list[str] = []

    class Said:
        def event(self, event: dict[str, object]) -> None:
            if event["event"] == "warning":
                said.append(str(event["message"]))

        def close(self) -> None: ...

    damaged = DamagedLines()
    whole = content[: content.rfind(b"\n") + 1]
    log.write_bytes(whole)
    events = list(read_events(log, damaged))
    ProgressReporter(run_dir, sinks=[Said()]).run_resumed(2)
    with log.open("rb") as file:
        assert len(list(CountedEvents(file))) <= len(events) + 2
    Report.of_dict(read_report(run_dir) or {}).to_dict()
    scan_marks(run_dir, 1)
    ProgressFollower(run_dir).look()
    return damaged.count, "\n".join(said)


def test_no_flipped_bit_of_a_log_keeps_a_run_from_going_on(finished_run: Path) -> None:
    whole = (finished_run / LOG_NAME).read_bytes()
    num_skipped = 0
    for bit, content in bit_flips(whole, 400):
        count, said = go_on(finished_run, content)
        assert count <= 2, bit  # a flipped line end makes one damaged line of two, or two of one
        assert (f"{count} damaged" in said) == (count > 0), (bit, said)
        num_skipped += count > 0
    assert num_skipped > 20  # most flips change a figure, not the form


@pytest.mark.parametrize("name", ["step", "run_started", "checkpoint", "eval", "memory", "conclusion"])
def test_no_wrong_value_in_a_line_keeps_a_run_from_going_on(name: str, finished_run: Path) -> None:
    lines = (finished_run / LOG_NAME).read_bytes().splitlines(keepends=True)
    n = next((n for n, line in enumerate(lines) if json.loads(line)["event"] == name), None)
    if n is None:  # a run without validation
        lines.append(b'{"event": "eval", "time": 1.0, "step": 2, "epoch": 1, "loss": 2.0, "accuracy": 0.5}\n')
        n = len(lines) - 1
    for what, line in damaged_keys(lines[n], levels=2):
        count, _ = go_on(finished_run, b"".join([*lines[:n], line, *lines[n + 1 :]]))
        assert count <= 1, what


def test_a_run_with_a_damaged_record_ends_with_the_same_weights_and_says_what_it_skipped(
    finished_run: Path, front_door: FrontDoor, tmp_path: Path
) -> None:
    whole = torch.load(finished_run / "final_model.pt", weights_only=True)["model"]
    log = finished_run / LOG_NAME
    lines = log.read_bytes().splitlines(keepends=True)
    flips = random.Random(0)
    damaged = [b'{"event":"step"}\n', b"\x00\xff\n", b"[" * 100_000 + b"\n"]
    for line in lines[1:]:  # a bit of each line but the first
        changed = bytearray(line)
        changed[flips.randrange(len(line) - 1)] ^= 1 << flips.randrange(8)
        damaged.append(bytes(changed))
    log.write_bytes(lines[0] + b"".join(damaged))
    (finished_run / REPORT_NAME).write_bytes(b'{"latest": "x", "step": "x"')

    resumed = front_door(["--resume", finished_run / "checkpoint_epoch_1", "--run-dir", finished_run])

    assert resumed.exit_code == 0, resumed
    assert "damaged lines were skipped (the first is line 2)" in resumed.stdout + resumed.stderr
    again = torch.load(finished_run / "final_model.pt", weights_only=True)["model"]
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[key], whole[key]) for key in whole)
    report = read_report(finished_run)
    assert report is not None
    assert (report["state"], report["step"]) == ("finished", 4)


def test_what_of_a_report_has_another_type_is_left_out_and_named(finished_run: Path) -> None:
    content = (finished_run / REPORT_NAME).read_bytes()
    for what, damaged in damaged_keys(content, levels=2):
        (finished_run / REPORT_NAME).write_bytes(damaged)
        faults: list[str] = []
        report = read_report(finished_run, faults)
        state = Report.of_dict(report or {})
        state.to_dict()
        assert report is not None or faults, what
        for key in ("latest", "best"):
            assert report is None or isinstance(report.get(key) or {}, dict), what
    (finished_run / REPORT_NAME).write_text(json.dumps({**json.loads(content), "latest": "x"}), encoding="utf-8")
    faults = []
    report = read_report(finished_run, faults)
    assert report is not None
    assert report["latest"] == {}, "what every report has is there and empty"
    assert faults == [f"{REPORT_NAME}: latest is damaged and left out"]


def test_a_log_without_line_ends_costs_no_memory_without_bounds(tmp_path: Path) -> None:
    log = tmp_path / LOG_NAME
    with log.open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)  # a hole: it takes no room on the disk
    damaged = DamagedLines()
    assert list(read_events(log, damaged)) == []
    assert damaged.count > 1


def seen_by_monitor(run_dir: Path) -> str:
    from tools.runs.summary import WatchedRun

    (run_dir / REPORT_NAME).unlink()
    watched = WatchedRun(run_dir, "run")
    watched.look(0.0)
    return "; ".join(alert.message for alert in watched.summary(0.0).alerts)


def seen_by_diagnosis(run_dir: Path) -> str:
    from tools.diagnosis.runs import diagnose_run

    return "; ".join(finding.message for finding in diagnose_run(run_dir))


def seen_by_parity(run_dir: Path) -> str:
    from tools.parity.curve import read_curve

    with pytest.raises(UserError) as caught:
        read_curve(run_dir)
    return str(caught.value)


def seen_by_trackers(run_dir: Path) -> str:
    from training.tracking.figures import missed_points
    from training.tracking.tracker import Held, RunStart

    damaged = DamagedLines()
    list(missed_points(run_dir, RunStart("r", 4, 1e12, True, {}, {}), Held(), damaged))
    return str(damaged)


@pytest.mark.parametrize("seen_by", [seen_by_monitor, seen_by_diagnosis, seen_by_parity, seen_by_trackers])
def test_every_reader_says_how_many_lines_it_skipped(seen_by: Callable[[Path], str], finished_run: Path) -> None:
    log = finished_run / LOG_NAME
    first, *rest = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([first, b'{"event":"step"}\n', *rest[:2], b"\x00\n", *rest[2:]]))
    assert f"{LOG_NAME}: 2 damaged lines were skipped (the first is line 2)" in seen_by(finished_run)


def test_a_follower_of_a_job_says_once_how_many_lines_it_skipped(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = finished_run / LOG_NAME
    log.write_bytes(b'{"event":"step"}\n' + log.read_bytes())
    (finished_run / REPORT_NAME).unlink()
    view = TrainingView(finished_run)
    view.look()
    view.look()
    shown = capsys.readouterr()
    assert (shown.out + shown.err).count("1 damaged line was skipped (line 1)") == 1
    conclusion_lines(finished_run)
    assert "1 damaged line was skipped (line 1)" in capsys.readouterr().out
