"""Protocol of model families: how a network is built, grouped for the optimizers, saved, loaded and costed.

A family decides nothing about training. Any task trains any family that accepts the task's inputs, on any backend. No
torch at import: `--help` and `--list-models` read this module.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from training.errors import CheckpointError, ConfigError, unreadable
from training.language.messages import Message
from training.models.card import FamilyCard, PublishedModel, family_card
from training.settings.tree import ModelOptions
from training.storage.atomic import replacing_directory
from training.storage.json_files import DamagedFileError, as_declared, read_json
from training.storage.tensor_files import load_tensors, save_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerFast

    from training.models.cost import ModelCost

Artefacts = Mapping[str, Any]
"""Plain data that is saved with the weights everywhere, by name: `{"tokenizer": {…}}`."""

DESCRIPTION_NAME, WEIGHTS_NAME, ARTEFACTS_NAME = "model.json", "model.safetensors", "artefacts.json"
FORMAT, VERSION = "apt-trainer-model", 1
OWN_MODULE = "module"
"""Name, in a saved model, of a module that the caller's code built and no family can."""


class ParameterGroups(NamedTuple):
    """Trained parameters of a model, grouped by how optimizers treat them. Every parameter is in exactly one group."""

    matrices: list[nn.Parameter]
    """Matrices between hidden features: trained by Muon, or by AdamW with weight decay."""
    embeddings: list[nn.Parameter]
    """Embeddings, output heads and other tables: always trained by AdamW, with weight decay."""
    norms: list[nn.Parameter]
    """Norms and biases: trained by AdamW without weight decay."""


@dataclass(frozen=True)
class LoadedModel:
    """Model read from a directory, with everything that belongs to it."""

    module: nn.Module
    """Network in eval mode, on the CPU."""
    options: ModelOptions
    vocabulary: int | None
    artefacts: Artefacts = field(default_factory=dict)


class SavedProof(NamedTuple):
    """Result of comparing a finished model's files with the model that was trained."""

    figures: Mapping[str, Any] = {}
    """Plain data by group, for the report."""
    lines: Sequence[str] = ()
    """Lines for the user."""
    warnings: Sequence[str] = ()
    """Lines about differences that matter."""


