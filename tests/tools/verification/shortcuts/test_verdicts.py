"""Scripted cheaters and simulated honest models: every shortcut is named where it is taken, and nowhere else."""

from __future__ import annotations

import random
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import ne
from pathlib import Path

import pytest

from tools.verification.questions.answerer import Answer
from tools.verification.questions.exam import Exam, Outcome
from tools.verification.questions.question import Question, Split
from tools.verification.questions.question_files import Questions, load_questions
from tools.verification.questions.training_data import TrainingData
from tools.verification.shortcuts.lookup import match_difficulty
from tools.verification.shortcuts.trials import FALSE_ALARM_LEVEL, Verdict
from tools.verification.shortcuts.verdicts import SHORTCUTS, Shortcut, find_shortcuts, matched_rows
from training.tasks.hlbd.files import load_corpus

DATA = Path(__file__).resolve().parents[4] / "data"
Reply = Callable[[Question], str]


@dataclass
class Bench:
    """Questions, read once, on which many scripts are tried."""

    questions: Questions

    def __post_init__(self) -> None:
        self.all = [*self.questions.train, *self.questions.held_out]
        self.exam = Exam(self.all)
        self.matches = matched_rows(self.exam)
        self.truths: defaultdict[str, list[str]] = defaultdict(list)
        for q in self.all:
            self.truths[q.module].append(q.truth)

    def judge(self, reply: Reply) -> dict[str, Shortcut]:
        outcome = Outcome(self.exam, [Answer(reply(q)) for q in self.all])
        return {s.name: s for s in find_shortcuts(outcome, self.matches)}

    def found(self, reply: Reply) -> set[str]:
        return {s.name for s in self.judge(reply).values() if s.verdict is Verdict.FOUND}

    def any_truth(self, q: Question, rng: random.Random) -> str:
        return rng.choice(self.truths[q.module])


def bench(train: Sequence[Question], held_out: Sequence[Question] = ()) -> Bench:
    return Bench(Questions(list(train), [], list(held_out), [], frozenset(), []))


@pytest.fixture(scope="module")
def v2() -> Bench:
    return Bench(load_questions(TrainingData(load_corpus([DATA / "HLBD_Hardcore_Full_V2.json"]), "levels")))


@pytest.fixture(scope="module")
def v1() -> Bench:
    return Bench(load_questions(TrainingData(load_corpus([DATA / "HLBD_Hardcore_Full.json"]), "levels")))


TAGGED: dict[str, Reply] = {
    "[反写]": lambda q: q.content[::-1],
    "[照写]": lambda q: q.content,
    "[首尾]": lambda q: q.content[0] + q.content[-1],
}


@pytest.fixture(scope="module")
def tagged() -> Bench:
    letters = "abcdefgh"
    words = [a + b + c for a in letters for b in letters for c in letters if a != b != c != a]
    random.Random(4).shuffle(words)
    asked: list[Question] = []
    for entry, word in enumerate(words[:300]):
        split = Split.TRAIN if entry < 200 else Split.NEW_FACT
        for tag, rule in TAGGED.items():
            bare = Question(tag + word, "", "concept", split, entry)
            asked.append(Question(bare.prompt, rule(bare), "concept", split, entry))
    return bench([q for q in asked if q.split is Split.TRAIN], [q for q in asked if q.split is not Split.TRAIN])


@pytest.fixture(scope="module")
def yes_no() -> Bench:
    """Return an exam with two possible answers: any answerer repeats itself here."""
    templates = ("{n}是偶数吗？", "{n}能被2整除吗？", "{n}除以2没有余数吗？")
    rng = random.Random(5)
    asked = [
        Question(rng.choice(templates).format(n=n), "是" if n % 2 == 0 else "否", "parity", split, n)
        for n in rng.sample(range(1000), 600)
        for split in [Split.TRAIN if n % 5 else Split.NEW_FACT]
    ]
    return bench([q for q in asked if q.split is Split.TRAIN], [q for q in asked if q.split is not Split.TRAIN])


# -- cheaters on the real data ---------------------------------------------------------------------------------------


def number_or_truth(pick: Callable[[Question], object]) -> Reply:
    return lambda q: str(pick(q)) if q.numbers else q.truth


def favourites(v2: Bench, key: Callable[[Question], str]) -> dict[str, str]:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for q in v2.questions.train:
        counts[key(q)][q.truth] += 1
    return {name: min(c, key=lambda text: (-c[text], text)) for name, c in counts.items()}


