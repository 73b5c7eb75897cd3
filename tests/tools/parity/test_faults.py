"""Planted faults: each is really run through the front door, caught, and called by its name and its first step.

The faulty backends are a package of their own (tests/support/faulty_backends); the checker finds them by their entry
points, as it would find anybody's. The seed checkpoint is of step 3, so the first update that is compared is number 4;
the eighth batch of an epoch is the short one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tools.parity.divergence import Link

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "tests" / "support" / "faulty_backends"
FIRST = 4


@dataclass(frozen=True)
class Planted:
    """A faulty backend, and what must be said of it."""

    variant: str
    step: int
    link: Link
    says: str = ""


PLANTED = (
    Planted("other_order", FIRST, Link.DATA, "it is the reference's batch of step 5, so the order"),
    Planted("reshuffled", FIRST, Link.DATA, "none of the reference's batches holds these samples"),
    Planted("padded_last_batch", 8, Link.DATA, "trained tokens"),
    Planted("mean_of_means", FIRST, Link.LOSS, "a mean of means"),
    Planted("half_precision", FIRST, Link.LOSS, "precision"),
    Planted("mean_of_means_unseen", FIRST, Link.GRADIENT, "a mean of means"),
    Planted("summed_over_ranks:num_processes=2", FIRST, Link.GRADIENT, ", 2 times as much: summed over ranks"),
    Planted("ranks_apart:num_processes=2", FIRST, Link.GRADIENT, "a rank left out"),
    Planted("uncleared", FIRST + 1, Link.GRADIENT, "an older gradient was not cleared"),
    Planted("schedule_ahead", FIRST, Link.SCHEDULE, "the schedule is one step ahead"),
    Planted("stale_rate", FIRST + 1, Link.UPDATE, "learning rate of step 4: the schedule is one step behind"),
    Planted("wrong_betas", FIRST, Link.UPDATE, "betas"),
    Planted("unclipped", FIRST, Link.UPDATE, "the reference clipped it and this run did not"),
    Planted("decay_on_all", FIRST, Link.UPDATE, "weight decay (and which parameters it is for)"),
    Planted("moments_lost", FIRST, Link.UPDATE, "moments"),
    Planted("rounded_on_loading", FIRST, Link.START, "the checkpoint was read differently"),
)
HONEST = ("playground", "playground:batch_size=7")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The certificate of one examination of all faulty backends and some honest ones."""
    path = tmp_path_factory.mktemp("faults") / "certificate.json"
    variants = [*HONEST, *(planted.variant for planted in PLANTED), "stops"]
    # Twenty-one runs: the checker starts them warm, or two thirds of the time would be torch's import.
    command = [
        sys.executable,
        str(ROOT / "tests" / "support" / "programs" / "warm_parity.py"),
        "--steps",
        "6",
        "--json",
        str(path),
    ]
    done = subprocess.run(
        [*command, "--backends", *variants],
        env={**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, ""), done.stdout[-4000:]
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


def result_of(certificate: dict[str, Any], variant: str) -> dict[str, Any]:
    (result,) = [result for result in certificate["variants"] if result["name"] == variant]
    assert isinstance(result, dict)
    return result


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.variant.partition(":")[0])
def test_a_planted_fault_is_caught_at_its_first_step_and_named(planted: Planted, certificate: dict[str, Any]) -> None:
    result = result_of(certificate, planted.variant)
    assert (result["state"], result["exit_code"]) == ("fail", 0), "the run itself ended well"
    divergence = result["divergence"]
    assert (divergence["step"], divergence["link"]) == (planted.step, planted.link.value)
    assert planted.says in divergence["message"]
    assert not divergence["is_drift"]


@pytest.mark.parametrize("variant", HONEST)
def test_honest_runs_pass_beside_them(variant: str, certificate: dict[str, Any]) -> None:
    result = result_of(certificate, variant)
    assert (result["state"], result["reason"], result["divergence"]) == ("pass", "", None)
    assert result["fingerprints"]
    assert result["differences"]["step"] == list(range(FIRST, FIRST + 6))


def test_the_same_backend_twice_is_the_same_to_the_last_bit(certificate: dict[str, Any]) -> None:
    result = result_of(certificate, "playground")
    assert result["bitwise"]
    assert set(result["tolerance"].values()) == {0.0}


def test_a_run_that_stops_short_fails_even_if_it_says_that_all_is_well(certificate: dict[str, Any]) -> None:
    result = result_of(certificate, "stops")
    assert (result["state"], result["exit_code"], result["divergence"]) == ("fail", 0, None)
    assert "of 6 updates" in result["reason"]


def test_every_faulty_backend_of_the_package_is_planted_here() -> None:
    listed = (PACKAGE / "apt_faulty_backends-1.0.dist-info" / "entry_points.txt").read_text(encoding="utf-8")
    names = {line.split(" = ")[0] for line in listed.splitlines() if " = " in line}
    assert names == {planted.variant.partition(":")[0] for planted in PLANTED} | {"stops"}
