"""lm-evaluation-harness scores a model directory on held-out questions as we do."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from apt_model.config import ModelConfig
from apt_model.generation import answer_prompts
from apt_model.huggingface.modeling_apt import APTForCausalLM
from apt_model.huggingface.registration import register_auto_classes
from apt_model.huggingface.tokenization_apt import APTTokenizer
from apt_model.model import APT
from apt_model.portable import save_portable
from apt_model.tokenizer import DynamicTagTokenizer
from training.tasks.hlbd.files import Sample, load_corpus

ROOT = Path(__file__).resolve().parents[4]
TASKS = ROOT / "training" / "tasks" / "hlbd" / "lm_eval_tasks"
pytestmark = pytest.mark.slow  # lm_eval and transformers take seconds to import
QUESTIONS = 36


def some_held_out(path: Path) -> list[Sample]:
    """A file with the first rows of each module of a real held-out file."""
    document = json.loads((ROOT / "data" / "HLBD_Hardcore_Full_V2_Heldout.json").read_text(encoding="utf-8"))
    each = QUESTIONS // len(document["data"]) + 1
    document["data"] = {module: rows[:each] for module, rows in document["data"].items()}
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return load_corpus([path]).samples


def half_taught(samples: list[Sample], directory: Path) -> APT:
    """A model that has learned half of the answers by heart, saved with its tokenizer; trained as transformers does."""
    ours = DynamicTagTokenizer.from_texts(text for s in samples for text in (s.prompt, s.answer))
    torch.manual_seed(0)
    shape = {"d_model": 48, "num_layers": 2, "num_heads": 4, "d_ff": 96, "max_seq_len": 96}
    network = APT(ModelConfig.model_validate({**shape, "vocab_size": ours.vocab_size}))
    save_portable(directory, network, ours)
    tokenizer, model = APTTokenizer.from_pretrained(directory), APTForCausalLM.from_apt(network).train()
    taught = samples[::2]
    batch = tokenizer([s.prompt for s in taught], [s.answer for s in taught], padding=True, return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
    save_portable(directory, network.eval(), ours)
    return network


def log_probability(network: APT, tokenizer: DynamicTagTokenizer, sample: Sample) -> float:
    """Natural logarithm of the probability of exactly this answer, its end included."""
    prompt, answer = tokenizer.prompt_ids(sample.prompt), [*tokenizer.encode(sample.answer), tokenizer.eos_id]
    with torch.no_grad():
        told = network(torch.tensor([prompt + answer]))[0, len(prompt) - 1 : -1].log_softmax(-1)
    return float(told.gather(1, torch.tensor(answer)[:, None]).sum())


def test_the_harness_scores_held_out_questions_as_we_do(tmp_path: Path) -> None:
    held_out = tmp_path / "Small_Heldout.json"
    samples = some_held_out(held_out)
    network = half_taught(samples, tmp_path / "final_model")
    ours = APTTokenizer.from_pretrained(tmp_path / "final_model", split_special_tokens=False)
    ours.save_pretrained(tmp_path / "reader")
    register_auto_classes()
    told = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(tmp_path / "final_model"), "tokenizer": str(tmp_path / "reader")},
        tasks=["hlbd_held_out", "hlbd_held_out_likelihood"],
        # Without the harness's own thousands of tasks, which take it 18 s to list.
        task_manager=TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"file": str(held_out)}),
        batch_size=16,
        device="cpu",
        bootstrap_iters=0,
    )
    results = told["results"]

    answers = dict(answer_prompts(network, ours.tokenizer, [s.prompt for s in samples], max_new_tokens=64))
    right = [answers[i] == s.answer for i, s in enumerate(samples)]
    assert 0.2 < sum(right) / len(right) < 0.9, "some of it was learned"
    likelihoods = [log_probability(network, ours.tokenizer, s) for s in samples]
    assert results["hlbd_held_out"]["exact_match,none"] == pytest.approx(sum(right) / len(right))
    likelihood = results["hlbd_held_out_likelihood"]
    assert likelihood["acc,none"] == pytest.approx(sum(right) / len(right))
    assert likelihood["perplexity,none"] == pytest.approx(math.exp(-sum(likelihoods) / len(likelihoods)), rel=1e-3)
