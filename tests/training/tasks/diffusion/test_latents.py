"""Latents and embeddings are computed once, are what the pipeline's parts compute, and are refused or made again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.tiny_pipeline import captioned_pictures, tiny_pipeline
from training.errors import UserError
from training.models.diffusion_pipeline.latent_space import PipelineLatentSpace
from training.models.diffusion_pipeline.place import read_pipeline
from training.storage.cache_directory import cache_directory
from training.tasks.diffusion.latents import LatentSamples, latents_of
from training.tasks.diffusion.options import DiffusionOptions
from training.tasks.diffusion.sources import SampleSource, read_samples

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("APT_TRAINER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def asked(**settings: Any) -> DiffusionOptions:
    return DiffusionOptions(**{"datasets": (str(captioned_pictures()),), **settings})


def space() -> PipelineLatentSpace:
    return PipelineLatentSpace(read_pipeline(tiny_pipeline()))


def made(**settings: Any) -> tuple[SampleSource, LatentSamples]:
    source = read_samples(asked(**settings))
    return source, latents_of(source, space(), asked(**settings))


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def test_a_sample_is_drawn_from_the_latents_of_its_image_and_has_its_captions_embedding() -> None:
    source, latents = made()
    assert (len(latents), latents.shape) == (len(source), (4, 8, 8))
    mean, deviation = space().encode(torch.from_numpy(source.sample(4, None).values)[None])
    noise = generator(7).standard_normal((4, 8, 8), dtype=np.float32)
    found = latents.sample(4, generator(7))
    assert np.allclose(found.values, mean[0].numpy() + deviation[0].numpy() * noise, atol=1e-5)
    assert found.text is not None
    assert np.allclose(found.text, space().embed([str(source.sample(4, None).caption)])[0], atol=1e-5)
    assert np.allclose(latents.no_text, space().embed([""])[0], atol=1e-5)
    assert latents.facts["distinct_captions"] == 3


def test_without_draws_a_sample_is_always_the_same_and_its_neighbour_another() -> None:
    _, latents = made(random_flip=True)
    assert np.array_equal(latents.sample(1, None).values, latents.sample(1, None).values)
    assert not np.array_equal(latents.sample(1, None).values, latents.sample(4, None).values)


def test_mirrored_images_have_latents_of_their_own() -> None:
    source, latents = made(random_flip=True)
    flipped = np.ascontiguousarray(source.sample(0, None).values[..., ::-1])
    mean, _ = space().encode(torch.from_numpy(flipped)[None])
    plain, mirrored = (np.mean([latents.sample(0, generator(s)).values for s in seeds], axis=0) for seeds in _flips())
    assert np.abs(mirrored - mean[0].numpy()).mean() < np.abs(plain - mean[0].numpy()).mean()


def _flips() -> tuple[list[int], list[int]]:
    """Seeds that draw the image as it is, and those that mirror it."""
    drawn = [int(generator(seed).integers(2)) for seed in range(200)]
    return [s for s, flip in enumerate(drawn) if not flip], [s for s, flip in enumerate(drawn) if flip]


def test_the_parts_run_once_and_a_damaged_store_is_made_again(
    empty_cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, latents = made()
    first = latents.sample(3, None)
    assert "computing the latents of 12 images, once" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(PipelineLatentSpace, "encode", None)
        patch.setattr(PipelineLatentSpace, "embed", None)
        _, again = made()
    assert np.array_equal(first.values, again.sample(3, None).values)
    assert again.fingerprint == latents.fingerprint
    (store,) = [path for path in (cache_directory() / "latents").iterdir() if path.is_dir()]
    content = (store / "latents.bin").read_bytes()
    (store / "latents.bin").write_bytes(bytes([content[0] ^ 1]) + content[1:])
    _, again = made()
    told = capsys.readouterr()
    assert "damaged; its content does not match" in told.err
    assert "the latents are computed again" in told.err
    assert (store / "latents.bin").read_bytes() == content
    assert np.array_equal(first.values, again.sample(3, None).values)


def test_other_data_other_weights_and_other_settings_have_other_latents(tmp_path: Path) -> None:
    _, latents = made()
    other = shutil.copytree(captioned_pictures(), tmp_path / "other")
    (other / "metadata.jsonl").write_text((other / "metadata.jsonl").read_text().replace("red", "dark"))
    fingerprints = {made(datasets=(str(other),))[1].fingerprint, made(random_flip=True)[1].fingerprint}
    assert len(fingerprints | {latents.fingerprint}) == 3


def test_without_conditions_every_image_has_the_empty_caption() -> None:
    _, latents = made(condition_on="none")
    found = latents.sample(5, None).text
    assert found is not None
    assert np.array_equal(found, latents.no_text)


def test_long_captions_are_named(tmp_path: Path) -> None:
    other = shutil.copytree(captioned_pictures(), tmp_path / "other")
    text = (other / "metadata.jsonl").read_text()
    (other / "metadata.jsonl").write_text(text.replace("a red box", "a red box in front of nothing at all"))
    _, latents = made(datasets=(str(other),))
    assert "warning: 1 captions have more than 16 tokens, and their ends are cut off" in latents.introduction


@pytest.mark.parametrize(("settings", "line"), [
    ({"crop": "random", "image_size": 8}, "crop=random: the latents .* leave --crop out"),
    ({"image_size": 15}, "image_size=15: .* a multiple of 2"),
    ({"channels": "1"}, "3 channels, and the data has 1; set --channels 3"),
])  # fmt: skip
def test_settings_that_do_not_fit_a_pipeline_are_refused(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        made(**settings)


def test_data_without_captions_is_refused(tmp_path: Path) -> None:
    other = shutil.copytree(captioned_pictures(), tmp_path / "other")
    (other / "metadata.jsonl").unlink()
    with pytest.raises(UserError, match=r"the data has no captions.*--condition-on none") as refused:
        made(datasets=(str(other),))
    assert "\n" not in str(refused.value)
    assert not (cache_directory() / "latents").exists()
