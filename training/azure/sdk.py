"""The Azure SDK, imported late and kept quiet: its noise hides what the user must read."""

from __future__ import annotations

import logging
import os
import warnings

from training.errors import ConfigError

FIX = "pip install -e '.[azure]'"


def load_sdk() -> None:
    """Import azure-ai-ml and azure-identity, about two seconds. Call it before any other import of `azure`.

    Their deprecation warnings are not the user's matter. Nor are their loggers: `azure.identity` writes forty lines
    where nobody is logged in, `azure.ai.ml` one for each experimental class; `refusals.py` tells what matters. Who has
    configured the logger `azure` before this (a level or a handler) reads it all.

    Raises:
        ConfigError: the SDK is not installed.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    logger = logging.getLogger("azure")
    is_unconfigured = not logger.handlers and logger.level == logging.NOTSET
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import azure.ai.ml
            import azure.identity  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"azure-ai-ml is not installed ({error}); run: {FIX}") from error
    if is_unconfigured:
        logger.setLevel(logging.CRITICAL)
        logging.getLogger("azure.ai.ml").setLevel(logging.CRITICAL)  # it has a level and a handler of its own
