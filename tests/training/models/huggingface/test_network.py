"""Networks of transformers: logits at the positions asked for, packed samples that keep apart, and frozen parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import enter_front_door
from tests.support.language_data import tiny_model, topics_file
from training.backends.prepare import config_class
from training.errors import ConfigError
from training.machine.seeding import seed_everything
from training.models.huggingface.family import HuggingFaceFamily
from training.models.huggingface.network import build_network
from training.models.huggingface.options import HuggingFaceOptions
from training.tasks.causal_lm.task import prove_packing
from training.tasks.protocol import Prepared, task_of

pytestmark = pytest.mark.slow

KEEPS_APART = ("llama", "qwen2", "gpt2", "gemma2", "gpt_neox")
LEAKS = ("opt", "bloom", "mamba")


def options(kind: str = "llama", **settings: Any) -> HuggingFaceOptions:
    return HuggingFaceOptions(model="huggingface", **{"base_model": str(tiny_model(kind)), **settings})


def network(kind: str = "llama", **settings: Any) -> Any:
    seed_everything(0)
    return build_network(options(kind, **settings)).eval()


def tokens(rows: int, width: int, seed: int = 0) -> Tensor:
    return torch.randint(5, 390, (rows, width), generator=torch.Generator().manual_seed(seed))


def logits(model: nn.Module, tokens_BT: Tensor, positions_N: Tensor, **others: Tensor) -> Tensor:
    return HuggingFaceFamily().logits(model, {"tokens": tokens_BT, "positions": positions_N, **others})


# -- logits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KEEPS_APART, *LEAKS])
def test_the_logits_at_positions_are_those_of_a_whole_pass_of_transformers_own(kind: str) -> None:
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(tiny_model(kind), dtype=torch.float32).eval()
    tokens_BT, positions_N = tokens(3, 20), torch.tensor([0, 3, 19, 22, 41, 59])
    with torch.no_grad():
        whole_NV = theirs(input_ids=tokens_BT).logits.flatten(0, 1)[positions_N]
        assert torch.allclose(logits(network(kind), tokens_BT, positions_N), whole_NV, rtol=1e-5, atol=1e-6)


def test_all_positions_of_one_row_may_be_asked_for() -> None:
    model, tokens_BT = network(), tokens(1, 7)
    with torch.no_grad():
        whole_TV = model(input_ids=tokens_BT).logits[0]
        assert torch.allclose(logits(model, tokens_BT, torch.arange(7)), whole_TV, atol=1e-6)


def test_a_network_whose_own_code_needs_every_position_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A remote model may reshape its logits to (B, T, V); it is trained all the same, with more memory."""
    from transformers import LlamaForCausalLM

    forward = LlamaForCausalLM.forward

    def reshaping(self: Any, input_ids: Tensor, **others: Any) -> Any:
        output = forward(self, input_ids=input_ids, **others)
        output.logits = output.logits.view(*input_ids.shape, -1)
        return output

    tokens_BT, positions_N = tokens(2, 9), torch.tensor([2, 11])
    with torch.no_grad():
        expected = logits(network(), tokens_BT, positions_N)
        monkeypatch.setattr(LlamaForCausalLM, "forward", reshaping)
        assert torch.allclose(logits(network(), tokens_BT, positions_N), expected, atol=1e-6)


def test_a_compiled_network_gives_the_same_logits_for_any_positions() -> None:
    """torch.compile guards the positions that the hook of the head reads; it makes no wrong shortcut."""
    import torch._dynamo

    torch._dynamo.reset()
    model: Any = network()
    compiled: Any = torch.compile(model, dynamic=True, backend="eager", fullgraph=True)
    for rows, width, count in ((2, 16, 5), (2, 16, 7), (3, 20, 9), (1, 20, 20)):
        tokens_BT, positions_N = tokens(rows, width), torch.randperm(rows * width)[:count]
        with torch.no_grad():
            expected = logits(model, tokens_BT, positions_N)
            assert torch.allclose(logits(compiled, tokens_BT, positions_N), expected, atol=1e-6)
    with torch.no_grad():
        assert compiled(input_ids=tokens_BT, use_cache=False).logits.shape == (1, 20, model.config.vocab_size)


