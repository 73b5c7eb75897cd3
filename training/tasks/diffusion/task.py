"""Diffusion: a network learns to take noise out of images or vectors, and draws new ones. No torch at import."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from training.diffusion.noise_schedules import NoiseSchedule
from training.errors import ConfigError, printable
from training.language.messages import Message
from training.models.denoiser import DIFFUSION, LABELS, NOISY_SAMPLES, TEXT, DenoiserFamily
from training.settings.tree import TaskOptions, TrainingConfig
from training.tasks.card import CardFacts, TaskCard
from training.tasks.diffusion.card import diffusion_card
from training.tasks.diffusion.drawing import (
    Prompts,
    Sampling,
    in_units,
    progress_picture,
    refuse_guidance_without_classes,
)
from training.tasks.diffusion.latents import LatentSamples, read_latents
from training.tasks.diffusion.metrics import band_metrics
from training.tasks.diffusion.options import DiffusionOptions
from training.tasks.diffusion.sources import (
    SampleSource,
    SubsetSource,
    data_files,
    read_samples,
    split,
    with_data_files,
)
from training.tasks.metrics import Metric
from training.tasks.protocol import BaseTask, Conclusion, Prepared, family_of

if TYPE_CHECKING:
    from torch import nn

    from training.diffusion.predictions import Prediction
    from training.tasks.diffusion.objective import Conditioning, NoisySamples

SIGMA_DATA_OF_IMAGES = 0.5
"""EDM's standard deviation of images in -1 to 1 (arXiv 2206.00364, table 1)."""
MOST_SIGNAL = 0.1
"""Largest part of the signal that may be left in the last noise level: samples are drawn from pure noise."""
LOOKED_AT = 64
"""Samples whose range and spread are measured before training."""
OTHER_SPREAD = 1.5
"""Ratio between the data's standard deviation and sigma_data from which it is said."""


