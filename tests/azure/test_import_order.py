"""The five folders of the Azure backend import downwards only, and nothing of the trackers knows them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import training.azure

AZURE = Path(training.azure.__file__).parent
ORDER = ("service", "settings", "submit", "follow", "fetch")


def azure_imports(file: Path) -> set[str]:
    """Folders of training/azure that a file imports anywhere, also in functions and for type checkers."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    return {name.split(".")[2] for name in names if name.startswith("training.azure.")}


def test_the_order_names_every_folder_and_no_file_lies_outside_of_them() -> None:
    assert {path.name for path in AZURE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(ORDER)
    assert [path.name for path in AZURE.glob("*.py")] == ["__init__.py"]
    written = [line.split()[0] for line in (training.azure.__doc__ or "").splitlines() if line.startswith(ORDER)]
    assert tuple(written) == ORDER, "the order that people read is the one that is tested"


@pytest.mark.parametrize("folder", ORDER)
def test_a_folder_imports_from_itself_and_from_those_before_it(folder: str) -> None:
    allowed = set(ORDER[: ORDER.index(folder) + 1])
    files = list((AZURE / folder).glob("*.py"))
    assert len(files) > 1
    assert {file.name: above for file in files if (above := azure_imports(file) - allowed)} == {}


@pytest.mark.parametrize("room", ["tracking", "experiments"])
def test_what_azure_builds_on_does_not_know_azure(room: str) -> None:
    files = list((AZURE.parent / room).glob("*.py"))
    assert [file.name for file in files if "training.azure" in file.read_text(encoding="utf-8")] == []