class ModelFamily(Protocol):
    """Protocol of a kind of network. Third parties register theirs as an `apt_trainer.models` entry point."""

    name: ClassVar[str]
    Options: ClassVar[type[ModelOptions]]
    """Settings of the network: the config's section `model`, and a group of flags."""
    inputs: ClassVar[str]
    """Kind of input of the network: "tokens", "noisy samples"; a task with other inputs refuses the family."""

    def describe(self, options: ModelOptions, num_parameters: int) -> str:
        """Describe a network in a few words: "APT 4,200,000 parameters (autopoietic attention)"."""
        ...

    def completed(self, options: ModelOptions, vocabulary: int | None) -> ModelOptions:
        """Return the options, completed with what the data determines (the vocabulary's size).

        Raises:
            ConfigError: the options contradict the data.
        """
        ...

    def build(self, options: ModelOptions, vocabulary: int | None) -> nn.Module:
        """Build a network; its weights are drawn from torch's global generator, which the caller seeds.

        Args:
            options: an instance of `Options`.
            vocabulary: number of tokens; None: the task has no tokens.
        """
        ...

    def rebuild(self, options: ModelOptions, vocabulary: int | None, artefacts: Artefacts) -> nn.Module:
        """Build a network whose saved weights follow: it may leave out what only a start needs."""
        ...

    def logits(self, model: Callable[..., Any], tensors: Mapping[str, Tensor]) -> Tensor:
        """Compute the logits (N, V) of a batch of `LanguageModeling` at its positions.

        Args:
            model: the network in any wrapper, or what `called` returned.
            tensors: `tokens` (B, T) and `positions` (N,); for packed samples also `position_ids` and `segments` (B, T).

        Raises:
            ConfigError: the network cannot keep packed samples apart.
        """
        ...

    def stream(
        self, model: nn.Module, tokens: Sequence[int], max_new_tokens: int, choose: Callable[[Tensor], int]
    ) -> Iterator[int]:
        """Yield new tokens after a prompt, one by one.

        Args:
            model: bare network; it runs in eval mode.
            tokens: ids of the prompt.
            max_new_tokens: limit; it ends earlier where the network can read no further.
            choose: function from the logits (V,) in fp32 to the next token.

        Raises:
            UserError: the prompt is longer than the network reads, or the network generates no tokens.
        """
        ...

    def context_length(self, model: nn.Module, options: ModelOptions) -> int | None:
        """Return how many tokens the network reads, a prompt and its answer together; None: it names no limit."""
        ...

    def stop_tokens(self, model: nn.Module) -> Collection[int]:
        """Return the tokens that end an answer according to the network's own files, beside those of its tokenizer."""
        ...

    def parameter_groups(self, model: nn.Module) -> ParameterGroups:
        """Group the trained parameters."""
        ...

    def saved_names(self, model: nn.Module) -> frozenset[str] | None:
        """Return the entries of the state that a checkpoint holds, such as adapters; None: all of them."""
        ...

    def local_files(self, options: ModelOptions) -> Sequence[Path]:
        """Return the files and directories on this machine that the network starts from.

        Options that name one are marked `"goes_along"` in their `json_schema_extra`: a job that is trained elsewhere
        takes it along.
        """
        ...

    def shape_of(self, base: str) -> Mapping[str, Any]:
        """Return the settings of the network in a directory, by name, where the options hold its shape.

        Raises:
            CheckpointError: there is no such model, or it is damaged.
        """
        ...

    def data_settings_of(self, base: str) -> Mapping[str, Any]:
        """Return the settings of the data, by name, by which the network in a directory was trained: noise levels.

        Raises:
            UserError: there is no such model, it is damaged, or it was trained by settings that there are not here.
        """
        ...

    def random_draws(self, options: ModelOptions) -> Mapping[str, float]:
        """Return the settings by which a forward pass in training draws random numbers, such as dropout.

        Raises:
            ConfigError: the model that training starts from cannot be read.
        """
        ...

    def starting_artefacts(self, options: ModelOptions) -> Artefacts:
        """Return the artefacts of the model that training starts from, such as its tokenizer; empty: none."""
        ...

    def tokenizer(self, artefacts: Artefacts, where: str) -> PreTrainedTokenizerFast:
        """Return the tokenizer in a model's artefacts.

        Args:
            artefacts: plain data of a checkpoint, a finished model or a run.
            where: file or directory, for errors.

        Raises:
            CheckpointError: there is none, or it is damaged.
        """
        ...

    def artefacts_of(self, model: nn.Module) -> Artefacts:
        """Return plain data about a built network that is saved with its weights."""
        ...

    def recompute_activations(self, model: nn.Module) -> None:
        """Turn on gradient checkpointing.

        Raises:
            ConfigError: this network cannot recompute its activations.
        """
        ...

    def save(
        self, directory: Path, model: nn.Module, options: ModelOptions, vocabulary: int | None, artefacts: Artefacts
    ) -> None:
        """Write a finished model as a directory, atomically; an older one of that name is replaced.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        ...

    def prove_saved(
        self,
        directory: Path,
        model: nn.Module,
        options: ModelOptions,
        batches: Callable[[], Sequence[Mapping[str, Tensor]]],
    ) -> SavedProof:
        """Compare what `save` wrote in another form, such as merged adapters, with the model that was trained.

        Args:
            directory: finished model.
            model: bare network with the final weights, on the device of the run.
            options: its options.
            batches: makes the tensors of a few training samples, each a batch of its own.
        """
        ...

    def load(self, directory: Path) -> LoadedModel:
        """Read what `save` wrote.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        ...

    has_closed_form: ClassVar[bool]
    """True if `cost` computes sizes and memory; otherwise they are measured."""
    writes_single_file: ClassVar[bool]
    """True if a run writes final_model.pt too, next to the directory that `save` writes."""

    def cost(self, options: ModelOptions, vocabulary: int | None) -> ModelCost | None:
        """Return sizes, memory and work of the network in closed form; None: the vocabulary's size is not known."""
        ...

    def open_sizes(self, options: ModelOptions) -> Iterable[str]:
        """Yield lines about the size of a network whose vocabulary is not known yet."""
        ...

    def card(self, published: PublishedModel) -> FamilyCard:
        """Return the family's part of the card of a model that is published: the network, and how it is loaded."""
        ...

    def whole_text_form(self, model: nn.Module) -> nn.Module:
        """Return the module for an exporter: called with tokens (B, T), it returns logits (B, T, V)."""
        ...

    # The following methods serve transformers' Trainer.

    def transformers_form(self, model: nn.Module) -> nn.Module:
        """Return the module for transformers' Trainer: a `PreTrainedModel` that shares the parameters, or the model."""
        ...

    def called(self, wrapped: nn.Module) -> Callable[..., Any]:
        """Adapt `transformers_form`'s module, in any wrapper, so that an objective can call it like the model."""
        ...

    def transformers_files(self, model: nn.Module, artefacts: Artefacts) -> Mapping[str, str]:
        """Return the text files, by name, that make a checkpoint a transformers model; empty: none."""
        ...


