"""Notification channels: email, webhook, apprise.

Each channel is a module of this package. ``jobfac.definitions.Recipient`` has a key with the same name, marked with
``Channel()``. The module implements ``ChannelModule``. No other code names a channel.
"""

from importlib import import_module
from typing import Protocol, cast

from jobfac.channels.message import DeliveryError, Message
from jobfac.definitions import Recipient
from jobfac.secret_references import SecretError
from jobfac.settings import Settings

__all__ = ["DeliveryError", "Message", "deliver", "shown", "takes_output"]


class ChannelModule(Protocol):
    """The interface that each channel module implements."""

    TAKES_OUTPUT: bool
    """Whether a message shows the end of the run's output."""

    def send(self, message: Message, recipient: Recipient, settings: Settings) -> None:
        """Send a message. Raises ``DeliveryError``, whose text names no secret."""

    def shown(self, recipient: Recipient) -> str:
        """Return the recipient as text for logs and lists, without possible secrets."""


def deliver(message: Message, recipient: Recipient, settings: Settings) -> None:
    """Send a message through the recipient's channel.

    Raises:
        DeliveryError: as far as is known, the message did not arrive. The text contains no secret.
    """
    try:
        _module(recipient).send(message, recipient, settings)
    except DeliveryError:
        raise
    except SecretError as error:
        raise DeliveryError(str(error)) from None
    except Exception as error:  # its text may contain a secret
        raise DeliveryError(f"it could not be sent ({type(error).__name__})") from None


def shown(recipient: Recipient) -> str:
    """Return the recipient as text for logs and lists.

    Omits the parts of a URL that may be secret: path, query and user.
    """
    return _module(recipient).shown(recipient)


def takes_output(recipient: Recipient) -> bool:
    """Whether a message to this recipient shows the end of the run's output."""
    return _module(recipient).TAKES_OUTPUT


def _module(recipient: Recipient) -> ChannelModule:
    return cast(ChannelModule, import_module(f"{__name__}.{recipient.channel}"))
