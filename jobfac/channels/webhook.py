"""Webhook channel: POST the run's status as JSON, or an empty body, and sign it if the recipient has a secret.

``JobFac-Id`` stays the same when the same notification is sent again. ``JobFac-Signature: t=SECONDS, v1=HEX`` is the
HMAC-SHA-256 of ``SECONDS.BODY`` under the secret. A receiver verifies the signature and that the time is recent.
"""

import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import httpx

from jobfac.channels import addresses, egress
from jobfac.channels.message import DeliveryError, Message
from jobfac.definitions import Recipient, Secret
from jobfac.definitions.notify import HOP_BY_HOP
from jobfac.secret_references import resolve
from jobfac.settings import Settings

TAKES_OUTPUT = False

TIMEOUT = httpx.Timeout(10.0, connect=5.0)
"""Timeouts in seconds: for the connection, and for each later step."""


def sign(secret: str, moment: int, body: bytes) -> str:
    """Return the signature header of a body sent at ``moment``, in Unix seconds."""
    digest = hmac.new(secret.encode(), str(moment).encode() + b"." + body, hashlib.sha256)
    return f"t={moment}, v1={digest.hexdigest()}"


def shown(recipient: Recipient) -> str:
    """Return scheme and host of the URL, or the reference to the secret that holds the URL."""
    if isinstance(recipient.webhook, Secret):
        return recipient.webhook.secret
    scheme, _, rest = str(recipient.webhook).partition("://")
    return f"{scheme}://{rest.partition('/')[0].partition('?')[0].rpartition('@')[2]}"


def send(message: Message, recipient: Recipient, settings: Settings) -> None:
    """Post a message.

    Raises:
        DeliveryError: the answer is not a 2xx (redirects are not followed), there is none, or the URL is refused.
    """
    assert recipient.webhook is not None
    with _named(recipient.webhook) as text:
        _post(message, recipient, _url(text), settings)


def _post(message: Message, recipient: Recipient, url: httpx.URL, settings: Settings) -> None:
    body = b"" if recipient.body == "none" else json.dumps(message.body, ensure_ascii=False).encode()
    headers = {name: value if isinstance(value, str) else resolve(value) for name, value in recipient.headers.items()}
    ours = {
        "Host": url.netloc.decode(),
        "User-Agent": f"jobfac/{version('jobfac')}",
        "JobFac-Id": message.id,
        "JobFac-Event": message.event,
    }
    if recipient.body != "none":
        ours["Content-Type"] = "application/json"
    if recipient.secret is not None:
        ours["JobFac-Signature"] = sign(resolve(recipient.secret), int(time.time()), body)
    names = {name.lower() for name in ours} | HOP_BY_HOP
    kept = {name: value for name, value in headers.items() if name.lower() not in names}
    with egress.guarded(settings):
        status = _send("POST", url, kept | ours, body, settings)
    _check(url, status)


def call(text: str, settings: Settings) -> None:
    """Call a URL, by GET or, where the answer is that this method is not allowed, by POST. Raises as ``send``."""
    url = _url(text)
    headers = {"Host": url.netloc.decode(), "User-Agent": f"jobfac/{version('jobfac')}"}
    with egress.guarded(settings):
        status = _send("GET", url, headers, b"", settings)
        if status in (405, 501):
            status = _send("POST", url, headers, b"", settings)
    _check(url, status)


def ask(address: str | Secret, settings: Settings) -> None:
    """Ask a URL by GET, once. Returns when the answer is a 2xx. Raises as ``send``."""
    with _named(address) as text:
        url = _url(text)
        headers = {"Host": url.netloc.decode(), "User-Agent": f"jobfac/{version('jobfac')}"}
        with egress.guarded(settings):
            status = _send("GET", url, headers, b"", settings)
        _check(url, status)


@contextmanager
def _named(address: str | Secret) -> Iterator[str]:
    """Yield the URL. If it is a secret, errors name the reference in place of its host, which may be the secret part.

    Raises:
        SecretError: it cannot be resolved.
    """
    if isinstance(address, str):
        yield address
        return
    text = resolve(address)
    try:
        yield text
    except DeliveryError as error:
        try:
            host = httpx.URL(text).host
        except (httpx.InvalidURL, UnicodeError):
            host = ""
        raise DeliveryError(str(error).replace(host, address.secret) if host else str(error)) from None


def _check(url: httpx.URL, status: int) -> None:
    if not 200 <= status < 300:
        why = "; redirects are not followed" if 300 <= status < 400 else ""
        raise DeliveryError(f"{url.host} answered {status}{why}")


def _url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
        if url.scheme in ("http", "https") and url.host:
            return url
    except (httpx.InvalidURL, UnicodeError):  # UnicodeError: the host is no name
        pass
    raise DeliveryError("the webhook's URL cannot be used; it must begin with https:// or http:// and a host")


def _send(method: str, url: httpx.URL, headers: dict[str, str], body: bytes, settings: Settings) -> int:
    """Return the HTTP status from the first reachable address of the host."""
    port = url.port or (443 if url.scheme == "https" else 80)
    # Ignore proxies and other environment settings, so that the client connects to the checked address.
    with httpx.Client(timeout=TIMEOUT, verify=ssl.create_default_context(), trust_env=False) as client:
        found = addresses.resolve(url.host, port, settings.webhook_allow_local, settings.webhook_allow_private)
        for address in found:
            try:
                return _answer(client, method, url, address, headers, body)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if address == found[-1]:
                    raise DeliveryError(f"{url.host} cannot be connected to: {_cause(error)}") from None
            except httpx.TimeoutException:
                raise DeliveryError(f"{url.host} did not answer in time") from None
            except (httpx.HTTPError, ValueError) as error:  # its text may contain a header, which may hold a secret
                raise DeliveryError(f"{url.host} could not be posted to ({type(error).__name__})") from None
    raise AssertionError("a host has addresses")


def _answer(
    client: httpx.Client, method: str, url: httpx.URL, address: str, headers: dict[str, str], body: bytes
) -> int:
    extensions: dict[str, Any] = {"sni_hostname": url.host}  # verify the certificate against the host name
    target = url.copy_with(host=address, username=None, password=None)
    auth = httpx.BasicAuth(url.username, url.password) if url.userinfo else None
    request = client.build_request(method, target, headers=headers, content=body, extensions=extensions)
    answer = client.send(request, auth=auth, stream=True)
    answer.close()  # only the status counts
    return answer.status_code


def _cause(error: httpx.HTTPError) -> str:
    return "it did not answer in time" if isinstance(error, httpx.TimeoutException) else str(error)
