"""A backend in one file: it prints the resolved settings, then trains in this process.

torch comes in only in `run`, so that `--help` and `--list-backends` stay quick.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from apt_model.tokenizer import DynamicTagTokenizer
from training.backends.protocol import Availability, Feature, LaunchPlan, RunRequest, RunResult
from training.settings.section import Section
from training.settings.tree import TrainingConfig
from training.tasks.hlbd.files import Sample, load_corpus, split_corpus


class EchoOptions(Section):
    """Options of --backend echo."""

    echo_prefix: str = Field("| ", description="Put before each line of the settings.")


class EchoBackend:
    """Says what it was asked to train, and trains it on the CPU."""

    name: ClassVar[str] = "echo"
    Options: ClassVar[type[Section]] = EchoOptions
    unsupported: ClassVar[Mapping[Feature, str]] = {Feature.FP16: "it computes on the CPU, where fp16 is emulated"}
    preset: ClassVar[str | None] = None

    @classmethod
    def check(cls) -> Availability:
        """torch is all it needs."""
        if importlib.util.find_spec("torch") is None:
            return Availability(False, "torch is not installed", "pip install torch")
        return Availability(True)

    def validate(self, config: TrainingConfig) -> None:
        """It honours every setting that it does not declare as unsupported."""

    def plan(self, config: TrainingConfig) -> LaunchPlan | None:
        """It runs in this process."""
        return None

    def run(self, request: RunRequest) -> RunResult:
        """Print the settings, then train."""
        from training.loop.trainer import Trainer
        from training.tasks.hlbd.dataset import HLBDDataset

        config = request.config
        options = getattr(config, self.name)
        for line in config.to_yaml().splitlines():
            print(f"{options.echo_prefix}{line}")
        corpus = load_corpus(config.data.datasets, config.data.pairs)
        train, validation = split_corpus(corpus, config.data.validation_split, config.run.seed)
        tokenizer = DynamicTagTokenizer.from_texts((text for s in corpus.samples for text in s[:2]), corpus.tags)

        def encode(samples: list[Sample]) -> HLBDDataset:
            return HLBDDataset(samples, tokenizer, config.model.max_seq_len, config.data.loss_on, config.data.truncate)

        trainer = Trainer(
            config,
            encode(train),
            encode(validation) if validation else None,
            device="cpu",
            resume=request.resume,
            resume_from=request.resume_from,
            overwrite=request.overwrite,
        )
        return trainer.train()
