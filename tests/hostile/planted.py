"""A program with the faults that the judge must see: `planted.py FAULT`, run in a case's box by a test."""

from __future__ import annotations

import sys
import time
from pathlib import Path


def main(fault: str) -> None:
    """Commit a fault."""
    if fault == "traceback":
        raise KeyError("step")
    if fault == "hang":
        while True:
            time.sleep(60)
    if fault == "harmed":
        Path("mine/notes.txt").write_text("", encoding="utf-8")
    if fault == "harmed by a refusal":
        Path("run/config.yaml").unlink()
        print("error: no", file=sys.stderr)
        sys.exit(2)
    if fault == "exit code":
        sys.exit(7)
    if fault == "silent":
        sys.exit(2)
    if fault == "long":
        print("x" * 5000, file=sys.stderr)
        sys.exit(2)
    if fault == "raw":
        print("error: \x1b[31mno such file\x1b[0m")


if __name__ == "__main__":
    main(sys.argv[1])
