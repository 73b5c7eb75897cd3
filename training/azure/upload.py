"""The SDK's upload of code and data: seen as it goes, and ended by its first failure."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from training.azure.parting import raise_stop
from training.machine.units import as_duration, as_size

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

TELL_EVERY = 5.0
"""Seconds between two lines about an upload."""
ATTEMPTS = 4
"""Further ones for a file whose connection breaks off, after 1, 3, 5 and 9 seconds. The SDK's own begin with 15."""
LOOK_SECONDS = 0.1
"""Between two looks whether the upload is given up, while a file is sent."""
Tell = Callable[[str], None]


class Upload:
    """The files that the SDK sends, one call each, from its own threads."""

    def __init__(self, send: Callable[..., None], directory: Path, tell: Tell) -> None:
        self._send, self._tell = send, tell
        sizes = [path.stat().st_size for path in directory.rglob("*") if path.is_file()]
        self._total = f"{len(sizes)} file{'s' if len(sizes) != 1 else ''} ({as_size(sum(sizes))})"
        self._files = self._bytes = 0
        self._began = self._told = 0.0
        self._lock = threading.Lock()
        self.failure: BaseException | None = None
        """Why the first file that failed did."""

    def __call__(self, storage_client: Any, source: str, **kwargs: Any) -> None:
        """Send one file, unless another has failed: the SDK would try each of them for minutes, and then tell."""
        with self._lock:
            if self.failure is not None:
                raise self.failure
            if not self._began:
                self._began = self._told = time.monotonic()
                storage_client.container_client = _impatient(storage_client.container_client)
                self._tell(f"uploading {self._total}")
        try:
            self._send_or_leave(storage_client=storage_client, source=source, **kwargs)
        except BaseException as error:
            with self._lock:
                self.failure = self.failure or error
            raise
        with self._lock:
            self._files += 1
            self._bytes += Path(source).stat().st_size
            if time.monotonic() - self._told > TELL_EVERY:
                self._told = time.monotonic()
                self._tell(f"uploaded {self._files} files ({as_size(self._bytes)}) of {self._total}")

    def _send_or_leave(self, **kwargs: Any) -> None:
        """Send one file in a thread that is left behind where the upload is given up: the SDK waits for its own
        threads, also at the end of the process, and a connection that has fallen silent for minutes."""
        faults: list[BaseException] = []
        over = threading.Event()

        def send() -> None:
            try:
                self._send(**kwargs)
            except BaseException as error:
                faults.append(error)
            finally:
                over.set()

        threading.Thread(target=send, name=f"upload of {kwargs['source']}", daemon=True).start()
        while not over.wait(LOOK_SECONDS):
            if self.failure is not None:
                raise self.failure
        if faults:
            raise faults[0]

    def ended(self) -> None:
        """Tell what became of it, once the SDK is content."""
        if self._began:
            self._tell(f"uploaded {self._total} in {as_duration(time.monotonic() - self._began)}")
        else:
            self._tell(f"nothing to upload: Azure has these {self._total} from an earlier job")

    def give_up(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-C or SIGTERM: the SDK waits for every file that it has begun or only planned, so none is begun any
        more."""
        self.failure = self.failure or KeyboardInterrupt()
        raise_stop(number, frame)


def _impatient(container: ContainerClient) -> ContainerClient:
    """The same container by a client that tries again sooner."""
    from azure.storage.blob import ContainerClient, ExponentialRetry

    again = ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=ATTEMPTS, random_jitter_range=1)
    return ContainerClient.from_container_url(container.url, retry_policy=again)  # its address holds the signature


@contextlib.contextmanager
def watched_upload(directory: Path, tell: Tell) -> Iterator[Upload]:
    """While the block runs, the SDK sends files by an `Upload`, and its own progress bars are not seen.

    Without this, a failed upload (SDK 1.35) is known only after every file has been tried for about a minute.

    Args:
        directory: what is sent, for its size.
        tell: prints a line.
    """
    from azure.ai.ml._utils import _asset_utils

    send = _asset_utils.upload_file  # by this name upload_directory finds it, for each file anew
    upload = Upload(send, directory, tell)
    stdout = sys.stdout
    in_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if in_main else ()
    before = {number: signal.signal(number, upload.give_up) for number in numbers}
    _asset_utils.upload_file = upload
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars and a blank line; failures are raised
            yield upload
    finally:
        _asset_utils.upload_file = send
        sys.stdout = stdout  # an invalid job makes the SDK call colorama.init(), which puts its own in the place
        for number, handler in before.items():
            signal.signal(number, handler)
