"""Channel for every service that the apprise library supports, addressed by URL."""

import logging
import re
from typing import Any

from jobfac.channels import bounds, egress, render
from jobfac.channels.message import DeliveryError, Message
from jobfac.definitions import Recipient, Secret
from jobfac.definitions.notify import CHOOSES, HEADER, HOP_BY_HOP, OTHER_METHODS
from jobfac.secret_references import resolve
from jobfac.settings import Settings

TAKES_OUTPUT = False

LONGEST = 8000
"""Characters of a URL at most. The library takes a time for some that grows with the square of their length, and no
other thread of the process runs meanwhile."""

READ_TIMEOUT = 10.0
"""Seconds for an answer, as for a webhook. The library's four are less than some services need, which would then show
a message ten times."""

_library = logging.getLogger("apprise")
_library.addHandler(logging.NullHandler())
_library.propagate = False  # its messages may contain the URL, which may hold a secret


def send(message: Message, recipient: Recipient, settings: Settings) -> None:
    """Send the message as a title and a text.

    Raises:
        DeliveryError: the scheme is not allowed, the URL is too long, cannot be used or asks for what only a secret one
            may, or the service did not take the message.
    """
    import apprise  # slow to import, and rarely needed

    bounds.install()

    assert recipient.apprise is not None
    url = recipient.apprise if isinstance(recipient.apprise, str) else resolve(recipient.apprise)
    scheme, mark, _ = url.partition("://")
    if not mark or not re.fullmatch(r"[A-Za-z][A-Za-z0-9.+-]{0,31}", scheme):  # the text may be a token alone
        raise DeliveryError("the apprise URL cannot be used: it must begin with the service and ://, as in slack://")
    if not is_allowed(scheme, settings.apprise_schemes):
        raise DeliveryError(
            f"{scheme}:// is not among the allowed services; add it to apprise_schemes where the scheduler runs"
        )
    if len(url) > LONGEST:
        raise DeliveryError(f"this {scheme}:// URL has {len(url):,} characters, and {LONGEST:,} are the most")
    title, text = render.subject(message, settings.templates), render.text(message, settings.templates)
    asset = apprise.AppriseAsset(app_id="jobfac", app_desc="jobfac", app_url="", storage_mode="memory")
    service = apprise.Apprise.instantiate(url, asset=asset)
    if service is None:
        raise DeliveryError(f"apprise cannot use this {scheme}:// URL; see its manual for what it must hold")
    if isinstance(recipient.apprise, str) and reads_files(service):  # a start may name such a recipient
        raise DeliveryError(
            f"this {scheme}:// URL names a file to read, as with template=; only a URL that is a secret may: write it "
            "in the job's notify as {secret: ...}"
        )
    if isinstance(recipient.apprise, str) and not only_posts(service):
        raise DeliveryError(f"this {scheme}:// URL {CHOOSES}: write it in the job's notify as {{secret: ...}}")
    if message.by_start and targets(service) > 1:
        raise DeliveryError(
            f"this {scheme}:// URL has {targets(service)} recipients, and one of a start has one: name a URL for each"
        )
    if service.socket_read_timeout == apprise.URLBase.socket_read_timeout:  # the URL has no rto=
        service.socket_read_timeout = READ_TIMEOUT
    with egress.guarded(settings):
        sent = service.notify(title=title, body=text)
    if not sent:
        raise DeliveryError(f"the service behind {scheme}:// did not take the message")


def reads_files(service: Any) -> bool:
    """Whether a service of apprise reads files of this machine, or others, to make its message."""
    import apprise

    parts = (service, *vars(service).values())
    values = [value for one in parts for value in getattr(one, "__dict__", {}).values()]
    return any(isinstance(value, apprise.AppriseAttachment) and len(value) > 0 for value in values)


def targets(service: Any) -> int:
    """Return how many recipients a service of apprise sends a message to, with those who get a copy."""
    return len(service) + sum(len(getattr(service, name, None) or ()) for name in ("cc", "bcc"))


def only_posts(service: Any) -> bool:
    """Whether a service of apprise posts, as a webhook does, with no header that routes or frames the request."""
    method = str(getattr(service, "method", "POST")).upper()
    headers = [str(name) for name in getattr(service, "headers", ())]
    # Proxies strip blanks from a name.
    are_names = all(HEADER.fullmatch(name) for name in headers)
    return are_names and method not in OTHER_METHODS and {"host", *HOP_BY_HOP}.isdisjoint(map(str.lower, headers))


def shown(recipient: Recipient) -> str:
    """Return the scheme of the URL, or the reference to the secret that holds the URL."""
    if isinstance(recipient.apprise, Secret):
        return recipient.apprise.secret
    return f"{str(recipient.apprise).partition('://')[0]}://..."


def is_allowed(scheme: str, allowed: str) -> bool:
    """Whether a scheme is in a list separated by commas or spaces, where ``*`` stands for every scheme."""
    words = {word.lower() for word in re.split(r"[,\s]+", allowed) if word}
    return "*" in words or scheme.lower() in words
