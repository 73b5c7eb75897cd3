"""Supervised fine-tuning on chats: the assistant's turns are learned. No torch at import."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from training.errors import DataError, printable
from training.language.messages import Message
from training.models.protocol import Artefacts, ModelFamily
from training.models.tokenizers import TURNS, end_token, stop_tokens
from training.settings.tree import TaskOptions
from training.tasks.answers.stop_certificate import certify_stops, prompt_of
from training.tasks.batch_plan import mix, shuffled
from training.tasks.card import CardFacts, TaskCard
from training.tasks.causal_lm.options import LanguageOptions
from training.tasks.causal_lm.task import DEFAULTS, LanguageData, LanguageTask
from training.tasks.chat.built_in_templates import BUILT_IN
from training.tasks.chat.card import chat_card
from training.tasks.chat.certificate import MaskCertificate
from training.tasks.chat.formats import ChatFormat, Conversation, conversation_of, find_format
from training.tasks.chat.masks import encode
from training.tasks.chat.options import ChatOptions
from training.tasks.chat.template import DATE, ChatTemplate, find_template, source_of
from training.tasks.protocol import Conclusion, Prepared
from training.tasks.rows.source import Source
from training.tasks.token_store import TokenStore, TokenStoreWriter

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerFast

    from training.tasks.answers.prompt_format import PromptFormat

FIRST_ROWS = 100
"""Rows whose keys decide the form of a source."""
CHATML = "chatml"
MOST_ANSWERS, SHOWN_ANSWERS, SHOWN_CHARACTERS = 20, 3, 300
"""Questions that the finished model is asked, answers of them that are shown, and how much of each."""


class ChatTask(LanguageTask):
    """Prediction of the assistant's tokens in rendered conversations."""

    name: ClassVar[str] = "chat"
    Options: ClassVar[type[TaskOptions]] = ChatOptions
    defaults: ClassVar[Mapping[str, Any]] = {**DEFAULTS, "run.run_dir": "runs/chat"}

    def texts(self, sources: Sequence[Source], options: LanguageOptions) -> Iterator[str]:
        """See `LanguageTask.texts`."""
        # What a template writes between messages is in its own text; a tokenizer by character needs those too.
        yield source_of(cast(ChatOptions, options).chat_template or CHATML)
        yield "\n".join(["system", "user", "assistant", "tool"])
        for _, _, conversation in _conversations(sources, cast(ChatOptions, options)):
            for message in conversation.messages:
                yield message["content"]

    def prepare_tokenizer(
        self, tokenizer: PreTrainedTokenizerFast, options: LanguageOptions
    ) -> PreTrainedTokenizerFast:
        """See `LanguageTask.prepare_tokenizer`: the template goes with the tokenizer, and so do its tokens."""
        template = _template(tokenizer, cast(ChatOptions, options))
        if template.needs:
            tokenizer.add_special_tokens({"additional_special_tokens": list(template.needs)})
        if template.tool_source is None:
            tokenizer.chat_template = template.source
        return tokenizer

    def _column_settings(self, options: LanguageOptions) -> Iterable[Any]:
        options = cast(ChatOptions, options)
        return options.chat_format, source_of(options.chat_template or CHATML)

    def prompt_format(self, family: ModelFamily, artefacts: Artefacts, where: str) -> PromptFormat:
        """See `Task.prompt_format`: its chat template, which lies in the tokenizer."""
        from training.tasks.chat.prompt import ChatPrompt

        return ChatPrompt(family.tokenizer(artefacts, where))

    def settings_of_encoding(self, data: LanguageData) -> Mapping[str, Any]:
        """See `LanguageTask.settings_of_encoding`; the template is in the tokenizer, the certificate names files."""
        options = cast(ChatOptions, data.options)
        return {
            "longest": data.longest, "chat_format": options.chat_format, "loss_on": options.loss_on,
            "truncate": options.truncate, "names": [source.name for source in data.sources],
        }  # fmt: skip

    def encode(self, data: LanguageData, writer: TokenStoreWriter) -> None:
        """See `LanguageTask.encode`."""
        options = cast(ChatOptions, data.options)
        template = _template(data.tokenizer, options)
        certificate = MaskCertificate.of(data.tokenizer)
        too_long: list[tuple[int, str]] = []
        longest = 0
        formats: list[str] = []
        left_out = 0
        for where, (source, form), conversation in _conversations(data.sources, options):
            formats[source:] = [form]
            encoded = encode(data.tokenizer, template, conversation, options.loss_on, where)
            kept = min(len(encoded.tokens), data.longest)
            if len(encoded.tokens) > data.longest:
                too_long.append((len(encoded.tokens), where))
                longest = max(longest, len(encoded.tokens))
                if not options.truncate:
                    continue
            certificate.add(encoded, data.tokenizer, where, kept)
            trained = encoded.trained[:kept]
            if trained.any():
                writer.add(encoded.tokens[:kept], trained)
            else:
                left_out += 1
        if too_long and not options.truncate:
            length, first = too_long[0]
            raise DataError(
                f"{len(too_long):,} rows are longer than max_seq_len={data.longest} tokens, the first is {first} with "
                f"{length:,}; set --max-seq-len {longest} or --truncate"
            )
        certificate.check()
        writer.facts.update(certificate=certificate.facts(), formats=formats, left_out=left_out)

    def conclude(self, model: nn.Module, prepared: Prepared) -> Conclusion:
        """See `Task.conclude`: how many answers to questions of the data end by themselves, and some of them."""
        tokenizer = prepared.family.tokenizer(prepared.artefacts, "the run")
        count = prepared.config.report.answer_samples
        samples = getattr(prepared.train, "base", prepared.train)  # one by one, where rows are packed
        chosen = shuffled(len(samples), mix(prepared.config.run.seed))[: MOST_ANSWERS if count is None else count]
        prompts = [prompt_of(sample.tokens, sample.trained) for sample in (samples[n] for n in chosen.tolist())]
        certificate = certify_stops(
            prepared.family,
            model,
            prompts,
            stops=frozenset(stop_tokens(prepared.artefacts)) or frozenset({end_token(tokenizer, "the run")}),
            context_length=prepared.family.context_length(model, prepared.config.model),
            seconds=prepared.seconds_to_conclude if count is None else None,
        )
        lines = [*certificate.lines()]
        for prompt, answer in list(zip(certificate.prompts, certificate.answers, strict=True))[:SHOWN_ANSWERS]:
            question, said = (
                " ".join(tokenizer.decode(list(ids), skip_special_tokens=True).split()) for ids in (prompt, answer)
            )
            begun = question if len(question) <= SHOWN_CHARACTERS else f"…{question[-SHOWN_CHARACTERS:]}"
            goes_on = said if len(said) <= SHOWN_CHARACTERS else f"{said[:SHOWN_CHARACTERS]}…"
            lines.append(Message("  {begun} → {goes_on}", begun=begun, goes_on=goes_on))
        return Conclusion({"stop": certificate.facts()} if certificate.asked else {}, lines)

    def stop_tokens(self, data: LanguageData, store: TokenStore) -> list[int]:
        """See `LanguageTask.stop_tokens`: those that end the trained turns, and the tokenizer's end token."""
        trained = data.tokenizer.convert_tokens_to_ids(list(store.facts["certificate"]["stops"]))
        return list(dict.fromkeys([*trained, *super().stop_tokens(data, store)]))

    def report(self, data: LanguageData, store: TokenStore) -> Iterator[str]:
        """See `LanguageTask.report`: the form that was found, and the certificate of the loss mask."""
        options = cast(ChatOptions, data.options)
        for source, form in zip(data.sources, store.facts["formats"], strict=True):
            yield Message("data    {source}: {form}", source=source.name, form=form)
        template = _template(data.tokenizer, options)
        name = CHATML if template.source == BUILT_IN[CHATML].source else template.name
        yield Message("chat    {template}, loss on {loss_on}", template=name, loss_on=options.loss_on)
        if template.reads_the_clock:
            yield Message(
                "note    the template writes the day's date; it is always {date} here", date=f"{DATE:%d %b %Y}"
            )
        certificate = MaskCertificate.from_facts(store.facts["certificate"])
        if options.loss_on == "all":
            yield Message("mask    every token is trained:")
        else:
            yield Message("mask    read by two methods, which agree in every row:")
        yield from certificate.lines()
        if left_out := store.facts["left_out"]:
            message = Message("{count:,} rows without a trained token are left out", count=left_out)
            yield Message("warning: {message}", message=message)

    def card(self, facts: CardFacts) -> TaskCard:
        """See `Task.card`."""
        return chat_card(facts)


def _template(tokenizer: PreTrainedTokenizerFast, options: ChatOptions) -> ChatTemplate:
    asked = options.chat_template
    if asked is None and not tokenizer.chat_template and set(TURNS) <= tokenizer.get_vocab().keys():
        asked = CHATML
    return find_template(asked, tokenizer)


def _conversations(
    sources: Sequence[Source], options: ChatOptions
) -> Iterator[tuple[str, tuple[int, ChatFormat], Conversation]]:
    """Yield (place, (number of its source, form), conversation) of each row.

    Raises:
        DataError: a row is no conversation, or the form cannot be found.
    """
    for number, source in enumerate(sources):
        form = options.chat_format
        if form is None:
            first = [row.values for row in itertools.islice(source.rows(), FIRST_ROWS)]  # an error in it names the file
            try:
                form = find_format(first)
            except DataError as error:
                raise DataError(f"{printable(source.name)}: {error}") from error
        for row in source.rows():
            where = source.place(row.number)
            yield where, (number, form), conversation_of(row.values, form, where)
