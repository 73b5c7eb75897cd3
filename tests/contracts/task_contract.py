"""Rules that every task keeps. Inherit `TaskContract`, set `task` and `settings`, and these tests judge it.

    class TestMine(TaskContract):
        task = MyTask
        settings = {"model": {"d_model": 16}}

Nothing is trained for longer than one update.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from training.backends.prepare import config_class
from training.machine.ranks import Ranks
from training.machine.seeding import seed_everything
from training.settings.declarations import aliases, leaves
from training.settings.tree import TaskOptions, TrainingConfig
from training.tasks.metrics import Metric
from training.tasks.objective import measured
from training.tasks.protocol import Conclusion, Prepared, Task
from training.tasks.rank_batches import Feed

HEAVY = ("torch", "deepspeed", "transformers", "accelerate", "datasets", "azure", "mlflow", "matplotlib")


_PREPARED: dict[type, Prepared] = {}


class TaskContract:
    """Inherit and set `task`; `settings` (nested) where its defaults need files or are large."""

    task: ClassVar[type[Task]]
    settings: ClassVar[Mapping[str, Any]] = {}
    model: ClassVar[str] = "apt"

    @property
    def config(self) -> TrainingConfig:
        return self.config_with()

    def config_with(self, **data: Any) -> TrainingConfig:
        tree = config_class(task=self.name, model=self.model)
        settings = {**self.settings, "data": {**self.settings.get("data", {}), **data}}
        return tree.from_dict(settings, "the contract's settings")

    @property
    def name(self) -> str:
        """Name by which the registry finds the class: its own, or where it lies."""
        return f"{self.task.__module__}:{self.task.__qualname__}"

    @property
    def prepared(self) -> Prepared:
        """Return value of the task's `prepare`, which is called once for all tests."""
        kind = type(self)
        if kind not in _PREPARED:
            _PREPARED[kind] = self.task().prepare(self.config)
        return _PREPARED[kind]

    # -- declarations ----------------------------------------------------------------------------------------------

    def test_its_options_are_a_frozen_section_in_which_each_setting_is_described(self) -> None:
        options = self.task.Options
        assert issubclass(options, TaskOptions)
        assert options.model_config.get("frozen") is True
        assert options.model_config.get("extra") == "forbid"
        for name, field in leaves(options):
            assert field.description, name
            assert field.description.strip().endswith("."), f"{name}: a sentence ends with a full stop"
            assert not field.is_required(), f"{name}: every setting has a default"

    def test_no_option_has_the_name_of_another_setting(self) -> None:
        names = [key.rpartition(".")[2] for key, _ in leaves(type(self.config))]
        spellings = [alias for _, field in leaves(type(self.config)) for alias in aliases(field)]
        assert len(names) == len(set(names))
        assert not set(spellings) & set(names)

    def test_its_metrics_are_declared_once_and_the_objective_has_the_same(self) -> None:
        metrics = self.task.metrics
        assert all(isinstance(metric, Metric) for metric in metrics)
        assert len({metric.name for metric in metrics}) == len(metrics)
        assert "loss" not in {metric.name for metric in metrics}
        assert tuple(self.prepared.objective.metrics) == tuple(metrics)

    @pytest.mark.slow
    def test_importing_it_brings_in_nothing_heavy(self) -> None:
        program = (
            f"import sys; from {self.task.__module__} import {self.task.__qualname__} as task; task.Options(); task()\n"
            f"print([m for m in {HEAVY} if m in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout.strip(), done.stderr) == ("[]", "")

    # -- data --------------------------------------------------------------------------------------------------------

    def test_every_rank_prepares_the_same(self) -> None:
        """Ranks share a global batch by the numbers of its samples, so each must have the same samples."""
        again = self.task().prepare(self.config)
        assert again.fingerprint == self.prepared.fingerprint
        assert again.config == self.prepared.config
        assert len(again.train) == len(self.prepared.train)
        for one, other in ((self.prepared, again), (again, self.prepared)):
            hashes = [
                list(p.objective.hashes(p.objective.collate([p.train[i] for i in range(3)]))) for p in (one, other)
            ]
            assert hashes[0] == hashes[1]

    def test_preparing_does_not_hang_on_the_random_state(self) -> None:
        seed_everything(1)
        one = self.task().prepare(self.config)
        seed_everything(2)
        other = self.task().prepare(self.config)
        assert one.fingerprint == other.fingerprint

    def test_validation_data_is_held_back_when_it_is_asked_for(self) -> None:
        split = self.task().prepare(self.config_with(validation_split=0.25))
        assert split.validation is not None
        assert len(split.validation) + len(split.train) == len(self.prepared.train)
        assert self.prepared.validation is None

    def test_a_preview_agrees_with_what_is_prepared(self) -> None:
        task = self.task()
        preview = task.preview(self.config)
        if preview is None:
            return
        lengths = self.prepared.objective.lengths(self.prepared.train)
        assert preview.num_samples == len(self.prepared.train)
        assert preview.vocabulary == self.prepared.vocabulary
        assert preview.num_tokens == int((lengths - 1).sum())
        assert preview.longest[0][0] == int(lengths.max()) - 1

    def test_its_files_exist_and_can_lie_elsewhere(self) -> None:
        task, options = self.task(), self.config.data
        files = task.data_files(options)
        assert all(path.is_file() for path in files)
        moved = task.with_data_files(options, [str(path) for path in files])
        assert [path.resolve() for path in task.data_files(moved)] == [path.resolve() for path in files]

    def test_what_it_keeps_is_plain_data(self) -> None:
        for data in (self.prepared.facts, self.prepared.artefacts):
            assert json.loads(json.dumps(data)) == data
        assert all(isinstance(line, str) for line in self.prepared.introduction)

    # -- objective -------------------------------------------------------------------------------------------------

    def test_the_weights_of_samples_add_up_to_the_weight_of_their_batch(self) -> None:
        objective, train = self.prepared.objective, self.prepared.train
        weights = objective.weights(train)
        assert weights.shape == objective.lengths(train).shape == (len(train),)
        assert weights.dtype == np.int64
        for numbers in ([0], [0, 1, 2], [2, 0]):
            batch = objective.collate([train[i] for i in numbers])
            assert batch.weight == int(weights[numbers].sum())
            assert batch.num_samples == len(numbers)

    def test_a_sample_has_one_hash_whatever_it_is_batched_with(self) -> None:
        objective, train = self.prepared.objective, self.prepared.train

        def hashes(*numbers: int) -> list[int]:
            return list(objective.hashes(objective.collate([train[i] for i in numbers])))

        assert hashes(0, 1, 2) == [*hashes(0), *hashes(1), *hashes(2)]

    def test_a_loss_is_a_sum_over_the_weight_with_a_figure_for_each_metric(self) -> None:
        objective, train = self.prepared.objective, self.prepared.train
        seed_everything(0)
        model = objective.build_model().eval()

        def result(*numbers: int) -> tuple[float, dict[str, float]]:
            found = objective.loss(model, objective.collate([train[i] for i in numbers]))
            return float(found.loss.detach()), {name: float(value) for name, value in found.sums.items()}

        loss, sums = result(0, 1)
        assert tuple(sums) == measured(objective.metrics)
        assert loss == pytest.approx(result(0)[0] + result(1)[0], rel=1e-4), "summed, not averaged"
        for name, value in sums.items():
            assert value == pytest.approx(result(0)[1][name] + result(1)[1][name], rel=1e-4)

    def test_every_parameter_can_learn(self) -> None:
        objective, train = self.prepared.objective, self.prepared.train
        seed_everything(0)
        model = objective.build_model().train()
        loss = objective.loss(model, objective.collate([train[i] for i in range(4)])).loss
        torch.autograd.backward(loss)
        missing = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert missing == [], "DDP waits for the gradient of every parameter"

    def test_a_rank_without_samples_takes_part(self) -> None:
        feed = Feed(self.prepared.objective, self.prepared.train, Ranks(torch.device("cpu"), 1, 1, 2), 4)
        [batch] = feed.batches([0])
        assert (batch.weight, batch.tokens, batch.num_samples) == (0, 0, 0)

    # -- the end -----------------------------------------------------------------------------------------------------

    def test_it_concludes_with_plain_figures_and_lines(self) -> None:
        model = self.prepared.objective.build_model()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        figures, lines = self.task().conclude(model, self.prepared)
        assert isinstance(Conclusion(figures, lines), Conclusion)
        assert json.loads(json.dumps(figures)) == figures
        assert all(isinstance(line, str) and "\n" not in line for line in lines)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
