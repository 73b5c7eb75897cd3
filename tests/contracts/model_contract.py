"""Rules that every model family keeps. Inherit `ModelContract`, set `family`, and these tests judge it.

    class TestMine(ModelContract):
        family = MyFamily
        options = {"width": 16}

`ModelContract` asks the networks as a language model (`family.logits` gives (N, V) logits), `DenoiserContract` as a
denoiser (`family.denoise` gives as many values as it gets).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from tests.contracts.task_contract import HEAVY
from training.errors import CheckpointError, ConfigError
from training.machine.seeding import seed_everything
from training.models.cost import count
from training.models.denoiser import LABELS, DenoiserFamily
from training.models.protocol import ModelFamily
from training.settings.declarations import leaves
from training.settings.tree import ModelOptions

VOCABULARY = 11
ARTEFACTS = {"tokenizer": {"of": "another form than APT's"}, "note": {"kept": ["as", "it", "is"]}}
TOKENS_BT = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 0]])
POSITIONS_N = torch.tensor([1, 3, 5, 6])


_RECOMPUTES = (
    "gradient_checkpointing", "gradient_checkpointing_enable", "activation_checkpointing_enable",
    "enable_gradient_checkpointing",
)  # fmt: skip


class AnyModelContract:
    """Rules for families with inputs of any kind."""

    family: ClassVar[type[ModelFamily]]
    options: ClassVar[Mapping[str, Any]] = {}
    keeps_options: ClassVar[bool] = True
    """False: the saved form is another program's, which has no place for the options."""
    vocabulary: ClassVar[int | None] = None

    def output(self, model: Callable[..., Any]) -> torch.Tensor:
        """Run a network, in any wrapper, on a fixed input."""
        raise NotImplementedError

    def given(self) -> ModelOptions:
        """Return the options before the data completes them."""
        name = f"{self.family.__module__}:{self.family.__qualname__}"
        return self.family.Options.model_validate({"model": name, **self.options})

    def settings(self) -> ModelOptions:
        """Return the options as the data completes them."""
        raise NotImplementedError

    def build(self, seed: int = 0) -> nn.Module:
        seed_everything(seed)
        return self.family().build(self.settings(), self.vocabulary)

    # -- declarations ----------------------------------------------------------------------------------------------

    def test_its_options_are_a_frozen_section_in_which_each_setting_is_described(self) -> None:
        options = self.family.Options
        assert issubclass(options, ModelOptions)
        assert options.model_config.get("frozen") is True
        assert options.model_config.get("extra") == "forbid"
        for name, field in leaves(options):
            assert field.description, name
            assert field.description.strip().endswith("."), f"{name}: a sentence ends with a full stop"
            assert not field.is_required(), f"{name}: every setting has a default"

    @pytest.mark.slow
    def test_importing_it_brings_in_nothing_heavy(self) -> None:
        program = (
            f"import sys; from {self.family.__module__} import {self.family.__qualname__} as family\n"
            f"family.Options(); family()\nprint([m for m in {HEAVY} if m in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout.strip(), done.stderr) == ("[]", "")

    # -- the network -----------------------------------------------------------------------------------------------

    def test_the_seed_alone_decides_the_first_weights(self) -> None:
        one, same, other = (self.build(seed).state_dict() for seed in (0, 0, 1))
        assert all(torch.equal(one[name], same[name]) for name in one)
        assert any(not torch.equal(one[name], other[name]) for name in one)

    def test_every_trained_parameter_is_in_just_one_group(self) -> None:
        model = self.build()
        groups = self.family().parameter_groups(model)
        sorted_ids = [id(parameter) for group in groups for parameter in group]
        assert sorted(sorted_ids) == sorted(id(p) for p in model.parameters() if p.requires_grad)
        assert all(parameter.ndim == 2 for parameter in groups.matrices), "Muon orthogonalises matrices"
        assert all(parameter.ndim < 2 for parameter in groups.norms)

    def test_recomputed_activations_give_the_same_gradients_or_are_refused(self) -> None:
        model, recomputing = self.build().train(), self.build().train()
        with contextlib.ExitStack() as refused:
            if not any(hasattr(recomputing, name) for name in _RECOMPUTES):
                refused.enter_context(pytest.raises(ConfigError, match="gradient_checkpointing"))
            self.family().recompute_activations(recomputing)
            self._gradients_agree(model, recomputing)

    def _gradients_agree(self, model: nn.Module, recomputing: nn.Module) -> None:
        for network in (model, recomputing):
            torch.autograd.backward(self.output(network).square().sum())
        for one, other in zip(model.parameters(), recomputing.parameters(), strict=True):
            assert one.grad is not None
            assert other.grad is not None
            assert torch.allclose(one.grad, other.grad, rtol=1e-5, atol=1e-6)

    def test_its_cost_counts_what_is_built(self) -> None:
        cost = self.family().cost(self.settings(), self.vocabulary)
        assert (cost is not None) == self.family.has_closed_form
        if cost is not None:
            shapes = {name: tuple(parameter.shape) for name, parameter in self.build().named_parameters()}
            assert dict(cost.shapes) == shapes
            assert count(cost) == sum(parameter.numel() for parameter in self.build().parameters())

    def test_it_is_described_in_one_line(self) -> None:
        line = self.family().describe(self.settings(), 1234)
        assert "1,234" in line
        assert "\n" not in line

    # -- files -------------------------------------------------------------------------------------------------------

    def save(self, directory: Path) -> nn.Module:
        model = self.build()
        self.family().save(directory, model, self.settings(), self.vocabulary, ARTEFACTS)
        return model

    def test_what_is_saved_is_read_back_exactly(self, tmp_path: Path) -> None:
        model = self.save(tmp_path / "model")
        read = self.family().load(tmp_path / "model")
        state, found = model.state_dict(), read.module.state_dict()
        assert state.keys() == found.keys()
        assert all(torch.equal(state[name], found[name]) for name in state)
        assert read.vocabulary == self.vocabulary
        assert {name: read.artefacts[name] for name in ARTEFACTS} == ARTEFACTS
        assert read.options == self.settings() or not self.keeps_options
        assert read.module.training is False

    def test_saving_replaces_an_older_model_whole(self, tmp_path: Path) -> None:
        self.save(tmp_path / "model")
        (tmp_path / "model" / "left").touch()
        self.save(tmp_path / "model")
        assert not (tmp_path / "model" / "left").exists()
        assert [path.name for path in tmp_path.iterdir()] == ["model"]

    def test_a_damaged_model_is_refused_in_one_line(self, tmp_path: Path) -> None:
        self.save(tmp_path / "model")
        for path in sorted((tmp_path / "model").iterdir()):
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
            with pytest.raises(CheckpointError) as refused:
                self.family().load(tmp_path / "model")
            assert "\n" not in str(refused.value)
            path.write_bytes(content)
        self.family().load(tmp_path / "model")

    # -- under transformers' Trainer -------------------------------------------------------------------------------

    def test_what_transformers_trains_has_the_same_parameters_and_outputs(self) -> None:
        family, model = self.family(), self.build().eval()
        form = family.transformers_form(model).eval()
        assert {id(p) for p in form.parameters()} == {id(p) for p in model.parameters()}
        assert torch.allclose(self.output(model), self.output(family.called(form)), rtol=1e-5, atol=1e-6)


class ModelContract(AnyModelContract):
    """Inherit and set `family`; `options` where the default network is large."""

    vocabulary: ClassVar[int | None] = VOCABULARY

    def logits(self, model: Callable[..., Any], tokens_BT: torch.Tensor, positions_N: torch.Tensor) -> torch.Tensor:
        return self.family().logits(model, {"tokens": tokens_BT, "positions": positions_N})

    def output(self, model: Callable[..., Any]) -> torch.Tensor:
        return self.logits(model, TOKENS_BT, POSITIONS_N)

    def settings(self) -> ModelOptions:
        return self.family().completed(self.given(), VOCABULARY)

    def test_it_gives_logits_for_the_positions_asked_for(self) -> None:
        logits_NV = self.logits(self.build().eval(), TOKENS_BT, POSITIONS_N)
        assert logits_NV.shape == (len(POSITIONS_N), VOCABULARY)
        assert bool(logits_NV.isfinite().all())

    def test_no_position_sees_what_comes_after_it(self) -> None:
        model, changed_BT = self.build().eval(), TOKENS_BT.clone()
        changed_BT[:, 2:] = 9
        before = torch.tensor([0, 1, 4, 5])
        assert torch.allclose(self.logits(model, TOKENS_BT, before), self.logits(model, changed_BT, before), atol=1e-6)


class DenoiserContract(AnyModelContract):
    """Inherit and set `family`, the `shape` of a sample and the number of `classes`; `options` as for any family."""

    family: ClassVar[type[DenoiserFamily]]
    shape: ClassVar[tuple[int, ...]]
    classes: ClassVar[int | None] = None
    other_shape: ClassVar[tuple[int, ...]]
    """Shape of samples that the network cannot take."""

    def denoised(
        self, model: Callable[..., Any], sample: torch.Tensor, time: torch.Tensor, labels: torch.Tensor | None
    ) -> torch.Tensor:
        return self.family().denoise(model, sample, time, {} if labels is None else {LABELS: labels})

    def inputs(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Return three noisy samples, their levels and their classes; the last one's means no class."""
        sample = torch.randn(3, *self.shape, generator=torch.Generator().manual_seed(5))
        labels = None if self.classes is None else torch.tensor([0, self.classes - 1, self.classes])
        return sample, torch.tensor([0.0, 17.5, 999.0]), labels

    def output(self, model: Callable[..., Any]) -> torch.Tensor:
        return self.denoised(model, *self.inputs())

    def settings(self) -> ModelOptions:
        return self.family().completed_for(self.given(), self.shape, self.classes, {})

    def test_it_gives_as_many_values_as_it_gets(self) -> None:
        output = self.output(self.build().eval())
        assert output.shape == (3, *self.shape)
        assert bool(output.isfinite().all())

    def test_samples_of_a_batch_do_not_see_each_other(self) -> None:
        model = self.build().eval()
        sample, time, labels = self.inputs()
        alone = [
            self.denoised(model, sample[n : n + 1], time[n : n + 1], None if labels is None else labels[n : n + 1])
            for n in range(len(sample))
        ]
        assert torch.allclose(self.output(model), torch.cat(alone), rtol=1e-4, atol=1e-5)

    def test_level_and_class_change_the_output(self) -> None:
        model = self.build().eval()
        sample, time, labels = self.inputs()
        before = self.denoised(model, sample, time, labels)
        assert not torch.allclose(before, self.denoised(model, sample, time + 100.0, labels))
        if labels is not None:
            others = torch.full_like(labels, 1)
            changed = self.denoised(model, sample, time, others)
            assert not torch.allclose(before, changed)

    def test_data_that_does_not_fit_is_refused_in_one_line(self) -> None:
        for shape, classes in ((self.other_shape, self.classes), (self.shape, (self.classes or 0) + 1)):
            with pytest.raises(ConfigError) as refused:
                self.family().completed_for(self.settings(), shape, classes, {})
            assert "\n" not in str(refused.value)
