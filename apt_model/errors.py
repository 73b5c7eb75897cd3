"""The error of a model directory or a tokenizer that cannot be used."""

from __future__ import annotations


class ModelError(Exception):
    """A model's file is missing, damaged or of another kind, or a tokenizer is asked for an impossible token.

    The message is one line for the user: what is wrong, in which file.
    """
