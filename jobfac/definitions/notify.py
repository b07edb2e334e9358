"""Recipients of notifications and their events: the ``notify`` entries of jobs, sequences and categories."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote

from pydantic import Field, PlainValidator, model_validator

from jobfac.definitions.problems import Finding, finding
from jobfac.definitions.values import Flag, Many, Model, Plain, form, read_text, read_word, shown

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
    "overdue",
    "on_time_again",
    "paused",
    "held",
    "approval_wanted",
]
"""The start and the final states of a run, and: ``finished`` (any final state), ``recovered`` (the first success after
failures), ``retry`` (an attempt failed and is retried), ``running_long`` (a run exceeds its ``warn_after``), ``missed``
(a due time passed without a run), ``overdue`` (the expected success is missing), ``on_time_again`` (it has come),
``paused`` (the schedules were paused after failures), ``held`` (the job is held), ``approval_wanted`` (a step of a
sequence waits for a person)."""

ABOUT_JOBS = frozenset({"missed", "overdue", "on_time_again", "paused", "held"})
"""Events of a job and not of a run: nobody whom a start names hears of them."""

_REFERENCE = re.compile(r"env:[^=\0]+|file:/.+|keyring:[^/]+/.+")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_SINGLE_EMAIL = re.compile(r"(?!.*=\?)[^@\s,;:()<>\[\]\"\\]+@([^@\s,;:()<>\[\]\"\\]+|\[[0-9A-Za-z.:]+\])")
"""An address that a mail server takes for one recipient, without a list, a group, a name or an encoded word. Not in the
model, so that what an earlier version has stored can still be read."""

LONGEST_EMAIL = 320
"""Characters of an email address. To compose a mail takes a time that grows with the square of their number."""


def _read_reference(value: Any) -> str:
    if isinstance(value, str) and _REFERENCE.fullmatch(value):
        return value
    raise ValueError("must be env:NAME, file:/path or keyring:service/user")  # what is given may be the secret itself


Reference = Annotated[
    str,
    PlainValidator(
        _read_reference, json_schema_input_type=Annotated[str, Field(pattern="^(env:[^=]+|file:/.+|keyring:[^/]+/.+)$")]
    ),
    Field(title="secret"),
]
"""The place of a secret: ``env:NAME``, ``file:/path`` or ``keyring:service/user``."""


class Secret(Model):
    """A secret value, which is read when it is needed and never stored."""

    secret: Reference = Field(
        description="Its place: env:NAME, file:/path or keyring:service/user.", examples=["env:EXPORT_TOKEN"]
    )


def _read_text_or_secret(value: Any) -> str | Secret:
    return Secret.model_validate(value) if isinstance(value, dict | Secret) else read_text(value)


def _read_url(value: Any) -> str | Secret:
    url = _read_text_or_secret(value)
    if isinstance(url, str) and not re.fullmatch(r"https?://[^\s/]\S*", url):
        raise ValueError("must be a URL that begins with https:// or http://")  # what is given may be the secret
    return url


def _read_apprise(value: Any) -> str | Secret:
    url = _read_text_or_secret(value)
    if isinstance(url, str) and not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://\S+", url):
        raise ValueError("must be an apprise URL such as msteams://...")
    return url


def _read_email(value: Any) -> str:
    address = read_word(value)
    if len(address) > LONGEST_EMAIL:
        raise ValueError(f"must be an address of at most {LONGEST_EMAIL} characters, not of {len(address):,}")
    if not _EMAIL.fullmatch(address):
        raise ValueError(f"must be an address such as ops@example.org, not {shown(address)}")
    return address


def _write_text_or_secret(value: str | Secret) -> str | dict[str, str]:
    return {"secret": value.secret} if isinstance(value, Secret) else value


def _or_secret(read: Callable[[Any], str | Secret], title: str, given: Any = str) -> tuple[Any, ...]:
    return form(read, _write_text_or_secret, f"{title} or secret", given | Secret, str | dict[str, str])


TextOrSecret = Annotated[str | Secret, *_or_secret(_read_text_or_secret, "text", Plain)]
Url = Annotated[str | Secret, *_or_secret(_read_url, "URL")]
AppriseUrl = Annotated[str | Secret, *_or_secret(_read_apprise, "URL")]
Email = Annotated[str, PlainValidator(_read_email, json_schema_input_type=str), Field(title="email address")]


class Channel:
    """Marks a key of ``Recipient`` as a channel. The module of the same name in ``jobfac.channels`` implements it."""


HOP_BY_HOP = frozenset(
    {
        "connection", "content-length", "expect", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Headers of the connection or of the framing of a request, in lower case. A webhook may not set them."""

OTHER_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "PUT", "TRACE"})
"""Methods of a request that a notification may not have, unless its URL is a secret."""

CHOOSES = "chooses the method or the framing of the request, as with method= or +Host=; only a URL that is a secret may"

HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")
"""The name of a header. Source: RFC 9110, section 5.6.2."""


def _read_header(value: Any) -> str:
    name = read_text(value)
    if not HEADER.fullmatch(name):
        raise ValueError(f"must be the name of a header, such as X-Token, not {shown(name)}")
    if name.lower() in HOP_BY_HOP:
        raise ValueError(f"must not have the header {name}, which belongs to the connection")
    return name


