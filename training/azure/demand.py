"""How much a job asks for at once: trials, machines, and the nodes of a cluster that is made for it."""

from __future__ import annotations

from training.azure.options import options_of
from training.azure.search_space import SearchSpace
from training.settings.tree import TrainingConfig


def max_trials(config: TrainingConfig) -> int:
    """Trials of a sweep, at most. The default gives way where the values can be combined in fewer ways."""
    options = options_of(config)
    if "max_trials" in options.model_fields_set:
        return options.max_trials
    return min(options.max_trials, SearchSpace.of(config).combinations or options.max_trials)


def trials_at_once(config: TrainingConfig) -> int:
    """How many times the machines of one run are wanted at the same time, at most; 1 without a sweep."""
    options = options_of(config)
    return min(options.max_concurrent_trials, max_trials(config)) if options.sweep else 1


def nodes_at_once(config: TrainingConfig) -> int:
    """Machines that the job uses at the same time, at most: in a sweep, those of all concurrent trials."""
    return config.launch.nnodes * trials_at_once(config)


def nodes_to_create(config: TrainingConfig) -> int:
    """How many nodes a cluster may have that is made for the job."""
    return options_of(config).max_nodes or nodes_at_once(config)
