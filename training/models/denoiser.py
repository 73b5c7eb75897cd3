"""Protocol of denoisers: model families that take noise out of a sample, and what they have in common.

No torch at import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from pydantic import Field

from training.errors import CheckpointError, ConfigError, printable
from training.models.protocol import Artefacts, BaseFamily, ModelFamily
from training.settings.tree import ModelOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

NOISY_SAMPLES = "noisy samples"
"""Kind of input of these families, `ModelFamily.inputs`."""
LABELS, TEXT = "labels", "text"
"""Names of conditions: int64 (N,), where the number of classes means no class; and embeddings (N, T, D)."""
DIFFUSION = "diffusion"
"""Name of the artefact with all that sampling needs: noise schedule, prediction, shape, names of the classes, scale."""


class DenoiserOptions(ModelOptions):
    """Settings that every denoiser has; a family's own `Options` inherit them."""

    base_model: str | None = Field(
        None,
        min_length=1,
        description="Finished model to go on from with new data (final_model/); --model RUN sets it. None: new "
        "weights.",
        json_schema_extra={"metavar": "DIR", "goes_along": True},
    )
    sample_shape: tuple[int, ...] = Field(
        (),
        description="Shape of a sample: channels, height and width of an image, or the length of a vector. Empty: as "
        "the data says.",
        json_schema_extra={"metavar": "N"},
    )
    num_classes: int | None = Field(
        None,
        ge=0,
        le=2**20,
        description="Number of classes that the network can be asked for; 0: it knows none. None: as the data says.",
    )


