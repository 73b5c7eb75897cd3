"""The certificate says what was found: verdict, table, JSON and figure agree, and nothing that ran is left out."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.simulated_runs import Fault, SimulatedRun
from tools.figures.fonts import Typeface
from tools.parity.certificate import Certificate, Result, State, write_json
from tools.parity.curve import Curve, curve_of
from tools.parity.difference import BY_PRECISION, EXACT
from tools.parity.divergence import Link
from tools.parity.examination import Candidate, judge
from tools.parity.figure import draw, picture
from tools.parity.front_door import Outcome
from tools.parity.settings import resolved
from tools.parity.table import lines
from tools.parity.variant import REFERENCE, Variant, usual
from training.backends.protocol import Availability

FP32 = BY_PRECISION["fp32"]
STEPS = 30
TWO = Variant("playground", (("num_processes", 2),))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "run.log"
    path.write_text("saved something\nerror: the disk is full\nfinished at last\n", encoding="utf-8")
    return path


def reference() -> Curve:
    return curve_of(SimulatedRun(noise=1e-7).events())


def run(*faults: Fault, world_size: int = 2) -> Curve:
    found = curve_of(SimulatedRun(noise=1e-7, noise_seed=1, faults=faults).events())
    return replace(found, facts={**found.facts, "world_size": world_size})


def judged(curve: Curve, log: Path, exit_code: int | None = 0, variant: Variant = TWO) -> Result:
    candidate = Candidate(variant, Availability(True), resolved(variant, None, STEPS))
    outcome = Outcome(("python", "train.py"), exit_code, 1.5, log)
    tolerance = EXACT if variant == Variant(REFERENCE) else FP32
    return judge(candidate, curve, reference(), outcome, tolerance, STEPS)


def certificate(*results: Result) -> Certificate:
    return Certificate(
        created_at="2026-01-01T00:00:00+00:00",
        commit={"id": "0123456789abcdef", "modified": True},
        versions={"python": "3.11.7", "torch": "2.13.0", "deepspeed": None},
        hardware={"device": "cpu", "cpu": "A CPU", "cores": 2, "gpus": [], "memory_bytes": 2**30, "platform": "Linux"},
        config_hash="00ff",
        config=resolved(Variant(REFERENCE), None, STEPS).to_dict(),
        precision="fp32",
        seed_step=3,
        steps=STEPS,
        reference=reference(),
        results=results,
    )


NOT_RUN = Result(Variant("azure"), State.NOT_RUN, "its runs train elsewhere")


# -- one run -------------------------------------------------------------------------------------------------------


def test_a_run_on_the_reference_s_curve_passes(log: Path) -> None:
    result = judged(run(), log)
    assert (result.state, result.reason, result.divergence) == (State.PASS, "", None)
    assert result.has_fingerprints
    assert not result.is_bitwise
    again = judged(replace(reference(), facts={"world_size": 1}), log, variant=Variant(REFERENCE))
    assert (again.state, again.is_bitwise) == (State.PASS, True)


def test_a_run_that_parts_from_it_fails_with_step_and_link(log: Path) -> None:
    result = judged(run(Fault(Link.GRADIENT, 11)), log)
    assert result.state is State.FAIL
    assert result.reason.startswith("step 11: gradient: same loss, but the gradient's norm is ")


def test_a_run_that_ends_badly_fails_with_its_own_words(log: Path) -> None:
    short = replace(run(), updates=run().updates[:7])
    assert judged(short, log, exit_code=2).reason == "exit code 2: error: the disk is full (after 7 of 30 updates)"
    assert judged(short, log, exit_code=None).reason.startswith("not done after 2 s, so it was ended")
    log.write_bytes(b"")
    assert judged(Curve(), log, exit_code=-6).reason == "exit code -6: it printed nothing (after 0 of 30 updates)"


def test_a_run_that_is_short_of_updates_fails_however_it_ended(log: Path) -> None:
    assert judged(replace(run(), updates=run().updates[:7]), log).reason == (
        "it ended well, but recorded 7 of 30 updates"
    )


def test_a_run_of_one_process_does_not_pass_for_two(log: Path) -> None:
    result = judged(run(world_size=1), log)
    assert (result.state, result.reason) == (State.FAIL, "it ran as 1 process, and 2 were asked for")


def test_where_a_run_parts_says_more_than_that_it_ended_badly(log: Path) -> None:
    assert judged(run(Fault(Link.LOSS, 9)), log, exit_code=1).reason.startswith("step 9: loss: ")


# -- all runs ------------------------------------------------------------------------------------------------------


def test_one_failure_fails_the_certificate_and_what_was_not_run_does_not(log: Path) -> None:
    good, bad = judged(run(), log), judged(run(Fault(Link.UPDATE, 9)), log)
    assert certificate(good, NOT_RUN).passed
    assert not certificate(good, bad).passed


def test_nothing_compared_is_nothing_proved() -> None:
    assert not certificate(NOT_RUN).passed


def test_the_table_shows_every_step_and_every_verdict(log: Path) -> None:
    bad = judged(run(Fault(Link.UPDATE, 9)), log)
    shown = list(lines(certificate(judged(run(), log), bad, NOT_RUN)))
    text = "\n".join(shown)
    for step in range(4, 34):
        assert sum(line.split()[:1] == [str(step)] for line in shown) == 2, "one line for the loss, one for the norm"
    assert [line.count("<") for line in shown if line.split()[:1] == ["9"]] == [1, 1]
    assert "  [2] step 9: update: " in text
    assert "  [3] its runs train elsewhere" in text
    assert shown[-1] == "certificate: FAIL"
    assert any("0123456789ab with changes" in line for line in shown)
    assert list(lines(certificate(NOT_RUN)))[-1] == "certificate: FAIL"


def test_the_table_says_where_only_losses_could_be_compared(log: Path) -> None:
    bare = tuple(replace(u, batch_hash=None, weights=None) for u in run().updates)
    result = judged(replace(run(), updates=bare, weights_at_start=None), log)
    assert result.state is State.PASS
    assert "  [1] it recorded no fingerprints: batches and weights were not compared" in list(
        lines(certificate(result))
    )


def test_the_json_holds_all_of_it_and_is_strict(log: Path, tmp_path: Path) -> None:
    broken = tuple(replace(u, loss=math.nan) if u.step == 9 else u for u in run().updates)
    made = certificate(judged(run(), log), judged(replace(run(), updates=broken), log), NOT_RUN)
    path = tmp_path / "certificate.json"
    write_json(made, path)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    read = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert (read["format"], read["schema_version"], read["verdict"]) == ("apt-parity-certificate", 1, "fail")
    assert read["reference"]["loss"] == [update.loss for update in reference().updates]
    first, second, third = read["variants"]
    assert (first["name"], first["state"], first["settings"]) == (TWO.name, "pass", {"num_processes": 2})
    assert first["tolerance"]["loss"] == FP32.loss
    assert first["differences"]["step"] == list(range(4, 34))
    assert second["divergence"]["step"] == 9
    assert second["divergence"]["link"] == "loss"
    assert (second["divergence"]["value"], second["largest"]["loss"]) == (None, None), "infinite"
    assert (third["state"], third["divergence"], third["tolerance"]) == ("not run", None, None)


@pytest.mark.parametrize("kind", ["passed", "failed", "nothing ran", "not finite"])
def test_the_figure_is_drawn_whatever_was_found(kind: str, log: Path, tmp_path: Path) -> None:
    broken = tuple(replace(u, loss=math.nan) if u.step == 9 else u for u in run().updates)
    results = {
        "passed": (judged(run(), log), judged(reference(), log)),
        "failed": (judged(run(Fault(Link.LOSS, 9, 5.0)), log), NOT_RUN),
        "nothing ran": (NOT_RUN,),
        "not finite": (judged(replace(run(), updates=broken), log),),
    }
    draw(certificate(*results[kind]), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_no_two_variants_look_alike_in_the_figure(log: Path) -> None:
    variants = [v for backend in ("playground", "deepspeed", "huggingface") for v in usual(backend, 2)]
    variants += [Variant("playground", (("batch_size", n),)) for n in range(1, 20)]
    one = judged(run(), log)
    face = Typeface((), (), (), ())
    figure = picture(certificate(*(replace(one, variant=variant) for variant in variants)), face)
    for axes in figure.axes:
        lines = [line for line in axes.lines if line.get_marker() not in ("None", "")]
        assert len(lines) == len(variants)
        assert len({(line.get_color(), line.get_marker()) for line in lines}) == len(variants)
    (legend,) = figure.legends
    assert len({text.get_text() for text in legend.get_texts()}) == len(variants) + 1, "and the tolerance"


def test_a_variant_s_name_is_drawn_whatever_is_in_it(log: Path, tmp_path: Path) -> None:
    """Warnings are errors here: a character that no font can draw would fail the test."""
    odd = Variant("playground", (("deepspeed", "配置🚀$\\frac{$"),))
    face = Typeface((), (), (), ())
    notes = draw(certificate(replace(judged(run(), log), variant=odd)), tmp_path / "figure.png", face)
    assert any(note.startswith("in the figure, name 1 is playground:deepspeed=配置🚀") for note in notes)
    draw(certificate(replace(judged(run(), log), variant=odd)), tmp_path / "figure.png", Typeface())
