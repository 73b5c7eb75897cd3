"""The five modules in the order of the file, each with its kinds of question."""

from __future__ import annotations

from tools.datasets.hlbd_hardcore import arithmetic, geometry, physics, reverse_english, zodiac
from tools.datasets.hlbd_hardcore.fact import Kind

MODULES: dict[str, tuple[Kind, ...]] = {
    geometry.MODULE: geometry.KINDS,
    arithmetic.MODULE: arithmetic.KINDS,
    zodiac.MODULE: zodiac.KINDS,
    physics.MODULE: physics.KINDS,
    reverse_english.MODULE: reverse_english.KINDS,
}
