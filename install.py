"""Install packages into this interpreter's environment as `pip install` does, in a fifth of the time.

    .venv/bin/python install.py -c constraints.txt -e ".[dev]"

uv unpacks on all cores where pip uses one, but it does not read pip's configuration: index, local wheels and
constraints that a machine's administrator has set. They are handed over here. pip itself installs where uv cannot be
had, where it fails, and where a setting is one that uv would not follow.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Sequence

FLAGS = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "constraint": "--constraint",
}
"""pip's setting -> uv's flag, given once for each of the setting's values."""
ENVIRONMENT = {"cert": "SSL_CERT_FILE", "default-timeout": "UV_HTTP_TIMEOUT", "timeout": "UV_HTTP_TIMEOUT"}
NO_MATTER = {
    "cache-dir", "compile", "disable-pip-version-check", "no-cache-dir", "no-color", "no-compile", "no-input",
    "no-python-version-warning", "no-warn-script-location", "progress-bar", "quiet", "require-virtualenv", "retries",
    "root-user-action", "verbose",
}  # fmt: skip
"""pip's settings that do not change what is installed."""


def read_settings(listed: str) -> dict[str, str]:
    """Return the settings of `pip install`, by name, from what `pip config list` prints.

    A variable of the environment wins over the section `install`, and that one over `global`.
    """
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in sections:
            sections[section][name] = str(ast.literal_eval(value))
    return {name: value for section in sections.values() for name, value in section.items()}


def for_uv(settings: dict[str, str]) -> tuple[list[str], dict[str, str]] | None:
    """Return (flags, environment variables) that make uv follow pip's settings; None: it would not follow one."""
    # pip takes the best version of all its sources, uv by default that of the first source that has any.
    flags, environment = ["--index-strategy", "unsafe-best-match"], {}
    for name, value in settings.items():
        if name in FLAGS:
            flags += [word for one in value.split() for word in (FLAGS[name], one)]
        elif name in ENVIRONMENT:
            environment[ENVIRONMENT[name]] = value
        elif name not in NO_MATTER:
            return None
    return flags, environment


def main(words: Sequence[str]) -> int:
    """Install; return the exit code."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    quietly = ["install", "--quiet", "--no-compile"]
    listed = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=True).stdout
    following = for_uv(read_settings(listed))
    if following is not None:
        pinned = [*words[words.index("-c") :][:2], "uv"] if "-c" in words else ["uv"]
        if subprocess.run([*pip, *quietly, *pinned], check=False).returncode == 0:
            flags, environment = following
            uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable, *flags, *words]
            if subprocess.run(uv, env={**os.environ, **environment}, check=False).returncode == 0:
                return 0
        print("uv cannot install here; pip does it", file=sys.stderr)
    return subprocess.run([*pip, *quietly, *words], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
