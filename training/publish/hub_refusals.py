"""What the Hub or the way to it refused, in one line that says what to do."""

from __future__ import annotations

from training.errors import UserError

LONGEST = 300
"""Characters of the Hub's own words that are passed on."""


class HubError(UserError):
    """A model could not be published."""


def status_of(error: BaseException) -> int | None:
    """The HTTP status that the Hub answered with, or None: it did not answer."""
    for cause in _chain(error):
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
    return None


def refusal(error: BaseException, repo: str = "", token: str = "") -> str:
    """One line about an exception of the Hub's library.

    Args:
        error: any exception; what was raised `from` another is told by the first one that the Hub caused.
        repo: OWNER/NAME.
        token: never shown, whatever the exception's text contains.
    """
    status = status_of(error)
    told = _hidden(_told(error), token)
    if status is None:
        return f"the Hub cannot be reached or gave no sensible answer: {told}; try again later"
    told = f"({status}: {told})" if told else f"({status})"
    if status == 401:
        return f"the Hub does not accept the token {told}; run `hf auth login`, or set HF_TOKEN to one that may write"
    if status in (403, 404):
        return f"the token may not write to {repo} {told}; check the name, and that the token may write there"
    if status in (409, 412):
        return f"{repo} was changed by somebody else at the same moment {told}; push again"
    if status == 429:
        return f"the Hub has had too many requests from here {told}; wait a while and push again"
    if status >= 500:
        return f"the Hub has a fault of its own {told}; push again later"
    return f"the Hub refuses {told}"


def _chain(error: BaseException) -> list[BaseException]:
    """An exception and what caused it, the outermost first."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__
    return chain


def _told(error: BaseException) -> str:
    """The Hub's own words where there are any, else the innermost exception's first line."""
    chain = _chain(error)
    words = next((w for e in chain if isinstance(w := getattr(e, "server_message", None), str)), "")
    if not words and status_of(error) is None:
        # A file that could not be uploaded hides the broken connection behind it.
        words = str(chain[-1]) or type(chain[-1]).__name__
    line = " ".join(words.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def _hidden(text: str, token: str) -> str:
    return text.replace(token, "[token]") if token else text