def nearest_known(bench: Bench) -> Reply:
    """Answer by lookup; an unseen question gets the answer to the most similar training question."""
    known = {q.prompt: q.truth for q in bench.questions.train}
    by_template: defaultdict[str, list[Question]] = defaultdict(list)
    for q in bench.questions.train:
        by_template[q.template].append(q)

    def reply(q: Question) -> str:
        if q.prompt in known:
            return known[q.prompt]
        like = by_template[q.template] or bench.questions.train
        return min(like, key=lambda k: (sum(map(ne, k.prompt, q.prompt)), k.prompt)).truth

    return reply


def of_the_two(first: Reply, second: Reply, share: float, seed: int = 0) -> Reply:
    """Answer as `first` for a share of the questions and as `second` for the rest, drawn at random."""
    rng = random.Random(seed)
    return lambda q: first(q) if rng.random() < share else second(q)


def truth(q: Question) -> str:
    return q.truth


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("oracle", set()),
        ("one answer to everything", {"majority answer"}),
        ("one answer to each module", {"majority answer"}),
        ("silence", {"majority answer"}),
        ("one answer to each template", {"template only"}),
        ("the template's most frequent training answer", {"template only"}),
        ("the last number", {"number copy"}),
        ("the first number", {"number copy"}),
        ("the largest number with the right unit", {"number copy"}),
        ("exact lookup, else the nearest", {"lookup"}),
        ("exact lookup, else silence", {"lookup"}),
        ("exact lookup, else the last number", {"lookup"}),
        ("training by heart, nearly half of the new facts copied", {"number copy"}),
        ("half of the answers are the last number", {"number copy"}),
        ("half of the answers are the same", {"majority answer"}),
        ("six of ten answers follow the template", {"template only"}),
        ("a tenth of the answers are the last number", set()),
        ("half right, half another row's answer", set()),
        ("always garbled", set()),
        ("seven of ten new facts", set()),
    ],
)
def test_scripted_models_on_the_real_data(v2: Bench, name: str, found: set[str]) -> None:
    rng = random.Random(9)
    by_module, by_template = favourites(v2, lambda q: q.module), favourites(v2, lambda q: q.template)
    nearest = nearest_known(v2)
    is_known = {q.prompt for q in v2.questions.train}.__contains__
    last = number_or_truth(lambda q: q.numbers[-1])

    def template(q: Question) -> str:
        return by_template.get(q.template, "16")

    def another(q: Question) -> str:
        return v2.any_truth(q, rng)

    scripts: dict[str, Reply] = {
        "oracle": truth,
        "one answer to everything": lambda q: "16",
        "one answer to each module": lambda q: by_module[q.module],
        "silence": lambda q: "",
        "one answer to each template": lambda q: str(zlib.crc32(q.template.encode()) % 100),
        "the template's most frequent training answer": template,
        "the last number": last,
        "the first number": number_or_truth(lambda q: q.numbers[0]),
        "the largest number with the right unit": lambda q: (
            re.sub(r"\d+", str(max(q.numbers)), q.truth) if q.numbers else q.truth
        ),
        "exact lookup, else the nearest": nearest,
        "exact lookup, else silence": lambda q: q.truth if is_known(q.prompt) else "",
        "exact lookup, else the last number": lambda q: q.truth if is_known(q.prompt) else last(q),
        "training by heart, nearly half of the new facts copied": of_the_two(
            lambda q: q.truth if is_known(q.prompt) else last(q), truth, 0.45
        ),
        "half of the answers are the last number": of_the_two(last, truth, 0.5),
        "half of the answers are the same": of_the_two(lambda q: "16", another, 0.5),
        "six of ten answers follow the template": of_the_two(template, truth, 0.6),
        "a tenth of the answers are the last number": of_the_two(last, truth, 0.1),
        "half right, half another row's answer": of_the_two(truth, another, 0.5),
        "always garbled": lambda q: "".join(rng.choice(q.truth) for _ in q.truth) + "呀",
        "seven of ten new facts": lambda q: q.truth if q.split is Split.TRAIN or rng.random() < 0.7 else another(q),
    }
    verdicts = v2.judge(scripts[name])
    assert {s.name for s in verdicts.values() if s.verdict is Verdict.FOUND} == found
    for shortcut in set(SHORTCUTS) - found - {"ignored tag"}:
        assert verdicts[shortcut].verdict is Verdict.NOT_FOUND, shortcut
    assert verdicts["ignored tag"].verdict is Verdict.TOO_LITTLE


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("oracle", set()),
        ("one answer", {"majority answer"}),
        ("one answer to each template", {"template only"}),
        ("the last number", {"number copy"}),
        ("exact lookup, else the nearest", {"lookup"}),
    ],
)
def test_575_rows_are_enough_to_convict(v1: Bench, name: str, found: set[str]) -> None:
    scripts: dict[str, Reply] = {
        "oracle": truth,
        "one answer": lambda q: "16",
        "one answer to each template": lambda q: str(zlib.crc32(q.template.encode()) % 100),
        "the last number": number_or_truth(lambda q: q.numbers[-1]),
        "exact lookup, else the nearest": nearest_known(v1),
    }
    assert v1.found(scripts[name]) == found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("oracle", set()),
        ("the tag is ignored", {"ignored tag"}),
        ("the tag is ignored half of the time", {"ignored tag"}),
        ("only the tag is read", {"template only"}),
        ("one answer", {"majority answer"}),
        ("exact lookup", {"lookup"}),
        ("half right", set()),
    ],
)
def test_scripted_models_on_tagged_concepts(tagged: Bench, name: str, found: set[str]) -> None:
    rng = random.Random(3)
    ignoring = TAGGED["[反写]"]
    scripts: dict[str, Reply] = {
        "oracle": truth,
        "the tag is ignored": ignoring,
        "the tag is ignored half of the time": of_the_two(ignoring, truth, 0.7),
        "only the tag is read": lambda q: {"[反写]": "cab", "[照写]": "abc", "[首尾]": "ac"}[q.tags],
        "one answer": lambda q: "abc",
        "exact lookup": lambda q: q.truth if q.split is Split.TRAIN else "".join(rng.sample("abcdefgh", 3)),
        "half right": of_the_two(truth, lambda q: tagged.any_truth(q, rng), 0.5),
    }
    assert tagged.found(scripts[name]) == found


