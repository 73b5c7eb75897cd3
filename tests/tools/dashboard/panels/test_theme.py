"""Whatever the theme, text and lines can be told from the ground they lie on."""

from __future__ import annotations

import numpy as np
import pytest

from tools.dashboard.panels.theme import THEMES


def contrast(first: str, second: str) -> float:
    """WCAG 2's ratio of two colours' luminances."""

    def luminance(colour: str) -> float:
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", THEMES)
def test_every_theme_can_be_read(name: str) -> None:
    theme = THEMES[name]
    for colour in (theme.text, theme.faint, theme.primary, theme.good, theme.bad, theme.tertiary):
        assert contrast(colour, theme.panel) >= 4.5, colour
    for colour in theme.others:
        assert contrast(colour, theme.panel) >= 3.0, colour
