"""The switch: what a run prints is in the language that was asked for, what it records is English."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import FrontDoor, TinyDataset
from training.language.messages import choose_language
from training.record.log import LOG_NAME, read_events

CHINESE = re.compile(r"[一-鿿]")


@pytest.fixture(autouse=True)
def _no_language() -> Iterator[None]:
    """Leave no language behind."""
    yield
    choose_language(None)


def said(run_dir: Path) -> list[str]:
    """Return all lines that are in the record."""
    return [line for event in read_events(run_dir / LOG_NAME) for line in event.get("lines", ())]


def test_a_run_speaks_the_language_that_was_asked_for_and_its_record_is_english(
    front_door: FrontDoor, tiny_dataset: TinyDataset, tiny_flags: list[str], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    command: list[str | Path] = [
        *tiny_flags,
        "--datasets",
        tiny_dataset(),
        "--run-dir",
        run_dir,
        "--answer-samples",
        "0",
    ]
    begun = front_door([*command, "--max-steps", "1", "--lang", "zh"])
    assert begun.exit_code == 0
    assert "模型    APT，" in begun.stdout
    assert "已保存 checkpoint_step_1（第 1 步）" in begun.stdout
    assert "损失 " in begun.stdout, "the bar's figures"
    assert not re.search(r"saved|finished|model |Loss|epoch \d+: validation loss", begun.stdout)

    ended = front_door(["--resume", run_dir, "--max-steps", "2", "--lang", "both"])
    assert ended.exit_code == 0
    lines = ended.stdout.splitlines()
    checkpoint = run_dir / "checkpoint_step_1"
    chinese = lines.index(f"从 {checkpoint} 续训：第 1 步，共 2 步")
    assert lines[chinese + 1] == f"resumed from {checkpoint} at step 1 of 2"
    assert not CHINESE.search("".join(said(run_dir)))
    assert any(line.startswith("finished at step 2 after ") for line in said(run_dir))
    assert front_door(["--resume", run_dir, "--max-steps", "3", "--lang", "none"]).stdout.count("saved") > 0


def test_the_language_is_a_setting_of_yaml_and_an_unknown_one_is_refused(
    front_door: FrontDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("lang: zh\n", encoding="utf-8")
    assert "lang: zh" in front_door(["--config", "a.yaml", "--dry-run"]).stdout
    refused = front_door(["--lang", "fr"])
    assert refused.exit_code == 2
    assert re.fullmatch(r"error: .*lang.*'fr'.*\n", refused.stderr)
