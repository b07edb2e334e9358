"""The channels by which a notification is delivered: email, webhook, apprise.

A channel is a module of this package and a key of the same name of ``jobfac.definitions.Recipient``, marked with
``Channel()``. The module has the members of ``ChannelModule``. Nothing else names a channel.
"""

from importlib import import_module
from typing import Protocol, cast

from jobfac.channels.message import DeliveryError, Message
from jobfac.definitions import Recipient
from jobfac.secret_references import SecretError
from jobfac.settings import Settings

__all__ = ["DeliveryError", "Message", "deliver", "shown", "takes_output"]


class ChannelModule(Protocol):
    """What a channel's module has."""

    TAKES_OUTPUT: bool
    """Whether a message shows the end of the run's output."""

    def send(self, message: Message, recipient: Recipient, settings: Settings) -> None:
        """Send a message. Raises ``DeliveryError``, whose text names no secret."""

    def shown(self, recipient: Recipient) -> str:
        """The recipient for logs and lists, without anything that may be secret."""


def deliver(message: Message, recipient: Recipient, settings: Settings) -> None:
    """Send a message by the recipient's channel.

    Raises:
        DeliveryError: it did not arrive, as far as is known; the text names no secret.
    """
    try:
        _module(recipient).send(message, recipient, settings)
    except SecretError as error:
        raise DeliveryError(str(error)) from None


def shown(recipient: Recipient) -> str:
    """The recipient for logs and lists, without what may be secret in a URL: its path, its query and its user."""
    return _module(recipient).shown(recipient)


def takes_output(recipient: Recipient) -> bool:
    """Whether a message to this recipient shows the end of the run's output."""
    return _module(recipient).TAKES_OUTPUT


def _module(recipient: Recipient) -> ChannelModule:
    return cast(ChannelModule, import_module(f"{__name__}.{recipient.channel}"))
