"""The folders of tools/ import downwards only. The order, from the bottom to the top:

1. `command_line.py`: how a command reads its flags and ends;
2. `figures/`: fonts, scales, aligned text and output files;
3. `runs/`: the one reader of runs;
4. `landscape/`, `verification/`, `datasets/`, `cloud_jobs/`: one subject each, none of which knows another;
5. `dashboard/`, `monitoring/`, `diagnosis/`, `parity/`: views and checks that may use the subjects below them;
6. `experiment_views/`, `server/`: many runs at once, shown as those views show one;
7. the commands, which may use everything and which nothing imports.

A folder with rooms of its own has an order too: `verification/` stands on `verification/shortcuts/`, and that on
`verification/questions/`; `datasets/hlbd_full/` on its patterns, these on the lexicon, and that on the languages.
`server/` has, from the bottom to the top, what runs have recorded (`reading/`, `report/`), who may ask and how errors
are said (`gate/`), settings that may be sent (`settings/`), work in processes of its own (`workers/`), and the routes.
"""

from __future__ import annotations

from graphlib import TopologicalSorter

import pytest

from tests.test_architecture import MODULES, ROOT, imports

FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"command_line"}),
    frozenset({"figures"}),
    frozenset({"runs"}),
    frozenset({"landscape", "verification", "datasets", "cloud_jobs"}),
    frozenset({"dashboard", "monitoring", "diagnosis", "parity"}),
    frozenset({"experiment_views", "server"}),
)
ROOMS: dict[str, tuple[str, ...]] = {
    "tools.verification": ("questions", "shortcuts", ""),
    "tools.datasets.hlbd_full": ("languages", "lexicon", "patterns", ""),
    "tools.server": ("reading", "report", "gate", "settings", "workers", "routes", ""),
}
"""Folder -> its rooms from the bottom to the top; "" stands for the files of the folder itself."""


def inside_tools(module: str) -> set[str]:
    """Return the modules of tools/ that a module imports anywhere, in functions and for types too."""
    return {name for name in imports(module, everywhere=True) if name.startswith("tools.") and name in MODULES}


def room_of(module: str) -> str:
    """Return the part below `tools`: a folder, or a file of tools/ itself."""
    return module.split(".")[1]


TOOLS = sorted(module for module in MODULES if module.startswith("tools."))
FOLDERS = sorted({path.name for path in (ROOT / "tools").iterdir() if path.is_dir() and any(path.rglob("*.py"))})
COMMANDS = sorted({path.stem for path in (ROOT / "tools").glob("*.py")} - {"__init__", "command_line"})


def floor_of(room: str) -> int:
    """Return the floor of a folder, counted from the bottom; the commands are above all of them."""
    return len(FLOORS) if room in COMMANDS else next(n for n, rooms in enumerate(FLOORS) if room in rooms)


def test_every_folder_has_its_place_in_the_order() -> None:
    assert sorted(room for rooms in FLOORS for room in rooms) == sorted(["command_line", *FOLDERS])


def test_folders_import_downwards_only() -> None:
    arrows = {(module, name) for module in TOOLS for name in inside_tools(module)}
    assert ("tools.parity.figure", "tools.figures.fonts") in arrows
    upwards = [
        arrow
        for arrow in sorted(arrows)
        if room_of(arrow[0]) != room_of(arrow[1]) and floor_of(room_of(arrow[0])) <= floor_of(room_of(arrow[1]))
    ]
    assert upwards == []


def test_no_module_is_in_a_circle() -> None:
    # Raises CycleError, which names the circle.
    assert len(list(TopologicalSorter({module: inside_tools(module) for module in TOOLS}).static_order())) >= len(TOOLS)


@pytest.mark.parametrize("folder", ROOMS)
def test_rooms_of_a_folder_import_downwards_only(folder: str) -> None:
    rooms = ROOMS[folder]

    def height(module: str) -> int:
        room = module.removeprefix(f"{folder}.").partition(".")[0]
        return rooms.index(room if room in rooms else "")

    inside = [module for module in TOOLS if module.startswith(f"{folder}.")]
    assert {height(module) for module in inside} == set(range(len(rooms)))
    arrows = [(module, name) for module in inside for name in inside_tools(module) if name.startswith(f"{folder}.")]
    assert [arrow for arrow in sorted(arrows) if height(arrow[0]) < height(arrow[1])] == []
