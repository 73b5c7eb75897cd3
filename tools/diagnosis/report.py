"""The diagnosis as a whole: text for people, JSON for programs, one exit code for both."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tools.diagnosis.finding import Finding, Status

SCHEMA_VERSION = 1
_DETAILS_SHOWN = 5
_INDENT = "  "


def summary(findings: Sequence[Finding]) -> str:
    """`31 ok, 2 warnings, 0 errors`."""
    counts = Counter(f.status for f in findings)
    return f"{counts[Status.OK]} ok, {counts[Status.WARNING]} warnings, {counts[Status.ERROR]} errors"


def exit_code(findings: Sequence[Finding]) -> int:
    """1 if anything is an error, else 0."""
    return int(any(f.status is Status.ERROR for f in findings))


def to_dict(findings: Sequence[Finding]) -> dict[str, Any]:
    """Plain data. Keys are only added within a schema version."""
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
    """The same as text."""
    return json.dumps(to_dict(findings), ensure_ascii=False, indent=1)


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Aligned text, a heading for each section; the command that mends something stands below it."""
    subjects = max((_width(f.subject) for f in findings), default=0)
    statuses = max(len(status) for status in Status)
    margin = " " * (len(_INDENT) + statuses + 2 + subjects + 2)
    section = ""
    for f in findings:
        if f.section != section:
            section = f.section
            yield section
        subject = f.subject + " " * (subjects - _width(f.subject))
        yield f"{_INDENT}{f.status:<{statuses}}  {subject}  {f.message}"
        for detail in f.details[:_DETAILS_SHOWN]:
            yield f"{margin}{detail}"
        if len(f.details) > _DETAILS_SHOWN:
            yield f"{margin}and {len(f.details) - _DETAILS_SHOWN:,} more (--json lists them all)"
        if f.fix:
            yield f"{margin}-> {f.fix}"
    yield ""
    yield summary(findings)


def _width(text: str) -> int:
    """Columns that a terminal gives to `text`."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
