"""Manners of transformers, PEFT and the Hub's client: silence, errors in one line, and a quick answer from the Hub.

No torch at import, and none of these libraries.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from training.errors import ConfigError, did_you_mean, printable
from training.settings.hub import fault_of_repo

LONGEST_REASON = 300
"""Characters of a library's own words in an error line."""
PROBE_SECONDS = 20.0
"""Longest wait for the Hub's first answer."""


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' progress bars and advice: what a user has to know, this program says."""
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    logging.getLogger("peft").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            theirs.set_verbosity(level)
            if bars:
                theirs.enable_progress_bar()


def reason_of(error: BaseException) -> str:
    """Return a library's error as one line of bounded length."""
    words = " ".join(str(error).split())
    shown = words if len(words) <= LONGEST_REASON else words[: LONGEST_REASON - 1] + "…"
    return printable(shown or type(error).__name__)


def refuse_missing(place: str, flag: str) -> None:
    """Refuse a place that is neither on this machine nor on the Hub.

    The Hub is asked once, with a time limit: the library itself would ask six times for each file, with warnings, for
    a minute.

    Args:
        place: directory, file, or OWNER/NAME on the Hub.
        flag: what named it; begins the error line.

    Raises:
        ConfigError: there is no such model, or the Hub does not show it.
    """
    if Path(place).exists():
        return
    where = f"{flag} {printable(place)}"
    if place.startswith(("/", ".", "~")) or place.count("/") > 1:
        raise ConfigError(f"{where}: there is no such directory{_near(place)}")
    if (fault := fault_of_repo(place)) is not None:
        raise ConfigError(f"{where}: no such directory, and no model of the Hub, whose name {fault}{_near(place)}")
    from huggingface_hub import is_offline_mode
    from huggingface_hub.errors import HfHubHTTPError

    if is_offline_mode():
        if not _is_cached(place):
            raise ConfigError(
                f"{where}: no such directory, and not in the cache of the Hub's library, while HF_HUB_OFFLINE keeps "
                f"the Hub away; check the path, or unset it{_near(place)}"
            )
        return
    try:
        _ask(place)
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 404):
            reason = "neither a directory here nor a model that the Hub shows you"
            remedy = "check the name; for a private one run `hf auth login`"
        elif status == 403:
            reason, remedy = "the Hub does not let you read it", f"ask for access on hf.co/{place}"
        else:
            reason, remedy = f"the Hub answers with status {status}", "try again later"
        raise ConfigError(f"{where}: {reason}; {remedy}{_near(place)}") from error
    except Exception as error:  # of the HTTP library that the Hub's has at this time, or of the network
        raise ConfigError(
            f"{where}: no such directory, and the Hub cannot be reached ({reason_of(error)}); if the model was "
            f"downloaded before, set HF_HUB_OFFLINE=1{_near(place)}"
        ) from error


@cache
def _ask(name: str) -> None:
    """Ask the Hub for a model, once in this process."""
    from huggingface_hub import HfApi

    HfApi().model_info(name, timeout=PROBE_SECONDS)


def _near(place: str) -> str:
    above = Path(place).parent
    return did_you_mean(Path(place).name, [path.name for path in above.iterdir()]) if above.is_dir() else ""


def _is_cached(name: str) -> bool:
    """Return True if the cache of the Hub's library holds a file that describes the model or the tokenizer."""
    from huggingface_hub import try_to_load_from_cache

    files = ("config.json", "adapter_config.json", "tokenizer_config.json", "tokenizer.json")
    return any(isinstance(try_to_load_from_cache(name, file), str) for file in files)
