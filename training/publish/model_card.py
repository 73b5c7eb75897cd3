"""The model card: the `README.md` of a published model. Everything in it is read from the run's own record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from training.machine.units import as_duration
from training.publish.card_figures import FOUND, TOO_LITTLE, asks_unseen_questions, recitation_table, verification_table
from training.publish.markdown import percent, plain, table
from training.publish.model_facts import VERIFICATION_NAME, ModelFacts
from training.record.curve_figure import FIGURE_NAME

CARD_NAME = "README.md"
_SETTINGS = {
    "optimizer": ("optimizer", "learning_rate", "weight_decay", "max_grad_norm", "stabilizer"),
    "schedule": ("schedule", "min_lr", "warmup_steps"),
    "run": ("epochs", "max_steps", "batch_size", "global_batch_size", "precision", "seed"),
    "data": ("pairs", "loss_on", "truncate", "validation_split"),
}
"""The settings that the card shows; all of them are in the run's own config.yaml."""


def model_card(facts: ModelFacts, place: str, *, has_curve: bool, has_onnx: bool = False) -> str:
    """The card's text.

    Args:
        facts: what is known of the model.
        place: what `from_pretrained` is given: OWNER/NAME on the Hub, or the directory's name.
        has_curve: whether `training_curve.png` lies beside the card.
        has_onnx: whether `onnx/model.onnx` does.
    """
    metadata = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["apt", "hlbd", "character-level", "question-answering", *(["onnx"] if has_onnx else [])],
    }
    lines = [
        "---",
        yaml.safe_dump(metadata, sort_keys=False).strip(),
        "---",
        "",
        f"# {plain(place.rpartition('/')[2])}",
        "",
        *_introduction(facts),
        "",
        "## How to use it",
        "",
        *_use(place, has_onnx),
        "",
        "## What it answers",
        "",
        *_answers(facts),
        "",
        "## Training data",
        "",
        *_data(facts),
        "",
        "## Training",
        "",
        *_training(facts, has_curve),
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in _limits(facts)),
    ]
    return "\n".join(lines) + "\n"


def _introduction(facts: ModelFacts) -> Iterator[str]:
    shape = facts.config
    attention = (
        "autopoietic attention: each head sets its own temperature and output gate at every token"
        if shape.attention == "autopoietic"
        else "standard attention, as the control experiment of APT"
    )
    yield (
        f"An APT language model of {facts.num_parameters:,} parameters that answers short questions in the form of its "
        f"training data (HLBD). It is a causal decoder with {attention}; it reads and writes single characters."
    )
    if facts.step is not None and (facts.is_best or not facts.is_final):
        total = f" of {facts.report['total_steps']:,}" if facts.report else ""
        why = "which had the lowest loss" if facts.is_best else "before the end of the training"
        yield ""
        yield f"These are the weights after update {facts.step:,}{total}, {why}."
    yield ""
    rows: list[list[object]] = [[name, value] for name, value in shape.model_dump(exclude={"model"}).items()]
    yield from table(["shape", ""], [*rows, ["weights", "fp32"]])


def _use(place: str, has_onnx: bool) -> Iterator[str]:
    yield from (
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f"place = {place!r}",
        "tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=True)",
        "model = AutoModelForCausalLM.from_pretrained(place, trust_remote_code=True)",
        "",
        'question = tokenizer("12 + 34 = ?", return_tensors="pt")',
        "answer = model.generate(**question, max_new_tokens=20, do_sample=False)",
        'print(tokenizer.decode(answer[0, question["input_ids"].shape[1] :], skip_special_tokens=True))',
        "```",
        "",
        "`trust_remote_code=True` runs the Python files of this directory: read them first. They need PyTorch and "
        "transformers, nothing else.",
    )
    if not has_onnx:
        return
    yield from (
        "",
        "`onnx/model.onnx` is the same model for ONNX Runtime: int64 `input_ids` (batch, tokens) to fp32 `logits` "
        "(batch, tokens, vocabulary). It reads the whole text at each call (no cache); padding goes on the right.",
        "",
        "```python",
        "import onnxruntime",
        "",
        'session = onnxruntime.InferenceSession("onnx/model.onnx")',
        '[logits] = session.run(None, {"input_ids": question["input_ids"].numpy()})',
        "```",
    )


