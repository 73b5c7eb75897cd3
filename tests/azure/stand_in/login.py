"""login.microsoftonline.com: tokens for whoever knows the client's secret."""

from __future__ import annotations

import base64
import json
import re
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from tests.azure.stand_in.exchange import RefusalError, Reply, Request
from tests.azure.stand_in.routes import Routes

if TYPE_CHECKING:
    from tests.azure.stand_in.world import World

ROUTES = Routes()
TENANT = "7e57e57e-0000-4000-8000-000000000001"
CLIENT = "7e57e57e-0000-4000-8000-000000000002"
SECRET = "a-secret-of-the-tests"
_AUDIENCES = {"https://management.azure.com", "https://management.core.windows.net", "https://ml.azure.com"}


def make_token(audience: str, seconds: float = 3600) -> str:
    """A token as Entra ID words it, signed by nobody."""
    now = int(time.time())
    head = {"typ": "JWT", "alg": "RS256", "kid": "tests"}
    claims = {
        "aud": audience,
        "iss": f"https://sts.windows.net/{TENANT}/",
        "iat": now,
        "nbf": now - 300,
        "exp": now + int(seconds),
        "appid": CLIENT,
        "oid": "7e57e57e-0000-4000-8000-000000000003",
        "sub": "7e57e57e-0000-4000-8000-000000000003",
        "tid": TENANT,
        "ver": "1.0",
    }
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (head, claims))
    return ".".join((*parts, "c2lnbmF0dXJl"))


def check_token(request: Request) -> None:
    """The caller of the control plane must have logged in.

    Raises:
        RefusalError: 401, as Azure Resource Manager words it.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme != "Bearer" or not token:
        raise RefusalError(
            401,
            "AuthenticationFailed",
            "Authentication failed. The 'Authorization' header is missing.",
            {"WWW-Authenticate": f'Bearer authorization_uri="https://login.microsoftonline.com/{TENANT}"'},
        )
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError):
        claims = {}
    if claims.get("tid") != TENANT or claims["aud"].rstrip("/") not in _AUDIENCES:
        raise RefusalError(401, "InvalidAuthenticationToken", "The access token is invalid.")
    if claims["exp"] < time.time():
        raise RefusalError(401, "ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than now.")


@ROUTES.on("GET", r"/(?P<tenant>[^/]+)/(v2\.0/)?\.well-known/openid-configuration")
def configuration(world: World, request: Request, tenant: str) -> Reply:
    """Where the tenant's tokens are given."""
    base = f"https://login.microsoftonline.com/{tenant}"
    return Reply(
        document={
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            "issuer": f"{base}/v2.0",
            "tenant_region_scope": "NA",
            "cloud_instance_name": "microsoftonline.com",
        }
    )


@ROUTES.on("GET", r"/common/discovery/instance")
def instance(world: World, request: Request) -> Reply:
    """Which hosts are this cloud's login."""
    aliases = ["login.microsoftonline.com", "login.windows.net"]
    entry = {"preferred_network": aliases[0], "preferred_cache": aliases[1], "aliases": aliases}
    endpoint = f"https://{aliases[0]}/{TENANT}/v2.0/.well-known/openid-configuration"
    return Reply(document={"tenant_discovery_endpoint": endpoint, "api-version": "1.1", "metadata": [entry]})


@ROUTES.on("POST", r"/(?P<tenant>[^/]+)/oauth2/v2\.0/token")
def token(world: World, request: Request, tenant: str) -> Reply:
    """Client credentials."""
    form = {name: values[-1] for name, values in parse_qs(request.body.decode()).items()}
    if tenant != TENANT:
        return _refused("invalid_request", f"AADSTS90002: Tenant '{tenant}' not found. Check the tenant ID.")
    if form.get("client_id") != CLIENT:
        description = (
            f"AADSTS700016: Application with identifier '{form.get('client_id')}' was not found in the directory."
        )
        return _refused("unauthorized_client", description)
    if form.get("client_secret") != SECRET:
        description = f"AADSTS7000215: Invalid client secret provided for app '{CLIENT}'."
        return _refused("invalid_client", description, 401)
    audience = re.sub(r"/+\.default$", "", form["scope"].split()[0])
    made = {"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": make_token(audience)}
    return Reply(document=made)


def _refused(error: str, description: str, status: int = 400) -> Reply:
    return Reply(status, {"error": error, "error_description": description, "error_codes": [], "timestamp": ""})