class DiffusionTask(BaseTask):
    """Task of taking noise out of samples, at every level of a noise schedule."""

    name: ClassVar[str] = "diffusion"
    Options: ClassVar[type[TaskOptions]] = DiffusionOptions
    inputs: ClassVar[str] = NOISY_SAMPLES
    metrics: ClassVar[tuple[Metric, ...]] = band_metrics(4)
    default_model: ClassVar[str] = "unet"
    defaults: ClassVar[Mapping[str, Any]] = {
        "run.run_dir": "runs/diffusion", "run.epochs": 100, "schedule.schedule": "cosine",
        "optimizer.learning_rate": 5e-4, "optimizer.adam_beta2": 0.99, "optimizer.ema_decay": 0.999,
        "data.validation_split": 0.1,
    }  # fmt: skip

    def data_files(self, options: TaskOptions) -> Sequence[Path]:
        """See `Task.data_files`."""
        return data_files(cast(DiffusionOptions, options).datasets)

    def with_data_files(self, options: TaskOptions, files: Sequence[str]) -> TaskOptions:
        """See `Task.with_data_files`."""
        datasets = with_data_files(cast(DiffusionOptions, options).datasets, files)
        return options.model_copy(update={"datasets": datasets})

    def prepare(self, config: TrainingConfig) -> Prepared:
        """See `Task.prepare`."""
        options = cast(DiffusionOptions, config.data)
        if not isinstance(options, DiffusionOptions):
            raise ConfigError(
                f"the task diffusion got the settings of the task {config.task}; make them by "
                "config_class(task='diffusion')"
            )
        from training.diffusion.predictions import Prediction

        schedule = schedule_of(options)
        _refuse_remaining_signal(schedule)
        family = cast(DenoiserFamily, family_of(config))
        space = family.latent_space(config.model)
        source: SampleSource = read_samples(options) if space is None else read_latents(options, space)
        sigma_data = options.sigma_data or (SIGMA_DATA_OF_IMAGES if len(source.shape) == 3 else 1.0)
        prediction = Prediction(options.prediction, sigma_data)
        prediction.check_schedule(schedule, options.weighting)
        num_classes = _num_classes(options, source) if space is None else None
        artefact = {
            "schedule": schedule.to_dict(),
            "prediction": prediction.to_dict(),
            "shape": list(source.shape),
            "class_names": list(source.class_names or ()) if num_classes else None,
            "condition_dropout": options.condition_dropout if num_classes or space is not None else None,
            "reads_text": space is not None,
            "mean": _numbers(source.mean),
            "scale": _numbers(source.scale),
        }
        refuse_guidance_without_classes(artefact, options.guidance)
        _refuse_another_base(family.starting_artefacts(config.model).get(DIFFUSION), artefact, config)
        model = family.completed_for(config.model, source.shape, num_classes, artefact)
        asked, config = config.model, config.model_copy(update={"model": model})
        return self._prepared(config, family, source, artefact, asked=asked)

    def _prepared(
        self,
        config: TrainingConfig,
        family: DenoiserFamily,
        source: SampleSource,
        artefact: Mapping[str, Any],
        **more: Any,
    ) -> Prepared:
        """Return datasets and objective for samples of any source, such as images or their latents."""
        from training.diffusion.predictions import Prediction
        from training.tasks.diffusion.objective import DiffusionObjective, LevelDraws, NoisySamples

        options = cast(DiffusionOptions, config.data)
        schedule = NoiseSchedule.from_dict(artefact["schedule"])
        prediction = Prediction.from_dict(artefact["prediction"])
        conditioning = _conditioning(options, source, artefact["class_names"])
        levels = LevelDraws(schedule, options.level_law, options.level_mean, options.level_deviation)
        train, held_back = split(source, options.validation_split, config.run.seed)
        objective = DiffusionObjective(
            family, config.model, schedule, prediction, options.weighting, options.min_snr_gamma, options.noise_bands
        )
        bands = levels.bands(options.noise_bands)
        return Prepared(
            config=config,
            family=family,
            objective=objective,
            train=NoisySamples(train, levels, conditioning),
            validation=None if held_back is None else NoisySamples(held_back, levels, conditioning, bands),
            fingerprint=source.fingerprint,
            facts={
                **source.facts,
                "data": [{"file": source.facts["data"], "format": source.facts["kind"]}],
                "sample_shape": list(source.shape),
                "num_classes": len(artefact["class_names"] or ()),
                "noise_bands": [float(sigma) for sigma in bands],
            },
            artefacts={DIFFUSION: dict(artefact)},
            introduction=[
                *source.introduction,
                *_introduction(schedule, prediction, train, isinstance(source, LatentSamples)),
            ],
            **more,
        )

    def sample_interval(self, config: TrainingConfig) -> int | None:
        """See `Task.sample_interval`."""
        options = cast(DiffusionOptions, config.data)
        return options.sample_every if options.sample_count else None

    def show(self, model: nn.Module, prepared: Prepared, seed: int) -> Mapping[str, bytes]:
        """See `Task.show`: images in a grid, vectors as points on those of the training set."""
        options, diffusion = cast(DiffusionOptions, prepared.config.data), prepared.artefacts[DIFFUSION]
        source = cast("NoisySamples", prepared.train).source
        picture = progress_picture(
            model, cast(DenoiserFamily, prepared.family), diffusion, sampling_of(options, seed), options.sample_count,
            lambda most: in_units(first_values(source, most), diffusion), _prompts(prepared, source),
        )  # fmt: skip
        return {"samples": picture}

    def conclude(self, model: nn.Module, prepared: Prepared) -> Conclusion:
        """See `Task.conclude`: the loss on the training set beside the least that any network could have."""
        from training.tasks.diffusion.ideal import compared_with_ideal

        if cast(DenoiserFamily, prepared.family).latent_space(prepared.config.model) is not None:
            return Conclusion()  # latents are drawn again in each epoch: there is no finite set of them
        return compared_with_ideal(model, prepared)

    def card(self, facts: CardFacts) -> TaskCard:
        """See `Task.card`."""
        return diffusion_card(facts)


def _prompts(prepared: Prepared, source: object) -> Prompts | None:
    """Return captions of the data, for which a pipeline draws while it learns; None: the network reads none."""
    space = cast(DenoiserFamily, prepared.family).latent_space(prepared.config.model)
    latents = source.base if isinstance(source, SubsetSource) else source
    if space is None or not isinstance(latents, LatentSamples):
        return None
    return Prompts(latents.captions(cast(DiffusionOptions, prepared.config.data).sample_count), space)


def sampling_of(options: DiffusionOptions, seed: int) -> Sampling:
    """Return how the samples of a run are drawn while it learns."""
    return Sampling(options.sampler, options.sampling_steps, options.guidance, seed)


def first_values(source: Any, most: int) -> NDArray[np.float32]:
    """Return the first samples of a source, without random crops and flips, at most so many."""
    return np.stack([source.sample(number, None).values for number in range(min(most, len(source)))])


def schedule_of(options: DiffusionOptions) -> NoiseSchedule:
    """Return the noise schedule that the settings describe.

    Raises:
        ConfigError: its levels do not ascend.
    """
    schedule = NoiseSchedule(
        kind=options.schedule_kind,
        levels=options.noise_levels,
        beta_start=options.beta_start,
        beta_end=options.beta_end,
        sigma_min=options.sigma_min,
        sigma_max=options.sigma_max,
        rho=options.rho,
        zero_terminal_snr=options.zero_terminal_snr,
    )
    _ = schedule.sigmas
    return schedule


