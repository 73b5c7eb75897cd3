"""The beginning that the generators' files have in common, by which an earlier one is recognised and replaced."""

from __future__ import annotations

BEGINNING = b'{\n  "metadata": {\n    "name": "HLBD'
