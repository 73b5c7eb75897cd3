"""Portable model: a directory `config.json model.safetensors tokenizer.json` that every backend writes in the same way.

This program reads only these three. Next to them are the settings and the code with which transformers opens the
directory (`AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True)`). Writing them does not need
transformers. A directory that transformers saved from such a model can be read here too. The tokenizer is APT's own, or
one in the common form of the library `tokenizers`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from apt_model.config import ModelConfig
from apt_model.errors import ModelError
from apt_model.model import APT
from apt_model.remote_code import AUTO_MAP, TOKENIZER_AUTO_MAP, code_files
from apt_model.tokenizer import BOS, EOS, PAD, SEP, SPECIALS, UNK, DynamicTagTokenizer
from apt_model.tokenizer_files import TokenizerFiles

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
CHECKSUMS = "checksums.json"
"""BLAKE2b of the directory's files, which a run adds to its finished model. A directory without it is not checked."""
GENERATION_CONFIG, TOKENIZER_CONFIG = "generation_config.json", "tokenizer_config.json"
FORMAT = "apt-model"
OF_OWN_TOKENIZER = frozenset({"tokenization_apt.py", "tokenizer.py"})
"""Code files that only APT's own tokenizer needs."""
PortableTokenizer = DynamicTagTokenizer | TokenizerFiles
OF_TRANSFORMERS = frozenset(
    {
        "architectures",
        "auto_map",
        "bos_token_id",
        "chunk_size_feed_forward",
        "dtype",
        "eos_token_id",
        "id2label",
        "is_encoder_decoder",
        "label2id",
        "model_type",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "problem_type",
        "return_dict",
        "sep_token_id",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)
"""Keys of `config.json` that do not describe the network. Any other unknown key is refused: it might describe it."""


def save_portable(directory: Path, model: APT, tokenizer: PortableTokenizer) -> None:
    """Write the model; an older one in the same directory is replaced completely."""
    fresh = directory.with_name(f".{directory.name}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        _write_files(fresh, model, tokenizer)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    old = directory.with_name(f".{directory.name}.old.tmp")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    fresh.rename(directory)
    shutil.rmtree(old, ignore_errors=True)


def _write_files(directory: Path, model: APT, tokenizer: PortableTokenizer) -> None:
    settings = transformers_settings(model, tokenizer)
    settings[CONFIG] = {"format": FORMAT, "version": 1, **model.config.model_dump(mode="json"), **settings[CONFIG]}
    for name, content in settings.items():
        (directory / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for name, text in model_code(tokenizer).items():
        (directory / name).write_text(text, encoding="utf-8")
    mode = (directory / CONFIG).stat().st_mode
    save_file(_weights(model), directory / WEIGHTS, metadata={"format": "pt"})
    (directory / WEIGHTS).chmod(mode)  # safetensors lets in the user alone, whatever the umask
    if isinstance(tokenizer, TokenizerFiles):
        tokenizer.save(directory)
    else:
        tokenizer.save(directory / TOKENIZER)
    for path in directory.iterdir():
        with path.open("rb+") as file:  # Windows syncs only files that are open for writing
            os.fsync(file.fileno())


def model_code(tokenizer: PortableTokenizer) -> dict[str, str]:
    """Return the text of the code files by name with which transformers opens the model and this tokenizer."""
    left_out = OF_OWN_TOKENIZER if isinstance(tokenizer, TokenizerFiles) else frozenset()
    return {name: text for name, text in code_files().items() if name not in left_out}


def transformers_settings(model: APT, tokenizer: PortableTokenizer) -> dict[str, dict[str, Any]]:
    """Return the settings of the model that transformers reads, by file name.

    Raises:
        ModelError: the tokenizer is damaged.
    """
    if isinstance(tokenizer, TokenizerFiles):
        found = tokenizer.control_ids()
        # APTConfig's defaults are the ids of APT's own tokenizer: a role that this one lacks is said to be empty.
        roles = {f"{role}_token_id": found.get(role) for role in ("pad", "bos", "eos")}
        ids = {name: i for name, i in roles.items() if i is not None}
        config, sep, own = roles, None, {}
    else:
        ids = {"pad_token_id": tokenizer.pad_id, "bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
        config, sep, own = {**ids}, tokenizer.sep_id, {TOKENIZER_CONFIG: _own_tokenizer_settings(model)}
    return {
        CONFIG: {
            "model_type": "apt",
            "architectures": ["APTForCausalLM"],
            "auto_map": AUTO_MAP,
            "dtype": str(model.embedding.weight.dtype).removeprefix("torch."),
            **config,
            "sep_token_id": sep,
        },
        GENERATION_CONFIG: {**ids, "do_sample": False},
        **own,
    }


def _own_tokenizer_settings(model: APT) -> dict[str, Any]:
    as_they_are = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    return {
        "tokenizer_class": "APTTokenizer",
        "auto_map": TOKENIZER_AUTO_MAP,
        "model_max_length": model.config.max_seq_len,
        "padding_side": "left",
        **{"pad_token": PAD, "unk_token": UNK, "bos_token": BOS, "sep_token": SEP, "eos_token": EOS},
        # Without it, transformers would look for them in tokenizer.json, which here is not in its own format.
        "added_tokens_decoder": {str(i): {"content": token, **as_they_are} for i, token in enumerate(SPECIALS)},
    }


def _weights(model: APT) -> dict[str, Tensor]:
    """Return contiguous weights on the CPU; a tied head is stored once, as the embedding."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_embeddings:
        del weights["head.weight"]
    return weights


def load_portable(directory: Path) -> tuple[APT, PortableTokenizer]:
    """Read a model directory.

    Raises:
        ModelError: a file is missing or damaged, or the weights do not fit the config.
    """
    for name in (CONFIG, WEIGHTS, TOKENIZER):
        if name == WEIGHTS and (directory / f"{WEIGHTS}.index.json").is_file():
            raise ModelError(
                f"{directory}: its weights are in several files; save it with a larger max_shard_size, in one"
            )
        if not (directory / name).is_file():
            raise ModelError(f"{directory}: no {name} in it; this is not an APT model directory")
    _check_checksums(directory)
    try:
        document = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise ModelError(f"{directory / CONFIG}: not an APT model's config (no format {FORMAT!r})")
        if (version := document.pop("version")) != 1:
            raise ModelError(f"{directory / CONFIG}: version {version!r} cannot be read (this program reads 1)")
        config = ModelConfig.model_validate({k: v for k, v in document.items() if k not in OF_TRANSFORMERS})
        with (directory / WEIGHTS).open("rb"):  # safetensors says "No such file" where it may not be read
            pass
        weights = load_file(directory / WEIGHTS)
    except PermissionError as error:
        raise ModelError(f"{error.filename}: it cannot be read ({error.strerror})") from error
    except (ValidationError, ValueError, KeyError, OSError, RecursionError, SafetensorError) as error:
        raise ModelError(f"{directory}: damaged model directory ({str(error).splitlines()[0]})") from error
    if config.tie_embeddings and "embedding.weight" in weights:
        weights["head.weight"] = weights["embedding.weight"]
    tokenizer = _load_tokenizer(directory)
    if config.vocab_size is not None and tokenizer.vocab_size > config.vocab_size:
        raise ModelError(
            f"{directory / TOKENIZER}: {tokenizer.vocab_size} tokens, but the model knows {config.vocab_size}; "
            "it is another model's tokenizer"
        )
    return build_from_weights(config, weights, str(directory)), tokenizer


def _load_tokenizer(directory: Path) -> PortableTokenizer:
    try:
        document = json.loads((directory / TOKENIZER).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{directory / TOKENIZER}: the tokenizer cannot be read ({error})") from error
    if isinstance(document, dict) and "model" in document and not DynamicTagTokenizer.wrote(document):
        return TokenizerFiles.load(directory, document)
    return DynamicTagTokenizer.from_dict(document, str(directory / TOKENIZER))


def _check_checksums(directory: Path) -> None:
    """Compare the files with the directory's `checksums.json`, if it has one.

    Raises:
        ModelError: a file was altered; it is named.
    """
    try:
        document = json.loads((directory / CHECKSUMS).read_bytes())
        own = document.pop("blake2b")
        text = json.dumps(document, ensure_ascii=False, sort_keys=True)
        if hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() != own:
            raise ValueError
        expected = {name: entry["blake2b"] for name, entry in document["files"].items()}
    except FileNotFoundError:
        return
    except OSError as error:
        raise ModelError(f"{directory / CHECKSUMS}: it cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{directory / CHECKSUMS}: damaged, it does not match its own checksum") from error
    for name, checksum in expected.items():
        try:
            with (directory / name).open("rb") as file:
                found = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        except OSError as error:
            raise ModelError(f"{directory / name}: it cannot be read ({error.strerror})") from error
        if found != checksum:
            raise ModelError(
                f"{directory / name}: damaged; its content does not match its checksum in {CHECKSUMS}; if you changed "
                f"the model on purpose, delete {CHECKSUMS}"
            )


def build_from_weights(config: ModelConfig, weights: dict[str, Any], where: str) -> APT:
    """Build an APT with these weights, in eval mode; `where` names the file in the error.

    Raises:
        ModelError: names or shapes do not fit the config.
    """
    try:
        model = APT(config)
        model.load_state_dict(weights)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"{where}: the weights do not fit the model's config ({str(error).splitlines()[-1].strip()})"
        ) from error
    return model.eval()
