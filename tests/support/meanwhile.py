"""Something that happens beside a test."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Meanwhile:
    """`with Meanwhile(work):` … `work()` runs in another thread while the block runs; what it raises is raised."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = error

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join(60)
        if self._error is not None:
            raise self._error
        if self._thread.is_alive():
            raise TimeoutError("what was to happen meanwhile has not come to its end in 60 s")
