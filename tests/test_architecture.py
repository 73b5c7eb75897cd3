"""The shape of the house: arrows that point one way, a front door without torch, files that one can read."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("apt_model", "training", "tools")
LIGHT = ("torch", "deepspeed", "transformers", "azure", "mlflow", "matplotlib")
"""What the front door must not import before a run begins."""


def source_files() -> Iterator[Path]:
    """Every Python file of the project: packages, scripts and tests."""
    yield ROOT / "train.py"
    for folder in (*OURS, "benchmarks", "tests"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """`training/loop/trainer.py` -> `training.loop.trainer`, a package's `__init__.py` -> the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in source_files() if path.relative_to(ROOT).parts[0] in OURS}
BACKENDS = {name for name in MODULES if name.startswith("training.train_")}


def is_for_types_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def statements(node: ast.AST, everywhere: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements under a node: those that run when the module is imported, or those in functions too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.stmt) and is_for_types_only(child) and not everywhere:
            assert isinstance(child, ast.If)
            for other in child.orelse:
                yield from statements(other, everywhere)
        elif everywhere or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from statements(child, everywhere)


@cache
def imports(module: str, everywhere: bool) -> frozenset[str]:
    """Dotted names that a module of ours imports.

    `everywhere` counts imports inside functions and for type checkers too: they are arrows of the design all the
    same. Without it only those count that run when the module is imported.
    """
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    found: set[str] = set()
    for statement in statements(tree, everywhere):
        if isinstance(statement, ast.Import):
            found.update(alias.name for alias in statement.names)
            continue
        assert statement.level == 0, f"{module} has a relative import; the project writes them out"
        base = statement.module or ""
        found.add(base)
        found.update(name for alias in statement.names if (name := f"{base}.{alias.name}") in MODULES)
    return frozenset(found)


def package_of(name: str) -> str:
    return name.partition(".")[0]


def reached_on_import(module: str) -> frozenset[str]:
    """Top-level names of everything that comes in when a module of ours is imported."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in MODULES:
            waiting += imports(name, everywhere=False)
    return frozenset(map(package_of, seen))


def arrows() -> set[tuple[str, str]]:
    """(module, what it imports) for every import anywhere in our packages."""
    return {(module, name) for module in MODULES for name in imports(module, everywhere=True)}


# -- the reader of imports itself ----------------------------------------------------------------------------------


def test_imports_are_found_where_they_run_and_where_they_do_not() -> None:
    tree = ast.parse(
        "import a.b\n"
        "from c import d\n"
        "if TYPE_CHECKING:\n    import for_types\n"
        "if sys.platform == 'win32':\n    import e\n"
        "try:\n    import f\nexcept ImportError:\n    import g\n"
        "class C:\n    import h\n    def m(self):\n        import inside\n"
    )

    def names(everywhere: bool) -> list[str]:
        return [ast.unparse(statement).split()[1] for statement in statements(tree, everywhere)]

    assert names(everywhere=False) == ["a.b", "c", "e", "f", "g", "h"]
    assert names(everywhere=True) == ["a.b", "c", "for_types", "e", "f", "g", "h", "inside"]


def test_the_known_arrows_are_found() -> None:
    assert ("training.loop.trainer", "training.tasks.batch_plan") in arrows()
    assert ("training.tasks.protocol", "apt_model.model") in arrows()
    assert ("training.train_hlbd_playground", "training.loop.run") in arrows()
    assert "training.loop.trainer" not in imports("training.train_hlbd_playground", everywhere=False)
    assert "torch" in reached_on_import("training.loop.trainer")


# -- arrows --------------------------------------------------------------------------------------------------------


def test_the_model_imports_nothing_of_ours_from_outside() -> None:
    assert [a for a in arrows() if package_of(a[0]) == "apt_model" and package_of(a[1]) in {"training", "tools"}] == []


def test_training_imports_no_tools() -> None:
    assert [a for a in arrows() if package_of(a[0]) == "training" and package_of(a[1]) == "tools"] == []


def test_no_package_imports_scripts_or_tests() -> None:
    assert [a for a in arrows() if package_of(a[1]) in {"train", "tests", "benchmarks", "conftest"}] == []


def test_backends_never_import_one_another() -> None:
    assert BACKENDS
    assert [a for a in arrows() if a[0] in BACKENDS and a[1] in BACKENDS] == []


def test_nothing_but_a_registry_of_names_knows_the_backends() -> None:
    assert [a for a in arrows() if a[1] in BACKENDS] == []


def test_importing_a_package_costs_nothing() -> None:
    for package in ("apt_model", "training", "tools"):
        assert imports(package, everywhere=False) <= {"__future__", "typing"}, package


LIGHT_MODULES = (
    *("errors", "train", "backends.protocol", "backends.registry", "forecast.dry_run", "forecast.memory"),
    *("launch.launcher", "launch.output_relay", "launch.worker", "loop.callbacks", "loop.schedules"),
    *("machine.free_memory", "machine.stop_signals", "record.follower", "record.report", "record.reporter"),
    *(
        "settings.flags",
        "settings.layers",
        "settings.tree",
        "tasks.batch_plan",
        "tasks.hlbd.dataset",
        "tasks.hlbd.files",
    ),
)
"""What the front door, a dry run and the readers of a record import."""


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_a_module_of_the_front_door_or_the_record_brings_in_no_torch(module: str) -> None:
    assert f"training.{module}" in MODULES
    assert reached_on_import(f"training.{module}").isdisjoint(LIGHT)


@pytest.mark.parametrize("module", ["config", "errors", "tokenizer"])
def test_the_models_settings_bring_in_no_torch(module: str) -> None:
    assert reached_on_import(f"apt_model.{module}").isdisjoint(LIGHT)


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_a_backend_is_cheap_to_ask_about(backend: str) -> None:
    assert reached_on_import(backend).isdisjoint(LIGHT)


# -- files ---------------------------------------------------------------------------------------------------------


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    drawers = re.compile(r"(^|_)(utils?|helpers?|misc|common)(_|$)")
    assert [p for p in source_files() if any(map(drawers.search, p.relative_to(ROOT).with_suffix("").parts))] == []


def test_no_script_shadows_a_library_when_it_is_run_by_path() -> None:
    # Run by path, a script's own folder comes first on sys.path: its `datasets.py` would be everybody's `datasets`.
    libraries = sys.stdlib_module_names | set(LIGHT) | {
        "accelerate", "datasets", "evaluate", "huggingface_hub", "hypothesis", "numpy", "pydantic", "pydantic_settings",
        "pytest", "safetensors", "tokenizers", "tqdm", "trl", "wandb", "yaml",
    }  # fmt: skip
    folders = (ROOT, ROOT / "training", ROOT / "tools", ROOT / "benchmarks")
    assert [p for folder in folders for p in folder.glob("*.py") if p.stem in libraries] == []


# -- the front door ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("script", ["train.py", "training/train.py", "training/train_hlbd_playground.py"])
@pytest.mark.parametrize("flag", ["--help", "--list-backends", "--dry-run"])
def test_asking_the_front_door_imports_nothing_heavy(script: str, flag: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / script), flag],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()
    assert "training.settings.tree" in imported
    assert {package_of(name) for name in imported}.isdisjoint(LIGHT)
    assert list(tmp_path.iterdir()) == [], "asking writes nothing"