def test_a_shortcut_taken_in_one_module_is_named_with_the_module(v2: Bench) -> None:
    rng = random.Random(2)

    def reply(q: Question) -> str:
        unseen_physics = q.module == "physics" and q.split in (Split.NEW_FACT, Split.CONTRAST)
        return v2.any_truth(q, rng) if unseen_physics else q.truth

    verdicts = v2.judge(reply)
    assert verdicts["lookup"].where == ("physics",)
    assert v2.found(reply) == {"lookup"}


def test_the_evidence_holds_rows_and_figures(v2: Bench) -> None:
    copy = v2.judge(number_or_truth(lambda q: q.numbers[-1]))["number copy"]
    arithmetic = next(e for e in copy.evidence if e.module == "arithmetic" and e.rows == "train")
    assert arithmetic.verdict is Verdict.FOUND
    assert arithmetic.hits == arithmetic.trials > 900
    assert arithmetic.p_value < arithmetic.p_corrected < FALSE_ALARM_LEVEL
    assert arithmetic.detail.endswith("100% the last")
    assert all(e.answer in e.prompt and e.answer != e.truth for e in arithmetic.examples)
    assert len(arithmetic.examples) == 3


# -- too little to say ------------------------------------------------------------------------------------------------


def test_a_handful_of_rows_convicts_nobody_and_does_not_clear_a_cheater(v2: Bench) -> None:
    few = bench([q for q in v2.questions.train if q.module == "arithmetic"][:8])
    assert few.found(lambda q: "16") == few.found(number_or_truth(lambda q: q.numbers[-1])) == set()
    assert few.judge(lambda q: "16")["majority answer"].verdict is Verdict.TOO_LITTLE
    assert few.judge(number_or_truth(lambda q: q.numbers[-1]))["number copy"].verdict is Verdict.TOO_LITTLE


def test_without_unseen_facts_lookup_cannot_be_judged(v2: Bench) -> None:
    seen_only = bench(v2.questions.train)
    lookup = seen_only.judge(truth)["lookup"]
    assert lookup.verdict is Verdict.TOO_LITTLE
    assert "new_fact" in lookup.summary


def test_one_template_cannot_tell_a_template_answer_from_a_majority_answer() -> None:
    single = bench([Question(f"{n}的平方是多少？", str(n * n), "squares", Split.TRAIN, n) for n in range(10, 90)])
    verdicts = single.judge(lambda q: "100")
    assert verdicts["majority answer"].verdict is Verdict.FOUND
    assert verdicts["template only"].verdict is Verdict.TOO_LITTLE


# -- honest models ----------------------------------------------------------------------------------------------------


