"""The pipeline in a directory: which parts it has, what they say of each other, and the files that are kept. No torch.

Nothing of a stranger's runs: each part is read by the one class that it may be of, weights come from safetensors only,
and a pipeline that brings code of its own is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from training.errors import CheckpointError, ConfigError, printable, unreadable
from training.models.diffusers_library import NOISE_SCHEDULES, PREDICTIONS
from training.models.named_model import INDEX_NAME
from training.storage.json_files import DamagedFileError, as_declared, read_json

PIPELINE = "StableDiffusionPipeline"
SUPPORTED = f"supported are {PIPELINE} (Stable Diffusion 1 and 2), DDPMPipeline and DDIMPipeline"
SCHEDULERS = (
    "DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LMSDiscreteScheduler", "EulerDiscreteScheduler",
    "HeunDiscreteScheduler", "EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
    "DEISMultistepScheduler", "UniPCMultistepScheduler",
)  # fmt: skip
"""Schedulers that sample by a schedule of betas, in which the network was trained."""
KEPT_ENDS = frozenset({".json", ".txt", ".model", ".safetensors"})
"""Ends of the names of a part's files that are data and no code."""

T = TypeVar("T")


class Part(NamedTuple):
    """A part of a pipeline, in a folder of its own."""

    kinds: tuple[str, ...]
    """Classes that it may be of."""
    description: str
    """File that describes it."""
    weights: str | None = None
    """Name of the file with its weights, without the end; None: it has none."""


PARTS: Mapping[str, Part] = {
    "unet": Part(("UNet2DConditionModel",), "config.json", "diffusion_pytorch_model"),
    "vae": Part(("AutoencoderKL",), "config.json", "diffusion_pytorch_model"),
    "text_encoder": Part(("CLIPTextModel",), "config.json", "model"),
    "tokenizer": Part(("CLIPTokenizer", "CLIPTokenizerFast"), "tokenizer_config.json"),
    "scheduler": Part(SCHEDULERS, "scheduler_config.json"),
}
OPTIONAL_PARTS: Mapping[str, Part] = {
    "safety_checker": Part(("StableDiffusionSafetyChecker",), "config.json", "model"),
    "feature_extractor": Part(("CLIPImageProcessor", "CLIPFeatureExtractor"), "preprocessor_config.json"),
    "image_encoder": Part(("CLIPVisionModelWithProjection",), "config.json", "model"),
}
"""Parts that sampling may use and training does not; they are kept."""
ENCODERS = ("vae", "text_encoder", "tokenizer")
"""Parts that decide the latents and the text embeddings."""


@dataclass(frozen=True)
class UNetConfig:
    """Schema of unet/config.json, as far as it decides what fits."""

    in_channels: int = 4
    out_channels: int = 4
    sample_size: int | Sequence[int] | None = None
    cross_attention_dim: int | Sequence[int] = 1280
    dropout: float = 0.0
    class_embed_type: str | None = None
    num_class_embeds: int | None = None
    addition_embed_type: str | None = None
    encoder_hid_dim_type: str | None = None
    time_cond_proj_dim: int | None = None


@dataclass(frozen=True)
class VAEConfig:
    """Schema of vae/config.json, as far as it decides what fits."""

    in_channels: int = 3
    latent_channels: int = 4
    block_out_channels: Sequence[int] = (64,)
    scaling_factor: float = 0.18215


@dataclass(frozen=True)
class TextEncoderConfig:
    """Schema of text_encoder/config.json, as far as it decides what fits."""

    hidden_size: int
    max_position_embeddings: int = 77


@dataclass(frozen=True)
class SchedulerConfig:
    """Schema of scheduler/scheduler_config.json, as far as it says how the network was trained.

    diffusers' classes have different defaults for the schedule, so it must be written out. Before 2023 the files named
    no prediction, and all were of the noise.
    """

    beta_start: float
    beta_end: float
    beta_schedule: str
    num_train_timesteps: int
    trained_betas: Sequence[float] | None = None
    prediction_type: str = "epsilon"
    rescale_betas_zero_snr: bool | None = False