def _answers(facts: ModelFacts) -> Iterator[str]:
    if facts.verification is not None:
        yield from verification_table(facts.verification)
        if share := _share_held_back(facts):
            yield ""
            yield f"Among the training questions are the {percent(share)} of the entries that were held back."
        return
    recitation = (facts.report or {}).get("recitation")
    if recitation and facts.is_final:
        yield from recitation_table(recitation)
    else:
        yield "Nothing was measured."
    data = [file["file"] for file in (facts.report or {}).get("data", ())] or ["DATA.json"]
    yield ""
    yield (
        "What it understood, what it memorised and which shortcut it took has not been verified. The one who trained "
        f"it can: `python tools/verify_hlbd_model.py --model RUN --dataset {' '.join(map(plain, data))} "
        f"--json RUN/{VERIFICATION_NAME}`, and publish again."
    )


def _data(facts: ModelFacts) -> Iterator[str]:
    if not (facts.report and facts.report.get("data")):
        yield "What it was trained on is not recorded beside the model."
        return
    rows = [[f["file"], f"{f['entries']:,}", f"{f['samples']:,}", percent(f["share"])] for f in facts.report["data"]]
    yield from table(["file", "entries", "samples", "share of the entries"], rows)
    yield ""
    yield f"{facts.report['num_train_samples']:,} samples were trained on{_held_back(facts)}."
    if fingerprint := facts.report.get("data_fingerprint"):
        yield f"Fingerprint of all samples: `{fingerprint}`."


def _held_back(facts: ModelFacts) -> str:
    share = _share_held_back(facts)
    return f", {percent(share)} of the entries were held back for validation" if share else ""


def _share_held_back(facts: ModelFacts) -> float:
    share: float = (facts.settings or {}).get("data", {}).get("validation_split", 0.0)
    return share


def _training(facts: ModelFacts, has_curve: bool) -> Iterator[str]:
    if has_curve:
        yield f"![Training curve]({FIGURE_NAME})"
        yield ""
    rows: list[list[object]] = [*_course(facts)]
    for section, names in _SETTINGS.items():
        values: dict[str, Any] = (facts.settings or {}).get(section, {})
        rows += [[name, values[name]] for name in names if values.get(name) is not None]
    if not rows:
        yield "How it was trained is not recorded beside the model."
        return
    yield from table(["", ""], rows)


def _course(facts: ModelFacts) -> Iterator[list[object]]:
    """What happened, beside what was set."""
    if facts.step is not None:
        yield ["updates", f"{facts.step:,}"]
    report = facts.report
    if report is None:
        return
    if facts.is_final:
        yield ["time", as_duration(report["training_seconds"])]
    if facts.is_final and not facts.is_best:
        loss = report["latest"].get("loss")
        yield ["last training loss", f"{loss:.4f}" if loss is not None else "not a finite number"]
    for evaluation in [e for e in report["evaluations"] if e["step"] == facts.step and e["loss"] is not None]:
        yield ["validation loss", f"{evaluation['loss']:.4f}"]
    yield ["backend", f"{report['backend']}, {report['world_size']} × {report['device']}"]


def _limits(facts: ModelFacts) -> Iterator[str]:
    shape = facts.config
    yield (
        "It answers questions in the wording of its training data. It is no chat model, knows nothing of the world "
        "beyond that data, and was not trained to be safe or fair."
    )
    yield (
        f"It knows {facts.num_characters:,} characters and {len(facts.tags)} tags. Any other character is read as "
        f"`[UNK]` and cannot be written. Question and answer together have at most {shape.max_seq_len:,} tokens."
    )
    yield "Figures are of one run with one seed, and of greedy answers; sampled ones are worse."
    found = facts.verification
    if found is None or not asks_unseen_questions(found):
        yield "How it does on questions that it has not seen is unknown."
    if found is not None:
        taken = [s["name"] for s in found["shortcuts"] if s["verdict"] == FOUND]
        unsure = [s["name"] for s in found["shortcuts"] if s["verdict"] == TOO_LITTLE]
        if taken:
            yield f"It takes shortcuts (above): {plain(', '.join(taken))}."
        if unsure:
            yield f"There was too little data to say whether it takes these shortcuts: {plain(', '.join(unsure))}."
    skipped = (facts.report or {}).get("num_skipped_updates")
    if skipped:
        yield f"{skipped:,} updates were left out of the training, since their loss or gradient was not finite."
