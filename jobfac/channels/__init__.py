"""The ways by which a notification reaches somebody: email, webhook, apprise.

A channel is one module with a function ``send``; a new one is entered in ``_CHANNELS`` and in the definitions'
``Recipient``.
"""

from collections.abc import Callable

from jobfac.channels import apprise, email, webhook
from jobfac.channels.message import DeliveryError, Message
from jobfac.definitions import Recipient
from jobfac.secret_references import SecretError
from jobfac.settings import Settings

__all__ = ["DeliveryError", "Message", "deliver"]

_CHANNELS: dict[str, Callable[[Message, Recipient, Settings], None]] = {
    "email": email.send,
    "webhook": webhook.send,
    "apprise": apprise.send,
}


def deliver(message: Message, recipient: Recipient, settings: Settings) -> None:
    """Send a message.

    Raises:
        DeliveryError: it did not arrive, as far as is known; the text names no secret.
    """
    try:
        _CHANNELS[recipient.channel](message, recipient, settings)
    except SecretError as error:
        raise DeliveryError(str(error)) from None
