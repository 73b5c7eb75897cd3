"""The calls of docs/SERVER.md, run by bash and curl as they stand there, against a server with real jobs."""

from __future__ import annotations

import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.support.running_server import serving

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "SERVER.md"


@pytest.mark.slow  # trains
def test_the_calls_of_the_page_work_one_after_the_other(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8").partition("## The calls, one after the other")[2]
    block = re.search(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    assert block is not None
    with serving(tmp_path / "runs", data=(ROOT / "data",)) as server:
        script = block[1].replace(":8765/", f":{server.port}/")
        assert script != block[1]
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        assert server.get("/api/training/jobs").json["total"] == 0
        assert server.get("/api/training/configs").json == {"configs": []}
    assert zipfile.is_zipfile(tmp_path / "checkpoint.zip")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".server"]
