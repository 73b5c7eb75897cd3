"""The code files of a model directory: with them, transformers opens it where nothing of ours is installed.

They are the very files of this package, with imports that look beside them instead of in `apt_model`. No transformers
and no torch: every backend writes them.
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
"""What `config.json` says of which class is where."""
TOKENIZER_AUTO_MAP = {"AutoTokenizer": ["tokenization_apt.APTTokenizer", None]}
"""The same for `tokenizer_config.json`: (the class in Python, no other in Rust)."""
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
    """Return the code of a model directory: name -> text of each file of `CODE` that is there.

    A copy of this file does the same with its own neighbours, so what was opened from a model directory is saved with
    its code too. Where transformers put that copy lie only the files that a model needs, or those that a tokenizer
    needs: each writes its own.
    """
    here = Path(__file__).parent
    found = {}
    for name in CODE:
        path = next((p for p in (here / name, here.parent / name) if p.is_file()), None)
        if path is not None:
            found[name] = standalone(path.read_text(encoding="utf-8"))
    return found


def write_code(directory: str | os.PathLike[str]) -> None:
    """Write the files of `code_files` into a model directory."""
    for name, text in code_files().items():
        (Path(directory) / name).write_text(text, encoding="utf-8")


def standalone(code: str) -> str:
    """`code` with imports of its neighbours in place of those of `apt_model`."""
    # ModelConfig needs pydantic; the network reads attributes only, and APTConfig has the same.
    code = _CONFIG.sub("from .configuration_apt import APTConfig as ModelConfig", code)
    return _OURS.sub(r"from .\1 import", code)
