"""Errors of Azure and of the way to it, each as one line that says what to do."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.errors import UserError

INSTALL = "pip install -e '.[azure]'"
"""Command that installs the SDK."""
OURS = Path(__file__).resolve().parents[1]
"""Directory of this backend's code, by which a traceback shows whose code failed."""
LONGEST = 300
"""Characters of the service's own words that are passed on."""


class ServiceError(UserError):
    """Azure refused what was asked, or could not be reached."""

    def __init__(self, message: str, status: int | None = None, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        """HTTP status; None: there was no answer."""
        self.code = code
        """Azure's name of the fault, such as `ResourceNotFound`; empty: it gave none."""


@contextlib.contextmanager
def service_refusals(doing: str) -> Iterator[None]:
    """Turn whatever the SDK raises in the block into one line.

    Args:
        doing: what was tried; the line begins with it: `"compute cluster 'gpu'"`.

    Raises:
        ServiceError: the service refused or could not be reached. A fault in this project's code keeps its traceback.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError):
            raise
        message = refusal(error)
        if message is None:
            raise
        raise ServiceError(f"{doing}: {message}", status_of(error), code_of(error)) from error


def refusal(error: BaseException) -> str | None:
    """Say what an exception of the SDK means and what to do about it; None: it is not one of the SDK's."""
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] in ("azure", "msal", "marshmallow"):
        return f"the Azure SDK is not installed or damaged ({_one_line(str(error))}); run: {INSTALL}"
    chain, module = _chain(error), type(error).__module__
    if not _in_sdk(error) and all(type(cause).__module__.partition(".")[0] not in _OF_THE_SDK for cause in chain):
        return None
    texts = [_text(cause) for cause in chain]
    status = status_of(error)
    if status is None:
        for cause, text in zip(chain, texts, strict=True):
            attempt = _FAILED_LOGIN.search(text)
            if unreachable := _unreachable(cause, attempt[2] if attempt else text):
                return unreachable
    if "DefaultAzureCredential" in texts[0] or "AADSTS" in texts[0] or module.startswith("azure.identity"):
        return _login(texts[0])
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"  # of a file here, which the SDK reads or writes
    if type(error).__name__ == "DecodeError":  # of azure-core: the service answered, and in no form of its own
        return _not_understood(error)
    if status is not None:
        return _answered(status, code_of(error), _words(error), texts)
    if not isinstance(error, _sdk_errors()):
        return _not_understood(error)
    name = "" if module.startswith("azure.ai.ml") else f"{type(error).__name__}: "
    return f"the Azure SDK refuses ({name}{_one_line(texts[0])})"


def _not_understood(error: BaseException) -> str:
    return (
        f"the answer is not Azure ML's ({type(error).__name__}: {_one_line(_text(error))}); is a proxy or login page "
        "answering instead of Azure ML, or does this version of azure-ai-ml not fit?"
    )


def _sdk_errors() -> tuple[type[BaseException], ...]:
    from azure.core.exceptions import AzureError
    from marshmallow.exceptions import MarshmallowError

    return AzureError, MarshmallowError


_OF_THE_SDK = ("azure", "msal", "marshmallow", "msrest", "requests", "urllib3")


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that the service answered with; None: it did not answer."""
    for cause in _chain(error):
        status = getattr(cause, "status_code", None)
        if isinstance(status, int):
            return status
    return None


def code_of(error: BaseException) -> str:
    """Return Azure's name of the fault, such as `ResourceNotFound`; empty: none was given."""
    for cause in _chain(error):
        for code in (getattr(getattr(cause, "error", None), "code", None), getattr(cause, "error_code", None)):
            if code:
                return str(getattr(code, "value", code))
    return ""


