"""Publishing a model directory on the Hugging Face Hub: asked before the training, done after it.

The token comes from where `huggingface_hub` itself looks (HF_TOKEN, the login of `hf auth login`, …), or from
HF_HUB_TOKEN, which many documents name. It is never written, printed, or put into a config. The library is imported
only when something is published.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.errors import ConfigError, UserError
from training.settings.hub import HubConfig

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

TIMEOUT = 60.0
"""Seconds that the Hub may be silent; the library's own client would wait forever."""
LEFT_BY_OTHER_EXPORTS = "onnx/"
"""Directory that an export may write and the next may not: it would be left next to other weights."""
LONGEST = 300
"""Characters of the Hub's own words that are passed on."""


class HubError(UserError):
    """A model could not be published."""


def check_before_training(settings: HubConfig) -> str | None:
    """Find out what would make the push fail, before hours are spent. Asks the Hub at most twice, and changes nothing.

    Returns:
        A warning where the Hub cannot be asked now; the push is tried after the training all the same.

    Raises:
        ConfigError: the library or a token is missing, the Hub is switched off by HF_HUB_OFFLINE, it refuses the token,
            the token may not write there, or a repository that is to be private is public.
    """
    repo = settings.push_to_hub
    if repo is None:
        return None
    where = f"--push-to-hub {repo}"
    try:
        token = find_token()
        with _requests_that_end():
            api = _api(token)
            account = api.whoami()
            _refuse_useless_token(repo, account)
            if settings.private:
                _refuse_public(api, repo if "/" in repo else f"{account['name']}/{repo}")
    except HubError as error:
        raise ConfigError(f"{where}: {error}") from error
    except Exception as error:  # of the library: the Hub's answers and the network's faults
        reason = refusal(error, repo, token)
        if status_of(error) in (401, 403):
            raise ConfigError(f"{where}: {reason}") from error
        return f"{where} could not be checked ({reason}); the push is tried after the training"
    return None


def push(directory: Path, repo: str, private: bool = False) -> str:
    """Upload a model directory as one commit, and make the repository if it is not there.

    A second push sends what has changed.

    Args:
        directory: all its files are uploaded; files of the repository that it does not have stay there, except what
            another export has left (`LEFT_BY_OTHER_EXPORTS`).
        repo: OWNER/NAME, or NAME for the token's own account.
        private: a repository that is made is private; one that is there must be.

    Returns:
        The page of the model.

    Raises:
        HubError: nothing or not everything was published; one line with what to do. Calling again continues from there.
    """
    token = find_token()
    try:
        with _requests_that_end():
            api = _api(token)
            created = api.create_repo(repo, private=private or None, exist_ok=True)
            if private:
                _refuse_public(api, created.repo_id)
            # Not upload_folder, which may make several commits: weights and config would differ between two of them.
            api.create_commit(created.repo_id, _changes(api, directory, created.repo_id), commit_message="Upload model")
    except HubError:
        raise
    except Exception as error:  # of the library: the Hub's answers and the network's faults
        raise HubError(refusal(error, repo, token)) from error
    return str(created)


