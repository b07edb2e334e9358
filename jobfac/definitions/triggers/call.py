"""Starts by a call from outside: what a start URL takes from the request, and who must have signed it."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from jobfac.definitions.notify import Secret
from jobfac.definitions.parameters import Parameter, UnresolvedError, has_placeholder
from jobfac.definitions.parameters.model import Given, ParameterName
from jobfac.definitions.problems import Finding, Path, finding
from jobfac.definitions.values import Many, Model, PositiveDuration, Text, Word, suggestion, whole

PER_MINUTE = 60
"""How many starts in a minute a start URL allows by default."""

CLOCKS_DIFFER = 300.0
"""Seconds by which the time of a signature may differ by default."""

REPEATS_FOR = 3600.0
"""Seconds for which an equal body is a repetition by default, where the signature has no time."""

_PLACE = re.compile(r"\$\{\s*(body|header)(?:\.((?:[^{}]*[^{}\s])?))?\s*\}")


class Signature(Model):
    """How the caller signs the body. Exactly one of ``github`` and ``stripe``: the place of the key."""

    github: Secret | None = Field(
        default=None,
        description="The key of X-Hub-Signature-256, as GitHub and many others send it.",
        examples=[{"secret": "env:GITHUB_HOOK_KEY"}],
    )
    stripe: Secret | None = Field(default=None, description="The key of Stripe-Signature, as Stripe sends it.")
    tolerance: PositiveDuration | None = Field(
        default=None,
        description="With stripe: how old, or how far ahead, the time of a signature may be (5m). With github: for so "
        "long the same body is the same start, even under another delivery id, because the id is not signed (1h).",
        examples=["10m"],
    )

    @property
    def form(self) -> Literal["github", "stripe"]:
        """Whose form the signature has."""
        return "github" if self.github is not None else "stripe"

    @property
    def key(self) -> Secret:
        """The place of the key."""
        found = self.github or self.stripe
        assert found is not None
        return found

    @property
    def seconds(self) -> float:
        """``tolerance``, or its default."""
        return self.tolerance or (REPEATS_FOR if self.github is not None else CLOCKS_DIFFER)

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.github is None) == (self.stripe is None):
            raise ValueError("must have exactly one of github and stripe")
        return self


class Call(Model):
    """What a start URL of the job takes from a request."""

    signature: Signature | None = Field(
        default=None,
        description="How the caller signs the body. Without it the URL alone is the permission.",
        examples=[{"github": {"secret": "env:GITHUB_HOOK_KEY"}}],
    )
    events: Many[Word] | None = Field(
        default=None,
        description="With signature: start for these events only (X-GitHub-Event, or the type of a Stripe event).",
        examples=[["push"]],
    )
    parameters: dict[ParameterName, Given] = Field(
        default={},
        description="Values for parameters of the job: ${body.KEY.KEY} from the JSON body, ${header.NAME}, or a "
        "constant. What the request does not have is not given.",
        examples=[{"branch": "${body.ref}", "author": "${body.commits.0.author.name}"}],
    )
    payload: Text | None = Field(default=None, description="The payload; ${body} is all of it.", examples=["${body}"])
    most_per_minute: Annotated[int, whole(1, 100_000)] = Field(
        default=PER_MINUTE, description="How many starts each URL allows in a minute."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.events and self.signature is None:
            raise ValueError("has events, but only a signed request names its event; add signature")
        return self


class Request(NamedTuple):
    """A request as far as its mapping needs it. ``headers``: with names in lower case."""

    text: str
    headers: Mapping[str, str]


class NotJsonError(Exception):
    """The body is no JSON, but the mapping needs a part of it. The message says what is wrong."""


class _Missing(Exception):
    """The request does not have it."""


def taken(call: Call, request: Request) -> tuple[dict[str, Any], str | None]:
    """Return the parameters and the payload of a start by this request.

    Raises:
        NotJsonError: a part of the body is needed, and the body is no JSON, or has a text that cannot be a payload.
    """
    parameters: dict[str, Any] = {}
    for name, value in call.parameters.items():
        try:
            parameters[name] = _filled(value, request)
        except _Missing:
            continue
    try:
        return parameters, None if call.payload is None else _storable(_text(call.payload, request))
    except _Missing:
        return parameters, None


def _storable(text: str) -> str:
    """Return a text that every database and every program can take, as any other payload.

    Raises:
        NotJsonError: it is none.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotJsonError("a text has half of a character (a lone surrogate)") from None
    if "\0" in text:
        raise NotJsonError("a text has a NUL character")
    return text


def document(text: str) -> Any:
    """Return a JSON body.

    Raises:
        NotJsonError: it is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotJsonError(str(error)) from None


def _filled(value: Any, request: Request) -> Any:
    if isinstance(value, tuple):
        return [_filled(one, request) for one in value]
    if not isinstance(value, str):
        return value
    if (whole_place := _PLACE.fullmatch(value)) is not None:
        return _at(whole_place, request)
    return _text(value, request)


def _text(text: str, request: Request) -> str:
    def one(found: re.Match[str]) -> str:
        value = _at(found, request)
        try:
            return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        except RecursionError as error:
            raise NotJsonError(str(error)) from None

    return _PLACE.sub(one, text)


def _at(place: re.Match[str], request: Request) -> Any:
    if place[1] == "header":
        if (header := request.headers.get((place[2] or "").lower())) is None:
            raise _Missing
        return header
    if place[2] is None:
        return request.text
    value = document(request.text) if request.text else None
    for key in place[2].split("."):
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            raise _Missing
    if value is None:
        raise _Missing
    return value


def check_call(call: Call | None, declared: Mapping[str, Parameter], takes_payload: bool) -> Iterator[Finding]:
    """Yield what is wrong with the mapping of a job's start URL."""
    if call is None:
        return
    if call.payload is not None:
        if not takes_payload:
            yield Finding(("call", "payload"), "call.payload is only for a program; give a sequence parameters")
        yield from _check_text(("call", "payload"), call.payload)
    for name, value in call.parameters.items():
        path: Path = ("call", "parameters", name)
        if name not in declared:
            known = suggestion(name, declared) or "; declare it under parameters"
            yield Finding(path, f"call.parameters names the unknown parameter '{name}'{known}")
            continue
        texts = [one for one in (value if isinstance(value, tuple) else (value,)) if isinstance(one, str)]
        for text in texts:
            yield from _check_text(path, text)
        try:
            if not any("${" in text for text in texts):
                declared[name].read(value)
        except (ValueError, UnresolvedError) as error:
            yield finding(path, str(error))
    for name, parameter in declared.items():
        if parameter.required and name not in call.parameters:
            yield Finding(("call", "parameters"), f"call.parameters must give '{name}', which is required")


def _check_text(path: Path, text: str) -> Iterator[Finding]:
    if has_placeholder(text):
        yield finding(path, "may refer to ${body.KEY} and ${header.NAME} only; use a parameter's default")
    for place in _PLACE.finditer(text):
        if place[1] == "header" and not place[2]:
            yield finding(path, f"has {place[0]}, which names no header; write ${{header.NAME}}")
