"""The report as plain aligned text; Chinese, Japanese and Korean characters and emoji count as two columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tools.figures.wording import aligned
from tools.verification.questions.exam import OVERALL
from tools.verification.report import Report
from tools.verification.shortcuts.statistics import Share
from tools.verification.shortcuts.trials import FALSE_ALARM_LEVEL, Evidence, Example, Verdict
from tools.verification.shortcuts.verdicts import Shortcut

_ABSENT = "–"


def percent(value: float) -> str:
    """Return a share in percent: `88.1 %`."""
    return f"{100 * value:.1f} %"


def share_with_interval(share: Share | None) -> str:
    """Return a share with its interval: `88.1 % (85.9–90.0)`."""
    if share is None:
        return _ABSENT
    return f"{percent(share.rate)} ({100 * share.low:.1f}–{100 * share.high:.1f})"


def rate(share: Share | None) -> str:
    """Return a share in percent, or a dash where there is nothing to count."""
    return percent(share.rate) if share else _ABSENT


def two_digits(value: float) -> str:
    """Return a number to two digits: `0.25`, never `-0.00`."""
    return f"{round(value, 2) + 0.0:.2f}"


def p_text(value: float) -> str:
    """Return a p-value in words: `p = 0.03`, `p = 2e-12`, `p < 1e-300`."""
    if value < 1e-300:
        return "p < 1e-300"
    return f"p = {value:.2g}"


def lines(report: Report) -> Iterator[str]:
    """Yield the lines of the whole report."""
    parameters = f", {report.num_parameters:,} parameters" if report.num_parameters else ""
    yield f"model  {report.model}{parameters}"
    for f in report.files:
        asked = f"{f.questions:,}" if f.asked == f.questions else f"{f.asked:,} of {f.questions:,}"
        yield f"data   {Path(f.path).name}: {asked} questions"
    yield f"free-running greedy answers, fp32, exact match (NFC); {report.seconds:.1f} s"
    for note in report.notes:
        yield f"note   {note}"
    yield ""
    yield from _accuracy(report)
    yield from _behaviour(report)
    yield from _probes(report)
    yield from _calibration(report)
    yield from _shortcuts(report)


def _accuracy(report: Report) -> Iterator[str]:
    yield "accuracy (95 % Wilson interval; a contrast group counts only when all its rows are right)"
    held_back = ["validation"] if any(m.validation for m in report.modules) else []
    head = ["module", "train", *held_back, "paraphrase", "new fact", "contrast groups", "majority answer"]
    body = [
        [
            m.label,
            share_with_interval(m.train),
            *(share_with_interval(m.validation) for _ in held_back),
            *map(share_with_interval, (m.paraphrase, m.new_fact, m.contrast_groups)),
            rate(m.majority),
        ]
        for m in report.modules
    ]
    yield from aligned([head, *body])
    if held_back:
        yield "  validation: rows of the training files that the run held back (--validation-split)"
    yield ""


def _behaviour(report: Report) -> Iterator[str]:
    yield "answer diversity (different answers / different truths, entropy ratio) and numbers copied from the question"
    head = ["module", "train", "entropy", "unseen", "entropy", "copied, train", "copied, unseen"]
    body: list[list[str]] = []
    for m in report.modules:
        row = [m.label]
        for diversity in m.diversity.values():
            row.append(f"{diversity.answers} / {diversity.truths}" if diversity else _ABSENT)
            row.append(f"{diversity.ratio:.2f}" if diversity and diversity.ratio is not None else _ABSENT)
        body.append([*row, *map(share_with_interval, m.number_copies.values())])
    yield from aligned([head, *body])
    yield ""


def _probes(report: Report) -> Iterator[str]:
    if not report.probes:
        return
    yield "partial inputs (training questions; test: better than the majority answer?)"
    head = ["module", "hidden", "right", "whole question", "majority", "template's majority", "test"]
    body = [
        [
            p.module,
            p.part.value.removesuffix(" hidden"),
            share_with_interval(p.right),
            rate(p.whole),
            rate(p.majority),
            rate(p.template_majority),
            p_text(p.p_value),
        ]
        for p in report.probes
    ]
    yield from aligned([head, *body])
    yield ""


def _calibration(report: Report) -> Iterator[str]:
    if not report.calibration:
        return
    yield "calibration (confidence: the model's own probability of its whole answer)"
    head = ["rows", "answers", "mean confidence", "accuracy", "expected calibration error"]
    body = [
        [c.name, f"{c.answers:,}", percent(c.mean_confidence), percent(c.accuracy), f"{c.expected_error:.3f}"]
        for c in report.calibration
    ]
    yield from aligned([head, *body])
    yield ""


def _shortcuts(report: Report) -> Iterator[str]:
    yield f"shortcuts (tests on matched rows, Holm-corrected together at {FALSE_ALARM_LEVEL:.0%})"
    width = max(len(s.name) for s in report.shortcuts)
    for s in report.shortcuts:
        where = f" in {', '.join(s.where)}" if s.where else ""
        verdict = s.verdict.value.upper() if s.verdict is Verdict.FOUND else s.verdict.value
        nothing = f": {s.summary}" if not s.evidence else ""
        yield f"  {s.name:<{width}}  {verdict}{where}{nothing}"
        if s.verdict is Verdict.FOUND:
            yield f"  {'':<{width}}    {s.summary}"
        for example in _examples(s):
            answer = example.answer or "(nothing)"
            yield f"  {'':<{width}}    e.g. {example.prompt} → {answer}, expected {example.truth}"
    yield ""
    yield "evidence (how often the model and the controls do it; the weakest effect with its 95 % interval)"
    body = [_evidence_row(e) for s in report.shortcuts for e in telling(s)]
    if body:
        yield from aligned([["shortcut, rows", "trials", "model", "controls", "weakest effect", "p corrected"], *body])
        yield ""
    found = ", ".join(s.name for s in report.found)
    undecided = ", ".join(s.name for s in report.shortcuts if s.verdict is Verdict.TOO_LITTLE)
    yield f"verdict: {f'shortcuts found: {found}' if found else 'no shortcut found'}" + (
        f"; too little data for: {undecided}" if undecided else ""
    )


def _examples(shortcut: Shortcut) -> list[Example]:
    """Return three rows that show a shortcut that was found, from as many modules as possible."""
    guilty = [e.examples for e in shortcut.evidence if e.verdict is Verdict.FOUND and not e.is_fallback]
    return [examples[n] for n in range(3) for examples in guilty if n < len(examples)][:3]


def telling(shortcut: Shortcut) -> list[Evidence]:
    """Return the evidence that is printed: all that finds the shortcut, else all modules together, else each module."""
    if shortcut.verdict is Verdict.FOUND:
        return [e for e in shortcut.evidence if e.verdict is Verdict.FOUND and not e.is_fallback]
    return [e for e in shortcut.evidence if e.module == OVERALL] or list(shortcut.evidence)


def _evidence_row(e: Evidence) -> list[str]:
    x = e.weakest
    value = _ABSENT if x.value is None else two_digits(x.value)
    return [
        f"{e.shortcut}, {e.module}, {e.rows}",
        f"{e.trials:,}",
        f"{e.hits:,}",
        ", ".join(f"{name} {count:,}" for name, count in e.controls.items()),
        f"{x.name} {value} ({two_digits(x.low)} to {two_digits(x.high)})",
        f"{e.p_corrected:.2g}",
    ]