def _changes(api: HfApi, directory: Path, repo: str) -> list[CommitOperationAdd | CommitOperationDelete]:
    """Return the changes after which the repository holds `directory`; identical files are not sent again."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    files = {path.relative_to(directory).as_posix(): path for path in sorted(directory.rglob("*")) if path.is_file()}
    present = api.list_repo_files(repo)
    stale = [name for name in present if name.startswith(LEFT_BY_OTHER_EXPORTS) and name not in files]
    return [
        *(CommitOperationAdd(name, str(path)) for name, path in files.items()),
        *(CommitOperationDelete(name) for name in stale),
    ]


def find_token() -> str:
    """Return the user's token: a variable that the Hub's library knows, HF_HUB_TOKEN, or the library's login.

    Raises:
        HubError: there is none, or the library is missing or switched off.
    """
    try:
        from huggingface_hub import get_token, is_offline_mode
    except ImportError as error:
        raise HubError("huggingface_hub is not installed; run: pip install -e '.[huggingface]'") from error
    if is_offline_mode():
        raise HubError(
            "the Hub is switched off (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set); unset it, or leave "
            "--push-to-hub out and push later with tools/export_model.py"
        )
    own = None if any(map(os.environ.get, ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"))) else os.environ.get("HF_HUB_TOKEN")
    try:
        token = (own or "").strip() or get_token()
    except Exception as error:  # an unreadable token file, a CI's token exchange that fails
        raise HubError(f"the token of the Hub cannot be read ({refusal(error)}); run `hf auth login`") from error
    if token is None:
        raise HubError("there is no token for the Hub; run `hf auth login`, or set HF_TOKEN to one that may write")
    if not (token.isascii() and token.isprintable()):
        raise HubError("the token for the Hub holds characters that no token has; run `hf auth login`, or set HF_TOKEN")
    return token


def _api(token: str) -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(token=token, library_name="apt-trainer")


@contextlib.contextmanager
def _requests_that_end() -> Iterator[None]:
    """Give the requests of the library's client a time limit while a block runs."""
    from huggingface_hub import get_session

    session = get_session()
    before = session.timeout
    session.timeout = TIMEOUT
    try:
        yield
    finally:
        session.timeout = before


def _refuse_useless_token(repo: str, account: dict[str, Any]) -> None:
    """Refuse a token that says itself that it cannot write to `repo`.

    A fine-grained token does not say where it may write: the Hub decides when the push comes.
    """
    role = account.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise HubError("the token may only read; make one with the role `write` (https://hf.co/settings/tokens)")
    owner, separator, _ = repo.partition("/")
    names = [account["name"], *(organisation["name"] for organisation in account.get("orgs", ()))]
    if role == "write" and separator and owner.lower() not in (name.lower() for name in names):
        raise HubError(f"the token belongs to {names[0]}, who writes to {', '.join(names)} and not to {owner}")


def _refuse_public(api: HfApi, repo: str) -> None:
    """Refuse to put into public what is meant to be private: the Hub makes no existing repository private by itself."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        is_public = not api.repo_info(repo).private
    except RepositoryNotFoundError:
        return
    if is_public:
        raise HubError(
            f"{repo} is there already and public, and --private is asked for; nothing was uploaded. Make it private on "
            "its settings page, or choose another name"
        )


# -- refusals ---------------------------------------------------------------------------------------------------------


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that the Hub answered with; None: it did not answer."""
    for cause in _chain(error):
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
    return None


def refusal(error: BaseException, repo: str = "", token: str = "") -> str:
    """Put an exception of the Hub's library into one line that says what to do.

    Args:
        error: any exception; of a chain, the first one that the Hub caused is described.
        repo: OWNER/NAME.
        token: never shown, whatever the exception's text contains.
    """
    status = status_of(error)
    words = _hidden(_words(error), token)
    if status is None:
        return f"the Hub cannot be reached or gave no sensible answer: {words}; try again later"
    answer = f"({status}: {words})" if words else f"({status})"
    if status == 401:
        return f"the Hub does not accept the token {answer}; run `hf auth login`, or set HF_TOKEN to one that may write"
    if status in (403, 404):
        return f"the token may not write to {repo} {answer}; check the name, and that the token may write there"
    if status in (409, 412):
        return f"{repo} was changed by somebody else at the same moment {answer}; push again"
    if status == 429:
        return f"the Hub has had too many requests from here {answer}; wait a while and push again"
    if status >= 500:
        return f"the Hub has a fault of its own {answer}; push again later"
    return f"the Hub refuses {answer}"


def _chain(error: BaseException) -> list[BaseException]:
    """Return an exception and its causes, the outermost first."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__
    return chain


def _words(error: BaseException) -> str:
    """Return the Hub's own words where there are any, else the innermost exception's."""
    chain = _chain(error)
    words = next((w for e in chain if isinstance(w := getattr(e, "server_message", None), str)), "")
    if not words and status_of(error) is None:
        # A file that could not be uploaded hides the broken connection behind it.
        words = str(chain[-1]) or type(chain[-1]).__name__
    line = " ".join(words.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def _hidden(text: str, token: str) -> str:
    return text.replace(token, "[token]") if token else text
