"""Pipelines that cannot be trained are refused in one line that names the part; no code or pickle of theirs runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.tiny_pipeline import tiny_pipeline
from training.errors import UserError
from training.models.diffusion_pipeline.family import DiffusionPipelineFamily
from training.models.diffusion_pipeline.options import DiffusionPipelineOptions
from training.models.diffusion_pipeline.place import PARTS, digest_of, files_of, read_pipeline
from training.models.named_model import named_model

pytestmark = pytest.mark.slow

Damage = Callable[[Path], object]


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A copy of the tiny pipeline, to be damaged."""
    return shutil.copytree(tiny_pipeline(), tmp_path / "pipeline")


def use(place: Path) -> None:
    """Read all of a pipeline, as a run does."""
    family, options = DiffusionPipelineFamily(), DiffusionPipelineOptions(base_model=str(place))
    family.data_settings_of(str(place))
    family.build(options, None)
    space = family.latent_space(options)
    space.embed(["a red box"])
    space.encode(torch.zeros(1, 3, 16, 16))


def changed(name: str, **values: Any) -> Damage:
    """Change entries of a JSON file; None: take it out."""

    def change(place: Path) -> None:
        document = {**json.loads((place / name).read_text()), **values}
        (place / name).write_text(json.dumps({key: value for key, value in document.items() if value is not None}))

    return change


def without(name: str) -> Damage:
    return lambda place: shutil.rmtree(place / name) if (place / name).is_dir() else (place / name).unlink()


def cut(name: str) -> Damage:
    return lambda place: (place / name).write_bytes((place / name).read_bytes()[:200])


def renamed(name: str, other: str) -> Damage:
    return lambda place: (place / name).rename((place / name).with_name(other))


