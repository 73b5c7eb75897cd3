"""Gates: open only where every figure that they name was measured, is finite, and is as the condition says."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.finished_runs import finished
from training.errors import UserError
from training.experiments.model_versions.gates import ask_gate
from training.experiments.model_versions.local_registry import LocalRegistry
from training.experiments.model_versions.version import Version

FIGURES = {"verifier.new_fact": 0.6, "val_loss": 1.5, "grad_norm": None}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> LocalRegistry:
    """A registry with one version, whose figures are those of its run."""
    folder = tmp_path_factory.mktemp("gates")
    registry = LocalRegistry(folder / "models")
    settings = {"run": {"seed": 42, "note": None, "fused": True}}
    registry.register("m", finished(folder / "run", settings=settings))
    return registry


@pytest.fixture(scope="module")
def version(registry: LocalRegistry) -> Version:
    return registry.find("m:1")


@pytest.mark.parametrize(
    ("gate", "is_open"),
    [
        ("verifier.new_fact >= 0.6", True),
        ("verifier.new_fact > 0.6", False),
        ("verifier.new_fact >= 0.6 and val_loss < 1.5", False),
        ("verifier.new_fact >= 0.7 or val_loss in (1.5, 2)", True),
        ("not val_loss > 2", True),
        ("seed = 42 and data.loss_on = 'answer' and fused", True),
        ("model = 'apt' and state = 'finished'", True),
        ("grad_norm < 5", False),
        ("not grad_norm < 5", False),
        ("grad_norm is nan", False),
        ("val_loss < 2 or grad_norm < 5", False),
    ],
)
def test_a_gate_is_open_where_it_holds_and_all_it_names_is_finite(gate: str, is_open: bool, version: Version) -> None:
    assert ask_gate(gate, version, FIGURES).is_open == is_open


def test_a_gate_says_what_it_has_read(version: Version) -> None:
    found = ask_gate("verifier.new_fact >= 0.6 and seed = 42 and fused and not grad_norm > 5", version, FIGURES)
    assert found.values == {"verifier.new_fact": 0.6, "seed": 42, "fused": True, "grad_norm": None}


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (
            "verifier.new_fakt >= 0.6",
            "unknown name 'verifier.new_fakt' at character 1; did you mean 'verifier.new_fact'?",
        ),
        ("not val_lose > 2", "unknown name 'val_lose' at character 5; did you mean 'val_loss'?"),
        ("not best_loss > 2", "name 'best_loss' at character 5 has no value for m:1: nobody measured or set it"),
        ("run.note is null", "name 'run.note' at character 1 has no value for m:1"),
        ("val_loss < 2 or eta_seconds < 5", "'eta_seconds' at character 17 is about runs in a list"),
        ("not tag = 'bad'", "name 'tag' at character 5 is about runs in a list, and says nothing of a model"),
        ("val_loss <", "expected a name, a number or a text in quotes"),
        ("1 < 2", "compares no name of a run"),
        ("", "expected a name, a number or a text in quotes at character 1, got the end"),
        ("model = 'a\ud800'", "it holds bytes that are no text"),
        ("val_loss < " + "9" * 5000, "a condition has up to 4,000 characters"),
    ],
)
def test_a_gate_that_cannot_be_answered_is_an_error_and_never_open(gate: str, said: str, version: Version) -> None:
    with pytest.raises(UserError) as caught:
        ask_gate(gate, version, FIGURES)
    assert str(caught.value).startswith("--gate")
    assert said in str(caught.value)


@given(
    value=st.floats() | st.none(),
    limit=st.floats(-1e6, 1e6).map(lambda number: round(number, 3)),
    sign=st.sampled_from(["<", "<=", "=", "!=", ">=", ">"]),
    negated=st.booleans(),
)
def test_no_gate_opens_for_a_figure_that_is_not_known_or_not_finite(
    value: float | None, limit: float, sign: str, negated: bool, version: Version
) -> None:
    gate = f"{'not ' if negated else ''}x {sign} {limit!r}"
    if value is None:
        with pytest.raises(UserError, match="unknown name 'x'"):
            ask_gate(gate, version, {})
        return
    is_finite = math.isfinite(value)
    holds = {"<": value < limit, "<=": value <= limit, "=": value == limit}
    holds |= {"!=": value != limit, ">=": value >= limit, ">": value > limit}
    assert ask_gate(gate, version, {"x": value if is_finite else None}).is_open == (
        is_finite and holds[sign] != negated
    )


def test_an_alias_moves_only_through_an_open_gate_and_keeps_what_the_gate_read(registry: LocalRegistry) -> None:
    shut = registry.point("m", "prod", "1", gate="val_loss < 0.5")
    assert (shut.is_done, shut.before, registry.aliases("m")) == (False, None, {})
    with pytest.raises(UserError, match=r"--gate .*unknown name 'val_los'"):
        registry.point("m", "prod", "1", gate="val_los < 2")
    with pytest.raises(UserError, match=r"--verification .*there is none; add --gate"):
        registry.point("m", "prod", "1", verification=Path("report.json"))
    assert registry.aliases("m") == {}
    assert registry.point("m", "prod", "1", gate="val_loss < 2 and step = 20").is_done
    [move] = registry.history("m", "prod")
    assert (move.number, move.gate, move.values) == (1, "val_loss < 2 and step = 20", {"val_loss": 1.0, "step": 20.0})
