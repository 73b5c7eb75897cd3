"""Place of a run's report in its directory. No torch."""

from __future__ import annotations

from training.storage.run_files import RunFile

HTML_NAME = "report.html"
RUN_FILES = (RunFile(HTML_NAME),)
