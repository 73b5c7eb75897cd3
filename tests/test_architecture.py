"""The shape of the house: folders that import downwards only, a front door without torch, pages that are true."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tools import document_architecture

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
    assert ("training.models.apt.family", "apt_model.model") in arrows()
    assert ("training.train_hlbd_playground", "training.run") in arrows()
    assert "training.run" not in imports("training.train_hlbd_playground", everywhere=False)
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
    for package in sorted(name for name, path in MODULES.items() if path.name == "__init__.py" and name != "training"):
        assert imports(package, everywhere=True) == frozenset(), package


def test_the_python_api_is_imported_when_it_is_used() -> None:
    assert reached_on_import("training") <= {"training", "typing", "__future__"}


# -- rooms ---------------------------------------------------------------------------------------------------------


def order() -> list[str]:
    """Return the rooms of training/ from the bottom to the top, as docs/ARCHITECTURE.md has them."""
    return document_architecture.rooms((ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8"))


def test_the_page_names_every_room_of_the_tree_once() -> None:
    folders = {f"{p.name}/" for p in (ROOT / "training").iterdir() if p.is_dir() and any(p.rglob("*.py"))}
    files = {p.name for p in (ROOT / "training").glob("*.py") if not p.name.startswith(("train", "__init__"))}
    assert sorted(order()) == sorted(folders | files)


def test_a_room_imports_only_rooms_below_it() -> None:
    place = {room: number for number, room in enumerate([*order(), document_architecture.FRONT_DOOR])}
    upwards = [
        (module, name)
        for module, name in arrows()
        if name in MODULES and module.startswith("training.") and name.startswith("training.")
        if place[document_architecture.room_of(name)] > place[document_architecture.room_of(module)]
    ]
    assert upwards == []


def test_no_circle_between_folders() -> None:
    folder = {name: str(path.parent.relative_to(ROOT)) for name, path in MODULES.items()}
    graph: dict[str, set[str]] = {}
    for module, name in arrows():
        # Files of training/ and tools/ themselves lie at both ends of the order; other tests have them.
        if (
            name in MODULES
            and folder[name] != folder[module]
            and not {"training", "tools"} & {folder[name], folder[module]}
        ):
            graph.setdefault(folder[module], set()).add(folder[name])
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which shows the circle


def test_the_pages_list_the_files_and_draw_the_arrows_that_there_are() -> None:
    for page in document_architecture.PAGES:
        text = page.read_text(encoding="utf-8")
        assert document_architecture.filled_in(text) == text, "run: python tools/document_architecture.py"
    assert len({tuple(document_architecture.rooms(page.read_text())) for page in document_architecture.PAGES}) == 1


def test_what_the_graph_leaves_out_follows_from_what_it_draws() -> None:
    whole, drawn = document_architecture.arrows(), document_architecture.shortest(document_architecture.arrows())

    def reached(room: str) -> set[str]:
        return {other for direct in drawn.get(room, ()) for other in (direct, *reached(direct))}

    assert all(drawn[room] <= others for room, others in whole.items()), "no arrow is made up"
    assert all(reached(room) == others | {o for one in others for o in reached(one)} for room, others in whole.items())


HLBD_AND_APT = ("apt_model", "training.tasks.hlbd", "training.models.apt")
"""The first task and the first family: in the product, only these folders import one another."""


def test_nothing_of_the_product_imports_the_first_task_or_family() -> None:
    def is_one(name: str) -> bool:
        return any(name == folder or name.startswith(f"{folder}.") for folder in HLBD_AND_APT)

    assert [a for a in arrows() if a[0].startswith("training.") and not is_one(a[0]) and is_one(a[1])] == []


def test_no_viewer_imports_the_first_task_or_family() -> None:
    viewers = ("tools.runs", "tools.monitoring", "tools.dashboard", "tools.landscape", "tools.parity", "tools.figures")
    found = [a for a in arrows() if a[0].startswith(viewers) and a[1].startswith(HLBD_AND_APT)]
    assert found == []


# -- what an import brings in --------------------------------------------------------------------------------------


LIGHT_MODULES = (
    *("errors", "train", "backends.protocol", "backends.registry", "forecast.dry_run", "forecast.memory"),
    *("experiments.jobs.job_queue", "experiments.jobs.process", "experiments.model_versions.local_registry"),
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
"""Imports of the front door, of a dry run and of the readers of a record."""


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
