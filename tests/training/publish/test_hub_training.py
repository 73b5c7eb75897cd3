"""Training with `--push-to-hub`: what is found out before it, and what happens after it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import FrontDoor, TinyDataset
from tests.support.hub_stand_in import HubStandIn, hub_stand_in, pretend

# huggingface_hub 2.4 gives large files to its HTTP library in a way that the latter has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")
REPO = "ada/apt"


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStandIn]:
    with hub_stand_in() as running:
        pretend(monkeypatch, running, tmp_path / "no-login")
        yield running


@pytest.fixture
def words(tiny_flags: list[str], tiny_dataset: TinyDataset, tmp_path: Path) -> list[str | Path]:
    """A run of one epoch that asks for a push."""
    where: list[str | Path] = ["--datasets", tiny_dataset(), "--run-dir", tmp_path / "run", "--epochs", "1"]
    return [*tiny_flags, *where, "--answer-samples", "5", "--push-to-hub", REPO]


@pytest.mark.parametrize("name", ["ada/my model", "a/b/c", "ada/模型"])
def test_a_name_that_the_hub_would_refuse_ends_it_before_the_training(
    name: str, words: list[str | Path], stand_in: HubStandIn, front_door: FrontDoor, tmp_path: Path
) -> None:
    done = front_door([*words, "--push-to-hub", name])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: push_to_hub = {name!r} (from --push-to-hub): is no repository of the Hub")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
    assert not stand_in.requests


def test_no_token_ends_it_before_the_training(
    words: list[str | Path],
    stand_in: HubStandIn,
    front_door: FrontDoor,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    done = front_door(words)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: --push-to-hub {REPO}: there is no token for the Hub; run `hf auth login`")
    assert not (tmp_path / "run").exists()
    assert front_door([*words, "--dry-run"]).exit_code == 0, "a plan needs no token"


def test_a_finished_run_is_on_the_hub(
    words: list[str | Path], stand_in: HubStandIn, front_door: FrontDoor, tmp_path: Path
) -> None:
    done = front_door([*words, "--private"])
    assert done.exit_code == 0, done
    published = stand_in.repositories[REPO]
    assert published.private
    assert published.files["model.safetensors"] == (tmp_path / "run/final_model/model.safetensors").read_bytes()
    assert "| overall | " in published.files["README.md"].decode(), "the recitation is in the card"
    assert f"pushed  {stand_in.endpoint}/{REPO}" in done.stdout
    told = [p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()] + [repr(done).encode()]
    assert not any(stand_in.token.encode() in text for text in told), "the token is nowhere"


def test_a_run_whose_push_fails_is_finished_and_says_how_to_push_again(
    words: list[str | Path], stand_in: HubStandIn, front_door: FrontDoor, tmp_path: Path
) -> None:
    stand_in.fail("commit", 503)
    done = front_door(words)
    assert done.exit_code == 0, done
    run = tmp_path / "run"
    line = f"python tools/export_model.py {run} --push-to-hub {REPO}"
    assert (done.stdout + done.stderr).count(line) == 1
    report = json.loads((run / "experiment_report.json").read_text(encoding="utf-8"))
    assert report["state"] == "finished"
    assert line in report["warnings"][-1]["message"]


def test_a_hub_that_cannot_be_asked_does_not_stop_the_training(
    words: list[str | Path], stand_in: HubStandIn, front_door: FrontDoor
) -> None:
    stand_in.fail("whoami", 500)
    done = front_door(words)
    assert done.exit_code == 0, done
    assert f"warning: --push-to-hub {REPO} could not be checked" in done.stdout
    assert REPO in stand_in.repositories
