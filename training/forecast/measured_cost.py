"""Sizes, memory and work of any network, measured by running it on fake tensors.

A fake tensor (`torch._subclasses.FakeTensorMode`) has a shape and a dtype and no memory. The network is built and run
with them, forward and backward, and every allocated and freed storage is counted: no closed form is needed, and a model
of any size can be measured on any machine. Internal memory of PyTorch's kernels is not included.
"""

from __future__ import annotations

import contextlib
import random
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from training.errors import ConfigError
from training.models.cost import BatchShape, ModelCost, PassBytes, Shape
from training.models.protocol import ModelFamily
from training.tasks.objective import Batch, Objective
from training.tasks.protocol import DataPreview, Prepared


class MeasuredCost:
    """`ModelCost` of any objective's network.

    Args:
        objective: objective that builds the network, collates and computes the loss.
        family: model family that turns on gradient checkpointing and groups the parameters.
        samples: dataset for the batches.
        longest: numbers of the samples, longest first.
        fake: whether tensors are fake; real ones take the memory that they are counted for.

    Raises:
        ConfigError: the network does not run on fake tensors, because its own code reads values.
    """

    def __init__(
        self, objective: Objective, family: ModelFamily, samples: Any, longest: Sequence[int], fake: bool = True
    ) -> None:
        self._objective, self._family, self._fake = objective, family, fake
        self._samples, self._longest = samples, longest
        self._measure = lru_cache(maxsize=64)(self._run)
        with self._tensors() as mode:
            model = self._build(mode, checkpointing=False)
            names = {id(parameter): name for name, parameter in model.named_parameters()}
            self.frozen = frozenset(name for name, p in model.named_parameters() if not p.requires_grad)
            saved = family.saved_names(model)
            self.unsaved = frozenset(names.values()) - saved if saved is not None else frozenset()
            self.shapes: Mapping[str, Shape] = {name: tuple(p.shape) for name, p in model.named_parameters()}
            self.matrices = frozenset(names[id(p)] for p in family.parameter_groups(model).matrices)
            self.buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
        self._operations = self._measured_operations()

    def pass_bytes(self, batch: BatchShape, *, half: bool, on_cuda: bool, checkpointing: bool) -> PassBytes:
        """See `ModelCost.pass_bytes`: the longest samples, whatever the batch's width."""
        return PassBytes(self._measure(batch.samples, half, checkpointing), 0)

    def work(self, batch: BatchShape) -> float:
        """See `ModelCost.work`: in proportion to the batch's padded size."""
        operations, size = self._operations
        return operations * batch.padded_tokens / size if operations else float(batch.samples)

    @contextlib.contextmanager
    def _tensors(self) -> Iterator[FakeTensorMode | None]:
        """Yield the mode in which tensors are made; None: they are real. Nothing is drawn from the caller's generators.

        Raises:
            ConfigError: the network does not run on fake tensors.
        """
        with _own_draws():
            if not self._fake:
                yield None
                return
            with _explained():
                yield FakeTensorMode(allow_non_fake_inputs=True)

    def _build(self, mode: FakeTensorMode | None, checkpointing: bool) -> nn.Module:
        with mode or contextlib.nullcontext(), _moved_and_copied(mode):
            model = self._objective.build_model()
        if checkpointing:
            self._family.recompute_activations(model)
        return model.train()

    def _batch(self, mode: FakeTensorMode | None, count: int) -> Batch:
        chosen = [self._longest[n % len(self._longest)] for n in range(count)]
        batch = self._objective.collate([self._samples[int(number)] for number in chosen])
        if mode is None:
            return batch
        tensors = tree_map_only(Tensor, mode.from_tensor, batch.tensors)
        return Batch(tensors, batch.weight, batch.tokens, batch.num_samples)

    def _run(self, count: int, half: bool, checkpointing: bool) -> int:
        """Return the largest sum of storages in a forward and backward pass, without weights and their gradients."""
        with self._tensors() as mode:
            model = self._build(mode, checkpointing)
            batch = self._batch(mode, count)
            for parameter in model.parameters():
                if parameter.requires_grad:  # gradients of weights are counted elsewhere
                    parameter.register_post_accumulate_grad_hook(_drop_gradient)  # type: ignore[no-untyped-call]
            counter = _StorageCounter([*model.parameters(), *model.buffers()])
            autocast = torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext()
            with mode or contextlib.nullcontext(), counter:
                for tensor in batch.tensors.values():
                    counter.count(tensor)
                with autocast:
                    loss = self._objective.loss(model, batch).loss
                torch.autograd.backward(loss)
            return counter.peak

    def _measured_operations(self) -> tuple[float, int]:
        """Return (operations of a forward pass over one sample, its padded size)."""
        with self._tensors() as mode:
            model, batch = self._build(mode, checkpointing=False), self._batch(mode, 1)
            counter = FlopCounterMode(display=False)
            with mode or contextlib.nullcontext(), counter, torch.no_grad():
                self._objective.loss(model, batch)
            return float(counter.get_total_flops()), max(1, batch.tokens)


