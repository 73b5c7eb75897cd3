"""Packages: the core ones against pyproject.toml and the pins, the extras with the command that installs them.

Nothing heavy is imported: what is installed is read from the packages' metadata.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from tools.diagnosis.findings import Finding, Status
from training.machine.commands import ROOT, pip_command

if TYPE_CHECKING:
    from packaging.requirements import Requirement

SECTION = "dependencies"


def diagnose_dependencies(root: Path = ROOT) -> Iterator[Finding]:
    """Check each core package and each extra of the project in `root`."""
    try:
        import packaging  # noqa: F401  # installed with matplotlib
    except ImportError:
        yield Finding(SECTION, "packaging", Status.ERROR, "not installed, so no version can be compared", pip_command())
        return
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    except (OSError, KeyError, ValueError) as error:
        message = f"pyproject.toml cannot be read ({error}), so no version can be compared"
        yield Finding(SECTION, "pyproject.toml", Status.WARNING, message, "git checkout -- pyproject.toml")
        return
    pins = _pins(root / "constraints.txt")
    if not pins:
        message = "constraints.txt is missing or empty: versions that were never tested together may be installed"
        yield Finding(SECTION, "constraints.txt", Status.WARNING, message, "git checkout -- constraints.txt")
    for requirement in _requirements(project["dependencies"]):
        yield _core_package(requirement, pins)
    extras: dict[str, list[str]] = project.get("optional-dependencies", {})
    for extra in extras:
        if extra != "all":  # it is the sum of the others
            yield _extra(extra, _requirements(_expanded(extra, extras, project["name"])), pins)


def _requirements(texts: Sequence[str]) -> list[Requirement]:
    """Parse requirements; return those that apply to this machine."""
    from packaging.requirements import Requirement

    parsed = map(Requirement, texts)
    return [r for r in parsed if r.marker is None or r.marker.evaluate()]


def _expanded(extra: str, extras: Mapping[str, Sequence[str]], project: str) -> list[str]:
    """Return the packages of an extra; `apt-trainer[data]` in it stands for the packages of that extra."""
    own = re.compile(rf"{re.escape(project)}\[(.+)\]")
    found: list[str] = []
    for text in extras[extra]:
        inner = own.fullmatch(text.replace(" ", ""))
        if inner is None:
            found.append(text)
        else:
            found += [t for name in inner[1].split(",") for t in _expanded(name, extras, project)]
    return found


def _pins(path: Path) -> dict[str, str]:
    """Read the pins: normalised package name -> version."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("#")[0].strip().split("==") for line in lines)
    return {_normalised(pair[0]): pair[1] for pair in pairs if len(pair) == 2}


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _is_pinned(installed: str, pin: str | None) -> bool:
    """Return whether it is the pinned version; the name of a build after it (`2.13.0+cpu`) does not count."""
    from packaging.version import Version

    return pin is None or Version(installed).public == Version(pin).public


def _core_package(requirement: Requirement, pins: Mapping[str, str]) -> Finding:
    name = requirement.name
    installed, pin = _installed(name), pins.get(_normalised(name))
    facts = {"installed": installed, "required": str(requirement.specifier), "pinned": pin}
    if installed is None:
        return Finding(SECTION, name, Status.ERROR, "not installed", pip_command(), facts=facts)
    if not requirement.specifier.contains(installed, prereleases=True):
        message = f"{installed}, but {requirement.specifier} is needed"
        return Finding(SECTION, name, Status.ERROR, message, pip_command(), facts=facts)
    if not _is_pinned(installed, pin):
        message = f"{installed}; constraints.txt pins {pin}, the version that was tested"
        return Finding(SECTION, name, Status.WARNING, message, pip_command(), facts=facts)
    return Finding(SECTION, name, Status.OK, installed + (" (as pinned)" if pin else ""), facts=facts)


def _extra(extra: str, requirements: Sequence[Requirement], pins: Mapping[str, str]) -> Finding:
    """Check one extra: it may be missing, but a package of it in a version that will not work is a warning."""
    subject = f"[{extra}]"
    versions = {r.name: _installed(r.name) for r in requirements}
    missing = [name for name, installed in versions.items() if installed is None]
    unfit = [
        f"{r.name} {installed} (needs {r.specifier})"
        for r in requirements
        if (installed := versions[r.name]) is not None and not r.specifier.contains(installed, prereleases=True)
    ]
    facts = {"installed": versions, "missing": missing, "unfit": unfit}
    if unfit:
        return Finding(SECTION, subject, Status.WARNING, ", ".join(unfit), pip_command(extra), facts=facts)
    if missing:
        message = f"optional, without {', '.join(missing)}"
        return Finding(SECTION, subject, Status.OK, message, pip_command(extra), facts=facts)
    unpinned = [n for n, v in versions.items() if v and not _is_pinned(v, pins.get(_normalised(n)))]
    if unpinned:
        message = f"{', '.join(f'{n} {versions[n]}' for n in unpinned)}: not the version in constraints.txt"
        return Finding(SECTION, subject, Status.WARNING, message, pip_command(extra), facts=facts)
    message = ", ".join(f"{name} {installed}" for name, installed in versions.items())
    return Finding(SECTION, subject, Status.OK, message, facts=facts)
