"""The training rows of HLBD Hardcore, as a stream, and the file that holds them."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

from tools.datasets.hlbd_hardcore.fact import Kind, Row
from tools.datasets.hlbd_hardcore.lane import shares
from tools.datasets.hlbd_hardcore.modules import MODULES
from tools.datasets.hlbd_hardcore.permutation import Permutation
from tools.datasets.hlbd_hardcore.weights import apportion, as_numbers
from tools.figures.output_file import write_atomically

Weights = Mapping[str, Fraction]
"""The weight of every module; where it may be None: equal weights."""
MIN_SIZE = len(MODULES)
MAX_SIZE = 1_000_000
SEED = 20_240
"""Seed of the committed files."""
SIZES = {1: 575, 2: 5042}
"""Rows of each version."""

_DESCRIPTIONS = {
    1: "五个模块的短问答，每题只有一个正确答案。Short questions in five modules, one right answer each.",
    2: (
        "五个模块的短问答，问法多样、顺序打散。"
        "Short questions in five modules, many phrasings, shuffled; phrasing and answer are independent."
    ),
}


def module_sizes(size: int, weights: Weights | None = None) -> dict[str, int]:
    """Return the rows per module, as close to its weight as possible; the first modules take the remainder.

    Raises:
        ValueError: a module would get no row, or more rows than it has questions.
    """
    given = weights or dict.fromkeys(MODULES, Fraction(1))
    sizes = dict(zip(MODULES, apportion(size, [given[module] for module in MODULES]), strict=True))
    for module, rows in sizes.items():
        if rows == 0:
            raise ValueError(f"{module} would get none of {size} rows; give it more weight or raise --size")
        try:
            shares(MODULES[module], rows)
        except ValueError as error:
            raise ValueError(f"{module}: {error}; give it less weight or lower --size") from error
    return sizes


def training_rows(module: str, rows: int, seed: int) -> Iterator[Row]:
    """Yield `rows` training rows of a module in shuffled order, computed one by one.

    The order of the lanes is a permutation too, so that no part of the file has its own mixture.
    """
    lanes = shares(MODULES[module], rows)
    streams = [lane.rows(seed) for lane, _ in lanes]
    ends = list(accumulate(share for _, share in lanes))
    places = Permutation(rows, f"{seed}/{module}")
    for index in range(rows):
        yield next(streams[bisect_right(ends, places(index))])


def training_metadata(version: int, size: int, seed: int, weights: Weights | None = None) -> dict[str, object]:
    """Return the header of a training file; it holds nothing that differs from run to run."""
    return {
        "name": "HLBD_Hardcore" if version == 1 else f"HLBD_Hardcore_V{version}",
        "version": f"{version}.0",
        "description": _DESCRIPTIONS[version],
        "total_samples": size,
        "modules": list(MODULES),
        **({"weights": as_numbers(weights)} if weights else {}),
        "samples_per_module": module_sizes(size, weights),
        "seed": seed,
        "generator": "tools/generate_hlbd_hardcore.py",
    }


def write_training_file(path: Path, version: int, size: int, seed: int, weights: Weights | None = None) -> None:
    """Write a training file row by row, in constant memory.

    Raises:
        UserError: it cannot be written.
        ValueError: as `module_sizes`.
    """
    columns = {
        module: ({"input": row.input, "output": row.output} for row in training_rows(module, rows, seed))
        for module, rows in module_sizes(size, weights).items()
    }
    write_rows(path, training_metadata(version, size, seed, weights), columns)


def write_rows(path: Path, metadata: Mapping[str, object], modules: Mapping[str, Iterable[Mapping[str, str]]]) -> None:
    """Write a dataset, one row a line, whole or not at all and in constant memory.

    Raises:
        UserError: it cannot be written.
    """
    write_atomically(path, _pieces(metadata, modules))


def _pieces(metadata: Mapping[str, object], modules: Mapping[str, Iterable[Mapping[str, str]]]) -> Iterator[str]:
    header = json.dumps(metadata, ensure_ascii=False, indent=2).replace("\n", "\n  ")
    yield f'{{\n  "metadata": {header},\n  "data": {{'
    for position, (module, rows) in enumerate(modules.items()):
        yield f"{',' if position else ''}\n    {json.dumps(module)}: ["
        for index, row in enumerate(rows):
            yield f"{',' if index else ''}\n      {json.dumps(row, ensure_ascii=False)}"
        yield "\n    ]"
    yield "\n  }\n}\n"


def kind_of(module: str, name: str) -> Kind:
    """Return the kind of question with this name; raise KeyError if there is none."""
    return {kind.name: kind for kind in MODULES[module]}[name]
