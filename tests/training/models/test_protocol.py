"""What a family does by default: save and load any module, and switch gradient checkpointing on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from tests.support.small_apts import same_weights, small_apt
from training.errors import CheckpointError, ConfigError
from training.models.apt.family import APTFamily
from training.models.protocol import (
    ARTEFACTS_NAME,
    DESCRIPTION_NAME,
    WEIGHTS_NAME,
    BaseFamily,
    ModelFamily,
    read_description,
)
from training.settings.tree import ModelOptions

# -- saving and loading --------------------------------------------------------------------------------------------


class Reader(nn.Module):
    """Embedding, a norm that counts what it has seen, and an output head, tied or not."""

    def __init__(self, vocabulary: int, width: int, tied: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens_N: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.embedding(tokens_N)))
        return logits


class ReaderOptions(ModelOptions):
    """Options of the family reader."""

    model: str = "reader"
    width: int = 4
    tied: bool = True


class ReaderFamily(BaseFamily):
    """Family of `Reader`."""

    name: ClassVar[str] = "reader"
    Options: ClassVar[type[ModelOptions]] = ReaderOptions

    def build(self, options: ModelOptions, vocabulary: int | None) -> nn.Module:
        assert vocabulary is not None
        return Reader(vocabulary, options.width, options.tied)


FAMILY = ReaderFamily()


def lived(options: ReaderOptions, vocabulary: int) -> nn.Module:
    """A model whose every number differs from a fresh one's."""
    torch.manual_seed(3)
    model = FAMILY.build(options, vocabulary)
    model(torch.arange(vocabulary))  # the norm's statistics move
    return model


@given(width=st.integers(1, 9), tied=st.booleans(), vocabulary=st.integers(2, 30), words=st.lists(st.text()))
@settings(max_examples=25)
def test_any_module_comes_back_with_all_that_belongs_to_it(
    width: int, tied: bool, vocabulary: int, words: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("saved") / "model"
    options, artefacts = ReaderOptions(width=width, tied=tied), {"words": words}
    model = lived(options, vocabulary)
    FAMILY.save(directory, model, options, vocabulary, artefacts)
    FAMILY.save(directory, model, options, vocabulary, artefacts)  # over an older one
    loaded = FAMILY.load(directory)
    assert same_weights(loaded.module, model)
    assert (loaded.options, loaded.vocabulary, loaded.artefacts) == (options, vocabulary, artefacts)
    assert not loaded.module.training
    assert isinstance(loaded.module, Reader)
    assert (loaded.module.head.weight is loaded.module.embedding.weight) is tied
    assert read_description(directory)["family"] == "reader"
    assert [path.name for path in directory.parent.iterdir()] == ["model"], "nothing is left next to it"


def rewrite(**changes: Any) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        path = directory / DESCRIPTION_NAME
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return damage


def remove(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).unlink()


def overwrite(name: str, content: bytes) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        (directory / name).write_bytes(content)

    return damage


def cut(directory: Path) -> None:
    path = directory / WEIGHTS_NAME
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (remove(DESCRIPTION_NAME), "cannot be read"),
        (remove(ARTEFACTS_NAME), "damaged"),
        (remove(WEIGHTS_NAME), "damaged"),
        (cut, "damaged"),
        (overwrite(WEIGHTS_NAME, b""), "damaged"),
        (overwrite(ARTEFACTS_NAME, b"{"), "damaged"),
        (overwrite(DESCRIPTION_NAME, b"\xff\xfe"), "not UTF-8 text"),
        (overwrite(DESCRIPTION_NAME, b"[]"), "not the description of a model"),
        (rewrite(format="other"), "not the description of a model"),
        (rewrite(version=99), "version 99 cannot be read"),
        (rewrite(options={"widht": 4}), "damaged"),
        (rewrite(options={"width": 5}), "damaged"),
        (rewrite(options={"tied": False}), "damaged"),
        (rewrite(vocabulary=9), "damaged"),
    ],
)  # fmt: skip
def test_a_damaged_directory_is_refused_in_one_line(damage: Callable[[Path], None], told: str, tmp_path: Path) -> None:
    options = ReaderOptions()
    FAMILY.save(tmp_path / "model", lived(options, 8), options, 8, {})
    damage(tmp_path / "model")
    with pytest.raises(CheckpointError) as refused:
        FAMILY.load(tmp_path / "model")
    assert told in str(refused.value)
    assert str(refused.value).startswith(str(tmp_path / "model"))
    assert "\n" not in str(refused.value)


# -- gradient checkpointing ----------------------------------------------------------------------------------------


TOKENS = torch.arange(12).reshape(2, 6)


def gpt2() -> nn.Module:
    sizes = {"vocab_size": 40, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
    model: nn.Module = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=1))
    return model


def llama() -> nn.Module:
    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    model: nn.Module = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, attention_dropout=0.1))
    return model


def logits(model: nn.Module) -> Tensor:
    found = model(TOKENS)
    return found if isinstance(found, Tensor) else found.logits


def gradients(model: nn.Module) -> tuple[dict[str, Tensor], int]:
    """The gradients of a pass with dropout, and how often its first feed-forward layer ran."""
    runs: list[int] = []
    feed_forward = next(m for name, m in model.named_modules() if name.endswith((".mlp", ".feed_forward")))
    # Before it runs, as the recomputation ends within it, with the last tensor that is needed.
    handle = feed_forward.register_forward_pre_hook(lambda *_: runs.append(1))
    torch.manual_seed(5)
    model.train().zero_grad()
    torch.autograd.backward(logits(model).square().mean())
    handle.remove()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert len(found) == len(list(model.parameters()))
    return found, len(runs)


@pytest.mark.parametrize(
    ("build", "family"),
    [(gpt2, BaseFamily()), (llama, BaseFamily()), (lambda: small_apt(dropout=0.1), APTFamily())],
    ids=["gpt2", "llama", "apt"],
)
def test_recomputed_activations_give_the_same_gradients(build: Callable[[], nn.Module], family: ModelFamily) -> None:
    torch.manual_seed(1)
    model = build()
    kept, runs = gradients(model)
    assert runs == 1
    kept = {name: gradient.clone() for name, gradient in kept.items()}
    family.recompute_activations(model)
    recomputed, runs = gradients(model)
    assert runs == 2, "the backward pass ran it once more"
    for name, gradient in kept.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-6, atol=1e-6)


def test_a_module_that_cannot_recompute_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match="gradient_checkpointing: Linear has neither") as refused:
        BaseFamily().recompute_activations(nn.Linear(2, 2))
    assert "\n" not in str(refused.value)


def test_a_transformers_module_that_cannot_recompute_is_refused_in_one_line() -> None:
    model = gpt2()
    model.supports_gradient_checkpointing = False  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"^gradient_checkpointing: GPT2LMHeadModel does not support .* Turn it off$"):
        BaseFamily().recompute_activations(model)
