"""What a model family is: how a network is built, grouped for the optimizers, saved, loaded and costed.

A family decides nothing about training. Any task whose inputs a family takes trains it, on any backend. No torch at
import: `--help` and `--list-models` read this module.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from training.errors import CheckpointError, ConfigError
from training.models.card import FamilyCard, PublishedModel, family_card
from training.settings.tree import ModelOptions
from training.storage.atomic import make_temporary, put_in_place, write_atomically

if TYPE_CHECKING:
    from torch import Tensor, nn

    from training.models.cost import ModelCost

Artefacts = Mapping[str, Any]
"""Plain data that goes with the weights wherever they go, by name: `{"tokenizer": {…}}`."""

DESCRIPTION_NAME, WEIGHTS_NAME, ARTEFACTS_NAME = "model.json", "model.safetensors", "artefacts.json"
FORMAT, VERSION = "apt-trainer-model", 1


class ParameterGroups(NamedTuple):
    """The trained parameters of a model by what optimizers make of them. Every parameter is in just one group."""

    matrices: list[nn.Parameter]
    """Matrices between hidden features: Muon's, or AdamW with weight decay."""
    embeddings: list[nn.Parameter]
    """Embeddings, output heads and other tables: always AdamW, with weight decay."""
    norms: list[nn.Parameter]
    """Norms and biases: AdamW without weight decay."""


@dataclass(frozen=True)
class LoadedModel:
    """A model read from a directory, with all that belongs to it."""

    module: nn.Module
    """In eval mode, on the CPU."""
    options: ModelOptions
    vocabulary: int | None
    artefacts: Artefacts = field(default_factory=dict)


class ModelFamily(Protocol):
    """One kind of network. Third parties register theirs as an `apt_trainer.models` entry point."""

    name: ClassVar[str]
    Options: ClassVar[type[ModelOptions]]
    """Settings of the network: the config's section `model`, and a group of flags."""
    inputs: ClassVar[str]
    """What the network reads: "tokens", "vectors", "images"; a task with other inputs refuses it."""

    def describe(self, options: ModelOptions, num_parameters: int) -> str:
        """Describe a network in a few words: "APT 4,200,000 parameters (autopoietic attention)"."""
        ...

    def completed(self, options: ModelOptions, vocabulary: int | None) -> ModelOptions:
        """Return the options with what the data decides (the vocabulary's size) filled in.

        Raises:
            ConfigError: the options contradict the data.
        """
        ...

    def build(self, options: ModelOptions, vocabulary: int | None) -> nn.Module:
        """Return a new network; its weights are drawn from torch's global generator, which the caller seeds.

        Args:
            options: an instance of `Options`.
            vocabulary: number of tokens; None: the task has no tokens.
        """
        ...

    def parameter_groups(self, model: nn.Module) -> ParameterGroups:
        """Sort the parameters that are trained."""
        ...

    def recompute_activations(self, model: nn.Module) -> None:
        """Switch gradient checkpointing on.

        Raises:
            ConfigError: this network cannot recompute its activations.
        """
        ...

    def save(
        self, directory: Path, model: nn.Module, options: ModelOptions, vocabulary: int | None, artefacts: Artefacts
    ) -> None:
        """Write a finished model as a directory, whole or not at all; an older one of that name is replaced.

        Raises:
            OSError: the disk is full or refuses.
        """
        ...

    def load(self, directory: Path) -> LoadedModel:
        """Read what `save` wrote.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        ...

    has_closed_form: ClassVar[bool]
    """Whether `cost` computes sizes and memory; else they are measured."""

    def cost(self, options: ModelOptions, vocabulary: int | None) -> ModelCost | None:
        """Return sizes, memory and work of the network in closed form; None: the size of the vocabulary is missing."""
        ...

    def open_sizes(self, options: ModelOptions) -> Iterable[str]:
        """Yield lines about the size of a network whose vocabulary is not known yet."""
        ...

    def card(self, published: PublishedModel) -> FamilyCard:
        """Return the family's part of the card of a model that is published: the network, and how it is loaded."""
        ...

    # Under transformers' Trainer.

    def transformers_form(self, model: nn.Module) -> nn.Module:
        """Return what transformers' Trainer is given: a `PreTrainedModel` that shares the parameters, or the model."""
        ...

    def called(self, wrapped: nn.Module) -> Callable[..., Any]:
        """Return `transformers_form`'s module, in any wrapper, as something that an objective calls like the model."""
        ...

    def transformers_files(self, model: nn.Module, artefacts: Artefacts) -> Mapping[str, str]:
        """Return the text files, by name, with which a checkpoint opens as a transformers model; empty: none."""
        ...


