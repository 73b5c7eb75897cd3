"""Code files of a model directory: with them, transformers opens it where this project is not installed.

They are the files of this package, with imports from their own directory instead of from `apt_model`. This module needs
neither transformers nor torch: every backend writes the files.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

AUTO_MAP = {
    "AutoConfig": "configuration_apt.APTConfig",
    "AutoModel": "modeling_apt.APTForCausalLM",
    "AutoModelForCausalLM": "modeling_apt.APTForCausalLM",
}
"""Entry `auto_map` of `config.json`: the place of each class."""
TOKENIZER_AUTO_MAP = {"AutoTokenizer": ["tokenization_apt.APTTokenizer", None]}
"""Entry `auto_map` of `tokenizer_config.json`: (the class in Python, none in Rust)."""
CODE = (
    "configuration_apt.py",
    "errors.py",
    "model.py",
    "modeling_apt.py",
    "remote_code.py",
    "tokenization_apt.py",
    "tokenizer.py",
)

_CONFIG = re.compile(r"^from apt_model\.config import ModelConfig$", re.MULTILINE)
_OURS = re.compile(r"^from apt_model(?:\.huggingface)?\.(\w+) import", re.MULTILINE)


def code_files() -> dict[str, str]:
    """Return the code of a model directory: name -> text of each file of `CODE` that exists.

    A copy of this file does the same with the files next to it, so a model that was opened from a model directory is
    saved with its code too. transformers copies only the files that a model needs, or only those that a tokenizer
    needs, so each writes its own.
    """
    here = Path(__file__).parent
    found = {}
    for name in CODE:
        path = next((p for p in (here / name, here / "huggingface" / name) if p.is_file()), None)
        if path is not None:
            found[name] = standalone(path.read_text(encoding="utf-8"))
    return found


def write_code(directory: str | os.PathLike[str]) -> None:
    """Write the files of `code_files` into a model directory."""
    for name, text in code_files().items():
        (Path(directory) / name).write_text(text, encoding="utf-8")


def standalone(code: str) -> str:
    """Return `code` with relative imports in place of imports from `apt_model`."""
    # ModelConfig needs pydantic; the network only reads attributes, and APTConfig has the same ones.
    code = _CONFIG.sub("from .configuration_apt import APTConfig as ModelConfig", code)
    return _OURS.sub(r"from .\1 import", code)
