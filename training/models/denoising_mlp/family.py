"""Residual MLP for vectors as a model family. No torch at import."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from training.errors import ConfigError
from training.language.messages import Message
from training.models.denoiser import LABELS, BaseDenoiserFamily, refuse_other_data
from training.models.denoising_mlp.options import DenoisingMLPOptions
from training.settings.tree import ModelOptions

if TYPE_CHECKING:
    from torch import Tensor, nn


class DenoisingMLPFamily(BaseDenoiserFamily):
    """Model family of `DenoisingMLP`."""

    name: ClassVar[str] = "denoising_mlp"
    Options: ClassVar[type[ModelOptions]] = DenoisingMLPOptions

    def describe(self, options: ModelOptions, num_parameters: int) -> str:
        """See `ModelFamily.describe`."""
        options = cast(DenoisingMLPOptions, options)
        return Message(
            "MLP {count:,} parameters ({blocks} blocks of {width} features)",
            count=num_parameters, blocks=options.num_blocks, width=options.width,
        )  # fmt: skip

    def completed_for(
        self, options: ModelOptions, shape: Sequence[int], num_classes: int | None, diffusion: Mapping[str, Any]
    ) -> ModelOptions:
        """See `DenoiserFamily.completed_for`: vectors."""
        if len(shape) != 1:
            size = "×".join(map(str, shape))
            raise ConfigError(
                f"--model denoising_mlp takes vectors, and this data has images of {size}; add --model unet"
            )
        refuse_other_data(options, shape, num_classes)
        return options.model_copy(update={"sample_shape": tuple(shape), "num_classes": num_classes or 0})

    def network(self, options: ModelOptions) -> nn.Module:
        """See `BaseDenoiserFamily.network`."""
        from training.models.denoising_mlp.network import DenoisingMLP

        options = cast(DenoisingMLPOptions, options)
        if len(options.sample_shape) != 1:
            raise ConfigError(
                "--model denoising_mlp: the length of the vectors is not known; train it on a task that has vectors"
            )
        return DenoisingMLP(
            size=options.sample_shape[0],
            classes=options.num_classes or 0,
            width=options.width,
            num_blocks=options.num_blocks,
            input_frequencies=options.input_frequencies,
            dropout=options.dropout,
        )

    def denoise(
        self, model: Callable[..., Any], sample: Tensor, time: Tensor, conditions: Mapping[str, Tensor]
    ) -> Tensor:
        """See `DenoiserFamily.denoise`."""
        output: Tensor = model(sample, time, conditions.get(LABELS))
        return output
