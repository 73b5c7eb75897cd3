#!/usr/bin/env python3
"""Write what docs/ARCHITECTURE.md says of the tree: the files of each room of training/, and the graph of the rooms.

    python tools/document_architecture.py            # write both languages' pages
    python tools/document_architecture.py --check    # only check that they are up to date

The pages themselves name the rooms in order, from the bottom to the top, with what each is for; a room may import
those above it in the table only, which a test reads from there (tests/test_architecture.py). This tool fills in the
files and draws the arrows.

Exit code: 0, 1 with --check if a page is out of date, 2 for unusable input.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
if __name__ == "__main__":
    from training.machine.startup import begin

    begin()

from tools.command_line import CommandLine, finish
from tools.figures.output_file import write_atomically

EXIT_OUT_OF_DATE = 1
PAGES = (ROOT / "docs" / "ARCHITECTURE.md", ROOT / "docs" / "zh-CN" / "ARCHITECTURE.md")
ROW = re.compile(r"^\| `(?P<room>[\w.]+/?)` \| (?P<purpose>.*?) \|(?P<files>[^|]*)\|$", re.MULTILINE)
GRAPH = re.compile(r"```mermaid\n.*?```", re.DOTALL)
FRONT_DOOR = "front door"


def rooms(page: str) -> list[str]:
    """Return the rooms that a page's table names, from the bottom to the top: `settings/`, `errors.py`, …"""
    return [row["room"] for row in ROW.finditer(page)]


def files_of(room: str) -> Iterator[str]:
    """Yield the names of a room's Python files without their ending; a folder inside it in brackets behind its name."""
    folder = ROOT / "training" / room
    for path in sorted(folder.iterdir()):
        if path.is_dir() and any(path.glob("*.py")):
            yield f"{path.name}/ ({' '.join(files_of(f'{room}{path.name}/'))})"
        elif path.suffix == ".py" and path.stem != "__init__":
            yield path.stem


def room_of(module: str) -> str:
    """Return the room of a module of training: `settings/`, `errors.py`; the scripts are the front door."""
    part = module.split(".")[1]
    if (ROOT / "training" / part).is_dir():
        return f"{part}/"
    return FRONT_DOOR if part.startswith("train") else f"{part}.py"


def imported(path: Path) -> Iterator[str]:
    """Yield the dotted names of modules of training that a file imports, in functions and for type checkers too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("training."):
            yield node.module
        elif isinstance(node, ast.ImportFrom) and node.module == "training":
            yield from (f"training.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("training."))


def arrows() -> dict[str, set[str]]:
    """Return room -> rooms that it imports."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "training").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path == ROOT / "training" / "__init__.py":
            continue
        room = room_of(module)
        names = (name for name in imported(path) if (ROOT / Path(*name.split("."))).with_suffix(".py").exists()
                 or (ROOT / Path(*name.split("."))).is_dir())  # fmt: skip
        found.setdefault(room, set()).update(room_of(name) for name in names)
        found[room].discard(room)
    return found


def shortest(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Leave out every arrow that a longer way implies (the transitive reduction of a graph without circles)."""
    order = list(TopologicalSorter(graph).static_order())
    below: dict[str, set[str]] = {}
    for room in order:
        below[room] = {other for direct in graph.get(room, ()) for other in (direct, *below[direct])}
    return {
        room: {one for one in graph.get(room, ()) if not any(one in below[other] for other in graph[room] - {one})}
        for room in order
    }


def graph_lines(names: list[str]) -> Iterator[str]:
    """Yield the graph of the rooms as Mermaid draws it, in the order of the table."""
    direct = shortest(arrows())
    place = {room: f"r{number}" for number, room in enumerate([*names, FRONT_DOOR])}
    yield "```mermaid"
    yield "graph BT"
    for room, key in place.items():
        yield f'  {key}["{room.rstrip("/")}"]'
    for room in place:
        for other in sorted(direct.get(room, ()), key=list(place).index):
            yield f"  {place[room]} --> {place[other]}"
    yield "```"


def filled_in(page: str) -> str:
    """Return a page with the files of the tree and the graph of its imports."""

    def row(found: re.Match[str]) -> str:
        room = found["room"]
        files = " ".join(files_of(room)) if room.endswith("/") else "—"
        return f"| `{room}` | {found['purpose']} | {files} |"

    graph = "\n".join(graph_lines(rooms(page)))
    return GRAPH.sub(lambda _: graph, ROW.sub(row, page))


def run(arguments: list[str]) -> int:
    """Write or check the pages; return the exit code."""
    parser = CommandLine(__doc__)
    parser.add_argument("--check", action="store_true", help="only check the pages; write nothing")
    options = parser.parse_args(arguments)
    stale = [page for page in PAGES if filled_in(page.read_text(encoding="utf-8")) != page.read_text(encoding="utf-8")]
    if options.check:
        names = ", ".join(str(page.relative_to(ROOT)) for page in stale)
        print(f"out of date: {names}; run tools/document_architecture.py" if stale else "the pages are up to date")
        return EXIT_OUT_OF_DATE if stale else 0
    for page in stale:
        write_atomically(page, filled_in(page.read_text(encoding="utf-8")).encode())
    return 0


def main() -> int:
    """Run the tool as a process; its module docstring lists the exit codes."""
    return finish("document_architecture", run)


if __name__ == "__main__":
    sys.exit(main())
