"""The U-Net is trained whole or by LoRA, and what is saved is what was trained: in diffusers alone, and read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.tiny_pipeline import SIDE, TOKENS, tiny_pipeline
from training.errors import ConfigError
from training.machine.seeding import seed_everything
from training.models.denoiser import TEXT
from training.models.diffusion_pipeline.family import DiffusionPipelineFamily
from training.models.diffusion_pipeline.options import DiffusionPipelineOptions
from training.models.protocol import load_saved_state, saved_state

pytestmark = pytest.mark.slow

FAMILY = DiffusionPipelineFamily()
LATENTS = torch.randn(2, 4, SIDE // 2, SIDE // 2, generator=torch.Generator().manual_seed(0))
TIMES = torch.tensor([3.0, 900.5])
TEXTS = torch.randn(2, TOKENS, 16, generator=torch.Generator().manual_seed(1))
WAYS: dict[str, dict[str, Any]] = {
    "whole": {},
    "lora of attention and convolutions": {
        "lora": True,
        "lora_rank": 2,
        "lora_rslora": True,
        "lora_targets": ("conv1", "to_q"),
    },
}


def options(**settings: Any) -> DiffusionPipelineOptions:
    return DiffusionPipelineOptions(model=FAMILY.name, **{"base_model": str(tiny_pipeline()), **settings})


def output(model: Any) -> Tensor:
    with torch.no_grad():
        return FAMILY.denoise(model.eval(), LATENTS, TIMES, {TEXT: TEXTS})


def trained(**settings: Any) -> nn.Module:
    """A U-Net whose trained parameters have moved away from where they begin."""
    seed_everything(0)
    model = FAMILY.build(options(**settings), None)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, 1e-2)
    for _ in range(2):
        torch.autograd.backward(
            (FAMILY.denoise(model.train(), LATENTS, TIMES, {TEXT: TEXTS}) - LATENTS).square().mean()
        )
        optimizer.step()
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize("way", list(WAYS))
def test_what_is_saved_is_what_was_trained(way: str, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    settings = WAYS[way]
    model = trained(**settings)
    before, after = output(FAMILY.build(options(), None)), output(model)
    assert (before - after).abs().max() > 0.01, "nothing was learned"

    FAMILY.save(tmp_path / "model", model, options(**settings), None, {"diffusion": {"a": 1}})
    loaded = FAMILY.load(tmp_path / "model")
    assert torch.allclose(output(loaded.module), after, atol=1e-5)
    assert loaded.artefacts["diffusion"] == {"a": 1}

    whole = StableDiffusionPipeline.from_pretrained(tmp_path / "model", local_files_only=True)
    assert torch.allclose(whole.unet(LATENTS, TIMES, TEXTS).sample, after, atol=1e-5)
    for part in ("vae", "text_encoder"):
        for file in (tiny_pipeline() / part).iterdir():
            assert (tmp_path / "model" / part / file.name).read_bytes() == file.read_bytes()
    adapters = tmp_path / "model" / "pytorch_lora_weights.safetensors"
    assert adapters.is_file() == bool(settings.get("lora"))
    if adapters.is_file():
        base = StableDiffusionPipeline.from_pretrained(tiny_pipeline(), local_files_only=True)
        base.load_lora_weights(adapters)
        assert torch.allclose(base.unet(LATENTS, TIMES, TEXTS).sample, after, atol=1e-5)
    assert str(tiny_pipeline()) not in (tmp_path / "model" / "unet" / "config.json").read_text()
    proof = FAMILY.prove_saved(tmp_path / "model", model, options(**settings), list)
    assert bool(proof.lines) == bool(settings.get("lora"))
    assert not proof.warnings


def test_a_saved_network_that_is_another_is_named_by_the_proof(tmp_path: Path) -> None:
    model = trained(lora=True)
    FAMILY.save(tmp_path / "model", model, options(lora=True), None, {})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.mul_(2.0)
    (warning,) = FAMILY.prove_saved(tmp_path / "model", model, options(lora=True), list).warnings
    assert "is not the network that was trained" in warning


def test_with_lora_a_checkpoint_holds_the_adapters_alone_and_its_base_must_be_the_same() -> None:
    model = trained(lora=True)
    state = saved_state(FAMILY, model)
    assert all("lora_" in name for name in state)
    assert sum(tensor.numel() for tensor in state.values()) < 0.2 * sum(p.numel() for p in model.parameters())
    settings = FAMILY.completed_for(options(lora=True), (4, 8, 8), None, {})
    again = FAMILY.rebuild(settings, None, FAMILY.artefacts_of(model))
    load_saved_state(FAMILY, again, state)
    assert torch.equal(output(again), output(model))
    other = settings.model_copy(update={"base_digest": "0" * 32})
    with pytest.raises(ConfigError, match="not the pipeline that the run began with"):
        FAMILY.rebuild(other, None, {})


def test_a_whole_network_of_a_checkpoint_needs_its_base_no_more() -> None:
    model = trained()
    gone = options(base_model="/no/such/place")
    again = FAMILY.rebuild(gone, None, json.loads(json.dumps(FAMILY.artefacts_of(model))))
    load_saved_state(FAMILY, again, saved_state(FAMILY, model))
    assert torch.equal(output(again), output(model))


@pytest.mark.parametrize(("target", "line"), [
    ("to_qq", r"--lora-targets to_qq: no layer has such a name; did you mean 'to_q'\?; there are conv, .*, to_out.0, "),
    ("to_out", "no layer has such a name; did you mean 'to_out.0'"),
    ("attn1", "no layer has such a name; there are conv, conv1"),
])  # fmt: skip
def test_targets_that_match_nothing_are_refused_with_names_that_would(target: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        FAMILY.build(options(lora=True, lora_targets=("to_k", target)), None)


def test_frozen_parts_are_not_trained_and_all_linear_layers_can_be_adapted() -> None:
    frozen = FAMILY.build(options(freeze=("down_blocks.*", "conv_in.*")), None)
    names = {name.partition(".")[0] for name, parameter in frozen.named_parameters() if parameter.requires_grad}
    assert {"up_blocks", "conv_out"} <= names
    assert not {"down_blocks", "conv_in"} & names
    adapted = FAMILY.build(options(lora=True, lora_targets=("all-linear",)), None)
    layers = {name.partition(".lora_")[0] for name in FAMILY.saved_names(adapted) or ()}
    assert all(isinstance(adapted.get_submodule(f"{layer}.base_layer"), nn.Linear) for layer in layers)
    assert len(layers) == sum(isinstance(module, nn.Linear) for module in FAMILY.build(options(), None).modules())


def test_frozen_patterns_that_match_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--freeze up_block: no parameter has such a name"):
        FAMILY.build(options(freeze=("up_block",)), None)


@pytest.mark.parametrize(("settings", "line"), [
    ({"lora_rank": 4}, "lora_rank needs lora"),
    ({"lora": True, "freeze": ("conv_in.*",)}, "freeze has no effect with lora"),
])  # fmt: skip
def test_settings_that_would_do_nothing_are_refused(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        options(**settings)


def test_recomputed_activations_give_the_same_gradients() -> None:
    found = []
    for recompute in (False, True):
        model = FAMILY.build(options(), None).train()
        if recompute:
            FAMILY.recompute_activations(model)
        torch.autograd.backward(FAMILY.denoise(model, LATENTS, TIMES, {TEXT: TEXTS}).square().sum())
        found.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*found, strict=True):
        assert one is not None
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_every_trained_parameter_is_in_just_one_group() -> None:
    model = trained(lora=True)
    sorted_ids = [id(parameter) for group in FAMILY.parameter_groups(model) for parameter in group]
    assert sorted(sorted_ids) == sorted(id(p) for p in model.parameters() if p.requires_grad)