class BaseFamily:
    """Base class of a family: inherit it and write `build`. It also serves modules that have no family.

    The saved form is `model.json` (family, options), `model.safetensors` and `artefacts.json`.
    """

    name: ClassVar[str] = OWN_MODULE
    Options: ClassVar[type[ModelOptions]] = ModelOptions
    inputs: ClassVar[str] = "tokens"
    has_closed_form: ClassVar[bool] = False
    writes_single_file: ClassVar[bool] = True

    def describe(self, options: ModelOptions, num_parameters: int) -> str:
        """See `ModelFamily.describe`."""
        return Message("{name} {count:,} parameters", name=self.name, count=num_parameters)

    def completed(self, options: ModelOptions, vocabulary: int | None) -> ModelOptions:
        """See `ModelFamily.completed`: nothing is left open."""
        return options

    def build(self, options: ModelOptions, vocabulary: int | None) -> nn.Module:
        """See `ModelFamily.build`."""
        raise ConfigError(f"model={self.name}: a module of your own is built by your own code, not from settings")

    def rebuild(self, options: ModelOptions, vocabulary: int | None, artefacts: Artefacts) -> nn.Module:
        """See `ModelFamily.rebuild`: as for a new run."""
        return self.build(options, vocabulary)

    def logits(self, model: Callable[..., Any], tensors: Mapping[str, Tensor]) -> Tensor:
        """See `ModelFamily.logits`: the network is called as `model(tokens_BT, positions_N)`."""
        if "segments" in tensors:
            raise ConfigError(
                f"--packing: a model of the family {self.name} cannot keep packed samples apart; leave it out"
            )
        logits_NV: Tensor = model(tensors["tokens"], tensors["positions"])
        return logits_NV

    def stream(
        self, model: nn.Module, tokens: Sequence[int], max_new_tokens: int, choose: Callable[[Tensor], int]
    ) -> Iterator[int]:
        """See `ModelFamily.stream`: the whole text is read again for each token."""
        import torch

        read, device = list(tokens), next(model.parameters()).device
        was_training = model.training
        model.eval()
        try:
            for _ in range(max_new_tokens):
                last = {"tokens": torch.tensor([read]), "positions": torch.tensor([len(read) - 1])}
                with torch.inference_mode():
                    logits_NV = self.logits(model, {name: tensor.to(device) for name, tensor in last.items()})
                read.append(choose(logits_NV[0].float()))
                yield read[-1]
        finally:
            model.train(was_training)

    def context_length(self, model: nn.Module, options: ModelOptions) -> int | None:
        """See `ModelFamily.context_length`: the option `max_seq_len`, if the family has it."""
        limit: int | None = getattr(options, "max_seq_len", None)
        return limit

    def stop_tokens(self, model: nn.Module) -> Collection[int]:
        """See `ModelFamily.stop_tokens`: none."""
        return ()

    def saved_names(self, model: nn.Module) -> frozenset[str] | None:
        """See `ModelFamily.saved_names`: all."""
        return None

    def local_files(self, options: ModelOptions) -> Sequence[Path]:
        """See `ModelFamily.local_files`: none."""
        return ()

    def shape_of(self, base: str) -> Mapping[str, Any]:
        """See `ModelFamily.shape_of`: the options hold no shape."""
        return {}

    def data_settings_of(self, base: str) -> Mapping[str, Any]:
        """See `ModelFamily.data_settings_of`: any data will do."""
        return {}

    def random_draws(self, options: ModelOptions) -> Mapping[str, float]:
        """See `ModelFamily.random_draws`: the options say."""
        found = {name: getattr(options, name) for name in sorted(options.draws_at_random)}
        return {name: value for name, value in found.items() if value}

    def starting_artefacts(self, options: ModelOptions) -> Artefacts:
        """See `ModelFamily.starting_artefacts`: training starts from nothing."""
        return {}

    def tokenizer(self, artefacts: Artefacts, where: str) -> PreTrainedTokenizerFast:
        """See `ModelFamily.tokenizer`."""
        from training.models.tokenizers import from_artefacts

        return from_artefacts(artefacts, where)

    def artefacts_of(self, model: nn.Module) -> Artefacts:
        """See `ModelFamily.artefacts_of`: the settings say all."""
        return {}

    def parameter_groups(self, model: nn.Module) -> ParameterGroups:
        """See `ModelFamily.parameter_groups`: sorted by shape and by the kind of module (`group_by_module`)."""
        from training.models.parameter_groups import group_by_module

        return group_by_module(model)

    def recompute_activations(self, model: nn.Module) -> None:
        """See `ModelFamily.recompute_activations`: by transformers' method or by an attribute of that name."""
        for method in ("activation_checkpointing", "gradient_checkpointing"):  # transformers' new name, and the old
            if (enable := getattr(model, f"{method}_enable", None)) is not None:
                try:
                    # Reentrant checkpointing loses gradients if no input needs one, and the random state too.
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
        described = {
            "format": FORMAT, "version": VERSION, "family": options.model, "vocabulary": vocabulary,
            "options": options.model_dump(mode="json"),
        }  # fmt: skip
        with replacing_directory(directory) as fresh:
            save_tensors(weights_of(model), fresh / WEIGHTS_NAME, {"format": "pt"})
            for name, content in ((DESCRIPTION_NAME, described), (ARTEFACTS_NAME, dict(artefacts))):
                (fresh / name).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    def prove_saved(
        self,
        directory: Path,
        model: nn.Module,
        options: ModelOptions,
        batches: Callable[[], Sequence[Mapping[str, Tensor]]],
    ) -> SavedProof:
        """See `ModelFamily.prove_saved`: there is one form only, and its checksums are checked where it is read."""
        return SavedProof()

    def load(self, directory: Path) -> LoadedModel:
        """See `ModelFamily.load`."""
        from safetensors import SafetensorError

        described = read_description(directory)
        try:
            options = self.Options.model_validate(described["options"])
            artefacts = read_json(directory / ARTEFACTS_NAME)
            vocabulary = described["vocabulary"]
            module = self.build(options, vocabulary)
            _load_weights(module, load_tensors(directory / WEIGHTS_NAME))
        except DamagedFileError as error:
            raise CheckpointError(str(error)) from error
        except PermissionError as error:
            raise unreadable(Path(error.filename), error) from error
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

    def whole_text_form(self, model: nn.Module) -> nn.Module:
        """See `ModelFamily.whole_text_form`: the network itself."""
        return model

    def transformers_form(self, model: nn.Module) -> nn.Module:
        """See `ModelFamily.transformers_form`."""
        return model

    def called(self, wrapped: nn.Module) -> Callable[..., Any]:
        """See `ModelFamily.called`."""
        return wrapped

    def transformers_files(self, model: nn.Module, artefacts: Artefacts) -> Mapping[str, str]:
        """See `ModelFamily.transformers_files`."""
        return {}


