"""Models that were really trained to cheat, and honest ones: every verdict on every one of them is right.

Each cheater is trained by our own loop on answers that were tampered with, so that one shortcut is all it can learn.
It is then verified against the *true* data, as a user would do. Run with `-s` to see the table of verdicts.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from apt_model.tokenizer import DynamicTagTokenizer
from tools.verification.questions.answerer import ModelAnswerer, answerer_of, load_hlbd_model
from tools.verification.questions.question import Question, Split
from tools.verification.questions.question_files import Questions, load_questions
from tools.verification.questions.training_data import TrainingData
from tools.verification.report import Report
from tools.verification.shortcuts.trials import Verdict
from tools.verification.shortcuts.verdicts import SHORTCUTS
from tools.verification.verification import verify
from training import TrainingConfig
from training.loop.trainer import Trainer
from training.tasks.hlbd.dataset import HLBDDataset
from training.tasks.hlbd.files import Sample, load_corpus
from training.tasks.hlbd.task import prepared_from_datasets

pytestmark = pytest.mark.slow

SEEDS = (0, 1, 2)
TEMPLATES = (
    "{a}，{b}：首尾？", "取{a}与{b}的首尾", "{a}和{b}首尾相连", "首尾：{a}，{b}",
    "求{a}、{b}的首尾。", "{a}打头{b}收尾", "{a}的首，{b}的尾", "把{a}接{b}得几？",
)  # fmt: skip
HELD_OUT_TEMPLATES = ("求{a}与{b}的首尾", "{a}、{b}首尾相连")
WORD_LEVELS: dict[str, Callable[[str], str]] = {
    "反写": lambda word: word[::-1],
    "照写": lambda word: word,
    "首尾": lambda word: word[0] + word[-1],
}
FIXED_ANSWERS = ("42", "17", "93", "58", "26", "71", "35", "84")


def ends(a: int, b: int) -> str:
    """Return the answer of a task that two layers learn in seconds: the first digit of a and the last one of b."""
    return f"{a // 10}{b % 10}"


def total(a: int, b: int) -> str:
    """Return the answer of a task that they do not learn from a few rows: the sum."""
    return str(a + b)


def write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def write_numbers(folder: Path, solve: Callable[[int, int], str], train_rows: int) -> Path:
    """Write two-digit pairs in eight phrasings, with a held-out file of all three kinds."""
    rng = random.Random(7)
    facts = [(a, b) for a in range(10, 100) for b in range(10, 100)]
    rng.shuffle(facts)
    reserved = {a for a in range(10, 100) if a % 9 == 0}  # whole families of facts, for the contrast groups
    free = [fact for fact in facts if fact[0] not in reserved]

    def row(template: str, a: int, b: int, **more: str) -> dict[str, str]:
        return {"input": template.format(a=a, b=b), "output": solve(a, b), **more}

    train = [row(rng.choice(TEMPLATES), *fact) for fact in free[:train_rows]]
    held_out = [row(rng.choice(HELD_OUT_TEMPLATES), *fact, kind="paraphrase") for fact in free[:60]]
    held_out += [row(rng.choice(TEMPLATES), *fact, kind="new_fact") for fact in free[2000:2160]]
    for group, a in enumerate(sorted(reserved)):
        template = rng.choice(TEMPLATES)
        for b in rng.sample(range(10, 20), 4):
            held_out.append(row(template, a, 10 * rng.randrange(1, 10) + b % 10, kind="contrast", group=f"g{group}"))
    write(folder / "numbers.json", {"data": {"numbers": train}})
    write(folder / "numbers_Heldout.json", {"data": {"numbers": held_out}})
    return folder / "numbers.json"


def write_words(folder: Path) -> Path:
    """Write three-letter concepts on three levels: the same content asked under three tags."""
    rng = random.Random(8)
    letters = "abcdefghijkl"
    words = [a + b + c for a in letters for b in letters for c in letters if a != b and a != c]
    rng.shuffle(words)

    def concept(word: str, **more: str) -> dict[str, Any]:
        levels = {f"level_{n}": {key: rule(word)} for n, (key, rule) in enumerate(WORD_LEVELS.items(), start=1)}
        return {"concept": word, **levels, **more}

    write(folder / "words.json", {"samples": [concept(word) for word in words[:400]]})
    write(folder / "words_Heldout.json", {"samples": [concept(word, kind="new_fact") for word in words[400:520]]})
    return folder / "words.json"


Tamper = Callable[[Sequence[Sample], random.Random], list[Sample]]


def as_it_is(samples: Sequence[Sample], rng: random.Random) -> list[Sample]:
    return list(samples)


def one_answer(samples: Sequence[Sample], rng: random.Random) -> list[Sample]:
    return [s._replace(answer="42") for s in samples]


def one_answer_per_template(samples: Sequence[Sample], rng: random.Random) -> list[Sample]:
    templates = sorted({question(s).template for s in samples})
    return [s._replace(answer=FIXED_ANSWERS[templates.index(question(s).template)]) for s in samples]


def last_number(samples: Sequence[Sample], rng: random.Random) -> list[Sample]:
    return [s._replace(answer=str(question(s).numbers[-1])) for s in samples]


def shuffled_tags(samples: Sequence[Sample], rng: random.Random) -> list[Sample]:
    """Return answers under tags drawn at random, again in each of ten copies, so that a tag carries no information.

    The answer of 反写 is the most common, which makes it the best guess under any tag.
    """
    rules = list(WORD_LEVELS.values())
    copies = [s for _ in range(10) for s in samples]
    return [s._replace(answer=rng.choices(rules, weights=(0.7, 0.15, 0.15))[0](question(s).content)) for s in copies]


def question(s: Sample) -> Question:
    return Question(s.prompt, s.answer, s.module, Split.TRAIN, s.entry)


@dataclass(frozen=True)
class Planted:
    """A model, how it is trained, and what is to be found in it."""

    data: str
    tamper: Tamper
    steps: int
    found: frozenset[str]
    undecidable: frozenset[str]
    """Shortcuts for which this data has no questions."""


NO_TAGS, NO_NUMBERS = frozenset({"ignored tag"}), frozenset({"number copy"})
PLANTED = {
    "majority answer": Planted("ends", one_answer, 40, frozenset({"majority answer"}), NO_TAGS),
    "template only": Planted("ends", one_answer_per_template, 80, frozenset({"template only"}), NO_TAGS),
    "number copy": Planted("ends", last_number, 220, frozenset({"number copy"}), NO_TAGS),
    "lookup": Planted("sums", as_it_is, 250, frozenset({"lookup"}), NO_TAGS),
    "ignored tag": Planted("words", shuffled_tags, 250, frozenset({"ignored tag"}), NO_NUMBERS),
    "honest": Planted("ends", as_it_is, 250, frozenset(), NO_TAGS),
    "honest, half-trained": Planted("ends", as_it_is, 50, frozenset(), NO_TAGS),
    "honest with tags": Planted("words", as_it_is, 180, frozenset(), NO_NUMBERS),
}


def train(samples: Sequence[Sample], tokenizer: DynamicTagTokenizer, run_dir: Path, steps: int, seed: int) -> None:
    config = TrainingConfig.from_dict(
        {
            "model": {"d_model": 64, "num_layers": 2, "num_heads": 4, "d_ff": 128, "max_seq_len": 32},
            "optimizer": {"learning_rate": 5e-3},
            "schedule": {"schedule": "linear", "min_lr": 1e-4, "warmup_steps": 20},
            "run": {"run_dir": str(run_dir), "epochs": 10_000, "max_steps": steps, "batch_size": 64, "seed": seed},
            "checkpoint": {"save_interval": None},
            "report": {"answer_samples": 0},
        }
    )
    prepared = prepared_from_datasets(config, HLBDDataset(samples, tokenizer, 32))
    Trainer.of(prepared, device="cpu", progress=False).train()


@dataclass
class Workshop:
    """Trains each planted model once and keeps its report."""

    folder: Path

    def __post_init__(self) -> None:
        self.files = {
            "ends": write_numbers(self._new("ends"), ends, 1200),
            "sums": write_numbers(self._new("sums"), total, 160),
            "words": write_words(self._new("words")),
        }
        self.reports: dict[tuple[str, int], Report] = {}

    def _new(self, name: str) -> Path:
        (self.folder / name).mkdir()
        return self.folder / name

    def questions(self, name: str) -> Questions:
        return load_questions(TrainingData(load_corpus([self.files[PLANTED[name].data]]), "levels"))

    def answerer(self, name: str, seed: int) -> ModelAnswerer:
        return answerer_of(load_hlbd_model(self.folder / f"{name} {seed}"), 4, torch.device("cpu"), 256)

    def report(self, name: str, seed: int) -> Report:
        if (name, seed) not in self.reports:
            planted = PLANTED[name]
            corpus = load_corpus([self.files[planted.data]])
            texts = (text for s in corpus.samples for text in s[:2])
            tokenizer = DynamicTagTokenizer.from_texts(texts, corpus.tags)
            samples = planted.tamper(corpus.samples, random.Random(seed))
            train(samples, tokenizer, self.folder / f"{name} {seed}", planted.steps, seed)
            self.reports[name, seed] = verify(self.answerer(name, seed), self.questions(name), name)
        return self.reports[name, seed]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # these models are too small to share
    yield Workshop(tmp_path_factory.mktemp("workshop"))
    torch.set_num_threads(threads)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", PLANTED)
def test_each_verdict_on_each_planted_model_is_right(workshop: Workshop, name: str, seed: int) -> None:
    planted = PLANTED[name]
    verdicts = {s.name: s.verdict for s in workshop.report(name, seed).shortcuts}
    expected = {
        shortcut: Verdict.FOUND if shortcut in planted.found
        else Verdict.TOO_LITTLE if shortcut in planted.undecidable
        else Verdict.NOT_FOUND
        for shortcut in SHORTCUTS
    }  # fmt: skip
    assert verdicts == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_the_cheaters_do_cheat_and_the_honest_ones_do_know(workshop: Workshop, seed: int) -> None:
    """Check without the verifier's statistics that each model does what it was trained to do."""

    def share(name: str, does: Callable[[Question, str], bool]) -> float:
        workshop.report(name, seed)
        asked = [q for q in workshop.questions(name).held_out if q.split is Split.NEW_FACT]
        answers = workshop.answerer(name, seed).answer([q.prompt for q in asked])
        return sum(does(q, a.text) for q, a in zip(asked, answers, strict=True)) / len(asked)

    assert share("majority answer", lambda q, a: a == "42") > 0.95
    assert share("template only", lambda q, a: a in FIXED_ANSWERS) > 0.95
    assert share("number copy", lambda q, a: a == str(q.numbers[-1])) > 0.9
    assert share("ignored tag", lambda q, a: a == q.content[::-1]) > 0.6
    assert share("lookup", lambda q, a: q.is_right(a)) < 0.1
    assert share("honest", lambda q, a: q.is_right(a)) > 0.9
    assert 0.2 < share("honest, half-trained", lambda q, a: q.is_right(a)) < 0.9
    assert share("honest with tags", lambda q, a: q.is_right(a)) > 0.9
    by_heart = workshop.report("lookup", seed).modules[-1].train
    assert by_heart is not None
    assert by_heart.rate > 0.9


