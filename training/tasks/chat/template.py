"""Chat template: the one that a run uses, and conversations rendered with it in Jinja's sandbox. No torch.

Rendering is transformers' own (`render_jinja_template`), so a text here is what `apply_chat_template` makes of the same
messages when the model is used.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.errors import ConfigError, DataError, UserError, did_you_mean, kind_of
from training.tasks.chat.built_in_templates import BUILT_IN
from training.tasks.chat.time_limit import EndlessError, time_limit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LARGEST_FILE = 1_000_000
"""Bytes of a template's file; the longest that models ship has 20,000."""
LONGEST_TEXT = 100 * 2**20
"""Characters of a rendered conversation; a file's row has at most 64 MiB."""
SECONDS = 30.0
"""Longest time for the conversation of three messages by which a template is tried; milliseconds are usual."""
_GENERATION_TAG = re.compile(r"\{%-?\s*generation\s*-?%\}")
_CONTROL_TOKEN = re.compile(r"<\|\w[\w./-]*\|>|<(?:start|end)_of_turn>")
"""Texts in a template's file that can only be meant as single tokens."""
Spans = list[tuple[int, int]]
"""Beginnings and ends, in characters of a rendered text."""


DATE = date(2024, 7, 26)
"""Date of templates that write the day's (Llama 3's own default): the data of a run is the same on every day."""
_CLOCK = "strftime_now"
_CODES = ("a", "A", "b", "B", "d", "-d", "e", "m", "-m", "y", "Y", "j", "F", "H", "I", "p", "M", "S", "f", "w", "u")
# A function among a template's variables would reach it as a text: transformers hands over plain data only. So the
# clock is a macro. Jinja takes the line end after it away.
_FIXED_CLOCK = (
    f"{{%- macro {_CLOCK}(format) -%}}{{{{- format"
    + "".join(f".replace('%{code}', '{DATE.strftime(f'%{code}')}')" for code in _CODES)
    + " -}}{%- endmacro %}\n"
)


@dataclass(frozen=True)
class ChatTemplate:
    """A template with the tokenizer's named tokens that it may write."""

    name: str
    """Name for people: a built-in's name, a file's path, or `the tokenizer's chat template`."""
    source: str
    """Jinja text; it belongs into the saved tokenizer as `chat_template`."""
    needs: tuple[str, ...] = ()
    """Tokens that the template writes and the tokenizer lacks; whoever adds them must enlarge the model's embedding."""
    tool_source: str | None = None
    """Jinja text for rows with tools, where the tokenizer has one of its own for them."""
    tokens: Mapping[str, Any] = field(default_factory=dict)
    """Tokenizer's tokens by name, such as `eos_token`, as transformers hands them to a template."""

    @cached_property
    def has_generation_tags(self) -> bool:
        """True if the template marks what the assistant says."""
        return all(_GENERATION_TAG.search(source) for source in (self.source, self.tool_source) if source is not None)

    @property
    def reads_the_clock(self) -> bool:
        """True if the template writes the day's date, which here is always `DATE`."""
        return any(_CLOCK in source for source in (self.source, self.tool_source) if source is not None)

    @cached_property
    def generation_prompt(self) -> str:
        """Text that asks for the assistant's turn after a message of the user; empty if there is none."""
        question = [{"role": "user", "content": "Question"}]
        try:
            before, asked = (self.render(question, None, "", add_generation_prompt=ask) for ask in (False, True))
        except DataError:
            return ""
        return asked.removeprefix(before) if asked.startswith(before) else ""

    @cached_property
    def after_answer(self) -> str:
        """Text between an answer and a further question; empty if the template refuses to write them."""
        chat = [("user", "Question"), ("assistant", "TheAnswerZq"), ("user", "FurtherZq")]
        try:
            text = self.render([{"role": role, "content": content} for role, content in chat], None, "")
        except DataError:
            return ""
        return text.partition("TheAnswerZq")[2].partition("FurtherZq")[0]

    def check_it_ends(self) -> None:
        """Refuse a template that never ends, before it renders any row; another fault of it is said of a row.

        Raises:
            UserError: a short conversation took longer than `SECONDS`.
        """
        try:
            with time_limit(SECONDS):
                self.after_answer  # noqa: B018
        except EndlessError as error:
            raise UserError(
                f"{self.name} does not end: a conversation of three messages took more than {SECONDS:g} s; mend the "
                "loops in it, or choose another template with --chat-template"
            ) from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        where: str,
        add_generation_prompt: bool = False,
    ) -> str:
        """Return the text of messages.

        Args:
            messages: as `Conversation` has them.
            tools: JSON schemas, or None.
            where: the row's place, which an error begins with.
            add_generation_prompt: end with the text that asks for the assistant's turn.

        Raises:
            DataError: the template refuses the messages, or fails in them.
        """
        return self._rendered(messages, tools, where, add_generation_prompt, tagged=False)[0]

    def render_tagged(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None, where: str
    ) -> tuple[str, Spans]:
        """Return the text of messages, and what lies in generation tags (nothing where the template has none).

        Raises:
            DataError: the template refuses the messages, or fails in them.
        """
        return self._rendered(messages, tools, where, add_generation_prompt=False, tagged=self.has_generation_tags)

    def _rendered(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        where: str,
        add_generation_prompt: bool,
        tagged: bool,
    ) -> tuple[str, Spans]:
        from jinja2.exceptions import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        source = self.source if self.tool_source is None or not tools else self.tool_source
        first = _FIXED_CLOCK if _CLOCK in source else ""
        try:
            texts, spans = render_jinja_template(
                conversations=[list(messages)],
                tools=None if tools is None else list(tools),
                chat_template=first + source,
                return_assistant_tokens_mask=tagged,
                add_generation_prompt=add_generation_prompt,
                **self.tokens,
            )
            if len(texts[0]) > LONGEST_TEXT:
                raise ValueError(f"it writes {len(texts[0]):,} characters, and may write {LONGEST_TEXT:,}")
        except EndlessError:
            raise
        except Exception as error:  # a template is a program: it can fail in any way
            line = _line_of(error, first.count("\n"))
            at = "" if line is None else f" (its line {line})"
            if isinstance(error, TemplateError):
                raise DataError(
                    f"{where}: {self.name} refuses the conversation{at}: {error}; mend the row, or choose another "
                    "template with --chat-template"
                ) from error
            raise DataError(
                f"{where}: {self.name} fails{at}: {type(error).__name__}{f': {error}' if str(error) else ''}"
            ) from error
        return texts[0], spans[0] if tagged else []


