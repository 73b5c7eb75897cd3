"""The colours of the dashboard: three dark themes and a light one for print."""

from __future__ import annotations

from dataclasses import dataclass

from tools.command_line import one_of


@dataclass(frozen=True)
class Theme:
    """One set of colours, as `#rrggbb`."""

    name: str
    ground: str
    """Colour behind the panels."""
    nebula: str
    """Colour of the light on the ground."""
    panel: str
    edge: str
    grid: str
    text: str
    faint: str
    """Text of less weight; it can still be read on a panel."""
    primary: str
    """The run itself: updates, frames, the present position."""
    secondary: str
    """Means, and the path."""
    tertiary: str
    """Validation, and what is marked."""
    good: str
    bad: str
    others: tuple[str, ...]
    """The runs that are compared."""
    terrain: tuple[str, ...]
    """Colours from low to high."""
    glow: float
    """Strength of the light around lines; 0: none."""


_CYBER = Theme(
    "cyber", ground="#05070f", nebula="#101a3d", panel="#0a0f1e", edge="#1e3358", grid="#172442", text="#e2ecff",
    faint="#8ea3c8", primary="#00e5ff", secondary="#ff2fd0", tertiary="#ffd166", good="#4dffa6", bad="#ff5470",
    others=("#7cff6b", "#ff9f5a", "#9d7bff", "#ff8fb1", "#5aa9ff"),
    terrain=("#0a1a4a", "#0d4d9c", "#00b8d9", "#6f5bff", "#e03ce0", "#ffb6f2"), glow=1.0,
)  # fmt: skip
_MATRIX = Theme(
    "matrix", ground="#010502", nebula="#062613", panel="#030b06", edge="#12502a", grid="#0c2b18", text="#d3ffe0",
    faint="#6fbd8b", primary="#39ff6a", secondary="#c4ff3d", tertiary="#f4ffb0", good="#39ff6a", bad="#ff6b57",
    others=("#8fa8ff", "#ff9ecb", "#35e0d0", "#ffd84d", "#ffffff"),
    terrain=("#012313", "#05602d", "#10a94d", "#39ff6a", "#b6ff7a", "#f2ffd9"), glow=1.0,
)  # fmt: skip
_VAPORWAVE = Theme(
    "vaporwave", ground="#12082b", nebula="#3b1466", panel="#1a0f3a", edge="#51318f", grid="#33205f", text="#fff0ff",
    faint="#bfa8e6", primary="#2bd9ff", secondary="#ff71ce", tertiary="#fffb96", good="#2bffb0", bad="#ff6f86",
    others=("#9dff8a", "#ffb37a", "#b38bff", "#ff9fdc", "#7ab8ff"),
    terrain=("#2a1673", "#5638b8", "#1fb4e8", "#b067ff", "#ff71ce", "#fff3b0"), glow=0.9,
)  # fmt: skip
_PAPER = Theme(
    "paper", ground="#ffffff", nebula="#ffffff", panel="#ffffff", edge="#b4bccb", grid="#e4e8ef", text="#161c2b",
    faint="#586276", primary="#1f5fbf", secondary="#c0256b", tertiary="#a86400", good="#167a43", bad="#c62828",
    others=("#0b7f86", "#6b3fb5", "#3c7a1e", "#7a5a12", "#8a3b12"),
    terrain=("#2b3a80", "#2f77b5", "#4fb3a5", "#b9cf5a", "#f0b84a", "#e0703a"), glow=0.0,
)  # fmt: skip
THEMES = {theme.name: theme for theme in (_CYBER, _MATRIX, _VAPORWAVE, _PAPER)}


def theme_named(name: str) -> Theme:
    """Return the theme of that name.

    Raises:
        UserError: there is none.
    """
    return THEMES[one_of("--theme", name, "theme", THEMES)]