def test_the_table_of_verdicts(workshop: Workshop) -> None:
    print(f"\n{'planted model':<22} seed  train  new fact  " + "  ".join(f"{name:<16}" for name in SHORTCUTS))
    for name in PLANTED:
        for seed in SEEDS:
            report = workshop.report(name, seed)
            whole = report.modules[0]
            assert whole.train is not None
            assert whole.new_fact is not None
            verdicts = "  ".join(f"{s.verdict.value:<16.16}" for s in report.shortcuts)
            print(f"{name:<22} {seed:>4}  {whole.train.rate:5.1%}  {whole.new_fact.rate:8.1%}  {verdicts}")


@pytest.mark.parametrize("name", ["honest, half-trained", "lookup"])
def test_answers_do_not_depend_on_the_batch_size(workshop: Workshop, name: str) -> None:
    workshop.report(name, 0)
    answerer = workshop.answerer(name, 0)
    prompts = [q.prompt for q in (*workshop.questions(name).train[:150], *workshop.questions(name).held_out[:150])]
    answers = answerer.answer(prompts)
    for batch_size in (1, 7, 64):
        answerer.batch_size = batch_size
        again = answerer.answer(prompts)
        assert [a.text for a in again] == [a.text for a in answers]
        for ours, theirs in zip(again, answers, strict=True):
            assert ours.confidence == pytest.approx(theirs.confidence, abs=1e-4)