HeaderName = Annotated[str, PlainValidator(_read_header, json_schema_input_type=str)]


class Recipient(Model):
    """The recipient of a notification: exactly one of the keys that are marked as a channel."""

    email: Annotated[Many[Email], Channel()] = Field(
        default_factory=tuple, description="One or more addresses.", examples=["ops@example.org"]
    )
    webhook: Annotated[Url | None, Channel()] = Field(
        default=None, description="A URL to which the run is posted as JSON.", examples=["https://example.org/hook"]
    )
    apprise: Annotated[AppriseUrl | None, Channel()] = Field(
        default=None,
        description="A URL of the apprise library, which sends to chats and many other services.",
        examples=["msteams://..."],
    )
    headers: dict[HeaderName, TextOrSecret] = Field(default={}, description="Webhook: additional headers.")
    body: Literal["status", "none"] = Field(default="status", description="Webhook: post the run as JSON, or nothing.")
    secret: Reference | None = Field(
        default=None,
        description="Webhook: a reference to the key that signs the body (HMAC).",
        examples=["env:HOOK_SECRET"],
    )

    @classmethod
    def channels(cls) -> tuple[str, ...]:
        """Return the names of all channels."""
        fields = cls.model_fields.items()
        return tuple(name for name, field in fields if any(isinstance(mark, Channel) for mark in field.metadata))

    @property
    def channel(self) -> str:
        """The name of the channel that this recipient uses."""
        return next(name for name in self.channels() if getattr(self, name))

    @model_validator(mode="after")
    def _one_channel(self) -> Self:
        *others, last = self.channels()
        if sum(bool(getattr(self, name)) for name in (*others, last)) != 1:
            raise ValueError(f"must have exactly one of {', '.join(others)} and {last}")
        if self.webhook is None and (self.headers or self.secret or self.body != "status"):
            raise ValueError("has headers, body or secret, which only a webhook takes")
        return self

    def each(self) -> list[Self]:
        """Return a recipient for each address, so that a failure at one does not repeat the message to the others."""
        addresses = getattr(self, self.channel)
        if not isinstance(addresses, tuple):
            return [self]
        return [self.model_copy(update={self.channel: (address,)}) for address in addresses]

    def number(self) -> int:
        """Return the number of addresses, also of those that an earlier version has stored as one."""
        return len(self.each()) + sum(len(re.findall("[,;]", address)) for address in self.email)

    def not_single(self) -> str | None:
        """Return why one of the email addresses is not that of one recipient, as a clause; None: all are."""
        wrong = next((address for address in self.email if not _SINGLE_EMAIL.fullmatch(address)), None)
        return wrong and f"has {shown(wrong)}, which is not one plain address such as ops@example.org"

    def references(self) -> list[str]:
        """Return the references of all secrets in this recipient."""
        values = (*(getattr(self, name) for name in self.channels()), *self.headers.values())
        references = [value.secret for value in values if isinstance(value, Secret)]
        return references if self.secret is None else [*references, self.secret]


class Notify(Model):
    """Which events are sent to whom."""

    on: Many[Event] = Field(
        description="The events: states of a run; finished is any final state, recovered the first success after "
        "failures, retry a failed attempt that is retried, running_long a run that exceeds its warn_after, missed a "
        "due time that passed without a run, overdue a missing success that was expected, on_time_again the success "
        "that ends this, paused a pause of the schedules after failures, held a hold of the job, approval_wanted a "
        "step that waits for a person."
    )
    to: Recipient = Field(description="The recipient.")
    once: Flag = Field(default=False, description="For running_long: only the first notification of a run.")
    of: Literal["sequence", "jobs", "both"] = Field(
        default="sequence", description="For a sequence: its own events, those of its jobs, or both."
    )


def unsent(notify: Iterable[Notify]) -> Iterator[Finding]:
    """Return the entries whose notifications would never be sent, or whose address is not one recipient.

    Stored definitions that have such an entry can be read.
    """
    for position, entry in enumerate(notify):
        if wrong := entry.to.not_single():
            yield finding(("notify", position, "to", "email"), wrong)
        if isinstance(entry.to.apprise, str) and chooses_request(entry.to.apprise):
            path = ("notify", position, "to", "apprise")
            yield finding(path, f"{CHOOSES}: write {{secret: ...}}")


def chooses_request(url: str) -> bool:
    """Whether an apprise URL asks for another method than POST, or for a header that routes or frames the request."""
    scheme, _, rest = url.partition("://")
    if scheme.lower().removesuffix("s") not in ("json", "xml", "form"):
        return False
    for pair in re.split("[&;]", rest.partition("?")[2]):
        name, _, value = pair.partition("=")
        name = unquote(name[:1] + name[1:].replace("+", " "))  # as the library reads it
        if name.strip().lower() == "method" and unquote(value).strip().upper() in OTHER_METHODS:
            return True
        if name.startswith("+") and (not HEADER.fullmatch(name[1:]) or name[1:].lower() in {"host", *HOP_BY_HOP}):
            return True
    return False