def with_weights(name: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    from safetensors.torch import load_file, save_file

    def write(place: Path) -> None:
        weights = load_file(place / name)
        change(weights)
        save_file(weights, place / name, {"format": "pt"})

    return write


UNET, VAE = "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"
TEXT, SCHEDULER = "text_encoder/model.safetensors", "scheduler/scheduler_config.json"
BAD: dict[str, tuple[Damage, str]] = {
    **{f"no folder {part}": (without(part), f"{part} is missing") for part in PARTS},
    **{
        f"no {part} in the index": (changed("model_index.json", **{part: [None, None]}), f"has no {part}")
        for part in PARTS
    },
    "no unet weights": (without(UNET), "safetensors is missing"),
    "no vae weights": (without(VAE), "safetensors is missing"),
    "no text weights": (without(TEXT), "safetensors is missing"),
    "no vae config": (without("vae/config.json"), "vae/config.json is missing"),
    "no words": (without("tokenizer/tokenizer.json"), "tokenizer/vocab.json is missing"),
    "pickled weights": (renamed(TEXT, "pytorch_model.bin"), r"a pickle \(pytorch_model.bin\), which can run any code"),
    "index cut": (cut("model_index.json"), "model_index.json: damaged, not JSON"),
    "unet weights cut": (cut(UNET), "unet: it cannot be read"),
    "vae weights cut": (cut(VAE), "vae: it cannot be read"),
    "text weights cut": (cut(TEXT), "text_encoder: it cannot be read"),
    "tokenizer cut": (cut("tokenizer/tokenizer.json"), "tokenizer: it cannot be read"),
    "unet config cut": (cut("unet/config.json"), "unet/config.json: damaged, not JSON"),
    "channels in words": (changed("unet/config.json", in_channels="four"), "in_channels = 'four' should be a whole"),
    "a tensor missing": (with_weights(UNET, lambda w: w.pop("conv_in.bias")), "1 tensors .*'conv_in.bias'"),
    "a text tensor missing": (with_weights(TEXT, lambda w: w.pop(sorted(w)[0])), "text_encoder: 1 tensors"),
    "another shape": (
        with_weights(UNET, lambda w: w.update({"conv_in.bias": torch.zeros(5)})), "unet: it cannot be read",
    ),
    "not finite": (
        with_weights(VAE, lambda w: w["quant_conv.bias"].fill_(torch.nan)), r"NaN or infinity \(quant_conv.bias",
    ),
    "sdxl": (
        changed("model_index.json", _class_name="StableDiffusionXLPipeline"), "'StableDiffusionXLPipeline'; supported",
    ),
    "flux": (
        changed("model_index.json", _class_name="FluxPipeline"), "'FluxPipeline'; supported are StableDiffusionPipe",
    ),
    "own code": (
        changed("model_index.json", _class_name=["own.py", "Own"]), "is Python code of its own, which is never run",
    ),
    "another vae": (changed("model_index.json", vae=["diffusers", "AsymmetricAutoencoderKL"]), "vae is a Asymmetric"),
    "flow": (
        changed("model_index.json", scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"]), "scheduler is a Flow",
    ),
    "inpainting": (changed("unet/config.json", in_channels=9), "reads 9 channels .* for inpainting"),
    "classes too": (
        changed("unet/config.json", addition_embed_type="text_time"), "takes more than a text .addition_embed",
    ),
    "parts of two": (
        changed("unet/config.json", cross_attention_dim=24), "of 24 numbers, and its text encoder writes 16",
    ),
    "no betas": (changed(SCHEDULER, beta_end=None), "'beta_end' is missing"),
    "own betas": (changed(SCHEDULER, trained_betas=[0.1, 0.2]), "trained_betas"),
    "sigmoid": (changed(SCHEDULER, beta_schedule="sigmoid"), "'sigmoid' is not supported; linear, scaled_linear"),
    "flow prediction": (changed(SCHEDULER, prediction_type="flow_prediction"), "'flow_prediction' is not supported"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(BAD))
def test_what_cannot_be_trained_is_refused_in_one_line(pipeline: Path, case: str) -> None:
    damage, line = BAD[case]
    damage(pipeline)
    with pytest.raises(UserError, match=line) as refused:
        use(pipeline)
    assert "\n" not in str(refused.value)
    assert str(pipeline) in str(refused.value)


def test_a_pipeline_is_read_whole_and_its_scheduler_decides_the_noise() -> None:
    found = read_pipeline(tiny_pipeline())
    assert (found.factor, found.image_size, found.latent_shape((3, 32, 16))) == (2, 16, (4, 16, 8))
    assert DiffusionPipelineFamily().data_settings_of(str(tiny_pipeline())) == {
        "noise_schedule": "scaled_linear", "noise_levels": 1000, "beta_start": 0.00085, "beta_end": 0.012,
        "zero_terminal_snr": False, "prediction": "epsilon",
    }  # fmt: skip
    assert named_model(str(tiny_pipeline())) == ("diffusion_pipeline", str(tiny_pipeline()))


def test_old_pipelines_that_name_no_prediction_predict_the_noise_and_others_what_they_say(pipeline: Path) -> None:
    changed(SCHEDULER, prediction_type=None, beta_schedule="squaredcos_cap_v2")(pipeline)
    found = DiffusionPipelineFamily().data_settings_of(str(pipeline))
    assert (found["prediction"], found["noise_schedule"]) == ("epsilon", "cosine")
    assert "beta_start" not in found
    changed(SCHEDULER, prediction_type="v_prediction", rescale_betas_zero_snr=True)(pipeline)
    found = DiffusionPipelineFamily().data_settings_of(str(pipeline))
    assert (found["prediction"], found["zero_terminal_snr"]) == ("v", True)


@pytest.mark.parametrize(("shape", "line"), [
    ((3, 16, 15), "image_size=15: .*a multiple of 2; set --image-size 14 or 16"),
    ((1, 16, 16), "3 channels, and the data has 1; set --channels 3"),
    ((2,), r"it draws images, and the data has samples of the shape \(2,\)"),
])  # fmt: skip
def test_images_that_its_vae_cannot_take_are_refused(shape: tuple[int, ...], line: str) -> None:
    with pytest.raises(UserError, match=line):
        read_pipeline(tiny_pipeline()).latent_shape(shape)


def test_weights_that_lie_there_in_half_precision_alone_are_read_and_kept_under_the_plain_name(pipeline: Path) -> None:
    renamed(UNET, "diffusion_pytorch_model.fp16.safetensors")(pipeline)
    (pipeline / "unet" / "own_code.py").write_text("raise SystemExit\n")
    found = read_pipeline(pipeline)
    assert found.variant("unet") == "fp16"
    assert found.variant("vae") is None
    assert [name for name, _ in files_of(found, ["unet"])] == ["unet/config.json", UNET]
    use(pipeline)


def test_the_digest_changes_with_any_byte_of_the_weights(pipeline: Path) -> None:
    before = digest_of(read_pipeline(pipeline), ("vae", "unet"))
    assert before == digest_of(read_pipeline(tiny_pipeline()), ("vae", "unet"))
    with_weights(UNET, lambda weights: weights["conv_in.bias"].add_(1e-7))(pipeline)
    assert before != digest_of(read_pipeline(pipeline), ("vae", "unet"))
