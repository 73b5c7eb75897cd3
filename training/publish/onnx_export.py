"""A model for ONNX Runtime: exported by PyTorch, and compared with PyTorch before it is kept."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from torch.onnx import OnnxExporterError

from training.checkpoints.finished_model import TrainedModel
from training.errors import UserError

ONNX_NAME = "onnx/model.onnx"
TOLERANCE = 1e-4
"""Largest difference of a logit, relative to the largest logit of its text: sums are taken in another order."""
MOST_COMPARED = 1024
"""Tokens of the longest text on which both are compared: a model that reads 100,000 would need hours."""
_ONE_FILE = 1_500_000_000
"""Bytes of weights above which they get a file of their own: a protobuf ends at 2 GB."""


def check_onnx() -> None:
    """Raise UserError if a library is missing, before a model is read."""
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"--format onnx: {error.name} is not installed; run: pip install -e '.[onnx]'") from error


def write_onnx(trained: TrainedModel, path: Path) -> float:
    """Write the model, batch and tokens of any size; return the largest relative difference from PyTorch's logits.

    The graph is the network's forward pass over whole texts; a cache of generation is not in it.

    Raises:
        UserError: it is no network of tokens with a longest text, PyTorch cannot export it, or ONNX Runtime computes
            something else than PyTorch; nothing is kept.
    """
    family = trained.options.model
    longest, vocabulary = trained.family.context_length(trained.model, trained.options), trained.vocabulary
    if longest is None or vocabulary is None:
        raise UserError(f"--format onnx: a model of the family {family} has no max_seq_len or no vocabulary")
    batch = torch.export.Dim("batch", min=1)
    tokens = torch.export.Dim("tokens", min=1, max=longest)
    model = trained.family.whole_text_form(trained.model).eval()
    try:
        with _quiet():
            program = torch.onnx.export(
                model,
                (torch.zeros(2, 3, dtype=torch.long),),
                input_names=["input_ids"],
                output_names=["logits"],
                dynamic_shapes=({0: batch, 1: tokens},),
                dynamo=True,
                verbose=False,
            )
    except OnnxExporterError as error:
        reason = (str(error.__cause__ or "").strip() or str(error).strip()).partition("\n")[0]
        raise UserError(
            f"--format onnx: PyTorch cannot export a model of the family {family} as model(tokens_BT): {reason}"
        ) from error
    assert program is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    program.save(path, external_data=weights > _ONE_FILE)
    difference = greatest_difference(model, longest, vocabulary, path)
    if not difference <= TOLERANCE:
        for written in path.parent.glob(f"{path.name}*"):
            written.unlink()
        raise UserError(
            f"{path}: ONNX Runtime's logits differ from PyTorch's by {difference:.1e} of the largest "
            f"({TOLERANCE:g} is allowed); the file was deleted, use --format huggingface"
        )
    return difference


@torch.inference_mode()
def greatest_difference(model: nn.Module, longest: int, vocabulary: int, path: Path) -> float:
    """Return the largest difference of a logit, relative to the largest of its batch, over texts of several shapes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    random = torch.Generator().manual_seed(0)
    greatest = 0.0
    for rows, length in ((1, 1), (1, 2), (2, 3), (3, min(17, longest)), (1, min(longest, MOST_COMPARED))):
        tokens_BT = torch.randint(vocabulary, (rows, length), generator=random)
        expected = model(tokens_BT)
        [found] = session.run(None, {"input_ids": tokens_BT.numpy()})
        error = (torch.from_numpy(found) - expected).abs().max() / expected.abs().max().clamp_min(1e-30)
        greatest = max(greatest, float(error)) if not error.isnan() else float("nan")
        if error.isnan():
            return greatest
    return greatest


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what PyTorch's exporter says of itself: its own deprecated parts, a torchvision that is not there."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
