"""Lookup without generalisation: the model knows training rows by heart and cannot answer new facts."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from tools.verification.questions.exam import Exam, Outcome, RowSet, Scope
from tools.verification.questions.question import Question, Split
from tools.verification.shortcuts.habitual_answers import Leaders
from tools.verification.shortcuts.statistics import lost_share, mcnemar, paired_difference
from tools.verification.shortcuts.trials import Effect, Evidence, Example

LOOKUP = "lookup"
SMALLEST_GAP, FULL_GAP = 0.1, 0.25
"""Accuracy that is lost on new facts; less than a tenth is not worth a verdict."""
SMALLEST_LOSS, FULL_LOSS = 0.5, 0.8
"""Share of the knowledge beyond guessing that does not carry over. A model that keeps more than half of it has
understood something; its gap is reported as a number, not as a shortcut."""


@dataclass
class Matched:
    """Training rows and new facts of equal difficulty, pair by pair, with a guess for the new fact."""

    module: str
    known: list[int] = field(default_factory=list)
    new: list[int] = field(default_factory=list)
    guessed: list[bool] = field(default_factory=list)
    """For each pair, True if the most frequent truth of the new fact's template (or module) is its truth."""
    same_template: int = 0


def _difficulty(q: Question) -> tuple[float, ...]:
    """Return the difficulty of a question for any answerer: length of the answer, number and size of the operands."""
    digits = sum(map(str.isdigit, q.truth))
    magnitude = sum(math.log10(1 + abs(float(n))) for n in q.numbers)
    return (len(q.truth) - digits, digits, len(q.operands), sum(map(len, q.operands)), magnitude)


def _distance(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
    """Return a distance that is compared item by item: the first item that differs decides."""
    return tuple(abs(x - y) for x, y in zip(a, b, strict=True))


def match_difficulty(exam: Exam, module: str) -> Matched:
    """Give each new fact its own training row: of the same template if there is one, and of the nearest difficulty.

    A training row is used once. New facts for which no row is left stay out.
    """
    matched = Matched(module)
    train = exam.test_rows[Scope(module, RowSet.TRAIN)]
    new = _one_per_entry(exam, exam.places(Split.NEW_FACT, module=module))
    difficulty = {i: _difficulty(exam.questions[i]) for i in (*train, *new)}
    free: defaultdict[str, list[int]] = defaultdict(list)
    truths: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for i in train:
        free[exam.questions[i].template].append(i)
        truths[exam.questions[i].template][exam.questions[i].expected] += 1
        truths[""][exam.questions[i].expected] += 1
    guesses = {template: min(c, key=lambda t: (-c[t], t)) for template, c in truths.items()}
    for i in new:
        template = exam.questions[i].template
        pool = free[template] or [j for rows in free.values() for j in rows]
        if not pool:
            break
        nearest = min(pool, key=lambda j: (_distance(difficulty[i], difficulty[j]), j))
        free[exam.questions[nearest].template].remove(nearest)
        matched.known.append(nearest)
        matched.new.append(i)
        matched.same_template += exam.questions[nearest].template == template
        matched.guessed.append(guesses.get(template, guesses[""]) == exam.questions[i].expected)
    return matched


def _one_per_entry(exam: Exam, places: list[int]) -> list[int]:
    by_entry: defaultdict[int, list[int]] = defaultdict(list)
    for i in places:
        by_entry[exam.questions[i].entry].append(i)
    return [own[n % len(own)] for n, own in enumerate(by_entry.values())]


def pool_matches(matches: list[Matched], module: str) -> Matched | None:
    """Return the pairs of all modules together; None if fewer than two modules have any."""
    filled = [m for m in matches if m.new]
    if len(filled) < 2:
        return None
    return Matched(
        module,
        [i for m in filled for i in m.known],
        [i for m in filled for i in m.new],
        [g for m in filled for g in m.guessed],
        sum(m.same_template for m in filled),
    )


def _habitual(outcome: Outcome, matched: Matched, by_template: frozenset[str]) -> set[int]:
    """Return the matched rows whose answer is the one that their template gets most often on other training rows.

    A template with no other row shows no habit. In the modules `by_template`, where the model is known to answer by
    template, it counts as habitual.
    """
    questions, texts, known = outcome.exam.questions, outcome.texts, set(matched.known)
    found: set[int] = set()
    habits: dict[tuple[str, str], Leaders] = {}
    for i in (*matched.known, *matched.new):
        module, template = key = questions[i].module, questions[i].template
        if key not in habits:
            rows = outcome.exam.by_template[Scope(module, RowSet.TRAIN)].get(template, [])
            habits[key] = Leaders(texts[j] for j in rows)
        habit = habits[key].first(left_out=texts[i] if i in known else None)
        if texts[i] == habit or (habit is None and module in by_template):
            found.add(i)
    return found


def lookup_evidence(outcome: Outcome, matched: Matched, by_template: frozenset[str] = frozenset()) -> Evidence:
    """Test whether training rows are answered better than new facts of equal difficulty, and most of it is lost.

    The test is McNemar's on the pairs. Three effects must be large: the gap itself; the gap without the answers that
    the template got with other operands as well (else the model answers by template, and is right where a template has
    a single row); and the lost share of the knowledge beyond guessing. A half-trained honest model makes as many
    mistakes on both and has no gap; a model that knows nothing has nothing to lose. `by_template` names the modules in
    which the model was found to answer by template; it changes the second effect alone. `matched` must hold pairs.
    """
    known = [outcome.right[i] for i in matched.known]
    new = [outcome.right[i] for i in matched.new]
    habitual = _habitual(outcome, matched, by_template)
    known_aside = [right and i not in habitual for right, i in zip(known, matched.known, strict=True)]
    new_aside = [right and i not in habitual for right, i in zip(new, matched.new, strict=True)]
    aside = (sum(known_aside) - sum(new_aside)) / len(new)
    gap_low, gap_high = paired_difference(known, new)
    lost, (lost_low, lost_high) = lost_share(known, new, matched.guessed)
    gap = (sum(known) - sum(new)) / len(new)
    only_known = sum(k and not n for k, n in zip(known, new, strict=True))
    questions = outcome.exam.questions
    return Evidence(
        LOOKUP,
        matched.module,
        RowSet.UNSEEN,
        len(new),
        sum(known),
        {"new facts": sum(new), "guess": sum(matched.guessed)},
        (
            Effect("gap", gap, gap_low, gap_high, SMALLEST_GAP, FULL_GAP),
            Effect("template aside", aside, *paired_difference(known_aside, new_aside), SMALLEST_GAP, FULL_GAP),
            Effect("lost share", lost, lost_low, lost_high, SMALLEST_LOSS, FULL_LOSS),
        ),
        mcnemar(only_known, sum(new) - sum(known) + only_known),
        f"training rows {sum(known) / len(known):.1%}, new facts of equal difficulty {sum(new) / len(new):.1%}, "
        f"a guess {sum(matched.guessed) / len(new):.1%} "
        f"({matched.same_template} of {len(new)} pairs share the template)",
        tuple(
            Example(questions[i].prompt, questions[i].truth, outcome.texts[i])
            for i in matched.new
            if not outcome.right[i]
        )[:3],
    )
