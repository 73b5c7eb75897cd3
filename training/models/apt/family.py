"""APT as a model family. No torch at import."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from apt_model.errors import ModelError
from training.errors import CheckpointError, ConfigError, UserError, printable
from training.language.messages import Message
from training.models.apt.card import apt_card, opens_with_transformers
from training.models.apt.cost import APTCost
from training.models.apt.options import APTOptions
from training.models.card import FamilyCard, PublishedModel
from training.models.cost import count
from training.models.protocol import Artefacts, BaseFamily, LoadedModel, ParameterGroups
from training.models.tokenizers import DOCUMENT, FILES
from training.settings.tree import ModelOptions

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerFast

    from apt_model.portable import PortableTokenizer


class APTFamily(BaseFamily):
    """Model family of `apt_model`, the autopoietic transformer."""

    name: ClassVar[str] = "apt"
    Options: ClassVar[type[ModelOptions]] = APTOptions
    has_closed_form: ClassVar[bool] = True

    def describe(self, options: ModelOptions, num_parameters: int) -> str:
        """See `ModelFamily.describe`."""
        return Message(
            "APT {count:,} parameters ({attention} attention)", count=num_parameters, attention=options.attention
        )

    def completed(self, options: ModelOptions, vocabulary: int | None) -> ModelOptions:
        """See `ModelFamily.completed`: the vocabulary's size, which a larger given one may exceed."""
        given, base = cast(APTOptions, options).vocab_size, cast(APTOptions, options).base_model
        if base is not None and given is not None and vocabulary is not None and given < vocabulary:
            raise ConfigError(
                f"the model in {printable(base)} has {given} tokens, and this data needs {vocabulary}: leave "
                "--tokenizer out, or choose a chat template without new tokens (--chat-template plain)"
            )
        if given is not None and vocabulary is not None and given < vocabulary:
            raise ConfigError(
                f"vocab_size={given} is too small: the data has {vocabulary} tokens; leave vocab_size out"
            )
        return options.model_copy(update={"vocab_size": given or vocabulary})

    def build(self, options: ModelOptions, vocabulary: int | None) -> nn.Module:
        """See `ModelFamily.build`: with the weights of the base model, if the options name one."""
        options = cast(APTOptions, options)
        network = self.rebuild(options, vocabulary, {})
        if options.base_model is not None:
            try:
                network.load_state_dict(self.load(Path(options.base_model)).module.state_dict())
            except RuntimeError as error:
                raise ConfigError(
                    f"--model {options.base_model}: its weights do not fit these settings "
                    f"({str(error).splitlines()[-1].strip()}); leave the settings of the network out"
                ) from error
        return network

    def rebuild(self, options: ModelOptions, vocabulary: int | None, artefacts: Artefacts) -> nn.Module:
        """See `ModelFamily.rebuild`."""
        from apt_model.model import APT

        return APT(cast(APTOptions, options).network(vocabulary))

    def local_files(self, options: ModelOptions) -> Sequence[Path]:
        """See `ModelFamily.local_files`."""
        base = cast(APTOptions, options).base_model
        return [Path(base)] if base is not None else []

    def shape_of(self, base: str) -> Mapping[str, Any]:
        """See `ModelFamily.shape_of`."""
        options = cast(APTOptions, self.load(Path(base)).options)
        return options.network().model_dump(exclude={"dropout"})

    def starting_artefacts(self, options: ModelOptions) -> Artefacts:
        """See `ModelFamily.starting_artefacts`."""
        base = cast(APTOptions, options).base_model
        return self.load(Path(base)).artefacts if base is not None else {}

    def logits(self, model: Callable[..., Any], tensors: Mapping[str, Tensor]) -> Tensor:
        """See `ModelFamily.logits`."""
        packed = (tensors["position_ids"], tensors["segments"]) if "segments" in tensors else ()
        logits_NV: Tensor = model(tensors["tokens"], tensors["positions"], *packed)
        return logits_NV

    def stream(
        self, model: nn.Module, tokens: Sequence[int], max_new_tokens: int, choose: Callable[[Tensor], int]
    ) -> Iterator[int]:
        """See `ModelFamily.stream`: with the key-value cache."""
        from apt_model.generation import stream_ids
        from apt_model.model import APT

        assert isinstance(model, APT)
        if len(tokens) > model.config.max_seq_len:
            raise UserError(f"the prompt has {len(tokens)} tokens, and the model reads {model.config.max_seq_len}")
        return stream_ids(model, tokens, max_new_tokens, choose)

    def tokenizer(self, artefacts: Artefacts, where: str) -> PreTrainedTokenizerFast:
        """See `ModelFamily.tokenizer`: also APT's own."""
        from apt_model.errors import ModelError
        from apt_model.tokenizer import DynamicTagTokenizer
        from training.models.apt.tokenizer import in_common_form

        if not DynamicTagTokenizer.wrote(artefacts.get("tokenizer")):
            return super().tokenizer(artefacts, where)
        try:
            return in_common_form(DynamicTagTokenizer.from_dict(artefacts["tokenizer"], where))
        except ModelError as error:
            raise CheckpointError(str(error)) from error

    def parameter_groups(self, model: nn.Module) -> ParameterGroups:
        """See `ModelFamily.parameter_groups`: the controls of autopoietic attention stay with AdamW."""
        from training.models.parameter_groups import group_by_module

        controls = frozenset(name for name, _ in model.named_parameters() if "self_control" in name)
        return group_by_module(model, keep_from_muon=controls | {"head.weight"})

    def save(
        self, directory: Path, model: nn.Module, options: ModelOptions, vocabulary: int | None, artefacts: Artefacts
    ) -> None:
        """See `ModelFamily.save`: the portable directory, which opens with transformers too, where it keeps all."""
        from apt_model.model import APT
        from apt_model.portable import save_portable

        if not opens_with_transformers(artefacts):
            super().save(directory, model, options, vocabulary, artefacts)
            return
        assert isinstance(model, APT)
        save_portable(directory, model, _portable_tokenizer(artefacts))

    def load(self, directory: Path) -> LoadedModel:
        """See `ModelFamily.load`."""
        from apt_model.portable import CONFIG, load_portable
        from apt_model.tokenizer_files import TokenizerFiles

        if not (directory / CONFIG).is_file():
            return super().load(directory)
        try:
            model, tokenizer = load_portable(directory)
        except ModelError as error:
            raise CheckpointError(str(error)) from error
        options = APTOptions(**model.config.model_dump())
        if isinstance(tokenizer, TokenizerFiles):
            artefacts: Artefacts = {DOCUMENT: tokenizer.document, FILES: tokenizer.files}
        else:
            artefacts = {DOCUMENT: tokenizer.to_dict()}
        return LoadedModel(model, options, model.config.vocab_size, artefacts)

    def cost(self, options: ModelOptions, vocabulary: int | None) -> APTCost | None:
        """See `ModelFamily.cost`."""
        config = cast(APTOptions, options).network(vocabulary)
        return None if config.vocab_size is None else APTCost(config)

    def open_sizes(self, options: ModelOptions) -> Iterable[str]:
        """See `ModelFamily.open_sizes`."""
        options = cast(APTOptions, options)
        each = options.d_model * (1 if options.tie_embeddings else 2)
        without = count(APTCost(options.network(1))) - each
        yield f"parameters: {without:,} and {each:,} for each token of the vocabulary"

    def card(self, published: PublishedModel) -> FamilyCard:
        """See `ModelFamily.card`."""
        return apt_card(published)

    def transformers_form(self, model: nn.Module) -> nn.Module:
        """See `ModelFamily.transformers_form`."""
        from apt_model.huggingface.modeling_apt import APTForCausalLM
        from apt_model.model import APT

        assert isinstance(model, APT)
        return cast("nn.Module", APTForCausalLM.from_apt(model))

    def called(self, wrapped: nn.Module) -> Callable[..., Any]:
        """See `ModelFamily.called`."""
        return Positional(wrapped)

    def transformers_files(self, model: nn.Module, artefacts: Artefacts) -> Mapping[str, str]:
        """See `ModelFamily.transformers_files`: settings, and the code that `trust_remote_code` runs."""
        from apt_model.model import APT
        from apt_model.portable import CONFIG, model_code, transformers_settings

        if not opens_with_transformers(artefacts):
            return {}
        assert isinstance(model, APT)
        tokenizer = _portable_tokenizer(artefacts)
        settings = transformers_settings(model, tokenizer)
        settings[CONFIG] = {**model.config.model_dump(mode="json"), **settings[CONFIG]}
        texts = {name: json.dumps(content, indent=1) + "\n" for name, content in settings.items()}
        return texts | dict(artefacts.get(FILES, {})) | model_code(tokenizer)


def _portable_tokenizer(artefacts: Artefacts) -> PortableTokenizer:
    """Return the tokenizer in artefacts that `opens_with_transformers` accepts."""
    from apt_model.tokenizer import DynamicTagTokenizer
    from apt_model.tokenizer_files import TokenizerFiles

    if FILES in artefacts:
        return TokenizerFiles(artefacts[DOCUMENT], artefacts[FILES])
    return DynamicTagTokenizer.from_dict(artefacts[DOCUMENT])


class Positional:
    """Adapter that lets an objective call a transformers APT, in any wrapper, as an APT is called."""

    def __init__(self, wrapped: nn.Module) -> None:
        self._wrapped = wrapped

    @property
    def training(self) -> bool:
        """Return True if the model is in training mode."""
        return self._wrapped.training

    def __call__(
        self,
        tokens_BT: Tensor,
        positions_N: Tensor,
        position_ids_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
    ) -> Tensor:
        """Return logits (N, V)."""
        logits: Tensor = self._wrapped(
            input_ids=tokens_BT, positions_N=positions_N, position_ids=position_ids_BT, segments_BT=segments_BT
        ).logits
        return logits