def saved_state(family: ModelFamily, model: nn.Module) -> dict[str, Tensor]:
    """Return the entries of a model's state that a checkpoint holds; nothing is copied."""
    names, state = family.saved_names(model), model.state_dict()
    return state if names is None else {name: tensor for name, tensor in state.items() if name in names}


def load_saved_state(family: ModelFamily, model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Load what `saved_state` returned.

    Raises:
        RuntimeError: names or shapes do not fit.
    """
    names = family.saved_names(model)
    if names is None:
        model.load_state_dict(saved)
        return
    if other := saved.keys() ^ names:
        raise RuntimeError(f"it holds other trained parts than this model has ({min(other)})")
    model.load_state_dict(saved, strict=False)  # the frozen rest is there already


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the entries of a model's state on the CPU; a tied entry once, under its first name.

    They are copies: an engine may hold all parameters in one block of memory (DeepSpeed does), which cannot be saved.
    """
    entries = model.state_dict(keep_vars=True)
    first = {id(entry): name for name, entry in reversed(entries.items())}
    return {
        name: entries[name].detach().cpu().contiguous().clone() for name in entries if first[id(entries[name])] == name
    }


def _load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load into a model what `weights_of` returned.

    Raises:
        ValueError, RuntimeError: names or shapes do not fit.
    """
    entries = model.state_dict(keep_vars=True)
    given = {id(entries[name]) for name in weights if name in entries}
    missing = [name for name, entry in entries.items() if id(entry) not in given]
    if missing or weights.keys() - entries.keys():
        raise ValueError(f"the weights do not fit the model ({min({*missing, *(weights.keys() - entries.keys())})})")
    model.load_state_dict(weights, strict=False)  # the missing names must be those of tied entries


@dataclass(frozen=True)
class ModelDescription:
    """Schema of `model.json`."""

    family: str
    options: Mapping[str, Any]
    vocabulary: int | None


def read_description(directory: Path) -> dict[str, Any]:
    """Read the `model.json` of a directory that `BaseFamily.save` wrote.

    Raises:
        CheckpointError: the file is missing, damaged or of another format.
    """
    path = directory / DESCRIPTION_NAME
    try:
        described = read_json(path)
    except PermissionError as error:
        raise unreadable(path, error) from error
    except OSError as error:
        raise CheckpointError(f"{path}: it cannot be read ({error.strerror}); this is not a saved model") from error
    except DamagedFileError as error:
        raise CheckpointError(f"{error}; this is not a saved model") from error
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not the description of a model (no format {FORMAT!r})")
    if described.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: version {described.get('version')!r} cannot be read (this program reads {VERSION})"
        )
    try:
        as_declared(described, ModelDescription, path)
    except DamagedFileError as error:
        raise CheckpointError(str(error)) from error
    return described