def _answered(status: int, code: str, words: str, texts: list[str]) -> str:
    details = f"({status}{' ' + code if code and code not in words else ''}{': ' + words if words else ''})"
    tenants = re.findall(r"sts\.windows\.net/([0-9a-fA-F-]{36})", " ".join(texts))
    if code == "InvalidAuthenticationTokenTenant" and len(tenants) > 1:
        return f"the login is of tenant {tenants[0]}, the subscription of another; run `az login --tenant {tenants[1]}`"
    if status < 400:  # the result of a long operation, which was asked for without error
        return f"it failed at Azure ({code}{': ' if code and words else ''}{words})"
    if status == 401:
        return f"Azure no longer accepts the login {details}; run `az login`{_tenant()}"
    if code == "SubscriptionNotFound" or code == "InvalidSubscriptionId":
        return (
            f"there is no such subscription, or the login may not see it {details}; "
            "`az account list -o table` shows yours"
        )
    if code == "KeyBasedAuthenticationNotPermitted":
        return (
            f"the storage account forbids access by key {details}; let the workspace use identities "
            "(az ml workspace update --system-datastores-auth-mode identity)"
        )
    if code in ("AuthorizationPermissionMismatch", "AuthorizationFailure"):
        return (
            f"the storage account refuses {details}; the login needs the role Storage Blob Data Contributor there, and "
            "its network rules must let this machine in"
        )
    if status == 403:
        needed = "Contributor" if "computes/write" in words else "AzureML Data Scientist"
        return (
            f"the login may not do this {details}; it needs the role {needed} on the workspace, which "
            "its owner can give"
        )
    if status == 404:
        return f"there is no such thing {details}; check the name"
    if status in (409, 412):
        return f"it exists already, or somebody else changed it at the same moment {details}"
    if status == 429:
        return (
            f"Azure has had too many requests, also after waiting as long as it asked {details}; try "
            "again in some minutes"
        )
    if status == 413:
        return f"it is too large for the service {details}"
    if status >= 500:
        return f"Azure has a fault of its own, also after trying again {details}; try again later (https://azure.status.microsoft)"
    return f"Azure refuses {details}"


_LOGIN_FAULTS = {
    "AADSTS7000215": "AZURE_CLIENT_SECRET is wrong (give the secret's value, not its id)",
    "AADSTS7000222": "AZURE_CLIENT_SECRET has expired; make a new one with `az ad app credential reset`",
    "AADSTS700016": "there is no application AZURE_CLIENT_ID in the tenant AZURE_TENANT_ID",
    "AADSTS90002": "there is no tenant AZURE_TENANT_ID",
    "AADSTS900023": "AZURE_TENANT_ID is no tenant's id",
    "AADSTS700082": "the login has expired",
    "AADSTS70043": "the login has expired",
    "AADSTS50173": "the login has expired",
    "AADSTS50076": "the login needs a second factor",
    "AADSTS50079": "the login needs a second factor",
    "AADSTS50020": "the login belongs to another tenant",
    "AADSTS53003": "a rule of the tenant (Conditional Access) blocks the login",
}


_FAILED_LOGIN = re.compile(r"(\w+Credential): Authentication failed: ([^\n]*)")


def _login(text: str) -> str:
    """Return one line for what `DefaultAzureCredential` reports in forty."""
    fault = next((match for match in re.findall(r"AADSTS\d+", text) if match in _LOGIN_FAULTS), None)
    own_words = re.search(r"AADSTS\d+:[^.\n]*", text)
    if fault is not None and "AZURE_" in _LOGIN_FAULTS[fault]:
        return f"{_LOGIN_FAULTS[fault]} ({fault})"
    if fault is not None:
        return f"{_LOGIN_FAULTS[fault]} ({fault}); run `az login`{_tenant()}"
    if own_words is not None:
        return f"the login is refused ({_one_line(own_words.group())}); run `az login`{_tenant()}"
    failed = _FAILED_LOGIN.search(text)
    if failed is not None:
        return f"the login by {failed.group(1)} failed ({_one_line(failed.group(2))}); run `az login`{_tenant()}"
    without_cli = " (https://aka.ms/azure-cli brings it)" if "CLI not found on path" in text else ""
    return (
        f"nobody is logged in to Azure here; run `az login`{_tenant()}{without_cli}, or set AZURE_TENANT_ID, "
        "AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"
    )


def _tenant() -> str:
    tenant = os.environ.get("AZURE_TENANT_ID")
    return f" (`az login --tenant {tenant}` for that tenant)" if tenant else ""