def preview_of(prepared: Prepared) -> DataPreview:
    """Return the facts of prepared data that a dry run prints."""
    lengths, weights = (f(prepared.train) for f in (prepared.objective.lengths, prepared.objective.weights))
    has_tokens = bool(lengths.any())
    return DataPreview(
        num_samples=len(prepared.train),
        num_tokens=int((lengths - 1).sum()) if has_tokens else 0,
        vocabulary=prepared.vocabulary,
        longest=[(int(lengths[n]) - 1 if has_tokens else 1, int(weights[n])) for n in _longest(prepared)],
    )


def cost_of(prepared: Prepared, may_compute: bool = False) -> ModelCost:
    """Return the cost of a task's network: in closed form if its family has one, else measured.

    Args:
        prepared: objective, data and model family.
        may_compute: measure on real tensors where the network does not run on fake ones.

    Raises:
        ConfigError: the network does not run on fake tensors, and may not compute.
    """
    cost = prepared.family.cost(prepared.config.model, prepared.vocabulary)
    if cost is not None:
        return cost
    parts = prepared.objective, prepared.family, prepared.train, _longest(prepared)
    try:
        return MeasuredCost(*parts)
    except ConfigError:
        if not may_compute:
            raise
        return MeasuredCost(*parts, fake=False)


def _longest(prepared: Prepared) -> list[int]:
    """Return the numbers of the longest samples, as many as a micro-batch holds."""
    lengths = prepared.objective.lengths(prepared.train)
    longest: list[int] = np.argsort(-lengths, kind="stable")[: prepared.config.run.batch_size].tolist()
    return longest


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


@contextlib.contextmanager
def _own_draws() -> Iterator[None]:
    """Enter a fake tensor mode that leaves the caller's random generators unchanged."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def _moved_and_copied(mode: FakeTensorMode | None) -> Iterator[None]:
    """Let modules of fake tensors be moved and copied while they are built: PEFT does both.

    `module.to(…)` that changes nothing fails in torch, which puts the same tensors in again ("Couldn't swap").
    `copy.deepcopy` copies the mode too, and memory that is not there: the process would crash at its end.
    """
    if mode is None:
        yield
        return
    apply = nn.Module._apply

    def apply_where_it_changes(module: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        tensors = [*module.parameters(recurse), *module.buffers(recurse)]
        if all(function(tensor) is tensor for tensor in tensors):
            return module
        return apply(module, function, recurse)  # type: ignore[no-untyped-call]

    def copied(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
        if id(tensor) not in memo:
            with torch.no_grad(), mode:
                made = tensor.detach().clone()
                is_parameter = isinstance(tensor, nn.Parameter)
                memo[id(tensor)] = nn.Parameter(made, tensor.requires_grad) if is_parameter else made
        found: Tensor = memo[id(tensor)]
        return found

    nn.Module._apply = apply_where_it_changes  # type: ignore[method-assign]
    FakeTensor.__deepcopy__ = copied  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module._apply = apply  # type: ignore[method-assign]
        del FakeTensor.__deepcopy__  # Tensor's own shows again


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, NotImplementedError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"the model's memory cannot be computed without training it ({reason}); --estimate measures it"
        ) from error


class _StorageCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counter of the bytes of storages that operations allocate and free, with their peak."""

    def __init__(self, known: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._live = self.peak = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet(tensor.untyped_storage() for tensor in known)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.count(leaf)
        return result

    def count(self, tensor: Tensor) -> None:
        """Count a tensor's storage until it is freed; that of a view is already counted."""
        storage = tensor.untyped_storage()
        if storage in self._seen:
            return
        self._seen.add(storage)
        size = storage.nbytes()
        self._live += size
        self.peak = max(self.peak, self._live)
        weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self._live -= size
