"""Single sign-on: a trusted reverse proxy has logged a person in and names the person and the groups in headers."""

import hmac
import ipaddress
from collections.abc import Mapping, Sequence

from starlette.requests import Request

from jobfac.api.problems import Problem
from jobfac.errors import NotReady
from jobfac.secret_references import SecretError, resolve_proof
from jobfac.settings import Settings, SettingsError
from jobfac.states import Role
from jobfac.store.api_keys import Caller
from jobfac.telemetry.logs import logger

log = logger("jobfac.api")

PEER = "jobfac.peer"
"""Where a request's scope has the address of the connection's peer, before a proxy's headers replace it."""

EVERYBODY = "*"

SECRET = "X-Jobfac-Proxy-Secret"
"""The header in which the proxy proves that it is the proxy."""

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class SingleSignOn:
    """Reads who a proxy says the caller is. Off unless the setting ``proxy_user_header`` names a header."""

    def __init__(self, settings: Settings) -> None:
        """Read the settings.

        Raises:
            SettingsError: a setting that it needs is missing, or an address, a role or the secret cannot be read.
            NotReady: the file of the secret cannot be read.
        """
        if settings.proxy_user_header and not (settings.proxy_addresses and settings.proxy_roles):
            raise SettingsError(
                "proxy_user_header needs proxy_addresses, the proxies that may name a person, and proxy_roles, such as "
                "dba=admin,*=viewer."
            )
        self.header = settings.proxy_user_header.lower()
        self._groups = settings.proxy_groups_header.lower()
        self._roles = _roles(settings.proxy_roles)
        self._proxies = _networks(settings.proxy_addresses)
        self._secret = _secret(settings).encode()
        is_here = any(_overlap(one, other) for one in self._proxies for other in LOOPBACK)
        if self.header and is_here and not self._secret:
            # Every user and every program of the machine has the address 127.0.0.1.
            log.warning(
                "proxy_addresses has addresses of this machine, from which any of its users and programs can name "
                f"themselves; set proxy_secret, and let the proxy send it in {SECRET}", action="proxy_unproven",
            )  # fmt: skip

    def caller(self, request: Request) -> Caller | None:
        """Return whom the proxy names; None: single sign-on is off, or the request names nobody.

        Raises:
            Problem: 403 if the peer is no configured proxy, or no group of the person has a role.
        """
        names = request.headers.getlist(self.header) if self.header else []
        if not names:
            return None
        peer = (request.scope.get(PEER) or ("", 0))[0]
        if not self._is_proxy(peer):
            raise Problem(
                403, f"The header {self.header} is taken only from a proxy of proxy_addresses, not from {peer}."
            )
        if self._secret and not self._is_proven(request.headers.getlist(SECRET)):
            raise Problem(403, f"The proxy did not send {SECRET}, or not the one of the setting proxy_secret.")
        if len(names) != 1 or not (name := _text(names[0]).strip()):
            raise Problem(403, f"The header {self.header} must name one person.")
        sent = request.headers.getlist(self._groups) if self._groups else []
        if len(sent) > 1:  # one of them may be the client's own, which the proxy should have removed
            raise Problem(403, f"The header {self._groups} came {len(sent)} times; the proxy must send it once.")
        # Blanks and tabs alone: a group whose name begins with a no-break space is another group.
        groups = [one.strip(" \t") for value in sent for one in _text(value).split(",")]
        granted = [self._roles[group] for group in (*groups, EVERYBODY) if group in self._roles]
        if not granted:
            raise Problem(403, f"No group of '{name}' has a role; the setting proxy_roles says which groups have one.")
        return Caller(name[:128], max(granted, key=list(Role).index))

    def _is_proven(self, sent: Sequence[str]) -> bool:
        return len(sent) == 1 and hmac.compare_digest(_text(sent[0]).encode(), self._secret)

    def _is_proxy(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._proxies)


def _text(header: str) -> str:
    """Return a header as the proxy meant it: proxies send names in UTF-8, and headers are read as Latin-1."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def _secret(settings: Settings) -> str:
    try:
        return resolve_proof(settings.proxy_secret) if settings.proxy_secret else ""
    except SecretError as error:
        # A file may come later, and a keyring may be unlocked later.
        kind = NotReady if settings.proxy_secret.startswith(("file:", "keyring:")) else SettingsError
        raise kind(f"proxy_secret cannot be used: {error}.") from None


def _overlap(one: Network, other: Network) -> bool:
    return isinstance(one, type(other)) and one.overlaps(other)


def _roles(text: str) -> Mapping[str, Role]:
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    for group, _, role in pairs:
        if not group.strip() or role.strip() not in list(Role):
            raise SettingsError(f"proxy_roles must be pairs such as dba=admin,*=viewer, not '{group}={role}'.")
    return {group.strip(): Role(role.strip()) for group, _, role in pairs}


def _networks(text: str) -> Sequence[Network]:
    try:
        return [ipaddress.ip_network(one.strip()) for one in text.split(",") if one.strip()]
    except ValueError as error:
        raise SettingsError(f"proxy_addresses must be addresses or networks such as 10.0.0.0/8: {error}.") from None