def _refuse_remaining_signal(schedule: NoiseSchedule) -> None:
    """Refuse a schedule whose last level is far from pure noise, from which samples are drawn.

    Raises:
        ConfigError: more than `MOST_SIGNAL` of the signal is left.
    """
    left = schedule.remaining_signal
    if left <= MOST_SIGNAL:
        return
    remedy = (
        f"raise --sigma-max (now {schedule.sigma_max:g})"
        if schedule.kind in ("sigma", "karras")
        else f"raise --noise-levels (now {schedule.levels}) or --beta-end, or add --zero-terminal-snr --prediction v"
    )
    raise ConfigError(
        f"the {schedule.kind} noise schedule ends far from pure noise: {left:.2f} of the signal ({left**2:.0%} of its "
        f"variance) are left in its last level, and samples are drawn from pure noise; {remedy}"
    )


def _num_classes(options: DiffusionOptions, source: SampleSource) -> int | None:
    """Return the number of classes that the network gets; None: it gets no class.

    Raises:
        ConfigError: the condition that was asked for is not in the data, or the network cannot read it.
    """
    if options.condition_on == "caption":
        raise ConfigError(
            "--condition-on caption needs a model that reads text, such as a pipeline directory of the Stable "
            "Diffusion family (--model DIR); leave it out, or take --condition-on class"
        )
    if options.condition_on == "class" and source.class_names is None:
        raise ConfigError(
            f"--condition-on class: {printable(options.datasets[0])} has no classes; give images in one folder for "
            "each class, or leave it out"
        )
    return None if options.condition_on == "none" or source.class_names is None else len(source.class_names)


def _refuse_another_base(base: Mapping[str, Any] | None, new: Mapping[str, Any], config: TrainingConfig) -> None:
    """Refuse to go on from a model that was trained with another noise schedule or prediction.

    Raises:
        ConfigError: names the flags that say what the model was trained with.
    """
    if base is None:
        return
    for name, part in (("noise schedule", "schedule"), ("prediction", "prediction")):
        if base[part] != new[part]:
            was, now = (
                ", ".join(
                    f"{key}={value}" for key, value in one[part].items() if base[part].get(key) != new[part].get(key)
                )
                for one in (base, new)
            )
            raise ConfigError(
                f"--model {printable(config.model.base_model)}: it was trained with another {name} ({was}) than these "
                f"settings have ({now}); set them as they were"
            )


def _conditioning(
    options: DiffusionOptions, source: SampleSource, class_names: Sequence[str] | None
) -> Conditioning | None:
    from training.tasks.diffusion.objective import Conditioning

    if isinstance(source, LatentSamples):
        return Conditioning(
            of=lambda index, sample: {TEXT: sample.text},
            left_out={TEXT: source.no_text},
            dropout=options.condition_dropout,
        )
    if not class_names:
        return None
    return Conditioning(
        of=lambda index, sample: {LABELS: np.array(sample.label, dtype=np.int64)},
        left_out={LABELS: np.array(len(class_names), dtype=np.int64)},
        dropout=options.condition_dropout,
    )


def _numbers(values: NDArray[Any] | None) -> list[float] | None:
    return None if values is None else [float(value) for value in np.ravel(values)]


def _introduction(
    schedule: NoiseSchedule, prediction: Prediction, train: SampleSource, are_latents: bool
) -> Iterator[str]:
    """Yield lines about the noise, and about data that does not look as the settings say."""
    sigmas = schedule.sigmas
    yield Message(
        "noise   {kind}, {levels:,} levels, sigma from {low:.4g} to {high:.4g}; the network predicts {prediction}",
        kind=schedule.kind, levels=schedule.levels, low=float(sigmas[0]), high=float(sigmas[-1]),
        prediction=prediction.kind,
    )  # fmt: skip
    looked_at = np.stack([train.sample(number, None).values for number in range(min(LOOKED_AT, len(train)))])
    low, high, spread = float(looked_at.min()), float(looked_at.max()), float(looked_at.std())
    if looked_at.ndim == 4 and not are_latents and (low < -1.0 or high > 1.0):
        outside = Message(
            "the images have values from {low:.3g} to {high:.3g}, and not from -1 to 1; samples are never clipped",
            low=low, high=high,
        )  # fmt: skip
        yield Message("warning: {message}", message=outside)
    ratio = spread / prediction.sigma_data
    if prediction.kind == "edm" and not 1.0 / OTHER_SPREAD <= ratio <= OTHER_SPREAD:
        other = Message(
            "the data's standard deviation is {spread:.3g}, and sigma_data is {given:g}; set --sigma-data {spread:.3g}",
            spread=spread, given=prediction.sigma_data,
        )  # fmt: skip
        yield Message("warning: {message}", message=other)
