"""The catalogue: each English text of the code has its Chinese twin with the same fields, and none is left over."""

from __future__ import annotations

import ast
import string
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from tools.diagnosis.findings import Status
from tools.parity.certificate import State as Outcome
from tools.verification.shortcuts.trials import Verdict
from training.experiments.jobs.states import JobState
from training.experiments.model_versions.version import Damage
from training.experiments.store.artefacts import Condition
from training.language.chinese import CHINESE
from training.record.run_state import State

ROOT = Path(__file__).resolve().parents[3]
CODE = [path for folder in ("training", "tools", "apt_model") for path in sorted((ROOT / folder).rglob("*.py"))]
ENUMERATIONS: tuple[type[StrEnum], ...] = (State, JobState, Verdict, Outcome, Status, Condition, Damage)
"""Words that are shown by their value: `Message(run.state.value)`."""
OTHERS = {
    "PPL", "Acc", "accuracy",  # labels and names of metrics (training/tasks/metrics.py)
    "majority answer", "template only", "number copy", "lookup", "ignored tag",  # tools/verification/shortcuts/
}  # fmt: skip
"""Words that the code looks up by a variable."""
WORDS = {value.value for enumeration in ENUMERATIONS for value in enumeration} | OTHERS


def called(node: ast.Call) -> str:
    """Return the last name of what is called: `Message.joined` -> joined."""
    return ast.unparse(node.func).rpartition(".")[2]


def templates() -> Iterator[tuple[str, str]]:
    """Yield (place, template) of every `Message("…", …)` and separator of `Message.joined("…", …)` in the code."""
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and called(node) in ("Message", "joined") and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", first.value


FOUND = {template: place for place, template in templates()}


def fields(template: str) -> list[tuple[str, str, str]]:
    """Return (name, format, conversion) of a template's fields, sorted."""
    parts = string.Formatter().parse(template)
    return sorted((name, form or "", conversion or "") for _, name, form, conversion in parts if name is not None)


def test_every_text_of_the_code_has_a_chinese_twin() -> None:
    assert not {template: place for template, place in FOUND.items() if template not in CHINESE}
    assert sorted(WORDS - CHINESE.keys()) == []


def test_no_chinese_text_is_left_over() -> None:
    assert sorted(CHINESE.keys() - FOUND.keys() - WORDS) == []


def test_both_languages_have_the_same_fields() -> None:
    assert not [english for english, chinese in CHINESE.items() if fields(chinese) != fields(english)]


def test_epoch_and_token_stay_as_the_chinese_pages_say_them() -> None:
    assert not [text for text in CHINESE.values() if "词元" in text or "轮" in text]
