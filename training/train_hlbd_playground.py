"""The playground backend: our own loop in this process, on a CPU, one GPU or MPS.

python training/train_hlbd_playground.py --dataset HLBD_Hardcore_Full.json --epochs 100
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[:] = [str(ROOT), *(p for p in sys.path if p and Path(p).resolve() != Path(__file__).parent)]

from pydantic import Field

from apt_model.config import Section
from apt_model.errors import ConfigError
from apt_model.hlbd import load_corpus, split_corpus
from apt_model.tokenizer import DynamicTagTokenizer
from training.backend import Availability, Feature, LaunchPlan, RunRequest, RunResult
from training.config import TrainingConfig

if TYPE_CHECKING:
    from apt_model.hlbd import Corpus, Sample
    from training.loop import Trainer


class PlaygroundOptions(Section):
    """Options of --backend playground."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: CUDA, else MPS, else the CPU.")
    num_threads: int | None = Field(None, ge=1, description="CPU threads; None: as many as torch chooses.")
    compile: bool = Field(False, description="Run the forward pass through torch.compile.")


class PlaygroundBackend:
    """Our own loop in this process."""

    name: ClassVar[str] = "playground"
    Options: ClassVar[type[Section]] = PlaygroundOptions
    unsupported: ClassVar[Mapping[Feature, str]] = {}
    preset: ClassVar[str | None] = "playground"

    @classmethod
    def check(cls) -> Availability:
        """torch is all it needs."""
        if importlib.util.find_spec("torch") is None:
            return Availability(False, "torch is not installed", "pip install -e . -c constraints.txt")
        return Availability(True)

    def validate(self, config: TrainingConfig) -> None:
        """See `Backend.validate`."""
        options = _options(config)
        if config.run.precision == "fp16" and options.device == "cpu":
            raise ConfigError("precision=fp16 needs a GPU, and device=cpu was asked for; use --precision bf16 or fp32")

    def plan(self, config: TrainingConfig) -> LaunchPlan | None:
        """It runs in this process."""
        return None

    def run(self, request: RunRequest) -> RunResult:
        """See `Backend.run`."""
        import torch

        from training.dataset import HLBDDataset
        from training.device import pick_device, pick_precision
        from training.loop import Trainer
        from training.progress_bar import ProgressBar

        config = request.config
        options = _options(config)
        device = pick_device(options.device)
        pick_precision(config.run.precision, device)  # refuse before the data is read
        if options.num_threads is not None:
            torch.set_num_threads(options.num_threads)
        corpus = load_corpus(config.data.datasets, config.data.pairs)
        train, validation = split_corpus(corpus, config.data.validation_split, config.run.seed)
        tokenizer = DynamicTagTokenizer.from_texts((text for s in corpus.samples for text in s[:2]), corpus.tags)
        config = with_vocab_size(config, tokenizer.vocab_size)

        def encode(samples: list[Sample]) -> HLBDDataset:
            return HLBDDataset(samples, tokenizer, config.model.max_seq_len, config.data.loss_on, config.data.truncate)

        train_dataset = encode(train)
        trainer = Trainer(
            config,
            train_dataset,
            encode(validation) if validation else None,
            device=device,
            compile_model=options.compile,
            sinks=[ProgressBar()],
            resume=request.resume,
            resume_from=request.resume_from,
            overwrite=request.overwrite,
            facts=_facts(corpus, tokenizer),
        )
        for line in corpus.describe():
            print(f"data    {line}")
        if contradictions := corpus.contradictions():
            print(
                f"warning: {len(contradictions)} questions are given with several answers, the first is "
                f"{contradictions[0]!r}; tools/diagnose_issues.py lists them"
            )
        if train_dataset.num_unknown:
            print(f"warning: {train_dataset.num_unknown} characters have no token and are read as [UNK]")
        if train_dataset.num_truncated:
            print(f"data    {train_dataset.num_truncated} samples cut, {train_dataset.num_left_out} of them whole")
        num_parameters = sum(p.numel() for p in trainer.engine.model().parameters())
        print(
            f"model   APT {num_parameters:,} parameters ({config.model.attention} attention), "
            f"{tokenizer.vocab_size} tokens in the vocabulary"
        )
        print(
            f"run     {config.run.run_dir} on {device}, {trainer.config.run.precision}, {trainer.total_steps} steps",
            flush=True,
        )
        started = time.perf_counter()
        first_step = trainer.step
        result = trainer.train()
        seconds = time.perf_counter() - started
        print(
            f"{result.state} at step {result.step} after {seconds:.1f} s of training ({result.step - first_step} steps)"
        )
        if result.state != "finished":
            print(f"go on with: the same command and --resume (run directory {config.run.run_dir})")
            return result
        return self._conclude(trainer, tokenizer, train, result)

    def _conclude(
        self, trainer: Trainer, tokenizer: DynamicTagTokenizer, train: list[Sample], result: RunResult
    ) -> RunResult:
        """Write the final model and show what it answers to its own training questions."""
        from apt_model.model import APT
        from training.recitation import accuracy_by_module, evenly_chosen, recite, table
        from training.trained_model import save_final_model

        model = trainer.engine.model()
        assert isinstance(model, APT)
        save_final_model(trainer.directory, model, tokenizer, trainer.config, result.step)
        print(f"saved   {trainer.directory.final_model} and {trainer.directory.portable_model}/")
        asked = evenly_chosen(train, trainer.config.report.answer_samples)
        if not asked:
            return result
        started = time.perf_counter()
        answered = recite(model, tokenizer, asked)
        print(
            f"answers to {len(asked)} of {len(train)} training questions, generated freely "
            f"({time.perf_counter() - started:.1f} s):"
        )
        for line in table(answered):
            print(line)
        counts = accuracy_by_module(answered)
        trainer.reporter.recitation({module: {"right": r, "asked": n} for module, (r, n) in counts.items()})
        return RunResult(result.state, result.step, result.exit_code, {"recitation": counts})


def _options(config: TrainingConfig) -> PlaygroundOptions:
    options = getattr(config, "playground", None)
    return options if isinstance(options, PlaygroundOptions) else PlaygroundOptions()


def with_vocab_size(config: TrainingConfig, vocab_size: int) -> TrainingConfig:
    """The config with the data's vocabulary size, which a larger given one may exceed.

    Raises:
        ConfigError: the given size is too small for the data.
    """
    given = config.model.vocab_size
    if given is not None and given < vocab_size:
        raise ConfigError(f"vocab_size={given} is too small: the data has {vocab_size} tokens; leave vocab_size out")
    model = config.model.model_copy(update={"vocab_size": given or vocab_size})
    return config.model_copy(update={"model": model})


def _facts(corpus: Corpus, tokenizer: DynamicTagTokenizer) -> dict[str, Any]:
    total = max(1, corpus.num_entries)
    return {
        "data": [
            {
                "file": f.path.name,
                "entries": f.entries,
                "samples": f.samples,
                "share": round(f.entries / total, 4),
            }
            for f in corpus.files
        ],
        "data_fingerprint": corpus.fingerprint(),
        "vocab_size": tokenizer.vocab_size,
    }


if __name__ == "__main__":
    from training.train import main

    sys.exit(main(backend_name="playground"))
