"""Options of a sweep, in one declaration for every place where its trials run. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from training.errors import ConfigError
from training.experiments.comparison import LEAST_SEEDS
from training.experiments.search_space import DEFAULT, SearchSpace, short_name, texts_of
from training.experiments.sweep.metric import Goal, default_metric, goal_of, metrics_of_task
from training.settings.section import Section
from training.settings.tree import TrainingConfig

SECTION = "sweep"
"""Section of the settings that has the options of a sweep on this machine."""


class SweepOptions(Section):
    """Options of a sweep, on this machine or in a cloud; how values are picked is each place's own option."""

    search: tuple[str, ...] = Field(
        (),
        description="What a sweep varies: SETTING=A,B,C for choices, SETTING=LOW..HIGH for a uniform range, "
        "SETTING=log(LOW..HIGH) for a log-uniform one, or Azure's types by name, as SETTING=normal(0.05,0.01); in YAML "
        "also a mapping as Azure's search_space. Empty: batch_size, d_model, num_layers, learning_rate, weight_decay.",
        json_schema_extra={"metavar": "SETTING=VALUES", "aliases": ["search_space"]},
    )
    sweep_metric: str | None = Field(
        None, description="Metric that decides. None: eval/loss with validation data, else train/loss."
    )
    sweep_goal: Goal | None = Field(None, description="What is sought. None: maximize for an accuracy, else minimize.")
    max_trials: int = Field(
        20, ge=1, le=1000, description="Trials of a sweep.", json_schema_extra={"aliases": ["trials"]}
    )

    @field_validator("search", mode="before")
    @classmethod
    def _read_mapping(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return tuple(texts_of(value))
        texts = (value,) if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise ValueError("should be texts such as 'd_model=128,256', or a mapping of settings to their values")
        return texts

    def space(self, config_class: type[TrainingConfig], fixed: Mapping[str, str]) -> SearchSpace:
        """Return the search space; the default space where the options name none.

        Args:
            config_class: has the settings.
            fixed: see `SearchSpace.parse`.

        Raises:
            ConfigError: the first fault of it.
        """
        return SearchSpace.parse(self.search or DEFAULT, config_class, fixed)

    def objective(self, config: TrainingConfig) -> tuple[str, Goal]:
        """Return the metric that decides, and its direction."""
        metric = self.sweep_metric or default_metric(config)
        return metric, self.sweep_goal or goal_of(metric, metrics_of_task(config))

    def number_of_trials(self, space: SearchSpace) -> int:
        """Return the greatest number of trials. The default gives way where the values combine in fewer ways."""
        if "max_trials" in self.model_fields_set:
            return self.max_trials
        return min(self.max_trials, space.num_combinations or self.max_trials)

    def refuse_more_than_there_are(self, space: SearchSpace) -> None:
        """Refuse more trials than there are different ones.

        Raises:
            ConfigError: says how many there are.
        """
        if space.num_combinations is not None and self.number_of_trials(space) > space.num_combinations:
            raise ConfigError(
                f"max_trials={self.max_trials}, but the values can be combined in {space.num_combinations} ways only; "
                f"give --max-trials {space.num_combinations}"
            )


def refuse_ranges(sampling: str, space: SearchSpace, takes: Mapping[str, Sequence[str]]) -> None:
    """Refuse a distribution that a sampling does not take.

    Args:
        sampling: its name.
        space: what is sampled.
        takes: sampling -> types of distribution; one that is missing here takes all.

    Raises:
        ConfigError: names the first such setting.
    """
    allowed = takes.get(sampling)
    for key, found in space.distributions.items():
        if allowed is not None and found.kind not in allowed:
            name = short_name(key)
            raise ConfigError(
                f"sampling={sampling} takes {' and '.join(allowed)} only, and {name} is {found.kind} "
                f"({found.in_words()}); use --sampling random, or change --search"
            )


class LocalSweepOptions(SweepOptions):
    """Options of --sweep on this machine."""

    sampling: Literal["random", "sobol", "grid"] = Field(
        "random",
        description="How a sweep picks values. grid: every combination of choices; sobol: evenly spread over ranges.",
    )
    confirm_seeds: int = Field(
        LEAST_SEEDS,
        ge=0,
        le=1000,
        description="New seeds, 3 or more, with which the best trial and the settings outside the sweep are trained at "
        "the end, which shows how much of its lead was luck; 0: none.",
    )

    halving: int | None = Field(
        None,
        ge=2,
        le=100,
        description="Successive halving: of so many trials the best one goes on at each rung, by a metric of eval/; the"
        " rungs are the epochs divided by this number once, twice, and so on. None: each trial is trained to its end.",
    )

    @field_validator("confirm_seeds")
    @classmethod
    def _says_something(cls, value: int) -> int:
        if 0 < value < LEAST_SEEDS:
            raise ValueError(f"should be {LEAST_SEEDS} or more, since fewer say nothing about their spread, or 0")
        return value

    def refuse_unfit(self, space: SearchSpace) -> None:
        """Refuse a grid of ranges.

        Raises:
            ConfigError: names the first setting that has one.
        """
        refuse_ranges(self.sampling, space, {"grid": ("choice",)})
