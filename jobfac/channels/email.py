"""Email over SMTP: plain text and HTML, with the end of the run's output."""

import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from email.utils import formatdate

from jobfac.channels import bounds, egress, render
from jobfac.channels.message import DeliveryError, Message
from jobfac.control_characters import as_name
from jobfac.definitions import Recipient
from jobfac.machine import threads
from jobfac.secret_references import resolve_setting
from jobfac.settings import Settings

TAKES_OUTPUT = True

TIMEOUT = 20.0
"""Timeout in seconds for each answer of the server, until it is asked to take the mail.

Then it has the time of the whole delivery: servers look for spam before they answer, and would get the mail again.
"""


NAME = 5.0
"""Seconds to wait for this machine's name, for which a name server may be asked."""


def send(message: Message, recipient: Recipient, settings: Settings) -> None:
    """Send a message through the mail server.

    Raises:
        DeliveryError: the server cannot be used, or refuses the message or all recipients.
    """
    if not settings.smtp_host:
        raise DeliveryError("no mail server is known; set JOBFAC_SMTP_HOST where the scheduler runs")
    name = _own_name()  # here, because a thread is refused below
    mail = compose(message, recipient, settings, name)
    bounds.install_for_mail()
    place = f"{settings.smtp_host}:{settings.smtp_port}"
    try:
        password = _password(settings) if settings.smtp_user else ""
        with egress.guarded(settings, trusted_host=True), _leaving(_connected(settings, place, name)) as server:
            if settings.smtp_user:
                server.login(settings.smtp_user, password)
            if server.sock is not None:
                server.sock.settimeout(egress.SECONDS)
            server.send_message(mail)
    except smtplib.SMTPAuthenticationError as error:
        raise DeliveryError(f"{place} does not let smtp_user '{settings.smtp_user}' in ({error.smtp_code})") from None
    except smtplib.SMTPRecipientsRefused as error:
        code, why = next(iter(error.recipients.values()))
        raise DeliveryError(f"{place} refused {', '.join(recipient.email)}: {code} {_plain(why)}") from None
    except smtplib.SMTPResponseException as error:
        raise DeliveryError(f"{place} refused the message: {error.smtp_code} {_plain(error.smtp_error)}") from None
    except (smtplib.SMTPException, OSError) as error:
        raise DeliveryError(f"the mail server {place} cannot be used: {error}") from None


def shown(recipient: Recipient) -> str:
    """Return the email addresses, separated by commas."""
    return ", ".join(recipient.email)


def compose(message: Message, recipient: Recipient, settings: Settings, name: str) -> EmailMessage:
    """Build the mail. Its Message-ID is the same for each attempt, so mail programs recognise a second copy.

    ``name``: that of this machine.
    """
    sender = settings.smtp_from or f"jobfac@{name}"
    mail = EmailMessage()
    mail["From"] = sender
    try:
        mail["To"] = ", ".join(recipient.email)
    except (ValueError, AttributeError, IndexError):  # a group such as x:;@y, or an encoded word with a line end
        raise DeliveryError(f"no mail can be sent to {shown(recipient)}: it is not an address") from None
    mail["Subject"] = _header(render.subject(message, settings.templates))
    mail["Date"] = formatdate()
    mail["Message-ID"] = f"<{message.id}@{sender.rpartition('@')[2].rstrip('>')}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["JobFac-Id"] = message.id
    mail.set_content(render.text(message, settings.templates))
    mail.add_alternative(render.page(message, settings.templates), subtype="html")
    return mail


@contextmanager
def _leaving(server: smtplib.SMTP) -> Iterator[smtplib.SMTP]:
    """Take leave of the server at the end, without waiting for its answer.

    It has taken the message or refused it by then. A server that shuts down, or hangs, must not make a failure of it.
    """
    try:
        yield server
    finally:
        with suppress(smtplib.SMTPException, OSError):
            server.putcmd("quit")
        server.close()


def _own_name() -> str:
    """Return the name of this machine. A name server that does not answer must not keep a mail back."""
    try:
        return threads.within(NAME, socket.getfqdn, lambda late: None)
    except (TimeoutError, RuntimeError):
        return socket.gethostname()


def _connected(settings: Settings, place: str, name: str) -> smtplib.SMTP:
    own = name if "." in name else "[127.0.0.1]"  # as smtplib says it, who would ask for the name again
    if settings.smtp_tls == "tls":
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(settings.smtp_host, settings.smtp_port, own, timeout=TIMEOUT, context=context)
    server = smtplib.SMTP(settings.smtp_host, settings.smtp_port, own, timeout=TIMEOUT)
    if settings.smtp_tls == "starttls":
        try:
            server.starttls(context=ssl.create_default_context())
        except smtplib.SMTPNotSupportedError:
            server.close()
            raise DeliveryError(
                f"{place} offers no STARTTLS; set smtp_tls to none if that is as it should be"
            ) from None
        except (smtplib.SMTPException, OSError):
            server.close()
            raise
    return server


def _password(settings: Settings) -> str:
    """Return the password for the mail server.

    Raises:
        DeliveryError: Python's smtplib cannot send it, or the user.
    """
    password = resolve_setting(settings.smtp_password)
    if not (password + settings.smtp_user).isascii():
        raise DeliveryError("smtp_user and smtp_password may have ASCII characters only: letters, digits and !#$%&...")
    return password


def _header(text: str) -> str:
    """Return a text of a run for a header.

    The email package decodes encoded words such as ``=?utf-8?q?=0d=0a?=``: with their line ends a program could add
    headers and a body of its own, or Python would refuse to write the mail. With a blank they are plain text.
    """
    return " ".join(as_name(text).split()).replace("=?", "= ?")


def _plain(answer: bytes | str) -> str:
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
