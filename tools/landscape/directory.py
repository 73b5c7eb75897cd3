"""Directory of a run in which its measured surfaces lie. No numpy: each start of a run looks for it."""

from __future__ import annotations

from training.storage.run_files import RunFile

LANDSCAPE_NAME = "landscape"
RUN_FILES = (RunFile(LANDSCAPE_NAME, artefact="landscape"),)