def _unreachable(error: BaseException, text: str) -> str | None:
    """Return a line about the network; None: the exception is not about it."""
    host = (re.search(r"host='([^']+)'", text) or re.search(r"https://([^/\s'\"]+)", text) or ("", ""))[1] or "Azure"
    if type(error).__name__ == "SSLError" or "CERTIFICATE_VERIFY_FAILED" in text or "SSLError" in text:
        return (
            f"the certificate of {host} is not trusted ({_one_line(text)}); behind a company's proxy set "
            "REQUESTS_CA_BUNDLE to the file with its certificate"
        )
    if "OSError: Could not find a suitable TLS CA certificate bundle" in text or "suitable TLS CA certificate" in text:
        return f"REQUESTS_CA_BUNDLE={os.environ.get('REQUESTS_CA_BUNDLE')} is not a file with certificates"
    if any(sign in text for sign in ("RemoteDisconnected", "ConnectionResetError", "Connection reset")):
        return f"{host} broke the connection off, also after trying again; try again later"
    if "Unable to connect to proxy" in text or "ProxyError" in text or "Tunnel connection failed" in text:
        proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy") or "of the system"
        return f"the proxy {_without_secrets(proxy)} does not let this through ({_one_line(text)}); check HTTPS_PROXY"
    if "Failed to resolve" in text or "Name or service not known" in text or "getaddrinfo failed" in text:
        return f"{host} cannot be found; is there a network, or does it need HTTPS_PROXY?"
    kind = type(error).__name__
    if kind in _NETWORK_FAULTS or any(sign in text for sign in _NETWORK_SIGNS):
        return f"{host} cannot be reached or broke off, also after trying again ({_one_line(text)}); try again later"
    return None


_NETWORK_FAULTS = (
    "ServiceRequestError", "ServiceRequestTimeoutError", "ServiceResponseError", "ServiceResponseTimeoutError",
    "IncompleteReadError", "ConnectionError", "ConnectionResetError", "BrokenPipeError", "ChunkedEncodingError",
)  # fmt: skip
_NETWORK_SIGNS = ("Connection refused", "Connection aborted", "Connection reset", "timed out", "Max retries exceeded")


def _words(error: BaseException) -> str:
    """Return the service's own words, without what only its makers need."""
    for cause in _chain(error):
        words = getattr(getattr(cause, "error", None), "message", None)
        if words:
            return _one_line(re.split(r"\nRequestId:| or the scope is invalid", str(words))[0])
    for cause in _chain(error):
        if isinstance(getattr(cause, "status_code", None), int):
            return _one_line(str(getattr(cause, "reason", "") or _text(cause).split("\nRequestId:")[0]))
    return ""


def _chain(error: BaseException) -> list[BaseException]:
    """List an exception and what caused it, the outermost first."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        inner = getattr(current, "inner_exception", None)
        current = current.__cause__ or (inner if isinstance(inner, BaseException) else None)
    return chain


def _in_sdk(error: BaseException) -> bool:
    """Return True for an error raised by the SDK itself, and not by this project's code that the SDK calls."""
    trace, is_sdk = error.__traceback__, False
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.is_relative_to(OURS):
            is_sdk = False
        elif re.search(r"[\\/]site-packages[\\/](azure|msal|msrest)[\\/]", str(file)):
            is_sdk = True
        trace = trace.tb_next
    return is_sdk


def _text(error: BaseException) -> str:
    message: Any = getattr(error, "message", None)
    return message if isinstance(message, str) and message else str(error) or type(error).__name__


def _one_line(text: str) -> str:
    """Return the text without colours, line ends and secrets, and of bounded length."""
    line = _without_secrets(" ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split()))
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def _without_secrets(text: str) -> str:
    text = re.sub(r"(?i)\b(sig|AccountKey|client_secret)=[^&\s'\";]+", r"\1=…", text)
    text = re.sub(r"(?i)\bBearer\s+[\w.~+/-]+=*", "Bearer …", text)
    return re.sub(r"(?i)(https?://)[^/@\s'\"]+@", r"\1", text)


# -- outages -----------------------------------------------------------------------------------------------------------


def outage_of(error: BaseException) -> str | None:
    """Say in a few words what is out of order, where waiting may help; None: the error is an answer."""
    from azure.core.exceptions import (
        ClientAuthenticationError,
        DecodeError,
        HttpResponseError,
        ServiceRequestError,
        ServiceResponseError,
    )

    if isinstance(error, ServiceError):  # a line that stands for another exception
        return outage_of(error.__cause__) if error.__cause__ is not None else None
    if isinstance(error, ClientAuthenticationError):
        return "the login is no longer accepted; run `az login` in another terminal"
    if isinstance(error, DecodeError):
        return "the answer is not Azure's"
    if isinstance(error, HttpResponseError):
        status = error.status_code
        if status is None or status == 408 or status >= 500:
            return f"it has a fault of its own ({status})" if status else "its answer broke off"
        return {401: "the login has expired", 429: "it has had too many requests (429)"}.get(status)
    if isinstance(error, ServiceRequestError | ServiceResponseError):
        return "it cannot be reached"
    return None
