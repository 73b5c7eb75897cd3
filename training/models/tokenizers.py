"""Tokenizers of language models: a model's own, one trained on the data, or one token per character.

Each is a `transformers.PreTrainedTokenizerFast`, so tasks and tools know one kind. As artefacts of a run it is plain
data: `tokenizer` is the document of `tokenizer.json`, `tokenizer_files` holds the other files of its directory.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.errors import CheckpointError, ConfigError, printable
from training.models.protocol import Artefacts
from training.models.transformers_library import quiet_transformers, reason_of, refuse_missing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

DOCUMENT, FILES = "tokenizer", "tokenizer_files"
"""Names of the artefacts."""
TOKENIZER_JSON, GENERATION_CONFIG = "tokenizer.json", "generation_config.json"
END_OF_TEXT, PAD, UNKNOWN = "<|endoftext|>", "<|pad|>", "<|unk|>"
TURNS = ("<|im_start|>", "<|im_end|>")
"""Turn tokens of ChatML: every tokenizer that is made here has them, so that a model that was trained on texts can be
trained on chats afterwards."""
LEAST_VOCABULARY = 256 + len(TURNS) + 2
"""Tokens of a byte-level tokenizer without a single merge."""


def needs_transformers(what: str) -> None:
    """Refuse to go on without transformers.

    Raises:
        ConfigError: it is not installed; says how to install it.
    """
    # Where nobody has set it, the library tokenizers warns at each process that is started after it used its threads.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"{what} needs transformers ({error}); run: pip install -e '.[huggingface]'") from error


def load_tokenizer(place: str, trust_remote_code: bool = False, flag: str = "--tokenizer") -> PreTrainedTokenizerFast:
    """Read a tokenizer from a directory or the Hugging Face Hub.

    Args:
        place: directory, or OWNER/NAME on the Hub.
        trust_remote_code: whether Python code in that place may run.
        flag: named in errors.

    Raises:
        ConfigError: there is none, or it is not one with a `tokenizer.json`.
    """
    needs_transformers(f"{flag} {place}")
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    refuse_missing(place, flag)
    if Path(place).is_file():  # the library would ask the Hub for it
        raise ConfigError(f"{flag} {printable(place)}: this is a file; give the directory that holds tokenizer.json")
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=trust_remote_code)
    except Exception as error:  # of the library: whatever its parsers raise on files that are not a tokenizer's
        raise ConfigError(f"{flag} {printable(place)}: no tokenizer can be read there ({reason_of(error)})") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ConfigError(
            f"{flag} {printable(place)}: its tokenizer ({type(tokenizer).__name__}) has no form that says which "
            "characters a token stands for; give one with a tokenizer.json (--tokenizer DIR)"
        )
    return tokenizer


def size_of(tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the number above every token's id; a vocabulary may have holes, so there may be fewer tokens."""
    return 1 + max(tokenizer.get_vocab().values(), default=-1)


def end_token(tokenizer: PreTrainedTokenizerFast, where: str) -> int:
    """Return the id of the token that ends a text.

    Raises:
        ConfigError: the tokenizer has none, so no model could learn to stop.
    """
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            f"{where}: the tokenizer has no end token (eos_token), so the model could not learn to stop; set eos_token "
            "in its tokenizer_config.json, or choose another tokenizer (--tokenizer)"
        )
    return int(tokenizer.eos_token_id)


