"""Error raised for a model directory or a tokenizer that cannot be used."""

from __future__ import annotations


class ModelError(Exception):
    """Error: a model's file is missing, damaged or of another kind, or a tokenizer cannot have a token.

    The message is one line for the user: what is wrong, in which file.
    """
