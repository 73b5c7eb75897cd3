"""Names and manners of diffusers: silence, one line where it is not installed. Imports neither torch nor diffusers."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

from training.errors import ConfigError

NOISE_SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
"""Name of a schedule in diffusers (`beta_schedule`) -> in `training.diffusion.noise_schedules`."""
PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0"}
"""Name of a prediction in diffusers (`prediction_type`) -> in `training.diffusion.predictions`."""


def needs_diffusers(what: str) -> None:
    """Refuse to go on without diffusers.

    Args:
        what: setting that needs it; begins the error line.

    Raises:
        ConfigError: it is not installed; says how to install it.
    """
    try:
        import diffusers  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"{what} needs diffusers ({error}); run: pip install -e '.[diffusion]'") from error


@contextlib.contextmanager
def quiet_diffusers() -> Iterator[None]:
    """Silence the progress bars and the advice of diffusers: what a user has to know, this program says."""
    from diffusers.utils import logging as theirs

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