def first_tokens(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Return the token that the tokenizer puts before every text, in a list; an empty list where it puts none."""
    ids: list[int] = tokenizer("")["input_ids"]
    return [i for i in ids if i != tokenizer.eos_token_id or i == tokenizer.bos_token_id][:1]


def control_tokens(tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """Return the ids of the tokens that stand for no text, such as the end token; the unknown one is none of them."""
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(added | set(tokenizer.all_special_ids)) - {tokenizer.unk_token_id}


# -- made from the data ------------------------------------------------------------------------------------------------


def train_bpe(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer; the same texts give the same tokenizer.

    Args:
        texts: training texts.
        vocabulary: number of tokens, control tokens among them.

    Raises:
        ConfigError: the vocabulary is too small for all bytes.
    """
    if vocabulary < LEAST_VOCABULARY:
        raise ConfigError(
            f"vocab_size={vocabulary} is too small: every byte and the control tokens need {LEAST_VOCABULARY} tokens; "
            "raise --vocab-size"
        )
    needs_transformers("--tokenizer bpe")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT, PAD, *TURNS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _wrapped(tokenizer)


def by_character(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Make a tokenizer with one token for each character of the texts; any other is read as unknown."""
    characters: set[str] = set()
    for text in texts:
        characters.update(text)
    specials = [END_OF_TEXT, PAD, UNKNOWN, *TURNS]
    return _of_pieces([*specials, *sorted(characters)], UNKNOWN, r"[\s\S]", specials)


def _of_pieces(tokens: list[str], unknown: str, pattern: str, specials: list[str]) -> PreTrainedTokenizerFast:
    """Make a tokenizer that splits texts by a pattern and looks each piece up."""
    needs_transformers("this tokenizer")
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(specials)
    return _wrapped(tokenizer, unk_token=unknown)


def begin_with(tokenizer: Any, token: str) -> None:
    """Let a tokenizer of the library tokenizers put a token before each text, so that its first word is learned too."""
    from tokenizers import processors

    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", special_tokens=[(token, tokenizer.token_to_id(token))]
    )


def _wrapped(tokenizer: Any, **special: str) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    begin_with(tokenizer, END_OF_TEXT)
    special = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "pad_token": PAD, **special}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        additional_special_tokens=list(TURNS),
        clean_up_tokenization_spaces=False,
        **special,
    )


# -- artefacts ---------------------------------------------------------------------------------------------------------


def to_artefacts(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Return a tokenizer as plain data for checkpoints.

    Raises:
        ConfigError: a setting of it is no text that a file can hold.
    """
    with tempfile.TemporaryDirectory(prefix="apt-trainer-tokenizer-") as folder:
        try:
            tokenizer.save_pretrained(folder)
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"the tokenizer's settings hold half of a character ({error.object[error.start]!r}), which no file can "
                "keep; mend its tokenizer_config.json or chat template"
            ) from error
        files = {path.name: path.read_text(encoding="utf-8") for path in sorted(Path(folder).iterdir())}
    document = json.loads(files.pop(TOKENIZER_JSON))
    return {DOCUMENT: document, FILES: files}


def with_stop_tokens(artefacts: Artefacts, tokenizer: PreTrainedTokenizerFast, stop_ids: Sequence[int]) -> Artefacts:
    """Return artefacts that say by which tokens an answer ends, as `generation_config.json` says it to other programs.

    Args:
        artefacts: plain data with a tokenizer; without one of this form they stay as they are.
        tokenizer: the tokenizer in them.
        stop_ids: tokens that end an answer, such as a chat template's end-of-turn token.
    """
    if FILES not in artefacts:
        return artefacts
    settings = {"eos_token_id": list(stop_ids), "bos_token_id": tokenizer.bos_token_id}
    if tokenizer.pad_token_id is not None:
        settings["pad_token_id"] = tokenizer.pad_token_id
    files = {**artefacts[FILES], GENERATION_CONFIG: json.dumps(settings, indent=1) + "\n"}
    return {**artefacts, FILES: files}


def stop_tokens(artefacts: Artefacts) -> list[int]:
    """Return the tokens that end an answer, as `with_stop_tokens` noted them; empty: only the tokenizer's end token."""
    text = artefacts.get(FILES, {}).get(GENERATION_CONFIG)
    found = json.loads(text).get("eos_token_id") if text is not None else None
    return [found] if isinstance(found, int) else list(found or ())


def write_tokenizer(artefacts: Artefacts, directory: Path) -> None:
    """Write a tokenizer's files, which `AutoTokenizer.from_pretrained` reads; a generation config is completed.

    Raises:
        OSError: the disk refuses.
    """
    for name, text in tokenizer_texts(artefacts).items():
        path = directory / name
        if name == GENERATION_CONFIG and path.is_file():  # the model's own says more, such as a temperature
            own = json.loads(path.read_text(encoding="utf-8"))
            own.pop("_from_model_config", None)  # with it, transformers takes the tokens from config.json again
            text = json.dumps({**own, **json.loads(text)}, indent=2) + "\n"
        path.write_text(text, encoding="utf-8")


def tokenizer_texts(artefacts: Artefacts) -> dict[str, str]:
    """Return the text of each file of a tokenizer by name; empty: the artefacts hold no tokenizer of this form."""
    if FILES not in artefacts:
        return {}
    document = json.dumps(artefacts[DOCUMENT], ensure_ascii=False, indent=1) + "\n"
    # Artefacts may come from a stranger's checkpoint: no name of a file leads out of the directory.
    return {TOKENIZER_JSON: document, **{Path(name).name: text for name, text in artefacts[FILES].items()}}


def from_artefacts(artefacts: Artefacts, where: str) -> PreTrainedTokenizerFast:
    """Make the tokenizer that `to_artefacts` gave.

    Args:
        artefacts: plain data of a checkpoint or a finished model.
        where: file or directory, for errors.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    if FILES not in artefacts or DOCUMENT not in artefacts:
        raise CheckpointError(f"{where}: there is no tokenizer of a language model in it")
    needs_transformers("this tokenizer")
    from transformers import AutoTokenizer

    files: Mapping[str, str] = artefacts[FILES]
    try:
        with tempfile.TemporaryDirectory(prefix="apt-trainer-tokenizer-") as folder:
            for name, text in {**files, TOKENIZER_JSON: json.dumps(artefacts[DOCUMENT])}.items():
                (Path(folder) / Path(name).name).write_text(text, encoding="utf-8")
            tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # of the library, whose parsers raise anything on damaged files
        raise CheckpointError(f"{where}: its tokenizer is damaged ({reason_of(error)})") from error
    return tokenizer


def unknown_characters(tokenizer: PreTrainedTokenizerFast, text: str) -> list[str]:
    """Return the characters of a text that the tokenizer reads as unknown, in their order."""
    if tokenizer.unk_token_id is None:
        return []
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    return [text[start:end] for number, (start, end) in spans if number == tokenizer.unk_token_id]
