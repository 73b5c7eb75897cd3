"""Grouping of any module's parameters into those that Muon may train and the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from training.models.protocol import ParameterGroups


def group_by_module(model: nn.Module, keep_from_muon: frozenset[str] = frozenset()) -> ParameterGroups:
    """Group the trained parameters of a module by shape and by the kind of module that they belong to.

    Every matrix counts as one between hidden features unless it is an embedding, an output head (tied or not) or named
    in `keep_from_muon`. The order within a group is that of `model.parameters()`.

    Args:
        model: any module; a transformers model names its own output head.
        keep_from_muon: further names of matrices that stay with AdamW.
    """
    tables = {id(parameter) for parameter in _tables(model)}
    tables |= {id(parameter) for name, parameter in model.named_parameters() if name in keep_from_muon}
    groups = ParameterGroups([], [], [])
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2:
            groups.norms.append(parameter)
        elif parameter.ndim == 2 and id(parameter) not in tables:
            groups.matrices.append(parameter)
        else:
            groups.embeddings.append(parameter)  # Muon orthogonalises matrices; convolution kernels stay with AdamW
    return groups


def _tables(model: nn.Module) -> Iterator[Tensor]:
    """Yield the weights of embeddings and output heads."""
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    yield from (module.weight for module in embeddings)
    output: Callable[[], object] | None = getattr(model, "get_output_embeddings", None)
    head = output() if output is not None else None
    if isinstance(head, nn.Linear):
        yield head.weight
        return
    # A layer with one score for each row of an embedding is an output head, whatever its name.
    sizes = {module.num_embeddings for module in embeddings}
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.out_features in sizes and _is_last(model, module):
            yield module.weight


def _is_last(model: nn.Module, module: nn.Linear) -> bool:
    """Return True if `module` is the last linear layer of the model: hidden layers may have a vocabulary's size too."""
    linear = [found for found in model.modules() if isinstance(found, nn.Linear)]
    return linear[-1] is module
