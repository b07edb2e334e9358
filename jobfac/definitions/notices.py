"""Recipients of notifications and their events: the ``notify`` entries of jobs, sequences and categories."""

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


HOP_BY_HOP = frozenset(
    {
        "connection", "content-length", "expect", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Headers that frame a request or belong to its connection, in lower case: a webhook may not set them."""

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")


def _read_header(value: Any) -> str:
    name = read_text(value)
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"must be the name of a header, such as X-Token, not {shown(name)}")
    if name.lower() in HOP_BY_HOP:
        raise ValueError(f"must not have the header {name}, which belongs to the connection")
    return name


HeaderName = Annotated[str, PlainValidator(_read_header, json_schema_input_type=str)]


class Recipient(Model):
    """Exactly one of ``email`` (addresses), ``webhook`` (a URL) and ``apprise`` (a URL of that library).

    For a webhook: ``headers`` of its own; ``body``: "status" posts the run as JSON, "none" posts nothing; ``secret``:
    the key with which the body is signed (HMAC), as a reference.
    """

    email: Many[Email] = ()
    webhook: Url | None = None
    apprise: AppriseUrl | None = None
    headers: dict[HeaderName, TextOrSecret] = Field(default={})
    body: Literal["status", "none"] = "status"
    secret: Reference | None = None

    @model_validator(mode="after")
    def _one_channel(self) -> Self:
        if sum(map(bool, (self.email, self.webhook, self.apprise))) != 1:
            raise ValueError("must have exactly one of email, webhook and apprise")
        if self.webhook is None and (self.headers or self.secret or self.body != "status"):
            raise ValueError("has headers, body or secret, which only a webhook takes")
        return self

    def number(self) -> int:
        """How many people or services these are."""
        return len(self.email) or 1

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
