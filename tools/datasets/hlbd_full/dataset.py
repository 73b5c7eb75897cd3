"""The two files: training samples of any size, and held-out samples that share no fact with them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tools.datasets.hlbd_full.held_out import held_out
from tools.datasets.hlbd_full.patterns.utterance import Utterance
from tools.datasets.hlbd_full.sample import Sample, sample
from tools.datasets.hlbd_full.space import interleaved, space

NAME = "HLBD Full"
VERSION = "2.0"
DEFAULT_SIZE = 5000
DEFAULT_SEED = 2


@dataclass(frozen=True)
class Dataset:
    """The output of the generator: concepts for training, and rows held out from them."""

    training: list[Utterance]
    held_out: list[Sample]


def build(size: int = DEFAULT_SIZE, seed: int = DEFAULT_SEED) -> Dataset:
    """Choose ``size`` training concepts and the held-out rows that fit them.

    Raises:
        ValueError: size is below 1 or beyond the combination space.
    """
    training = training_concepts(size, seed)
    return Dataset(training, list(held_out(space(), training, seed)))


def training_concepts(size: int, seed: int) -> list[Utterance]:
    """Choose ``size`` concepts; a bigger size keeps the concepts of a smaller one (same seed) and adds to them.

    Raises:
        ValueError: size is below 1 or beyond the combination space.
    """
    whole = space()
    if not 1 <= size <= len(whole.training):
        raise ValueError(
            f"--size {size} is not possible: the lexicon makes {len(whole)} concepts, of which {len(whole.training)} "
            f"may be trained on; choose 1 to {len(whole.training)}"
        )
    return list(islice(interleaved(whole.training, f"{seed} train"), size))


def training_file(dataset: Dataset, seed: int) -> str:
    """Return the text of the training file: metadata, then one sample a line."""
    return _file_text(
        {
            "name": NAME,
            "version": VERSION,
            "description": "Chinese concepts on eight levels: character and emoji, phrase, syntax, pinyin, English, "
            "Chinese, Japanese, Korean; composed from a lexicon by grammar rules",
            "total_samples": len(dataset.training),
            "combination_space": len(space()),
            "seed": seed,
        },
        [sample(utterance) for utterance in dataset.training],
    )


def held_out_file(dataset: Dataset, seed: int) -> str:
    """Return the text of the held-out file."""
    kinds = [row["kind"] for row in dataset.held_out]
    return _file_text(
        {
            "name": f"{NAME} held out",
            "version": VERSION,
            "description": "paraphrase: a training concept said by a pattern that training never uses; new_fact: a "
            "concept that training never has, of words that it has; contrast: groups of new concepts that differ in "
            "one word, so that levels 5 to 8 must all differ",
            "total_samples": len(kinds),
            "kinds": {kind: kinds.count(kind) for kind in ("paraphrase", "new_fact", "contrast")},
            "training_samples": len(dataset.training),
            "seed": seed,
        },
        dataset.held_out,
    )


def _file_text(metadata: dict[str, Any], rows: list[Sample]) -> str:
    head = json.dumps(metadata, ensure_ascii=False, indent=2).replace("\n", "\n  ")
    lines = ",\n    ".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return f'{{\n  "metadata": {head},\n  "samples": [\n    {lines}\n  ]\n}}\n'