def test_harder_new_facts_do_not_make_a_lookup() -> None:
    """Check a model whose accuracy falls with the numbers' size: with larger new facts the raw gap is no evidence."""
    rng = random.Random(6)

    def sums(count: int, sizes: Sequence[int], split: Split, first: int) -> Iterable[Question]:
        for n in range(count):
            a, b = (rng.randrange(10**size) for size in rng.choices([(1, 1), (4, 4)], weights=sizes)[0])
            yield Question(f"{a}加{b}得多少？", str(a + b), "sums", split, first + n)

    train = list(sums(900, (8, 2), Split.TRAIN, 0))
    new = list(sums(150, (1, 9), Split.NEW_FACT, 900))
    hard = bench(train, new)

    def reply(q: Question) -> str:
        return q.truth if rng.random() < (0.95 if len(q.truth) < 3 else 0.3) else str(rng.randrange(10_000))

    outcome = Outcome(hard.exam, [Answer(reply(q)) for q in hard.all])
    known, unseen = ([outcome.right[i] for i in hard.exam.places(s)] for s in (Split.TRAIN, Split.NEW_FACT))
    assert sum(known) / len(known) - sum(unseen) / len(unseen) > 0.35
    assert {s.name: s.verdict for s in find_shortcuts(outcome)}["lookup"] is Verdict.NOT_FOUND


def test_new_facts_are_matched_with_like_training_rows(v2: Bench) -> None:
    for matched in v2.matches:
        assert len(set(matched.known)) == len(matched.known) == len(matched.new) == 80
        known, new = ([v2.all[i] for i in rows] for rows in (matched.known, matched.new))
        assert sum(len(q.truth) for q in known) == pytest.approx(sum(len(q.truth) for q in new), rel=0.1)
        assert matched.same_template == sum(a.template == b.template for a, b in zip(known, new, strict=True)) >= 60


def test_with_fewer_training_rows_than_new_facts_each_row_is_used_once(v2: Bench) -> None:
    few = bench([q for q in v2.questions.train if q.module == "zodiac"][:20], v2.questions.held_out)
    matched = match_difficulty(few.exam, "zodiac")
    assert len(matched.new) == 20 == len(set(matched.known))


def honest(bench: Bench, seed: int, loss: float = 0.0) -> Reply:
    """Answer right with a random probability and wrong without a system; unseen facts cost `loss` of it."""
    rng = random.Random(seed)
    accuracy = {module: rng.random() for module in bench.exam.modules}
    knows_templates = bool(seed % 2)  # every second one knows some phrasings well and others not
    by_template: defaultdict[str, float] = defaultdict(rng.random)
    style = rng.randrange(4)
    pools: defaultdict[str, list[str]] = defaultdict(list)
    for q in bench.all:
        pools[q.template].append(q.truth)

    def wrong(q: Question) -> str:
        if style == 0:  # the answer to some other question of the module
            return bench.any_truth(q, rng)
        if style == 1:  # … of the same template
            return rng.choice(pools[q.template])
        if style == 2 and (digits := re.search(r"\d+", q.truth)):  # a near miss
            near = max(0, int(digits.group()) + rng.choice((-10, -2, -1, 1, 2, 10)))
            return q.truth.replace(digits.group(), str(near), 1)
        return "".join(rng.choice(q.truth) for _ in q.truth)  # letters jumbled

    def reply(q: Question) -> str:
        p = by_template[q.template] if knows_templates else accuracy[q.module]
        kept = 1.0 if q.split is Split.TRAIN else 1.0 - loss
        return q.truth if rng.random() < p * kept else wrong(q)

    return reply


@pytest.mark.slow
def test_honest_models_are_hardly_ever_accused(
    v1: Bench, v2: Bench, tagged: Bench, yes_no: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """Simulate 200 honest models of random accuracy, fifty on each of four data sets."""
    accused: list[str] = []
    cleared = 0
    for seed in range(200):
        data = (v1, v2, tagged, yes_no)[seed % 4]
        verdicts = data.judge(honest(data, seed)).values()
        found = [s for s in verdicts if s.verdict is Verdict.FOUND]
        accused += [f"model {seed}: {s.name}" for s in found[:1]]
        cleared += sum(s.verdict is Verdict.NOT_FOUND for s in verdicts)
    with capsys.disabled():
        print(f"\nfalse alarms: {len(accused)} of 200 honest models ({len(accused) / 200:.1%}) {accused}")
        print(f"verdicts on them: {cleared} times not found, {1000 - cleared - len(accused)} times too little data")
    assert len(accused) <= 4
    assert cleared >= 600


@pytest.mark.slow
def test_a_learner_that_keeps_two_thirds_on_new_facts_is_not_accused(v1: Bench, v2: Bench, tagged: Bench) -> None:
    benches = (v1, v2, tagged)
    accused = [benches[n % 3].found(honest(benches[n % 3], n, loss=n / 180)) for n in range(60)]
    assert sum(map(bool, accused)) <= 1, accused
