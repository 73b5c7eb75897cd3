"""Any causal language model of transformers as a model family. No torch at import."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from training.errors import CheckpointError, ConfigError, printable, unreadable
from training.language.messages import Message
from training.models.card import FamilyCard, PublishedModel
from training.models.huggingface.card import huggingface_card
from training.models.huggingface.options import HuggingFaceOptions
from training.models.protocol import ARTEFACTS_NAME, Artefacts, BaseFamily, LoadedModel, SavedProof
from training.models.tokenizers import (
    DOCUMENT,
    FILES,
    GENERATION_CONFIG,
    load_tokenizer,
    needs_transformers,
    to_artefacts,
    write_tokenizer,
)
from training.settings.tree import ModelOptions
from training.storage.atomic import replacing_directory
from training.storage.json_files import DamagedFileError, read_json

if TYPE_CHECKING:
    from torch import Tensor, nn

NETWORK = "network"
"""Name of the artefact with the content of the model's config.json."""
MERGED = "merged"
LONGEST_BY_DEFAULT = 1024
"""Tokens of a sample where nobody says how long it may be and the model can read more."""


class HuggingFaceFamily(BaseFamily):
    """Model family of transformers' causal language models, trained whole, in part, or by LoRA."""

    name: ClassVar[str] = "huggingface"
    Options: ClassVar[type[ModelOptions]] = HuggingFaceOptions
    writes_single_file: ClassVar[bool] = False

    def describe(self, options: ModelOptions, num_parameters: int) -> str:
        """See `ModelFamily.describe`."""
        options = cast(HuggingFaceOptions, options)
        place = options.base_model or options.architecture
        if options.has_lora:
            return Message("{model} with LoRA, {count:,} parameters", model=place, count=num_parameters)
        return Message("{model}, {count:,} parameters", model=place, count=num_parameters)

    def local_files(self, options: ModelOptions) -> Sequence[Path]:
        """See `ModelFamily.local_files`."""
        options = cast(HuggingFaceOptions, options)
        from training.models.huggingface.place import foundation_of

        named = [place for place in (options.base_model, options.architecture) if place is not None]
        if options.base_model is not None and Path(options.base_model).exists():
            foundation, adapters = foundation_of(options.base_model)
            named += [foundation, *adapters]
        return [Path(place) for place in dict.fromkeys(named) if Path(place).exists()]

    def random_draws(self, options: ModelOptions) -> Mapping[str, float]:
        """See `ModelFamily.random_draws`: also the dropout of the model's own config.json, such as GPT-2's."""
        needs_transformers("--model huggingface")
        from training.models.huggingface.place import dropout_of, read_config

        return {**super().random_draws(options), **dropout_of(read_config(cast(HuggingFaceOptions, options)))}

    def starting_artefacts(self, options: ModelOptions) -> Artefacts:
        """See `ModelFamily.starting_artefacts`: the tokenizer in the model's directory, if there is one."""
        options = cast(HuggingFaceOptions, options)
        needs_transformers("--model huggingface")
        from training.models.huggingface.place import base_of_adapter, is_adapter, read_config
        from training.models.huggingface.quantization import needs_bitsandbytes

        if options.qlora:
            needs_bitsandbytes()
        read_config(options)  # a fault of the model is said before its data is read, and not as one of its tokenizer
        place = options.base_model or options.architecture
        while place is not None and is_adapter(place) and not _tokenizer_files(Path(place)):
            place = base_of_adapter(place)
        if place is None or (Path(place).exists() and not _tokenizer_files(Path(place))):
            return {}
        return to_artefacts(load_tokenizer(place, options.trust_remote_code, "--model"))

    def completed(self, options: ModelOptions, vocabulary: int | None) -> ModelOptions:
        """See `ModelFamily.completed`: the embedding's rows, and how long a sample may be."""
        needs_transformers("--model huggingface")
        from training.models.huggingface.place import foundation_of, longest_context, named_place, read_config

        options = cast(HuggingFaceOptions, options)
        config = read_config(options)
        rows: int | None = getattr(config, "vocab_size", None)
        flag, place = named_place(options)
        if (adapters := foundation_of(place)[1]) and rows is not None:
            from training.models.huggingface.lora import rows_with_adapters

            rows = max(rows, rows_with_adapters(config, adapters))
        needed = vocabulary or 0
        if options.base_model is None:
            rows = options.vocab_size or max(needed, 1)
        elif options.vocab_size not in (None, rows) and not options.resize_embeddings:
            raise ConfigError(
                f"vocab_size={options.vocab_size}: the model in {printable(options.base_model)} has {rows} rows; leave "
                "--vocab-size out, or add --resize-embeddings"
            )
        elif options.resize_embeddings:
            rows = max(rows or 0, needed, options.vocab_size or 0)
        if rows is not None and needed > rows:
            raise ConfigError(
                f"{flag} {printable(place)}: the tokenizer has {needed} tokens and the embedding only "
                f"{rows} rows; give the model's own tokenizer, or add --resize-embeddings for new rows"
                + (" and --lora-modules-to-save with its embedding and head, to train them" if options.has_lora else "")
            )
        limit = longest_context(config)
        longest = options.max_seq_len
        if longest is not None and limit is not None and longest > limit:
            raise ConfigError(
                f"max_seq_len={longest} is longer than the model can read ({limit} tokens); lower --max-seq-len"
            )
        longest = longest or min(limit or LONGEST_BY_DEFAULT, LONGEST_BY_DEFAULT)
        return options.model_copy(update={"vocab_size": rows, "max_seq_len": longest})

    def build(self, options: ModelOptions, vocabulary: int | None) -> nn.Module:
        """See `ModelFamily.build`."""
        from training.models.huggingface.network import build_network

        return build_network(cast(HuggingFaceOptions, options))

    def rebuild(self, options: ModelOptions, vocabulary: int | None, artefacts: Artefacts) -> nn.Module:
        """See `ModelFamily.rebuild`: adapters need their base, a whole model only its config."""
        from training.models.huggingface.network import build_described, build_network

        options = cast(HuggingFaceOptions, options)
        if options.has_lora or options.trust_remote_code or NETWORK not in artefacts:
            return build_network(options)
        return build_described(artefacts[NETWORK])

    def artefacts_of(self, model: nn.Module) -> Artefacts:
        """See `ModelFamily.artefacts_of`: config.json."""
        return {NETWORK: json.loads(cast(Any, model).config.to_json_string(use_diff=False))}

    def saved_names(self, model: nn.Module) -> frozenset[str] | None:
        """See `ModelFamily.saved_names`: with LoRA only what is trained."""
        if not hasattr(model, "peft_config"):
            return None
        return frozenset(name for name, parameter in model.named_parameters() if parameter.requires_grad)

    def logits(self, model: Callable[..., Any], tensors: Mapping[str, Tensor]) -> Tensor:
        """See `ModelFamily.logits`."""
        from training.models.huggingface.head import logits_at

        return logits_at(model, tensors["tokens"], tensors["positions"], tensors.get("position_ids"))

    def stream(
        self, model: nn.Module, tokens: Sequence[int], max_new_tokens: int, choose: Callable[[Tensor], int]
    ) -> Iterator[int]:
        """See `ModelFamily.stream`."""
        from training.models.huggingface.generation import stream

        return stream(model, tokens, max_new_tokens, choose)

    def context_length(self, model: nn.Module, options: ModelOptions) -> int | None:
        """See `ModelFamily.context_length`: what config.json says, however long the samples of a training are."""
        from training.models.huggingface.place import longest_context

        return longest_context(text_config(model))

    def stop_tokens(self, model: nn.Module) -> Collection[int]:
        """See `ModelFamily.stop_tokens`: those of generation_config.json and config.json."""
        found: set[int] = set()
        for config in (getattr(model, "generation_config", None), text_config(model)):
            ids = getattr(config, "eos_token_id", None)
            found.update(i for i in (ids if isinstance(ids, list | tuple) else [ids]) if isinstance(i, int))
        return found

    def save(
        self, directory: Path, model: nn.Module, options: ModelOptions, vocabulary: int | None, artefacts: Artefacts
    ) -> None:
        """See `ModelFamily.save`: as transformers or PEFT save it, with the tokenizer."""
        from training.models.huggingface.saving import save_network

        with replacing_directory(directory) as fresh:
            save_network(fresh, model, cast(HuggingFaceOptions, options))
            if FILES in artefacts:
                write_tokenizer(artefacts, fresh)
                if (fresh / MERGED).is_dir():
                    write_tokenizer(artefacts, fresh / MERGED)
            if others := _others(artefacts):
                text = json.dumps(others, ensure_ascii=False, indent=1) + "\n"
                (fresh / ARTEFACTS_NAME).write_text(text, encoding="utf-8")

    def prove_saved(
        self,
        directory: Path,
        model: nn.Module,
        options: ModelOptions,
        batches: Callable[[], Sequence[Mapping[str, Tensor]]],
    ) -> SavedProof:
        """See `ModelFamily.prove_saved`: the merged model gives the logits of the adapter."""
        options = cast(HuggingFaceOptions, options)
        if not options.merge:
            return SavedProof()
        from training.models.huggingface.merge_proof import compare_merged

        return compare_merged(directory / MERGED, model, options, batches())

    def load(self, directory: Path) -> LoadedModel:
        """See `ModelFamily.load`: also any directory that transformers or PEFT saved."""
        from training.models.huggingface.saving import load_network

        try:
            needs_transformers(str(directory))
            documents = {path.name: read_json(path) for path in sorted(directory.glob("*.json"))}
            model, options = load_network(directory)
            artefacts: dict[str, Any] = dict(self.artefacts_of(model))
            if _tokenizer_files(directory):
                artefacts |= to_artefacts(load_tokenizer(str(directory), flag="--model"))
                if GENERATION_CONFIG in documents:  # the tokens that end an answer; PEFT itself keeps none
                    ends = json.dumps(documents[GENERATION_CONFIG], indent=1) + "\n"
                    artefacts[FILES] = {**artefacts[FILES], GENERATION_CONFIG: ends}
            elif options.base_model is not None:
                artefacts |= self.starting_artefacts(options)
            artefacts |= documents.get(ARTEFACTS_NAME, {})
        except (ConfigError, DamagedFileError) as error:
            raise CheckpointError(str(error)) from error
        except OSError as error:
            raise unreadable(directory, error) from error
        return LoadedModel(model.eval(), options, options.vocab_size, artefacts)

    def card(self, published: PublishedModel) -> FamilyCard:
        """See `ModelFamily.card`."""
        return huggingface_card(published)

    def whole_text_form(self, model: nn.Module) -> nn.Module:
        """See `ModelFamily.whole_text_form`: adapters are added to a copy of the weights."""
        from training.models.huggingface.head import WholeText
        from training.models.huggingface.lora import merged

        return WholeText(merged(copy.deepcopy(model)) if hasattr(model, "peft_config") else model)

    def transformers_files(self, model: nn.Module, artefacts: Artefacts) -> Mapping[str, str]:
        """See `ModelFamily.transformers_files`."""
        from training.models.tokenizers import tokenizer_texts

        texts = {name: text for name, text in tokenizer_texts(artefacts).items() if name != "tokenizer.json"}
        if self.saved_names(model) is not None:
            return texts  # an adapter's file has other names, which only PEFT writes
        return (
            {"config.json": json.dumps(artefacts[NETWORK], indent=2) + "\n", **texts} if NETWORK in artefacts else texts
        )


def text_config(model: nn.Module) -> Any:
    """Return transformers' config of a network's language model."""
    config = cast(Any, model).config
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _others(artefacts: Artefacts) -> dict[str, Any]:
    """Return the artefacts that no file of transformers holds."""
    held = {NETWORK, *((FILES, DOCUMENT) if FILES in artefacts else ())}
    return {name: content for name, content in artefacts.items() if name not in held}


def _tokenizer_files(directory: Path) -> list[Path]:
    names = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
    return [directory / name for name in names if (directory / name).is_file()]
