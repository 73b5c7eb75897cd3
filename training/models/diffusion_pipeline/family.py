"""Pipelines of diffusers as a model family: their U-Net is trained, whole, in part or by LoRA. No torch at import."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from training.errors import CheckpointError, ConfigError, printable, unreadable
from training.language.messages import Message
from training.models.card import FamilyCard, PublishedModel
from training.models.denoiser import DIFFUSION, NOISY_SAMPLES, TEXT
from training.models.diffusers_library import needs_diffusers
from training.models.diffusion_pipeline.card import pipeline_card
from training.models.diffusion_pipeline.options import DiffusionPipelineOptions
from training.models.diffusion_pipeline.place import (
    PipelineDirectory,
    diffusion_of,
    digest_of,
    read_pipeline,
    settings_of_scheduler,
)
from training.models.protocol import ARTEFACTS_NAME, Artefacts, BaseFamily, LoadedModel, SavedProof
from training.settings.tree import ModelOptions
from training.storage.atomic import replacing_directory
from training.storage.json_files import DamagedFileError, read_json

if TYPE_CHECKING:
    from torch import Tensor, nn

    from training.models.diffusion_pipeline.latent_space import PipelineLatentSpace

NETWORK = "network"
"""Name of the artefact with the content of the U-Net's config.json."""
USUAL_SIDE = 64
"""Side of the latents of a pipeline that does not say it: those of images of 512 pixels."""


class DiffusionPipelineFamily(BaseFamily):
    """Model family of Stable Diffusion pipelines: the U-Net is trained, text encoder and VAE stay as they are."""

    name: ClassVar[str] = "diffusion_pipeline"
    Options: ClassVar[type[ModelOptions]] = DiffusionPipelineOptions
    inputs: ClassVar[str] = NOISY_SAMPLES
    writes_single_file: ClassVar[bool] = False

    def describe(self, options: ModelOptions, num_parameters: int) -> str:
        """See `ModelFamily.describe`."""
        options = cast(DiffusionPipelineOptions, options)
        if options.has_lora:
            return Message("{model} with LoRA, {count:,} parameters", model=options.base_model, count=num_parameters)
        return Message("{model}, {count:,} parameters", model=options.base_model, count=num_parameters)

    def local_files(self, options: ModelOptions) -> Sequence[Path]:
        """See `ModelFamily.local_files`."""
        base = cast(DiffusionPipelineOptions, options).base_model
        return [Path(base)] if base is not None and Path(base).exists() else []

    def random_draws(self, options: ModelOptions) -> Mapping[str, float]:
        """See `ModelFamily.random_draws`: also the dropout of the U-Net's own config.json."""
        dropout = pipeline_of(options).unet.dropout
        return {**super().random_draws(options), **({"dropout": dropout} if dropout else {})}

    def data_settings_of(self, base: str) -> Mapping[str, Any]:
        """See `ModelFamily.data_settings_of`: noise schedule and prediction of the pipeline's scheduler."""
        pipeline = read_pipeline(base)
        return settings_of_scheduler(pipeline.scheduler, pipeline.path / "scheduler" / "scheduler_config.json")

    def completed_for(
        self, options: ModelOptions, shape: Sequence[int], num_classes: int | None, diffusion: Mapping[str, Any]
    ) -> ModelOptions:
        """See `DenoiserFamily.completed_for`: the hash of the base."""
        options = cast(DiffusionPipelineOptions, options)
        pipeline = pipeline_of(options)
        if num_classes is not None:
            raise ConfigError(
                f"--model {printable(options.base_model)}: its U-Net reads captions and no classes; give the data "
                "captions (--condition-on caption), or --condition-on none"
            )
        if tuple(shape[:1]) != (pipeline.unet.in_channels,):
            raise ConfigError(
                f"--model {printable(options.base_model)}: its U-Net reads latents of {pipeline.unet.in_channels} "
                f"channels, and the samples have the shape {tuple(shape)}"
            )
        return options.model_copy(update={"base_digest": digest_of(pipeline, pipeline.parts)})

    def build(self, options: ModelOptions, vocabulary: int | None) -> nn.Module:
        """See `ModelFamily.build`."""
        from training.models.diffusion_pipeline.network import build_unet

        options = cast(DiffusionPipelineOptions, options)
        return build_unet(pipeline_of(options), options)

    def rebuild(self, options: ModelOptions, vocabulary: int | None, artefacts: Artefacts) -> nn.Module:
        """See `ModelFamily.rebuild`: adapters need their base, a whole U-Net only its config."""
        from training.models.diffusion_pipeline.network import unet_of

        options = cast(DiffusionPipelineOptions, options)
        if options.has_lora or NETWORK not in artefacts:
            return self.build(options, vocabulary)
        network: nn.Module = unet_of(artefacts[NETWORK])
        return network

    def artefacts_of(self, model: nn.Module) -> Artefacts:
        """See `ModelFamily.artefacts_of`: config.json."""
        from training.models.diffusion_pipeline.saving import config_of

        return {NETWORK: config_of(model)}

    def saved_names(self, model: nn.Module) -> frozenset[str] | None:
        """See `ModelFamily.saved_names`: with LoRA only what is trained."""
        if not hasattr(model, "peft_config"):
            return None
        return frozenset(name for name, parameter in model.named_parameters() if parameter.requires_grad)

    def denoise(
        self, model: Callable[..., Any], sample: Tensor, time: Tensor, conditions: Mapping[str, Tensor]
    ) -> Tensor:
        """See `DenoiserFamily.denoise`."""
        output: Tensor = model(sample, time, conditions[TEXT].to(sample.dtype), return_dict=False)[0]
        return output

    def latent_space(self, options: ModelOptions) -> PipelineLatentSpace:
        """See `DenoiserFamily.latent_space`: the pipeline's VAE and text encoder."""
        from training.machine.device import pick_device
        from training.models.diffusion_pipeline.latent_space import PipelineLatentSpace

        return PipelineLatentSpace(pipeline_of(options), pick_device(None))

    def recompute_activations(self, model: nn.Module) -> None:
        """See `ModelFamily.recompute_activations`: by the method of diffusers."""
        cast(Any, model).enable_gradient_checkpointing()

    def save(
        self, directory: Path, model: nn.Module, options: ModelOptions, vocabulary: int | None, artefacts: Artefacts
    ) -> None:
        """See `ModelFamily.save`: a whole pipeline, as diffusers opens it."""
        from training.models.diffusion_pipeline.saving import save_pipeline

        pipeline = pipeline_of(options)
        others = {name: content for name, content in artefacts.items() if name != NETWORK}
        with replacing_directory(directory) as fresh:
            save_pipeline(fresh, model, pipeline)
            text = json.dumps(others, ensure_ascii=False, indent=1) + "\n"
            (fresh / ARTEFACTS_NAME).write_text(text, encoding="utf-8")

    def prove_saved(
        self,
        directory: Path,
        model: nn.Module,
        options: ModelOptions,
        batches: Callable[[], Sequence[Mapping[str, Tensor]]],
    ) -> SavedProof:
        """See `ModelFamily.prove_saved`: the merged U-Net gives the outputs of the adapted one."""
        from training.models.diffusion_pipeline.saving import compare_merged

        return compare_merged(directory, model) if hasattr(model, "peft_config") else SavedProof()

    def load(self, directory: Path) -> LoadedModel:
        """See `ModelFamily.load`: also any pipeline of diffusers that is supported."""
        from training.models.diffusion_pipeline.network import read_unet

        try:
            needs_diffusers(str(directory))
            network: nn.Module = read_unet(read_pipeline(directory))
            artefacts = {**self.artefacts_of(network), DIFFUSION: _diffusion_of(read_pipeline(directory))}
            if (directory / ARTEFACTS_NAME).is_file():
                artefacts |= read_json(directory / ARTEFACTS_NAME)
        except (ConfigError, DamagedFileError) as error:
            raise CheckpointError(str(error)) from error
        except OSError as error:
            raise unreadable(directory, error) from error
        options = DiffusionPipelineOptions(model=self.name, base_model=str(directory))
        return LoadedModel(network.eval(), options, None, artefacts)

    def card(self, published: PublishedModel) -> FamilyCard:
        """See `ModelFamily.card`."""
        return pipeline_card(published)


