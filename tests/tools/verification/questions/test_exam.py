"""Reading questions, and a whole verification of a script behind the interface of a model."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch

from apt_model.config import ModelConfig
from apt_model.generation import generate_answers, generate_ids
from apt_model.model import APT
from tools.verification.questions.answerer import Answer
from tools.verification.questions.question import Question, Split, numbers_in, only_number
from tools.verification.questions.question_files import Questions, load_questions
from tools.verification.questions.training_data import TrainingData
from tools.verification.verification import verify
from training.errors import DataError
from training.tasks.hlbd.files import load_corpus

DATA = Path(__file__).resolve().parents[4] / "data"


@pytest.fixture(scope="module")
def v1() -> Questions:
    return load_questions(TrainingData(load_corpus([DATA / "HLBD_Hardcore_Full.json"]), "levels"))


@pytest.fixture(scope="module")
def v2() -> Questions:
    return load_questions(TrainingData(load_corpus([DATA / "HLBD_Hardcore_Full_V2.json"]), "levels"))


def write(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return path


# -- reading questions ------------------------------------------------------------------------------------------------


def ask(prompt: str) -> Question:
    return Question(prompt, "x", "m", Split.TRAIN, 0)


@pytest.mark.parametrize(
    ("prompt", "template", "operands"),
    [
        ("12 + 34 = ?", "□ + □ = ?", ("12", "34")),
        ("70kg的小车以8m/s²加速，合力等于多少？", "□kg的小车以□m/s²加速，合力等于多少？", ("70", "8")),
        ("重60N的物体，g取10N/kg，质量多大？", "重□N的物体，g取□N/kg，质量多大？", ("60", "10")),
        ("把 clock 倒过来拼写", "把 □ 倒过来拼写", ("clock",)),
        ("今年是羊年，22年前是什么年？", "今年是□年，□年前是什么年？", ("羊", "22")),
        ("[KR][ZH]今天下雨。", "[KR][ZH]□", ("今天下雨。",)),
        ("[EN]下雨", "[EN]□", ("下雨",)),
        ("[1,2]的和是多少？", "[□,□]的和是多少？", ("1", "2")),
    ],
)
def test_a_prompt_splits_into_template_and_operands(prompt: str, template: str, operands: tuple[str, ...]) -> None:
    assert (ask(prompt).template, ask(prompt).operands) == (template, operands)


def test_numbers_are_compared_by_value_and_without_their_unit() -> None:
    assert numbers_in("长3.50米、宽007米，5m/s²") == (Decimal("3.5"), Decimal(7), Decimal(5))
    assert only_number("24平方米") == Decimal(24)
    assert only_number("24平方米5") is only_number("鼠") is None


def test_answers_are_compared_in_nfc_and_otherwise_exactly() -> None:
    q = Question("?", "nǐ hǎo", "m", Split.TRAIN, 0)
    assert q.is_right("ni\u030c ha\u030co")
    assert not q.is_right("nǐ hǎo ")
    assert not Question("?", "5m/s²", "m", Split.TRAIN, 0).is_right("5m/s2")


def concept(name: str, english: str, chinese: str, **more: str) -> dict[str, Any]:
    levels = {"level_1": {"emoji": "🌧️"}, "level_5": {"英文": english}, "level_6": {"中文": chinese}}
    return {"concept": name, **levels, **more}


def concepts(folder: Path, *held_out: dict[str, Any], pairs: Any = "levels") -> Questions:
    train = write(folder / "c.json", {"samples": [concept("下雨", "It rains.", "下雨了。")]})
    unseen = write(folder / "c_Heldout.json", {"samples": list(held_out)})
    return load_questions(TrainingData(load_corpus([train], pairs), pairs), [str(unseen)])


def test_a_new_concept_is_asked_by_its_name_and_a_paraphrase_by_its_new_sentence(tmp_path: Path) -> None:
    new = concept("下雪", "It snows.", "下雪了。", kind="new_fact")
    reworded = concept("下雨", "Rain is falling.", "正在下雨。", kind="paraphrase")
    asked = concepts(tmp_path, new, reworded, pairs="full").held_out
    by_kind = {split: {q.prompt for q in asked if q.split is split} for split in Split}
    assert {"[EN]下雪", "[ZH]下雪", "[EN][ZH]下雪了。"} <= by_kind[Split.NEW_FACT]
    assert by_kind[Split.PARAPHRASE] == {"[EN][ZH]正在下雨。", "[ZH][EN]Rain is falling."}


def test_a_new_concept_that_training_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="also in the training file"):
        concepts(tmp_path, concept("下雨", "It rains.", "下雨了。", kind="new_fact"))


def test_contrast_groups_of_concepts_are_compared_tag_by_tag(tmp_path: Path) -> None:
    members = [concept(f"{n}只猫", f"{n} cats.", f"有{n}只猫。", kind="contrast", group="cats") for n in (2, 3, 4)]
    groups = {(q.asked_tag, q.group) for q in concepts(tmp_path, *members).held_out}
    assert len(groups) == 3
    assert {tag for tag, _ in groups} == {"[EMOJI]", "[EN]", "[ZH]"}


# -- the whole verification behind the interface ----------------------------------------------------------------------


class ScriptedAnswerer:
    """A script behind the interface of a model. It is asked parts of questions too, and then has only the text."""

    def __init__(self, questions: Sequence[Question], reply: Callable[[Question], str]) -> None:
        self._known = {q.prompt: q for q in questions}
        self._reply = reply

    def answer(self, prompts: Sequence[str]) -> list[Answer]:
        bare = (Question(p, "？", "unknown", Split.TRAIN, 0) for p in prompts)
        return [Answer(self._reply(self._known.get(q.prompt, q))) for q in bare]

    def unknown(self, texts: Iterable[str]) -> Counter[str]:
        return Counter()


def test_a_script_is_verified_like_a_model(v1: Questions) -> None:
    known = {q.prompt: q.truth for q in v1.train}
    scripted = ScriptedAnswerer([*v1.train, *v1.held_out], lambda q: known.get(q.prompt, "16"))
    report = verify(scripted, v1, "exact lookup")
    whole = report.modules[-1]
    assert (whole.label, whole.train and whole.train.rate) == ("overall", 1.0)
    assert whole.contrast_groups is not None
    assert whole.contrast_groups.hits == 0
    assert {s.name for s in report.found} == {"lookup"}
    assert "falls back on: majority answer" in report.found[0].summary
    assert report.calibration == ()
    assert all(p.right.rate < 0.1 and p.whole.rate == 1.0 for p in report.probes)


def test_a_contrast_group_counts_only_when_all_its_rows_are_right(v2: Questions) -> None:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for q in v2.held_out:
        if q.split is Split.CONTRAST:
            groups[q.group].append(q.prompt)
    spoilt = {prompts[0] for prompts in groups.values()}
    reply = ScriptedAnswerer([*v2.train, *v2.held_out], lambda q: "wrong" if q.prompt in spoilt else q.truth)
    whole = verify(reply, v2, "one row of each group wrong").modules[-1]
    assert whole.contrast is not None
    assert whole.contrast_groups is not None
    assert whole.contrast.rate > 0.6
    assert whole.contrast_groups.hits == 0
    assert whole.contrast_groups.total == len(spoilt)


# -- confidence -------------------------------------------------------------------------------------------------------


def test_the_confidence_is_the_probability_of_the_whole_answer() -> None:
    """Compare with a plain forward pass over prompt and answer, token by token, with prompts of unequal length."""
    torch.manual_seed(2)
    shape = ModelConfig(d_model=16, num_layers=2, num_heads=2, d_ff=32, max_seq_len=24, vocab_size=9)
    model = APT(shape.model_copy(update={"tie_embeddings": False})).eval()
    with torch.no_grad():
        model.head.weight.mul_(4.0)  # a model with opinions
    prompts = [[2, 6, 3], [2, 5, 7, 8, 3], [2, 3], [2, 8, 8, 6, 3]]
    found = generate_answers(model, prompts, eos_id=4, max_new_tokens=6)
    assert [f.ids for f in found] == generate_ids(model, prompts, eos_id=4, max_new_tokens=6)
    assert {len(f.ids) < 6 for f in found} == {True, False}  # some end by themselves, some are cut
    for prompt, answer in zip(prompts, found, strict=True):
        ended = answer.ids if len(answer.ids) == 6 else [*answer.ids, 4]
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + ended]))[0, len(prompt) - 1 : -1]
        chosen = torch.tensor(ended)
        log_probability = logits.log_softmax(-1)[torch.arange(len(ended)), chosen].sum()
        best = logits.topk(2).values
        assert answer.log_probability == pytest.approx(log_probability.item(), abs=1e-4)
        assert answer.margin == pytest.approx((best[:, 0] - best[:, 1]).min().item(), abs=1e-4)
        assert logits.argmax(-1).tolist() == ended
