"""The certificate of the real backends: all that this machine has follow the reference's curve."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.language_data import chats_file, tiny_model
from tools.parity.difference import BY_PRECISION
from tools.parity.divergence import Link
from tools.parity.variant import availability
from training.backends.registry import BACKENDS

ROOT = Path(__file__).resolve().parents[3]
PAGES = (ROOT / "docs" / "TRAINING_BACKENDS.md", ROOT / "docs" / "zh-CN" / "TRAINING_BACKENDS.md")


@pytest.mark.slow
def test_every_backend_that_is_available_here_follows_the_reference_s_curve(tmp_path: Path) -> None:
    certificate, figure = tmp_path / "certificate.json", tmp_path / "figure.png"
    command = [sys.executable, str(ROOT / "tools" / "check_training_backends.py"), "--steps", "6"]
    done = subprocess.run(
        [*command, "--json", str(certificate), "--figure", str(figure)],
        # Nothing is compiled here; DeepSpeed's import alone would load torch's compiler, in launchers and in ranks.
        env={**os.environ, "OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-4000:]
    assert "certificate: PASS" in done.stdout
    assert figure.read_bytes().startswith(b"\x89PNG")
    read = json.loads(certificate.read_text(encoding="utf-8"))
    available = {name for name in BACKENDS.built_in if availability(name).ok}
    assert {v["backend"] for v in read["variants"] if v["state"] == "pass"} == available
    assert {v["backend"] for v in read["variants"]} >= set(BACKENDS.built_in), "the others are shown"
    for variant in read["variants"]:
        if variant["state"] == "pass":
            assert variant["fingerprints"], variant["name"]
            assert variant["differences"]["step"] == [4, 5, 6, 7, 8, 9]
            assert variant["world_size"] == variant["settings"].get("num_processes", 1)


@pytest.mark.slow
def test_a_user_s_own_model_and_chats_are_compared_by_the_flags_of_train_py(tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.json"
    words = ["--task", "chat", "--model", tiny_model(), "--lora", "--datasets", chats_file(), "--json", certificate]
    compared = ["--steps", "3", "--backends", "playground:batch_size=2", "huggingface:batch_size=4"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "programs" / "warm_parity.py"), *map(str, words), *compared],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-4000:]
    read = json.loads(certificate.read_text(encoding="utf-8"))
    assert read["config"]["model"]["base_model"] == str(tiny_model())
    assert {v["backend"] for v in read["variants"] if v["state"] == "pass"} == {"playground", "huggingface"}
    for variant in read["variants"]:
        assert variant["fingerprints"]
        assert variant["largest"]["loss"] < 1e-6


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_the_page_declares_the_tolerances_that_are_applied(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for precision, tolerance in BY_PRECISION.items():
        (row,) = re.findall(rf"^\| `{precision}` \|(.*)\|$", text, flags=re.MULTILINE)
        declared = [float(cell) for cell in row.split("|")[:3]]
        assert declared == [tolerance.loss, tolerance.grad_norm, tolerance.update]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_the_page_names_every_backend_every_refused_feature_and_every_link(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in BACKENDS.built_in:
        assert f"| `{name}` |" in text
        for feature in BACKENDS.load(name).unsupported:
            assert f"| {feature.value} |" in text
    for link in Link:
        assert f"| `{link}` |" in text