def find_template(asked: str | None, tokenizer: PreTrainedTokenizerFast) -> ChatTemplate:
    """Find the template of a run.

    Args:
        asked: a built-in's name, a path of a Jinja file, or None: the tokenizer's own.
        tokenizer: the model's tokenizer.

    Raises:
        ConfigError: no such name or file; the file cannot be read.
        UserError: the tokenizer has no template, the template is broken or never ends, or it ends turns by an
            end-of-sequence token that the tokenizer lacks.
    """
    tokens = dict(tokenizer.special_tokens_map)
    vocabulary = tokenizer.get_vocab()
    if asked is None:
        template = _own(tokenizer, tokens)
    elif asked in BUILT_IN:
        built_in = BUILT_IN[asked]
        needs = tuple(token for token in built_in.needs if token not in vocabulary)
        template = ChatTemplate(asked, built_in.source, needs, tokens=tokens)
    else:
        source = source_of(asked)
        written = dict.fromkeys(_CONTROL_TOKEN.findall(source))
        template = ChatTemplate(asked, source, tuple(t for t in written if t not in vocabulary), tokens=tokens)
    for source in filter(None, (template.source, template.tool_source)):
        _check(template.name, source)
        if "eos_token" in source and not tokenizer.eos_token:
            raise UserError(
                f"{template.name} ends turns by the tokenizer's end-of-sequence token, and this tokenizer has none, so "
                "no answer would end; choose one with a token of its own: --chat-template chatml"
            )
    template.check_it_ends()
    return template


def _own(tokenizer: PreTrainedTokenizerFast, tokens: Mapping[str, Any]) -> ChatTemplate:
    own, name = tokenizer.chat_template, "the tokenizer's chat template"
    offer = f"choose one with --chat-template ({', '.join(BUILT_IN)}, or a file .jinja)"
    if not own:
        raise UserError(f"the tokenizer has no chat template; {offer}")
    if isinstance(own, str):
        return ChatTemplate(name, own, tokens=tokens)
    if not isinstance(own, Mapping) or not all(isinstance(source, str) for source in own.values()):
        raise UserError(f"the tokenizer's chat template is {kind_of(own)} and no text; {offer}")
    if "default" not in own:
        raise UserError(f"the tokenizer has chat templates {', '.join(map(repr, own))} and no 'default' one; {offer}")
    return ChatTemplate(name, own["default"], tool_source=own.get("tool_use"), tokens=tokens)


def source_of(asked: str) -> str:
    """Return the Jinja text of a built-in template, or that in a file.

    Raises:
        ConfigError: there is no such name or file, or it cannot be read.
    """
    if asked in BUILT_IN:
        return BUILT_IN[asked].source
    known = f"known names: {', '.join(BUILT_IN)}"
    try:
        path = Path(asked).expanduser()
        if not path.is_file():
            reason = "it is a directory" if path.is_dir() else "there is no such name or file"
            raise ConfigError(f"--chat-template {asked}: {reason}{did_you_mean(asked, BUILT_IN)}; {known}")
        raw = path.read_bytes() if path.stat().st_size <= LARGEST_FILE else None
    except (OSError, RuntimeError, ValueError) as error:  # an unknown ~user, a name that is too long or has a null byte
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"--chat-template {asked}: it cannot be read ({reason}); {known}") from error
    if raw is None:
        raise ConfigError(f"--chat-template {asked}: larger than {LARGEST_FILE:,} bytes; this is no chat template")
    try:
        text = raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ConfigError(f"--chat-template {asked}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    if not text.strip():
        raise ConfigError(f"--chat-template {asked}: the file is empty")
    return text


def _check(name: str, source: str) -> None:
    """Refuse a template that Jinja cannot read."""
    from jinja2.exceptions import TemplateError, TemplateSyntaxError
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        render_jinja_template(conversations=[], chat_template=source)
    except TemplateSyntaxError as error:
        raise UserError(f"{name}, line {error.lineno}: {error.message}; this is no valid Jinja template") from error
    except (TemplateError, RecursionError, SyntaxError, ValueError) as error:
        raise UserError(f"{name}: Jinja cannot read it ({type(error).__name__}: {error})") from error


def _line_of(error: Exception, before: int) -> int | None:
    """Return the line of the template at which it failed; `before` lines stand before it."""
    lines = [
        line
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename in ("<template>", "<unknown>")
    ]
    return lines[0] - before if lines else None