def _diffusion_of(pipeline: PipelineDirectory) -> dict[str, Any]:
    """Return the artefact `DIFFUSION` of a pipeline that others have trained, from what its files say."""
    size = pipeline.unet.sample_size
    sides = [size, size] if isinstance(size, int) else list(size or (USUAL_SIDE, USUAL_SIDE))
    file = pipeline.path / "scheduler" / "scheduler_config.json"
    return diffusion_of(pipeline.scheduler, file, [pipeline.unet.in_channels, *sides], reads_text=True)


def pipeline_of(options: ModelOptions) -> PipelineDirectory:
    """Return the pipeline that options name.

    Raises:
        ConfigError: they name none, it is of another kind, or it is not the one that a run began with.
        CheckpointError: a part is missing or damaged.
    """
    options = cast(DiffusionPipelineOptions, options)
    needs_diffusers("--model diffusion_pipeline")
    if options.base_model is None:
        raise ConfigError(
            "--model diffusion_pipeline: which pipeline? Give --model DIR, a directory with model_index.json"
        )
    if not Path(options.base_model).is_dir():
        raise ConfigError(f"--model {printable(options.base_model)}: there is no such directory")
    pipeline = read_pipeline(options.base_model)
    if options.base_digest is not None and options.base_digest != digest_of(pipeline, pipeline.parts):
        raise ConfigError(
            f"--model {printable(options.base_model)}: this is not the pipeline that the run began with (its files "
            "have changed); put them back"
        )
    return pipeline
