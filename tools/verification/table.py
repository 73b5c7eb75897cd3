"""The report as plain aligned text; Chinese, Japanese and Korean characters and emoji count as two columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tools.figures.wording import aligned, columns_of, head_of
from tools.verification.questions.exam import OVERALL
from tools.verification.report import Report
from tools.verification.shortcuts.statistics import Share
from tools.verification.shortcuts.trials import FALSE_ALARM_LEVEL, Evidence, Example, Verdict
from tools.verification.shortcuts.verdicts import Shortcut
from training.language.messages import Message, translated

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
    size = Message("{count:,} parameters", count=report.num_parameters) if report.num_parameters else None
    yield Message("model  {model}", model=Message.joined(", ", [report.model, *([size] if size else [])]))
    for f in report.files:
        name = Path(f.path).name
        if f.asked == f.questions:
            yield Message("data   {file}: {count:,} questions", file=name, count=f.questions)
        else:
            yield Message(
                "data   {file}: {asked:,} of {count:,} questions", file=name, asked=f.asked, count=f.questions
            )
    yield Message("free-running greedy answers, fp32, exact match (NFC); {seconds:.1f} s", seconds=report.seconds)
    for note in report.notes:
        yield Message("note   {note}", note=note)
    yield ""
    yield from _accuracy(report)
    yield from _behaviour(report)
    yield from _probes(report)
    yield from _calibration(report)
    yield from _shortcuts(report)


def _accuracy(report: Report) -> Iterator[str]:
    yield Message("accuracy (95 % Wilson interval; a contrast group counts only when all its rows are right)")
    held_back = head_of(Message("validation")) if any(m.validation for m in report.modules) else []
    head = [
        *head_of(Message("module"), Message("train")),
        *held_back,
        *head_of(Message("paraphrase"), Message("new fact"), Message("contrast groups"), Message("majority answer")),
    ]
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
        yield Message("  validation: rows of the training files that the run held back (--validation-split)")
    yield ""


def _behaviour(report: Report) -> Iterator[str]:
    yield Message(
        "answer diversity (different answers / different truths, entropy ratio) and numbers copied from the question"
    )
    head = head_of(
        Message("module"),
        Message("train"),
        Message("entropy"),
        Message("unseen"),
        Message("entropy"),
        Message("copied, train"),
        Message("copied, unseen"),
    )
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
    yield Message("partial inputs (training questions; test: better than the majority answer?)")
    head = head_of(
        Message("module"),
        Message("hidden"),
        Message("right"),
        Message("whole question"),
        Message("majority"),
        Message("template's majority"),
        Message("test"),
    )
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
    yield Message("calibration (confidence: the model's own probability of its whole answer)")
    head = head_of(
        Message("rows"),
        Message("answers"),
        Message("mean confidence"),
        Message("accuracy"),
        Message("expected calibration error"),
    )
    body = [
        [c.name, f"{c.answers:,}", percent(c.mean_confidence), percent(c.accuracy), f"{c.expected_error:.3f}"]
        for c in report.calibration
    ]
    yield from aligned([head, *body])
    yield ""


def _shortcuts(report: Report) -> Iterator[str]:
    yield Message("shortcuts (tests on matched rows, Holm-corrected together at {level:.0%})", level=FALSE_ALARM_LEVEL)
    names = {s.name: translated(Message(s.name)) for s in report.shortcuts}
    width = max(map(columns_of, names.values()))
    for s in report.shortcuts:
        name = names[s.name] + " " * (width - columns_of(names[s.name]))
        verdict = Message("FOUND") if s.verdict is Verdict.FOUND else Message(s.verdict.value)
        if s.where:
            verdict = Message("{verdict} in {modules}", verdict=verdict, modules=", ".join(s.where))
        nothing = f": {s.summary}" if not s.evidence else ""
        yield f"  {name}  {translated(verdict)}{nothing}"
        if s.verdict is Verdict.FOUND:
            yield f"  {'':<{width}}    {s.summary}"
        for example in _examples(s):
            answer = example.answer or Message("(nothing)")
            words = Message(
                "e.g. {question} → {answer}, expected {truth}",
                question=example.prompt,
                answer=answer,
                truth=example.truth,
            )
            yield f"  {'':<{width}}    {translated(words)}"
    yield ""
    yield Message("evidence (how often the model and the controls do it; the weakest effect with its 95 % interval)")
    body = [_evidence_row(e) for s in report.shortcuts for e in telling(s)]
    if body:
        yield from aligned(
            [
                head_of(
                    Message("shortcut, rows"),
                    Message("trials"),
                    Message("model"),
                    Message("controls"),
                    Message("weakest effect"),
                    Message("p corrected"),
                ),
                *body,
            ]
        )
        yield ""
    parts = [Message("verdict: no shortcut found")]
    if report.found:
        found = Message.joined(", ", [Message(s.name) for s in report.found])
        parts = [Message("verdict: shortcuts found: {names}", names=found)]
    if undecided := [Message(s.name) for s in report.shortcuts if s.verdict is Verdict.TOO_LITTLE]:
        parts.append(Message("too little data for: {names}", names=Message.joined(", ", undecided)))
    yield Message.joined("; ", parts)


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