@dataclass(frozen=True)
class PipelineDirectory:
    """A pipeline whose parts are all there and fit together."""

    path: Path
    parts: tuple[str, ...]
    """Names of its parts, those first that training reads."""
    unet: UNetConfig
    vae: VAEConfig
    text_encoder: TextEncoderConfig
    scheduler: SchedulerConfig

    @property
    def factor(self) -> int:
        """Side of an image over the side of its latents."""
        return int(2 ** (len(self.vae.block_out_channels) - 1))

    @property
    def image_size(self) -> int | None:
        """Side in pixels of the images that the U-Net was made for; None: it does not say."""
        size = self.unet.sample_size
        return size * self.factor if isinstance(size, int) else None

    def variant(self, part: str) -> str | None:
        """Return the variant in which a part's weights lie there alone, such as fp16; None: the plain one."""
        return variant_of(self.path / part, _part(part).weights)

    def latent_shape(self, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the shape of the latents of images.

        Args:
            image_shape: (channels, height, width).

        Raises:
            ConfigError: the VAE takes other images; says which.
        """
        where = f"--model {printable(self.path)}"
        if len(image_shape) != 3:
            raise ConfigError(f"{where}: it draws images, and the data has samples of the shape {image_shape}")
        channels, height, width = image_shape
        if channels != self.vae.in_channels:
            raise ConfigError(
                f"{where}: its VAE takes images with {self.vae.in_channels} channels, and the data has {channels}; set "
                f"--channels {self.vae.in_channels}"
            )
        for side in (height, width):
            if side % self.factor:
                below = max(side // self.factor, 1) * self.factor
                raise ConfigError(
                    f"image_size={side}: {where} has a VAE that makes one latent of {self.factor} × {self.factor} "
                    f"pixels, so the size is a multiple of {self.factor}; set --image-size {below} or "
                    f"{below + self.factor}"
                )
        return self.vae.latent_channels, height // self.factor, width // self.factor


def read_pipeline(place: str | Path) -> PipelineDirectory:
    """Read what the files of a pipeline say, and check that all parts are there and fit together.

    Raises:
        ConfigError: it is a pipeline of another kind, or has a part that is not supported.
        CheckpointError: a part is missing or damaged.
    """
    path = Path(place)
    where = f"--model {printable(place)}"
    document = mapping_in(path / INDEX_NAME)
    _refuse_other_pipelines(document, where)
    parts = [*PARTS, *(name for name in OPTIONAL_PARTS if _kind_in(document, name) is not None)]
    for name in parts:
        check_part(path, name, _part(name), document)
    unet = declared_in(path / "unet" / "config.json", UNetConfig)
    pipeline = PipelineDirectory(
        path, tuple(parts), unet,
        declared_in(path / "vae" / "config.json", VAEConfig),
        declared_in(path / "text_encoder" / "config.json", TextEncoderConfig),
        declared_in(path / "scheduler" / "scheduler_config.json", SchedulerConfig),
    )  # fmt: skip
    _refuse_parts_that_do_not_fit(pipeline, where)
    return pipeline


def settings_of_scheduler(found: SchedulerConfig, file: Path) -> dict[str, Any]:
    """Return the settings of the data by which a network was trained: its noise schedule and its prediction.

    Args:
        found: content of its scheduler's file.
        file: that file, for errors.

    Raises:
        ConfigError: it was trained by others than there are here.
    """
    if found.trained_betas is not None:
        raise ConfigError(f"{file}: the scheduler has a table of betas of its own (trained_betas), which is not read")
    if found.beta_schedule not in NOISE_SCHEDULES:
        raise ConfigError(
            f"{file}: beta_schedule = {found.beta_schedule!r} is not supported; {', '.join(NOISE_SCHEDULES)} are"
        )
    if found.prediction_type not in PREDICTIONS:
        raise ConfigError(
            f"{file}: prediction_type = {found.prediction_type!r} is not supported; {', '.join(PREDICTIONS)} are"
        )
    kind = NOISE_SCHEDULES[found.beta_schedule]
    betas = {} if kind == "cosine" else {"beta_start": found.beta_start, "beta_end": found.beta_end}
    return {
        "noise_schedule": kind,
        "noise_levels": found.num_train_timesteps,
        **betas,
        "zero_terminal_snr": bool(found.rescale_betas_zero_snr),
        "prediction": PREDICTIONS[found.prediction_type],
    }


def diffusion_of(
    found: SchedulerConfig,
    file: Path,
    shape: Sequence[int],
    *,
    class_names: Sequence[str] | None = None,
    reads_text: bool = False,
) -> dict[str, Any]:
    """Return the artefact `training.models.denoiser.DIFFUSION` of a network that others have trained.

    Args:
        found: content of its scheduler's file.
        file: that file, for errors.
        shape: of one sample that the network reads.
        class_names: names of its classes; none of them means "no class", as far as its files say.
        reads_text: it draws for a text.

    Raises:
        ConfigError: it was trained by others than there are here.
    """
    from training.diffusion.noise_schedules import NoiseSchedule
    from training.diffusion.predictions import Prediction

    settings = settings_of_scheduler(found, file)
    schedule = NoiseSchedule(
        settings["noise_schedule"], settings["noise_levels"], settings.get("beta_start"), settings.get("beta_end"),
        zero_terminal_snr=settings["zero_terminal_snr"],
    )  # fmt: skip
    return {
        "schedule": schedule.to_dict(), "prediction": Prediction(settings["prediction"]).to_dict(),
        "shape": list(shape), "class_names": None if class_names is None else list(class_names),
        "condition_dropout": 0.0 if class_names is not None else None, "reads_text": reads_text,
        "mean": None, "scale": None,
    }  # fmt: skip


def files_of(pipeline: PipelineDirectory, parts: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Yield (path in a copy of the pipeline, file) of all that belongs to parts: descriptions and weights, no code.

    Weights that are there as a variant only, such as fp16, get the plain name.
    """
    for name in parts:
        folder, stem = pipeline.path / name, _part(name).weights
        variant = variant_of(folder, stem)
        for file in sorted(folder.iterdir()):
            if file.suffix not in KEPT_ENDS or not file.is_file():
                continue
            as_weights = stem is not None and ".safetensors" in file.name
            if not as_weights:
                yield f"{name}/{file.name}", file
            elif variant is not None and file.name == f"{stem}.{variant}.safetensors":
                yield f"{name}/{stem}.safetensors", file
            elif variant is None and re.fullmatch(_plain(str(stem)), file.name):
                yield f"{name}/{file.name}", file


def digest_of(pipeline: PipelineDirectory, parts: Sequence[str]) -> str:
    """Return 32 hex digits that change with any byte of the files of these parts.

    Raises:
        CheckpointError: a file cannot be read.
    """
    state = hashlib.blake2b(digest_size=16)
    for name, file in files_of(pipeline, parts):
        try:
            known = file.stat()
            content = _checksum(file, known.st_size, known.st_mtime_ns)
        except OSError as error:
            raise unreadable(file, error) from error
        state.update(f"{name}\0{content}\0".encode("utf-8", "surrogatepass"))
    return state.hexdigest()


@cache
def _checksum(file: Path, size: int, changed: int) -> str:
    """Return the checksum of a file; of gigabytes it takes seconds, so it is computed once for each change."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def variant_of(folder: Path, stem: str | None) -> str | None:
    """Return the variant in which weights lie in a folder alone, such as fp16; None: the plain ones are there."""
    if stem is None or any((folder / f"{stem}{end}").is_file() for end in (".safetensors", ".safetensors.index.json")):
        return None
    found = sorted(
        match[1] for file in folder.iterdir() if (match := re.fullmatch(rf"{stem}\.(\w+)\.safetensors", file.name))
    )
    return found[0] if found else None


def _plain(stem: str) -> str:
    """Return the pattern of the names of plain weights: in one file, or in several with an index."""
    return rf"{stem}(-\d+-of-\d+)?\.safetensors(\.index\.json)?"


def _part(name: str) -> Part:
    return PARTS.get(name) or OPTIONAL_PARTS[name]


def _kind_in(document: Mapping[str, Any], name: str) -> str | None:
    """Return the class of a part by the index; None: the pipeline has no such part."""
    entry = document.get(name)
    kind = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    return kind if isinstance(kind, str) else None


def pipeline_kind(document: Mapping[str, Any]) -> str | None:
    """Return the class of a pipeline by its model_index.json; None: it names none, or code of its own."""
    kind = document.get("_class_name")
    return kind if isinstance(kind, str) else None


def _refuse_other_pipelines(document: Mapping[str, Any], where: str) -> None:
    kind = pipeline_kind(document)
    if kind is None and isinstance(document.get("_class_name"), list):
        raise ConfigError(f"{where}: this pipeline is Python code of its own, which is never run; {SUPPORTED}")
    if kind != PIPELINE:
        raise ConfigError(f"{where}: a pipeline of the kind {printable(repr(kind))}; {SUPPORTED}")


def check_part(path: Path, name: str, part: Part, document: Mapping[str, Any]) -> None:
    """Check that a part is there, of a class that can be used, and with weights that hold no code.

    Args:
        path: directory of the pipeline.
        name: name of the part.
        part: what it should be.
        document: content of the pipeline's model_index.json.

    Raises:
        ConfigError: it is of another class, or its weights are pickles.
        CheckpointError: it is missing.
    """
    kind, folder = _kind_in(document, name), path / name
    if kind is None:
        raise CheckpointError(f"{path / INDEX_NAME}: the pipeline has no {name}; give a whole pipeline")
    if kind not in part.kinds:
        raise ConfigError(f"{path / INDEX_NAME}: {name} is a {printable(kind)}; supported is {' or '.join(part.kinds)}")
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is missing, and {INDEX_NAME} names it; copy the pipeline whole")
    needed = [part.description]
    if name == "tokenizer" and not (folder / "tokenizer.json").is_file():
        needed += ["vocab.json", "merges.txt"]
    for file in needed:
        if not (folder / file).is_file():
            raise CheckpointError(f"{folder / file} is missing; copy the pipeline whole")
    if part.weights is not None:
        _check_weights(folder, part.weights)


def _check_weights(folder: Path, stem: str) -> None:
    plain = folder / f"{stem}.safetensors"
    if plain.is_file() or variant_of(folder, stem) is not None:
        return
    index = folder / f"{stem}.safetensors.index.json"
    if index.is_file():
        names = mapping_in(index).get("weight_map")
        for name in sorted({str(name) for name in names.values()} if isinstance(names, dict) else ()):
            if not re.fullmatch(_plain(stem), name) or not (folder / name).is_file():
                raise CheckpointError(f"{folder / name} is missing, and {index.name} names it; copy the pipeline whole")
        return
    pickled = sorted(file.name for file in folder.iterdir() if file.suffix in (".bin", ".ckpt", ".pt", ".pth"))
    if pickled:
        raise ConfigError(
            f"{folder}: its weights are a pickle ({printable(pickled[0])}), which can run any code when it is read; "
            f"get the pipeline with {plain.name}, or convert it where you trust it"
        )
    raise CheckpointError(f"{plain} is missing; copy the pipeline whole")


def _refuse_parts_that_do_not_fit(pipeline: PipelineDirectory, where: str) -> None:
    unet, vae, text = pipeline.unet, pipeline.vae, pipeline.text_encoder
    for name in (
        "class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim",
    ):  # fmt: skip
        if (value := getattr(unet, name)) is not None:
            raise ConfigError(
                f"{where}: its U-Net takes more than a text ({name} = {printable(str(value))} in unet/config.json); "
                f"{SUPPORTED}"
            )
    if not unet.in_channels == unet.out_channels == vae.latent_channels:
        raise ConfigError(
            f"{where}: its U-Net reads {unet.in_channels} channels and writes {unet.out_channels}, and the latents of "
            f"its VAE have {vae.latent_channels}; pipelines for inpainting, and others like that, cannot be trained; "
            f"{SUPPORTED}"
        )
    widths = unet.cross_attention_dim
    if any(width != text.hidden_size for width in ([widths] if isinstance(widths, int) else widths)):
        raise CheckpointError(
            f"{where}: its U-Net takes embeddings of {printable(str(widths))} numbers, and its text encoder writes "
            f"{text.hidden_size}: these parts are of two pipelines"
        )
    if vae.scaling_factor == 0 or not vae.block_out_channels:
        raise CheckpointError(
            f"{pipeline.path / 'vae' / 'config.json'}: damaged, latents cannot be scaled or have no size"
        )


def declared_in(file: Path, declared: type[T]) -> T:
    """Return the content of a JSON file as a dataclass.

    Raises:
        CheckpointError: it is damaged, or cannot be read.
    """
    try:
        return as_declared(mapping_in(file), declared, file)
    except DamagedFileError as error:
        raise CheckpointError(str(error)) from error


def mapping_in(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        CheckpointError: it is damaged, or cannot be read.
    """
    try:
        document = read_json(file)
    except DamagedFileError as error:
        raise CheckpointError(str(error)) from error
    except OSError as error:
        raise unreadable(file, error) from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{file}: damaged, it should hold an object and holds a {type(document).__name__}")
    return document
