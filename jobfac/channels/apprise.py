"""Any service that the library apprise knows, by its URL."""

import logging

from jobfac.channels import addresses, render
from jobfac.channels.message import DeliveryError, Message
from jobfac.definitions import Recipient, Secret
from jobfac.secret_references import resolve
from jobfac.settings import Settings

ANYWHERE = frozenset({"form", "forms", "json", "jsons", "xml", "xmls"})
"""Services that post to whatever host the URL names."""

TAKES_OUTPUT = False

_library = logging.getLogger("apprise")
_library.addHandler(logging.NullHandler())
_library.propagate = False  # what it says of a failure may hold the URL, and so a secret


def send(message: Message, recipient: Recipient, settings: Settings) -> None:
    """Send a title and a text. Raises ``DeliveryError``."""
    import apprise  # it takes long to load, and few need it

    assert recipient.apprise is not None
    url = recipient.apprise if isinstance(recipient.apprise, str) else resolve(recipient.apprise)
    scheme = url.partition("://")[0]
    asset = apprise.AppriseAsset(app_id="jobfac", app_desc="jobfac", app_url="", storage_mode="memory")
    service = apprise.Apprise.instantiate(url, asset=asset)
    if service is None:
        raise DeliveryError(f"apprise cannot use this {scheme}:// URL; see its manual for what it must hold")
    if scheme.lower() in ANYWHERE:
        addresses.resolve(service.host.strip("[]"), service.port or 443, settings.webhook_allow_local)
    sent = service.notify(
        title=render.subject(message, settings.templates), body=render.text(message, settings.templates)
    )
    if not sent:
        raise DeliveryError(f"the service behind {scheme}:// did not take the message")


def shown(recipient: Recipient) -> str:
    """The scheme of the URL, or where the URL is kept."""
    if isinstance(recipient.apprise, Secret):
        return recipient.apprise.secret
    return f"{str(recipient.apprise).partition('://')[0]}://..."