# -- what may not be seen ----------------------------------------------------------------------------------------------


def test_an_encoder_is_refused_because_each_token_would_see_the_next() -> None:
    with pytest.raises(ConfigError, match="each token sees those after it"):
        network("bert")


@pytest.mark.parametrize("kind", KEEPS_APART)
def test_packed_samples_have_the_logits_that_they_have_alone(kind: str) -> None:
    model, one, other = network(kind), tokens(1, 12, 1), tokens(1, 15, 2)
    position_ids_BT = torch.cat([torch.arange(12), torch.arange(15)])[None]
    with torch.no_grad():
        alone_NV = torch.cat([model(input_ids=one).logits[0], model(input_ids=other).logits[0]])
        packed = {"position_ids": position_ids_BT, "segments": position_ids_BT}
        packed_NV = logits(model, torch.cat([one, other], 1), torch.arange(27), **packed)
    assert torch.allclose(packed_NV, alone_NV, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def packed() -> Callable[[str], Prepared]:
    """Return packed rows of texts for a model."""

    def prepare(kind: str) -> Prepared:
        config = config_class(task="text", model="huggingface").model_validate({
            "data": {"datasets": [str(topics_file())], "packing": True, "validation_split": 0.0},
            "model": {"base_model": str(tiny_model(kind)), "max_seq_len": 200},
        })  # fmt: skip
        return task_of(config).prepare(config)

    return prepare


@pytest.mark.parametrize("kind", KEEPS_APART)
def test_packing_is_proved_on_a_model_that_keeps_samples_apart(kind: str, packed: Callable[[str], Prepared]) -> None:
    (line,) = prove_packing(network(kind), packed(kind))
    assert line.startswith("proved  packing: the loss of ")


@pytest.mark.parametrize("kind", LEAKS)
def test_packing_is_refused_for_a_model_that_does_not(kind: str, packed: Callable[[str], Prepared]) -> None:
    """OPT and BLOOM place tokens by the row, whatever their position ids say; a Mamba's state runs on."""
    with pytest.raises(ConfigError, match="in this model packed samples see each other"):
        prove_packing(network(kind), packed(kind))


def test_packing_is_refused_with_kernels_on_which_it_cannot_be_proved(packed: Callable[[str], Prepared]) -> None:
    prepared = packed("llama")
    settings = prepared.config.model.model_copy(update={"attn_implementation": "flash_attention_2"})
    flash = replace(prepared, config=prepared.config.model_copy(update={"model": settings}))
    with pytest.raises(ConfigError, match="--packing is proved before the first step"):
        task_of(flash.config).check_model(network(), flash)


# -- what is trained ---------------------------------------------------------------------------------------------------


def test_a_frozen_pattern_stops_just_the_parameters_that_match() -> None:
    model = network("qwen2", freeze=("model.embed*", "*.layers.0.*"))
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {
        name for name, _ in model.named_parameters() if name.startswith(("model.embed", "model.layers.0."))
    }
    assert len(HuggingFaceFamily().parameter_groups(model).embeddings) == 1, "only the head is left to train"


def test_a_tied_weight_is_frozen_by_either_of_its_names() -> None:
    assert not network(freeze=("lm_head.weight",)).get_input_embeddings().weight.requires_grad


def test_patterns_without_a_parameter_and_those_with_all_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--freeze model.embed_token: no parameter .*did you mean"):
        network(freeze=("model.embed_token",))
    with pytest.raises(ConfigError, match="nothing is left to train"):
        network(freeze=("*",))


@pytest.mark.parametrize("settings", [{}, {"lora": True}], ids=["whole", "lora"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_recomputed_activations_give_the_same_gradients(kind: str, settings: dict[str, Any]) -> None:
    found = []
    for recomputes in (False, True):
        model = network(kind, **settings).train()
        if recomputes:
            HuggingFaceFamily().recompute_activations(model)
        seed_everything(1)
        torch.autograd.backward(logits(model, tokens(2, 9), torch.arange(18)).square().sum())
        found.append([p.grad for p in model.parameters() if p.requires_grad])
    assert all(torch.allclose(one, other, rtol=1e-5, atol=1e-6) for one, other in zip(*found, strict=True))


def test_noise_on_embeddings_is_a_function_of_the_seed_and_only_while_training() -> None:
    model, plain, tokens_BT, positions_N = network(neftune_alpha=5.0), network(), tokens(2, 9), torch.arange(18)

    def after(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return logits(model, tokens_BT, positions_N)

    with torch.no_grad():
        assert torch.allclose(after(1), logits(plain, tokens_BT, positions_N), atol=1e-6)
        model.train()
        assert torch.equal(after(1), after(1))
        assert not torch.allclose(after(1), after(2), atol=1e-3)
        noise = [after(n).sub(logits(plain, tokens_BT, positions_N)).abs().max() for n in range(3)]
        assert max(noise) < 10.0


@pytest.mark.parametrize(
    "settings", [("--neftune-alpha", 5), ("--label-smoothing", 0.1, "--freeze", "*.mlp.*")], ids=str
)
def test_noise_smoothing_and_frozen_parts_have_one_curve_on_two_loops(
    settings: tuple[object, ...], tmp_path: Path
) -> None:
    losses = []
    for backend in ("playground", "huggingface"):
        done = enter_front_door([
            "--backend", backend, "--task", "text", "--datasets", topics_file(), "--model", tiny_model(), "--run-dir",
            tmp_path / backend, "--device", "cpu", "--max-steps", "3", "--max-seq-len", "64", "--batch-size", "4",
            "--warmup-steps", "0", "--learning-rate", "0.01", *map(str, settings),
        ])  # fmt: skip
        assert done.exit_code == 0, done
        events = map(json.loads, (tmp_path / backend / "progress.jsonl").read_text().splitlines())
        losses.append([event["loss"] for event in events if event["event"] == "step"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_kernels_that_a_model_or_a_machine_lacks_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"the model cannot be built .*scaled_dot_product_attention"):
        network("bloom", attn_implementation="sdpa")
    with pytest.raises(ConfigError, match=r"the model cannot be built .*[Ff]lash"):
        network(attn_implementation="flash_attention_2")
    assert network(attn_implementation="eager").config._attn_implementation == "eager"


# -- tied and new embeddings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_new_rows_of_embedding_and_head_are_the_mean_of_the_old(kind: str) -> None:
    model, old = network(kind, resize_embeddings=True, vocab_size=410), network(kind)
    first, last = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert first.shape[0] == last.shape[0] == model.config.vocab_size == 410
    assert (first is last) == (kind == "llama") == model.config.tie_word_embeddings
    for table, before in ((first, old.get_input_embeddings()), (last, old.get_output_embeddings())):
        assert torch.equal(table[:400], before.weight)
        assert torch.allclose(table[400:], before.weight.mean(0).expand(10, -1), atol=1e-6)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_saved_model_holds_a_tied_tensor_once_and_stays_tied(kind: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    family, model = HuggingFaceFamily(), network(kind)
    family.save(tmp_path / "model", model, options(kind), 400, {})
    names = set(load_file(tmp_path / "model" / "model.safetensors"))
    assert ("lm_head.weight" in names) == (kind == "qwen2")
    read: Any = family.load(tmp_path / "model").module
    tied = read.get_input_embeddings().weight is read.get_output_embeddings().weight
    assert tied == (kind == "llama") == read.config.tie_word_embeddings
    assert read.config.use_cache is False
    assert '"use_cache": true' in (tmp_path / "model" / "config.json").read_text()
