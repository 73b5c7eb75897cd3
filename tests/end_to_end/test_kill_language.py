"""Runs that are killed with all that draws at random on, and end with the very same weights.

Language models, and diffusion, whose noise is drawn for each sample.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.support.language_data import chats_file, tiny_model, topics_file
from tests.support.matrix_runs import steps
from tests.support.warm_start import WarmStart

pytestmark = pytest.mark.slow
KILLS = (3, 8)
"""Updates after which a run is killed: within the first epoch, and behind a checkpoint of the second."""
EVERY = [
    "--max-steps",
    "12",
    "--save-steps",
    "2",
    "--save-interval",
    "none",
    "--answer-samples",
    "0",
    "--device",
    "cpu",
]
RUNS = {
    # Muon and NEFTune's noise, packed rows, three accumulated batches of which the last is smaller.
    "playground": lambda: [[
        "--task", "text", "--model", str(tiny_model()), "--datasets", str(topics_file()), "--max-seq-len", "64",
        "--packing", "--optimizer", "muon", "--neftune-alpha", "5", "--batch-size", "9",
        "--gradient-accumulation-steps", "3", "--validation-split", "0.1",
    ], [
        # Noise levels, noise and dropout, with recomputed activations.
        "--task", "diffusion", "--model", "denoising_mlp", "--datasets", "circle:60", "--width", "64", "--dropout",
        "0.1", "--gradient-checkpointing", "--batch-size", "4", "--gradient-accumulation-steps", "2",
        "--validation-split", "0.2", "--sample-count", "0", "--snapshots", "0",
    ]],
    # The dropout of the adapters, recomputed in the backward pass, and transformers' own loop.
    "huggingface": lambda: [[
        "--task", "chat", "--model", str(tiny_model("qwen2")), "--datasets", str(chats_file()), "--lora",
        "--lora-dropout", "0.2", "--neftune-alpha", "5", "--gradient-checkpointing", "--batch-size", "2",
        "--gradient-accumulation-steps", "2",
    ]],
}  # fmt: skip
"""Backend -> flags of the runs that are killed on it."""
IMPORTED = {
    "playground": ("training.train", "training.run", "torch._dynamo", "transformers"),
    "huggingface": ("training.train", "training.loop.transformers_loop", "torch._dynamo", "deepspeed", "peft"),
}
"""Modules that a run imports and a forked one has already."""


@pytest.fixture(scope="module", params=list(RUNS))
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def warm(backend: str) -> Iterator[WarmStart]:
    with WarmStart(*IMPORTED[backend]) as started:
        yield started


def test_a_killed_run_ends_with_the_weights_and_the_record_of_an_uninterrupted_one(
    backend: str, warm: WarmStart, tmp_path: Path
) -> None:
    for number, words in enumerate(RUNS[backend]()):
        _killed_and_whole(["--backend", backend, *words, *EVERY], warm, tmp_path / str(number))


def _killed_and_whole(words: list[str], warm: WarmStart, tmp_path: Path) -> None:
    """Kill a run twice, let it go on to its end, and compare it with one that was not killed."""
    process = warm.start([*words, "--run-dir", str(tmp_path / "whole")])
    told = process.wait()
    assert process.returncode == 0, told

    killed = [*words, "--run-dir", str(tmp_path / "killed"), "--resume"]
    for update in KILLS:
        process = warm.start(killed)
        while process.poll(0.002) is None and _updates(tmp_path / "killed") < update:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL, "it was at work"
    process = warm.start(killed)
    told = process.wait()
    assert process.returncode == 0, told
    assert "parity tolerance" not in told

    whole, again = (load_file(_weights(tmp_path / name)) for name in ("whole", "killed"))
    assert whole.keys() == again.keys()
    assert all(tensor.equal(again[name]) for name, tensor in whole.items())
    last = {event["step"]: event["loss"] for event in steps(tmp_path / "killed")}
    assert last == {event["step"]: event["loss"] for event in steps(tmp_path / "whole")}


def _updates(run_dir: Path) -> int:
    if not (run_dir / "progress.jsonl").is_file():
        return 0
    return max((event["step"] for event in steps(run_dir)), default=0)


def _weights(run_dir: Path) -> Path:
    (file,) = (run_dir / "final_model").glob("*model.safetensors")
    return file
