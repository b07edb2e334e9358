"""Whom to tell about what: the ``notify`` entries of jobs, sequences and categories."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainSerializer, PlainValidator, model_validator

from jobfac.definitions.values import Flag, Many, Model, read_text, read_word, shown

Event = Literal[
    "started",
    "succeeded",
    "mixed",
    "failed",
    "timed_out",
    "stopped",
    "start_failed",
    "lost",
    "denied",
    "finished",
    "recovered",
    "running_long",
    "retry",
    "missed",
]
"""The final states of a run; ``finished`` is any of them, ``recovered`` the first success after failures, ``retry`` an
attempt that failed and is tried again, ``running_long`` a run past its ``warn_after``, ``missed`` a time of a schedule
that passed without a run."""

_REFERENCE = re.compile(r"env:[^=\0]+|file:/.+|keyring:[^/]+/.+")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


def _read_reference(value: Any) -> str:
    if isinstance(value, str) and _REFERENCE.fullmatch(value):
        return value
    raise ValueError(f"must be env:NAME, file:/path or keyring:service/user, not {shown(value)}")


Reference = Annotated[str, PlainValidator(_read_reference, json_schema_input_type=str)]
"""Where a secret is kept: ``env:NAME``, ``file:/path`` or ``keyring:service/user``."""


class Secret(Model):
    """A value that is looked up where it is needed and never stored."""

    secret: Reference


def _read_text_or_secret(value: Any) -> str | Secret:
    return Secret.model_validate(value) if isinstance(value, dict | Secret) else read_text(value)


def _read_url(value: Any) -> str | Secret:
    url = _read_text_or_secret(value)
    if isinstance(url, str) and not re.fullmatch(r"https?://[^\s/]\S*", url):
        raise ValueError(f"must be a URL that begins with https:// or http://, not {shown(url)}")
    return url


def _read_apprise(value: Any) -> str | Secret:
    url = _read_text_or_secret(value)
    if isinstance(url, str) and not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://\S+", url):
        raise ValueError(f"must be an apprise URL such as msteams://..., not {shown(url)}")
    return url


def _read_email(value: Any) -> str:
    address = read_word(value)
    if not _EMAIL.fullmatch(address):
        raise ValueError(f"must be an address such as ops@example.org, not {shown(address)}")
    return address


def _write_text_or_secret(value: str | Secret) -> str | dict[str, str]:
    return {"secret": value.secret} if isinstance(value, Secret) else value


_as_written = PlainSerializer(_write_text_or_secret, return_type=str | dict[str, str])

TextOrSecret = Annotated[
    str | Secret, PlainValidator(_read_text_or_secret, json_schema_input_type=str | Secret), _as_written
]
Url = Annotated[str | Secret, PlainValidator(_read_url, json_schema_input_type=str | Secret), _as_written]
AppriseUrl = Annotated[str | Secret, PlainValidator(_read_apprise, json_schema_input_type=str | Secret), _as_written]
Email = Annotated[str, PlainValidator(_read_email, json_schema_input_type=str)]


CHANNELS = ("email", "webhook", "apprise")
"""The fields of ``Recipient`` that name a channel."""


class Recipient(Model):
    """Exactly one of ``email`` (addresses), ``webhook`` (a URL) and ``apprise`` (a URL of that library).

    For a webhook: ``headers`` of its own; ``body``: "status" posts the run as JSON, "none" posts nothing; ``secret``:
    the key with which the body is signed (HMAC), as a reference.
    """

    email: Many[Email] = ()
    webhook: Url | None = None
    apprise: AppriseUrl | None = None
    headers: dict[str, TextOrSecret] = Field(default={})
    body: Literal["status", "none"] = "status"
    secret: Reference | None = None

    @model_validator(mode="after")
    def _one_channel(self) -> Self:
        if sum(map(bool, (self.email, self.webhook, self.apprise))) != 1:
            raise ValueError("must have exactly one of email, webhook and apprise")
        if self.webhook is None and (self.headers or self.secret or self.body != "status"):
            raise ValueError("has headers, body or secret, which only a webhook takes")
        return self

    @property
    def channel(self) -> str:
        """The name of the channel: email, webhook or apprise."""
        return next(name for name in CHANNELS if getattr(self, name))

    def describe(self) -> str:
        """The recipient, without what may be secret in a URL: its path, its query and its user."""
        if self.email:
            return ", ".join(self.email)
        url = self.webhook or self.apprise
        if isinstance(url, Secret):
            return url.secret
        scheme, _, rest = str(url).partition("://")
        if self.apprise:
            return f"{scheme}://..."
        return f"{scheme}://{rest.partition('/')[0].partition('?')[0].rpartition('@')[2]}"

    def references(self) -> list[str]:
        """The secrets that it refers to."""
        values = (self.webhook, self.apprise, *self.headers.values())
        found = [value.secret for value in values if isinstance(value, Secret)]
        return found if self.secret is None else [*found, self.secret]


class Notify(Model):
    """Tell ``to`` about the events ``on``. ``once``: of a run that is ``running_long`` only the first time.
    ``of`` says for a sequence whether its own events, those of its jobs, or both are meant."""

    on: Many[Event]
    to: Recipient
    once: Flag = False
    of: Literal["sequence", "jobs", "both"] = "sequence"
