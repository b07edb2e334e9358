"""The ways by which a notification reaches somebody: email, webhook, apprise.

A channel is one module with a function ``send``; a new one is entered in ``_CHANNELS`` and in the definitions'
``Recipient``.
"""

from collections.abc import Callable

from jobfac.channels import apprise, email, webhook
from jobfac.channels.message import DeliveryError, Message
from jobfac.definitions import Recipient, Secret
from jobfac.secret_references import SecretError
from jobfac.settings import Settings

__all__ = ["DeliveryError", "Message", "deliver", "kind_of", "shown"]

_CHANNELS: dict[str, Callable[[Message, Recipient, Settings], None]] = {
    "email": email.send,
    "webhook": webhook.send,
    "apprise": apprise.send,
}


def kind_of(recipient: Recipient) -> str:
    """The name of the channel."""
    return next(name for name in _CHANNELS if getattr(recipient, name))


def shown(recipient: Recipient) -> str:
    """Who that is, without what may be secret in a URL: its path, its query and its user."""
    if recipient.email:
        return ", ".join(recipient.email)
    url = recipient.webhook or recipient.apprise
    if isinstance(url, Secret):
        return url.secret
    scheme, _, rest = str(url).partition("://")
    if recipient.apprise:
        return f"{scheme}://..."
    return f"{scheme}://{rest.partition('/')[0].partition('?')[0].rpartition('@')[2]}"


def deliver(message: Message, recipient: Recipient, settings: Settings) -> None:
    """Send a message.

    Raises:
        DeliveryError: it did not arrive, as far as is known; the text names no secret.
    """
    try:
        _CHANNELS[kind_of(recipient)](message, recipient, settings)
    except SecretError as error:
        raise DeliveryError(str(error)) from None