class LatentSpace(Protocol):
    """Frozen parts before and behind a network that reads latents: a VAE for images, a text encoder for captions."""

    @property
    def image_size(self) -> int | None:
        """Side in pixels of the images that the network was made for; None: it does not say."""
        ...

    @property
    def image_channels(self) -> int:
        """Channels of the images."""
        ...

    @property
    def digest(self) -> str:
        """Hash of all that latents and embeddings depend on."""
        ...

    def shape(self, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the shape of the latents of images.

        Args:
            image_shape: (channels, height, width).

        Raises:
            ConfigError: there are no latents of such images; says which there are.
        """
        ...

    def encode(self, images_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the latents of images, as the network reads them, (N, c, h, w).

        Args:
            images_NCHW: float32 in [-1, 1].
        """
        ...

    def decode(self, latents_NChw: Tensor) -> Tensor:
        """Return the images of latents, (N, C, H, W), about in [-1, 1]."""
        ...

    def embed(self, captions: Sequence[str]) -> Tensor:
        """Return the embeddings of captions, (N, T, D)."""
        ...

    def num_cut(self, captions: Sequence[str]) -> int:
        """Return how many captions are longer than the text encoder reads."""
        ...


class DenoiserFamily(ModelFamily, Protocol):
    """Protocol of a model family that takes noise out of samples."""

    def completed_for(
        self, options: ModelOptions, shape: Sequence[int], num_classes: int | None, diffusion: Mapping[str, Any]
    ) -> ModelOptions:
        """Return the options, completed with what the data determines.

        Args:
            options: an instance of `Options`.
            shape: of one sample, (C, H, W) or (D,).
            num_classes: number of classes; None: the network gets no class.
            diffusion: the artefact `DIFFUSION` of the run: schedule and prediction.

        Raises:
            ConfigError: this network cannot take such samples; says which can.
        """
        ...

    def denoise(
        self, model: Callable[..., Any], sample: Tensor, time: Tensor, conditions: Mapping[str, Tensor]
    ) -> Tensor:
        """Run the network on noisy samples.

        Args:
            model: the network in any wrapper, or what `called` returned.
            sample: the network's input, float (N, …).
            time: noise level as the prediction gives it, float (N,).
            conditions: by name, see `LABELS` and `TEXT`; empty: none.

        Returns:
            The network's output, of the shape of `sample`.
        """
        ...

    def latent_space(self, options: ModelOptions) -> LatentSpace | None:
        """Return the frozen parts between images with captions and the network; None: it reads images themselves.

        Raises:
            UserError: the pipeline that they belong to cannot be used.
        """
        ...


class BaseDenoiserFamily(BaseFamily):
    """Base class of a denoiser: inherit it and write `network`, `completed_for` and `denoise`."""

    Options: ClassVar[type[ModelOptions]] = DenoiserOptions
    inputs: ClassVar[str] = NOISY_SAMPLES
    writes_single_file: ClassVar[bool] = False

    def network(self, options: ModelOptions) -> nn.Module:
        """Build the network with new weights; the options are complete."""
        raise NotImplementedError

    def build(self, options: ModelOptions, vocabulary: int | None) -> nn.Module:
        """See `ModelFamily.build`: with the weights of the base model, if the options name one."""
        base = cast(DenoiserOptions, options).base_model
        network = self.network(options)
        if base is not None:
            try:
                network.load_state_dict(self.load(Path(base)).module.state_dict())
            except RuntimeError as error:
                raise ConfigError(
                    f"--model {printable(base)}: its weights do not fit these settings "
                    f"({str(error).splitlines()[-1].strip()}); leave the settings of the network out"
                ) from error
        return network

    def latent_space(self, options: ModelOptions) -> LatentSpace | None:
        """See `DenoiserFamily.latent_space`: none."""
        return None

    def rebuild(self, options: ModelOptions, vocabulary: int | None, artefacts: Artefacts) -> nn.Module:
        """See `ModelFamily.rebuild`: without the weights of the base model."""
        return self.network(options)

    def local_files(self, options: ModelOptions) -> Sequence[Path]:
        """See `ModelFamily.local_files`."""
        base = cast(DenoiserOptions, options).base_model
        return [Path(base)] if base is not None else []

    def shape_of(self, base: str) -> Mapping[str, Any]:
        """See `ModelFamily.shape_of`."""
        from training.models.protocol import read_description

        described: Mapping[str, Any] = read_description(Path(base))["options"]
        fixed = self.Options.model_fields.keys() - {"model", "base_model"} - self.Options.fits_any_weights
        try:
            options = self.Options.model_validate(described)
        except ValueError as error:
            raise CheckpointError(f"{base}: damaged model directory ({str(error).splitlines()[0]})") from error
        return {name: getattr(options, name) for name in sorted(fixed)}

    def starting_artefacts(self, options: ModelOptions) -> Artefacts:
        """See `ModelFamily.starting_artefacts`."""
        base = cast(DenoiserOptions, options).base_model
        return self.load(Path(base)).artefacts if base is not None else {}

    def save(
        self, directory: Path, model: nn.Module, options: ModelOptions, vocabulary: int | None, artefacts: Artefacts
    ) -> None:
        """See `ModelFamily.save`: the saved model no longer needs the one that training started from."""
        super().save(directory, model, options.model_copy(update={"base_model": None}), vocabulary, artefacts)


def refuse_other_data(options: ModelOptions, shape: Sequence[int], num_classes: int | None) -> None:
    """Refuse data that the network's settings, or those of the model that training starts from, do not fit.

    Args:
        options: of a denoiser.
        shape: of one sample.
        num_classes: number of classes; None: the network gets no class.

    Raises:
        ConfigError: the number of channels or values, or that of the classes, differs.
    """
    options = cast(DenoiserOptions, options)
    has, given = options.sample_shape, tuple(shape)
    flag = f"--model {printable(options.base_model or options.model)}"
    if has and has[0] != given[0]:
        what = "channels" if len(has) == 3 else "values"
        advice = f"; give --channels {has[0]}" if len(has) == 3 and has[0] in (1, 3) else ""
        raise ConfigError(f"{flag}: the network takes samples of {has[0]} {what}, and this data has {given[0]}{advice}")
    if options.num_classes not in (None, num_classes or 0):
        known, found = options.num_classes, num_classes or 0
        advice = "leave the classes out (--condition-on none)" if not known else "give data with the same classes"
        raise ConfigError(f"{flag}: the network knows {known} classes, and this data has {found}; {advice}")
