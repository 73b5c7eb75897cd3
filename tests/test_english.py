"""Plain English in docstrings and comments: imperative docstrings, and no word that a reader stumbles over."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COVERED = (
    "train.py",
    "apt_model",
    "benchmarks",
    "tools/cloud_jobs",
    "tools/dashboard",
    "tools/diagnosis",
    "tools/export_model.py",
    "tools/figures",
    "tools/landscape",
    "tools/monitoring",
    "tools/parity",
    "tools/runs",
    "tools/verification",
    "training/__init__.py",
    "training/azure",
    "training/backends",
    "training/checkpoints",
    "training/engines",
    "training/experiments",
    "training/forecast",
    "training/launch",
    "training/loop",
    "training/machine",
    "training/models",
    "training/publish",
    "training/record",
    "training/run.py",
    "training/settings",
    "training/storage",
    "training/tasks",
    "training/train.py",
    "training/train_azure_ml.py",
    "training/train_deepspeed.py",
    "training/train_hf_trainer.py",
    "training/train_hlbd_playground.py",
)
"""Files and folders whose English is checked."""
NOT_IMPERATIVE = frozenset({"of", "what", "where", "whether", "each", "ours"})
"""First words of a function's docstring that are no verb."""
FORBIDDEN = re.compile(
    r"\b(anew|thereby|wherein|whereof|told|of ours|what cannot be)\b|\bin [^.;:,]{1,40} stead\b(?! of)", re.IGNORECASE
)
QUOTED_CODE = re.compile(r"`[^`]*`|\"[^\"]*\"")


def sources(covered: str) -> Iterator[Path]:
    path = ROOT / covered
    yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


def documented(tree: ast.AST) -> Iterator[tuple[int, str, bool]]:
    """Yield (line, text, True for a function's) of every docstring, those below an attribute included."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for place, statement in enumerate(body if isinstance(body, list) else []):
            if (
                isinstance(statement, ast.Expr)
                and isinstance(statement.value, ast.Constant)
                and isinstance(statement.value.value, str)
            ):
                yield statement.lineno, statement.value.value, is_function and place == 0


def comments(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every comment; the lines of a longer one are joined."""
    lines: dict[int, list[str]] = {}
    last = first = -1
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            first = first if token.start[0] == last + 1 else token.start[0]
            last = token.start[0]
            lines.setdefault(first, []).append(token.string.lstrip("# "))
    for line, parts in lines.items():
        yield line, " ".join(parts)


def faults(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line, what is wrong) of a file's docstrings and comments."""
    prose = list(comments(text))
    for line, docstring, is_function in documented(ast.parse(text)):
        prose.append((line, docstring))
        words = docstring.split()
        first = words[0].strip(".,:;").lower() if words else ""
        if is_function and len(words) < 2:
            yield line, f"a docstring of {len(words)} word"
        elif is_function and first in NOT_IMPERATIVE:
            yield line, f"a function's docstring that begins with {words[0]}"
    for line, sentence in prose:
        for found in FORBIDDEN.finditer(QUOTED_CODE.sub(" ", sentence)):
            yield line + sentence[: found.start()].count("\n"), f"the word {found.group()!r}"


@pytest.mark.parametrize("covered", COVERED)
def test_docstrings_and_comments_are_plain_english(covered: str) -> None:
    files = list(sources(covered))
    assert files, f"{covered} is not there"
    found = [
        f"{path.relative_to(ROOT)}:{line}: {fault}"
        for path in files
        for line, fault in sorted(faults(path.read_text(encoding="utf-8")))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('def f():\n    """Of a run."""\n', [(2, "a function's docstring that begins with Of")]),
        ('def f():\n    """Whether it ended."""\n', [(2, "a function's docstring that begins with Whether")]),
        ('def f():\n    """Each."""\n', [(2, "a docstring of 1 word")]),
        ('def f():\n    """Return it, which is\n    drawn anew."""\n', [(3, "the word 'anew'")]),
        ('x = 1\n"""A word told twice."""\n', [(2, "the word 'told'")]),
        ("# A file of\n# ours.\nx = 1\n", [(1, "the word 'of ours'")]),
        ("x = 1  # DeepSpeed steps in the loop's stead\n", [(1, 'the word "in the loop\'s stead"')]),
    ],
)
def test_the_lint_finds(text: str, expected: list[tuple[int, str]]) -> None:
    assert list(faults(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        'def f():\n    """Return `told`, a name in the code."""\n',
        'class Run:\n    """What a run holds."""\n',
        "# in one pass, instead of two\nx = 1\n",
        'told = "anew"\n',
    ],
)
def test_the_lint_lets_pass(text: str) -> None:
    assert list(faults(text)) == []
