"""The findings of a diagnosis: what was checked, its status, and the command that fixes it; as text and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tools.figures.wording import columns_of
from training.errors import printable
from training.language.messages import Message, translated


class Status(StrEnum):
    """The status of a finding. Only an error makes the command fail."""

    OK = "ok"
    WARNING = "warning"
    """Work continues, but perhaps not as the user expects."""
    ERROR = "error"
    """Training, resuming or verifying fails, or its result would be wrong."""


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis."""

    section: str
    """The heading: `environment`, `dependencies`, one data file, one run."""
    subject: str
    """The thing that was checked, in a word or two."""
    status: Status
    message: str
    fix: str = ""
    """The command that fixes it (with `ok`: the command that adds something optional), or the edit to make."""
    details: tuple[str, ...] = ()
    """Every case, where there are several."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The numbers behind the message, as plain data."""


SCHEMA_VERSION = 1
_DETAILS_SHOWN = 5
_INDENT = "  "


def summary(findings: Sequence[Finding]) -> Message:
    """Return the counts in words: `31 ok, 2 warnings, 0 errors`."""
    counts = Counter(f.status for f in findings)
    return Message(
        "{ok} ok, {warnings} warnings, {errors} errors",
        ok=counts[Status.OK],
        warnings=counts[Status.WARNING],
        errors=counts[Status.ERROR],
    )


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 if any finding is an error, else 0."""
    return int(any(f.status is Status.ERROR for f in findings))


def to_dict(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return plain data for JSON. Keys are only added within a schema version."""
    counts = Counter(f.status for f in findings)
    return {
        "schema_version": SCHEMA_VERSION,
        "summary": {
            "ok": counts[Status.OK],
            "warnings": counts[Status.WARNING],
            "errors": counts[Status.ERROR],
        },
        "findings": [
            {
                "section": f.section,
                "subject": f.subject,
                "status": f.status.value,
                "message": f.message,
                "fix": f.fix or None,
                "details": list(f.details),
                "facts": dict(f.facts),
            }
            for f in findings
        ],
    }


def to_json(findings: Sequence[Finding]) -> str:
    """Return the findings as JSON."""
    return json.dumps(to_dict(findings), ensure_ascii=False, indent=1)


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield lines of aligned text, with a heading for each section and each fix below its message."""
    subjects = max((columns_of(f.subject) for f in findings), default=0)
    words = {status: translated(Message(status.value)) for status in Status}
    statuses = max(map(columns_of, words.values()))
    margin = " " * (len(_INDENT) + statuses + 2 + subjects + 2)
    section = ""
    for f in findings:
        if f.section != section:
            section = f.section
            yield printable(section)
        subject = f.subject + " " * (subjects - columns_of(f.subject))
        status = words[f.status] + " " * (statuses - columns_of(words[f.status]))
        yield printable(f"{_INDENT}{status}  {subject}  {f.message}")
        for detail in f.details[:_DETAILS_SHOWN]:
            yield printable(f"{margin}{detail}")
        if len(f.details) > _DETAILS_SHOWN:
            rest = Message("and {count:,} more (--json lists them all)", count=len(f.details) - _DETAILS_SHOWN)
            yield margin + translated(rest)
        if f.fix:
            yield printable(f"{margin}-> {f.fix}")
    yield ""
    yield summary(findings)