class BaseFamily:
    """Defaults for a family: inherit it and write `build`. Also the family of a module that nobody declared.

    The saved form is `model.json` (family, options), `model.safetensors` and `artefacts.json`.
    """

    name: ClassVar[str] = "module"
    Options: ClassVar[type[ModelOptions]] = ModelOptions
    inputs: ClassVar[str] = "tokens"
    has_closed_form: ClassVar[bool] = False

    def describe(self, options: ModelOptions, num_parameters: int) -> str:
        """See `ModelFamily.describe`."""
        return f"{self.name} {num_parameters:,} parameters"

    def completed(self, options: ModelOptions, vocabulary: int | None) -> ModelOptions:
        """See `ModelFamily.completed`: nothing is left open."""
        return options

    def build(self, options: ModelOptions, vocabulary: int | None) -> nn.Module:
        """See `ModelFamily.build`."""
        raise ConfigError(f"model={self.name}: a module of your own is built by your own code, not from settings")

    def parameter_groups(self, model: nn.Module) -> ParameterGroups:
        """See `ModelFamily.parameter_groups`: sorted by shape and by the kind of module (`group_by_module`)."""
        from training.models.parameter_groups import group_by_module

        return group_by_module(model)

    def recompute_activations(self, model: nn.Module) -> None:
        """See `ModelFamily.recompute_activations`: by transformers' method or by an attribute of that name."""
        for method in ("activation_checkpointing", "gradient_checkpointing"):  # transformers' new name, and the old
            if (enable := getattr(model, f"{method}_enable", None)) is not None:
                try:
                    # Reentrant checkpointing loses gradients where no input needs one, and the random state with it.
                    enable(**{f"{method}_kwargs": {"use_reentrant": False}})
                except ValueError as error:
                    raise ConfigError(f"gradient_checkpointing: {error} Turn it off") from error
                return
        if not hasattr(model, "gradient_checkpointing"):
            raise ConfigError(
                f"gradient_checkpointing: {type(model).__name__} has neither gradient_checkpointing_enable() nor an "
                "attribute gradient_checkpointing; turn it off"
            )
        setattr(model, "gradient_checkpointing", True)  # noqa: B010  # mypy takes a module's attributes for tensors

    def save(
        self, directory: Path, model: nn.Module, options: ModelOptions, vocabulary: int | None, artefacts: Artefacts
    ) -> None:
        """See `ModelFamily.save`."""
        from safetensors.torch import save_file

        temporary = make_temporary(directory)
        described = {
            "format": FORMAT, "version": VERSION, "family": options.model, "vocabulary": vocabulary,
            "options": options.model_dump(mode="json"),
        }  # fmt: skip
        save_file(_weights(model), temporary / WEIGHTS_NAME, metadata={"format": "pt"})
        for name, content in ((DESCRIPTION_NAME, described), (ARTEFACTS_NAME, dict(artefacts))):
            text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
            write_atomically(temporary / name, text.encode(), durable=True)
        put_in_place(temporary, directory)

    def load(self, directory: Path) -> LoadedModel:
        """See `ModelFamily.load`."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        described = read_description(directory)
        try:
            options = self.Options.model_validate(described["options"])
            artefacts = json.loads((directory / ARTEFACTS_NAME).read_text(encoding="utf-8"))
            vocabulary = described["vocabulary"]
            module = self.build(options, vocabulary)
            _load_weights(module, load_file(directory / WEIGHTS_NAME))
        except (KeyError, ValueError, OSError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"{directory}: damaged model directory ({str(error).splitlines()[0]})") from error
        return LoadedModel(module.eval(), options, vocabulary, artefacts)

    def cost(self, options: ModelOptions, vocabulary: int | None) -> ModelCost | None:
        """See `ModelFamily.cost`: measured."""
        return None

    def open_sizes(self, options: ModelOptions) -> Iterable[str]:
        """See `ModelFamily.open_sizes`."""
        yield "parameters and memory: not known from the settings alone; --estimate measures them"

    def card(self, published: PublishedModel) -> FamilyCard:
        """See `ModelFamily.card`: the name, and the code that loads the directory with this project."""
        return family_card(self.name, published)

    def transformers_form(self, model: nn.Module) -> nn.Module:
        """See `ModelFamily.transformers_form`."""
        return model

    def called(self, wrapped: nn.Module) -> Callable[..., Any]:
        """See `ModelFamily.called`."""
        return wrapped

    def transformers_files(self, model: nn.Module, artefacts: Artefacts) -> Mapping[str, str]:
        """See `ModelFamily.transformers_files`."""
        return {}


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the entries of a model's state on the CPU; a tied one once, under its first name.

    They are copies: an engine may hold all parameters in one piece of memory (DeepSpeed does), which is no file.
    """
    entries = model.state_dict(keep_vars=True)
    first = {id(entry): name for name, entry in reversed(entries.items())}
    return {
        name: entries[name].detach().cpu().contiguous().clone() for name in entries if first[id(entries[name])] == name
    }


def _load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a model what `_weights` returned.

    Raises:
        ValueError, RuntimeError: names or shapes do not fit.
    """
    entries = model.state_dict(keep_vars=True)
    given = {id(entries[name]) for name in weights if name in entries}
    missing = [name for name, entry in entries.items() if id(entry) not in given]
    if missing or weights.keys() - entries.keys():
        raise ValueError(f"the weights do not fit the model ({min({*missing, *(weights.keys() - entries.keys())})})")
    model.load_state_dict(weights, strict=False)  # the names that are missing are those of tied entries


def read_description(directory: Path) -> dict[str, Any]:
    """Read `model.json` of a directory that `BaseFamily.save` wrote.

    Raises:
        CheckpointError: it is missing, damaged or of another format.
    """
    path = directory / DESCRIPTION_NAME
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: it cannot be read ({error}); this is not a model directory of ours") from error
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not the description of a model (no format {FORMAT!r})")
    if described.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: version {described.get('version')!r} cannot be read (this program reads {VERSION})"
        )
    return described
