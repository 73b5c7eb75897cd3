"""Settings of the task diffusion. No torch."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from training.settings.tree import TaskOptions

MOST_LEVELS = 100_000
"""Largest noise_levels: a hundred times the field's usual number."""
MOST_SIDE = 8192
"""Largest image_size in pixels."""


class DiffusionOptions(TaskOptions):
    """Images or vectors, from which a network learns to take noise out."""

    free_to_change: ClassVar[frozenset[str]] = frozenset({
        "datasets", "sample_every", "sample_count", "sampler", "sampling_steps", "guidance",
    })  # fmt: skip
    decides_loss: ClassVar[frozenset[str]] = frozenset({
        "datasets", "validation_split", "image_size", "crop", "channels", "condition_on", "noise_schedule",
        "noise_levels", "beta_start", "beta_end", "sigma_min", "sigma_max", "rho", "zero_terminal_snr", "prediction",
        "sigma_data", "level_distribution", "level_mean", "level_deviation", "loss_weighting", "min_snr_gamma",
        "noise_bands",
    })  # fmt: skip
    in_training_loss: ClassVar[frozenset[str]] = frozenset({"random_flip", "condition_dropout"})

    datasets: tuple[str, ...] = Field(
        (),
        description="Directory of images, .npz or parquet files of arrays, or a built-in set: digits (8×8 images), "
        "circle, moons, line, swiss_roll (points).",
        json_schema_extra={"aliases": ["dataset"], "metavar": "DIR_OR_NAME"},
    )
    image_size: int | None = Field(
        None,
        ge=1,
        le=MOST_SIDE,
        description="Height and width of the images in pixels; others are resized and cropped. None: the data's own, "
        "which must then be the same for all; with a pipeline, what its U-Net was made for.",
        json_schema_extra={"aliases": ["resolution"]},
    )
    crop: Literal["center", "random"] = Field(
        "center", description="Part of an image that is not square: its center, or drawn again in each epoch."
    )
    random_flip: bool = Field(False, description="Mirror each image left to right in half of the epochs, at random.")
    channels: Literal["auto", "1", "3"] = Field(
        "auto", description="Channels of the images: 1 (gray) or 3 (RGB); auto: those of the data."
    )
    condition_on: Literal["auto", "none", "class", "caption"] = Field(
        "auto",
        description="Input of the network in addition to the noise: the class or the caption; auto: captions where the "
        "model reads text, else classes where the data has them.",
    )
    condition_dropout: float = Field(
        0.1,
        ge=0.0,
        lt=1.0,
        description="Share of the samples whose condition is left out in training, for classifier-free guidance "
        "(arXiv 2207.12598), 0 to 1.",
    )
    noise_schedule: Literal["auto", "linear", "scaled_linear", "cosine", "sigma", "karras"] = Field(
        "auto",
        description="Noise levels: linear betas (arXiv 2006.11239), scaled_linear (Stable Diffusion's), cosine (arXiv "
        "2102.09672), sigma (geometric in sigma), karras (arXiv 2206.00364); auto: karras for the prediction edm, else "
        "linear.",
    )
    noise_levels: int = Field(
        1000,
        ge=2,
        le=MOST_LEVELS,
        description="Number of noise levels (T).",
        json_schema_extra={"aliases": ["num_train_timesteps"]},
    )
    beta_start: float | None = Field(
        None,
        gt=0.0,
        lt=1.0,
        description="linear, scaled_linear: first beta. None: 1e-4, or 0.00085 for scaled_linear.",
    )
    beta_end: float | None = Field(
        None, gt=0.0, lt=1.0, description="linear, scaled_linear: last beta. None: 0.02, or 0.012 for scaled_linear."
    )
    sigma_min: float = Field(0.002, gt=0.0, le=1e4, description="sigma, karras: lowest ratio of noise to signal.")
    sigma_max: float = Field(80.0, gt=0.0, le=1e6, description="sigma, karras: highest ratio of noise to signal.")
    rho: float = Field(7.0, gt=0.0, le=1000.0, description="karras: exponent of the spacing.")
    zero_terminal_snr: bool = Field(
        False, description="Shift the schedule so that its last level is pure noise (arXiv 2305.08891)."
    )
    prediction: Literal["epsilon", "v", "x0", "edm"] = Field(
        "epsilon",
        description="Output of the network: the noise, the velocity (arXiv 2202.00512), the clean sample, or EDM's "
        "preconditioned form (arXiv 2206.00364).",
        json_schema_extra={"aliases": ["prediction_type"]},
    )
    sigma_data: float | None = Field(
        None,
        gt=0.0,
        le=1e4,
        description="edm: standard deviation of the data. None: 0.5 for images, 1 for vectors, which are standardized.",
    )
    level_distribution: Literal["auto", "uniform", "lognormal"] = Field(
        "auto",
        description="Draw of a training sample's noise level: uniform over the levels, or ln sigma normal (EDM's); "
        "auto: lognormal for the prediction edm, else uniform.",
    )
    level_mean: float = Field(-1.2, ge=-20.0, le=20.0, description="lognormal: mean of ln sigma.")
    level_deviation: float = Field(1.2, gt=0.0, le=20.0, description="lognormal: standard deviation of ln sigma.")
    loss_weighting: Literal["auto", "plain", "min_snr", "edm"] = Field(
        "auto",
        description="Weight of a noise level in the loss: plain (1), min_snr (arXiv 2303.09556), edm (arXiv "
        "2206.00364); auto: edm for the prediction edm, else plain.",
    )
    min_snr_gamma: float = Field(5.0, gt=0.0, le=1e6, description="min_snr: largest signal-to-noise ratio that counts.")
    noise_bands: int = Field(
        4,
        ge=1,
        le=64,
        description="Noise levels at which validation measures each sample, from low to high, on noise that is the "
        "same in every evaluation.",
    )
    sample_every: int = Field(
        0,
        ge=0,
        le=10**6,
        description="Epochs between grids of samples in the run directory's samples/; 0: only at the end.",
    )
    sample_count: int = Field(16, ge=0, le=4096, description="Number of samples in a grid; 0: none are drawn.")
    sampler: Literal["ddpm", "ddim", "euler", "euler_ancestral", "heun", "dpmpp_2m", "unipc"] = Field(
        "ddim", description="Sampler of the grids; tools/sample.py takes any other afterwards."
    )
    sampling_steps: int = Field(
        50,
        ge=1,
        le=MOST_LEVELS,
        description="Steps of the sampler.",
        json_schema_extra={"aliases": ["num_inference_steps"]},
    )
    guidance: float = Field(
        1.0,
        ge=0.0,
        le=1000.0,
        description="Classifier-free guidance of the grids: 1 follows the condition as learned, more exaggerates it.",
        json_schema_extra={"aliases": ["guidance_scale"]},
    )

    @property
    def schedule_kind(self) -> str:
        """The kind of noise schedule, with `auto` decided."""
        if self.noise_schedule == "auto":
            return "karras" if self.prediction == "edm" else "linear"
        return self.noise_schedule

    @property
    def level_law(self) -> Literal["uniform", "lognormal"]:
        """The distribution of training levels, with `auto` decided."""
        if self.level_distribution == "auto":
            return "lognormal" if self.prediction == "edm" else "uniform"
        return self.level_distribution

    @property
    def weighting(self) -> Literal["plain", "min_snr", "edm"]:
        """The weighting of the loss, with `auto` decided."""
        if self.loss_weighting == "auto":
            return "edm" if self.prediction == "edm" else "plain"
        return self.loss_weighting

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        """Refuse settings that contradict each other."""
        if self.prediction == "epsilon" and self.zero_terminal_snr:
            raise ValueError(
                "prediction=epsilon and zero_terminal_snr: at the last level there is no signal, so the noise says "
                "nothing about the sample (0/0); take --prediction v"
            )
        if self.prediction == "edm" and self.zero_terminal_snr:
            raise ValueError("prediction=edm and zero_terminal_snr: its sigmas are finite; leave zero_terminal_snr out")
        return self
