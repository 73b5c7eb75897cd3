"""HLBD samples as token ids. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from apt_model.tokenizer import DynamicTagTokenizer
from training.errors import DataError
from training.tasks.hlbd.files import Sample
from training.tasks.token_dataset import TokenDataset


class HLBDDataset(TokenDataset):
    """Dataset of encoded samples: `dataset[i]` is an `EncodedSample`.

    `dataset.lengths` holds their lengths in tokens, `dataset.weights` the number of tokens with a loss; both int64
    (N,).

    Args:
        samples: prompts and answers.
        tokenizer: tokenizer of the training data.
        max_seq_len: longest sample in tokens.
        loss_on: "answer": learn the answer and `[EOS]`; "all": learn every token.
        truncate: cut longer samples at the end; a sample that loses its whole answer is left out.

    Raises:
        DataError: a sample is longer than `max_seq_len` and `truncate` is off; the message counts such samples and
            names the first.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        tokenizer: DynamicTagTokenizer,
        max_seq_len: int,
        loss_on: Literal["answer", "all"] = "answer",
        truncate: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        pieces: list[NDArray[np.int32]] = []
        starts: list[int] = []
        too_long: list[tuple[int, Sample]] = []
        for sample in samples:
            prompt = tokenizer.prompt_ids(sample.prompt)
            ids = [*prompt, *tokenizer.encode(sample.answer), tokenizer.eos_id]
            if len(ids) > max_seq_len:
                too_long.append((len(ids), sample))
                if len(prompt) >= max_seq_len:
                    continue
                ids = ids[:max_seq_len]
            pieces.append(np.array(ids, dtype=np.int32))
            starts.append(len(prompt) if loss_on == "answer" else 1)
        if too_long and not truncate:
            longest = max(length for length, _ in too_long)
            length, first = too_long[0]
            raise DataError(
                f"{len(too_long)} of {len(samples)} samples are longer than max_seq_len={max_seq_len} tokens, "
                f"the first is {first.module}: {first.prompt[:40]!r} with {length}; "
                f"set --max-seq-len {longest} or --truncate"
            )
        if not pieces:
            raise DataError(f"no prompt is shorter than max_seq_len={max_seq_len} tokens; raise --max-seq-len")
        self.samples = samples
        self.num_truncated = len(too_long)
        self.num_left_out = len(samples) - len(pieces)
        super().__init__(pieces, starts)
        self.num_unknown = int((self._tokens == tokenizer.unk_id).sum())
